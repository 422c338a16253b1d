/* The retire queue's protocol, one step at a time: what retiring does, when batches
 * close, when their items run. */
#include "retire_place.h"

/* Where items that retire more put it. */
static place *inside;

/* ---- T2 ---- */

static void
test_T2_retiring_frees_nothing(void)
{
    place p = place_new();
    for (unsigned i = 0; i < 5000; i++) {
        i % 3 == 0 ? block(&p, i, 1000) : ref(&p, i);
        CHECK_EQ(n_ran, 0);
    }
    CHECK_EQ(retire_collect(p.local), 5000);
    place_delete(&p);
}

static void
test_T2_an_operation_that_retires_nothing(void)
{
    place p = place_new();
    for (int i = 0; i < 10; i++) {
        CHECK(retire_reserve(p.local, RETIRE_BATCH_ITEMS));
        retire_commit(p.local);
    }
    CHECK_HELD(&p, 0, 0);
    CHECK(!asked(&p));
    CHECK_EQ(advances(&p), 0);
    CHECK(retire_queue_is_empty(p.queue));
    CHECK_EQ(retire_process(p.local), 0);
    /* Also beside a batch that has items. */
    ref(&p, 1);
    CHECK(retire_reserve(p.local, 3));
    retire_commit(p.local);
    CHECK_HELD(&p, 0, 1);
    CHECK_EQ(retire_collect(p.local), 1);
    place_delete(&p);
}

/* A batch without room for all that an operation retires is closed, and the items
 * open the next one; nothing happens if it then retires nothing. */
static void
test_T2_retiring_more_than_there_is_room_for(void)
{
    place p = place_new();
    for (unsigned i = 0; i < RETIRE_BATCH_ITEMS - 1; i++)
        ref(&p, i);
    CHECK(retire_reserve(p.local, 2));
    retire_commit(p.local);
    CHECK(!asked(&p));
    CHECK_EQ(advances(&p), 0);
    CHECK_HELD(&p, 0, RETIRE_BATCH_ITEMS - 1);
    CHECK(retire_reserve(p.local, 2));
    retire_ref(p.local, run_item, RETIRE_BATCH_ITEMS - 1);
    retire_ref(p.local, run_item, RETIRE_BATCH_ITEMS);
    CHECK_HELD(&p, 0, RETIRE_BATCH_ITEMS - 1); /* others see it from commit on */
    retire_commit(p.local);
    CHECK(asked(&p));
    CHECK_EQ(advances(&p), 1);
    CHECK_HELD(&p, 0, RETIRE_BATCH_ITEMS + 1);
    CHECK_EQ(retire_process(p.local), RETIRE_BATCH_ITEMS - 1);
    CHECK_HELD(&p, 0, 2);
    CHECK_EQ(retire_collect(p.local), 2);
    CHECK_HELD(&p, 0, 0);
    for (unsigned i = 0; i < n_ran; i++)
        CHECK_EQ(ran[i], i);
    place_delete(&p);
}

#ifdef HARNESS_MALLOC
/* Reserving is what can fail, and changes nothing then; the rest cannot. */
static void
test_T2_only_reserving_fails(void)
{
    place p = place_new();
    harness_fail_malloc(1);
    CHECK(!retire_reserve(p.local, 1));
    CHECK_HELD(&p, 0, 0);
    CHECK(retire_reserve(p.local, 7));
    harness_fail_malloc(1);
    for (unsigned i = 0; i < 7; i++)
        retire_block(p.local, run_item, i, (size_t)2 << 20);
    retire_commit(p.local);
    CHECK_EQ(n_ran, 0);
    /* The batch is closed: the next one needs memory. */
    CHECK(!retire_reserve(p.local, 1));
    harness_fail_malloc(0);
    CHECK_HELD(&p, 7 * ((uint64_t)2 << 20), 7);
    CHECK_EQ(retire_process(p.local), 7);

    /* Nor does a batch that is full by then need any to be closed. */
    for (unsigned i = 0; i < RETIRE_BATCH_ITEMS - 1; i++)
        ref(&p, i);
    harness_fail_malloc(1);
    CHECK(retire_reserve(p.local, 2));
    retire_ref(p.local, run_item, 1);
    retire_ref(p.local, run_item, 2);
    retire_commit(p.local);
    CHECK(!retire_reserve(p.local, 1));
    CHECK_HELD(&p, 0, RETIRE_BATCH_ITEMS + 1);
    CHECK(asked(&p));
    CHECK_EQ(retire_process(p.local), RETIRE_BATCH_ITEMS - 1);
    CHECK_EQ(retire_collect(p.local), 2);
    CHECK_HELD(&p, 0, 0);
    place_delete(&p);

    harness_fail_malloc(1);
    CHECK(retire_queue_new(&qsbr_process) == NULL);
    p = place_new();
    quiet q = {.p = p};
    stepper *s = reader_new(p.domain);
    harness_fail_malloc(1);
    CHECK(retire_local_get(q.p.queue, reader_record(s)) == NULL);
    CHECK(retire_local_get(q.p.queue, reader_record(s)) != NULL);
    stepper_end(s);
    place_delete(&p);
}
#endif

/* ---- T3: the exact limits ---- */

static void
check_not_closed(place *p)
{
    CHECK(!asked(p));
    CHECK_EQ(advances(p), 0);
    CHECK_EQ(qc_load_relaxed(&p->queue->batches), 0);
}

static void
check_closed_once(place *p, unsigned items)
{
    CHECK(asked(p));
    CHECK_EQ(advances(p), 1);
    CHECK_EQ(qc_load_relaxed(&p->queue->batches), 1);
    CHECK_EQ(n_ran, 0);
    CHECK_EQ(retire_process(p->local), items);
    CHECK_EQ(n_ran, items);
    CHECK(!asked(p));
    CHECK_EQ(advances(p), 1); /* one advance a batch */
}

static void
test_T3_127_blocks(void)
{
    CHECK_EQ(RETIRE_MAX_BLOCKS, 127);
    place p = place_new();
    for (unsigned i = 1; i < RETIRE_MAX_BLOCKS; i++) {
        block(&p, i, 16);
        check_not_closed(&p);
    }
    ref(&p, 1000); /* counts as no block */
    check_not_closed(&p);
    block(&p, RETIRE_MAX_BLOCKS, 16);
    check_closed_once(&p, RETIRE_MAX_BLOCKS + 1);
    place_delete(&p);
}

static void
test_T3_one_mebibyte(void)
{
    CHECK_EQ(RETIRE_MAX_BYTES, 1 << 20);
    place p = place_new();
    for (unsigned i = 0; i < 8; i++) {
        block(&p, i, RETIRE_MAX_BYTES / 8 - (i == 0));
        check_not_closed(&p);
    }
    CHECK_HELD(&p, RETIRE_MAX_BYTES - 1, 8);
    block(&p, 8, 1);
    check_closed_once(&p, 9);
    place_delete(&p);
}

static void
test_T3_a_single_large_block(void)
{
    static const size_t sizes[] = {RETIRE_MAX_BYTES + 1, RETIRE_MAX_BYTES, (size_t)1 << 40};
    for (int i = 0; i < 3; i++) {
        place p = place_new();
        block(&p, 1, sizes[i]);
        CHECK_HELD(&p, sizes[i], 1);
        check_closed_once(&p, 1);
        CHECK_EQ(qc_load_relaxed(&p.queue->bytes_peak), sizes[i]);
        place_delete(&p);
    }
}

static void
test_T3_1020_references(void)
{
    CHECK_EQ(RETIRE_BATCH_ITEMS, 1020);
    place p = place_new();
    for (unsigned i = 1; i < RETIRE_BATCH_ITEMS; i++) {
        ref(&p, i);
        check_not_closed(&p);
    }
    ref(&p, RETIRE_BATCH_ITEMS);
    check_closed_once(&p, RETIRE_BATCH_ITEMS);
    place_delete(&p);
}

/* After a batch was closed counting begins anew. */
static void
test_T3_limits_are_a_batch_s(void)
{
    place p = place_new();
    for (unsigned n = 1; n <= 10 * RETIRE_MAX_BLOCKS; n++) {
        block(&p, n, 8);
        CHECK_EQ(advances(&p), n / RETIRE_MAX_BLOCKS);
        CHECK_HELD(&p, 8 * (uint64_t)n, n);
    }
    CHECK_EQ(retire_process(p.local), 10 * RETIRE_MAX_BLOCKS);
    place_delete(&p);
}

/* ---- when a batch may run ---- */

static void
test_Q1_items_wait_for_sections_from_before(void)
{
    place p = place_new();
    stepper *r = reader_new(p.domain), *later = reader_new(p.domain);
    reader_enter(r);
    block(&p, 1, (size_t)2 << 20);
    reader_enter(later);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(retire_process(p.local), 0);
        CHECK_HELD(&p, (size_t)2 << 20, 1);
    }
    /* Not at every operation, but soon. */
    CHECK(!asked(&p));
    CHECK(p.rec->look_in <= QSBR_LOOK_EVERY / 8);
    reader_exit(r);
    CHECK_EQ(retire_process(p.local), 1);
    CHECK_EQ(p.rec->look_in, QSBR_LOOK_EVERY);
    reader_exit(later);
    stepper_end(r);
    stepper_end(later);
    place_delete(&p);
}

/* Of several batches those run whose goal is reached. */
static void
test_Q1_batches_run_as_their_goals_are_reached(void)
{
    enum { BATCHES = 5 };
    place p = place_new();
    stepper *r[BATCHES];
    for (unsigned i = 0; i < BATCHES; i++) {
        r[i] = reader_new(p.domain);
        reader_enter(r[i]);
        block(&p, i, RETIRE_MAX_BYTES);
    }
    CHECK_EQ(retire_process(p.local), 0);
    reader_exit(r[1]);
    CHECK_EQ(retire_process(p.local), 0);
    reader_exit(r[0]);
    CHECK_EQ(retire_process(p.local), 2);
    reader_exit(r[2]);
    CHECK_EQ(retire_process(p.local), 1);
    CHECK_HELD(&p, 2 * RETIRE_MAX_BYTES, 2);
    reader_exit(r[4]);
    reader_exit(r[3]);
    CHECK_EQ(retire_process(p.local), 2);
    for (unsigned i = 0; i < BATCHES; i++) {
        CHECK_EQ(ran[i], i);
        stepper_end(r[i]);
    }
    place_delete(&p);
}

static void
test_items_run_in_the_order_they_came(void)
{
    place p = place_new();
    stepper *r = reader_new(p.domain);
    reader_enter(r); /* three batches, looked at in between */
    for (unsigned i = 0; i < 3 * RETIRE_BATCH_ITEMS; i++) {
        ref(&p, i);
        if (i % 700 == 0)
            CHECK_EQ(retire_process(p.local), 0);
    }
    reader_exit(r);
    CHECK_EQ(retire_collect(p.local), 3 * RETIRE_BATCH_ITEMS);
    for (unsigned i = 0; i < n_ran; i++)
        CHECK_EQ(ran[i], i);
    stepper_end(r);
    place_delete(&p);
}

/* ---- T5 ---- */

static unsigned hook_calls;

static void
hook(void *arg)
{
    place *p = arg;
    CHECK(p->local->taken == NULL); /* a safe place: the operation is over */
    hook_calls++;
}

static void
test_T5_the_hook_is_called_at_commit(void)
{
    place p = place_new();
    p.queue->ask_arg = &p;
    p.queue->ask = hook;
    hook_calls = 0;
    CHECK(retire_reserve(p.local, 200));
    for (unsigned i = 0; i < 200; i++)
        retire_block(p.local, run_item, i, 1000);
    CHECK_EQ(hook_calls, 0);
    retire_commit(p.local);
    CHECK_EQ(hook_calls, 1);
    ref(&p, 1);
    CHECK_EQ(hook_calls, 1);
    CHECK_EQ(retire_process(p.local), 200);
    CHECK_EQ(hook_calls, 1);
    CHECK_EQ(retire_collect(p.local), 1);
    place_delete(&p);
}

static unsigned depth;

/* An item that comes back to a safe point, as a finalizer can. */
static void
process_again(uint64_t arg)
{
    CHECK_EQ(depth, 0);
    depth++;
    run_item(arg);
    CHECK_EQ(retire_process(inside->local), 0);
    CHECK_EQ(retire_collect(inside->local), 0);
    CHECK(retire_local_get(inside->queue, inside->rec) == inside->local);
    CHECK_EQ(retire_process(inside->local), 0); /* nor after looking itself up again */
    depth--;
}

static void
test_T5_processing_is_not_re_entrant(void)
{
    place p = place_new();
    inside = &p;
    for (unsigned i = 0; i < 300; i++) {
        CHECK(retire_reserve(p.local, 1));
        retire_block(p.local, process_again, i, 8);
        retire_commit(p.local);
    }
    CHECK_EQ(retire_process(p.local), 2 * RETIRE_MAX_BLOCKS);
    CHECK_EQ(retire_collect(p.local), 300 - 2 * RETIRE_MAX_BLOCKS);
    for (unsigned i = 0; i < 300; i++)
        CHECK_EQ(ran[i], i);
    place_delete(&p);
}

/* An item that retires more, as a finalizer that drops a container: that is for the
 * next time. */
static void
retire_more(uint64_t arg)
{
    run_item(arg);
    block(inside, arg + 1, RETIRE_MAX_BYTES);
}

static void
test_T5_items_that_retire_more(void)
{
    place p = place_new();
    inside = &p;
    CHECK(retire_reserve(p.local, 2));
    retire_block(p.local, retire_more, 10, RETIRE_MAX_BYTES);
    retire_block(p.local, retire_more, 20, RETIRE_MAX_BYTES);
    retire_commit(p.local);
    CHECK_EQ(retire_process(p.local), 2);
    CHECK(asked(&p)); /* it has asked for the next */
    CHECK_HELD(&p, 2 * RETIRE_MAX_BYTES, 2);
    CHECK_EQ(retire_process(p.local), 2);
    CHECK_EQ(ran[0] + ran[1], 30);
    CHECK_EQ(ran[2] + ran[3], 32);
    place_delete(&p);
}

int
main(void)
{
    harness_init(true);
    RUN(test_T3_127_blocks);
    RUN(test_T3_one_mebibyte);
    RUN(test_T3_a_single_large_block);
    RUN(test_T3_1020_references);
    RUN(test_T3_limits_are_a_batch_s);
    RUN(test_T2_retiring_frees_nothing);
    RUN(test_T2_an_operation_that_retires_nothing);
    RUN(test_T2_retiring_more_than_there_is_room_for);
#ifdef HARNESS_MALLOC
    RUN(test_T2_only_reserving_fails);
#endif
    RUN(test_Q1_items_wait_for_sections_from_before);
    RUN(test_Q1_batches_run_as_their_goals_are_reached);
    RUN(test_items_run_in_the_order_they_came);
    RUN(test_T5_the_hook_is_called_at_commit);
    RUN(test_T5_processing_is_not_re_entrant);
    RUN(test_T5_items_that_retire_more);
    return 0;
}
