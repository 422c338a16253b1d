/* ConcurrentList: what compares its elements with one value: in, index, count, remove.
 *
 * Each sees one moment of the list (A5), and __eq__ may do anything, so it never runs
 * under the lock.  But most elements need no __eq__: under the lock, all that can be
 * told without Python code is told (identity, exact str, numbers, None), from the first
 * element to the first that needs more.  Only what is left from there is copied, with
 * references, and compared without the lock.  As a rule that is nothing: no reference
 * count is touched and no memory asked for. */
#include "py/py_list_write.h"

#include <float.h>

/* ---- what needs no Python code ---- */

typedef enum {
    KIND_ODD, /* may have any __eq__ */
    KIND_STR,
    KIND_INT,
    KIND_FLOAT,
    KIND_NONE,
} value_kind;

/* Whether one element is the wanted one. */
typedef enum { MATCH_NO, MATCH_YES, MATCH_ASK } match;

typedef struct {
    PyObject *value;
    qc_word word;
    value_kind kind;
    int64_t as_int;  /* KIND_INT */
    double as_float; /* KIND_FLOAT */
} wanted;

/* Longer ones are compared without the lock. */
#define STR_MAX 4096

/* A number beyond 64 bits is odd. */
QC_INLINE value_kind
kind_of(qc_word word, int64_t *as_int, double *as_float)
{
    if (!refs_word_is_object(word)) {
        if (word_is_int(word)) {
            *as_int = word_to_int(word);
            return KIND_INT;
        }
        *as_float = word_to_double(word);
        return KIND_FLOAT;
    }
    PyObject *op = word_to_pointer(word);
    if (PyUnicode_CheckExact(op))
        return PyUnicode_GET_LENGTH(op) <= STR_MAX ? KIND_STR : KIND_ODD;
    if (PyLong_CheckExact(op) || PyBool_Check(op)) {
        int overflow;
        *as_int = PyLong_AsLongLongAndOverflow(op, &overflow);
        return overflow == 0 ? KIND_INT : KIND_ODD;
    }
    if (PyFloat_CheckExact(op)) {
        *as_float = PyFloat_AS_DOUBLE(op);
        return KIND_FLOAT;
    }
    return op == Py_None ? KIND_NONE : KIND_ODD;
}

static wanted
wanted_value(PyObject *value)
{
    wanted w = {.value = value, .word = refs_borrowed_word(value)};
    w.kind = kind_of(w.word, &w.as_int, &w.as_float);
    return w;
}

static match
int_is_float(int64_t i, double d)
{
    const int64_t exact = (int64_t)1 << DBL_MANT_DIG;
    return i < -exact || i > exact ? MATCH_ASK : (double)i == d ? MATCH_YES : MATCH_NO;
}

static match
compare(const wanted *w, qc_word word)
{
    int64_t as_int = 0;
    double as_float = 0;
    value_kind kind = kind_of(word, &as_int, &as_float);
    if (kind == KIND_ODD || w->kind == KIND_ODD)
        return MATCH_ASK;
    if (kind == KIND_INT && w->kind == KIND_FLOAT)
        return int_is_float(as_int, w->as_float);
    if (kind == KIND_FLOAT && w->kind == KIND_INT)
        return int_is_float(w->as_int, as_float);
    if (kind != w->kind)
        return MATCH_NO;
    bool same = kind == KIND_INT     ? as_int == w->as_int
                : kind == KIND_FLOAT ? as_float == w->as_float
                : kind == KIND_STR   ? refs_str_equal(word_to_pointer(word), w->value)
                                     : true;
    return same ? MATCH_YES : MATCH_NO;
}

/* Identity first, as everywhere; and most lists are of one kind. */
QC_INLINE match
match_word(const wanted *w, qc_word word)
{
    if (word == w->word)
        return MATCH_YES;
    if (w->kind == KIND_INT && !refs_word_is_object(word) && word_is_int(word) &&
        !refs_word_is_object(w->word))
        return MATCH_NO;
    return compare(w, word);
}

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
static match
look_through(const wanted *w, search *s, ptrarray *a, size_t *start, size_t stop)
{
    for (size_t i = *start; i < stop; i++) {
        match m = match_word(w, ptrarray_word(a, i));
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

/* __eq__, for a word with a reference of the caller's. */
static int
ask(const wanted *w, qc_word word)
{
    if (refs_word_is_object(word))
        return PyObject_RichCompareBool(word_to_pointer(word), w->value, Py_EQ);
    PyObject *item = refs_object(word);
    int equal = item == NULL ? -1 : PyObject_RichCompareBool(item, w->value, Py_EQ);
    Py_XDECREF(item);
    return equal;
}

/* What is left of the list, from its index `from` on, as it was.  Takes `rest` over. */
static int
ask_rest(const wanted *w, search *s, ptrarray *rest, size_t from)
{
    int found = 0;
    size_t i = 0;
    for (size_t n = ptrarray_size(rest); found == 0 && i < n; i++) {
        qc_word word = ptrarray_word(rest, i);
        match m = match_word(w, word);
        found = m == MATCH_ASK ? ask(w, word) : m == MATCH_YES;
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
list_search(list_object *l, const wanted *w, search *s, Py_ssize_t start, Py_ssize_t stop)
{
    if (list_begin(l) == NULL)
        return -1;
    list_lock(l);
    ptrarray *a = ptrarray_locked(&l->array), *rest = NULL;
    size_t from = list_clamped(start, ptrarray_size(a));
    size_t until = list_clamped(stop, ptrarray_size(a));
    match m = look_through(w, s, a, &from, until);
    if (m == MATCH_ASK)
        rest = moment_from(l, a, from, until);
    list_unlock(l);
    if (m == MATCH_YES)
        s->at = from;
    if (m != MATCH_ASK)
        return m == MATCH_YES;
    if (rest != NULL)
        return ask_rest(w, s, rest, from);
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
    wanted w = wanted_value(value);
    search s = {.count = false};
    int found = list_search(list_of(self), &w, &s, 0, PY_SSIZE_T_MAX);
    forget(&s);
    return found;
}

const char list_count_doc[] =
    "count($self, value, /)\n--\n\n"
    "Return number of occurrences of value.\n\n"
    "Of one moment: takes the list's lock while it compares str, numbers and None, or\n"
    "copies what it has to ask __eq__ about, which is called without the lock.";

PyObject *
list_count(PyObject *self, PyObject *value)
{
    wanted w = wanted_value(value);
    search s = {.count = true};
    if (list_search(list_of(self), &w, &s, 0, PY_SSIZE_T_MAX) < 0)
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
    if (!list_arguments("index", n, 1, 3) || (n > 1 && !slice_index(args[1], &start)) ||
        (n > 2 && !slice_index(args[2], &stop)))
        return NULL;
    wanted w = wanted_value(args[0]);
    search s = {.count = false};
    int found = list_search(list_of(self), &w, &s, start, stop);
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
 * object that was equal, wherever that is by now. */
#define REMOVE_TRIES 16

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
try_to_remove(list_object *l, const wanted *wanted, bool insist)
{
    list_writing w;
    search s = {.count = false};
    ptrarray *a = list_write_begin(&w, l), *rest = NULL;
    if (a == NULL)
        return REMOVE_ERROR;
    size_t from = 0;
    bool done = true;
    match m = look_through(wanted, &s, a, &from, ptrarray_size(a));
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
    int found = ask_rest(wanted, &s, rest, from);
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
    "over, the first place of the very object that was equal is taken out.";

PyObject *
list_remove(PyObject *self, PyObject *value)
{
    wanted w = wanted_value(value);
    remove_result result = REMOVE_AGAIN;
    for (unsigned tries = 1; result == REMOVE_AGAIN; tries++)
        result = try_to_remove(list_of(self), &w, tries >= REMOVE_TRIES);
    if (result == REMOVE_DONE)
        Py_RETURN_NONE;
    if (result == REMOVE_NONE)
        PyErr_SetString(PyExc_ValueError, "list.remove(x): x not in list");
    return NULL;
}
