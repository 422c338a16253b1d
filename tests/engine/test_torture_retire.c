/* Torture for the retire queue (Q1, T5, T6): writers that retire through it, readers
 * that run what others left, threads that end with batches open and closed.  In the end
 * every item has run exactly once, and the figures say so.
 */
#include "retire_place.h"

#include <string.h>

#define MAGIC UINT64_C(0x6974656d6974656d)
#define PAYLOAD 6

enum { SLOTS = 8 };

typedef struct {
    uint64_t magic;
    _Atomic uint32_t age; /* 0 linked, 1 unlinked; then it is gone */
    uint64_t payload[PAYLOAD];
    _Atomic uint64_t unlinked; /* when */
} item;

typedef struct {
    place p;
    _Alignas(QC_LINE_PAIR) _Atomic(item *) slots[SLOTS];
    unsigned writers;
    _Atomic uint64_t sections, made, freed, freed_bytes, retired_bytes, stale, adopted;
    spans reused;
} torture;

static torture t; /* items have a word, and that is theirs */

static item *
item_new(uint64_t n)
{
    item *x = malloc(sizeof *x);
    CHECK(x != NULL);
    x->magic = MAGIC;
    qc_store_relaxed(&x->age, 0u);
    for (int i = 0; i < PAYLOAD; i++)
        x->payload[i] = n;
    qc_add_relaxed(&t.made, 1u);
    return x;
}

static void
item_free(uint64_t arg)
{
    item *x = (item *)(uintptr_t)arg;
    span reused = {0};
    CHECK_EQ(x->magic, MAGIC); /* once */
    if (qc_load_relaxed(&x->age) == 1)
        span_add(&reused, now_ns() - qc_load_relaxed(&x->unlinked));
    span_put_together(&t.reused, &reused);
    qc_store_relaxed(&x->age, 2u);
    *(volatile uint64_t *)&x->magic = 0;
    for (int i = 0; i < PAYLOAD; i++)
        ((volatile uint64_t *)x->payload)[i] = UINT64_C(0xDBDBDBDBDBDBDBDB);
    free(x);
    qc_add_relaxed(&t.freed, 1u);
}

static void
safe_point(place *p)
{
    if (qsbr_safe_point_is_due(p->rec))
        qc_add_relaxed(&t.adopted, retire_process(p->local));
}

/* ---- readers ---- */

static void *
read_for_a_while(void *arg)
{
    place p = t.p;
    (void)arg;
    join_place(&p);
    uint64_t random = a_seed(), n = 0, stale = 0;
    for (uint64_t max = 1000 + chance(&random) % 3000; n < max && !time_is_over(); n++) {
        uint64_t dice = chance(&random);
        safe_point(&p);
        qsbr_enter(p.rec);
        item *x = qc_load_acquire(&t.slots[dice % SLOTS]);
        unsigned looks = (dice >> 24) % 128 == 0 ? 300 : 1;
        for (unsigned i = 0; i < looks; i++) {
            CHECK_EQ(x->magic, MAGIC);
            for (int j = 0; j < PAYLOAD; j++)
                CHECK_EQ(x->payload[j], x->payload[0]);
            CHECK(qc_load_relaxed(&x->age) < 2);
        }
        stale += qc_load_relaxed(&x->age);
        qsbr_exit(p.rec);
    }
    qc_add_relaxed(&t.sections, n);
    qc_add_relaxed(&t.stale, stale);
    return NULL;
}

/* ---- writers ---- */

/* A few items an operation, as references or as blocks of any size. */
static void
one_operation(place *p, uint64_t *random, uint64_t n)
{
    uint64_t dice = chance(random);
    unsigned many = (unsigned)(dice % 4), reserved = many + (unsigned)(dice >> 8) % 3;
    item *fresh[4];
    safe_point(p);
    for (unsigned i = 0; i < many; i++)
        fresh[i] = item_new(n);
    CHECK(retire_reserve(p->local, reserved));
    for (unsigned i = 0; i < many; i++) {
        uint64_t which = chance(random);
        item *old = qc_exchange_acq_rel(&t.slots[which % SLOTS], fresh[i]);
        qc_store_relaxed(&old->unlinked, now_ns());
        qc_store_relaxed(&old->age, 1u);
        size_t bytes = (which >> 8) % 1000 == 0 ? RETIRE_MAX_BYTES + 5 : (which >> 20) % 20000;
        if ((which >> 4) % 2 == 0) {
            retire_ref(p->local, item_free, (uint64_t)(uintptr_t)old);
        }
        else {
            retire_block(p->local, item_free, (uint64_t)(uintptr_t)old, bytes);
            qc_add_relaxed(&t.retired_bytes, bytes);
        }
    }
    retire_commit(p->local);
}

static void *
write_for_a_while(void *arg)
{
    place p = t.p;
    (void)arg;
    join_place(&p);
    uint64_t random = a_seed();
    for (uint64_t n = chance(&random) % 5000; n > 0 && !time_is_over(); n--) {
        one_operation(&p, &random, n);
        if (n % 2048 == 0)
            retire_collect(p.local);
        if (n % 4096 == 1)
            sleep_ms(55); /* goes quiet with a batch open: others take it */
    }
    return NULL; /* and ends, with whatever is open */
}

static void
body(void *arg, unsigned i)
{
    (void)arg;
    while (!time_is_over())
        thread_join(thread_start(i < t.writers ? write_for_a_while : read_for_a_while, NULL));
}

static void
torture_with(unsigned ms, unsigned writers, unsigned readers)
{
    memset((void *)&t, 0, sizeof t);
    t.p = place_new();
    t.writers = writers;
    for (unsigned i = 0; i < SLOTS; i++)
        qc_store_relaxed(&t.slots[i], item_new(i));
    run_threads_for(ms, writers + readers, body, NULL);

    uint64_t bytes, items, made = qc_load_relaxed(&t.made), freed = qc_load_relaxed(&t.freed);
    retire_held(t.p.queue, &bytes, &items);
    CHECK_EQ(items, made - freed - SLOTS); /* exact, now that it is quiet */
    CHECK_EQ(retire_drain(t.p.local), items);
    CHECK_HELD(&t.p, 0, 0);
    CHECK_EQ(qc_load_relaxed(&t.p.queue->items_run), made - SLOTS);
    CHECK_EQ(qc_load_relaxed(&t.p.queue->bytes_run), qc_load_relaxed(&t.retired_bytes));
    for (unsigned i = 0; i < SLOTS; i++)
        item_free((uint64_t)(uintptr_t)qc_load_relaxed(&t.slots[i]));
    CHECK_EQ(qc_load_relaxed(&t.freed), made);
    CHECK(qc_load_relaxed(&t.adopted) > 0);
    report("sum", "sections", qc_load_relaxed(&t.sections));
    report("sum", "sections that saw what was unlinked", qc_load_relaxed(&t.stale));
    report("sum", "items", made);
    report("most", "bytes held", qc_load_relaxed(&t.p.queue->bytes_peak));
    span_report(&t.reused, "age at reuse");
    place_delete(&t.p);
}

static void
test_Q1_T6_torture_one_writer(void)
{
    torture_with(400, 1, 1);
}

static void
test_Q1_T6_torture_many_threads(void)
{
    torture_with(600, 3, 2);
}

int
main(void)
{
    harness_init(true);
    RUN(test_Q1_T6_torture_one_writer);
    RUN(test_Q1_T6_torture_many_threads);
    return 0;
}
