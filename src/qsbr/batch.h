/* What the parts of the retire queue share: retire.c puts items into batches and counts
 * them, retire_locals.c finds and mends locals, retire_look.c looks after others'
 * batches, retire_run.c runs them.  For these files only. */
#ifndef QSBR_BATCH_H
#define QSBR_BATCH_H

#include "qsbr/retire.h"

typedef struct {
    retire_fn fn;
    uint64_t arg;
} retire_item;

/* Read and written by the thread that has taken it, and by no other. */
struct retire_batch {
    retire_batch *next;
    uint64_t goal; /* 0 while open */
    size_t bytes;
    size_t published; /* of `bytes`, in the queue's: all of them where it is `held` */
    size_t look_at;   /* while open: more bytes than these make a difference to others */
    size_t largest;   /* of its blocks */
    uint32_t n;       /* items put in */
    uint32_t first;   /* items run */
    uint32_t blocks;
    bool held; /* its items are in the queue's */
    retire_item items[RETIRE_BATCH_ITEMS];
};

/* ---- chains ----
 *
 * A chain is a circle of batches, known by its newest one, whose `next` is the oldest:
 * appending a chain and looking at the oldest goal are O(1). */

static inline retire_batch *
retire_chain_of(retire_batch *batch)
{
    batch->next = batch;
    return batch;
}

static inline retire_batch *
retire_chain_append(retire_batch *newest, retire_batch *more)
{
    if (newest == NULL || more == NULL)
        return newest == NULL ? more : newest;
    retire_batch *oldest = newest->next;
    newest->next = more->next;
    more->next = oldest;
    return more;
}

/* ---- the open word (retire.h) ---- */

#define RETIRE_LISTED ((uintptr_t)1)
#define RETIRE_IN_HAND ((uintptr_t)2)

static inline retire_batch *
retire_batch_of(uintptr_t word)
{
    return (retire_batch *)(word & ~(RETIRE_LISTED | RETIRE_IN_HAND));
}

/* Whether the owner, which found `was`, is to list its local.  (A word that was found in
 * hand is what a fork left that came all the same, after a second: whether the local is
 * on the list is not known then, and twice would be worse than not.) */
static inline bool
retire_is_off(uintptr_t was)
{
    return (was & (RETIRE_LISTED | RETIRE_IN_HAND)) == 0;
}

/* The owner takes the word, and gives it back with `batch` (or NULL) as the open one.
 * Only the owner gives a local something to hold, with the word in hand; a word that
 * was taken unlisted is given back listed.  retire_allot comes before what is
 * published, where the word was not listed: it says what may stay unpublished. */
void retire_allot(retire_local *local);
void retire_push(retire_queue *queue, retire_local *local);

static inline uintptr_t
retire_take(retire_local *local)
{
#ifdef QC_BREAK_LISTED_BY_A_LOOK
    uintptr_t seen = qc_load_relaxed(&local->open);
#endif
    qc_yield("held: take");
    /* acquire: partners are the release in retire_give_back, where the thread that had
     * the local before stored, and the CAS in look_at: the looker has read `busy_next`
     * before the owner, which finds the word off, writes it. */
    uintptr_t was = qc_exchange_acq_rel(&local->open, RETIRE_IN_HAND);
#ifdef QC_BREAK_LISTED_BY_A_LOOK
    was = (uintptr_t)retire_batch_of(was) | (seen & RETIRE_LISTED);
#endif
    return was;
}

static inline void
retire_give_back(retire_local *local, uintptr_t was, retire_batch *batch)
{
    qc_yield("held: in hand");
    /* release: partners are the CAS in look_at and retire_take; whoever takes the batch
     * has all that was put in. */
    qc_store_release(&local->open, (uintptr_t)batch | RETIRE_LISTED);
    if (qc_unlikely(retire_is_off(was)))
        retire_push(local->queue, local);
}

/* The owner appends a chain to its closed ones. */
void retire_append_closed(retire_local *local, retire_batch *chain);

/* The mender's part in look: what the looker, which is gone, had in hand is back. */
void retire_mend_look(retire_queue *queue, bool (*is_gone)(retire_local *));

/* T6: whether to take others' batches that are younger than RETIRE_QUIET_NS too. */
typedef enum { ONLY_QUIET, ALL_OF_THEM } retire_whose;

/* Looks after others, if it is time and no other thread does; `wait`: in any case. */
void retire_look(retire_local *local, retire_whose whose, bool wait);

/* What threads that ended have left in up to `most` locals more is freed. */
bool retire_may_sweep(retire_queue *queue);
void retire_sweep(retire_queue *queue, size_t most);

/* ---- counting (T7) ---- */

uint64_t retire_now_ns(void);

/* As a new one: for the next operation. */
void retire_make_empty(retire_batch *batch);

/* The bytes of `from`'s open batch that the queue does not know of are in the queue's. */
void retire_publish(retire_local *from, retire_batch *batch);
/* The same, and the items: the batch, which is in its taker's hands, is closed. */
void retire_hold(retire_local *from, retire_batch *batch);
/* A batch's bytes and items cease to be held: it is about to be run. */
void retire_unhold(retire_queue *queue, retire_batch *batch);

/* The goal of a batch, or of a chain of them, that is in its taker's hands: the advance
 * comes after the taking. */
void retire_tag(retire_queue *queue, retire_batch *chain);

/* The owner's open batch, which it has in hand, is closed. */
void retire_close(retire_local *local, retire_batch *batch);

/* T7: looks at what is held once more. */
void retire_weigh(retire_queue *queue);

/* Q10: in the child of a fork, once.  `mine` is the calling thread's record. */
void retire_mend(retire_queue *queue, qsbr_record *mine);

#endif
