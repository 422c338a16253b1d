#define _GNU_SOURCE
#include "qsbr/batch.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

retire_limits retire_limit = {
    .batch_blocks = RETIRE_MAX_BLOCKS,
    .batch_bytes = RETIRE_MAX_BYTES,
    .queue_bytes = RETIRE_QUEUE_BYTES,
    .hard_bytes = RETIRE_HARD_BYTES,
    .quiet_ns = RETIRE_QUIET_NS,
    .wait_ns = RETIRE_WAIT_NS,
    .look_ns = RETIRE_LOOK_NS,
    .poll_ns = RETIRE_POLL_NS,
};
static _Atomic uint64_t next_queue_id = 1;

QC_NOINLINE uint64_t
retire_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- queues ---- */

retire_queue *
retire_queue_new(qsbr_domain *domain)
{
    void *memory;
    if (posix_memalign(&memory, QC_LINE_PAIR, sizeof(retire_queue)) != 0)
        return NULL;
    retire_queue *queue = memory;
    memset(queue, 0, sizeof *queue);
    qc_store_relaxed(&queue->refs, 1u);
    queue->domain = domain;
    queue->id = qc_add_relaxed(&next_queue_id, 1u);
    qc_store_relaxed(&queue->generation, qc_fork_generation);
    qc_lock_init(&queue->lock);
    return queue;
}

bool
retire_queue_is_empty(retire_queue *queue)
{
    for (retire_local *l = qc_load_acquire(&queue->locals); l != NULL; l = l->next)
        if (retire_batch_of(qc_load_acquire(&l->open)) != NULL ||
            qc_load_acquire(&l->closed) != NULL)
            return false;
    return true;
}

void
retire_queue_ref(retire_queue *queue)
{
    qc_add_relaxed(&queue->refs, 1u);
}

void
retire_queue_unref(retire_queue *queue)
{
    if (qc_sub_acq_rel(&queue->refs, 1u) != 1)
        return;
    qc_assert(retire_queue_is_empty(queue));
    for (retire_local *l = qc_load_acquire(&queue->locals), *next; l != NULL; l = next) {
        next = l->next;
        free(l->spare);
        qc_poison(l, sizeof *l);
        free(l);
    }
    for (int i = 0; i < RETIRE_SEGMENTS; i++)
        free((void *)qc_load_relaxed(&queue->segments[i]));
    qc_poison(queue, sizeof *queue);
    free(queue);
}

/* ---- what is held (T7) ---- */

static void
raise_to(_Atomic uint64_t *most, uint64_t value)
{
    uint64_t known = qc_load_relaxed(most);
    while (value > known && !qc_cas_relaxed(most, &known, value))
        ;
}

uint64_t
retire_bound(uint64_t largest)
{
    return retire_limit.hard_bytes + 2 * largest;
}

/* How much may be held when a writer begins.  What the writer adds, one block as large as
 * the largest, then stays within the formula.  If that block closes its batch alone, most of
 * the last one has to be freed before the next is made. */
static uint64_t
limit_beside(uint64_t largest)
{
    uint64_t limit = retire_bound(largest) - largest;
    uint64_t half = retire_limit.batch_bytes / 2 + largest / 2;
    return largest > retire_limit.batch_bytes && half < limit ? half : limit;
}

/* The most bytes that open batches can hold unpublished. */
static uint64_t
unpublished_most(retire_queue *queue)
{
    uint64_t n = qc_load_relaxed(&queue->listed);
    return (n < RETIRE_ALLOWANCES ? n : RETIRE_ALLOWANCES) * retire_allowance();
}

/* Threads may overtake each other here.  The writer that finds the flag set wrongly clears
 * it, and the next batch sets a flag that was cleared wrongly. */
static void
weigh(retire_queue *queue, uint64_t bytes)
{
    bytes += qc_load_relaxed(&queue->others);
    uint64_t limit = limit_beside(qc_load_relaxed(&queue->largest));
    if (bytes <= limit && qc_load_relaxed(&queue->allowed) != 0)
        qc_store_relaxed(&queue->allowed, 0u);
    limit += 2 * qc_load_relaxed(&queue->allowed);
    uint32_t over = bytes + unpublished_most(queue) > limit;
    if (qc_load_relaxed(&queue->over) == over)
        return;
    qc_store_relaxed(&queue->over, over);
    if (over)
        qc_store_relaxed(&queue->next_look, 0u); /* T6: the next look is due now */
}

void
retire_weigh(retire_queue *queue)
{
    weigh(queue, qc_load_relaxed(&queue->bytes));
}

uint64_t
retire_bound_now(retire_queue *queue)
{
    return retire_bound(qc_load_relaxed(&queue->largest)) + 2 * qc_load_relaxed(&queue->allowed);
}

void
retire_note_others(retire_queue *queue, uint64_t bytes)
{
    qc_store_relaxed(&queue->others, bytes);
    retire_weigh(queue);
}

void
retire_publish(retire_local *from, retire_batch *batch)
{
    retire_queue *queue = from->queue;
    uint64_t more = batch->bytes - batch->published;
    if (more == 0)
        return;
    batch->published = batch->bytes;
    uint64_t bytes = qc_add_relaxed(&queue->bytes, more) + more;
    raise_to(&queue->bytes_peak, bytes);
    raise_to(&queue->largest, batch->largest);
    /* release: partner is the acquire in retire_held.  Without it a thread could see `out`
     * and not the `in` that it is subtracted from. */
    qc_add_acq_rel(&from->out_bytes, more);
    weigh(queue, bytes);
}

void
retire_hold(retire_local *from, retire_batch *batch)
{
    retire_publish(from, batch);
    batch->held = true;
    qc_yield("held: count");
    qc_add_relaxed(&from->queue->items, batch->n - batch->first);
    qc_add_acq_rel(&from->out_items, batch->n - batch->first); /* as in retire_publish */
    qc_add_relaxed(&from->queue->batches, 1u);
}

void
retire_unhold(retire_queue *queue, retire_batch *batch)
{
    batch->held = false;
    batch->published = 0;
    qc_yield("held: count");
    uint64_t bytes = qc_sub_relaxed(&queue->bytes, batch->bytes) - batch->bytes;
    qc_sub_relaxed(&queue->items, batch->n - batch->first);
    /* No block that is still held is larger than all bytes that are held. */
    uint64_t largest = qc_load_relaxed(&queue->largest);
    if (bytes < largest)
        (void)qc_cas_relaxed(&queue->largest, &largest, bytes);
    weigh(queue, bytes);
}

void
retire_held(retire_queue *queue, uint64_t *bytes, uint64_t *items)
{
    *bytes = qc_load_relaxed(&queue->bytes);
    *items = qc_load_relaxed(&queue->items);
    for (retire_local *l = qc_load_acquire(&queue->locals); l != NULL; l = l->next) {
        /* acquire: partner is the release in retire_publish.  `out` is loaded before `in`,
         * or the difference could be negative. */
        uint64_t out_bytes = qc_load_acquire(&l->out_bytes);
        uint64_t out_items = qc_load_acquire(&l->out_items);
        *bytes += qc_load_relaxed(&l->in_bytes) - out_bytes;
        *items += qc_load_relaxed(&l->in_items) - out_items;
    }
}

/* ---- retiring ---- */

/* T6: the batches are taken; one advance; then they are tagged. */
void
retire_tag(retire_queue *queue, retire_batch *chain)
{
    uint64_t goal = 0;
#ifdef QC_BREAK_GOAL_NOT_ADDED
    goal = qc_load_acquire(&queue->domain->wr_seq) + QSBR_STEP;
#elif defined(QC_BREAK_GOAL_BEFORE_BATCH) || defined(QC_BREAK_TAG_BEFORE_LAST_ITEM)
    if (chain->goal == 0)
        goal = qsbr_advance(queue->domain);
#else
    goal = qsbr_advance(queue->domain);
#endif
    retire_batch *batch = chain;
    do {
        if (goal != 0)
            batch->goal = goal;
        batch = batch->next;
    } while (batch != chain);
}

void
retire_append_closed(retire_local *local, retire_batch *chain)
{
    /* acquire: partner is the release below, by the thread that had the local before.
     * Other threads only take the chain, so the store overwrites no batch. */
    retire_batch *closed = qc_exchange_acq_rel(&local->closed, NULL);
    /* release: partners are the exchanges that take the chain.  Without it their threads may
     * miss items and goals. */
    qc_store_release(&local->closed, retire_chain_append(closed, chain));
}

void
retire_close(retire_local *local, retire_batch *batch)
{
    retire_hold(local, batch);
    retire_tag(local->queue, retire_chain_of(batch));
    retire_append_closed(local, batch);
    qc_store_relaxed(&local->since, retire_now_ns());
    qsbr_ask(local->rec);
    local->tell = true;
}

void
retire_make_empty(retire_batch *batch)
{
    batch->next = NULL;
    batch->goal = 0;
    batch->n = batch->first = batch->blocks = 0;
    batch->bytes = batch->published = batch->look_at = batch->largest = 0;
    batch->held = false;
}

static QC_NOINLINE retire_batch *
batch_new(void)
{
    retire_batch *batch = malloc(sizeof *batch);
    if (batch != NULL)
        retire_make_empty(batch);
    return batch;
}

bool
retire_reserve(retire_local *local, unsigned n)
{
    qc_assert(local->taken == NULL);
    qc_assert(n <= RETIRE_BATCH_ITEMS);
    (void)n; /* an empty batch has room for any n */
    retire_batch *batch = local->spare;
    if (qc_unlikely(batch == NULL) && (batch = batch_new()) == NULL)
        return false;
#ifdef QC_BREAK_TAG_BEFORE_LAST_ITEM
    batch->goal = qsbr_advance(local->queue->domain);
#endif
    local->taken = batch;
    local->spare = NULL;
    return true;
}

static void
put(retire_local *local, retire_fn fn, uint64_t arg)
{
    retire_batch *batch = local->taken;
    qc_assert(batch != NULL && batch->n < RETIRE_BATCH_ITEMS);
    batch->items[batch->n].fn = fn;
    batch->items[batch->n].arg = arg;
    /* release: partner is settle in the child of a fork, which closes the batch with its
     * first n items, as memory was when the fork came.  Without it the count could be
     * stored before the item, and the child would run what the memory held before. */
    qc_fence_release();
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
    if (bytes > local->taken->largest)
        local->taken->largest = bytes;
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

/* Appends the items of `from` to `batch`, which has room for them. */
static void
append(retire_batch *batch, retire_batch *from)
{
    qc_assert(from->n != 0);
    retire_item *to = &batch->items[batch->n];
    uint32_t n = from->n;
    to[0] = from->items[0]; /* mostly all there is */
    for (uint32_t i = 1; qc_unlikely(i < n); i++)
        to[i] = from->items[i];
    batch->n += n;
    batch->blocks += from->blocks;
    batch->bytes += from->bytes;
    if (from->largest > batch->largest)
        batch->largest = from->largest;
#ifdef QC_BREAK_TAG_BEFORE_LAST_ITEM
    batch->goal = from->goal;
    from->goal = 0;
#endif
    from->n = from->blocks = 0;
    from->bytes = from->largest = 0;
}

/* (owner writes) */
static void
count_in(retire_local *local, retire_batch *batch)
{
    qc_store_relaxed(&local->in_bytes, qc_load_relaxed(&local->in_bytes) + batch->bytes);
    qc_store_relaxed(&local->in_items, qc_load_relaxed(&local->in_items) + batch->n);
}

/* For an open batch with more bytes than its look_at.  If more bytes are unpublished than
 * the allowance, publishes them (T7).  True: the batch has to be closed, because it is full
 * (T3), or because the queue holds more than RETIRE_QUEUE_BYTES and this batch a share of
 * the limit. */
static QC_NOINLINE bool
has_many_bytes(retire_local *local, retire_batch *open)
{
    uint64_t look_at = retire_limit.batch_bytes - 1;
    if (open->bytes > look_at)
        return true;
#ifndef QC_BREAK_OPEN_NOT_COUNTED
    if (open->bytes - open->published > local->allowance)
        retire_publish(local, open);
    if (open->bytes >= retire_allowance() &&
        qc_load_relaxed(&local->queue->bytes) > retire_limit.queue_bytes)
        return true;
    if (open->published + local->allowance < look_at)
        look_at = open->published + local->allowance;
#endif
    open->look_at = look_at;
    return false;
}

void
retire_commit(retire_local *local)
{
    retire_batch *batch = local->taken;
    qc_assert(batch != NULL);
    if (batch->n == 0) {
        local->spare = batch;
        local->taken = NULL;
        return;
    }
    qsbr_hold_forks(local->rec); /* a child could not find the batches on their way */
    uintptr_t was = retire_take(local);
    retire_batch *open = retire_batch_of(was);
    bool fresh = open == NULL;
    count_in(local, batch);
    if (qc_unlikely(retire_is_off(was)))
        retire_allot(local);
    if (open != NULL && open->n + batch->n > RETIRE_BATCH_ITEMS) {
        retire_close(local, open);
        open = NULL;
    }
    if (open != NULL) {
        append(open, batch);
        local->spare = batch;
    }
    else {
        open = batch;
    }
    local->taken = NULL;
    if (open->blocks >= retire_limit.batch_blocks || open->n == RETIRE_BATCH_ITEMS ||
        (qc_unlikely(open->bytes > open->look_at) && has_many_bytes(local, open))) {
        retire_close(local, open);
        open = NULL;
    }
    else if (fresh) {
        qc_store_relaxed(&local->since, retire_now_ns());
    }
    retire_give_back(local, was, open);
    qsbr_let_forks(local->rec);
    if (qc_unlikely(local->tell)) {
        local->tell = false;
        if (local->queue->ask != NULL)
            local->queue->ask(local->queue->ask_arg);
    }
}
