/* ConcurrentDict: snapshot, copy, repr and comparison, each from a moment (K7).
 *
 * A moment is a copy of the dict's table that no other thread knows, with references of its
 * own.  It does not change, whatever Python code runs while it is read. */
#include "py/py_dict.h"

#include "py/py_words.h"

typedef struct {
    keytable *table;
    uint32_t at;
} moment_walk;

/* The next pair: a borrowed key, and a new reference to the value.  False at the end, and
 * with MemoryError. */
static bool
next_pair(moment_walk *walk, PyObject **key, PyObject **value)
{
    if (walk->at == dict_moment_size(walk->table))
        return false;
    keytable_entry *e = &keytable_entries(walk->table)[walk->at++];
    qc_word word = qc_load_relaxed(&e->value);
    refs_retain(word);
    *key = word_to_pointer(e->key);
    *value = refs_object(word);
    return *value != NULL;
}

/* ---- snapshot, copy ---- */

PyObject *
dict_snapshot(dict_object *d)
{
    moment_walk walk = {.table = dict_moment(d)};
    PyObject *key, *value, *copy = walk.table == NULL ? NULL : PyDict_New();
    int status = 0;
    while (copy != NULL && status == 0 && next_pair(&walk, &key, &value)) {
        status = PyDict_SetItem(copy, key, value);
        Py_DECREF(value);
    }
    if (walk.table != NULL)
        dict_moment_drop(walk.table);
    if (copy != NULL && PyErr_Occurred())
        Py_CLEAR(copy);
    return copy;
}

/* For a subclass with an __iter__ of its own: copies by its keys() and [], as dict does. */
static PyObject *
copy_by_keys(dict_object *d)
{
    PyObject *copy = dict_new_empty(d->state->dict_type, d->state, 0);
    if (copy != NULL && dict_merge(dict_of(copy), (PyObject *)d) < 0)
        Py_CLEAR(copy);
    return copy;
}

static PyObject *
copy_as(PyTypeObject *type, dict_object *d)
{
    keytable *t = dict_moment(d);
    return t == NULL ? NULL : dict_new_with(type, d->state, t);
}

PyObject *
dict_exact_copy(dict_object *d)
{
    return copy_as(d->state->dict_type, d);
}

PyObject *
dict_copy(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    dict_object *d = dict_of(self);
    PyTypeObject *type = Py_TYPE(self), *base = d->state->dict_type;
    bool own_iter = !dict_iter_is_inherited(self);
    if (!own_iter && type->tp_new == base->tp_new && type->tp_init == base->tp_init &&
        Py_TYPE(type)->tp_call == PyType_Type.tp_call)
        return copy_as(type, d); /* as a call of the type would, without hashing */
    PyObject *pairs = own_iter ? copy_by_keys(d) : dict_exact_copy(d);
    PyObject *copy = pairs == NULL ? NULL : PyObject_CallOneArg((PyObject *)type, pairs);
    Py_XDECREF(pairs);
    return copy;
}

/* ---- repr ---- */

static PyObject *
repr_of_pairs(keytable *t)
{
    moment_walk walk = {.table = t};
    PyObject *key, *value, *text = NULL, *parts = PyList_New(0);
    int status = parts == NULL ? -1 : 0;
    while (status == 0 && next_pair(&walk, &key, &value)) {
        PyObject *part = PyUnicode_FromFormat("%R: %R", key, value);
        status = part == NULL ? -1 : PyList_Append(parts, part);
        Py_XDECREF(part);
        Py_DECREF(value);
    }
    PyObject *comma = status < 0 || PyErr_Occurred() ? NULL : PyUnicode_FromString(", ");
    PyObject *joined = comma == NULL ? NULL : PyUnicode_Join(comma, parts);
    if (joined != NULL)
        text = PyUnicode_FromFormat("{%U}", joined);
    Py_XDECREF(joined);
    Py_XDECREF(comma);
    Py_XDECREF(parts);
    return text;
}

PyObject *
dict_repr(PyObject *self)
{
    int entered = Py_ReprEnter(self);
    if (entered != 0)
        return entered > 0 ? PyUnicode_FromString("{...}") : NULL;
    keytable *t = dict_moment(dict_of(self));
    PyObject *text = t == NULL ? NULL : repr_of_pairs(t);
    if (t != NULL)
        dict_moment_drop(t);
    Py_ReprLeave(self);
    return text;
}

/* ---- comparison ---- */

/* In a moment, which does not change: calls __eq__ directly. */
static keytable_result
match_in_moment(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    PyObject *theirs = word_to_pointer(e->key), *key = ctx;
    (void)t;
    (void)slot;
    if (theirs == key)
        return KEYTABLE_HIT;
    refs_comparison known = refs_compare(theirs, key);
    if (known != REFS_UNKNOWN)
        return known == REFS_EQUAL ? KEYTABLE_HIT : KEYTABLE_MISS;
    int equal = PyObject_RichCompareBool(theirs, key, Py_EQ);
    return equal < 0 ? KEYTABLE_ERROR : equal ? KEYTABLE_HIT : KEYTABLE_MISS;
}

/* Whether `theirs`, a live word of the other moment, equals `word`: 1, 0, or -1 with an
 * exception. */
static int
values_equal(qc_word theirs, qc_word word)
{
    word_value v = word_value_of(theirs);
    word_match m = words_match(&v, word);
    if (m != MATCH_ASK)
        return m == MATCH_YES;
    refs_retain(word);
    PyObject *value = refs_object(word);
    int equal = value == NULL ? -1 : words_equal(theirs, value);
    Py_XDECREF(value);
    return equal;
}

/* Compares two moments of the same length: one lookup for each key, by its stored hash. */
static int
moments_equal(keytable *ours, keytable *theirs)
{
    for (uint32_t i = 0, n = dict_moment_size(ours); i < n; i++) {
        keytable_entry *e = &keytable_entries(ours)[i];
        keytable_pos pos;
        keytable_result r =
            keytable_probe(theirs, e->hash, match_in_moment, word_to_pointer(e->key), &pos);
        if (r != KEYTABLE_HIT)
            return r == KEYTABLE_ERROR ? -1 : 0;
        int equal = values_equal(pos.word, qc_load_relaxed(&e->value));
        if (equal <= 0)
            return equal;
    }
    return 1;
}

/* A new reference to dict[key] in *value: 1, 0 if the key is absent, -1 with an exception. */
static int
get_from(PyObject *dict, PyObject *key, PyObject **value)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyDict_GetItemRef(dict, key, value);
#else
    *value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    return *value != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
#endif
}

/* Compares a moment with a plain dict.  The lookups there hash each key again, since no public
 * function of the interpreter takes a hash. */
static int
moment_equals_dict(keytable *ours, PyObject *dict)
{
    moment_walk walk = {.table = ours};
    PyObject *key, *value;
    int equal = 1;
    while (equal == 1 && next_pair(&walk, &key, &value)) {
        PyObject *theirs = NULL;
        equal = get_from(dict, key, &theirs);
        if (equal == 1)
            equal = PyObject_RichCompareBool(theirs, value, Py_EQ);
        Py_XDECREF(theirs);
        Py_DECREF(value);
    }
    return PyErr_Occurred() ? -1 : equal;
}

/* d == other, a ConcurrentDict (`ours`) or a dict: 1, 0, or -1 with an exception.  For
 * different lengths no moment is taken. */
static int
is_equal(dict_object *d, PyObject *other, bool ours)
{
    Py_ssize_t n = dict_length((PyObject *)d);
    Py_ssize_t n_other = n < 0 ? -1 : ours ? dict_length(other) : PyDict_Size(other);
    if (n_other < 0)
        return -1;
    if (n != n_other)
        return 0;
    keytable *t = dict_moment(d), *theirs = NULL;
    int equal = t == NULL ? -1 : 0;
    if (t != NULL && ours) {
        theirs = dict_moment(dict_of(other));
        equal = theirs == NULL                                    ? -1
                : dict_moment_size(t) != dict_moment_size(theirs) ? 0
                                                                  : moments_equal(t, theirs);
    }
    else if (t != NULL && (Py_ssize_t)dict_moment_size(t) == PyDict_Size(other)) {
        equal = moment_equals_dict(t, other);
    }
    if (t != NULL)
        dict_moment_drop(t);
    if (theirs != NULL)
        dict_moment_drop(theirs);
    return equal;
}

PyObject *
dict_richcompare(PyObject *self, PyObject *other, int op)
{
    dict_object *d = dict_of(self);
    bool ours = PyObject_TypeCheck(other, d->state->dict_type);
    if ((op != Py_EQ && op != Py_NE) || !(ours || PyDict_Check(other)))
        Py_RETURN_NOTIMPLEMENTED;
    if (!ours && Py_TYPE(other)->tp_richcompare != PyDict_Type.tp_richcompare) {
        /* As for two dicts, the subclass's __eq__ decides; it gets a dict, as it expects. */
        PyObject *snapshot = dict_snapshot(d);
        PyObject *result = snapshot == NULL ? NULL : PyObject_RichCompare(snapshot, other, op);
        Py_XDECREF(snapshot);
        return result;
    }
    int equal = is_equal(d, other, ours);
    return equal < 0 ? NULL : PyBool_FromLong(equal == (op == Py_EQ));
}
