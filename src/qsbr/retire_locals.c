/* The retire queue: the locals of records, from a record's first thread to its last, and
 * the effects on them of a fork and of the end of a thread. */
#include "qsbr/batch.h"

#include <stdlib.h>

/* ---- the index: a record's local in O(1) ---- */

/* Segment s has the locals of 32 << s records; those before it have 32 * (2^s - 1). */
static unsigned
segment_of(uint32_t number, uint32_t *place)
{
    uint32_t n = number / QSBR_CHUNK_RECORDS + 1;
    unsigned s = 31u - (unsigned)__builtin_clz(n);
    *place = number - QSBR_CHUNK_RECORDS * (((uint32_t)1 << s) - 1);
    return s;
}

retire_local *
retire_local_find(retire_queue *queue, qsbr_record *rec)
{
    uint32_t place;
    unsigned s = segment_of(rec->number, &place);
    /* acquire: partners are the releases in local_new. */
    retire_segment *segment = qc_load_acquire(&queue->segments[s]);
    return segment == NULL ? NULL : qc_load_acquire(&segment[place]);
}

/* Under the queue's lock. */
static retire_local *
local_new(retire_queue *queue, qsbr_record *rec)
{
    uint32_t place;
    unsigned s = segment_of(rec->number, &place);
    retire_segment *segment = qc_load_relaxed(&queue->segments[s]);
    if (segment == NULL) {
        segment = calloc((size_t)QSBR_CHUNK_RECORDS << s, sizeof *segment);
        if (segment == NULL)
            return NULL;
        /* release: partner is retire_local_find. */
        qc_store_release(&queue->segments[s], segment);
    }
    retire_local *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->rec = rec;
    l->queue = queue;
    l->next = qc_load_relaxed(&queue->locals);
    /* release: partners are the acquire loads of those that walk all locals. */
    qc_store_release(&queue->locals, l);
    qc_store_release(&segment[place], l); /* partner: retire_local_find */
    return l;
}

/* ---- threads that are gone ---- */

/* Whether the thread of `local` has ended, or was left behind by a fork.
 * acquire: partners are the releases in the registry's unregister and, if another thread
 * has the record by now, in register_record.  Without it this thread may miss what that
 * one did with its local. */
static bool
is_gone(retire_local *local)
{
    return qc_load_acquire(&local->rec->registered) == 0 ||
           qc_load_acquire(&local->rec->tenure) != local->tenure;
}

/* Counts a batch again that the queue's counts did not include: its bytes, and the items
 * that have not run.  The local's `in` rises here because retire_hold raises its `out`. */
static void
count_again(retire_local *local, retire_batch *batch)
{
    qc_add_relaxed(&local->in_bytes, batch->bytes);
    qc_add_relaxed(&local->in_items, batch->n - batch->first);
    retire_hold(local, batch);
}

/* Closes the batches that a thread which is gone had in hand; they hold everything that it
 * had unlinked by then.  The caller holds forks back.  Otherwise the child of a second fork
 * could find a batch twice, or not at all. */
static void
settle(retire_local *local)
{
    retire_batch *running = local->running, *taken = local->taken, *chain = NULL;
    retire_batch *gathered = local->gathered, *opened = local->gathered_open;
    if (local->spare == taken) /* reserving, or done with nothing to retire */
        local->spare = NULL;
    /* Cleared first, so that a fork that stops waiting leaks a batch rather than doubles it. */
    local->running = local->taken = local->gathered = local->gathered_open = NULL;
    qc_yield("settle");
    while (running != NULL) {
        retire_batch *next = running->next;
        if (!running->held)
            count_again(local, running);
        chain = retire_chain_append(chain, retire_chain_of(running));
        running = next;
    }
    chain = retire_chain_append(chain, gathered);
    if (taken != NULL && taken->n == 0) {
        free(taken);
        taken = NULL;
    }
    if (taken != NULL) {
        count_again(local, taken);
        opened = retire_chain_append(opened, retire_chain_of(taken));
    }
    if (opened != NULL)
        retire_tag(local->queue, opened);
    chain = retire_chain_append(chain, opened);
    if (chain != NULL) {
        uintptr_t was = retire_take(local);
        if (retire_is_off(was))
            retire_allot(local);
        retire_append_closed(local, chain);
        retire_give_back(local, was, retire_batch_of(was));
    }
    local->processing = local->tell = false;
}

void
retire_mend(retire_queue *queue, qsbr_record *mine)
{
    /* acquire: partner is the release below. */
    if (qc_likely(qc_load_acquire(&queue->generation) == qc_fork_generation))
        return;
    qc_lock_acquire(&queue->lock); /* an orphan needs no repair: the list grows by one store */
    if (qc_load_relaxed(&queue->generation) != qc_fork_generation) {
#ifndef QC_BREAK_MENDED_BESIDE_FORKS
        qsbr_hold_forks(mine);
#endif
        retire_mend_look(queue, is_gone);
        /* The forking thread's own local stays: that thread may be in the middle of an item. */
        for (retire_local *l = qc_load_acquire(&queue->locals); l != NULL; l = l->next)
            if (is_gone(l))
                settle(l);
        qsbr_let_forks(mine);
        qc_store_release(&queue->generation, qc_fork_generation);
    }
    qc_lock_release(&queue->lock);
}

retire_local *
retire_local_get(retire_queue *queue, qsbr_record *rec)
{
    retire_mend(queue, rec);
    qc_lock_acquire(&queue->lock);
    retire_local *l = retire_local_find(queue, rec);
    if (l == NULL)
        l = local_new(queue, rec);
    uint64_t tenure = qc_load_relaxed(&rec->tenure);
    if (l != NULL && l->tenure != tenure) {
        qsbr_hold_forks(rec);
        if (l->tenure != 0)
            settle(l);
        l->tenure = tenure;
        qsbr_let_forks(rec);
    }
    qc_lock_release(&queue->lock);
    return l;
}

/* ---- what ended threads leave ---- */

#define SWEPT_AT_ONCE 32

/* Whether the OS thread has ended.  (A thread that has only unregistered may come back to a
 * local that it remembers.)  acquire: partners are the last drop of the record's references
 * and, if another thread has the record by now, register_record; without it this thread may
 * miss what the ended one left.  A new thread finds the local under the queue's lock only. */
static bool
has_ended(retire_local *local)
{
    return qc_load_acquire(&local->rec->refs) == 0 ||
           qc_load_acquire(&local->rec->tenure) != local->tenure;
}

bool
retire_may_sweep(retire_queue *queue)
{
    return qc_load_relaxed(&queue->swept_ends) != qc_load_relaxed(&queue->domain->ends);
}

void
retire_sweep(retire_queue *queue, size_t most)
{
    if (!retire_may_sweep(queue))
        return;
    void *kept[SWEPT_AT_ONCE], *spare[SWEPT_AT_ONCE];
    while (most > 0) {
        size_t n = 0, n_kept = 0, n_spare = 0;
        if (!qc_lock_try(&queue->lock))
            return; /* at the next look */
        if (queue->sweep_at == NULL) {
            queue->sweep_ends = qc_load_relaxed(&queue->domain->ends);
            queue->sweep_at = qc_load_acquire(&queue->locals);
        }
        retire_local *l = queue->sweep_at;
        for (; l != NULL && n < SWEPT_AT_ONCE && n < most; l = l->next, n++) {
            if (!has_ended(l))
                continue;
            if (l->spare != NULL && l->spare != l->taken)
                spare[n_spare++] = l->spare;
            l->spare = NULL;
            if (l->kept_above != NULL && queue->drop_kept != NULL) {
                kept[n_kept++] = l->kept_above;
                l->kept_above = NULL;
            }
        }
        queue->sweep_at = l;
        if (l == NULL) /* the next sweep finds threads that ended during this one */
            qc_store_relaxed(&queue->swept_ends, queue->sweep_ends);
        qc_lock_release(&queue->lock);
        while (n_spare > 0)
            free(spare[--n_spare]);
        while (n_kept > 0)
            queue->drop_kept(kept[--n_kept]);
        most = l == NULL ? 0 : most - n;
    }
}
