/* The retire queue: safe points, the items that run there, and waits for them. */
#define _GNU_SOURCE
#include "qsbr/batch.h"

#include <stdlib.h>
#include <time.h>

/* ---- processing ---- */

/* Runs the batches whose goal is reached, oldest item first, and frees them.  Each item
 * is taken out before it runs, since it may enter this function through the containers, or
 * fork. */
static size_t
run_reached(retire_local *local)
{
    retire_queue *queue = local->queue;
    size_t n = 0;
    retire_batch *batch;
    while ((batch = local->running) != NULL) {
        n += batch->n - batch->first;
#ifndef QC_BREAK_COUNTED_BESIDE_FORKS
        qsbr_hold_forks(local->rec); /* `held` and the counts change together (settle) */
#endif
        retire_unhold(queue, batch);
        qsbr_let_forks(local->rec);
        qc_add_relaxed(&queue->items_run, batch->n - batch->first);
        qc_add_relaxed(&queue->bytes_run, batch->bytes);
        while (batch->first < batch->n) {
            retire_item item = batch->items[batch->first++];
            item.fn(item.arg);
        }
        local->running = batch->next;
        if (local->spare != NULL) {
            free(batch);
            continue;
        }
        retire_make_empty(batch);
        local->spare = batch;
    }
    return n;
}

/* Which open batches processing takes. */
typedef enum {
    LEAVE,     /* those of quiet threads: an ordinary safe point */
    MAKE_ROOM, /* all, unless another thread is looking or has just looked */
    COLLECT,   /* all, after another looker */
} patience;

/* T7: after a poll that says no, the next one comes after eight times its duration (at most
 * POLL_PAUSE_MOST ns), or after retire_limit.poll_ns if that is more.  So unsuccessful polls
 * take a bounded part of the time of all threads together. */
#define POLL_PAUSE_MOST (1000 * 1000)

static bool
poll_paced(retire_queue *queue, uint64_t goal)
{
    uint64_t began = retire_now_ns();
    if ((int64_t)(began - qc_load_relaxed(&queue->next_poll)) < 0)
        return false;
    if (qsbr_poll(queue->domain, goal))
        return true;
    if (retire_limit.poll_ns != 0) {
        uint64_t now = retire_now_ns(), pause = 8 * (now - began);
        pause = pause < POLL_PAUSE_MOST ? pause : POLL_PAUSE_MOST;
        pause = pause > retire_limit.poll_ns ? pause : retire_limit.poll_ns;
        qc_store_relaxed(&queue->next_poll, now + pause);
    }
    return false;
}

/* Polls for the oldest goal first: if that is not reached, none is, and one scan tells.  If
 * that poll left the barrier out because an earlier one covered its goal, the newest goal
 * needs a poll of its own. */
static void
poll_for(retire_queue *queue, uint64_t oldest, uint64_t newest)
{
    qsbr_domain *domain = queue->domain;
    if (!qsbr_goal_reached(domain, oldest) && !poll_paced(queue, oldest))
        return;
    if (!qsbr_goal_reached(domain, newest) && qsbr_before(qc_load_acquire(&domain->fenced), newest))
        (void)poll_paced(queue, newest);
}

/* Makes the thread's closed batches its running ones, oldest first, and returns the newest
 * one, or NULL.  Q10: a fork finds them there, also while this thread waits. */
static retire_batch *
take_closed(retire_local *local)
{
    qc_assert(local->running == NULL);
    qsbr_hold_forks(local->rec); /* a child could not find them on their way */
    /* acquire: partner is the release in retire_append_closed. */
    retire_batch *newest = qc_exchange_acq_rel(&local->closed, NULL);
    if (newest != NULL) {
        local->running = newest->next;
        newest->next = NULL;
    }
    qsbr_let_forks(local->rec);
    return newest;
}

/* Whether a batch may run; counts the step. */
static bool
may_run(retire_local *local, retire_batch *batch)
{
    local->steps++;
    return qsbr_goal_reached(local->queue->domain, batch->goal);
}

/* Closes the running batches again, from the first whose goal is not reached.  Those after
 * it are not checked, since their goals are later; adopted ones may have earlier goals and
 * wait a little longer. */
static void
leave_unreached(retire_local *local, retire_batch *newest)
{
    retire_batch *last = NULL, *batch = local->running;
#ifdef QC_BREAK_ALL_LOOKED_AT
    for (retire_batch *b = batch; b != NULL; b = b->next)
        (void)may_run(local, b);
#endif
    for (; batch != NULL && may_run(local, batch); batch = batch->next)
        last = batch;
    if (batch == NULL)
        return;
    qsbr_hold_forks(local->rec);
    if (last != NULL)
        last->next = NULL;
    else
        local->running = NULL;
    newest->next = batch;
#ifdef QC_BREAK_CLOSED_WITHOUT_THE_WORD
    qc_store_release(&local->closed, newest);
    qsbr_let_forks(local->rec);
    return;
#endif
    uintptr_t was = retire_take(local);
    if (retire_is_off(was))
        retire_allot(local);
    /* They go before any batch that this thread has closed meanwhile. */
    retire_batch *since = qc_exchange_acq_rel(&local->closed, NULL);
    qc_store_release(&local->closed, retire_chain_append(newest, since));
    retire_give_back(local, was, retire_batch_of(was));
    qsbr_let_forks(local->rec);
}

/* Runs the closed batches of this thread whose goal is reached. */
static size_t
run_closed(retire_local *local)
{
    if (qc_load_relaxed(&local->closed) == NULL)
        return 0;
    retire_batch *newest = take_closed(local);
    if (newest == NULL)
        return 0;
    poll_for(local->queue, local->running->goal, newest->goal);
    qc_yield("polled");
    leave_unreached(local, newest);
    return run_reached(local);
}

/* Closes the thread's open batch, however little is in it. */
static void
close_mine(retire_local *local)
{
    if (retire_batch_of(qc_load_relaxed(&local->open)) == NULL)
        return; /* only the owner opens one */
    qsbr_hold_forks(local->rec);
    uintptr_t was = retire_take(local);
    if (retire_batch_of(was) != NULL)
        retire_close(local, retire_batch_of(was));
    if (!retire_is_off(was))
        retire_give_back(local, was, NULL);
    else /* the looker has taken its batches, so the local stays off the list */
        qc_store_release(&local->open, (uintptr_t)0);
    qsbr_let_forks(local->rec);
}

/* The pauses between checks of a goal that is not reached, in operations.  The barrier is
 * already paid for, so a check costs one scan of the records. */
#define LOOK_AGAIN_FIRST (QSBR_LOOK_EVERY / 64)
#define LOOK_AGAIN_LAST (QSBR_LOOK_EVERY / 8)

static void
come_back(retire_local *local, bool progress)
{
    if (qc_load_relaxed(&local->closed) == NULL || progress || local->look_again == 0)
        local->look_again = LOOK_AGAIN_FIRST;
    if (qc_load_relaxed(&local->closed) == NULL || local->rec->look_in <= local->look_again)
        return;
    local->rec->look_in = local->look_again;
    if (local->look_again < LOOK_AGAIN_LAST)
        local->look_again *= 2;
}

/* (processing) Takes the open batches that `how` names. */
static void
take_open(retire_local *local, patience how)
{
    if (how != LEAVE)
        close_mine(local);
    retire_look(local, how == LEAVE ? ONLY_QUIET : ALL_OF_THEM, how == COLLECT);
}

static size_t
process(retire_local *local, patience how)
{
    qc_assert(!qsbr_in_section(local->rec) && local->taken == NULL); /* Q2, T5 */
    if (local->processing)
        return 0;
    retire_mend(local->queue, local->rec);
    local->processing = true;
    take_open(local, how);
    local->tell = false;
    /* Set before the items run: an item that closes a batch sets it again. */
    local->rec->look_in = QSBR_LOOK_EVERY;
    size_t n = run_closed(local);
    come_back(local, n != 0);
    local->processing = false;
    return n;
}

size_t
retire_process(retire_local *local)
{
    return process(local, LEAVE);
}

bool
retire_make_room(retire_local *local)
{
    retire_queue *queue = local->queue;
    if (local->processing || qc_load_relaxed(&queue->domain->broken) != 0)
        return true;
    process(local, MAKE_ROOM);
    retire_weigh(queue);
    return !retire_must_wait(queue);
}

void
retire_go_on(retire_queue *queue)
{
    qc_store_relaxed(&queue->allowed,
                     qc_load_relaxed(&queue->bytes) + qc_load_relaxed(&queue->others));
    qc_store_relaxed(&queue->over, 0u);
}

/* At exit a record may be online for good. */
static bool
wait_here(qsbr_domain *domain, uint64_t goal, bool drains)
{
    struct timespec step = {.tv_nsec = 100 * 1000};
    if (!drains)
        (void)qsbr_wait(domain, goal);
    for (int tries = 5000; !qsbr_poll(domain, goal) && --tries > 0;) {
        if (qc_load_relaxed(&domain->broken) != 0)
            break; /* the goal is never reached */
        nanosleep(&step, NULL);
    }
    return true;
}

/* Closes all batches, waits for their goal with no batch in hand, and then takes and runs
 * them.  Meanwhile other threads' safe points may run some of them, and signal handlers that
 * the wait lets in may retire more. */
static size_t
wait_and_process(retire_local *local, bool drains)
{
    retire_queue *queue = local->queue;
    if (local->processing)
        return 0;
    retire_mend(queue, local->rec);
    local->processing = true;
    take_open(local, COLLECT);
    local->processing = false;
    if (qc_load_relaxed(&local->closed) != NULL) {
        /* wr_seq is a sequence that was advanced to, and no goal in the queue is above it. */
        uint64_t goal = qc_load_acquire(&queue->domain->wr_seq);
        if (!(queue->wait != NULL ? queue->wait : wait_here)(queue->domain, goal, drains))
            return RETIRE_NO_WAIT;
    }
    return process(local, COLLECT);
}

size_t
retire_collect(retire_local *local)
{
    return wait_and_process(local, false);
}

size_t
retire_drain(retire_local *local)
{
    size_t n = 0;
    /* Items may retire more; a chain of finalizers that never ends is cut off. */
    for (int i = 0; i < 100; i++) {
        size_t more = wait_and_process(local, true);
        if (more == 0 || more == RETIRE_NO_WAIT)
            break;
        n += more;
    }
    return n;
}
