/* The costs of the page heap, counted: advances and heavy barriers for retired blocks of
 * every size (H2), and visits of other threads' locals (H5).
 *
 * modes: one
 */
#define _GNU_SOURCE /* posix_memalign */
#include "page_place.h"

/* With the shipped limits, and with a second record, without which no barrier is needed. */
static stepper *
begin_as_shipped(void)
{
    place_begin();
    heap_page_limit = (size_t)80 << 10;
    heap_page_batch = 104;
    return reader_new(domain);
}

/* ---- H2 ---- */

static void
replace_all_the_time(size_t size, int live, uint64_t n)
{
    stepper *other = begin_as_shipped();
    uint64_t random = 7;
    void **blocks = calloc((size_t)live, sizeof *blocks);
    get_many(blocks, live, size);
    uint64_t before = advances(), barriers = qc_load_relaxed(&domain->heavy_barriers);
    for (uint64_t i = 0; i < n; i++) {
        int j = (int)(chance(&random) % (uint64_t)live);
        void *old = blocks[j];
        blocks[j] = heap_alloc(h, size);
        CHECK(blocks[j] != NULL);
        heap_retire(h, old, size);
    }
    CHECK((advances() - before) * 100 <= n);
    CHECK((qc_load_relaxed(&domain->heavy_barriers) - barriers) * 100 <= n);
    /* And memory stays near what is needed: blocks for two batches, and what of pages and
     * extents is not used. */
    uint64_t fill = (PAGE_BYTES - PAGE_FIRST) / page_class_bytes(page_class(size));
    uint64_t need = ((uint64_t)live + fill - 1) / fill, batch = (2 * 104 + fill - 1) / fill;
    CHECK(figures().pages <= need + need / 4 + batch + 2 * 16);
    free_many(blocks, live, size);
    free(blocks);
    stepper_end(other);
    place_end();
}

static void
test_H2_at_most_ten_advances_for_a_thousand_blocks(void)
{
    const int lives[] = {1, 100, 5000};
    for (unsigned i = 0; i < 3; i++)
        for (size_t size = 64; size <= HEAP_SMALL_MAX; size *= 2)
            replace_all_the_time(size, lives[i], 10000);
}

/* The same without allocations in between (T4). */
static void
test_T4_at_most_ten_advances_for_a_thousand_blocks(void)
{
    enum { MANY = 3000 };
    static void *blocks[MANY];
    for (size_t size = 64; size <= HEAP_SMALL_MAX; size *= 2) {
        stepper *other = begin_as_shipped();
        get_many(blocks, MANY, size);
        uint64_t before = advances();
        retire_many(blocks, MANY, size);
        CHECK((advances() - before) * 100 <= MANY);
        /* What waits without a goal is little. */
        uint64_t untagged = 0;
        for (heap_local *l = qc_load_acquire(&h->locals); l != NULL; l = l->next)
            untagged += l->untagged.n;
        CHECK(untagged <= 16);
        stepper_end(other);
        place_end();
    }
}

/* T7: any number of threads may have waiting pages, each fewer than it would tag.  The
 * thread that passes the limit for all of them has a safe point next. */
static void
test_T7_waiting_pages_of_all_threads(void)
{
    enum { PAGES = 6 };
    void *blocks[PAGES * BIGS];
    stepper *asleep = begin_as_shipped();
    qsbr_record *mine = qsbr_find(domain);
    heap_waiting_limit = (PAGES - 1) * PAGE_BYTES;
    get_by(asleep, blocks, 3 * BIGS, BIG);
    retire_by(asleep, blocks, 3 * BIGS, BIG);
    get_many(blocks, (PAGES - 3) * BIGS, BIG);
    retire_many(blocks, (PAGES - 4) * BIGS, BIG);
    CHECK_EQ(figures().pages_waiting, PAGES - 1);
    CHECK(!qsbr_is_asked(mine));
    retire_many(blocks + (PAGES - 4) * BIGS, BIGS, BIG);
    CHECK_EQ(figures().pages_waiting, PAGES);
    CHECK(qsbr_is_asked(mine));
    heap_waiting_limit = HEAP_WAITING_LIMIT;
    stepper_end(asleep);
    place_end();
}

/* ---- H5 ---- */

/* A thread that tags for others tags exactly the pages that it took before its advance,
 * however many threads have left waiting pages, and whatever that number is a multiple of. */
static void
test_H5_the_pages_of_many_that_sleep(void)
{
    enum { MOST = 48 };
    static stepper *asleep[MOST];
    static void *blocks[MOST * BIGS];
    for (int n = 1; n <= MOST; n += n < 8 ? 7 : 8) {
        place_begin();
        for (int i = 0; i < n; i++) {
            asleep[i] = stepper_new();
            get_by(asleep[i], blocks + i * BIGS, BIGS, BIG);
            retire_by(asleep[i], blocks + i * BIGS, BIGS, BIG);
        }
        heap_local *mine = heap_local_get(h, qsbr_find(domain));
        uint64_t before = advances(), looks = (uint64_t)(n + PAGE_OTHERS - 1) / PAGE_OTHERS;
        for (uint64_t i = 0; i < looks; i++)
            page_look(mine, 0);
        CHECK_EQ(advances() - before, looks);
        for (int i = 0; i < n; i++)
            CHECK(qc_load_relaxed(&page_of(blocks[i * BIGS])->state) & STATE_TAGGED);
        for (int i = 0; i < n; i++)
            stepper_end(asleep[i]);
        place_end();
    }
}

/* Blocks are counted once; if they were counted twice, two pages would cause an advance. */
static void
test_T4_blocks_that_wait_are_counted_once(void)
{
    void *blocks[2 * BIGS];
    stepper *asleep = begin_as_shipped();
    get_by(asleep, blocks, 2 * BIGS, BIG);
    retire_by(asleep, blocks, BIGS, BIG);
    retire_by(asleep, blocks + BIGS, BIGS, BIG);
    uint64_t before = advances();
    for (int i = 0; i < 3; i++)
        page_look(heap_local_get(h, qsbr_find(domain)), 0);
    CHECK_EQ(advances(), before);
    stepper_end(asleep);
    place_end();
}

#ifdef QC_DEBUG
enum { TINY = 64, EACH = 3, ROOM = 4, MANY_THREADS = 4000, FEW_THREADS = 10 };

/* Threads that are only records, with EACH blocks of one page. */
static qsbr_record *records;
static void **theirs;
static uint64_t seen;

static uint64_t
seen_since(void)
{
    uint64_t was = seen;
    seen = qc_load_relaxed(&page_locals_seen);
    return seen - was;
}

static void
threads_begin(int n)
{
    place_begin();
    page_blocks = ROOM;
    void *memory;
    CHECK(posix_memalign(&memory, QC_LINE_PAIR, (size_t)n * sizeof *records) == 0);
    memset(memory, 0, (size_t)n * sizeof *records);
    records = memory;
    theirs = calloc((size_t)n * EACH, sizeof *theirs);
    seen_since();
    for (int i = 0; i < n; i++) {
        records[i].domain = domain;
        qc_store_relaxed(&records[i].refs, 2u);
        heap_act_as(h, heap_local_get(h, &records[i]));
        get_many(theirs + i * EACH, EACH, TINY);
    }
    heap_act_as(h, heap_local_get(h, qsbr_find(domain)));
}

static void
threads_end(int n)
{
    free_many(theirs, n * EACH, TINY);
    place_end();
    free(theirs);
    free(records);
}

/* The most locals that are visited for one page. */
#define A_PAGE (4 * PAGE_OTHERS + 2)

static void
test_H5_what_a_thread_s_first_page_costs(void)
{
    for (int i = 0; i < 2; i++) {
        int n = i == 0 ? FEW_THREADS : MANY_THREADS;
        threads_begin(n);
        CHECK(seen_since() <= (uint64_t)n * (A_PAGE + 4)); /* the table's chains */
        threads_end(n);
    }
}

static void
test_H5_a_fresh_page_beside_idle_threads(void)
{
    enum { PAGES = 100 };
    for (int i = 0; i < 2; i++) {
        int n = i == 0 ? FEW_THREADS : MANY_THREADS;
        void *blocks[PAGES * ROOM];
        threads_begin(n);
        seen_since();
        get_many(blocks, PAGES * ROOM, TINY);
        CHECK(seen_since() <= PAGES * A_PAGE);
        CHECK_EQ(figures().pages_adopted, 0);
        free_many(blocks, PAGES * ROOM, TINY);
        threads_end(n);
    }
}

/* Each page of the ended threads is found, one for each page that is needed. */
static void
test_H5_a_fresh_page_after_threads_that_ended(void)
{
    for (int i = 0; i < 2; i++) {
        int n = i == 0 ? FEW_THREADS : MANY_THREADS;
        void **blocks = calloc((size_t)n, sizeof *blocks);
        threads_begin(n);
        for (int j = 0; j < n; j++)
            qc_store_release(&records[j].refs, 0u);
        seen_since();
        uint64_t pages = figures().pages;
        get_many(blocks, n, TINY); /* each is the last block of a page */
        CHECK(seen_since() <= (uint64_t)n * A_PAGE);
        CHECK_EQ(figures().pages_adopted, n);
        CHECK_EQ(figures().pages, pages);
        free_many(blocks, n, TINY);
        free(blocks);
        threads_end(n);
    }
}

/* A page is adopted although many pages without a block stand before it. */
static void
test_H5_a_page_to_adopt_behind_many(void)
{
    threads_begin(MANY_THREADS);
    void *blocks[MANY_THREADS], *one;
    for (int j = 0; j < MANY_THREADS; j++) {
        heap_act_as(h, heap_local_get(h, &records[j]));
        if (j != MANY_THREADS / 2)
            get_many(blocks + j, 1, TINY);
        qc_store_release(&records[j].refs, 0u);
    }
    heap_act_as(h, heap_local_get(h, qsbr_find(domain)));
    uint64_t pages = 0;
    do {
        one = get(TINY);
        pages++;
        if (page_of(one) == page_of(theirs[MANY_THREADS / 2 * EACH]))
            break;
        blocks[MANY_THREADS / 2] = NULL;
        heap_free(h, one, TINY);
        heap_collect(h, qsbr_wait); /* the page is needed anew each time */
    } while (pages <= MANY_THREADS / PAGE_OTHERS + 1);
    CHECK(page_of(one) == page_of(theirs[MANY_THREADS / 2 * EACH]));
    heap_free(h, one, TINY);
    for (int j = 0; j < MANY_THREADS; j++)
        if (j != MANY_THREADS / 2)
            heap_free(h, blocks[j], TINY);
    threads_end(MANY_THREADS);
}

/* In the child of a fork each page finds its local in one step (Q10). */
static void
mends(void *arg)
{
    (void)arg;
    seen_since();
    figures();
    CHECK_EQ(qc_load_relaxed(&h->mended), qc_fork_generation);
    CHECK_EQ(seen_since(), 0);
    free_many(theirs, MANY_THREADS * EACH, TINY);
    heap_collect(h, qsbr_wait);
    CHECK_EQ(figures().pages, 0);
}

static void
test_Q10_mending_looks_at_no_local_for_a_page(void)
{
    threads_begin(MANY_THREADS);
    in_child(mends, NULL);
    threads_end(MANY_THREADS);
}
#endif

/* A new thread takes over the local of one that ended, so there are no more locals than
 * threads at a time. */
static void
test_H5_locals_are_used_again(void)
{
    place_begin();
    void *a[BIGS];
    get_many(a, 1, BIG);
    for (int i = 0; i < 100; i++) {
        stepper *s = stepper_new();
        get_by(s, a + 1, BIGS - 1, BIG);
        if (i % 2 == 0)
            free_by(s, a + 1, BIGS - 1, BIG);
        else
            free_many(a + 1, BIGS - 1, BIG);
        stepper_end(s);
    }
    int n = 0;
    for (heap_local *l = qc_load_acquire(&h->locals); l != NULL; l = l->next)
        n++;
    CHECK_EQ(n, 4); /* this thread's, that of the others, the common one, the orphans' */
    heap_free(h, a[0], BIG);
    place_end();
}

int
main(void)
{
    harness_init(true);
    RUN(test_H2_at_most_ten_advances_for_a_thousand_blocks);
    RUN(test_T4_at_most_ten_advances_for_a_thousand_blocks);
    RUN(test_T7_waiting_pages_of_all_threads);
    RUN(test_H5_the_pages_of_many_that_sleep);
    RUN(test_T4_blocks_that_wait_are_counted_once);
#ifdef QC_DEBUG
    RUN(test_H5_what_a_thread_s_first_page_costs);
    RUN(test_H5_a_fresh_page_beside_idle_threads);
    RUN(test_H5_a_fresh_page_after_threads_that_ended);
    RUN(test_H5_a_page_to_adopt_behind_many);
    RUN(test_Q10_mending_looks_at_no_local_for_a_page);
#endif
    RUN(test_H5_locals_are_used_again);
    return 0;
}
