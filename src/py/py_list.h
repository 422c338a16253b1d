/* ConcurrentList: what its files share.
 *
 *   py_list.c       the type and its methods
 *   py_list_iter.c  its iterator
 */
#ifndef PY_LIST_H
#define PY_LIST_H

#include "py/state.h"

#include "containers/ptrarray.h"
#include "py/py_refs.h"
#include "py/py_threads.h"

typedef struct {
    PyObject_HEAD
    ptrarray_root array;
    qc_sharing sharing;
    qc_state *state; /* the type keeps the module, and with it this, alive */
    PyObject *weakrefs;
} list_object;

#define list_of(op) ((list_object *)(op))

/* The start of every operation of the list, its iterators' steps too. */
QC_INLINE qsbr_record *
list_begin(list_object *l)
{
    return threads_begin((PyObject *)l, l->state, &l->sharing, &l->array.lock);
}

/* l[index], lock-free: a new reference; NULL without an exception if out of range. */
PyObject *list_get(list_object *l, Py_ssize_t index);

/* len(l), lock-free; -1 with MemoryError. */
Py_ssize_t list_length(PyObject *self);

/* iter(l). */
PyObject *list_iter(PyObject *self);
extern PyType_Spec list_iter_spec;

#endif
