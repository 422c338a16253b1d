/* ConcurrentList: what sees several elements at one moment, and makes something of them.
 *
 * All of it copies words under the lock, with references, and goes to work on the copy
 * (A5); readers notice nothing. */
#include "py/py_list.h"

#include "py/py_words.h"

/* ---- moments ---- */

ptrarray *
list_moment(list_object *l)
{
    if (list_begin(l) == NULL)
        return NULL;
    list_lock(l);
    ptrarray *copy = ptrarray_moment(l->state->heap, &l->array, refs_retain);
    list_unlock(l);
#ifdef QC_BREAK_LIST_MOMENT_BY_ONE
    for (size_t i = 0; copy != NULL && i < ptrarray_size(copy); i++) {
        qc_word word;
        if (list_look(l, qsbr_self, (Py_ssize_t)i, &word)) {
            refs_release(ptrarray_word(copy, i));
            qc_store_relaxed(&copy->words[i], word);
        }
    }
#endif
    if (copy == NULL)
        PyErr_NoMemory();
    return copy;
}

PyObject *
list_from_moment(ptrarray *moment)
{
    Py_ssize_t n = (Py_ssize_t)ptrarray_size(moment), i = 0;
    PyObject *result = PyList_New(n);
    for (; result != NULL && i < n; i++) {
        PyObject *item = refs_object(ptrarray_word(moment, (size_t)i));
        if (item == NULL) {
            i++;
            Py_CLEAR(result);
            break;
        }
        PyList_SET_ITEM(result, i, item);
    }
    ptrarray_drop(moment, (size_t)i, refs_release);
    return result;
}

PyObject *
list_snapshot(list_object *l)
{
    ptrarray *moment = list_moment(l);
    return moment == NULL ? NULL : list_from_moment(moment);
}

const char list_snapshot_doc[] = "snapshot($self, /)\n--\n\n"
                                 "A list of the elements at one moment.\n\n"
                                 "Takes the list's lock while it copies; readers notice nothing.";

PyObject *
list_snapshot_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return list_snapshot(list_of(self));
}

/* ---- new lists ---- */

/* A ConcurrentList of these words, which it takes over; no list if that is NULL, with
 * the exception that is set.  As with list, no subclass makes lists of its own kind
 * here. */
static PyObject *
list_of_words(qc_state *state, ptrarray *words)
{
    if (words == NULL)
        return NULL;
    PyObject *op = list_make(state->list_type, state);
    if (op == NULL || list_replace(list_of(op), words) < 0) {
        if (op == NULL)
            ptrarray_drop(words, 0, refs_release);
        Py_CLEAR(op);
    }
    return op;
}

const char list_copy_doc[] = "copy($self, /)\n--\n\n"
                             "Return a shallow copy of the list: a ConcurrentList.\n\n"
                             "Of one moment: takes the list's lock while it copies.";

PyObject *
list_copy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return list_of_words(list_of(self)->state, list_moment(list_of(self)));
}

/* l[start:stop:step]. */
PyObject *
list_slice(PyObject *self, PyObject *slice)
{
    list_object *l = list_of(self);
    Py_ssize_t start, stop, step;
    /* Runs Python code: __index__ may change the list. */
    if (PySlice_Unpack(slice, &start, &stop, &step) < 0 || list_begin(l) == NULL)
        return NULL;
    list_lock(l);
    ptrarray *a = ptrarray_locked(&l->array);
    Py_ssize_t n = PySlice_AdjustIndices((Py_ssize_t)ptrarray_size(a), &start, &stop, step);
    ptrarray *words = ptrarray_picked(l->state->heap, a, (size_t)start, step, (size_t)n);
    if (words != NULL)
        ptrarray_retain(words, 0, refs_retain);
    list_unlock(l);
    if (words == NULL)
        return PyErr_NoMemory();
    return list_of_words(l->state, words);
}

/* A moment of another list, or the items of a builtin one: the caller's own.  No __iter__
 * is asked. */
static ptrarray *
operand(list_object *l, PyObject *other)
{
    return PyList_Check(other) ? list_words_of(l, other, false) : list_moment(list_of(other));
}

PyObject *
list_concat(PyObject *self, PyObject *other)
{
    list_object *l = list_of(self);
    if (!list_is_list(l, other))
        return PyErr_Format(PyExc_TypeError, "can only concatenate list (not \"%.200s\") to list",
                            Py_TYPE(other)->tp_name);
    ptrarray *a = list_moment(l);
    ptrarray *b = a == NULL ? NULL : operand(l, other);
    ptrarray *both = NULL;
    if (b != NULL) {
        both = ptrarray_new(l->state->heap, ptrarray_size(a) + ptrarray_size(b));
        if (both == NULL) {
            PyErr_NoMemory();
            ptrarray_drop(b, 0, refs_release);
        }
    }
    if (both == NULL) {
        if (a != NULL)
            ptrarray_drop(a, 0, refs_release);
        return NULL;
    }
    ptrarray_append_all(both, a);
    ptrarray_append_all(both, b);
    ptrarray_free(a);
    ptrarray_free(b);
    return list_of_words(l->state, both);
}

PyObject *
list_repeat(PyObject *self, Py_ssize_t times)
{
    list_object *l = list_of(self);
    ptrarray *moment = list_moment(l);
    if (moment == NULL)
        return NULL;
    ptrarray *all = ptrarray_repeated(l->state->heap, moment, times < 0 ? 0 : (size_t)times);
    if (all == NULL || all == &ptrarray_none) {
        ptrarray_drop(moment, 0, refs_release);
        return all == NULL ? PyErr_NoMemory() : list_of_words(l->state, all);
    }
    /* The moment's references are those of the first time. */
    ptrarray_retain(all, ptrarray_size(moment), refs_retain);
    ptrarray_free(moment);
    return list_of_words(l->state, all);
}

/* ---- comparisons ---- */

/* a[i] == b[i], of two moments: 1, 0, or -1 with an exception. */
static int
same_at(ptrarray *a, ptrarray *b, size_t i)
{
    qc_word x = ptrarray_word(a, i), y = ptrarray_word(b, i);
    if (x == y)
        return 1;
    word_value v = word_value_of(x);
    word_match m = words_match(&v, y);
    if (m != MATCH_ASK)
        return m == MATCH_YES;
    refs_retain(y);
    PyObject *other = refs_object(y);
    int same = other == NULL ? -1 : words_equal(x, other);
    Py_XDECREF(other);
    return same;
}

/* As list compares: by the first elements that are not equal, or else by length. */
static PyObject *
compare(ptrarray *a, ptrarray *b, int op)
{
    size_t n_a = ptrarray_size(a), n_b = ptrarray_size(b), i = 0;
    if (n_a != n_b && (op == Py_EQ || op == Py_NE))
        return PyBool_FromLong(op == Py_NE);
    for (; i < n_a && i < n_b; i++) {
        int same = same_at(a, b, i);
        if (same < 0)
            return NULL;
        if (same == 0)
            break;
    }
    if (i == n_a || i == n_b)
        Py_RETURN_RICHCOMPARE(n_a, n_b, op);
    if (op == Py_EQ || op == Py_NE)
        return PyBool_FromLong(op == Py_NE);
    refs_retain(ptrarray_word(a, i));
    refs_retain(ptrarray_word(b, i));
    PyObject *x = refs_object(ptrarray_word(a, i)), *y = refs_object(ptrarray_word(b, i));
    PyObject *result = x == NULL || y == NULL ? NULL : PyObject_RichCompare(x, y, op);
    Py_XDECREF(x);
    Py_XDECREF(y);
    return result;
}

PyObject *
list_richcompare(PyObject *self, PyObject *other, int op)
{
    list_object *l = list_of(self);
    if (!list_is_list(l, other))
        Py_RETURN_NOTIMPLEMENTED;
    if (PyList_Check(other) && Py_TYPE(other)->tp_richcompare != PyList_Type.tp_richcompare) {
        /* As for two lists, the subclass's comparison decides; it gets a list, as it expects. */
        PyObject *snapshot = list_snapshot(l);
        PyObject *result = snapshot == NULL ? NULL : PyObject_RichCompare(snapshot, other, op);
        Py_XDECREF(snapshot);
        return result;
    }
    if (op == Py_EQ || op == Py_NE) { /* different lengths need no copy */
        Py_ssize_t n = list_length(self);
        if (n < 0)
            return NULL;
        if (n != (PyList_Check(other) ? PyList_Size(other) : list_length(other)))
            return PyErr_Occurred() ? NULL : PyBool_FromLong(op == Py_NE);
    }
    ptrarray *a = list_moment(l);
    if (a == NULL)
        return NULL;
    /* A list may hold what this one may not (the sentinels), and can be compared still. */
    ptrarray *b = PyList_Check(other) ? list_words_of(l, other, true) : list_moment(list_of(other));
    PyObject *result = NULL;
    if (b != NULL) {
        result = compare(a, b, op);
        ptrarray_drop(b, 0, refs_release);
    }
    ptrarray_drop(a, 0, refs_release);
    return result;
}

/* ---- what it holds (T7) ---- */

/* Of every so many elements one.  With the lock these stay. */
size_t
list_held_bytes(PyObject *op, qsbr_record *rec)
{
    (void)rec;
    list_object *l = list_of(op);
    size_t bytes = 0;
    list_lock(l);
    ptrarray *a = ptrarray_locked(&l->array);
    size_t size = ptrarray_size(a), step = size / SHARING_SAMPLE + 1;
    for (size_t i = 0; i < size; i += step)
        if (refs_word_is_object(ptrarray_word(a, i)))
            bytes += threads_value_bytes(word_to_pointer(ptrarray_word(a, i)));
    list_unlock(l);
    return bytes * step;
}
