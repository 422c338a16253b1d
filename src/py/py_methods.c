#include "py/py_methods.h"

bool
methods_parse_args(const char *function, const char *const *names, Py_ssize_t min, Py_ssize_t max,
                   PyObject *const *args, Py_ssize_t n, PyObject *kwnames, PyObject **out)
{
    PyObject *given[4] = {NULL};
    Py_ssize_t n_keywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (n + n_keywords > max) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd arguments (%zd given)", function, max,
                     n + n_keywords);
        return false;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        given[i] = args[i];
    for (Py_ssize_t k = 0; k < n_keywords; k++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, k);
        Py_ssize_t i = 0;
        while (i < max && PyUnicode_CompareWithASCIIString(name, names[i]) != 0)
            i++;
        if (i == max || given[i] != NULL) {
            PyErr_Format(PyExc_TypeError,
                         i == max ? "%s() got an unexpected keyword argument '%U'"
                                  : "%s() got multiple values for argument '%U'",
                         function, name);
            return false;
        }
        given[i] = args[n + k];
    }
    for (Py_ssize_t i = 0; i < max; i++) {
        if (i < min && given[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s' (pos %zd)", function,
                         names[i], i + 1);
            return false;
        }
        if (given[i] != NULL)
            out[i] = given[i];
    }
    return true;
}

void
methods_wrong_count(const char *name, Py_ssize_t n, Py_ssize_t least, Py_ssize_t most)
{
    Py_ssize_t limit = n < least ? least : most;
    PyErr_Format(PyExc_TypeError, "%s expected %s%zd argument%s, got %zd", name,
                 least == most ? ""
                 : n < least   ? "at least "
                               : "at most ",
                 limit, limit == 1 ? "" : "s", n);
}

int
methods_add(PyTypeObject *type, PyMethodDef *methods)
{
    for (PyMethodDef *m = methods; m->ml_name != NULL; m++) {
        PyObject *method = PyDescr_NewMethod(type, m);
        if (method == NULL || PyObject_SetAttrString((PyObject *)type, m->ml_name, method) < 0) {
            Py_XDECREF(method);
            return -1;
        }
        Py_DECREF(method);
    }
    return 0;
}
