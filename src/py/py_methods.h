/* What methods need that stand in files of their own: arguments by position and name, and
 * their way into a type.  The C API has no public parser for METH_FASTCALL. */
#ifndef PY_METHODS_H
#define PY_METHODS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include "base/qc_debug.h"

/* Fills out[0..max) from a vectorcall's arguments; absent ones stay as they are.  False
 * with TypeError. */
bool methods_parse_args(const char *function, const char *const *names, Py_ssize_t min,
                        Py_ssize_t max, PyObject *const *args, Py_ssize_t n, PyObject *kwnames,
                        PyObject **out);

void methods_wrong_count(const char *name, Py_ssize_t n, Py_ssize_t least, Py_ssize_t most);

/* For positional arguments alone: whether there are `least` to `most`; false with
 * TypeError.  Inlined: get() of a dict is a read too. */
QC_INLINE bool
methods_count_args(const char *name, Py_ssize_t n, Py_ssize_t least, Py_ssize_t most)
{
    if (qc_likely(n >= least && n <= most))
        return true;
    methods_wrong_count(name, n, least, most);
    return false;
}

/* A table's entry for the function `name` with the docstring `name_doc`. */
#define METHODS_ENTRY(name)                                                                        \
    {                                                                                              \
#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL | METH_KEYWORDS, name##_doc        \
    }

/* Adds a table's methods to a type that is being made: 0, or -1 with an exception. */
int methods_add(PyTypeObject *type, PyMethodDef *methods);

#endif
