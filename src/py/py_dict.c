/* ConcurrentDict: the type, and the methods that dict has. */
#include "py/py_dict.h"

#include "py/py_methods.h"

#include <stddef.h>

/* ---- life ---- */

void
dict_raise_no_room(bool limit)
{
    if (limit)
        PyErr_Format(PyExc_MemoryError, "a ConcurrentDict can have at most %llu keys",
                     (unsigned long long)KEYTABLE_MAX_KEYS);
    else
        PyErr_NoMemory();
}

/* Without a table: NULL with an exception. */
static dict_object *
new_bare(PyTypeObject *type, qc_state *state)
{
    /* Before the object exists: registering detaches, and gc.get_objects() shows others a
     * dict that has no table yet. */
    if (qsbr_self == NULL && threads_register() == NULL)
        return NULL;
    dict_object *d = (dict_object *)type->tp_alloc(type, 0);
    if (d == NULL)
        return NULL;
    d->state = state;
    if (sharing_init(&d->sharing) < 0)
        Py_CLEAR(d);
    return d;
}

PyObject *
dict_new_empty(PyTypeObject *type, qc_state *state, uint64_t entries)
{
    dict_object *d = new_bare(type, state);
    if (d != NULL && !keytable_init(&d->map, state->heap, entries)) {
        dict_raise_no_room(entries > KEYTABLE_MAX_KEYS);
        Py_CLEAR(d);
    }
    return (PyObject *)d;
}

PyObject *
dict_new_with(PyTypeObject *type, qc_state *state, keytable *t)
{
    dict_object *d = new_bare(type, state);
    if (d == NULL) {
        dict_moment_drop(t);
        return NULL;
    }
    keytable_init_with(&d->map, t);
    sharing_resized(state, &d->sharing, t->bytes);
    return (PyObject *)d;
}

static PyObject *
dict_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    qc_state *state = qc_state_of_type(type);
    return state == NULL ? NULL : dict_new_empty(type, state, 0);
}

static int
dict_traverse(PyObject *self, visitproc visit, void *arg)
{
    dict_object *d = dict_of(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(qc_load_relaxed(&d->creators));
    keytable *t = keytable_exclusive(&d->map);
    if (t == NULL)
        return 0;
    keytable_entry *entries = keytable_entries(t);
    /* Growing, since a fork left it half done (Q10): what is MOVED is in `next`, in
     * the same order. */
    keytable *next = qc_load_acquire(&t->next);
    keytable_entry *moved = next == NULL ? NULL : keytable_entries(next);
    uint32_t used = qc_load_relaxed(&keytable_counts(t)->used);
    for (uint32_t i = 0; i < used; i++) {
        qc_word word = qc_load_relaxed(&entries[i].value);
        if (word == WORD_DELETED)
            continue;
        if (moved != NULL && word == WORD_MOVED)
            word = qc_load_relaxed(&moved->value);
        if (moved != NULL)
            moved++;
        Py_VISIT((PyObject *)word_to_pointer(entries[i].key));
        if (refs_word_is_object(word))
            Py_VISIT((PyObject *)word_to_pointer(word));
    }
    return 0;
}

static void
dict_dealloc(PyObject *self)
{
    dict_object *d = dict_of(self);
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, dict_dealloc)
    if (d->weakrefs != NULL)
        PyObject_ClearWeakRefs(self);
    dict_drop_table(d);
    Py_XDECREF(qc_exchange_acq_rel(&d->creators, NULL));
    type->tp_free(self);
    Py_DECREF(type); /* perhaps the last reference to the module, and its state */
    Py_TRASHCAN_END
}

static int
dict_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return dict_fill(dict_of(self), "ConcurrentDict", args, kwargs);
}

/* ---- mapping protocol ---- */

/* By the layout that a subclass inherits, so that no state has to be found. */
bool
dict_check(PyObject *op)
{
    for (PyTypeObject *type = Py_TYPE(op); type != NULL; type = type->tp_base)
        if (type->tp_dealloc == dict_dealloc)
            return true;
    return false;
}

#if PY_VERSION_HEX >= 0x030E0000
void
dict_unhashable(PyObject *key)
{
    PyObject *error = PyErr_GetRaisedException();
    /* NULL if a type's C function returned -1 without an exception. */
    if (error != NULL && Py_IS_TYPE(error, (PyTypeObject *)PyExc_TypeError)) {
        PyErr_Format(PyExc_TypeError, "cannot use '%T' as a dict key (%S)", key, error);
        Py_DECREF(error);
    }
    else {
        PyErr_SetRaisedException(error);
    }
}
#endif

Py_ssize_t
dict_length(PyObject *self)
{
    dict_object *d = dict_of(self);
    if (threads_begin(self, d->state, &d->sharing, &d->map.lock) == NULL)
        return -1;
    return (Py_ssize_t)keytable_len(&d->map);
}

int
dict_ass_subscript_any(PyObject *self, PyObject *key, PyObject *value)
{
    Py_hash_t hash = dict_hash(key);
    if (hash == -1)
        return -1;
    if (value != NULL)
        return dict_set(dict_of(self), key, hash, value);
    dict_result r = dict_remove(dict_of(self), key, hash, NULL);
    if (r == DICT_ABSENT)
        dict_raise_key_error(key);
    return r == DICT_FOUND ? 0 : -1;
}

/* ---- methods ---- */

static PyObject *
dict_update(PyObject *self, PyObject *args, PyObject *kwargs)
{
    if (dict_fill(dict_of(self), "update", args, kwargs) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
dict_setdefault(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (!methods_count_args("setdefault", n, 1, 2))
        return NULL;
    Py_hash_t hash = dict_hash(args[0]);
    if (hash == -1)
        return NULL;
    PyObject *current, *value = n == 2 ? args[1] : Py_None;
    dict_result r = dict_insert(dict_of(self), args[0], hash, value, &current);
    if (r == DICT_FOUND)
        return current;
    return r == DICT_FAILED ? NULL : Py_NewRef(value);
}

/* In an empty dict as well: dict's pop() does not ask for the hash there. */
QC_NOINLINE static dict_result
unhashable_is_absent(dict_object *d)
{
    if (!PyErr_ExceptionMatches(PyExc_TypeError) || dict_length((PyObject *)d) != 0)
        return DICT_FAILED;
    PyErr_Clear();
    return DICT_ABSENT;
}

static PyObject *
dict_pop(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    PyObject *value;
    if (!methods_count_args("pop", n, 1, 2))
        return NULL;
    Py_hash_t hash = dict_hash(args[0]);
    dict_result r = hash != -1 ? dict_remove(dict_of(self), args[0], hash, &value)
                               : unhashable_is_absent(dict_of(self));
    if (r == DICT_FOUND)
        return value;
    if (r == DICT_ABSENT && n == 2)
        return Py_NewRef(args[1]);
    if (r == DICT_ABSENT)
        dict_raise_key_error(args[0]);
    return NULL;
}

static PyObject *
dict_popitem(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    PyObject *pair = dict_remove_last(dict_of(self));
    if (pair == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_KeyError, "popitem(): dictionary is empty");
    return pair;
}

static PyObject *
dict_clear(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    if (dict_clear_all(dict_of(self)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
dict_snapshot_method(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return dict_snapshot(dict_of(self));
}

static PyObject *
dict_sizeof(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    dict_object *d = dict_of(self);
    size_t size = (size_t)Py_TYPE(self)->tp_basicsize;
    qc_lock_found found = qc_lock_acquire(&d->map.lock);
    keytable *t = keytable_locked(&d->map);
    qc_yield("sizeof");
    size += t->bytes;
    qc_lock_release_as(&d->map.lock, found);
    return PyLong_FromSize_t(size);
}

PyDoc_STRVAR(get_doc, "get($self, key, default=None, /)\n--\n\n"
                      "The value for key, or default. Lock-free and linearizable.");
PyDoc_STRVAR(setdefault_doc,
             "setdefault($self, key, default=None, /)\n--\n\n"
             "The value for key; if it is absent, default is inserted first. Atomic: of many\n"
             "threads one inserts, all get the same value. Lock-free if the key is there,\n"
             "otherwise under the dict's lock.");
PyDoc_STRVAR(pop_doc,
             "pop($self, key, default=..., /)\n--\n\n"
             "Remove key and return its value, or default, or raise KeyError. Atomic: one\n"
             "thread gets a value. Under the dict's lock.");
PyDoc_STRVAR(popitem_doc,
             "popitem($self, /)\n--\n\n"
             "Remove and return the pair (key, value) that was inserted last; KeyError if the\n"
             "dict is empty. Atomic, under the dict's lock.");
PyDoc_STRVAR(update_doc,
             "update($self, other=(), /, **kwargs)\n--\n\n"
             "Assign the pairs of a mapping or of an iterable of pairs, then the keywords. Each\n"
             "assignment is atomic, the whole is not. The source is read first: if it raises,\n"
             "nothing is assigned. Of another ConcurrentDict one moment is taken.");
PyDoc_STRVAR(clear_doc,
             "clear($self, /)\n--\n\n"
             "Remove all pairs, in one step. Under the dict's lock; readers are not held up.");
PyDoc_STRVAR(copy_doc, "copy($self, /)\n--\n\n"
                       "A new ConcurrentDict with the pairs of one moment (see snapshot); of a\n"
                       "subclass, what that makes of these pairs, as with OrderedDict.");
PyDoc_STRVAR(snapshot_doc,
             "snapshot($self, /)\n--\n\n"
             "A dict with the pairs of one moment. Takes the dict's lock and holds assignments\n"
             "back while it copies the references; never blocks readers. RuntimeError if\n"
             "membarrier stopped working in the process.");
PyDoc_STRVAR(keys_doc, "keys($self, /)\n--\n\nA live view of the keys, in insertion order.");
PyDoc_STRVAR(values_doc, "values($self, /)\n--\n\nA live view of the values.");
PyDoc_STRVAR(
    items_doc,
    "items($self, /)\n--\n\n"
    "A live view of the pairs. Iterating never raises because of other threads, takes no\n"
    "more steps than there were entries when it began, repeats none, and yields every key\n"
    "that is there from beginning to end. A key that is removed and inserted again\n"
    "meanwhile is another entry, which may be met or not.");
PyDoc_STRVAR(sizeof_doc, "__sizeof__($self, /)\n--\n\nBytes of the object and its table.");

static PyMethodDef dict_methods[] = {
    {"get", (PyCFunction)(void (*)(void))dict_get, METH_FASTCALL, get_doc},
    {"setdefault", (PyCFunction)(void (*)(void))dict_setdefault, METH_FASTCALL, setdefault_doc},
    {"pop", (PyCFunction)(void (*)(void))dict_pop, METH_FASTCALL, pop_doc},
    {"popitem", dict_popitem, METH_NOARGS, popitem_doc},
    {"update", (PyCFunction)(void (*)(void))dict_update, METH_VARARGS | METH_KEYWORDS, update_doc},
    {"clear", dict_clear, METH_NOARGS, clear_doc},
    {"copy", dict_copy, METH_NOARGS, copy_doc},
    {"__reversed__", dict_reversed, METH_NOARGS, dict_reversed_doc},
    {"snapshot", dict_snapshot_method, METH_NOARGS, snapshot_doc},
    {"keys", dict_view_keys, METH_NOARGS, keys_doc},
    {"values", dict_view_values, METH_NOARGS, values_doc},
    {"items", dict_view_items, METH_NOARGS, items_doc},
    {"incr", (PyCFunction)(void (*)(void))dict_incr, METH_FASTCALL | METH_KEYWORDS, dict_incr_doc},
    {"get_or_create", (PyCFunction)(void (*)(void))dict_get_or_create,
     METH_FASTCALL | METH_KEYWORDS, dict_get_or_create_doc},
    {"get_many", (PyCFunction)(void (*)(void))dict_get_many, METH_FASTCALL | METH_KEYWORDS,
     dict_get_many_doc},
    {"fromkeys", (PyCFunction)(void (*)(void))dict_fromkeys, METH_FASTCALL | METH_CLASS,
     dict_fromkeys_doc},
    {"__sizeof__", dict_sizeof, METH_NOARGS, sizeof_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "See PEP 585"},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef dict_members[] = {
#if PY_VERSION_HEX >= 0x030C0000
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(dict_object, weakrefs), Py_READONLY, NULL},
#else
    {"__weaklistoffset__", T_PYSSIZET, offsetof(dict_object, weakrefs), READONLY, NULL},
#endif
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(dict_doc,
             "ConcurrentDict(mapping_or_pairs=(), /, **kwargs)\n--\n\n"
             "A dict for many threads: reading takes no lock and does not slow other readers\n"
             "down, assigning to a key that is there takes none either. Keys, order, errors and\n"
             "methods are dict's; see each method for what it promises to other threads.");

static PyType_Slot dict_slots[] = {
    {Py_tp_doc, (void *)dict_doc},
    {Py_tp_new, dict_new},
    {Py_tp_init, dict_init},
    {Py_tp_dealloc, dict_dealloc},
    {Py_tp_traverse, dict_traverse},
    {Py_tp_clear, dict_tp_clear},
    {Py_tp_free, PyObject_GC_Del},
    {Py_tp_repr, dict_repr},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_richcompare, dict_richcompare},
    {Py_tp_iter, dict_iter_keys},
    {Py_tp_methods, dict_methods},
    {Py_tp_members, dict_members},
    {Py_mp_length, dict_length},
    {Py_mp_subscript, dict_subscript},
    {Py_mp_ass_subscript, dict_ass_subscript},
    {Py_sq_contains, dict_contains},
    {0, NULL},
};

static PyType_Spec dict_spec = {
    .name = "qsbrcontainers.ConcurrentDict",
    .basicsize = sizeof(dict_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_MAPPING,
    .slots = dict_slots,
};

int
qc_dict_register(PyObject *module, qc_state *state)
{
    state->dict_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &dict_spec, NULL);
    if (state->dict_type == NULL || dict_compare_register(state->dict_type) < 0)
        return -1;
    return PyModule_AddType(module, state->dict_type);
}
