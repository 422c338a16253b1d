/* Torture for the page heap (H1-H5): writers that replace blocks of many sizes and
 * retire the old ones, readers that hold them in sections, threads that come, sleep
 * and end with pages of their own.  A block has one number in all its words: a reader
 * that sees it change has found a block that was served again too early.  (Reads and
 * writes of it are plain, so ThreadSanitizer finds that too.)  In the end nothing is
 * left.
 */
#include "page_place.h"

enum { SLOTS = 300, KEPT = 40 };

typedef struct {
    heap_block block;
    _Atomic uint32_t age; /* 0 linked, 1 unlinked */
    uint32_t size;
    /* When it was unlinked, and the same inverted: words that are found in a block that
     * is served again, unless it was filled with poison. */
    _Atomic uint64_t unlinked, inverted;
    uint64_t words[]; /* all n */
} item;

static _Atomic(item *) slots[SLOTS];
static _Atomic uint64_t numbers, sections, stale, retired;
static spans reused;

static item *
item_new(uint64_t *random)
{
    /* Small ones more often; up to the largest, all classes. */
    size_t size = 48 + (chance(random) % 8144 >> chance(random) % 9);
    item *x = heap_alloc(h, size);
    CHECK(x != NULL);
    uint64_t n = qc_add_relaxed(&numbers, 1u) + 1;
    uint64_t unlinked = qc_load_relaxed(&x->unlinked);
    if (unlinked == ~qc_load_relaxed(&x->inverted) && unlinked != 0) {
        span age = {0};
        span_add(&age, now_ns() - unlinked);
        span_put_together(&reused, &age);
    }
    qc_store_relaxed(&x->unlinked, 0u);
    qc_store_relaxed(&x->age, 0u);
    x->size = (uint32_t)size;
    for (size_t i = 0; i < (size - sizeof *x) / sizeof(uint64_t); i++)
        x->words[i] = n;
    return x;
}

static void
check_item(item *x)
{
    for (size_t i = 1; i < (x->size - sizeof *x) / sizeof(uint64_t); i++)
        CHECK_EQ(x->words[i], x->words[0]);
}

/* ---- what threads do ---- */

static void
replace(uint64_t *random)
{
    item *x = item_new(random);
    item *old = qc_exchange_acq_rel(&slots[chance(random) % SLOTS], x);
    if (old == NULL)
        return;
    check_item(old);
    uint64_t now = now_ns();
    qc_store_relaxed(&old->unlinked, now);
    qc_store_relaxed(&old->inverted, ~now);
    qc_store_relaxed(&old->age, 1u);
    qc_add_relaxed(&retired, 1u);
    heap_retire(h, old, old->size);
}

static void
look(qsbr_record *rec, uint64_t *random)
{
    qsbr_enter(rec);
    item *x = qc_load_acquire(&slots[chance(random) % SLOTS]);
    if (x != NULL) {
        uint64_t n = x->words[0];
        uint32_t size = x->size;
        for (unsigned i = chance(random) % 256 == 0 ? 300 : 1; i > 0; i--) {
            check_item(x);
            CHECK(x->words[0] == n && x->size == size);
            CHECK(qc_load_relaxed(&x->age) < 2);
        }
        qc_add_relaxed(&stale, qc_load_relaxed(&x->age));
    }
    qsbr_exit(rec);
}

/* Blocks of one's own, freed at once; by another thread now and then. */
static void
keep(item **kept, uint64_t *random)
{
    item **x = &kept[chance(random) % KEPT];
    if (*x == NULL) {
        *x = item_new(random);
    }
    else {
        check_item(*x);
        heap_free(h, *x, (*x)->size);
        *x = NULL;
    }
}

static void *
live_for_a_while(void *arg)
{
    uint64_t random = a_seed();
    item *kept[KEPT] = {NULL};
    qsbr_record *rec = qsbr_register(domain);
    CHECK(rec != NULL);
    unsigned reads = chance(&random) % 2 ? 200 : 50; /* of 256 */
    uint64_t max = 500 + chance(&random) % 5000, n;
    for (n = 0; n < max && !time_is_over(); n++) {
        uint64_t dice = chance(&random);
        if (dice % 256 < reads)
            look(rec, &random);
        else if (dice % 3 == 0)
            keep(kept, &random);
        else
            replace(&random);
        if (dice >> 40 == 7)
            heap_collect(h, (dice >> 32) % 2 == 0 ? qsbr_wait : NULL);
        if (dice >> 20 == 0)
            sleep_ms(20);
    }
    /* What is kept goes to others: into slots, or freed by whoever finds it. */
    for (int i = 0; i < KEPT; i++) {
        if (kept[i] == NULL)
            continue;
        item *old = qc_exchange_acq_rel(&slots[chance(&random) % SLOTS], kept[i]);
        if (old != NULL)
            heap_retire(h, old, old->size);
    }
    qc_add_relaxed(&sections, n);
    return arg;
}

static void
lives(void *arg, unsigned i)
{
    (void)i;
    while (!time_is_over())
        thread_join(thread_start(live_for_a_while, arg));
}

static void
torture(unsigned threads, unsigned ms)
{
    place_begin();
    heap_page_limit = HEAP_PAGE_LIMIT;
    run_threads_for(ms, threads, lives, NULL);
    heap_figures f = figures();
    CHECK(f.live_bytes != 0);
    report("sum", "steps", qc_exchange_acq_rel(&sections, 0u));
    report("sum", "blocks retired", qc_exchange_acq_rel(&retired, 0u));
    report("sum", "sections that saw what was unlinked", qc_exchange_acq_rel(&stale, 0u));
    report("sum", "pages reused", f.pages_reused + f.pages_back);
    report("sum", "pages of others", f.pages_stolen + f.pages_adopted);
    span_report(&reused, "age at reuse");
    for (int i = 0; i < SLOTS; i++) {
        item *x = qc_exchange_acq_rel(&slots[i], NULL);
        if (x != NULL) {
            check_item(x);
            heap_free(h, x, x->size);
        }
    }
    place_end();
}

static void
test_H2_H4_H5_threads_that_come_and_go(void)
{
    torture(4, 1500);
}

#ifdef QC_DEBUG
/* With the locks and published stores slept at, and pages of a few blocks. */
static void
test_H2_H4_H5_at_every_place(void)
{
    qc_yield_at_random(50);
    torture(4, 1500);
    qc_yield_at_random(0);
}
#endif

/* Pages of one to four blocks, which are full, empty and in use again all the time: an
 * owner, threads that retire its blocks, and two threads that collect, and use free pages
 * for another class.  (Seven blocks without QC_DEBUG, which cannot lower the number.) */
#ifdef QC_DEBUG
enum { SMALL = 256, ROUNDS = 4 };
#else
enum { SMALL = BIG, ROUNDS = 1 };
#endif
enum { RETIRERS = 3, COLLECTORS = 2, IN_HAND = 12 };

static _Atomic(uint64_t *) handed[IN_HAND];

/* Filled with its own address, so that two users of one block are seen. */
static uint64_t *
small_new(size_t size)
{
    uint64_t *block = heap_alloc(h, size);
    CHECK(block != NULL);
    for (size_t i = 1; i < size / sizeof *block; i++)
        block[i] = (uintptr_t)block ^ size;
    return block;
}

static void
small_retire(uint64_t *block, size_t size, bool now)
{
    for (size_t i = 1; i < size / sizeof *block; i++)
        CHECK_EQ(block[i], (uintptr_t)block ^ size);
    if (now)
        heap_free(h, block, size);
    else
        heap_retire(h, block, size);
    qc_add_relaxed(&retired, 1u);
}

static void
own_retire_or_collect(void *arg, unsigned who)
{
    uint64_t random = a_seed();
    (void)arg;
    CHECK(qsbr_register(domain) != NULL);
    while (!time_is_over()) {
        uint64_t dice = chance(&random);
        _Atomic(uint64_t *) *place = &handed[(dice >> 8) % IN_HAND];
        if (who > RETIRERS) { /* collects */
            uint64_t *others[4];
            size_t size = SMALL / 2 - 16 * who;
            heap_collect(h, dice % 2 != 0 ? qsbr_wait : NULL);
            for (int i = 0; i < 4; i++)
                others[i] = small_new(size);
            for (int i = 0; i < 4; i++)
                small_retire(others[i], size, dice % 3 == 0);
            continue;
        }
        uint64_t *block = who == 0 ? small_new(SMALL) : NULL;
        block = qc_exchange_acq_rel(place, block);
        if (block != NULL)
            small_retire(block, SMALL, dice % 4 == 0);
    }
}

static void
test_H4_H5_pages_of_few_blocks(void)
{
    for (unsigned round = 1; round <= ROUNDS; round++) {
        place_begin();
        heap_page_limit = round % 2 != 0 ? HEAP_PAGE_LIMIT : (size_t)1 << 40;
#ifdef QC_DEBUG
        page_blocks = round;
        qc_yield_at_random(20);
#endif
        run_threads_for(600, 1 + RETIRERS + COLLECTORS, own_retire_or_collect, NULL);
#ifdef QC_DEBUG
        qc_yield_at_random(0);
#endif
        for (int i = 0; i < IN_HAND; i++) {
            uint64_t *block = qc_exchange_acq_rel(&handed[i], NULL);
            if (block != NULL)
                small_retire(block, SMALL, true);
        }
        report("sum", "blocks of few a page", qc_exchange_acq_rel(&retired, 0u));
        place_end();
    }
}

#if defined(QC_DEBUG) && !HARNESS_SANITIZED /* on libc, which may be called after a fork */
/* Q10: children of forks in the middle of all that.  What the threads that are gone
 * had in hand may be lost, a page a thread at most; all else works. */
enum { TORTURERS = 4 };

static void *
child_thread(void *arg)
{
    uint64_t *random = arg;
    qsbr_record *rec = qsbr_register(domain);
    CHECK(rec != NULL);
    for (int i = 0; i < 300; i++) {
        look(rec, random);
        replace(random);
    }
    return NULL;
}

static void
child_of_torture(void *arg)
{
    uint64_t random = *(uint64_t *)arg;
    qc_yield_hook = NULL;
    child_thread(&random);
    thread_join(thread_start(child_thread, &random));
    for (int i = 0; i < SLOTS; i++) {
        item *x = qc_exchange_acq_rel(&slots[i], NULL);
        if (x != NULL) {
            check_item(x);
            heap_free(h, x, x->size);
        }
    }
    heap_collect(h, qsbr_wait);
    CHECK_EQ(figures().pages_waiting, 0);
    heap_delete(h); /* and is kept by what was lost */
}

static void
lives_or_forks(void *arg, unsigned i)
{
    if (i != 0) {
        lives(arg, i);
        return;
    }
    uint64_t random = a_seed();
    CHECK(qsbr_register(domain) != NULL);
    while (!time_is_over()) {
        chance(&random);
        in_child(child_of_torture, &random);
        sleep_ms((unsigned)(chance(&random) % 5));
    }
}

static void
test_Q10_forks_at_any_moment(void)
{
    place_begin();
    heap_page_limit = HEAP_PAGE_LIMIT;
    page_blocks = 24;
    qc_yield_at_random(100); /* so that there is something to fork in */
    run_threads_for(1500, 1 + TORTURERS, lives_or_forks, NULL);
    qc_yield_at_random(0);
    for (int i = 0; i < SLOTS; i++) {
        item *x = qc_exchange_acq_rel(&slots[i], NULL);
        if (x != NULL)
            heap_free(h, x, x->size);
    }
    place_end();
}
#endif

int
main(void)
{
    harness_init(true);
    RUN(test_H2_H4_H5_threads_that_come_and_go);
#ifdef QC_DEBUG
    RUN(test_H2_H4_H5_at_every_place);
#endif
    RUN(test_H4_H5_pages_of_few_blocks);
#if defined(QC_DEBUG) && !HARNESS_SANITIZED
    RUN(test_Q10_forks_at_any_moment);
#endif
    return 0;
}
