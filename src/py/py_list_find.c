/* ConcurrentList: what compares its elements with one value: in, index, count, remove.
 *
 * Each sees one moment of the list (A5), and __eq__ may do anything, so it never runs
 * under the lock.  But most elements need no __eq__: under the lock, all that can be
 * told without Python code is told (py_words.h: identity, str, numbers), from the first
 * element to the first that needs more.  Only what is left from there is copied, with
 * references, and compared without the lock.  As a rule that is nothing: no reference
 * count is touched and no memory asked for. */
#include "py/py_list_write.h"
#include "py/py_methods.h"

#include "py/py_words.h"

/* ---- looking through a list ---- */

typedef struct {
    bool count;       /* all of them */
    size_t at;        /* found: the first one, or as many as were counted */
    bool asked;       /* found by __eq__, without the lock; then also: */
    qc_word word;     /* with a reference, the caller's */
    uint64_t version; /* of the list that was looked at */
} search;

/* From *start on, below `stop`: MATCH_YES if *start is the one, MATCH_ASK if that needs
 * Python code.  With the lock. */
static word_match
look_through(const word_value *w, search *s, ptrarray *a, size_t *start, size_t stop)
{
    for (size_t i = *start; i < stop; i++) {
        word_match m = words_match(w, ptrarray_word(a, i));
        if (m == MATCH_NO)
            continue;
        if (m == MATCH_YES && s->count) {
            s->at++;
            continue;
        }
        *start = i;
        return m;
    }
    return MATCH_NO;
}

/* What is left of the list, from its index `from` on, as it was.  Takes `rest` over. */
static int
ask_rest(const word_value *w, PyObject *value, search *s, ptrarray *rest, size_t from)
{
    int found = 0;
    size_t i = 0;
    for (size_t n = ptrarray_size(rest); found == 0 && i < n; i++) {
        qc_word word = ptrarray_word(rest, i);
        word_match m = words_match(w, word);
        found = m == MATCH_ASK ? words_equal(word, value) : m == MATCH_YES;
        if (found == 1 && !s->count) {
            s->at = from + i;
            s->word = word;
            s->asked = true;
            continue;
        }
        s->at += found == 1;
        found = found < 0 ? -1 : 0;
        refs_release(word);
    }
    ptrarray_drop(rest, i, refs_release);
    return found;
}

/* With the lock; NULL: no memory. */
static ptrarray *
moment_from(list_object *l, ptrarray *a, size_t from, size_t until)
{
    ptrarray *rest = ptrarray_picked(l->state->heap, a, from, 1, until - from);
    if (rest != NULL)
        ptrarray_retain(rest, 0, refs_retain);
    return rest;
}

/* 1 found, 0 not, -1 with an exception. */
static int
list_search(list_object *l, PyObject *value, search *s, Py_ssize_t start, Py_ssize_t stop)
{
    word_value w = word_value_of(refs_borrowed_word(value));
    if (list_begin(l) == NULL)
        return -1;
    list_lock(l);
    ptrarray *a = ptrarray_locked(&l->array), *rest = NULL;
    size_t from = list_clamped(start, ptrarray_size(a));
    size_t until = list_clamped(stop, ptrarray_size(a));
    word_match m = look_through(&w, s, a, &from, until);
    if (m == MATCH_ASK)
        rest = moment_from(l, a, from, until);
    list_unlock(l);
    if (m == MATCH_YES)
        s->at = from;
    if (m != MATCH_ASK)
        return m == MATCH_YES;
    if (rest != NULL)
        return ask_rest(&w, value, s, rest, from);
    PyErr_NoMemory();
    return -1;
}

/* The reference to what __eq__ has found. */
static void
forget(search *s)
{
    if (s->asked)
        refs_release(s->word);
}

int
list_contains(PyObject *self, PyObject *value)
{
    search s = {.count = false};
    int found = list_search(list_of(self), value, &s, 0, PY_SSIZE_T_MAX);
    forget(&s);
    return found;
}

const char list_count_doc[] =
    "count($self, value, /)\n--\n\n"
    "Return number of occurrences of value.\n\n"
    "Of one moment: takes the list's lock while it compares str, numbers and what has no\n"
    "__eq__ of its own, or copies the rest, whose __eq__ is called without the lock.";

PyObject *
list_count(PyObject *self, PyObject *value)
{
    search s = {.count = true};
    if (list_search(list_of(self), value, &s, 0, PY_SSIZE_T_MAX) < 0)
        return NULL;
    return PyLong_FromSize_t(s.at);
}

/* An index of a slice or of index(): beyond all sizes is the end.  False with an
 * exception. */
static bool
slice_index(PyObject *op, Py_ssize_t *index)
{
    if (!PyIndex_Check(op)) {
        PyErr_SetString(PyExc_TypeError,
                        "slice indices must be integers or have an __index__ method");
        return false;
    }
    *index = PyNumber_AsSsize_t(op, NULL);
    return *index != -1 || !PyErr_Occurred();
}

const char list_index_doc[] =
    "index($self, value, start=0, stop=sys.maxsize, /)\n--\n\n"
    "Return first index of value.\n\n"
    "Raises ValueError if the value is not present. Of one moment, as count() is; other\n"
    "threads may have moved the element when the caller has its index.";

PyObject *
list_index(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    Py_ssize_t start = 0, stop = PY_SSIZE_T_MAX;
    if (!methods_count_args("index", n, 1, 3) || (n > 1 && !slice_index(args[1], &start)) ||
        (n > 2 && !slice_index(args[2], &stop)))
        return NULL;
    search s = {.count = false};
    int found = list_search(list_of(self), args[0], &s, start, stop);
    forget(&s);
    if (found == 1)
        return PyLong_FromSize_t(s.at);
    if (found == 0)
#if PY_VERSION_HEX >= 0x030E0000
        PyErr_SetString(PyExc_ValueError, "list.index(x): x not in list");
#else
        PyErr_Format(PyExc_ValueError, "%R is not in list", args[0]);
#endif
    return NULL;
}

/* ---- remove ---- */

/* remove() takes out what it has found if the list is still what it was.  Where another
 * thread, or __eq__, changes the list each time, it takes out the first place of the very
 * object that was equal, wherever that is by now.  That may be gone each time as well:
 * an __eq__ that puts others in its place would go on for ever. */
#define REMOVE_TRIES 16
#define REMOVE_TRIES_MOST 1000

/* Where to cut, with the lock again: *at; false if it cannot be said any more. */
static bool
find_again(list_object *l, ptrarray *a, const search *s, bool insist, size_t *at)
{
    *at = s->at;
    if (ptrarray_version(&l->array) == s->version)
        return true;
    size_t n = insist ? ptrarray_size(a) : 0;
    for (*at = 0; *at < n; ++*at)
        if (ptrarray_word(a, *at) == s->word)
            return true;
    return false;
}

typedef enum { REMOVE_DONE, REMOVE_NONE, REMOVE_AGAIN, REMOVE_ERROR } remove_result;

/* What __eq__ has found. */
static remove_result
remove_asked(list_object *l, const search *s, bool insist)
{
    list_writing w;
    ptrarray *a = list_write_begin(&w, l);
    if (a == NULL)
        return REMOVE_ERROR;
    size_t at;
    bool there = find_again(l, a, s, insist, &at), done = there && list_cut_one(&w, a, at);
    list_write_end(&w);
    if (there && !done)
        PyErr_NoMemory();
    return done ? REMOVE_DONE : there ? REMOVE_ERROR : REMOVE_AGAIN;
}

static remove_result
try_to_remove(list_object *l, PyObject *value, bool insist)
{
    word_value wanted = word_value_of(refs_borrowed_word(value));
    list_writing w;
    search s = {.count = false};
    ptrarray *a = list_write_begin(&w, l), *rest = NULL;
    if (a == NULL)
        return REMOVE_ERROR;
    size_t from = 0;
    bool done = true;
    word_match m = look_through(&wanted, &s, a, &from, ptrarray_size(a));
    s.version = ptrarray_version(&l->array);
    if (m == MATCH_YES)
        done = list_cut_one(&w, a, from);
    else if (m == MATCH_ASK)
        done = (rest = moment_from(l, a, from, ptrarray_size(a))) != NULL;
    list_write_end(&w);
    if (!done) {
        PyErr_NoMemory();
        return REMOVE_ERROR;
    }
    if (m != MATCH_ASK)
        return m == MATCH_YES ? REMOVE_DONE : REMOVE_NONE;
    int found = ask_rest(&wanted, value, &s, rest, from);
    if (found != 1)
        return found < 0 ? REMOVE_ERROR : REMOVE_NONE;
    remove_result result = remove_asked(l, &s, insist);
    forget(&s);
    return result;
}

const char list_remove_doc[] =
    "remove($self, value, /)\n--\n\n"
    "Remove first occurrence of value.\n\n"
    "Raises ValueError if the value is not present. Atomic: takes the list's lock, and\n"
    "what it takes out is the first equal one at that moment. __eq__ is called without\n"
    "the lock, and again if the list has changed meanwhile; where that happens over and\n"
    "over, the first place of the very object that was equal is taken out. ValueError if\n"
    "that is gone too, a thousand times.";

PyObject *
list_remove(PyObject *self, PyObject *value)
{
    remove_result result = REMOVE_AGAIN;
    for (unsigned i = 1; result == REMOVE_AGAIN && i <= REMOVE_TRIES_MOST; i++)
        result = try_to_remove(list_of(self), value, i >= REMOVE_TRIES);
    if (result == REMOVE_DONE)
        Py_RETURN_NONE;
    if (result == REMOVE_NONE)
        PyErr_SetString(PyExc_ValueError, "list.remove(x): x not in list");
    else if (result == REMOVE_AGAIN)
        PyErr_SetString(PyExc_ValueError, "list modified during remove");
    return NULL;
}
