/* T6, T7: the list of locals that hold batches, the thread that looks after them, the memory
 * that ended threads leave, and the number of steps of all this. */
#include "retire_place.h"

#include <string.h>

static void
nothing(uint64_t arg)
{
    (void)arg;
}

static uint64_t
polls(place *p)
{
    return qc_load_relaxed(&p->domain->polls);
}

/* `n` threads, each with a batch of `items` references open. */
static void
open_batches(place *p, stepper **s, unsigned n, unsigned items)
{
    for (unsigned i = 0; i < n; i++) {
        s[i] = stepper_new();
        quiet q = {.p = *p, .first = items * i, .n = items};
        stepper_run(s[i], retire_some, &q);
    }
}

static void
end_all(stepper **s, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        stepper_end(s[i]);
}

/* ---- T6: which thread looks, and at which locals ---- */

static void
test_T6_only_locals_that_hold_something_are_looked_at(void)
{
    enum { THREADS = 200 };
    place p = place_new();
    stepper *s[THREADS];
    retire_limit.quiet_ns = 0;
    open_batches(&p, s, THREADS, 1);
    uint64_t steps = p.local->steps, before = advances(&p);
    CHECK_EQ(retire_process(p.local), THREADS);
    CHECK_EQ(advances(&p), before + 1); /* one for all that was taken */
    /* A step for each local, one for each batch, and none for its own local. */
    CHECK_EQ(p.local->steps - steps, 2 * THREADS);
    steps = p.local->steps;
    CHECK_EQ(retire_process(p.local), 0);
    CHECK_EQ(p.local->steps - steps, 1); /* its own, which is empty now, once */
    for (int i = 0; i < 100; i++)
        CHECK_EQ(retire_process(p.local), 0);
    CHECK_EQ(p.local->steps - steps, 1);
    end_all(s, THREADS);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(retire_process(p.local), 0);
    CHECK_EQ(p.local->steps - steps, 1); /* ended threads cost nothing */
    retire_limit.quiet_ns = RETIRE_QUIET_NS;
    place_delete(&p);
}

static void
test_T6_one_look_in_25_ms(void)
{
    place p = place_new();
    stepper *s[3];
    retire_limit.quiet_ns = 0;
    retire_limit.look_ns = INT64_MAX / 2;
    open_batches(&p, s, 2, 5);
    CHECK_EQ(retire_process(p.local), 10);
    open_batches(&p, s + 2, 1, 5);
    uint64_t steps = p.local->steps;
    for (int i = 0; i < 100; i++)
        CHECK_EQ(retire_process(p.local), 0); /* too soon, for any thread */
    CHECK_EQ(p.local->steps, steps);
    qc_store_relaxed(&p.queue->next_look, 0u);
    CHECK_EQ(retire_process(p.local), 5);
    /* collect() keeps its promise without waiting for the next look. */
    quiet q = {.p = p, .n = 4};
    stepper_run(s[2], retire_some, &q);
    CHECK_EQ(retire_collect(p.local), 4);
    end_all(s, 3);
    retire_limit.quiet_ns = RETIRE_QUIET_NS;
    place_delete(&p);
}

static void
test_T6_one_thread_looks(void)
{
    place p = place_new();
    stepper *s[2];
    retire_limit.quiet_ns = 0;
    open_batches(&p, s, 2, 5);
    retire_local *other = qc_load_relaxed(&p.queue->locals);
    CHECK(other != p.local);
    qc_store_relaxed(&p.queue->looker, other);
    CHECK_EQ(retire_process(p.local), 0);
    qc_store_relaxed(&p.queue->looker, NULL);
    CHECK_EQ(retire_process(p.local), 10);
    end_all(s, 2);
    retire_limit.quiet_ns = RETIRE_QUIET_NS;
    place_delete(&p);
}

/* A batch that is too young stays, and is taken once it is old enough. */
static void
test_T6_young_batches_stay_on_the_list(void)
{
    place p = place_new();
    stepper *s[3];
    retire_limit.quiet_ns = INT64_MAX / 2;
    open_batches(&p, s, 3, 5);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(retire_process(p.local), 0);
    CHECK_EQ(advances(&p), 0);
    CHECK_EQ(qc_load_relaxed(&p.queue->listed), 3);
    retire_limit.quiet_ns = 0;
    CHECK_EQ(retire_process(p.local), 15);
    end_all(s, 3);
    retire_limit.quiet_ns = RETIRE_QUIET_NS;
    place_delete(&p);
}

#ifdef QC_DEBUG
/* One thread's steps at the places of another: `between` runs once, at `where`. */
static const char *where;
static void (*between)(void);

static void
step_between(const char *name)
{
    if (between == NULL || strcmp(name, where) != 0)
        return;
    void (*run)(void) = between;
    between = NULL;
    run();
}

static void
at(const char *name, void (*run)(void))
{
    where = name;
    between = run;
    qc_yield_hook = step_between;
}

static place mine, others;
static stepper *owner; /* of the record that `others` is about */

/* A second local, whose owner this thread plays as well. */
static void
two_places(void)
{
    mine = place_new();
    others = mine;
    owner = reader_new(mine.domain);
    others.rec = reader_record(owner);
    others.local = retire_local_get(mine.queue, others.rec);
    CHECK(others.local != NULL && others.local != mine.local);
    retire_limit.quiet_ns = 0;
    ref(&others, 1);
}

static void
check_all_is_found(void)
{
    CHECK(between == NULL);
    qc_yield_hook = NULL;
    /* Whatever came in between, each local that holds a batch is on the list. */
    for (retire_local *l = qc_load_relaxed(&mine.queue->locals); l != NULL; l = l->next)
        CHECK((qc_load_relaxed(&l->open) & 3) <= 1 &&
              (qc_load_relaxed(&l->open) != 0 || qc_load_relaxed(&l->closed) == NULL));
    n_ran = 0;
    (void)retire_process(mine.local);
    CHECK_HELD(&mine, 0, 0);
    CHECK(retire_queue_is_empty(mine.queue));
}

static void
one_place(void)
{
    retire_limit.quiet_ns = RETIRE_QUIET_NS;
    stepper_end(owner);
    place_delete(&mine);
}

static void
others_retires(void)
{
    ref(&others, 2);
}

static void
mine_looks(void)
{
    (void)retire_process(mine.local);
}

static void
test_T6_the_owner_retires_while_it_is_looked_at(void)
{
    two_places();
    at("held: look",
       others_retires); /* the word has changed: the local stays listed, or all of it is taken */
    (void)retire_process(mine.local);
    check_all_is_found();
    ref(&others, 3);
    at("held: taken off", others_retires); /* it lists itself again */
    CHECK_EQ(retire_process(mine.local), 1);
    CHECK_HELD(&mine, 0, 1);
    check_all_is_found();
    one_place();
}

static void
test_T6_a_look_while_the_owner_has_its_batch_in_hand(void)
{
    two_places();
    at("held: in hand", mine_looks); /* finds nothing to take, and leaves it listed */
    ref(&others, 2);
    CHECK_HELD(&mine, 0, 2);
    check_all_is_found();
    at("held: in hand", mine_looks); /* not listed yet */
    ref(&others, 3);
    CHECK_HELD(&mine, 0, 1);
    at("held: take", mine_looks); /* it lists itself again */
    ref(&others, 4);
    CHECK_HELD(&mine, 0, 1);
    check_all_is_found();
    one_place();
}

/* The owner has its closed batches in hand while it polls.  A look in between finds the local
 * empty and takes it off the list; the owner lists it again. */
static void
test_T6_a_look_while_the_owner_polls(void)
{
    two_places();
    stepper *r = reader_new(mine.domain);
    reader_enter(r);
    CHECK_EQ(retire_make_room(others.local), true); /* closed; there is room */
    CHECK_HELD(&mine, 0, 1);
    CHECK(qc_load_relaxed(&others.local->closed) != NULL);
    at("polled", mine_looks);
    CHECK_EQ(retire_process(others.local), 0);
    CHECK_HELD(&mine, 0, 1);
    reader_exit(r);
    stepper_end(r);
    check_all_is_found();
    one_place();
}
#endif

/* ---- T7: behind a stopped reader ---- */

static void
test_T7_nothing_is_walked_while_the_read_sequence_stands_still(void)
{
    enum { BATCHES = 500, OPERATIONS = BATCHES * RETIRE_BATCH_ITEMS };
    place p = place_new();
    stepper *r = reader_new(p.domain);
    reader_enter(r);
    retire_limit.poll_ns = INT64_MAX / 4;
    for (unsigned i = 0; i < OPERATIONS; i++) {
        if (qsbr_safe_point_is_due(p.rec))
            CHECK_EQ(retire_process(p.local), 0);
        CHECK(retire_reserve(p.local, 1));
        retire_ref(p.local, nothing, i);
        retire_commit(p.local);
    }
    CHECK_EQ(qc_load_relaxed(&p.queue->batches), BATCHES);
    /* A look at the list, and one at the oldest goal, for each safe point: one in some
     * hundred operations.  One poll, which no thread repeats, one barrier. */
    CHECK(p.local->steps <= OPERATIONS / 40);
    CHECK_EQ(polls(&p), 1);
    CHECK_EQ(qc_load_relaxed(&p.domain->heavy_barriers), 1);
    reader_exit(r);
    qc_store_relaxed(&p.queue->next_poll, 0u);
    uint64_t steps = p.local->steps;
    CHECK_EQ(retire_process(p.local), OPERATIONS);
    CHECK(p.local->steps - steps <= BATCHES + 2);
    stepper_end(r);
    place_delete(&p);
}

/* Waiting writers check one goal each, and poll at a bounded rate together. */
static void
test_T7_waiting_costs_a_step(void)
{
    enum { WRITERS = 50, TRIES = 20 };
    place p = place_new();
    stepper *r = reader_new(p.domain);
    reader_enter(r);
    retire_limit.poll_ns = INT64_MAX / 4;
    retire_limit.look_ns = INT64_MAX / 4;
    for (uint64_t i = 0; !retire_must_wait(p.queue); i++)
        block(&p, i, RETIRE_MAX_BYTES / 16);
    CHECK(!retire_make_room(p.local));
    uint64_t steps = p.local->steps, before = polls(&p), barriers = advances(&p);
    for (int i = 0; i < TRIES; i++)
        CHECK(!retire_make_room(p.local));
    CHECK_EQ(p.local->steps - steps, TRIES);
    CHECK_EQ(polls(&p), before);
    CHECK_EQ(advances(&p), barriers);
    reader_exit(r);
    qc_store_relaxed(&p.queue->next_poll, 0u);
    CHECK(retire_make_room(p.local));
    stepper_end(r);
    place_delete(&p);
}

/* ---- T7: the formula ---- */

static void
check_bound(unsigned threads, size_t size, unsigned blocks)
{
    place p = place_new();
    stepper **s = calloc(threads, sizeof *s), *r = reader_new(p.domain);
    uint64_t most = 0;
    CHECK(s != NULL);
    for (unsigned i = 0; i < threads; i++)
        s[i] = stepper_new();
    for (unsigned n = 0; n < blocks; n++) {
        for (unsigned i = 0; i < threads; i++) {
            /* As a writer does, now and then with a reader in a section. */
            if (retire_must_wait(p.queue)) {
                reader_exit(r);
                CHECK(retire_make_room(p.local));
                n_ran = 0;
                reader_enter(r);
            }
            else if (n + i == 0) {
                reader_enter(r);
            }
            quiet q = {.p = p, .n = 1, .bytes = size};
            stepper_run(s[i], retire_some, &q);
            uint64_t bytes, items;
            retire_held(p.queue, &bytes, &items);
            most = bytes > most ? bytes : most;
            CHECK(bytes <= retire_bound(size));
        }
    }
    if ((uint64_t)threads * blocks * size > 2 * RETIRE_HARD_BYTES)
        CHECK(most > RETIRE_HARD_BYTES / 2); /* the test came near the bound */
    reader_exit(r);
    CHECK(retire_make_room(p.local));
    end_all(s, threads);
    stepper_end(r);
    free(s);
    place_delete(&p);
}

static void
test_T7_held_stays_within_the_formula_at_any_number_of_threads(void)
{
    check_bound(1, 10000, 1000);
    check_bound(4, 100000, 100);
    check_bound(200, RETIRE_MAX_BYTES - 1, 2);
    check_bound(200, 20000, 5);
    check_bound(20, 900000, 5);
    check_bound(20, 700001, 5);
    check_bound(200, 1000, 100);
}

/* ---- T6: memory of ended threads ---- */

static unsigned dropped;

static void
drop_kept(void *kept)
{
    CHECK(kept == (void *)&dropped);
    dropped++;
}

static void
retire_keep_and_process(void *arg)
{
    quiet *q = arg;
    retire_some(q);
    q->p.local->kept_above = &dropped;
    (void)retire_collect(q->p.local);
}

static void
test_T6_ended_threads_leave_no_bytes(void)
{
    enum { THREADS = 100 };
    place p = place_new();
    stepper *s[THREADS];
    p.queue->drop_kept = drop_kept;
    dropped = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        s[i] = stepper_new();
        quiet q = {.p = p, .n = 3};
        stepper_run(s[i], retire_keep_and_process, &q);
    }
    for (int i = 0; i < 20; i++)
        CHECK_EQ(retire_process(p.local), 0);
    CHECK_EQ(dropped, 0); /* they live */
    end_all(s, THREADS);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(retire_process(p.local), 0);
    CHECK_EQ(dropped, THREADS);
    for (retire_local *l = qc_load_relaxed(&p.queue->locals); l != NULL; l = l->next)
        CHECK(l == p.local || (l->spare == NULL && l->kept_above == NULL));
    /* New threads take the records, and the locals with them. */
    retire_local *first = qc_load_relaxed(&p.queue->locals);
    open_batches(&p, s, THREADS, 1);
    CHECK(qc_load_relaxed(&p.queue->locals) == first);
    CHECK_EQ(retire_collect(p.local), THREADS);
    end_all(s, THREADS);
    p.queue->drop_kept = NULL;
    place_delete(&p);
}

/* A poll reads only registered records, however many threads there were before. */
static void
test_a_poll_reads_registered_records_only(void)
{
    enum { THREADS = 100 };
    place p = place_new();
    stepper *s[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        s[i] = reader_new(p.domain);
    end_all(s, THREADS);
    unsigned bits = 0;
    for (struct qsbr_chunk *c = qc_load_relaxed(&p.domain->chunks); c != NULL; c = c->next)
        bits += (unsigned)__builtin_popcount(qc_load_relaxed(&c->registered));
    CHECK_EQ(bits, 1);
    stepper *r = reader_new(p.domain); /* one of the recycled ones */
    reader_enter(r);
    CHECK(!qsbr_poll(p.domain, qsbr_advance(p.domain)));
    reader_exit(r);
    CHECK(qsbr_poll(p.domain, qc_load_relaxed(&p.domain->wr_seq)));
    stepper_end(r);
    place_delete(&p);
}

int
main(void)
{
    harness_init(true);
    RUN(test_T6_only_locals_that_hold_something_are_looked_at);
    RUN(test_T6_one_look_in_25_ms);
    RUN(test_T6_one_thread_looks);
    RUN(test_T6_young_batches_stay_on_the_list);
#ifdef QC_DEBUG
    RUN(test_T6_the_owner_retires_while_it_is_looked_at);
    RUN(test_T6_a_look_while_the_owner_has_its_batch_in_hand);
    RUN(test_T6_a_look_while_the_owner_polls);
#endif
    RUN(test_T7_nothing_is_walked_while_the_read_sequence_stands_still);
    RUN(test_T7_waiting_costs_a_step);
    RUN(test_T7_held_stays_within_the_formula_at_any_number_of_threads);
    RUN(test_T6_ended_threads_leave_no_bytes);
    RUN(test_a_poll_reads_registered_records_only);
    return 0;
}
