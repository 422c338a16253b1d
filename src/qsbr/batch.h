/* Internals of the retire queue, for its own files only.  retire.c puts items into batches
 * and counts them, retire_locals.c finds and mends locals, retire_look.c collects the
 * batches of other threads, retire_run.c runs batches. */
#ifndef QSBR_BATCH_H
#define QSBR_BATCH_H

#include "qsbr/retire.h"

typedef struct {
    retire_fn fn;
    uint64_t arg;
} retire_item;

/* Only the thread that has taken a batch reads or writes it. */
struct retire_batch {
    retire_batch *next;
    uint64_t goal; /* 0 while open */
    size_t bytes;
    size_t published; /* the part of `bytes` that the queue's count includes; all once `held` */
    size_t look_at;   /* while open: above this many bytes has_many_bytes decides */
    size_t largest;   /* bytes of its largest block */
    uint32_t n;       /* items put in */
    uint32_t first;   /* items run */
    uint32_t blocks;
    bool held; /* the queue's counts include all its bytes and items */
    retire_item items[RETIRE_BATCH_ITEMS];
};

/* ---- chains ----
 *
 * A chain is a circular list of batches, referred to by its newest one, whose `next` is the
 * oldest.  So appending a chain and reading the oldest goal are O(1). */

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

/* Whether the owner, which found `was`, has to list its local.  The owner finds IN_HAND only
 * after a fork that stopped waiting after its second.  Whether the local is on the list is
 * unknown then, and the owner does not list it: only its owner runs the batches of an unlisted
 * local, but a local that is listed twice breaks the list. */
static inline bool
retire_is_off(uintptr_t was)
{
    return (was & (RETIRE_LISTED | RETIRE_IN_HAND)) == 0;
}

/* The owner takes the word with retire_take and gives it back with retire_give_back, with
 * `batch` (or NULL) as the open one.  A word that was off comes back LISTED.  In that case the
 * owner calls retire_allot before it publishes bytes, since the allowance decides how many
 * may stay unpublished. */
void retire_allot(retire_local *local);
void retire_push(retire_queue *queue, retire_local *local);

static inline uintptr_t
retire_take(retire_local *local)
{
#ifdef QC_BREAK_LISTED_BY_A_LOOK
    uintptr_t seen = qc_load_relaxed(&local->open);
#endif
    qc_yield("held: take");
    /* acquire: partners are the release in retire_give_back by the thread that had the
     * local before, without which this owner misses items of the batch, and the CAS in
     * look_at, without which this owner may overwrite `busy_next` before the looker has
     * read it.  release: partner is the acquire of that same CAS. */
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
    /* release: partners are the CAS in look_at and the exchange in retire_take.  Without it
     * the thread that takes the batch may miss items that were put in. */
    qc_store_release(&local->open, (uintptr_t)batch | RETIRE_LISTED);
    if (qc_unlikely(retire_is_off(was)))
        retire_push(local->queue, local);
}

/* The owner appends a chain to its closed batches. */
void retire_append_closed(retire_local *local, retire_batch *chain);

/* Q10: if a fork left the looker behind, the locals that it still had to visit go back on
 * the list, and another thread may look. */
void retire_mend_look(retire_queue *queue, bool (*is_gone)(retire_local *));

/* T6: whether the looker also takes batches younger than RETIRE_QUIET_NS. */
typedef enum { ONLY_QUIET, ALL_OF_THEM } retire_whose;

/* Looks after other threads' locals, if a look is due and no other thread is looking.  With
 * `wait`: looks in any case, after the other looker. */
void retire_look(retire_local *local, retire_whose whose, bool wait);

/* Visits up to `most` further locals and frees what ended threads have left in them. */
bool retire_may_sweep(retire_queue *queue);
void retire_sweep(retire_queue *queue, size_t most);

/* ---- counting (T7) ---- */

/* Resets a batch that has run, for the next operation. */
void retire_make_empty(retire_batch *batch);

/* Adds the unpublished bytes of `from`'s open batch to the queue's count. */
void retire_publish(retire_local *from, retire_batch *batch);
/* The same for bytes and items.  The caller has taken the batch, and closes it. */
void retire_hold(retire_local *from, retire_batch *batch);
/* Takes a batch's bytes and items out of the queue's counts, just before it runs. */
void retire_unhold(retire_queue *queue, retire_batch *batch);

/* Advances once and tags a chain of batches with the goal.  The caller has taken the chain
 * before, so the advance comes after every unlink in it. */
void retire_tag(retire_queue *queue, retire_batch *chain);

/* Closes the owner's open batch.  The owner has the word in hand. */
void retire_close(retire_local *local, retire_batch *batch);

/* T7: compares what is held with the limit again, and sets `over`. */
void retire_weigh(retire_queue *queue);

/* Q10: in the child of a fork, once.  `mine` is the calling thread's record. */
void retire_mend(retire_queue *queue, qsbr_record *mine);

#endif
