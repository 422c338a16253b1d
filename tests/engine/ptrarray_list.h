/* A list's operations on a pointer array, without references, for its test programs. */
#ifndef ENGINE_PTRARRAY_LIST_H
#define ENGINE_PTRARRAY_LIST_H

#include "containers/ptrarray_read.h"
#include "harness.h"

static heap *words_heap;
static ptrarray_root list;

static inline ptrarray *
lock(void)
{
    if (qc_lock_acquire(&list.lock) == QC_LOCK_ORPHANED)
        ptrarray_mend(&list); /* Q10 */
    return ptrarray_locked(&list);
}

static inline void
unlock(void)
{
    qc_lock_release(&list.lock);
}

/* Returns the array that was replaced, or NULL. */
static inline ptrarray *
append_locked(qc_word word)
{
    ptrarray *a = ptrarray_locked(&list);
    if (ptrarray_append(a, word))
        return NULL;
    ptrarray *fresh = ptrarray_bigger(words_heap, a, 1);
    CHECK(fresh != NULL && ptrarray_append(fresh, word));
    CHECK(ptrarray_publish(&list, fresh) == a);
    return a;
}

static inline void
append(qc_word word)
{
    lock();
    ptrarray *old = append_locked(word);
    unlock();
    if (old != NULL)
        ptrarray_free(old); /* the protocol tests look, and do not keep */
}

static inline qc_word
pop(void)
{
    qc_word word = ptrarray_pop(lock());
    unlock();
    return word;
}

static inline void
set(size_t i, qc_word word)
{
    lock();
    ptrarray_set(&list, i, word);
    unlock();
}

static inline void
ignore(qc_word word)
{
    (void)word;
}

static inline void
fill(size_t n)
{
    ptrarray_drop(ptrarray_take(&list), 0, ignore);
    for (size_t i = 0; i < n; i++)
        append(word_from_int((int64_t)i));
}

static inline ptrarray_result
get(size_t i, qc_word *word)
{
    *word = WORD_EMPTY;
    qsbr_enter(qsbr_self);
    ptrarray_result result = ptrarray_get(&list, qsbr_self, i, word);
    qsbr_exit(qsbr_self);
    return result;
}

static inline ptrarray_result
get_back(size_t back, qc_word *word)
{
    *word = WORD_EMPTY;
    qsbr_enter(qsbr_self);
    ptrarray_result result = ptrarray_get_from_end(&list, qsbr_self, back, word);
    qsbr_exit(qsbr_self);
    return result;
}

static inline size_t
len(void)
{
    qsbr_enter(qsbr_self);
    size_t n = ptrarray_len(&list, qsbr_self);
    qsbr_exit(qsbr_self);
    return n;
}

#define HAS(i, v) (get((i), &word) == PTRARRAY_HIT && word == word_from_int(v))
#define ENDS(back, v) (get_back((back), &word) == PTRARRAY_HIT && word == word_from_int(v))

static inline void
list_begin_tests(void)
{
    harness_init(true);
    CHECK(qsbr_register_process() != NULL);
    words_heap = heap_new(&qsbr_process);
    ptrarray_init(&list);
}

static inline void
list_end_tests(void)
{
    fill(0);
    heap_delete(words_heap);
}

#endif
