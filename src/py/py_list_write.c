/* ConcurrentList: what writes.
 *
 * All of it takes the list's lock, for as long as it takes to copy words.  Items
 * become words before, and what is taken out is dropped after: no Python code, no
 * decref and none of Python's allocators under the lock. */
#include "py/py_list_write.h"

/* ---- what every operation that takes something out has in common ---- */

void
list_mend(list_object *l)
{
    ptrarray_mend(&l->array);
    sharing_resized(l->state, &l->sharing, ptrarray_bytes(ptrarray_locked(&l->array)));
}

ptrarray *
list_write_begin(list_writing *w, list_object *l)
{
    if (list_begin_write(l) == NULL)
        return NULL;
    w->list = l;
    w->local = threads_local(l->state);
    if (w->local == NULL)
        return NULL;
    w->word = WORD_EMPTY;
    w->words = w->array = w->whole = NULL;
    w->reserved = false;
    list_lock(l);
    w->shared = sharing_is_shared(&l->sharing);
    return ptrarray_locked(&l->array);
}

bool
list_write_may_take(list_writing *w)
{
    if (w->shared)
        w->reserved = retire_reserve(w->local, 1);
    return !w->shared || w->reserved;
}

/* retire_fn: an array's memory. */
static void
free_array(uint64_t array)
{
    ptrarray_free((ptrarray *)(uintptr_t)array);
}

void
list_write_free(list_writing *w, ptrarray *a)
{
    qc_assert(w->array == NULL);
    if (!w->shared)
        w->array = a;
    else if (!ptrarray_retire(a))
        retire_block(w->local, free_array, (uintptr_t)a, ptrarray_bytes(a));
}

/* K8: the words of an array that was replaced by others, and then its memory.  What the
 * finalizers do to the list is done to another array. */
static void
drop_whole(list_writing *w, ptrarray *a)
{
    for (size_t i = 0, n = ptrarray_size(a); i < n; i++)
        refs_release(ptrarray_word(a, i));
    if (!w->shared)
        ptrarray_free(a);
    else if (!ptrarray_retire(a))
        threads_retire(w->local, free_array, (uintptr_t)a, ptrarray_bytes(a));
}

void
list_write_end(list_writing *w)
{
    list_unlock(w->list);
    list_write_finish(w);
}

void
list_write_finish(list_writing *w)
{
    if (w->reserved)
        retire_commit(w->local);
    if (w->array != NULL)
        ptrarray_free(w->array);
    if (w->word != WORD_EMPTY)
        refs_release(w->word);
    if (w->words != NULL)
        ptrarray_drop(w->words, 0, refs_release);
    if (w->whole != NULL)
        drop_whole(w, w->whole);
}

void
list_write_array(list_writing *w, ptrarray *fresh, list_words words)
{
    ptrarray *old = ptrarray_publish(&w->list->array, fresh);
    sharing_resized(w->list->state, &w->list->sharing, ptrarray_bytes(fresh));
    if (old == &ptrarray_none)
        return;
    if (words == WORDS_DROPPED)
        w->whole = old;
    else
        list_write_free(w, old);
}

/* ---- all elements ---- */

ptrarray *
list_words_of(list_object *l, PyObject *items, bool any)
{
    ptrarray *words;
    PyObject *refused = NULL;
    REFS_BEGIN_LIST(items);
    Py_ssize_t n = PySequence_Fast_GET_SIZE(items);
    PyObject **item = PySequence_Fast_ITEMS(items);
    words = ptrarray_new(l->state->heap, (size_t)n);
    Py_ssize_t i = 0;
    for (; words != NULL && i < n; i++) {
        if (qc_unlikely(!any && state_is_sentinel(l->state, item[i]))) {
            refused = item[i]; /* lives as long as the module */
            break;
        }
        ptrarray_put(words, (size_t)i, refs_new_word(item[i]));
    }
    if (words != NULL)
        ptrarray_filled(words, (size_t)i);
    REFS_END_LIST();
    if (refused != NULL) {
        ptrarray_drop(words, 0, refs_release);
        state_refuse(refused);
        return NULL;
    }
    if (words == NULL)
        PyErr_NoMemory();
    return words;
}

/* Makes room for one more in an array that nobody else has. */
static bool
grow(heap *h, ptrarray **words)
{
    ptrarray *bigger = ptrarray_bigger(h, *words, 1);
    if (bigger == NULL)
        return false;
    ptrarray_free(*words);
    *words = bigger;
    return true;
}

/* The most elements that a wrong hint may allocate in vain. */
#define HINT_MOST ((Py_ssize_t)1 << 20)

/* The length that is expected of an iterable without a hint. */
#define HINT_NONE 8

/* If less than half of the array is used, since the hint was too large: an exact one. */
static ptrarray *
cut_back(heap *h, ptrarray *words)
{
    size_t n = ptrarray_size(words);
    if (words->capacity <= HINT_NONE || n >= words->capacity / 2)
        return words;
    ptrarray *exact = ptrarray_new(h, n);
    if (exact == NULL)
        return words;
    if (n > 0)
        ptrarray_append_all(exact, words);
    ptrarray_free(words);
    return exact;
}

/* What an iterator has left.  NULL with an exception. */
static ptrarray *
words_of_iterator(list_object *l, PyObject *iterator, Py_ssize_t hint)
{
    ptrarray *words = ptrarray_new(l->state->heap, (size_t)(hint < HINT_MOST ? hint : HINT_MOST));
    iternextfunc next = Py_TYPE(iterator)->tp_iternext;
    PyObject *item = NULL;
    bool may = words != NULL;
    while (may && (item = next(iterator)) != NULL) {
        may = state_may_store(l->state, item);
        if (!may) {
            Py_DECREF(item);
            break;
        }
        qc_word word = refs_given_word(item);
        if (qc_unlikely(!ptrarray_append(words, word))) {
            may = grow(l->state->heap, &words);
            if (may)
                ptrarray_append(words, word);
            else {
                refs_release(word);
                PyErr_NoMemory();
            }
        }
    }
    if (words == NULL)
        PyErr_NoMemory();
    else if (may && PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_StopIteration))
        PyErr_Clear();
    if (words == NULL || !PyErr_Occurred())
        return words == NULL ? NULL : cut_back(l->state->heap, words);
    ptrarray_drop(words, 0, refs_release);
    return NULL;
}

ptrarray *
list_words_from(list_object *l, PyObject *iterable, const char *if_not)
{
    /* T7: before there is another array, not only before it is published. */
    if (list_begin_write(l) == NULL)
        return NULL;
    /* An overridden __iter__ of a subclass counts, as with list. */
    if (Py_IS_TYPE(iterable, l->state->list_type) || iterable == (PyObject *)l)
        return list_moment(list_of(iterable));
    if (PyTuple_CheckExact(iterable) || PyList_CheckExact(iterable))
        return list_words_of(l, iterable, false);
    PyObject *iterator = PyObject_GetIter(iterable);
    if (iterator == NULL) {
        if (if_not != NULL && PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_SetString(PyExc_TypeError, if_not);
        return NULL;
    }
    Py_ssize_t hint = PyObject_LengthHint(iterable, HINT_NONE);
    ptrarray *words = hint < 0 ? NULL : words_of_iterator(l, iterator, hint);
    Py_DECREF(iterator);
    return words;
}

/* Replaces all at once by `fresh`, which it takes over: 0, or -1 with MemoryError
 * and the list as it was. */
int
list_replace(list_object *l, ptrarray *fresh)
{
    list_writing w;
    if (list_write_begin(&w, l) != NULL) {
        list_write_array(&w, fresh, WORDS_DROPPED);
        list_write_end(&w);
        return 0;
    }
    ptrarray_drop(fresh, 0, refs_release);
    return -1;
}

/* ---- one element ---- */

QC_WORDS_ONLY int
list_set(list_object *l, Py_ssize_t index, PyObject *value)
{
    list_writing w;
    if (!state_may_store(l->state, value))
        return -1;
    ptrarray *a = list_write_begin(&w, l);
    if (a == NULL)
        return -1;
    size_t size = ptrarray_size(a);
    size_t i = (size_t)index + (index < 0 ? size : 0);
    bool inside = i < size;
    if (inside)
        w.word = ptrarray_set(&l->array, i, refs_new_word(value));
    list_write_end(&w);
    if (!inside)
        PyErr_SetString(PyExc_IndexError, "list assignment index out of range");
    return inside ? 0 : -1;
}

/* ---- the end of the list ---- */

/* Appends the words of `more`, or the one word if there is none, to an array. */
static bool
add_to(ptrarray *a, ptrarray *more, qc_word word)
{
    return more == NULL ? ptrarray_append(a, word) : ptrarray_append_all(a, more);
}

bool
list_add_locked(list_writing *w, ptrarray *a, ptrarray **more, qc_word word)
{
    if (add_to(a, *more, word))
        return true;
    if (a == &ptrarray_none && *more != NULL) {
        list_write_array(w, *more, WORDS_MOVED);
        *more = NULL;
        return true;
    }
    size_t n = *more == NULL ? 1 : ptrarray_size(*more);
    ptrarray *fresh = ptrarray_bigger(w->list->state->heap, a, n);
    bool done = fresh != NULL && (a == &ptrarray_none || list_write_may_take(w));
    if (done) {
        add_to(fresh, *more, word);
        list_write_array(w, fresh, WORDS_MOVED);
    }
    else if (fresh != NULL) {
        ptrarray_free(fresh);
    }
    return done;
}

bool
list_add(list_object *l, ptrarray *more, qc_word word)
{
    list_writing w;
    ptrarray *a = list_write_begin(&w, l);
    if (a == NULL)
        return false;
    bool done = list_add_locked(&w, a, &more, word);
    list_write_end(&w);
    if (!done)
        PyErr_NoMemory();
    else if (more != NULL)
        ptrarray_free(more);
    return done;
}

PyObject *
list_append_any(PyObject *self, PyObject *value)
{
    list_object *l = list_of(self);
    if (!state_may_store(l->state, value) || list_begin(l) == NULL)
        return NULL;
    qc_word word = refs_new_word(value);
    list_lock(l);
    bool done = ptrarray_append(ptrarray_locked(&l->array), word);
    list_unlock(l);
    if (qc_unlikely(!done) && !list_add(l, NULL, word)) {
        refs_release(word);
        return NULL;
    }
    Py_RETURN_NONE;
}

const char list_extend_doc[] =
    "extend($self, iterable, /)\n--\n\n"
    "Append all elements of iterable.\n\n"
    "Atomic: the iterable is used up first, without the lock, then all elements\n"
    "appear at once; other threads may write in between. If the iterable raises,\n"
    "the list is unchanged. Another ConcurrentList is taken as it is at one moment.";

PyObject *
list_extend(PyObject *self, PyObject *iterable)
{
    ptrarray *more = list_words_from(list_of(self), iterable, NULL);
    if (more == NULL)
        return NULL;
    if (!list_add(list_of(self), more, 0)) {
        ptrarray_drop(more, 0, refs_release);
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
list_iadd(PyObject *self, PyObject *iterable)
{
    PyObject *none = list_extend(self, iterable);
    if (none == NULL)
        return NULL;
    Py_DECREF(none);
    return Py_NewRef(self);
}

const char list_clear_doc[] =
    "clear($self, /)\n--\n\n"
    "Remove all elements.\n\n"
    "Atomic: takes the list's lock, and readers see all elements or none.";

PyObject *
list_clear(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (list_replace(list_of(self), &ptrarray_none) < 0)
        return NULL;
    Py_RETURN_NONE;
}
