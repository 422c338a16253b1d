#define _GNU_SOURCE /* posix_memalign */
#include "heap/page.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef QC_HEAP_LIBC
#include <mimalloc.h>
#endif

static _Atomic uint64_t next_heap_id = 1;

/* The calling thread's local in the heap that it used last. */
typedef struct {
    uint64_t heap_id;
    heap_local *local;
} local_cache;
static QC_TLS local_cache cached;

#ifdef QC_DEBUG
static _Atomic uint64_t fail_in;
static _Atomic uint32_t fail_forever;

uint64_t
heap_fail_at(uint64_t n, bool forever)
{
    uint64_t left = qc_load_relaxed(&fail_in);
    qc_store_relaxed(&fail_forever, forever);
    qc_store_relaxed(&fail_in, n);
    return left;
}

static bool
fails(void)
{
    uint64_t n = qc_load_relaxed(&fail_in);
    while (n != 0) {
        bool now = n == 1;
        uint64_t left = now && qc_load_relaxed(&fail_forever) ? 1 : n - 1;
        if (qc_cas_relaxed(&fail_in, &n, left))
            return now;
    }
    return false;
}
#else
#define fails() false
#endif

/* ---- locals ---- */

#define TABLE_LEAST 64

static heap_local **
place_in(heap_table *table, qsbr_record *rec)
{
    return &table->first[(uintptr_t)rec / sizeof *rec & table->mask];
}

static heap_table *
table_new(uint32_t n)
{
    heap_table *table = calloc(1, sizeof *table + n * sizeof(void *));
    if (table != NULL)
        table->mask = n - 1;
    return table;
}

/* Enters all locals that have a record. */
static void
fill_table(heap *h, heap_table *table)
{
    h->n_locals = 0;
    for (heap_local *l = qc_load_relaxed(&h->locals); l != NULL; l = l->next) {
        if (l->rec == NULL)
            continue;
        heap_local **place = place_in(table, l->rec);
        l->same_hash = *place;
        *place = l;
        h->n_locals++;
    }
}

void
heap_mend_by_record(heap *h)
{
    memset(h->by_record->first, 0, (h->by_record->mask + 1) * sizeof(void *));
    fill_table(h, h->by_record);
}

/* Doubles the table, if there is memory.  (the heap's lock) */
static void
grow_table(heap *h)
{
    heap_table *old = h->by_record, *table = table_new(2 * (old->mask + 1));
    if (table == NULL)
        return;
    fill_table(h, table);
    h->by_record = table;
    free(old);
}

bool
heap_local_is_left(heap_local *l)
{
    /* acquire: partners are the release by which the record's last reference went and
     * the one by which the next thread got it; all that its thread did to the pages
     * comes before. */
    return l->rec != NULL &&
           (qc_load_acquire(&l->rec->refs) == 0 || qc_load_acquire(&l->rec->tenure) != l->tenure);
}

static heap_local *
local_new(heap *h, qsbr_record *rec)
{
    void *memory;
    if (posix_memalign(&memory, QC_LINE_PAIR, sizeof(heap_local)) != 0)
        return NULL;
    heap_local *l = memory;
    memset((void *)l, 0, sizeof *l);
    l->heap = h;
    l->rec = rec;
    l->tag = ++h->next_tag << STATE_TAG_SHIFT;
    qc_assert((l->tag & ~STATE_TAG) == 0 && l->tag != 0);
    qc_lock_init(&l->lock);
    if (rec != NULL) {
        heap_local **place = place_in(h->by_record, rec);
        l->same_hash = *place;
        *place = l;
    }
    l->next = qc_load_relaxed(&h->locals);
    /* release: partners are the acquire loads of threads that walk all locals.  Without it
     * they could find the local and not its fields. */
    qc_store_release(&h->locals, l);
    if (rec != NULL && ++h->n_locals > h->by_record->mask)
        grow_table(h);
    return l;
}

heap_local *
heap_local_get(heap *h, qsbr_record *rec)
{
    heap_local *l;
    heap_lock(h);
    for (l = *place_in(h->by_record, rec); l != NULL && l->rec != rec; l = l->same_hash)
        page_count_seen();
    if (l == NULL)
        l = local_new(h, rec);
    /* A thread that got a recycled record goes on with what the last one left:
     * registering came after that one's end. */
    if (l != NULL)
        l->tenure = qc_load_acquire(&rec->tenure);
    qc_lock_release(&h->lock);
    return l;
}

static QC_NOINLINE heap_local *
local_slow(heap *h)
{
    qsbr_record *rec = qsbr_find(h->domain);
    heap_local *l = rec != NULL ? heap_local_get(h, rec) : NULL;
    if (l != NULL) {
        cached.heap_id = h->id;
        cached.local = l;
    }
    return l;
}

/* Of a thread that ends. */
static void
forget_local(void)
{
    cached = (local_cache){0};
}

/* The calling thread's, or NULL: it has no record, or there is no memory.  It stays
 * the thread's until that ends, unregistered or not (heap_local_is_left). */
QC_INLINE heap_local *
local_here(heap *h)
{
    if (qc_likely(cached.heap_id == h->id))
        return cached.local;
    return local_slow(h);
}

#ifdef QC_DEBUG
void
heap_act_as(heap *h, heap_local *l)
{
    cached.heap_id = h->id;
    cached.local = l;
}
#endif

bool
heap_poll(heap *h, uint64_t goal)
{
    qsbr_record *rec = qsbr_find(h->domain);
    return (rec == NULL || !qsbr_in_section(rec)) && qsbr_poll(h->domain, goal);
}

/* ---- heaps ---- */

/* What mimalloc keeps of what it was given back.  Only in a copy of our own (H7), and
 * after its own start, at which the second option would be the whole process's.
 *  - Freed tables go back at once: kept for a second, as is the default, a list of
 *    1.6 MB that is cleared and filled again holds 3.2 MB, and a dict that grew to
 *    5 MB 11; the page faults cost less than the filling (benchmarks/churn.py).
 *  - No huge pages: a heap with one small block is 2 MiB with them. */
static void
set_options(void)
{
#if defined(QC_MIMALLOC_OWN) && MI_MALLOC_VERSION >= 30000
    static _Atomic uint32_t done;
    if (qc_exchange_acq_rel(&done, 1u) == 0) {
        mi_option_set(mi_option_purge_delay, 0);
        mi_option_set(mi_option_allow_thp, 0);
    }
#endif
}

heap *
heap_new(qsbr_domain *domain)
{
    set_options();
    qsbr_at_thread_end(forget_local);
    heap *h = calloc(1, sizeof *h);
    if (h == NULL)
        return NULL;
    h->domain = domain;
    h->id = qc_add_relaxed(&next_heap_id, 1u);
    qc_lock_init(&h->lock);
    qc_lock_init(&h->common_lock);
    qc_lock_init(&h->tag_lock);
    qc_lock_init(&h->waiting.lock);
    qc_lock_init(&h->shelf.lock);
    qc_store_relaxed(&h->refs, 1u);
    qc_store_relaxed(&h->mended, qc_fork_generation);
    h->by_record = table_new(TABLE_LEAST);
    h->common = local_new(h, NULL);
    h->orphans = local_new(h, NULL);
    if (h->by_record != NULL && h->common != NULL && h->orphans != NULL)
        return h;
    free(h->by_record);
    free(h->common);
    free(h->orphans);
    free(h);
    return NULL;
}

/* Heaps whose memory a record that is online for good may still read (T8): kept in
 * reach, so that it is no leak. */
static _Atomic(heap *) unfinished;

static bool
has_retired(heap_page *p)
{
    return (qc_load_acquire(&p->state) & STATE_TAG) != 0 &&
           qc_load_relaxed(&p->used) != qc_load_relaxed(&p->n_free);
}

/* Whether no reader can read a block of the heap any more; waits for half a second. */
static bool
grace_is_over(heap *h)
{
    bool retired = false;
    for (heap_extent *e = qc_load_acquire(&h->extents); e != NULL; e = e->next)
        for (int i = 0; i < EXTENT_PAGES && e->memory != NULL; i++)
            retired |= has_retired(&e->pages[i]);
    if (!retired)
        return true;
    uint64_t goal = qsbr_advance(h->domain);
    struct timespec step = {.tv_nsec = 100 * 1000};
    for (int tries = 5000; !heap_poll(h, goal); tries--) {
        if (tries == 0 || qc_load_relaxed(&h->domain->broken) != 0)
            return false;
        nanosleep(&step, NULL);
    }
    return true;
}

static void
heap_end(heap *h)
{
    if (!grace_is_over(h)) {
        heap *head = qc_load_relaxed(&unfinished);
        do
            h->unfinished_next = head;
        while (!qc_cas_acq_rel(&unfinished, &head, h));
        return;
    }
    heap_extents_end(h);
    for (heap_local *l = qc_load_relaxed(&h->locals), *next; l != NULL; l = next) {
        next = l->next;
        qc_poison(l, sizeof *l);
        free(l);
    }
    free(h->by_record);
    qc_poison(h, sizeof *h);
    free(h);
}

void
heap_unref(heap *h)
{
    if (qc_sub_acq_rel(&h->refs, 1u) == 1)
        heap_end(h);
}

void
heap_delete(heap *h)
{
    large_close(h);
    for (heap_extent *e = qc_load_acquire(&h->extents); e != NULL; e = e->next) {
        for (int i = 0; i < EXTENT_PAGES; i++) {
            uint64_t s = qc_load_acquire(&e->pages[i].state);
            /* A reference for the thread whose CAS makes the live blocks 0. */
            qc_add_relaxed(&h->refs, 1u);
            while (!qc_cas_acq_rel(&e->pages[i].state, &s, s | STATE_LAST))
                ;
            if (state_live(s) == 0)
                qc_sub_relaxed(&h->refs, 1u);
        }
    }
    heap_unref(h);
}

/* ---- blocks ---- */

/* (owner writes) */
static void
count_live(heap_local *l, size_t more)
{
    qc_store_relaxed(&l->live_bytes, qc_load_relaxed(&l->live_bytes) + more);
}

/* For a thread without a record: the common local has one owner at a time. */
static QC_NOINLINE void *
alloc_common(heap *h, size_t size)
{
    heap_look_for_fork(h);
    qc_lock_acquire(&h->common_lock);
    void *block = page_alloc(h->common, page_class(size));
    qc_lock_release(&h->common_lock);
    if (block != NULL)
        qc_add_relaxed(&h->common->live_bytes, size);
    return block;
}

void *
heap_alloc(heap *h, size_t size)
{
    if (fails())
        return NULL;
    if (qc_unlikely(size > HEAP_SMALL_MAX))
        return large_alloc(h, size);
    heap_local *l = local_here(h);
    void *block;
    if (qc_unlikely(l == NULL)) {
        block = alloc_common(h, size);
    }
    else {
        block = page_alloc(l, page_class(size));
        if (qc_likely(block != NULL))
            count_live(l, size);
    }
    if (block != NULL)
        page_show(block, size);
    return block;
}

static void
give(heap *h, void *block, size_t size, bool retire)
{
    heap_local *l = local_here(h);
    qc_assert(page_of(block)->class == page_class(size));
    if (qc_likely(l != NULL))
        count_live(l, 0 - size);
    else
        qc_sub_relaxed(&h->common->live_bytes, size);
    page_give(h, l, block, retire); /* the heap may be gone after it */
}

void
heap_free(heap *h, void *block, size_t size)
{
    if (qc_likely(size <= HEAP_SMALL_MAX)) {
        give(h, block, size, false);
        return;
    }
    large_free(h, block, size);
}

void
heap_retire(heap *h, void *block, size_t size)
{
    qc_assert(heap_is_small(size));
    give(h, block, size, true);
}

uint64_t
heap_live_bytes(heap *h)
{
    uint64_t sum = qc_load_relaxed(&h->large_bytes);
    for (heap_local *l = qc_load_acquire(&h->locals); l != NULL; l = l->next)
        sum += qc_load_relaxed(&l->live_bytes);
    return sum;
}

uint64_t
heap_waiting_bytes(heap *h)
{
    return qc_load_relaxed(&h->waiting.pages) * PAGE_BYTES;
}

size_t
heap_collect(heap *h, bool (*wait)(qsbr_domain *domain, uint64_t goal))
{
    uint64_t before = qc_load_relaxed(&h->given_back);
    heap_local *l = local_here(h);
    /* What is tagged in the first round is reached in the second, or, where another
     * thread was about to put a page on a list, in the third. */
    for (int round = 0; round < 3; round++) {
        uint64_t goal = 0;
        page_reclaim_all(h, l, &goal);
        if (goal == 0)
            break;
        if (!(wait != NULL ? wait(h->domain, qsbr_advance(h->domain)) : qsbr_poll(h->domain, goal)))
            break;
    }
    heap_pool_give_back(h);
    size_t large = large_give_back(h);
    return large + (size_t)(qc_load_relaxed(&h->given_back) - before) * PAGE_BYTES;
}

void
heap_stats(heap *h, heap_figures *out)
{
    memset(out, 0, sizeof *out);
    out->live_bytes = heap_live_bytes(h);
    for (heap_local *l = qc_load_acquire(&h->locals); l != NULL; l = l->next)
        out->retired_bytes += qc_load_relaxed(&l->retired_bytes);
    heap_lock(h);
    for (heap_extent *e = qc_load_acquire(&h->extents); e != NULL; e = e->next) {
        if (e->memory == NULL)
            continue;
        out->pages += EXTENT_PAGES;
        out->pages_free += e->n_free;
        for (int i = 0; i < EXTENT_PAGES; i++) {
            uint64_t s = qc_load_relaxed(&e->pages[i].state);
            out->pages_waiting += state_live(s) == 0 && (s & STATE_WAITS) != 0;
        }
    }
    qc_lock_release(&h->lock);
    out->waiting_bytes = out->pages_waiting * PAGE_BYTES;
    out->pages_reused = qc_load_relaxed(&h->reused);
    out->pages_back = qc_load_relaxed(&h->back);
    out->pages_stolen = qc_load_relaxed(&h->stolen);
    out->pages_adopted = qc_load_relaxed(&h->adopted);
    out->kept_bytes = qc_load_relaxed(&h->shelf.bytes);
    out->pages_given_back = qc_load_relaxed(&h->given_back);
}
