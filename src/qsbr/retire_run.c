/* The retire queue: safe points, what runs there, and who waits for it. */
#define _GNU_SOURCE
#include "qsbr/batch.h"

#include <stdlib.h>
#include <time.h>

/* ---- processing ---- */

/* Runs the batches whose goal is reached, oldest item first, and frees them.  An
 * item is taken out before it runs: it may come back here through the containers,
 * or fork. */
static size_t
run_reached(retire_local *local)
{
    retire_queue *queue = local->queue;
    size_t n = 0;
    retire_batch *batch;
    while ((batch = local->running) != NULL) {
        n += batch->n - batch->first;
        retire_count(queue, batch, false);
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

/* T6: takes the open batch of `other`, and its closed ones, over to `local`. */
static void
take_over(retire_local *local, retire_local *other)
{
#ifdef QC_BREAK_GOAL_BEFORE_BATCH
    uint64_t goal = qsbr_advance(local->queue->domain);
#endif
    retire_batch *batch = retire_take_open(other);
#ifdef QC_BREAK_GOAL_BEFORE_BATCH
    if (batch != NULL)
        batch->goal = goal;
#endif
    if (batch != NULL)
        retire_close(local, other, batch);
    if (other == local || qc_load_relaxed(&other->closed) == NULL)
        return;
    batch = qc_exchange_acq_rel(&other->closed, NULL);
    while (batch != NULL) {
        retire_batch *next = batch->next;
        retire_push_closed(local, batch);
        batch = next;
    }
}

static void
take_from_all(retire_local *local, bool quiet_only)
{
    retire_queue *queue = local->queue;
    uint64_t now = retire_now_ns();
    if (qc_load_relaxed(&queue->bytes) > retire_limit.queue_bytes)
        quiet_only = false;
    /* acquire: partner is the release store in retire_local_get. */
    for (retire_local *l = qc_load_acquire(&queue->locals); l != NULL; l = l->next) {
        int64_t quiet = (int64_t)(now - qc_load_relaxed(&l->since));
        if (quiet_only && quiet < (int64_t)retire_limit.quiet_ns)
            continue;
        qsbr_hold_forks(local->rec); /* a batch is in nobody's reach on its way */
        take_over(local, l);
        qsbr_let_forks(local->rec);
    }
}

/* What the caller does about a goal that is not reached. */
typedef enum {
    LEAVE,     /* come back later: a safe point */
    MAKE_ROOM, /* the same, for all threads' sake */
    WAIT,      /* collect() */
    INSIST,    /* at exit: a while, since a record may be online for good */
} patience;

static void
wait_for(qsbr_domain *domain, uint64_t goal, patience how)
{
    if (how == WAIT) {
        qsbr_wait(domain, goal);
        return;
    }
    struct timespec step = {.tv_nsec = 100 * 1000};
    for (int tries = how == INSIST ? 5000 : 1; !qsbr_poll(domain, goal) && --tries > 0;) {
        if (qc_load_relaxed(&domain->broken) != 0)
            return; /* it will never be */
        nanosleep(&step, NULL);
    }
}

/* Makes the thread's closed batches its running ones; returns the latest goal among
 * them, 0 if there are none. */
static uint64_t
take_closed(retire_local *local)
{
    /* acquire: partner is the release in retire_push_closed. */
    retire_batch *newest_first = qc_exchange_acq_rel(&local->closed, NULL);
    uint64_t goal = newest_first == NULL ? 0 : newest_first->goal;
    retire_batch *list = NULL; /* oldest first */
    while (newest_first != NULL) {
        retire_batch *next = newest_first->next;
        if (qsbr_before(goal, newest_first->goal))
            goal = newest_first->goal;
        newest_first->next = list;
        list = newest_first;
        newest_first = next;
    }
    qc_assert(local->running == NULL);
    local->running = list; /* Q10: a fork finds it there, also while this thread waits */
    return goal;
}

/* Gives those back whose goal is not reached. */
static void
leave_unreached(retire_local *local)
{
    for (retire_batch **at = &local->running; *at != NULL;) {
        retire_batch *batch = *at;
        if (qsbr_goal_reached(local->queue->domain, batch->goal)) {
            at = &batch->next;
        }
        else {
            *at = batch->next;
            retire_push_closed(local, batch);
        }
    }
}

/* Runs the closed batches of this thread whose goal is reached. */
static size_t
run_closed(retire_local *local, patience how)
{
    qsbr_hold_forks(local->rec); /* as in take_from_all */
    uint64_t goal = take_closed(local);
    qsbr_let_forks(local->rec);
    if (local->running == NULL)
        return 0;
    wait_for(local->queue->domain, goal, how);
    qsbr_hold_forks(local->rec);
    leave_unreached(local);
    qsbr_let_forks(local->rec);
    return run_reached(local);
}

static size_t
process(retire_local *local, patience how)
{
    qc_assert(!qsbr_in_section(local->rec) && local->taken == NULL); /* Q2, T5 */
    if (local->processing)
        return 0;
    retire_mend(local->queue, local->rec);
    local->processing = true;
    take_from_all(local, how == LEAVE);
    local->tell = false;
    /* Before the items run: one that closes a batch asks again. */
    local->rec->look_in = QSBR_LOOK_EVERY;
    size_t n = run_closed(local, how);
    /* Not yet reached: a reader is off the CPU.  Come back soon: the barrier has been
     * paid for, what remains is a look at the records. */
    if (qc_load_relaxed(&local->closed) != NULL && local->rec->look_in > QSBR_LOOK_EVERY / 64)
        local->rec->look_in = QSBR_LOOK_EVERY / 64;
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

size_t
retire_collect(retire_local *local)
{
    return process(local, WAIT);
}

size_t
retire_drain(retire_local *local)
{
    size_t n = 0, more;
    /* What runs may retire more; a chain of finalizers that never ends is cut. */
    for (int i = 0; i < 100 && (more = process(local, INSIST)) != 0; i++)
        n += more;
    return n;
}

void
retire_held(retire_queue *queue, uint64_t *bytes, uint64_t *items)
{
    *bytes = qc_load_relaxed(&queue->bytes);
    *items = qc_load_relaxed(&queue->items);
    for (retire_local *l = qc_load_acquire(&queue->locals); l != NULL; l = l->next) {
        /* acquire: partner is retire_close.  What is taken back first: or the
         * difference could be less than nothing. */
        uint64_t out_bytes = qc_load_acquire(&l->out_bytes);
        uint64_t out_items = qc_load_acquire(&l->out_items);
        *bytes += qc_load_relaxed(&l->in_bytes) - out_bytes;
        *items += qc_load_relaxed(&l->in_items) - out_items;
    }
}
