/* ConcurrentList: the type, and what reads one element: in a section, and nowhere else. */
#include "py/py_list.h"

#include "py/py_numbers.h"

#include <stddef.h>

/* ---- life ---- */

PyObject *
list_make(PyTypeObject *type, qc_state *state)
{
    /* Before the object exists: registering detaches. */
    if (qsbr_self == NULL && threads_register() == NULL)
        return NULL;
    list_object *l = (list_object *)type->tp_alloc(type, 0);
    if (l == NULL)
        return NULL;
    ptrarray_init(&l->array);
    l->state = state;
    if (sharing_init(&l->sharing) < 0)
        Py_CLEAR(l);
    return (PyObject *)l;
}

static PyObject *
list_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    qc_state *state = qc_state_of_type(type);
    return state == NULL ? NULL : list_make(type, state);
}

static int
list_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    list_object *l = list_of(self);
    PyObject *iterable = NULL;
    /* As list does: a subclass with its own __new__ may take keywords. */
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0 && Py_TYPE(self)->tp_new == list_new) {
        PyErr_SetString(PyExc_TypeError, "ConcurrentList() takes no keyword arguments");
        return -1;
    }
    if (!PyArg_UnpackTuple(args, "ConcurrentList", 0, 1, &iterable))
        return -1;
    /* list empties itself first, so from itself it gets nothing. */
    bool nothing = iterable == NULL || iterable == self;
    ptrarray *fresh = nothing ? &ptrarray_none : list_words_from(l, iterable, NULL);
    return fresh == NULL ? -1 : list_replace(l, fresh);
}

static int
list_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    ptrarray *a = ptrarray_exclusive(&list_of(self)->array);
    for (size_t i = 0, n = ptrarray_size(a); i < n; i++) {
        qc_word word = ptrarray_word(a, i);
        if (refs_word_is_object(word))
            Py_VISIT((PyObject *)word_to_pointer(word));
    }
    return 0;
}

/* tp_clear and deallocation: whoever could read has a reference, or is garbage as
 * well.  So nothing is delayed, and nothing is needed that could be gone by now:
 * neither the module's state, nor the thread's record, nor the lock. */
static int
list_tp_clear(PyObject *self)
{
    ptrarray_drop(ptrarray_take(&list_of(self)->array), 0, refs_release);
    return 0;
}

static void
list_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, list_dealloc)
    PyObject_ClearWeakRefs(self);
    list_tp_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

/* By the layout that a subclass inherits, so that no state has to be found. */
bool
list_check(PyObject *op)
{
    for (PyTypeObject *type = Py_TYPE(op); type != NULL; type = type->tp_base)
        if (type->tp_dealloc == list_dealloc)
            return true;
    return false;
}

/* ---- one element ---- */

/* l[index], lock-free: a new reference; NULL without an exception if out of range. */
QC_INLINE PyObject *
list_get(list_object *l, Py_ssize_t index)
{
    qsbr_record *rec = list_begin(l);
    if (rec == NULL)
        return NULL;
    qc_word word;
    return list_look(l, rec, index, &word) ? numbers_object(l->state, word) : NULL;
}

PyObject *
list_get_or_null(list_object *l, Py_ssize_t index)
{
    return list_get(l, index);
}

static PyObject *
list_item(PyObject *self, Py_ssize_t index)
{
    PyObject *item = index < 0 ? NULL : list_get(list_of(self), index);
    if (item == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_IndexError, "list index out of range");
    return item;
}

static int
list_ass_item(PyObject *self, Py_ssize_t index, PyObject *value)
{
    /* A negative index has had the length added already. */
    index = index < 0 ? PY_SSIZE_T_MAX : index;
    return value == NULL ? list_delete(list_of(self), index)
                         : list_set(list_of(self), index, value);
}

/* False with an exception. */
QC_INLINE bool
index_of(PyObject *key, Py_ssize_t *index)
{
    if (qc_likely(PyLong_CheckExact(key))) {
        *index = PyLong_AsSsize_t(key);
        if (*index != -1 || !PyErr_Occurred())
            return true;
        PyErr_Clear(); /* OverflowError: below it becomes an IndexError */
    }
    if (qc_unlikely(!PyIndex_Check(key))) {
        PyErr_Format(PyExc_TypeError, "list indices must be integers or slices, not %.200s",
                     Py_TYPE(key)->tp_name);
        return false;
    }
    *index = PyNumber_AsSsize_t(key, PyExc_IndexError);
    return *index != -1 || !PyErr_Occurred();
}

PyObject *
list_subscript_any(PyObject *self, PyObject *key)
{
    Py_ssize_t index;
    if (qc_unlikely(PySlice_Check(key)))
        return list_slice(self, key);
    if (!index_of(key, &index))
        return NULL;
    PyObject *item = list_get(list_of(self), index);
    if (qc_unlikely(item == NULL) && !PyErr_Occurred())
        PyErr_SetString(PyExc_IndexError, "list index out of range");
    return item;
}

int
list_ass_subscript_any(PyObject *self, PyObject *key, PyObject *value)
{
    Py_ssize_t index;
    if (qc_unlikely(PySlice_Check(key)))
        return list_assign_slice(list_of(self), key, value);
    if (!index_of(key, &index))
        return -1;
    return value == NULL ? list_delete(list_of(self), index)
                         : list_set(list_of(self), index, value);
}

Py_ssize_t
list_length(PyObject *self)
{
    list_object *l = list_of(self);
    qsbr_record *rec = list_begin(l);
    if (rec == NULL)
        return -1;
    qsbr_enter(rec);
    size_t size = ptrarray_len(&l->array, rec);
    qsbr_exit(rec);
    return (Py_ssize_t)size;
}

PyDoc_STRVAR(sizeof_doc, "__sizeof__($self, /)\n--\n\nSize of the list in memory, in bytes.");

static PyObject *
list_sizeof(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    list_object *l = list_of(self);
    if (list_begin(l) == NULL)
        return NULL;
    list_lock(l);
    ptrarray *a = ptrarray_locked(&l->array);
    qc_yield("sizeof");
    size_t bytes = a == &ptrarray_none ? 0 : ptrarray_bytes(a);
    list_unlock(l);
    return PyLong_FromSize_t(bytes + (size_t)Py_TYPE(self)->tp_basicsize);
}

/* ---- the type ---- */

PyDoc_STRVAR(class_getitem_doc, "ConcurrentList[T], for annotations.");

static PyMethodDef list_methods[] = {
    {"append", list_append, METH_O, list_append_doc},
    {"extend", list_extend, METH_O, list_extend_doc},
    {"insert", (PyCFunction)(void (*)(void))list_insert, METH_FASTCALL, list_insert_doc},
    {"pop", (PyCFunction)(void (*)(void))list_pop, METH_FASTCALL, list_pop_doc},
    {"remove", list_remove, METH_O, list_remove_doc},
    {"clear", list_clear, METH_NOARGS, list_clear_doc},
    {"copy", list_copy, METH_NOARGS, list_copy_doc},
    {"count", list_count, METH_O, list_count_doc},
    {"index", (PyCFunction)(void (*)(void))list_index, METH_FASTCALL, list_index_doc},
    {"reverse", list_reverse, METH_NOARGS, list_reverse_doc},
    {"sort", (PyCFunction)(void (*)(void))list_sort, METH_FASTCALL | METH_KEYWORDS, list_sort_doc},
    {"snapshot", list_snapshot_method, METH_NOARGS, list_snapshot_doc},
    {"__reversed__", list_reversed, METH_NOARGS, list_reversed_doc},
    {"__sizeof__", list_sizeof, METH_NOARGS, sizeof_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, class_getitem_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef list_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(list_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(list_doc,
             "ConcurrentList(iterable=(), /)\n--\n\n"
             "A list that many threads read without a lock.\n\n"
             "l[i], len(l) and a step of an iterator take no lock. What changes the list takes\n"
             "its lock for a moment and appears at once: elements that are shifted, sorted or\n"
             "replaced are never seen half done. What looks at several elements (a slice, in,\n"
             "==, repr, snapshot) sees them as they are at one moment, and calls their methods\n"
             "without a lock. An iterator is live: it sees what others append, and ends for\n"
             "good where it finds the end; threads that share an iterator get each index once.");

static PyType_Slot list_slots[] = {
    {Py_tp_doc, (void *)list_doc},
    {Py_tp_new, list_new},
    {Py_tp_init, list_init},
    {Py_tp_dealloc, list_dealloc},
    {Py_tp_traverse, list_traverse},
    {Py_tp_clear, list_tp_clear},
    {Py_tp_free, PyObject_GC_Del},
    {Py_tp_methods, list_methods},
    {Py_tp_members, list_members},
    {Py_tp_iter, list_iter},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_richcompare, list_richcompare},
    {Py_sq_length, list_length},
    {Py_sq_item, list_item},
    {Py_sq_ass_item, list_ass_item},
    {Py_sq_contains, list_contains},
    {Py_sq_concat, list_concat},
    {Py_sq_repeat, list_repeat},
    {Py_sq_inplace_concat, list_iadd},
    {Py_sq_inplace_repeat, list_imul},
    {Py_mp_length, list_length},
    {Py_mp_subscript, list_subscript},
    {Py_mp_ass_subscript, list_ass_subscript},
    {0, NULL},
};

static PyType_Spec list_spec = {
    .name = "qsbrcontainers.ConcurrentList",
    .basicsize = sizeof(list_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_SEQUENCE,
    .slots = list_slots,
};

int
qc_list_register(PyObject *module, qc_state *state)
{
    state->list_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &list_spec, NULL);
    state->list_iter_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &list_iter_spec, NULL);
    state->list_reversed_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &list_reversed_spec, NULL);
    if (state->list_type == NULL || state->list_iter_type == NULL ||
        state->list_reversed_type == NULL)
        return -1;
    if (list_atomic_register(state->list_type) < 0)
        return -1;
    return PyModule_AddType(module, state->list_type);
}
