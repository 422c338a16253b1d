/* What every operation has in common that changes a ConcurrentList under its lock. */
#ifndef PY_LIST_WRITE_H
#define PY_LIST_WRITE_H

#include "py/py_list.h"

/* From list_write_begin to list_write_end the lock is held.  What a change takes out in
 * between is done away with by list_write_end, after unlocking.
 *
 *   words    dropped there, by the thread that took them out, shared or not (K8): readers
 *            that still find one do not believe it (ptrarray_is_still)
 *   arrays   freed there if the list is unshared; else left to the queue (T1), for which
 *            list_write_may_take reserves before anything is changed (T2) */
typedef struct {
    list_object *list;
    retire_local *local;
    qc_word word;    /* was taken out, or WORD_EMPTY */
    ptrarray *words; /* the same, several, in an array of this thread's, or NULL */
    ptrarray *array; /* was replaced, or NULL: memory alone */
    ptrarray *whole; /* was replaced, or NULL: memory and words */
    bool shared, reserved;
} list_writing;

/* The list's array; NULL with an exception, and nothing is held then. */
ptrarray *list_write_begin(list_writing *w, list_object *l);

/* Whether what shifts elements may do so where they are: nobody else reads (A3, T1). */
static inline bool
list_write_in_place(const list_writing *w)
{
#ifdef QC_BREAK_LIST_SHIFT_IN_PLACE
    return true;
#endif
    return !w->shared;
}

/* Before an array may be replaced whose words move to another.  False: no memory. */
bool list_write_may_take(list_writing *w);

/* Does away with an array that readers may still have, whose words are not its any more. */
void list_write_free(list_writing *w, ptrarray *a);

void list_write_end(list_writing *w);

/* The same for one who has unlocked the list before. */
void list_write_finish(list_writing *w);

/* Publishes `fresh`.  What was there before has moved its words to that, or `dropped` them. */
typedef enum { WORDS_MOVED, WORDS_DROPPED } list_words;
void list_write_array(list_writing *w, ptrarray *fresh, list_words words);

/* Replaces `out` words from `at` on by `n` others, at once: true, and the words taken out
 * are the caller's; false without memory, and nothing is changed.  In place if that is one store for readers, or
 * if there are none.  list_write_may_take has said yes. */
bool list_splice(list_writing *w, ptrarray *a, size_t at, size_t out, const qc_word *in, size_t n);

/* Takes out one element and drops it: false without memory, the list as it was. */
bool list_cut_one(list_writing *w, ptrarray *a, size_t at);

/* Appends words, at once, of the array `more`, which it takes over with them, or the one
 * word if that is NULL: true; false with MemoryError, the list as it was and the words
 * still the caller's. */
bool list_add(list_object *l, ptrarray *more, qc_word word);

/* The same with the lock, without the exception, and once in a list_writing.  *more is NULL
 * if its memory is the list's now, else the caller's to free afterwards. */
bool list_add_locked(list_writing *w, ptrarray *a, ptrarray **more, qc_word word);

#endif
