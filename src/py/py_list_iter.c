/* The iterator of ConcurrentList: a list and an index.
 *
 * The index moves by a CAS after the element was read, so that threads that share
 * an iterator get each index once, and none that is past the end is used up.  An
 * iterator that has seen the end stays there (DONE).  It keeps its reference to
 * the list all the same: other threads may be in the middle of a step. */
#include "py/py_list.h"

#include "py/py_numbers.h"

#include <stddef.h>

#define DONE SIZE_MAX

typedef struct {
    PyObject_HEAD
    list_object *list; /* NULL after tp_clear */
    _Atomic size_t index;
} list_iter_object;

#define iter_of(op) ((list_iter_object *)(op))

PyObject *
list_iter(PyObject *self)
{
    list_object *l = list_of(self);
    list_iter_object *it = PyObject_GC_New(list_iter_object, l->state->list_iter_type);
    if (it == NULL)
        return NULL;
    it->list = (list_object *)Py_NewRef(self);
    qc_store_relaxed(&it->index, 0u);
    PyObject_GC_Track(it);
    return (PyObject *)it;
}

static PyObject *
iter_next(PyObject *self)
{
    list_iter_object *it = iter_of(self);
    list_object *l = it->list;
    /* All accesses of the index are relaxed: it is a number, nothing hangs on it. */
    if (l == NULL || qc_load_relaxed(&it->index) == DONE)
        return NULL;
    qsbr_record *rec = list_begin(l);
    if (rec == NULL)
        return NULL;
    qc_word word = WORD_EMPTY;
    ptrarray_result result;
    bool mine;
    do {
        /* One try a section, so that it is a short one (Q2). */
        qsbr_enter(rec);
        size_t i = qc_load_relaxed(&it->index);
        result = i == DONE ? PTRARRAY_OUT : ptrarray_get(&l->array, rec, i, &word);
        mine = qc_cas_relaxed(&it->index, &i, result == PTRARRAY_HIT ? i + 1 : DONE);
        if (mine && result == PTRARRAY_HIT)
            refs_retain(word);
        qsbr_exit(rec);
    } while (qc_unlikely(!mine));
    return result == PTRARRAY_HIT ? numbers_object(l->state, word) : NULL;
}

PyDoc_STRVAR(iter_length_hint_doc, "__length_hint__($self, /)\n--\n\n"
                                   "How many elements are left now; others may change that.");

static PyObject *
iter_length_hint(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    list_iter_object *it = iter_of(self);
    size_t i = qc_load_relaxed(&it->index);
    if (it->list == NULL || i == DONE)
        return PyLong_FromLong(0);
    Py_ssize_t n = list_length((PyObject *)it->list);
    if (n < 0)
        return NULL;
    return PyLong_FromSsize_t(i < (size_t)n ? n - (Py_ssize_t)i : 0);
}

static int
iter_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(iter_of(self)->list);
    return 0;
}

static int
iter_clear(PyObject *self)
{
    Py_CLEAR(iter_of(self)->list);
    return 0;
}

static void
iter_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(iter_of(self)->list);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef iter_methods[] = {
    {"__length_hint__", iter_length_hint, METH_NOARGS, iter_length_hint_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot iter_slots[] = {
    {Py_tp_iter, PyObject_SelfIter}, {Py_tp_iternext, iter_next},
    {Py_tp_methods, iter_methods},   {Py_tp_traverse, iter_traverse},
    {Py_tp_clear, iter_clear},       {Py_tp_dealloc, iter_dealloc},
    {Py_tp_free, PyObject_GC_Del},   {0, NULL},
};

PyType_Spec list_iter_spec = {
    .name = "qsbrcontainers.concurrentlist_iterator",
    .basicsize = sizeof(list_iter_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = iter_slots,
};
