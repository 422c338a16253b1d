/* The heap: what it gives out, what it counts, and failure.
 *
 * modes: one
 */
#include "harness.h"

#include <string.h>

#include "heap/heap.h"

static void
test_heap_counts_what_it_gave_out(void)
{
    enum { BLOCKS = 200 };
    heap *h = heap_new(&qsbr_process);
    CHECK(h != NULL);
    CHECK_EQ(heap_live_bytes(h), 0);
    unsigned char *blocks[BLOCKS];
    size_t sizes[BLOCKS], sum = 0;
    uint64_t random = 7;
    for (int i = 0; i < BLOCKS; i++) {
        sizes[i] = 1 + (size_t)(chance(&random) >> (44 + chance(&random) % 20));
        blocks[i] = heap_alloc(h, sizes[i]);
        CHECK(blocks[i] != NULL);
        CHECK_EQ((uintptr_t)blocks[i] % (sizes[i] >= 16 ? 16 : 8), 0);
        memset(blocks[i], i, sizes[i]);
        sum += sizes[i];
        CHECK_EQ(heap_live_bytes(h), sum);
    }
    for (int i = 0; i < BLOCKS; i++) {
        /* Nobody else had it meanwhile. */
        CHECK_EQ(blocks[i][0], (unsigned char)i);
        CHECK_EQ(blocks[i][sizes[i] - 1], (unsigned char)i);
        heap_free(h, blocks[i], sizes[i]);
        sum -= sizes[i];
        CHECK_EQ(heap_live_bytes(h), sum);
    }
    heap_delete(h);
}

/* A large block takes no page, and goes back when it is freed. */
static void
test_H6_large_blocks_take_no_page(void)
{
    heap *h = heap_new(&qsbr_process);
    CHECK(h != NULL && heap_is_small(HEAP_SMALL_MAX) && !heap_is_small(HEAP_SMALL_MAX + 1));
    heap_figures f;
    void *large = heap_alloc(h, HEAP_SMALL_MAX + 1);
    CHECK(large != NULL);
    heap_stats(h, &f);
    CHECK_EQ(f.pages, 0);
    CHECK_EQ(f.live_bytes, HEAP_SMALL_MAX + 1);
    void *small = heap_alloc(h, HEAP_SMALL_MAX);
    CHECK(small != NULL);
    heap_stats(h, &f);
    CHECK(f.pages > 0);
    heap_free(h, large, HEAP_SMALL_MAX + 1);
    heap_stats(h, &f);
    CHECK_EQ(f.live_bytes, HEAP_SMALL_MAX);
    CHECK_EQ(f.retired_bytes + f.waiting_bytes, 0); /* nothing of it waits */
    heap_free(h, small, HEAP_SMALL_MAX);
    heap_delete(h);
}

/* A heap that still has blocks goes with the last of them. */
static void
test_heap_deleted_before_its_blocks(void)
{
    heap *h = heap_new(&qsbr_process);
    void *a = heap_alloc(h, 100), *b = heap_alloc(h, 1 << 20);
    CHECK(a != NULL && b != NULL);
    heap_delete(h);
    CHECK_EQ(heap_live_bytes(h), 100 + (1 << 20));
    heap_free(h, b, 1 << 20);
    CHECK_EQ(heap_live_bytes(h), 100);
    heap_free(h, a, 100);
}

static void
test_heap_sizes_beyond_memory(void)
{
    heap *h = heap_new(&qsbr_process);
    CHECK(heap_alloc(h, SIZE_MAX) == NULL);
    CHECK(heap_alloc(h, SIZE_MAX - 64) == NULL);
    CHECK(heap_alloc(h, (size_t)PTRDIFF_MAX + 1) == NULL);
    CHECK_EQ(heap_live_bytes(h), 0);
    void *p = heap_alloc(h, 1);
    CHECK(p != NULL);
    heap_free(h, p, 1);
    heap_delete(h);
}

#ifdef QC_DEBUG
static void
test_heap_fails_at_the_nth(void)
{
    heap *h = heap_new(&qsbr_process);
    void *p[10];
    for (int forever = 0; forever < 2; forever++) {
        heap_fail_at(3, forever != 0);
        for (int i = 0; i < 10; i++) {
            p[i] = heap_alloc(h, 32);
            CHECK_EQ(p[i] == NULL, i == 2 || (forever != 0 && i > 2));
        }
        heap_fail_at(0, false);
        CHECK_EQ(heap_live_bytes(h), 32 * (forever != 0 ? 2 : 9));
        for (int i = 0; i < 10; i++)
            if (p[i] != NULL)
                heap_free(h, p[i], 32);
    }
    heap_delete(h);
}
#endif

/* From many threads at once, each freeing what the others allocated. */
enum { SLOTS = 64 };

typedef struct {
    heap *heap;
    _Atomic(size_t *) slots[SLOTS]; /* blocks begin with their size */
} traded;

static void
trade(void *arg, unsigned i)
{
    traded *t = arg;
    uint64_t random = i + 99;
    for (uint64_t n = scaled(100000); n > 0; n--) {
        size_t size = sizeof(size_t) + chance(&random) % 2000;
        size_t *block = heap_alloc(t->heap, size);
        CHECK(block != NULL);
        *block = size;
        block = qc_exchange_acq_rel(&t->slots[chance(&random) % SLOTS], block);
        if (block != NULL)
            heap_free(t->heap, block, *block);
    }
}

static void
test_heap_from_several_threads(void)
{
    traded t = {.heap = heap_new(&qsbr_process)};
    run_threads(3, trade, &t);
    size_t left = 0;
    for (int i = 0; i < SLOTS; i++)
        if (qc_load_relaxed(&t.slots[i]) != NULL)
            left += *qc_load_relaxed(&t.slots[i]);
    CHECK_EQ(heap_live_bytes(t.heap), left);
    for (int i = 0; i < SLOTS; i++) {
        size_t *block = qc_load_relaxed(&t.slots[i]);
        if (block != NULL)
            heap_free(t.heap, block, *block);
    }
    CHECK_EQ(heap_live_bytes(t.heap), 0);
    heap_delete(t.heap);
}

#ifdef QC_DEBUG
/* What is freed is overwritten: the page gives the next caller the same block, with
 * what was in it.  (A compiler is free to leave out stores before a free.) */
static void
test_heap_poisons_what_it_frees(void)
{
    enum { SIZE = 200 };
    heap *h = heap_new(&qsbr_process);
    void *block = heap_alloc(h, SIZE);
    uintptr_t was = (uintptr_t)block;
    memset(block, 1, SIZE);
    heap_free(h, block, SIZE);
    volatile unsigned char *again = heap_alloc(h, SIZE);
    CHECK_EQ((uintptr_t)again, was);
    for (int i = sizeof(heap_block); i < SIZE; i++) /* H1: the first word is the heap's */
        CHECK_EQ(again[i], QC_POISON);
    heap_free(h, (void *)again, SIZE);
    heap_delete(h);
}
#endif

int
main(void)
{
    harness_init(true);
    CHECK(qsbr_register_process() != NULL); /* the threads of the last test have none */
    RUN(test_heap_counts_what_it_gave_out);
    RUN(test_H6_large_blocks_take_no_page);
    RUN(test_heap_deleted_before_its_blocks);
    RUN(test_heap_sizes_beyond_memory);
#ifdef QC_DEBUG
    RUN(test_heap_fails_at_the_nth);
#endif
#ifdef QC_DEBUG
    RUN(test_heap_poisons_what_it_frees);
#endif
    RUN(test_heap_from_several_threads);
    return 0;
}
