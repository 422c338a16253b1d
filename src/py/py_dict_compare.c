/* ConcurrentDict: operations that depend on the value that is there.
 *
 * All of them have one shape: look the word up, decide with no lock held and in no
 * section (an __eq__, a callback), then install the result only if the word is still
 * the one that was seen, else begin anew.  A word that is an object is held by a
 * reference from the look to the end, so that its address cannot have become another
 * object's meanwhile (ABA); a number by value is its own identity. */
#include "py/py_dict.h"

#include "py/py_methods.h"

/* ---- the shape ---- */

typedef struct {
    dict_object *d;
    PyObject *key;
    Py_hash_t hash;
    PyObject *old; /* what is there, held; NULL: the key is absent */
    qc_word word;
} seen;

/* The arguments, the first of which is the key.  False with an exception. */
static bool
begin(seen *s, PyObject *self, const char *function, const char *const *names, Py_ssize_t min,
      Py_ssize_t max, PyObject *const *args, Py_ssize_t n, PyObject *kwnames, PyObject **a)
{
    s->d = dict_of(self);
    if (!methods_parse_args(function, names, min, max, args, n, kwnames, a))
        return false;
    s->key = a[0];
    s->hash = dict_hash(s->key);
    return s->hash != -1;
}

/* 0, or -1 with an exception. */
static int
look(seen *s)
{
    s->old = NULL;
    dict_result r = dict_lookup_word(s->d, s->key, s->hash, &s->word);
    if (r == DICT_FOUND)
        s->old = refs_object(s->word);
    return r == DICT_FAILED || (r == DICT_FOUND && s->old == NULL) ? -1 : 0;
}

/* Installs `value`, or nothing if NULL, if what was seen is still so: 1, or 0 and one
 * has to look again, or -1 with an exception.  Ends with what was seen. */
static int
install(seen *s, PyObject *value)
{
    dict_result r;
    if (value != NULL && s->old == NULL) {
        PyObject *current;
        r = dict_insert(s->d, s->key, s->hash, value, &current);
        if (r == DICT_FOUND)
            Py_DECREF(current);
        return r == DICT_FAILED ? -1 : r == DICT_ABSENT;
    }
    if (value != NULL) {
        qc_word word = refs_new_word(value);
        r = dict_replace_word(s->d, s->key, s->hash, s->word, word);
        if (r != DICT_FOUND)
            refs_release(word);
    }
    else {
        r = s->old == NULL ? DICT_FOUND : dict_remove_word(s->d, s->key, s->hash, s->word);
    }
    Py_XDECREF(s->old);
    return r == DICT_FAILED ? -1 : r == DICT_FOUND;
}

/* ---- add, swap, discard ---- */

PyDoc_STRVAR(add_doc,
             "add($self, key, value)\n--\n\n"
             "Insert value unless key is there: True if it was inserted. Atomic: of many\n"
             "threads one inserts. Lock-free if the key is there, otherwise under the dict's\n"
             "lock. (As in Django's cache.)");

static PyObject *
add(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    static const char *const names[] = {"key", "value"};
    PyObject *a[2] = {NULL}, *current;
    seen s;
    if (!begin(&s, self, "add", names, 2, 2, args, n, kwnames, a))
        return NULL;
    dict_result r = dict_insert(s.d, s.key, s.hash, a[1], &current);
    if (r == DICT_FOUND)
        Py_DECREF(current);
    return r == DICT_FAILED ? NULL : PyBool_FromLong(r == DICT_ABSENT);
}

PyDoc_STRVAR(swap_doc,
             "swap($self, key, new, default=None)\n--\n\n"
             "Assign new and return the value that was there, or default if key was absent.\n"
             "Atomic: each value is returned once. Without a lock if the key is there. (Java's\n"
             "ConcurrentHashMap.put.)");

static PyObject *
swap(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    static const char *const names[] = {"key", "new", "default"};
    PyObject *a[3] = {NULL, NULL, Py_None};
    seen s;
    if (!begin(&s, self, "swap", names, 2, 3, args, n, kwnames, a) ||
        !state_may_store(s.d->state, a[1]))
        return NULL;
    for (;;) {
        if (look(&s) < 0)
            return NULL;
        PyObject *old = Py_XNewRef(s.old);
        int done = install(&s, a[1]);
        if (done > 0)
            return old != NULL ? old : Py_NewRef(a[2]);
        Py_XDECREF(old);
        if (done < 0)
            return NULL;
    }
}

PyDoc_STRVAR(discard_doc,
             "discard($self, key, /)\n--\n\n"
             "Remove key if it is there: True if it was. Atomic, under the dict's lock.");

static PyObject *
discard(PyObject *self, PyObject *key)
{
    Py_hash_t hash = dict_hash(key);
    if (hash == -1)
        return NULL;
    dict_result r = dict_remove(dict_of(self), key, hash, NULL);
    return r == DICT_FAILED ? NULL : PyBool_FromLong(r == DICT_FOUND);
}

PyDoc_STRVAR(discard_if_doc,
             "discard_if($self, pred, /)\n--\n\n"
             "Remove the entries for which pred(key, value) is true; returns how many. pred is\n"
             "called once for each entry that a live iteration finds, with no lock held. Each\n"
             "removal is atomic, and only if the value is still the one that pred saw; the\n"
             "whole is not. If pred raises, what was removed by then stays removed.\n"
             "(Java's ConcurrentHashMap.entrySet().removeIf.)");

/* 1: removed, 0: not, -1: an exception. */
static int
discard_pair(dict_object *d, PyObject *pred, PyObject *pair)
{
    PyObject *key = PyTuple_GET_ITEM(pair, 0), *value = PyTuple_GET_ITEM(pair, 1);
    PyObject *args[] = {key, value};
    PyObject *answer = PyObject_Vectorcall(pred, args, 2, NULL);
    int wanted = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (wanted <= 0)
        return wanted;
    Py_hash_t hash = dict_hash(key);
    if (hash == -1)
        return -1;
    dict_result r = dict_remove_word(d, key, hash, refs_borrowed_word(value));
    return r == DICT_FAILED ? -1 : r == DICT_FOUND;
}

static PyObject *
discard_if(PyObject *self, PyObject *pred)
{
    PyObject *view = dict_view_items(self, NULL);
    PyObject *pairs = view == NULL ? NULL : PyObject_GetIter(view);
    Py_XDECREF(view);
    if (pairs == NULL)
        return NULL;
    Py_ssize_t removed = 0;
    PyObject *pair;
    while ((pair = PyIter_Next(pairs)) != NULL) {
        int done = discard_pair(dict_of(self), pred, pair);
        Py_DECREF(pair);
        if (done < 0)
            break;
        removed += done;
    }
    Py_DECREF(pairs);
    return PyErr_Occurred() ? NULL : PyLong_FromSsize_t(removed);
}

/* ---- compare and set, compare and delete, compute ---- */

/* `new`: NULL deletes.  1: done, 0: not equal, -1: an exception. */
static int
compare(seen *s, PyObject *expected, PyObject *new)
{
    for (;;) {
        if (look(s) < 0)
            return -1;
        if (s->old == NULL || expected == s->d->state->missing) {
            bool both = s->old == NULL && expected == s->d->state->missing;
            Py_CLEAR(s->old);
            if (!both)
                return 0;
        }
        else {
            int equal = PyObject_RichCompareBool(s->old, expected, Py_EQ);
            if (equal <= 0) {
                Py_DECREF(s->old);
                return equal;
            }
        }
        int done = install(s, new);
        if (done != 0)
            return done;
    }
}

PyDoc_STRVAR(compare_and_set_doc,
             "compare_and_set($self, key, expected, new)\n--\n\n"
             "Assign new if the value at key is expected, by identity or ==: True if it was.\n"
             "expected MISSING means that key is absent. Atomic: the values are compared with\n"
             "no lock held, then new is installed only in place of the very value compared;\n"
             "if that changed meanwhile, the new one is compared. Without a lock if the key\n"
             "is there. (Java's ConcurrentMap.replace.)");

static PyObject *
compare_and_set(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    static const char *const names[] = {"key", "expected", "new"};
    PyObject *a[3] = {NULL};
    seen s;
    if (!begin(&s, self, "compare_and_set", names, 3, 3, args, n, kwnames, a) ||
        !state_may_store(s.d->state, a[2]))
        return NULL;
    int done = compare(&s, a[1], a[2]);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

PyDoc_STRVAR(compare_and_delete_doc,
             "compare_and_delete($self, key, expected)\n--\n\n"
             "Remove key if its value is expected, by identity or ==: True if it was. As\n"
             "compare_and_set; the removal is under the dict's lock. With MISSING nothing is\n"
             "removed, and the result tells whether key is absent.");

static PyObject *
compare_and_delete(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    static const char *const names[] = {"key", "expected"};
    PyObject *a[2] = {NULL};
    seen s;
    if (!begin(&s, self, "compare_and_delete", names, 2, 2, args, n, kwnames, a))
        return NULL;
    int done = compare(&s, a[1], NULL);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

PyDoc_STRVAR(compute_doc,
             "compute($self, key, func, default=...)\n--\n\n"
             "Assign func(old), where old is the value at key, or default if it is absent, and\n"
             "return what was assigned. If func returns DELETE the key is removed, and MISSING\n"
             "returned. func is called with no lock held, and again for each time that the\n"
             "value changed meanwhile: its last result alone is installed, atomically, in\n"
             "place of the very value it was given. If it raises nothing is changed. (Java's\n"
             "ConcurrentHashMap.compute, without its lock.)");

static PyObject *
compute(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    static const char *const names[] = {"key", "func", "default"};
    seen s;
    qc_state *state = dict_of(self)->state;
    PyObject *a[3] = {NULL, NULL, state->missing};
    if (!begin(&s, self, "compute", names, 2, 3, args, n, kwnames, a))
        return NULL;
    for (;;) {
        if (look(&s) < 0)
            return NULL;
        PyObject *new = PyObject_CallOneArg(a[1], s.old != NULL ? s.old : a[2]);
        bool delete = new == state->delete_;
        if (new == NULL || (!delete &&!state_may_store(s.d->state, new))) {
            Py_XDECREF(new);
            Py_XDECREF(s.old);
            return NULL;
        }
        int done = install(&s, delete ? NULL : new);
        if (done > 0 && !delete)
            return new;
        Py_DECREF(new);
        if (done != 0)
            return done < 0 ? NULL : Py_NewRef(state->missing);
    }
}

static PyMethodDef compare_methods[] = {
    METHODS_ENTRY(add),
    METHODS_ENTRY(swap),
    METHODS_ENTRY(compare_and_set),
    METHODS_ENTRY(compare_and_delete),
    METHODS_ENTRY(compute),
    {"discard", discard, METH_O, discard_doc},
    {"discard_if", discard_if, METH_O, discard_if_doc},
    {NULL, NULL, 0, NULL},
};

int
dict_compare_register(PyTypeObject *type)
{
    return methods_add(type, compare_methods);
}
