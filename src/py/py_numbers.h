/* Objects for numbers that are stored by value.
 *
 * A word is no object: each read makes one, and the caller's decref frees it soon
 * after.  Measured on free-threaded 3.15, that is 140 of the 420 instructions of
 * d[key].  So a thread keeps the last int objects it made, one for each residue of
 * the value, as CPython keeps its small ints: the references are the thread's own,
 * so taking one is an addition without a lock prefix, and what other threads do
 * is not seen here.
 *
 * The objects belong to an interpreter (Q11), so the cache hangs on the thread's
 * local in the interpreter's queue; it is made at the first safe point, which short
 * threads never reach.  A thread that gets a recycled record drops what the last
 * one left (its references would be slow ones); the interpreter's end drops all.
 */
#ifndef PY_NUMBERS_H
#define PY_NUMBERS_H

#include "py/py_threads.h"

#define NUMBERS_KEPT 1024

typedef struct numbers {
    uint64_t tenure; /* of the record, when the objects were made */
    struct {
        int64_t value;
        PyObject *object;
    } kept[NUMBERS_KEPT];
} numbers;

/* Makes this thread's cache if there is none yet.  Does without if there is no
 * memory. */
void numbers_keep(retire_local *local);
/* At the interpreter's end, and when the record has a new thread. */
void numbers_drop(retire_local *local);
/* Frees the numbers of an ended thread, to which no local refers any more (drop_kept). */
void numbers_free(void *kept);

QC_NOINLINE PyObject *numbers_int_miss(numbers *n, int64_t value);

/* The object for a retained word: takes over its reference.  NULL with
 * MemoryError.  Not in a section: allocates. */
QC_INLINE PyObject *
numbers_object(qc_state *state, qc_word word)
{
    if (qc_likely(refs_word_is_object(word)))
        return (PyObject *)word_to_pointer(word);
    if (qc_likely(word_is_int(word))) {
        int64_t value = word_to_int(word);
        numbers *n = threads_cached.numbers;
        /* Another interpreter's: not its objects. */
        if (qc_unlikely(n == NULL || !threads_cached_is_of(state)))
            return PyLong_FromLongLong(value);
        size_t i = (uint64_t)value % NUMBERS_KEPT;
        if (qc_likely(n->kept[i].value == value))
            return Py_NewRef(n->kept[i].object);
        return numbers_int_miss(n, value);
    }
    return PyFloat_FromDouble(word_to_double(word));
}

/* What this thread keeps for the interpreter of `state`, or NULL. */
QC_INLINE numbers *
numbers_cache(qc_state *state)
{
    return qc_likely(threads_cached_is_of(state)) ? threads_cached.numbers : NULL;
}

/* The object for a retained word, of which it takes over the reference, if it takes
 * neither memory nor a call; else NULL.  In a section, or under a container's lock, too. */
QC_INLINE PyObject *
numbers_object_kept(numbers *n, qc_word word)
{
    if (refs_word_is_object(word))
        return (PyObject *)word_to_pointer(word);
    if (qc_unlikely(!word_is_int(word) || n == NULL))
        return NULL;
    int64_t value = word_to_int(word);
    size_t i = (uint64_t)value % NUMBERS_KEPT;
    return qc_likely(n->kept[i].value == value) ? Py_NewRef(n->kept[i].object) : NULL;
}

/* The same for the word of a number. */
QC_INLINE PyObject *
numbers_kept(qc_state *state, qc_word word)
{
    qc_assert(!refs_word_is_object(word));
    return numbers_object_kept(numbers_cache(state), word);
}

/* For a number that has been stored or taken out already: what this thread keeps is
 * given up for it before there is a MemoryError. */
PyObject *numbers_int_late(qc_state *state, int64_t value);

/* ---- what incr() adds ---- */

/* int + int, or float + either; of subclasses too, by the base's addition, so
 * that no Python code decides what is stored.  NULL with an exception. */
PyObject *numbers_add(PyObject *a, PyObject *b);

/* Is `word` an int by value, and the sum too?  That is *sum then.  `delta` fits. */
QC_INLINE bool
numbers_add_int(qc_word word, int64_t delta, qc_word *sum)
{
    if (refs_word_is_object(word) || !word_is_int(word))
        return false;
    int64_t result = word_to_int(word) + delta; /* 51 bits and 51 bits: no overflow */
    *sum = word_from_int(result);
    return word_int_fits(result);
}

/* Is that worth a try with `delta`, or 1 if NULL?  *by is it then. */
static inline bool
numbers_delta_fits(PyObject *delta, int64_t *by)
{
    int overflow = 0;
    *by = 1;
    if (delta != NULL) {
        if (!PyLong_CheckExact(delta))
            return false;
        *by = PyLong_AsLongLongAndOverflow(delta, &overflow);
    }
    return QC_NUMBERS_BY_VALUE && overflow == 0 && word_int_fits(*by);
}

#endif
