/* Views and iterators of ConcurrentDict (K6).  The views' set algebra is
 * collections.abc's, attached in qsbrcontainers/_dict.py. */
#include "py/py_dict_probe.h"

#include "containers/keytable_iter.h"
#include "py/py_numbers.h"

#include <stddef.h>

typedef enum { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS } view_kind;

typedef struct {
    PyObject_HEAD
    dict_object *dict;
    view_kind kind;
} view_object;

/* An iterator may be shared by threads: its lock covers the cursor.  It is held
 * over a section, never over Python code.  A finished one keeps its dict until
 * it goes, since another thread may be in the middle of a step. */
typedef struct {
    PyObject_HEAD
    dict_object *dict;
    keytable_cursor cursor; /* (lock) table is NULL when it is finished */
    view_kind kind;
    uint32_t left; /* (lock) if reversed: keys at its beginning less steps, for the hint */
    qc_lock lock;
} iter_object;

/* ---- iterators ---- */

static PyObject *
iter_new(dict_object *d, view_kind kind, PyTypeObject *type)
{
    qsbr_record *rec = threads_begin((PyObject *)d, d->state, &d->sharing, &d->map.lock);
    if (rec == NULL)
        return NULL;
    if (qc_lock_may_be_orphaned(&d->map.lock)) {
        dict_lock(d); /* Q10: an insertion that readers see may not be counted yet */
        dict_unlock(d);
    }
    iter_object *it = PyObject_GC_New(iter_object, type);
    if (it == NULL)
        return NULL;
    it->dict = (dict_object *)Py_NewRef(d);
    it->kind = kind;
    it->left = qc_load_relaxed(&d->map.live);
    qc_lock_init(&it->lock);
    qsbr_enter(rec);
    keytable_cursor_init(&it->cursor, &d->map, rec);
    qsbr_exit(rec);
    PyObject_GC_Track(it);
    return (PyObject *)it;
}

PyObject *
dict_iter_keys(PyObject *self)
{
    return iter_new(dict_of(self), VIEW_KEYS, dict_of(self)->state->dict_iter_type);
}

const char dict_reversed_doc[] =
    "__reversed__($self, /)\n--\n\n"
    "Iterate over the keys, from the one inserted last to the first. Live and lock-free, with\n"
    "what items() says of iterating.";

PyObject *
dict_reversed(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return iter_new(dict_of(self), VIEW_KEYS, dict_of(self)->state->dict_reversed_type);
}

/* The container only: the table's keys and values may be gone (K6). */
static int
iter_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((iter_object *)self)->dict);
    return 0;
}

static void
iter_dealloc(PyObject *self)
{
    iter_object *it = (iter_object *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (it->cursor.table != NULL)
        keytable_unref(it->cursor.table);
    Py_XDECREF(it->dict);
    type->tp_free(self);
    Py_DECREF(type);
}

/* In which direction an iterator goes: a constant, wherever it is passed. */
typedef enum { ITER_FORWARD, ITER_BACK } iter_direction;

/* The next step comes to the same entry again: its word was gone before a reference to its
 * object was had. */
QC_INLINE void
undo(keytable_cursor *c, iter_direction direction)
{
    if (direction == ITER_BACK)
        c->end++;
    else
        c->at--;
}

/* In the section of a step that found something.  The iterator takes references only to the
 * objects that it yields: a key iterator does not touch the reference counts of values, which
 * other threads share. */
QC_INLINE refs_got
iter_hold(iter_object *it, iter_direction direction, qc_word key, qc_word word)
{
    refs_got got = it->kind != VIEW_KEYS ? dict_hold_word(it->cursor.found, word) : REFS_HELD;
    if (got != REFS_HELD)
        undo(&it->cursor, direction);
    else if (it->kind != VIEW_VALUES)
        refs_retain(key);
    return got;
}

/* The next live entry, or END; AGAIN: *word is to be let go of (K8), and to try again. */
QC_INLINE keytable_stepped
iter_try_step(iter_object *it, qsbr_record *rec, iter_direction direction, qc_word *key,
              qc_word *word)
{
    keytable_stepped r = KEYTABLE_END;
    refs_got got = REFS_HELD;
    keytable *done = NULL;
    lock_acquire(&it->lock);
    if (it->cursor.table != NULL) {
        do {
            got = REFS_HELD;
            qsbr_enter(rec);
            r = (direction == ITER_BACK ? keytable_step_back : keytable_step)(
                &it->cursor, &it->dict->map, rec, key, word);
            if (r == KEYTABLE_ITEM)
                got = iter_hold(it, direction, *key, *word);
            qsbr_exit(rec);
        } while (r == KEYTABLE_AGAIN || got == REFS_GONE);
        if (direction == ITER_BACK && r == KEYTABLE_ITEM && got == REFS_HELD && it->left > 0)
            it->left--;
        if (r == KEYTABLE_END) {
            done = it->cursor.table;
            it->cursor.table = NULL;
        }
    }
    lock_release(&it->lock);
    if (done != NULL)
        keytable_unref(done);
    return qc_unlikely(got == REFS_LATE) ? KEYTABLE_AGAIN : r;
}

/* False at the end. */
QC_INLINE bool
iter_step(iter_object *it, qsbr_record *rec, iter_direction direction, qc_word *key, qc_word *word)
{
    keytable_stepped r;
    while (qc_unlikely((r = iter_try_step(it, rec, direction, key, word)) == KEYTABLE_AGAIN))
        refs_release(*word);
    return r == KEYTABLE_ITEM;
}

/* What the iterator gives of an entry whose words it has retained. */
QC_INLINE PyObject *
iter_result(iter_object *it, qc_word key, qc_word word)
{
    if (it->kind == VIEW_KEYS)
        return refs_object(key);
    PyObject *value = numbers_object(it->dict->state, word);
    if (it->kind == VIEW_VALUES)
        return value;
    if (value == NULL) {
        refs_release(key);
        return NULL;
    }
    PyObject *pair = PyTuple_New(2);
    if (pair == NULL) {
        refs_release(key);
        Py_DECREF(value);
        return NULL;
    }
    PyTuple_SET_ITEM(pair, 0, refs_object(key));
    PyTuple_SET_ITEM(pair, 1, value);
    return pair;
}

QC_INLINE PyObject *
iter_next_by(iter_object *it, iter_direction direction)
{
    dict_object *d = it->dict;
    qc_word key, word;
    qsbr_record *rec = threads_begin((PyObject *)d, d->state, &d->sharing, &d->map.lock);
    if (rec == NULL || !iter_step(it, rec, direction, &key, &word))
        return NULL;
    return iter_result(it, key, word);
}

static QC_NOINLINE PyObject *
iter_next_any(iter_object *it)
{
    return iter_next_by(it, ITER_FORWARD);
}

static PyObject *
iter_previous(PyObject *self)
{
    return iter_next_by((iter_object *)self, ITER_BACK);
}

/* Of an entry that is there, its words retained; here, so that keys need no frame. */
static QC_NOINLINE PyObject *
iter_value_or_item(iter_object *it, qc_word key, qc_word word)
{
    return iter_result(it, key, word);
}

/* With a GIL nothing is in the way most of the time: a step needs neither a section (T1) nor
 * the iterator's lock, since it calls nothing and ends with the one store that moves the
 * cursor.  (Where a fork has left the lock held, that store has happened or not.) */
QC_WORDS_ONLY static PyObject *
iter_next(PyObject *self)
{
    iter_object *it = (iter_object *)self;
    qc_word key, word;
    if (!QC_FREES_AT_ONCE || qc_unlikely(threads_begin_fast(&it->dict->sharing) == NULL) ||
        !keytable_step_alone(&it->cursor, &it->dict->map, &key, &word))
        return iter_next_any(it);
    if (it->kind != VIEW_VALUES)
        refs_retain(key);
    if (qc_likely(it->kind == VIEW_KEYS))
        return refs_object(key);
    refs_retain(word);
    return iter_value_or_item(it, key, word);
}

static PyObject *
iter_length_hint(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    iter_object *it = (iter_object *)self;
    lock_acquire(&it->lock);
    uint64_t left = it->cursor.table != NULL ? it->cursor.end - it->cursor.at : 0;
    if (left > it->left)
        left = it->left;
    lock_release(&it->lock);
    uint64_t live = keytable_len(&it->dict->map);
    return PyLong_FromUnsignedLongLong(left < live ? left : live);
}

/* Another iterator that stands where this one does. */
static PyObject *
iter_copy(iter_object *it)
{
    iter_object *copy = PyObject_GC_New(iter_object, Py_TYPE(it));
    if (copy == NULL)
        return NULL;
    copy->dict = (dict_object *)Py_NewRef(it->dict);
    copy->kind = it->kind;
    qc_lock_init(&copy->lock);
    lock_acquire(&it->lock);
    copy->left = it->left;
    copy->cursor = it->cursor;
    if (copy->cursor.table != NULL) /* not the last reference while `it` has its own */
        (void)qc_add_relaxed(&copy->cursor.table->refs, 1u);
    lock_release(&it->lock);
    PyObject_GC_Track(copy);
    return (PyObject *)copy;
}

/* As dict's: pickled and copied as an iterator over a list of what is left. */
static PyObject *
iter_reduce(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    PyObject *builtins = PyImport_ImportModule("builtins");
    PyObject *iter = builtins == NULL ? NULL : PyObject_GetAttrString(builtins, "iter");
    Py_XDECREF(builtins);
    PyObject *copy = iter == NULL ? NULL : iter_copy((iter_object *)self);
    PyObject *list = copy == NULL ? NULL : PySequence_List(copy);
    Py_XDECREF(copy);
    if (list != NULL)
        return Py_BuildValue("N(N)", iter, list);
    Py_XDECREF(iter);
    return NULL;
}

static PyMethodDef iter_methods[] = {
    {"__length_hint__", iter_length_hint, METH_NOARGS, "An estimate of the entries left."},
    {"__reduce__", iter_reduce, METH_NOARGS, "For pickle and copy: a list of what is left."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot iter_slots[] = {
    {Py_tp_dealloc, iter_dealloc},
    {Py_tp_traverse, iter_traverse},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, iter_next},
    {Py_tp_methods, iter_methods},
    {Py_tp_free, PyObject_GC_Del},
    {0, NULL},
};

static PyType_Spec iter_spec = {
    .name = "qsbrcontainers._native.DictIterator",
    .basicsize = sizeof(iter_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = iter_slots,
};

static PyType_Slot reversed_slots[] = {
    {Py_tp_dealloc, iter_dealloc},
    {Py_tp_traverse, iter_traverse},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, iter_previous},
    {Py_tp_methods, iter_methods},
    {Py_tp_free, PyObject_GC_Del},
    {0, NULL},
};

static PyType_Spec reversed_spec = {
    .name = "qsbrcontainers._native.DictReverseIterator",
    .basicsize = sizeof(iter_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = reversed_slots,
};

/* ---- views ---- */

static PyObject *
view_new(PyObject *self, view_kind kind)
{
    dict_object *d = dict_of(self);
    view_object *v = PyObject_GC_New(view_object, d->state->dict_view_types[kind]);
    if (v == NULL)
        return NULL;
    v->dict = (dict_object *)Py_NewRef(self);
    v->kind = kind;
    PyObject_GC_Track(v);
    return (PyObject *)v;
}

PyObject *
dict_view_keys(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return view_new(self, VIEW_KEYS);
}

PyObject *
dict_view_values(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return view_new(self, VIEW_VALUES);
}

PyObject *
dict_view_items(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return view_new(self, VIEW_ITEMS);
}

static int
view_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((view_object *)self)->dict);
    return 0;
}

static void
view_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(((view_object *)self)->dict);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
view_iter(PyObject *self)
{
    view_object *v = (view_object *)self;
    return iter_new(v->dict, v->kind, v->dict->state->dict_iter_type);
}

PyDoc_STRVAR(view_reversed_doc, "__reversed__($self, /)\n--\n\n"
                                "Iterate over the view from its end. Live and lock-free.");

static PyObject *
view_reversed(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    view_object *v = (view_object *)self;
    return iter_new(v->dict, v->kind, v->dict->state->dict_reversed_type);
}

/* A TypeError as of dict's views, for every protocol: with protocols 0 and 1 the default of a
 * heap type would make a pickle that cannot be loaded. */
static PyObject *
view_reduce(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return PyErr_Format(PyExc_TypeError, "cannot pickle '%.200s' object",
                        strrchr(Py_TYPE(self)->tp_name, '.') + 1);
}

static PyMethodDef view_methods[] = {
    {"__reversed__", view_reversed, METH_NOARGS, view_reversed_doc},
    {"__reduce__", view_reduce, METH_NOARGS, "A view is not pickled."},
    {NULL, NULL, 0, NULL},
};

static Py_ssize_t
view_length(PyObject *self)
{
    return dict_length((PyObject *)((view_object *)self)->dict);
}

static int
keys_contains(PyObject *self, PyObject *key)
{
    Py_hash_t hash = dict_hash(key);
    dict_result r =
        hash == -1 ? DICT_FAILED : dict_contains_key(((view_object *)self)->dict, key, hash);
    return r == DICT_FAILED ? -1 : r == DICT_FOUND;
}

static int
items_contains(PyObject *self, PyObject *pair)
{
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2)
        return 0;
    PyObject *key = PyTuple_GET_ITEM(pair, 0), *value;
    Py_hash_t hash = dict_hash(key);
    dict_result r =
        hash == -1 ? DICT_FAILED : dict_lookup(((view_object *)self)->dict, key, hash, &value);
    if (r != DICT_FOUND)
        return r == DICT_FAILED ? -1 : 0;
    int equal = PyObject_RichCompareBool(value, PyTuple_GET_ITEM(pair, 1), Py_EQ);
    Py_DECREF(value);
    return equal;
}

static PyObject *
view_repr(PyObject *self)
{
    int entered = Py_ReprEnter(self);
    if (entered != 0)
        return entered > 0 ? PyUnicode_FromString("...") : NULL;
    static const char *const names[] = {"dict_keys", "dict_values", "dict_items"};
    PyObject *list = PySequence_List(self);
    PyObject *text = list == NULL
                         ? NULL
                         : PyUnicode_FromFormat("%s(%R)", names[((view_object *)self)->kind], list);
    Py_XDECREF(list);
    Py_ReprLeave(self);
    return text;
}

static PyObject *
view_mapping(PyObject *self, void *ignored)
{
    (void)ignored;
    return PyDictProxy_New((PyObject *)((view_object *)self)->dict);
}

static PyGetSetDef view_getset[] = {
    {"mapping", view_mapping, NULL, "The dict that this view refers to, read-only.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define VIEW_SLOTS                                                                                 \
    {Py_tp_dealloc, view_dealloc}, {Py_tp_traverse, view_traverse}, {Py_tp_iter, view_iter},       \
        {Py_tp_repr, view_repr}, {Py_tp_getset, view_getset}, {Py_tp_free, PyObject_GC_Del},       \
        {Py_tp_methods, view_methods},                                                             \
    {                                                                                              \
        Py_sq_length, view_length                                                                  \
    }

static PyType_Slot keys_slots[] = {
    VIEW_SLOTS,
    {Py_sq_contains, keys_contains},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {0, NULL},
};
static PyType_Slot values_slots[] = {VIEW_SLOTS, {0, NULL}};
static PyType_Slot items_slots[] = {
    VIEW_SLOTS,
    {Py_sq_contains, items_contains},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {0, NULL},
};

#define VIEW_SPEC(type_name, type_slots)                                                           \
    {                                                                                              \
        .name = "qsbrcontainers._native." type_name, .basicsize = sizeof(view_object),             \
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,      \
        .slots = (type_slots)                                                                      \
    }

static PyType_Spec view_specs[] = {
    VIEW_SPEC("DictKeys", keys_slots),
    VIEW_SPEC("DictValues", values_slots),
    VIEW_SPEC("DictItems", items_slots),
};

int
qc_dict_views_register(PyObject *module, qc_state *state)
{
    for (int i = 0; i < 3; i++) {
        PyObject *type = PyType_FromModuleAndSpec(module, &view_specs[i], NULL);
        state->dict_view_types[i] = (PyTypeObject *)type;
        if (type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0)
            return -1;
    }
    state->dict_iter_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &iter_spec, NULL);
    state->dict_reversed_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &reversed_spec, NULL);
    return state->dict_iter_type == NULL || state->dict_reversed_type == NULL ? -1 : 0;
}
