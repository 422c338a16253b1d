/* The retire queue: the list of locals that hold batches, and the thread that looks after
 * them (T6).  retire.h has the argument. */
#include "qsbr/batch.h"

#include <sched.h>
#include <stdlib.h>

/* How many locals each look visits, beside the list, for what ended threads have left. */
#define SWEEP_A_LOOK 32

/* ---- the list ---- */

void
retire_push(retire_queue *queue, retire_local *local)
{
    retire_local *head = qc_load_relaxed(&queue->busy);
    do
        local->busy_next = head;
    /* release: partner is the exchange in look.  Without it the looker may not find
     * `busy_next`. */
    while (!qc_cas_acq_rel(&queue->busy, &head, local));
}

void
retire_allot(retire_local *local)
{
    uint64_t n = qc_add_relaxed(&local->queue->listed, 1u);
    local->allowance = n < RETIRE_ALLOWANCES ? retire_allowance() : 0;
}

/* ---- the looker ---- */

/* Visits `l`: takes its batches and takes it off the list.  If its batch is too young or its
 * owner has the word in hand, `l` goes back on the list instead. */
static void
look_at(retire_local *local, retire_local *l, retire_whose whose, uint64_t now)
{
    retire_queue *queue = local->queue;
    uintptr_t word = qc_load_acquire(&l->open);
    bool empty = retire_batch_of(word) == NULL && qc_load_relaxed(&l->closed) == NULL;
    bool young = whose == ONLY_QUIET && !empty &&
                 (int64_t)(now - qc_load_relaxed(&l->since)) < (int64_t)retire_limit.quiet_ns;
    qc_yield("held: look");
#ifdef QC_BREAK_TAKEN_FROM_THE_HAND
    if (young) {
        retire_push(queue, l);
        return;
    }
    word = qc_exchange_acq_rel(&l->open, (uintptr_t)0);
#else
    /* acquire: partner is the release in retire_give_back, without which the looker may miss
     * items.  release: partner is the acquire in retire_take, which says why. */
    if ((word & RETIRE_IN_HAND) != 0 || young || !qc_cas_acq_rel(&l->open, &word, (uintptr_t)0)) {
        retire_push(queue, l);
        return;
    }
#endif
    qc_sub_relaxed(&queue->listed, 1u);
    qc_yield("held: taken off");
    retire_batch *open = retire_batch_of(word);
    if (open != NULL) {
        retire_hold(l, open);
        local->gathered_open = retire_chain_append(local->gathered_open, retire_chain_of(open));
    }
    if (qc_load_relaxed(&l->closed) != NULL) {
        /* acquire: partner is the release in retire_append_closed. */
        retire_batch *closed = qc_exchange_acq_rel(&l->closed, NULL);
        local->gathered = retire_chain_append(local->gathered, closed);
    }
}

/* Tags all open batches that were gathered, with one advance and one goal, and closes them. */
static void
keep_gathered(retire_local *local)
{
    qsbr_hold_forks(local->rec);
    if (local->gathered_open != NULL)
        retire_tag(local->queue, local->gathered_open);
    retire_batch *chain = retire_chain_append(local->gathered, local->gathered_open);
    if (chain != NULL) {
        uintptr_t was = retire_take(local);
        if (retire_is_off(was))
            retire_allot(local);
        retire_append_closed(local, chain);
        local->gathered = local->gathered_open = NULL;
        qc_store_relaxed(&local->since, retire_now_ns());
        retire_give_back(local, was, retire_batch_of(was));
    }
    qsbr_let_forks(local->rec);
}

static void
look(retire_local *local, retire_whose whose)
{
    retire_queue *queue = local->queue;
    uint64_t now = retire_now_ns();
#ifdef QC_BREAK_GOAL_BEFORE_BATCH
    uint64_t early = qsbr_advance(queue->domain);
#endif
    qsbr_hold_forks(local->rec); /* a child could not find the list on its way */
    /* acquire: partner is the release in retire_push. */
    queue->looking = qc_exchange_acq_rel(&queue->busy, NULL);
    qsbr_let_forks(local->rec);
    retire_local *l;
    while ((l = queue->looking) != NULL) {
        qsbr_hold_forks(local->rec);
        queue->looking = l->busy_next;
        look_at(local, l, whose, now);
        qsbr_let_forks(local->rec);
        local->steps++;
    }
#ifdef QC_BREAK_GOAL_BEFORE_BATCH
    retire_batch *b = local->gathered_open;
    for (; b != NULL && b->goal == 0; b = b->next)
        b->goal = early;
#endif
    keep_gathered(local);
}

void
retire_look(retire_local *local, retire_whose whose, bool wait)
{
    retire_queue *queue = local->queue;
    bool nothing = qc_load_relaxed(&queue->busy) == NULL && !retire_may_sweep(queue);
    if (!wait && (nothing || (int64_t)(retire_now_ns() - qc_load_relaxed(&queue->next_look)) < 0))
        return;
    retire_local *none = NULL;
    /* acquire: partner is the release below.  Without it this looker may not see `looking`
     * and the sweep's place as the last one left them. */
    while (!qc_cas_acq_rel(&queue->looker, &none, local)) {
        if (!wait)
            return;
        none = NULL;
        sched_yield(); /* a look is bounded; the looker neither detaches nor waits for readers */
    }
    qc_store_relaxed(&queue->next_look, retire_now_ns() + retire_limit.look_ns);
    if (qc_load_relaxed(&queue->bytes) > retire_limit.queue_bytes)
        whose = ALL_OF_THEM;
    look(local, whose);
    retire_sweep(queue, wait ? SIZE_MAX : SWEEP_A_LOOK);
    qc_store_release(&queue->looker, NULL);
}

void
retire_mend_look(retire_queue *queue, bool (*is_gone)(retire_local *))
{
    retire_local *looker = qc_load_acquire(&queue->looker);
    if (looker == NULL || !is_gone(looker))
        return;
    retire_local *l;
    while ((l = queue->looking) != NULL) {
        queue->looking = l->busy_next;
        retire_push(queue, l);
    }
    qc_store_relaxed(&queue->next_look, 0u);
    qc_store_release(&queue->looker, NULL);
}
