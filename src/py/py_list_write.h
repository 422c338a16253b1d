/* What every operation has in common that changes a ConcurrentList under its lock. */
#ifndef PY_LIST_WRITE_H
#define PY_LIST_WRITE_H

#include "py/py_list.h"

/* From list_write_begin to list_write_end the lock is held.  What is taken out in
 * between, LIST_GONE_MOST things at most (an array and what was in it), is `gone` to
 * readers that come later: list_write_may_take first, before anything is changed (T2),
 * then the change, then list_write_gone.  list_write_end does away with it, at once if
 * the list is unshared, or leaves it to the queue (T1, K8). */
#define LIST_GONE_MOST 2

typedef struct {
    list_object *list;
    retire_local *local;
    struct {
        retire_fn fn;
        uint64_t arg;
    } gone[LIST_GONE_MOST];
    unsigned n_gone;
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

/* False: no memory. */
bool list_write_may_take(list_writing *w);

/* `bytes` of memory, or none: a reference. */
void list_write_gone(list_writing *w, retire_fn fn, uint64_t arg, size_t bytes);

void list_write_end(list_writing *w);

/* The same for one who has unlocked the list before. */
void list_write_finish(list_writing *w);

/* retire_fn: an array whose words have moved to another one. */
void list_free_array(uint64_t array);

/* retire_fn: an array and its references, as one item (K8). */
void list_drop_array(uint64_t array);

/* Publishes `fresh`; what was there before is gone, in the way `fn` says. */
void list_write_array(list_writing *w, ptrarray *fresh, retire_fn fn);

/* Replaces `out` words from `at` on by `n` others, at once: true, and the words taken out
 * are the caller's; false without memory.  In place if that is one store for readers, or
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
