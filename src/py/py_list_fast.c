/* ConcurrentList: what most programs do with a list most of the time, where nothing is in
 * the way: no safe point is due, the list is this thread's or settled (T1), nobody has its
 * lock, the number is a small one, the array has the room.  No call then, so that there
 * is no frame, and no registers to be saved.  Where something is in the way nothing has
 * been done, and the general functions begin anew.
 *
 * Under the lock: no Python code, no decref, no allocation, as everywhere. */
#include "py/py_list_write.h"

#include "py/py_numbers.h"

/* Whether `key` is a small int: *index.  Without a call where the interpreter lets us see
 * it. */
QC_INLINE bool
index_at_once(PyObject *key, Py_ssize_t *index)
{
    if (qc_unlikely(!PyLong_CheckExact(key)))
        return false;
#ifdef REFS_SMALL_INTS
    if (qc_unlikely(!refs_int_is_small(key)))
        return false;
    *index = refs_small_int(key);
#else
    *index = PyLong_AsSsize_t(key);
    if (qc_unlikely(*index == -1)) {
        PyErr_Clear(); /* an OverflowError, or -1: the general function's business */
        return false;
    }
#endif
    return true;
}

/* ---- l[i] ---- */

/* In the leaf in which the word of an object was found. */
QC_WORDS_ONLY static QC_NOINLINE PyObject *
subscript_object(PyObject *self, PyObject *key, ptrarray *array, Py_ssize_t index, qc_word word)
{
    const ptrarray_place place = {.array = array, .index = (size_t)index};
    refs_got got = list_hold(list_of(self), &place, word);
    threads_exit_leaf(qsbr_self);
    if (qc_likely(got == REFS_HELD))
        return word_to_pointer(word);
    if (got == REFS_LATE)
        refs_release(word);
    return list_subscript_any(self, key);
}

QC_WORDS_ONLY PyObject *
list_subscript(PyObject *self, PyObject *key)
{
    Py_ssize_t index;
    qc_word word;
    ptrarray_place place;
    list_fast r = LIST_NONE;
    if (qc_likely(index_at_once(key, &index)))
        r = list_look_fast(list_of(self), index, &place, &word);
    if (qc_likely(r == LIST_HIT))
        return numbers_object(list_of(self)->state, word);
    if (r == LIST_FOUND)
        return subscript_object(self, key, place.array, index, word);
    return list_subscript_any(self, key);
}

/* ---- what writes ---- */

/* Each of these ends in a call of a function of its own where it does not end here, so
 * that it has nothing to keep for one. */

/* With the lock, which it releases: l[index] = value, where there is no such element. */
static QC_NOINLINE int
set_locked(list_object *l, Py_ssize_t index, PyObject *value)
{
    list_unlock(l);
    return list_set(l, index, value);
}

static QC_NOINLINE int
wake_after_set(list_object *l, qc_word old)
{
    qc_lock_wake(&l->array.lock);
    refs_release(old);
    return 0;
}

/* The lock, where nothing is in the way, for one who stores one word of the array: with a GIL
 * it need not be held, since that is one store and the version goes up before it, so that a
 * fork's child finds nothing half done (Q10).  One that a fork has left held is not for here:
 * who finds it puts right what is. */
QC_INLINE bool
lock_for_one(list_object *l)
{
    if (!QC_FREES_AT_ONCE)
        return list_lock_fast(l);
    return threads_begin_fast(&l->sharing) != NULL && qc_likely(!qc_lock_is_held(&l->array.lock));
}

/* Of a value that readers can take references to: a number, or one that is enabled (K8). */
QC_INLINE int
set_enabled(list_object *l, Py_ssize_t index, PyObject *value, qc_word word)
{
    if (qc_unlikely(!lock_for_one(l)))
        return list_set(l, index, value);
    ptrarray *a = QC_FREES_AT_ONCE ? ptrarray_exclusive(&l->array) : ptrarray_locked(&l->array);
    size_t size = ptrarray_size(a), i = (size_t)index + (index < 0 ? size : 0);
    if (qc_unlikely(i >= size))
        return QC_FREES_AT_ONCE ? list_set(l, index, value) : set_locked(l, index, value);
    refs_retain(word);
    qc_word old = ptrarray_set_in(&l->array, a, i, word);
    if (!QC_FREES_AT_ONCE && list_let_go(l))
        return wake_after_set(l, old);
    refs_release(old); /* K8 */
    return 0;
}

QC_WORDS_ONLY static QC_NOINLINE int
enable_and_set(list_object *l, Py_ssize_t index, PyObject *value)
{
    refs_enable(value);
    return set_enabled(l, index, value, word_from_pointer(value));
}

QC_WORDS_ONLY int
list_ass_subscript(PyObject *self, PyObject *key, PyObject *value)
{
    list_object *l = list_of(self);
    Py_ssize_t index;
    qc_word word;
    if (qc_unlikely(value == NULL || state_is_sentinel(l->state, value)) ||
        !index_at_once(key, &index) || !refs_word_at_once(value, &word))
        return list_ass_subscript_any(self, key, value);
    if (REFS_LOOK_AGAIN && refs_word_is_object(word))
        return enable_and_set(l, index, value);
    return set_enabled(l, index, value, word);
}

const char list_append_doc[] =
    "append($self, value, /)\n--\n\n"
    "Append value to the end of the list.\n\n"
    "Atomic: takes the list's lock; readers see the list with it or without.";

/* With the lock, which it releases. */
static QC_NOINLINE PyObject *
append_locked(list_object *l, PyObject *value)
{
    list_unlock(l);
    return list_append_any((PyObject *)l, value);
}

static QC_NOINLINE PyObject *
wake_and_return(list_object *l, PyObject *result)
{
    qc_lock_wake(&l->array.lock);
    return result;
}

QC_INLINE PyObject *
append_enabled(list_object *l, PyObject *value, qc_word word)
{
    if (qc_unlikely(!list_lock_fast(l)))
        return list_append_any((PyObject *)l, value);
    ptrarray *a = ptrarray_locked(&l->array);
    size_t size = ptrarray_size(a);
    if (qc_unlikely(size == a->capacity))
        return append_locked(l, value);
    refs_retain(word);
    ptrarray_append_at(a, size, word);
    if (list_let_go(l))
        return wake_and_return(l, Py_NewRef(Py_None));
    Py_RETURN_NONE;
}

QC_WORDS_ONLY static QC_NOINLINE PyObject *
enable_and_append(list_object *l, PyObject *value)
{
    refs_enable(value);
    return append_enabled(l, value, word_from_pointer(value));
}

QC_WORDS_ONLY PyObject *
list_append(PyObject *self, PyObject *value)
{
    list_object *l = list_of(self);
    qc_word word;
    if (qc_unlikely(state_is_sentinel(l->state, value)) || !refs_word_at_once(value, &word))
        return list_append_any(self, value);
    if (REFS_LOOK_AGAIN && refs_word_is_object(word))
        return enable_and_append(l, value);
    return append_enabled(l, value, word);
}

const char list_pop_doc[] =
    "pop($self, index=-1, /)\n--\n\n"
    "Remove and return the element at index, the last one by default.\n\n"
    "Atomic: takes the list's lock, and no two threads get the same element. Raises\n"
    "IndexError if the list is empty or the index is out of range.";

/* With the lock, which it releases: pop() of something that takes more than that. */
static QC_NOINLINE PyObject *
pop_locked(list_object *l)
{
    list_unlock(l);
    return list_pop_any((PyObject *)l, NULL, 0);
}

QC_WORDS_ONLY PyObject *
list_pop(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    list_object *l = list_of(self);
    if (qc_unlikely(n != 0) || !list_lock_fast(l))
        return list_pop_any(self, args, n);
    ptrarray *a = ptrarray_locked(&l->array);
    size_t size = ptrarray_size(a);
    if (qc_unlikely(size == 0 || ptrarray_is_too_large(a, size - 1)))
        return pop_locked(l);
    qc_word word = ptrarray_word(a, size - 1);
    PyObject *item;
    if (!refs_word_is_object(word)) {
        /* Its object comes first: what can fail comes before the change (T2). */
        item = numbers_kept(l->state, word);
        if (qc_unlikely(item == NULL))
            return pop_locked(l);
    }
    else {
        item = word_to_pointer(word); /* the list's reference is the caller's (K8) */
    }
    ptrarray_set_size(a, size - 1); /* its word is `word` */
    return list_let_go(l) ? wake_and_return(l, item) : item;
}
