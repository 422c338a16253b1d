/* ConcurrentDict: construction, update and fromkeys.
 *
 * The source is read and hashed first and assigned then, so an error in it leaves the dict as
 * it was.  Another ConcurrentDict is read at one moment (K7), with the hashes of its table. */
#include "py/py_dict.h"

#include "py/py_methods.h"

#include <stdlib.h>

typedef struct {
    Py_hash_t hash;
    PyObject *key, *value;
} fill_pair;

/* The pairs that were read from any other source. */
typedef struct {
    dict_object *d;
    fill_pair *pairs;
    size_t n, room;
} fill_source;

static void
source_drop(fill_source *s)
{
    for (size_t i = 0; i < s->n; i++) {
        Py_DECREF(s->pairs[i].key);
        Py_DECREF(s->pairs[i].value);
    }
    free(s->pairs);
}

/* 0, or -1 with an exception. */
static int
source_add(fill_source *s, PyObject *key, PyObject *value)
{
    if (s->n == s->room) {
        size_t room = s->room == 0 ? 8 : s->room * 2;
        fill_pair *more = room > SIZE_MAX / sizeof(fill_pair)
                              ? NULL
                              : realloc(s->pairs, room * sizeof(fill_pair));
        if (more == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        s->pairs = more;
        s->room = room;
    }
    Py_hash_t hash = dict_hash(key);
    if (hash == -1 || !state_may_store(s->d->state, value) || !state_may_store(s->d->state, key))
        return -1;
    s->pairs[s->n++] = (fill_pair){hash, Py_NewRef(key), Py_NewRef(value)};
    return 0;
}

/* ---- the kinds of sources ---- */

/* Reads a dict, or a subclass's instance without an __iter__ of its own, without calling its
 * methods. */
static int
read_dict(fill_source *s, PyObject *dict)
{
    PyObject *key, *value, *copy = PyDict_Copy(dict);
    int status = copy == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; status == 0 && PyDict_Next(copy, &i, &key, &value);) {
        Py_INCREF(key); /* gc.get_objects() shows the copy to other code, which may change it */
        Py_INCREF(value);
        status = source_add(s, key, value);
        Py_DECREF(key);
        Py_DECREF(value);
    }
    Py_XDECREF(copy);
    return status;
}

/* Reads any object with keys(). */
static int
read_mapping(fill_source *s, PyObject *mapping)
{
    PyObject *key, *keys = PyMapping_Keys(mapping);
    PyObject *iterator = keys == NULL ? NULL : PyObject_GetIter(keys);
    Py_XDECREF(keys);
    int status = iterator == NULL ? -1 : 0;
    while (status == 0 && (key = PyIter_Next(iterator)) != NULL) {
        PyObject *value = PyObject_GetItem(mapping, key);
        status = value == NULL ? -1 : source_add(s, key, value);
        Py_XDECREF(value);
        Py_DECREF(key);
    }
    Py_XDECREF(iterator);
    return status < 0 || PyErr_Occurred() ? -1 : 0;
}

static PyObject *
as_pair(PyObject *item, Py_ssize_t i)
{
#if PY_VERSION_HEX >= 0x030E0000
    PyObject *pair = PySequence_Fast(item, "object is not iterable");
    if (pair == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyObject *error = PyErr_GetRaisedException();
        PyObject *note = PyUnicode_FromFormat(
            "Cannot convert dictionary update sequence element #%zd to a sequence", i);
        PyObject *none = note == NULL ? NULL : PyObject_CallMethod(error, "add_note", "O", note);
        Py_XDECREF(none);
        Py_XDECREF(note);
        PyErr_SetRaisedException(error); /* replaces an exception from adding the note */
    }
#else
    PyObject *pair = PySequence_Fast(item, "");
    if (pair == NULL && PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_Format(PyExc_TypeError,
                     "cannot convert dictionary update sequence element #%zd to a sequence", i);
#endif
    return pair;
}

static int
read_pair(fill_source *s, PyObject *item, Py_ssize_t i)
{
    PyObject *pair = as_pair(item, i);
    if (pair == NULL)
        return -1;
    PyObject *key = NULL, *value = NULL;
    REFS_BEGIN_LIST(pair);
    if (PySequence_Fast_GET_SIZE(pair) == 2) {
        key = Py_NewRef(PySequence_Fast_GET_ITEM(pair, 0));
        value = Py_NewRef(PySequence_Fast_GET_ITEM(pair, 1));
    }
    REFS_END_LIST();
    int status = -1;
    if (key != NULL)
        status = source_add(s, key, value);
    else
        PyErr_Format(PyExc_ValueError,
                     "dictionary update sequence element #%zd has length %zd; 2 is required", i,
                     PySequence_Fast_GET_SIZE(pair));
    Py_XDECREF(key);
    Py_XDECREF(value);
    Py_DECREF(pair);
    return status;
}

static int
read_pairs(fill_source *s, PyObject *iterable)
{
    PyObject *item, *iterator = PyObject_GetIter(iterable);
    int status = iterator == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; status == 0 && (item = PyIter_Next(iterator)) != NULL; i++) {
        status = read_pair(s, item, i);
        Py_DECREF(item);
    }
    Py_XDECREF(iterator);
    return status < 0 || PyErr_Occurred() ? -1 : 0;
}

/* 1, 0, or -1 with an exception. */
static int
has_keys(PyObject *op)
{
    PyObject *keys = PyObject_GetAttrString(op, "keys");
    if (keys == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError))
        return -1;
    if (keys == NULL)
        PyErr_Clear();
    Py_XDECREF(keys);
    return keys != NULL;
}

static int
read_any(fill_source *s, PyObject *op)
{
    if (PyDict_Check(op) && Py_TYPE(op)->tp_iter == PyDict_Type.tp_iter)
        return read_dict(s, op);
    int mapping = has_keys(op);
    return mapping < 0 ? -1 : mapping ? read_mapping(s, op) : read_pairs(s, op);
}

/* ---- assigning ---- */

static int
assign_all(fill_source *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (dict_set(s->d, s->pairs[i].key, s->pairs[i].hash, s->pairs[i].value) < 0)
            return -1;
    return 0;
}

/* Takes over the moment.  An empty dict gets it as its table, without a comparison. */
static int
assign_moment(dict_object *d, keytable *t)
{
    int filled = dict_fill_empty(d, t);
    if (filled > 0)
        return 0;
    for (uint32_t i = 0, n = dict_moment_size(t); filled == 0 && i < n; i++) {
        keytable_entry *e = &keytable_entries(t)[i];
        qc_word word = qc_load_relaxed(&e->value);
        refs_retain(word);
        PyObject *value = refs_object(word);
        filled =
            value == NULL ? -1 : dict_set(d, word_to_pointer(e->key), (Py_hash_t)e->hash, value);
        Py_XDECREF(value);
    }
    dict_moment_drop(t);
    return filled;
}

/* Assigns the pairs of `source`, unless it is NULL, and then the keywords, if any. */
static int
fill(dict_object *d, PyObject *source, PyObject *keywords)
{
    fill_source s = {.d = d};
    keytable *t = NULL;
    int status = 0;
    if (source != NULL && PyObject_TypeCheck(source, d->state->dict_type) &&
        dict_iter_is_inherited(source)) {
        t = source == (PyObject *)d ? NULL : dict_moment(dict_of(source));
        status = source != (PyObject *)d && t == NULL ? -1 : 0;
    }
    else if (source != NULL) {
        status = read_any(&s, source);
    }
    if (status == 0 && keywords != NULL)
        status = read_dict(&s, keywords);
    if (t != NULL && status == 0)
        status = assign_moment(d, t);
    else if (t != NULL)
        dict_moment_drop(t);
    if (status == 0)
        status = assign_all(&s);
    source_drop(&s);
    return status;
}

int
dict_merge(dict_object *d, PyObject *source)
{
    return fill(d, source, NULL);
}

int
dict_fill(dict_object *d, const char *name, PyObject *args, PyObject *kwargs)
{
    PyObject *source = NULL;
    if (!PyArg_UnpackTuple(args, name, 0, 1, &source) ||
        (kwargs != NULL && !PyArg_ValidateKeywordArguments(kwargs)))
        return -1;
    return fill(d, source, kwargs);
}

/* ---- fromkeys ---- */

/* Fills an empty dict with the keys of `source` at one moment, all with `value`: 1, or 0 if
 * the dict is not empty, or -1 with an exception. */
static int
fill_with_keys(dict_object *d, dict_object *source, PyObject *value)
{
    keytable *t = state_may_store(d->state, value) ? dict_moment(source) : NULL;
    if (t == NULL)
        return -1;
    for (uint32_t i = 0, n = dict_moment_size(t); i < n; i++) {
        keytable_entry *e = &keytable_entries(t)[i];
        refs_release(keytable_exchange(e, refs_new_word(value)));
    }
    int filled = dict_fill_empty(d, t);
    if (filled <= 0)
        dict_moment_drop(t);
    return filled;
}

static int
set_all(PyObject *d, PyObject *iterable, PyObject *value)
{
    PyObject *key, *iterator = PyObject_GetIter(iterable);
    int status = iterator == NULL ? -1 : 0;
    while (status == 0 && (key = PyIter_Next(iterator)) != NULL) {
        status = PyObject_SetItem(d, key, value);
        Py_DECREF(key);
    }
    Py_XDECREF(iterator);
    return status < 0 || PyErr_Occurred() ? -1 : 0;
}

const char dict_fromkeys_doc[] =
    "fromkeys($type, iterable, value=None, /)\n--\n\n"
    "Create a new dict with keys from iterable and values set to value.";

PyObject *
dict_fromkeys(PyObject *cls, PyObject *const *args, Py_ssize_t n)
{
    if (!methods_count_args("fromkeys", n, 1, 2))
        return NULL;
    PyObject *value = n == 2 ? args[1] : Py_None, *d = PyObject_CallNoArgs(cls);
    if (d == NULL)
        return NULL;
    int status = 0;
    if (dict_check(d) && Py_IS_TYPE(d, dict_of(d)->state->dict_type) &&
        Py_IS_TYPE(args[0], Py_TYPE(d)))
        status = fill_with_keys(dict_of(d), dict_of(args[0]), value);
    if (status == 0)
        status = set_all(d, args[0], value);
    if (status < 0)
        Py_CLEAR(d);
    return d;
}
