/* What bounds the memory held (T7), what a fork makes of batches in somebody's hand
 * (Q10), and who frees a queue (Q7). */
#include "retire_place.h"

#include "qsbr/batch.h"

#include <string.h>

/* ---- the hard limit ---- */

static void
test_T7_over_the_hard_limit_until_it_is_freed(void)
{
    place p = place_new();
    stepper *r = reader_new(p.domain);
    reader_enter(r);
    size_t size = RETIRE_MAX_BYTES, n = 0;
    while (!retire_must_wait(p.queue)) {
        CHECK(n * size <= RETIRE_HARD_BYTES + 2 * size);
        block(&p, n++, size);
    }
    /* Limit and one of the largest, with what an open batch may hold unknown to the queue:
     * a writer that was just within them has kept within the formula. */
    CHECK_EQ(n * size, RETIRE_HARD_BYTES + size);
    CHECK(n * size + size <= retire_bound(size));
    for (int i = 0; i < 10; i++)
        CHECK(!retire_make_room(p.local));
    CHECK_HELD(&p, n * size, n);
    reader_exit(r);
    CHECK(retire_make_room(p.local));
    CHECK(!retire_must_wait(p.queue));
    CHECK_HELD(&p, 0, 0);
    CHECK_EQ(n_ran, n);
    stepper_end(r);
    place_delete(&p);
}

static void
test_T7_one_large_block_is_waited_for_until_the_queue_is_empty(void)
{
    place p = place_new();
    stepper *r = reader_new(p.domain);
    size_t large = 16 * RETIRE_HARD_BYTES;
    reader_enter(r);
    block(&p, 0, RETIRE_MAX_BYTES);
    CHECK(!retire_must_wait(p.queue));
    block(&p, 1, large);
    CHECK(retire_must_wait(p.queue));
    CHECK(!retire_make_room(p.local));
    reader_exit(r);
    CHECK(retire_make_room(p.local));
    reader_enter(r);
    for (size_t i = 0; i * RETIRE_MAX_BYTES < RETIRE_HARD_BYTES + RETIRE_MAX_BYTES; i++) {
        CHECK(!retire_must_wait(p.queue));
        block(&p, i, RETIRE_MAX_BYTES);
    }
    CHECK(retire_must_wait(p.queue)); /* the large ones are forgotten */
    reader_exit(r);
    CHECK(retire_make_room(p.local));
    stepper_end(r);
    place_delete(&p);
}

/* After a wait in vain twice as much again is allowed, and then twice that: a reader
 * that is never let go costs some waits, not one for each operation. */
static void
test_T7_who_goes_on_is_not_stopped_again_at_once(void)
{
    place p = place_new();
    stepper *r = reader_new(p.domain);
    reader_enter(r);
    unsigned waits = 0;
    for (unsigned i = 0; i < 1000; i++) {
        if (retire_must_wait(p.queue)) {
            CHECK(!retire_make_room(p.local));
            retire_go_on(p.queue);
            CHECK(!retire_must_wait(p.queue));
            waits++;
        }
        block(&p, i, RETIRE_MAX_BYTES);
    }
    CHECK(waits >= 3 && waits <= 8);
    reader_exit(r);
    CHECK(retire_make_room(p.local));
    CHECK_EQ(n_ran, 1000);
    CHECK_EQ(qc_load_relaxed(&p.queue->allowed), 0); /* and the limit is what it was */
    stepper_end(r);
    place_delete(&p);
}

/* What is held elsewhere for the same readers counts, as of when it was last told. */
static void
test_T7_what_others_hold_counts(void)
{
    place p = place_new();
    CHECK(!retire_must_wait(p.queue));
    retire_note_others(p.queue, RETIRE_HARD_BYTES);
    CHECK(!retire_must_wait(p.queue));
    retire_note_others(p.queue, RETIRE_HARD_BYTES + 1);
    CHECK(retire_must_wait(p.queue));
    CHECK(!retire_make_room(p.local));
    retire_go_on(p.queue); /* allowed, and twice as much again */
    CHECK(!retire_must_wait(p.queue));
    retire_note_others(p.queue, 3 * (uint64_t)RETIRE_HARD_BYTES);
    CHECK(!retire_must_wait(p.queue));
    retire_note_others(p.queue, 3 * (uint64_t)RETIRE_HARD_BYTES + 3);
    CHECK(retire_must_wait(p.queue));
    retire_note_others(p.queue, 0);
    CHECK(!retire_must_wait(p.queue));
    CHECK_EQ(qc_load_relaxed(&p.queue->allowed), 0); /* the limit is what it was */
    CHECK_HELD(&p, 0, 0);
    place_delete(&p);
}

static place *inside;

static void
ask_for_room(uint64_t arg)
{
    CHECK(retire_make_room(inside->local)); /* an item that waited would wait for itself */
    run_item(arg);
}

static void
test_T7_no_item_waits_for_room(void)
{
    place p = place_new();
    inside = &p;
    CHECK(retire_reserve(p.local, 1));
    retire_block(p.local, ask_for_room, 7, RETIRE_MAX_BYTES);
    retire_commit(p.local);
    CHECK_EQ(retire_process(p.local), 1);
    CHECK_EQ(n_ran, 1);
    place_delete(&p);
}

static void
test_T7_the_limits_can_be_set(void)
{
    retire_limits before = retire_limit;
    retire_limit = (retire_limits){.batch_blocks = 3, .batch_bytes = 100, .hard_bytes = 200};
    place p = place_new();
    stepper *r = reader_new(p.domain);
    reader_enter(r);
    block(&p, 1, 1);
    block(&p, 2, 1);
    CHECK_EQ(advances(&p), 0);
    block(&p, 3, 1);
    CHECK_EQ(advances(&p), 1);
    block(&p, 4, 100);
    CHECK_EQ(advances(&p), 2);
    CHECK(!retire_must_wait(p.queue));
    block(&p, 5, 100);
    block(&p, 6, 100);
    block(&p, 7, 100);
    CHECK(retire_must_wait(p.queue)); /* 403 of 200 and 100 */
    reader_exit(r);
    CHECK(retire_make_room(p.local));
    stepper_end(r);
    place_delete(&p);
    retire_limit = before;
}

/* ---- forks ---- */

static _Atomic uint32_t in_hand, go_on;

static void
stop_inside(uint64_t arg)
{
    run_item(arg);
    qc_store_release(&in_hand, 1u);
    while (qc_load_acquire(&go_on) == 0)
        sleep_ms(1);
}

#ifdef QC_DEBUG
/* ---- a fork while a thread counts ---- */

static _Atomic uint32_t counting;

/* The first thread that counts is slow, but not for ever, since the fork waits for it. */
static void
count_slowly(const char *at)
{
    if (strcmp(at, "held: count") == 0 && qc_add_acq_rel(&counting, 1u) == 0)
        sleep_ms(50);
}

static void
run_one(void *arg)
{
    place p = *(place *)arg;
    join_place(&p);
    CHECK_EQ(retire_collect(p.local), 1);
}

static void
retire_one(void *arg)
{
    place p = *(place *)arg;
    join_place(&p);
    block(&p, 1, RETIRE_MAX_BYTES);
}

static void
child_counts_exactly(void *arg)
{
    place *p = arg;
    uint64_t bytes = 0, items = 0;
    qc_yield_hook = NULL;
    CHECK(retire_local_get(p->queue, p->rec) == p->local); /* puts it right */
    for (retire_local *l = qc_load_acquire(&p->queue->locals); l != NULL; l = l->next) {
        retire_batch *newest = qc_load_acquire(&l->closed), *b = newest;
        for (bool more = b != NULL; more; more = b != newest) {
            b = b->next; /* a circular chain */
            bytes += b->bytes;
            items += b->n - b->first;
        }
    }
    CHECK_EQ(qc_load_relaxed(&p->queue->bytes), bytes);
    CHECK_EQ(qc_load_relaxed(&p->queue->items), items);
    CHECK_EQ(retire_drain(p->local), items);
    CHECK_EQ(qc_load_relaxed(&p->queue->bytes), 0);
    CHECK_EQ(qc_load_relaxed(&p->queue->items), 0);
    place_delete(p);
}

static void
test_Q10_the_bytes_in_a_child_are_exact(void)
{
    static void (*const what[])(void *) = {retire_one, run_one};
    for (int i = 0; i < 2; i++) {
        place p = place_new();
        stepper *s = stepper_new();
        if (what[i] == run_one)
            block(&p, 0, RETIRE_MAX_BYTES);
        qc_store_relaxed(&counting, 0u);
        qc_yield_hook = count_slowly;
        stepper_start(s, what[i], &p);
        while (qc_load_acquire(&counting) == 0)
            sleep_ms(1);
        in_child(child_counts_exactly, &p);
        stepper_wait(s);
        qc_yield_hook = NULL;
        retire_drain(p.local);
        stepper_end(s);
        place_delete(&p);
    }
}
#endif

/* Two batches with three items each, of which the second stops the thread. */
static void
run_six(void *arg)
{
    place p = *(place *)arg;
    join_place(&p);
    for (uint64_t b = 0; b < 2; b++) {
        CHECK(retire_reserve(p.local, 3));
        retire_ref(p.local, run_item, 10 * b);
        retire_ref(p.local, b == 0 ? stop_inside : run_item, 10 * b + 1);
        retire_block(p.local, run_item, 10 * b + 2, RETIRE_MAX_BYTES);
        retire_commit(p.local);
    }
    CHECK_EQ(retire_process(p.local), 6);
}

static void
child_runs_the_rest(void *arg)
{
    place *p = arg;
    CHECK_EQ(n_ran, 2);
    CHECK_EQ(retire_drain(p->local), 4);
    bool seen[13] = {false};
    for (unsigned i = 0; i < n_ran; i++) {
        CHECK(ran[i] < 13 && !seen[ran[i]]);
        seen[ran[i]] = true;
    }
    CHECK_EQ(n_ran, 6);
    CHECK_HELD(p, 0, 0);
    place_delete(p);
}

static void
test_Q10_fork_while_a_thread_runs_items(void)
{
    place p = place_new();
    stepper *s = stepper_new();
    qc_store_relaxed(&in_hand, 0u);
    qc_store_relaxed(&go_on, 0u);
    stepper_start(s, run_six, &p);
    while (qc_load_acquire(&in_hand) == 0)
        sleep_ms(1);
    in_child(child_runs_the_rest, &p);
    qc_store_release(&go_on, 1u);
    stepper_wait(s);
    CHECK_EQ(n_ran, 6);
    CHECK_HELD(&p, 0, 0);
    stepper_end(s);
    place_delete(&p);
}

static void
reserve_and_stop(void *arg)
{
    place p = *(place *)arg;
    join_place(&p);
    CHECK(retire_reserve(p.local, 3));
    retire_ref(p.local, run_item, 1);
    retire_block(p.local, run_item, 2, 1000);
}

static void
commit_now(void *arg)
{
    place p = *(place *)arg;
    join_place(&p);
    retire_commit(p.local);
}

static void
child_runs_what_was_reserved(void *arg)
{
    place *p = arg;
    CHECK_EQ(retire_drain(p->local), 2);
    CHECK_EQ(n_ran, 2);
    place_delete(p);
}

static void
test_Q10_fork_between_reserve_and_commit(void)
{
    place p = place_new();
    stepper *s = stepper_new();
    stepper_run(s, reserve_and_stop, &p);
    in_child(child_runs_what_was_reserved, &p);
    stepper_run(s, commit_now, &p);
    CHECK_EQ(retire_drain(p.local), 2);
    stepper_end(s);
    place_delete(&p);
}

/* Between the two stores by which a batch becomes the operation's: it is both the thread's
 * spare one and the operation's, and must be one of them afterwards. */
static void
reserve_by_half(void *arg)
{
    place p = *(place *)arg;
    join_place(&p);
    CHECK(retire_reserve(p.local, 3));
    retire_ref(p.local, run_item, 1);
    p.local->spare = p.local->taken;
}

static void
finish_reserving(void *arg)
{
    place p = *(place *)arg;
    join_place(&p);
    p.local->spare = NULL;
    retire_commit(p.local);
}

static void
child_has_it_once(void *arg)
{
    place *p = arg;
    quiet q = {.p = *p, .first = 5, .n = 3};
    CHECK_EQ(retire_drain(p->local), 1);
    CHECK_EQ(n_ran, 1);
    /* The next thread with that record goes on with the local. */
    thread_join(thread_start(retire_some_and_end, &q));
    CHECK_EQ(retire_drain(p->local), 3);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(ran[1 + i], 5 + i);
    place_delete(p);
}

static void
test_Q10_fork_while_a_thread_reserves(void)
{
    place p = place_new();
    stepper *s = stepper_new();
    stepper_run(s, reserve_by_half, &p);
    in_child(child_has_it_once, &p);
    stepper_run(s, finish_reserving, &p);
    CHECK_EQ(retire_drain(p.local), 1);
    stepper_end(s);
    place_delete(&p);
}

#ifdef QC_DEBUG
/* The child is forked, too, while one of its threads puts right what the first fork left. */
static _Atomic uint32_t settling;

static void
settle_slowly(const char *place)
{
    if (strcmp(place, "settle") != 0)
        return;
    qc_store_release(&settling, 1u);
    sleep_ms(30);
}

static void
join_only(void *arg)
{
    place p = *(place *)arg;
    join_place(&p);
}

static void
child_is_forked_while_it_mends(void *arg)
{
    stepper *s = stepper_new();
    qc_yield_hook = settle_slowly;
    stepper_start(s, join_only, arg);
    while (qc_load_acquire(&settling) == 0)
        sleep_ms(0);
    in_child(child_runs_what_was_reserved, arg);
    stepper_wait(s);
    qc_yield_hook = NULL;
    stepper_end(s);
    child_runs_what_was_reserved(arg);
}

static void
test_Q10_fork_while_another_fork_is_put_right(void)
{
    place p = place_new();
    stepper *s = stepper_new();
    stepper_run(s, reserve_and_stop, &p);
    in_child(child_is_forked_while_it_mends, &p);
    stepper_run(s, commit_now, &p);
    CHECK_EQ(retire_drain(p.local), 2);
    stepper_end(s);
    place_delete(&p);
}
#endif

/* The thread that forks is itself in the middle of an item: it goes on in both, and
 * nobody takes the rest away from it. */
static void *
drain_beside(void *arg)
{
    place p = *(place *)arg;
    join_place(&p);
    retire_drain(p.local);
    return NULL;
}

static void
child_has_another_thread(void *arg)
{
    thread_join(thread_start(drain_beside, arg));
    CHECK_EQ(n_ran, 1);
}

static void
fork_inside(uint64_t arg)
{
    run_item(arg);
    in_child(child_has_another_thread, inside);
}

static void
test_Q10_an_item_that_forks(void)
{
    place p = place_new();
    inside = &p;
    CHECK(retire_reserve(p.local, 2));
    retire_ref(p.local, fork_inside, 1);
    retire_ref(p.local, run_item, 2);
    retire_commit(p.local);
    CHECK_EQ(retire_collect(p.local), 2);
    CHECK_EQ(n_ran, 2);
    place_delete(&p);
}

/* ---- the last reference ---- */

static void
leave_and_drop(void *arg)
{
    retire_queue *queue = arg;
    retire_local *local = retire_local_get(queue, qsbr_register(queue->domain));
    CHECK(local != NULL);
    retire_queue_unref(queue); /* asan: the last touch of it */
}

static void
test_Q7_a_queue_lives_while_a_detached_thread_is_in_it(void)
{
    qsbr_domain *d = qsbr_domain_new();
    CHECK(d != NULL);
    retire_queue *queue = retire_queue_new(d);
    CHECK(queue != NULL);
    stepper *s = stepper_new();
    retire_queue_ref(queue);   /* the thread is about to detach */
    retire_queue_unref(queue); /* the interpreter ends */
    stepper_run(s, leave_and_drop, queue);
    stepper_end(s);
    qsbr_domain_release(d);
}

int
main(void)
{
    harness_init(true);
    RUN(test_T7_over_the_hard_limit_until_it_is_freed);
    RUN(test_T7_one_large_block_is_waited_for_until_the_queue_is_empty);
    RUN(test_T7_who_goes_on_is_not_stopped_again_at_once);
    RUN(test_T7_what_others_hold_counts);
    RUN(test_T7_no_item_waits_for_room);
    RUN(test_T7_the_limits_can_be_set);
    RUN(test_Q10_fork_while_a_thread_runs_items);
    RUN(test_Q10_fork_between_reserve_and_commit);
    RUN(test_Q10_fork_while_a_thread_reserves);
#ifdef QC_DEBUG
    RUN(test_Q10_the_bytes_in_a_child_are_exact);
    RUN(test_Q10_fork_while_another_fork_is_put_right);
#endif
    RUN(test_Q10_an_item_that_forks);
    RUN(test_Q7_a_queue_lives_while_a_detached_thread_is_in_it);
    return 0;
}
