/* Large blocks that are kept for the next ones (H6): which, how many, for how long.
 *
 * modes: one
 */
#include "fork_stops.h"
#include "harness.h"

#include <string.h>

#include "heap/page.h"

enum { KIB = 1024, LARGE = 9 * KIB, LIMIT = 100 * KIB, MOST = 256 * KIB };

static heap *h;

static void
begin(void)
{
    heap_kept_limit = LIMIT;
    h = heap_new(&qsbr_process);
    CHECK(h != NULL);
}

static size_t
kept(void)
{
    heap_figures f;
    heap_stats(h, &f);
    return f.kept_bytes;
}

static void
end(void)
{
    CHECK_EQ(heap_live_bytes(h), 0);
    heap_delete(h);
}

/* As a number: nobody looks at memory that is free. */
static uintptr_t
come_and_go(size_t size)
{
    void *block = heap_alloc(h, size);
    CHECK(block != NULL);
    memset(block, 1, size);
    uintptr_t at = (uintptr_t)block;
    heap_free(h, block, size);
    return at;
}

static void
test_H6_a_freed_large_block_serves_the_next_of_its_class(void)
{
    begin();
    uintptr_t at = come_and_go(LARGE);
    CHECK_EQ(kept(), LARGE);
    CHECK_EQ(heap_live_bytes(h), 0);
    void *other = heap_alloc(h, LARGE + 1); /* of the next class */
    CHECK((uintptr_t)other != at);
    CHECK_EQ(kept(), LARGE);
    void *block = heap_alloc(h, LARGE - KIB + 1);
    CHECK_EQ((uintptr_t)block, at);
    CHECK_EQ(kept(), 0);
    CHECK_EQ(heap_live_bytes(h), 2 * LARGE - KIB + 2);
    void *third = heap_alloc(h, LARGE);
    CHECK((uintptr_t)third != at);
    heap_free(h, block, LARGE - KIB + 1);
    heap_free(h, other, LARGE + 1);
    heap_free(h, third, LARGE);
    end();
}

/* A block that is kept has the room of its class, whatever it was asked for as. */
static void
test_H6_sizes_of_a_class_fit_in_each_other(void)
{
    begin();
    heap_kept_limit = 10 * MOST;
    for (size_t size = HEAP_SMALL_MAX + 1; size <= MOST; size += 509) {
        uintptr_t at = come_and_go(size);
        size_t class = kept();
        CHECK(class >= size && class - size < size / 8 + 1);
        CHECK_EQ(come_and_go(class), at);
        CHECK_EQ(kept(), class);
        CHECK_EQ(heap_collect(h, NULL), class);
    }
    end();
}

static void
test_H6_no_more_than_the_limit_is_kept(void)
{
    enum { BLOCKS = 2 * LIMIT / LARGE };
    void *blocks[BLOCKS];
    begin();
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = heap_alloc(h, LARGE);
    for (int i = 0; i < BLOCKS; i++)
        heap_free(h, blocks[i], LARGE);
    CHECK_EQ(kept(), LIMIT / LARGE * LARGE);
    CHECK_EQ(heap_collect(h, NULL), LIMIT / LARGE * LARGE);
    CHECK_EQ(kept(), 0);
    heap_kept_limit = 0;
    come_and_go(LARGE);
    CHECK_EQ(kept(), 0);
    heap_kept_limit = 4 * MOST;
    come_and_go(MOST + 1);
    CHECK_EQ(kept(), 0);
    come_and_go(MOST);
    CHECK_EQ(kept(), MOST);
    end();
}

/* What grows large does not hold what it outgrew. */
static void
test_H6_nothing_is_kept_beside_a_huge_block(void)
{
    begin();
    come_and_go(LARGE);
    come_and_go(2 * LARGE);
    come_and_go(4 * MOST - 1);
    CHECK_EQ(kept(), 3 * LARGE);
    come_and_go(4 * MOST);
    CHECK_EQ(kept(), 0);
    end();
}

static void
test_H6_what_nobody_asks_for_is_given_back(void)
{
    begin();
    come_and_go(LARGE);
    for (int i = 0; i < 100; i++) {
        heap_tidy(h);
        CHECK_EQ(kept(), LARGE);
        if (i % 10 == 0)
            come_and_go(LARGE);
    }
    for (int i = 0; i < 20; i++)
        heap_tidy(h);
    CHECK_EQ(kept(), 0);
    end();
}

/* From then on its blocks go back at once: it ends with the last. */
static void
test_H6_a_deleted_heap_keeps_nothing(void)
{
    begin();
    void *block = heap_alloc(h, LARGE), *last = heap_alloc(h, LARGE);
    come_and_go(2 * LARGE);
    heap_delete(h);
    CHECK_EQ(kept(), 0);
    heap_free(h, block, LARGE);
    CHECK_EQ(kept(), 0);
    heap_free(h, last, LARGE);
}

enum { SLOTS = 16 };

typedef struct {
    _Atomic(size_t *) slots[SLOTS]; /* blocks begin with their size */
} traded;

static void
trade(void *arg, unsigned i)
{
    traded *t = arg;
    uint64_t random = i + 99;
    for (uint64_t n = scaled(20000); n > 0; n--) {
        size_t size = HEAP_SMALL_MAX + 1 + chance(&random) % (40 * KIB);
        size_t *block = heap_alloc(h, size);
        CHECK(block != NULL);
        *block = size;
        ((char *)block)[size - 1] = (char)size;
        block = qc_exchange_acq_rel(&t->slots[chance(&random) % SLOTS], block);
        if (block != NULL) {
            CHECK_EQ(((char *)block)[*block - 1], (char)*block);
            heap_free(h, block, *block);
        }
        if (n % 1000 == 0)
            heap_collect(h, NULL);
    }
}

static void
test_H6_several_threads(void)
{
    static traded t;
    begin();
    run_threads(3, trade, &t);
    for (int i = 0; i < SLOTS; i++) {
        size_t *block = qc_load_relaxed(&t.slots[i]);
        if (block != NULL)
            heap_free(h, block, *block);
    }
    CHECK(kept() <= LIMIT);
    end();
}

#ifdef QC_DEBUG
static void
one_goes_one_comes(void *arg)
{
    void **blocks = arg;
    heap_free(h, blocks[0], LARGE);
    blocks[0] = heap_alloc(h, 2 * LARGE);
}

/* The lists of what is kept are right, whatever the other thread was doing to them. */
static void
go_on_in_the_child(void *ignored)
{
    (void)ignored;
    size_t before = kept();
    void *blocks[4];
    for (int i = 0; i < 4; i++)
        CHECK((blocks[i] = heap_alloc(h, (size_t)(1 + i % 2) * LARGE)) != NULL);
    CHECK_EQ(kept() % LARGE, 0);
    for (int i = 0; i < 4; i++)
        heap_free(h, blocks[i], (size_t)(1 + i % 2) * LARGE);
    CHECK(kept() >= before);
    CHECK(heap_collect(h, NULL) >= before);
    CHECK_EQ(kept(), 0);
}

static void
test_Q10_a_fork_while_a_block_is_put_or_taken(void)
{
    stepper *other = stepper_new();
    bool stopped = true;
    unsigned n = 0;
    for (; stopped; n++) {
        begin();
        come_and_go(LARGE);
        come_and_go(2 * LARGE);
        void *block = heap_alloc(h, LARGE);
        stopped = fork_at(other, one_goes_one_comes, &block, n, go_on_in_the_child);
        heap_free(h, block, 2 * LARGE);
        end();
    }
    CHECK(n > 4);
    stepper_end(other);
}
#endif

int
main(void)
{
    harness_init(true);
    CHECK(qsbr_register_process() != NULL);
    RUN(test_H6_a_freed_large_block_serves_the_next_of_its_class);
    RUN(test_H6_sizes_of_a_class_fit_in_each_other);
    RUN(test_H6_no_more_than_the_limit_is_kept);
    RUN(test_H6_nothing_is_kept_beside_a_huge_block);
    RUN(test_H6_what_nobody_asks_for_is_given_back);
    RUN(test_H6_a_deleted_heap_keeps_nothing);
    RUN(test_H6_several_threads);
#ifdef QC_DEBUG
    RUN(test_Q10_a_fork_while_a_block_is_put_or_taken);
#endif
    return 0;
}
