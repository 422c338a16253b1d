#define _GNU_SOURCE
#include "qsbr/retire.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    retire_fn fn;
    uint64_t arg;
} retire_item;

/* Read and written by whoever has taken it, and nobody else. */
struct retire_batch {
    retire_batch *next;
    uint64_t goal; /* 0 while open */
    size_t bytes;
    uint32_t n;     /* items put in */
    uint32_t first; /* items run */
    uint32_t blocks;
    retire_item items[RETIRE_BATCH_ITEMS];
};

static _Atomic uint64_t next_queue_id = 1;

static uint64_t
now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- queues and locals ---- */

retire_queue *
retire_queue_new(qsbr_domain *domain)
{
    retire_queue *queue = calloc(1, sizeof *queue);
    if (queue == NULL)
        return NULL;
    queue->domain = domain;
    queue->id = qc_add_relaxed(&next_queue_id, 1u);
    qc_lock_init(&queue->lock);
    return queue;
}

bool
retire_queue_is_empty(retire_queue *queue)
{
    for (retire_local *l = qc_load_acquire(&queue->locals); l != NULL; l = l->next)
        if (qc_load_acquire(&l->open) != NULL || qc_load_acquire(&l->closed) != NULL)
            return false;
    return true;
}

void
retire_queue_free(retire_queue *queue)
{
    qc_assert(retire_queue_is_empty(queue));
    for (retire_local *l = qc_load_acquire(&queue->locals), *next; l != NULL; l = next) {
        next = l->next;
        free(l->spare);
        qc_poison(l, sizeof *l);
        free(l);
    }
    qc_poison(queue, sizeof *queue);
    free(queue);
}

/* ---- retiring ---- */

/* Makes a batch that only the caller has one of `local`'s closed ones. */
static void
push_closed(retire_local *local, retire_batch *batch)
{
    retire_batch *head = qc_load_relaxed(&local->closed);
    do
        batch->next = head;
    /* release: partner is the exchange that takes the list. */
    while (!qc_cas_acq_rel(&local->closed, &head, batch));
}

/* Taken, then one advance, then tagged (see the header). */
static void
close_batch(retire_local *local, retire_batch *batch)
{
    retire_queue *queue = local->queue;
#ifdef QC_BREAK_GOAL_NOT_ADDED
    batch->goal = qc_load_acquire(&queue->domain->wr_seq) + QSBR_STEP;
#else
    batch->goal = qsbr_advance(queue->domain);
#endif
    uint64_t held = qc_add_relaxed(&queue->bytes, batch->bytes) + batch->bytes;
    qc_add_relaxed(&queue->items, batch->n);
    qc_add_relaxed(&queue->batches, 1u);
    uint64_t peak = qc_load_relaxed(&queue->bytes_peak);
    while (held > peak && !qc_cas_relaxed(&queue->bytes_peak, &peak, held))
        ;
    push_closed(local, batch);
    qc_store_relaxed(&local->since, now_ns());
    qsbr_ask(local->rec);
    local->tell = true;
}

retire_local *
retire_local_get(retire_queue *queue, qsbr_record *rec)
{
    retire_local *l;
    /* An orphan (Q10) is taken as any: the list grows by one store. */
    qc_lock_acquire(&queue->lock);
    for (l = qc_load_relaxed(&queue->locals); l != NULL; l = l->next)
        if (l->rec == rec)
            break;
    if (l == NULL && (l = calloc(1, sizeof *l)) != NULL) {
        l->rec = rec;
        l->queue = queue;
        l->next = qc_load_relaxed(&queue->locals);
        /* release: partner is the acquire load in take_from_all. */
        qc_store_release(&queue->locals, l);
    }
    qc_lock_release(&queue->lock);
    uint64_t tenure = qc_load_relaxed(&rec->tenure);
    if (l != NULL && l->tenure != tenure) {
        /* What the thread before was in the middle of is not going on: a fork may
         * have left it behind.  What it had unlinked by then is in its batch. */
        l->tenure = tenure;
        l->processing = l->tell = false;
        if (l->taken != NULL)
            close_batch(l, l->taken);
        l->taken = NULL;
    }
    return l;
}

/* The open batch, out of everybody's reach.  acquire: partner is the release
 * store in reopen. */
static retire_batch *
take_open(retire_local *local)
{
    retire_batch *batch = NULL;
    if (qc_load_relaxed(&local->open) != NULL)
        batch = qc_exchange_acq_rel(&local->open, NULL);
    if (batch != NULL) {
        qc_sub_relaxed(&local->open_bytes, batch->bytes);
        qc_sub_relaxed(&local->open_items, batch->n);
    }
    return batch;
}

bool
retire_reserve(retire_local *local, unsigned n)
{
    qc_assert(local->taken == NULL);
    qc_assert(n <= RETIRE_BATCH_ITEMS);
    retire_batch *batch = take_open(local);
    if (batch != NULL && batch->n + n > RETIRE_BATCH_ITEMS) {
        close_batch(local, batch);
        batch = NULL;
    }
    if (batch == NULL) {
        batch = local->spare;
        local->spare = NULL;
        if (batch == NULL && (batch = malloc(sizeof *batch)) == NULL)
            return false;
        batch->next = NULL;
        batch->goal = 0;
        batch->n = batch->first = batch->blocks = 0;
        batch->bytes = 0;
        local->fresh = true;
    }
    local->taken = batch;
    return true;
}

static void
put(retire_local *local, retire_fn fn, uint64_t arg)
{
    retire_batch *batch = local->taken;
    qc_assert(batch != NULL && batch->n < RETIRE_BATCH_ITEMS);
    batch->items[batch->n].fn = fn;
    batch->items[batch->n].arg = arg;
    batch->n++;
}

void
retire_block(retire_local *local, retire_fn fn, uint64_t arg, size_t bytes)
{
#ifdef QC_BREAK_FREE_AT_ONCE
    (void)local;
    (void)bytes;
    fn(arg);
#else
    put(local, fn, arg);
    local->taken->blocks++;
    local->taken->bytes += bytes;
#endif
}

void
retire_ref(retire_local *local, retire_fn fn, uint64_t arg)
{
#ifdef QC_BREAK_FREE_AT_ONCE
    (void)local;
    (void)put;
    fn(arg);
#else
    put(local, fn, arg);
#endif
}

/* Puts the batch back in reach of others. */
static void
reopen(retire_local *local, retire_batch *batch)
{
    qc_add_relaxed(&local->open_bytes, batch->bytes);
    qc_add_relaxed(&local->open_items, batch->n);
    /* release: partner is the exchange by which the batch is taken. */
    qc_store_release(&local->open, batch);
    /* Only the owner writes `since`, after the batch: one that looks old to
     * others may have been taken already (they find nothing), but none that is
     * there is ever taken for new for longer than RETIRE_QUIET_NS. */
    if (local->fresh)
        qc_store_relaxed(&local->since, now_ns());
    local->fresh = false;
}

void
retire_commit(retire_local *local)
{
    retire_batch *batch = local->taken;
    local->taken = NULL;
    qc_assert(batch != NULL && qc_load_relaxed(&local->open) == NULL);
    if (batch->n == 0 && local->spare == NULL) {
        local->spare = batch;
    }
    else if (batch->blocks >= RETIRE_MAX_BLOCKS || batch->bytes >= RETIRE_MAX_BYTES ||
             batch->n == RETIRE_BATCH_ITEMS) {
        close_batch(local, batch);
    }
    else {
        reopen(local, batch);
    }
    if (qc_unlikely(local->tell)) {
        local->tell = false;
        if (local->queue->ask != NULL)
            local->queue->ask(local->queue->ask_arg);
    }
}

/* ---- processing ---- */

/* Runs a batch whose goal is reached, oldest item first, and frees it.  An item
 * is taken out before it runs: it may come back here through the containers. */
static size_t
run_batch(retire_local *local, retire_batch *batch)
{
    retire_queue *queue = local->queue;
    size_t n = batch->n - batch->first;
    qc_sub_relaxed(&queue->items, n);
    qc_sub_relaxed(&queue->bytes, batch->bytes);
    qc_add_relaxed(&queue->items_run, n);
    qc_add_relaxed(&queue->bytes_run, batch->bytes);
    while (batch->first < batch->n) {
        retire_item item = batch->items[batch->first++];
        item.fn(item.arg);
    }
    if (local->spare == NULL)
        local->spare = batch;
    else
        free(batch);
    return n;
}

/* T6: takes the open batch of `other`, and its closed ones, over to `local`. */
static void
take_over(retire_local *local, retire_local *other)
{
    retire_batch *batch = take_open(other);
    if (batch != NULL)
        close_batch(local, batch);
    if (other == local || qc_load_relaxed(&other->closed) == NULL)
        return;
    batch = qc_exchange_acq_rel(&other->closed, NULL);
    while (batch != NULL) {
        retire_batch *next = batch->next;
        push_closed(local, batch);
        batch = next;
    }
}

static void
take_from_all(retire_local *local, bool quiet_only)
{
    retire_queue *queue = local->queue;
    uint64_t now = now_ns();
    if (qc_load_relaxed(&queue->bytes) > RETIRE_QUEUE_BYTES)
        quiet_only = false;
    /* acquire: partner is the release store in retire_local_get. */
    for (retire_local *l = qc_load_acquire(&queue->locals); l != NULL; l = l->next)
        if (!quiet_only || (int64_t)(now - qc_load_relaxed(&l->since)) >= (int64_t)RETIRE_QUIET_NS)
            take_over(local, l);
}

/* What the caller does about a goal that is not reached. */
typedef enum {
    LEAVE,  /* come back later: a safe point */
    WAIT,   /* collect() */
    INSIST, /* at exit: a while, since a record may be online for good */
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

/* Runs the closed batches of this thread whose goal is reached. */
static size_t
run_closed(retire_local *local, patience how)
{
    qsbr_domain *domain = local->queue->domain;
    /* acquire: partner is the release in push_closed. */
    retire_batch *newest_first = qc_exchange_acq_rel(&local->closed, NULL);
    if (newest_first == NULL)
        return 0;
    uint64_t goal = newest_first->goal;
    retire_batch *list = NULL; /* oldest first */
    while (newest_first != NULL) {
        retire_batch *next = newest_first->next;
        if (qsbr_before(goal, newest_first->goal))
            goal = newest_first->goal;
        newest_first->next = list;
        list = newest_first;
        newest_first = next;
    }
    wait_for(domain, goal, how);

    size_t n = 0;
    while (list != NULL) {
        retire_batch *batch = list;
        list = batch->next;
        if (qsbr_goal_reached(domain, batch->goal))
            n += run_batch(local, batch);
        else
            push_closed(local, batch);
    }
    return n;
}

static size_t
process(retire_local *local, patience how)
{
    qc_assert(!qsbr_in_section(local->rec) && local->taken == NULL); /* Q2, T5 */
    if (local->processing)
        return 0;
    local->processing = true;
    take_from_all(local, how == LEAVE);
    local->tell = false;
    /* Before the items run: one that closes a batch asks again. */
    local->rec->look_in = QSBR_LOOK_EVERY;
    size_t n = run_closed(local, how);
    /* Not yet reached: a reader is off the CPU.  Come back soon, but not at
     * every operation, since a look costs a heavy barrier. */
    if (qc_load_relaxed(&local->closed) != NULL && local->rec->look_in > QSBR_LOOK_EVERY / 8)
        local->rec->look_in = QSBR_LOOK_EVERY / 8;
    local->processing = false;
    return n;
}

size_t
retire_process(retire_local *local)
{
    return process(local, LEAVE);
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
        *bytes += qc_load_relaxed(&l->open_bytes);
        *items += qc_load_relaxed(&l->open_items);
    }
}
