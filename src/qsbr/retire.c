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
};
static _Atomic uint64_t next_queue_id = 1;

QC_NOINLINE uint64_t
retire_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- queues and locals ---- */

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
        if (qc_load_acquire(&l->open) != NULL || qc_load_acquire(&l->closed) != NULL)
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
    qc_poison(queue, sizeof *queue);
    free(queue);
}

/* ---- retiring ---- */

void
retire_push_closed(retire_local *local, retire_batch *batch)
{
    retire_batch *head = qc_load_relaxed(&local->closed);
    do
        batch->next = head;
    /* release: partner is the exchange that takes the list. */
    while (!qc_cas_acq_rel(&local->closed, &head, batch));
}

static void
raise_to(_Atomic uint64_t *most, uint64_t value)
{
    uint64_t known = qc_load_relaxed(most);
    while (value > known && !qc_cas_relaxed(most, &known, value))
        ;
}

/* T7: how much may be held where this is the largest block of it. */
static uint64_t
limit_beside(uint64_t largest)
{
    if (largest > retire_limit.batch_bytes)
        return retire_limit.batch_bytes / 2 + largest / 2;
    return retire_limit.hard_bytes + 2 * largest;
}

/* T7.  Threads may overtake each other here: a flag that is left up wrongly is taken
 * down by the writer that finds it, one left down is put up with the next batch. */
static void
weigh(retire_queue *queue, uint64_t bytes)
{
    bytes += qc_load_relaxed(&queue->others);
    uint64_t limit = limit_beside(qc_load_relaxed(&queue->largest));
    if (bytes <= limit && qc_load_relaxed(&queue->allowed) != 0)
        qc_store_relaxed(&queue->allowed, 0u);
    uint32_t over = bytes > limit + 2 * qc_load_relaxed(&queue->allowed);
    if (qc_load_relaxed(&queue->over) != over)
        qc_store_relaxed(&queue->over, over);
}

void
retire_weigh(retire_queue *queue)
{
    weigh(queue, qc_load_relaxed(&queue->bytes));
}

void
retire_note_others(retire_queue *queue, uint64_t bytes)
{
    qc_store_relaxed(&queue->others, bytes);
    retire_weigh(queue);
}

void
retire_count(retire_queue *queue, retire_batch *batch, bool held)
{
    uint64_t bytes, n = batch->n - batch->first;
    batch->counted = held;
    if (held) {
        bytes = qc_add_relaxed(&queue->bytes, batch->bytes) + batch->bytes;
        qc_add_relaxed(&queue->items, n);
        raise_to(&queue->bytes_peak, bytes);
        raise_to(&queue->largest, batch->largest);
    }
    else {
        bytes = qc_sub_relaxed(&queue->bytes, batch->bytes) - batch->bytes;
        qc_sub_relaxed(&queue->items, n);
        if (bytes == 0)
            qc_store_relaxed(&queue->largest, 0u);
    }
    weigh(queue, bytes);
}

/* Taken, then one advance, then tagged (see the header). */
static void
tag(retire_queue *queue, retire_batch *batch)
{
#ifdef QC_BREAK_GOAL_NOT_ADDED
    batch->goal = qc_load_acquire(&queue->domain->wr_seq) + QSBR_STEP;
#elif defined(QC_BREAK_GOAL_BEFORE_BATCH) || defined(QC_BREAK_TAG_BEFORE_LAST_ITEM)
    if (batch->goal == 0)
        batch->goal = qsbr_advance(queue->domain);
#else
    batch->goal = qsbr_advance(queue->domain);
#endif
    qc_add_relaxed(&queue->batches, 1u);
    retire_count(queue, batch, true);
}

void
retire_close(retire_local *local, retire_local *from, retire_batch *batch)
{
    /* release: whoever sees this sees what it takes back (retire_held). */
    qc_add_acq_rel(&from->out_bytes, batch->bytes);
    qc_add_acq_rel(&from->out_items, batch->n);
    tag(local->queue, batch);
    retire_push_closed(local, batch);
    qc_store_relaxed(&local->since, retire_now_ns());
    qsbr_ask(local->rec);
    local->tell = true;
}

/* Whether the thread that `local` was for has ended, or was left behind by a fork.
 * acquire: partners are the releases in the registry's unregister and, where another
 * thread has the record, register_record; all that the thread did with its local is
 * seen. */
static bool
is_gone(retire_local *local)
{
    return qc_load_acquire(&local->rec->registered) == 0 ||
           qc_load_acquire(&local->rec->tenure) != local->tenure;
}

/* What a thread that is gone was in the middle of is not going on.  What it had
 * unlinked by then is in its batches.  No fork comes between (the caller holds them
 * back, or a third process would find a batch twice, or none). */
static void
settle(retire_local *local)
{
    retire_batch *batch = local->running, *taken = local->taken;
    if (local->spare == taken) /* reserving, or done with nothing to retire */
        local->spare = NULL;
    /* Out of there first: what is forked all the same, after a second, may leak. */
    local->running = local->taken = NULL;
    qc_yield("settle");
    while (batch != NULL) {
        retire_batch *next = batch->next;
        if (!batch->counted)
            retire_count(local->queue, batch, true);
        retire_push_closed(local, batch);
        batch = next;
    }
    if (taken != NULL) {
        tag(local->queue, taken);
        retire_push_closed(local, taken);
    }
    local->processing = local->tell = false;
}

void
retire_mend(retire_queue *queue, qsbr_record *mine)
{
    /* acquire: partner is the release below. */
    if (qc_likely(qc_load_acquire(&queue->generation) == qc_fork_generation))
        return;
    qc_lock_acquire(&queue->lock); /* an orphan is taken as any: the list grows by one store */
    if (qc_load_relaxed(&queue->generation) != qc_fork_generation) {
#ifndef QC_BREAK_MENDED_BESIDE_FORKS
        qsbr_hold_forks(mine);
#endif
        /* Not those of the thread that forked: it may be in the middle of an item. */
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
    retire_local *l;
    retire_mend(queue, rec);
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
        qsbr_hold_forks(rec);
        if (l->tenure != 0)
            settle(l);
        l->tenure = tenure;
        qsbr_let_forks(rec);
    }
    return l;
}

/* acquire: partner is the release store in reopen. */
retire_batch *
retire_take_open(retire_local *local)
{
    if (qc_load_relaxed(&local->open) == NULL)
        return NULL;
    return qc_exchange_acq_rel(&local->open, NULL);
}

void
retire_make_empty(retire_batch *batch)
{
    batch->next = NULL;
    batch->goal = 0;
    batch->n = batch->first = batch->blocks = 0;
    batch->bytes = batch->largest = 0;
    batch->counted = false;
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
    (void)n; /* an empty batch has room for whatever it is */
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

/* Puts the batch back in reach of others. */
static void
reopen(retire_local *local, retire_batch *batch, bool fresh)
{
    /* release: partner is the exchange by which the batch is taken. */
    qc_store_release(&local->open, batch);
    /* Only the owner writes `since`, after the batch: one that looks old to
     * others may have been taken already (they find nothing), but none that is
     * there is ever taken for new for longer than RETIRE_QUIET_NS. */
    if (fresh)
        qc_store_relaxed(&local->since, retire_now_ns());
}

/* The items of `from` at the end of `batch`, where they have room. */
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
    qsbr_hold_forks(local->rec); /* the batches are in nobody's reach on their way */
    retire_batch *open = retire_take_open(local);
    bool fresh = open == NULL;
    count_in(local, batch);
    if (open != NULL && open->n + batch->n > RETIRE_BATCH_ITEMS) {
        retire_close(local, local, open);
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
    if (open->blocks >= retire_limit.batch_blocks || open->bytes >= retire_limit.batch_bytes ||
        open->n == RETIRE_BATCH_ITEMS)
        retire_close(local, local, open);
    else
        reopen(local, open, fresh);
    qsbr_let_forks(local->rec);
    if (qc_unlikely(local->tell)) {
        local->tell = false;
        if (local->queue->ask != NULL)
            local->queue->ask(local->queue->ask_arg);
    }
}
