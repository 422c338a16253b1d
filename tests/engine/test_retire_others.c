/* The retire queue with several threads, one step at a time: what quiet and ended
 * threads left, collect, drain, and the figures. */
#include "retire_place.h"

/* Where items that retire more put it. */
static place *inside;

/* ---- T6 ---- */

static const unsigned quiet_ms = RETIRE_QUIET_NS / 1000000 + 10;

static void
check_taken_when_quiet(size_t bytes, unsigned n)
{
    place p = place_new();
    stepper *s = stepper_new();
    quiet q = {.p = p, .first = 100, .n = n, .bytes = bytes};
    /* Whether it is too early to take them depends on how long all that took. */
    uint64_t began = now_ns();
    stepper_run(s, retire_some, &q);
    size_t early = retire_process(p.local);
    CHECK(early == 0 || now_ns() - began >= RETIRE_QUIET_NS);
    sleep_ms(quiet_ms);
    CHECK_EQ(early + retire_process(p.local), n);
    CHECK_EQ(n_ran, n);
    /* Each once; within a batch in order, of the batches the open one may come first. */
    unsigned turns = 0;
    uint64_t sum = 0;
    for (unsigned i = 0; i < n; i++) {
        turns += i > 0 && ran[i] != ran[i - 1] + 1;
        sum += ran[i];
    }
    CHECK(turns <= n / RETIRE_MAX_BLOCKS);
    CHECK_EQ(sum, 100 * n + n * (n - 1) / 2);
    CHECK_HELD(&p, 0, 0);
    stepper_end(s);
    place_delete(&p);
}

static void
test_T6_what_a_quiet_thread_left(void)
{
    check_taken_when_quiet(0, 5);                     /* an open batch */
    check_taken_when_quiet(RETIRE_MAX_BYTES, 1);      /* a closed one */
    check_taken_when_quiet(8, RETIRE_MAX_BLOCKS + 1); /* one of each */
}

static void
test_T6_what_a_thread_left_that_ended(void)
{
    place p = place_new();
    quiet q = {.p = p, .first = 100, .n = 5};
    thread_join(thread_start(retire_some_and_end, &q));
    CHECK_HELD(&p, 0, 5);
    sleep_ms(quiet_ms);
    CHECK_EQ(retire_process(p.local), 5);
    CHECK_HELD(&p, 0, 0);
    place_delete(&p);
}

/* Who gets its record goes on with its batch. */
static void
process_mine(void *arg)
{
    quiet *q = arg;
    join_place(&q->p);
    CHECK_EQ(retire_process(q->p.local), q->n);
}

static void
test_T6_the_next_thread_with_the_record_goes_on(void)
{
    place p = place_new();
    quiet q = {.p = p, .first = 0, .n = RETIRE_MAX_BLOCKS - 1, .bytes = 8};
    thread_join(thread_start(retire_some_and_end, &q));
    quiet next = {.p = p, .first = RETIRE_MAX_BLOCKS - 1, .n = 1, .bytes = 8};
    stepper *s = stepper_new();
    stepper_run(s, retire_some, &next);
    CHECK(next.p.local == q.p.local);
    CHECK_EQ(advances(&p), 1); /* the 127th block */
    next.n = RETIRE_MAX_BLOCKS;
    stepper_run(s, process_mine, &next);
    for (unsigned i = 0; i < RETIRE_MAX_BLOCKS; i++)
        CHECK_EQ(ran[i], i);
    stepper_end(s);
    place_delete(&p);
}

/* Over the queue's limit others' batches are taken without waiting for quiet. */
static void
test_T6_over_the_limit_at_once(void)
{
    place p = place_new();
    stepper *s = stepper_new();
    quiet q = {.p = p, .n = 9, .bytes = RETIRE_MAX_BYTES};
    CHECK(9 * RETIRE_MAX_BYTES > RETIRE_QUEUE_BYTES);
    stepper_run(s, retire_some, &q);
    quiet open = {.p = p, .first = 9, .n = 1};
    stepper_run(s, retire_some, &open);
    CHECK_EQ(retire_process(p.local), 10);
    CHECK_HELD(&p, 0, 0);
    stepper_end(s);
    place_delete(&p);
}

/* Adopted batches wait for their grace period as any. */
static void
test_T6_adopted_batches_wait_too(void)
{
    place p = place_new();
    stepper *s = stepper_new(), *r = reader_new(p.domain);
    quiet q = {.p = p, .n = 5};
    reader_enter(r);
    stepper_run(s, retire_some, &q);
    sleep_ms(quiet_ms);
    CHECK_EQ(retire_process(p.local), 0); /* taken, closed, not reached */
    CHECK_EQ(advances(&p), 1);
    CHECK_HELD(&p, 0, 5);
    stepper_end(s); /* the adopter has them now */
    CHECK_EQ(retire_process(p.local), 0);
    reader_exit(r);
    CHECK_EQ(retire_process(p.local), 5);
    stepper_end(r);
    place_delete(&p);
}

static void
test_T6_collect_takes_everybody_s(void)
{
    enum { THREADS = 5 };
    place p = place_new();
    stepper *s[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        s[i] = stepper_new();
        quiet q = {.p = p, .first = 10 * i, .n = 10, .bytes = i % 2 ? RETIRE_MAX_BYTES / 4 : 0};
        stepper_run(s[i], retire_some, &q);
    }
    ref(&p, 50);
    CHECK_EQ(retire_collect(p.local), 51);
    CHECK_HELD(&p, 0, 0);
    bool seen[51] = {false};
    for (unsigned i = 0; i < 51; i++) {
        CHECK(!seen[ran[i]]); /* each once */
        seen[ran[i]] = true;
    }
    for (unsigned i = 0; i < THREADS; i++)
        stepper_end(s[i]);
    place_delete(&p);
}

/* ---- the figures, and two queues (Q11) ---- */

/* Held is exact when nobody else runs, whatever came before. */
static void
test_T9_held_is_exact(void)
{
    place p = place_new();
    uint64_t random = 42, bytes = 0, items = 0, total = 0;
    for (uint64_t n = scaled(20000); n > 0; n--) {
        unsigned want = (unsigned)(chance(&random) % 8), put = want == 0 ? 0 : want - 1;
        if (chance(&random) % 500 == 0)
            want = RETIRE_BATCH_ITEMS, put = 1;
        CHECK(retire_reserve(p.local, want));
        for (unsigned i = 0; i < put; i++) {
            size_t size = (size_t)(chance(&random) >> (40 + chance(&random) % 24));
            if (size % 2 == 0) {
                retire_ref(p.local, run_item, 0);
            }
            else {
                retire_block(p.local, run_item, 0, size);
                bytes += size;
            }
            items++;
        }
        retire_commit(p.local);
        CHECK_HELD(&p, bytes, items);
        CHECK(items < 8000);
        if (chance(&random) % 100 == 0) {
            n_ran = 0;
            CHECK_EQ(retire_collect(p.local), items);
            CHECK_EQ(n_ran, items);
            total += items;
            bytes = items = 0;
        }
    }
    total += items;
    n_ran = 0;
    CHECK_EQ(retire_collect(p.local), items);
    CHECK_HELD(&p, 0, 0);
    CHECK_EQ(qc_load_relaxed(&p.queue->items_run), total);
    place_delete(&p);
}

static void
test_Q11_queues_of_one_domain_are_independent(void)
{
    place p = place_new(), other = p;
    other.queue = retire_queue_new(p.domain);
    join_place(&other);
    CHECK(other.rec == p.rec && other.local != p.local);
    CHECK(other.queue->id != p.queue->id);
    block(&p, 1, RETIRE_MAX_BYTES);
    CHECK_EQ(retire_collect(other.local), 0);
    CHECK_HELD(&p, RETIRE_MAX_BYTES, 1);
    CHECK_HELD(&other, 0, 0);
    retire_queue_unref(other.queue);
    CHECK_EQ(retire_collect(p.local), 1);
    place_delete(&p);
}

/* ---- T8 ---- */

/* A chain of finalizers, each of which retires the next. */
static void
chain(uint64_t left)
{
    run_item(left);
    if (left != 0) {
        CHECK(retire_reserve(inside->local, 1));
        retire_ref(inside->local, chain, left - 1);
        retire_commit(inside->local);
    }
}

static void
test_T8_drain_runs_everything(void)
{
    place p = place_new();
    inside = &p;
    quiet q = {.p = p, .first = 1000, .n = 300, .bytes = 8};
    thread_join(thread_start(retire_some_and_end, &q));
    stepper *s = stepper_new();
    stepper_run(s, retire_some, &q);
    CHECK(retire_reserve(p.local, 1));
    retire_ref(p.local, chain, 40);
    retire_commit(p.local);
    CHECK_EQ(retire_drain(p.local), 600 + 41);
    CHECK_HELD(&p, 0, 0);
    CHECK(retire_queue_is_empty(p.queue));
    stepper_end(s);
    place_delete(&p);
}

static bool go_on;

static void
for_ever(uint64_t arg)
{
    if (go_on) {
        CHECK(retire_reserve(inside->local, 1));
        retire_ref(inside->local, for_ever, arg);
        retire_commit(inside->local);
    }
}

static void
test_T8_drain_ends_where_finalizers_do_not(void)
{
    place p = place_new();
    inside = &p;
    go_on = true;
    for_ever(0);
    CHECK(retire_drain(p.local) > 10);
    CHECK(!retire_queue_is_empty(p.queue));
    go_on = false;
    CHECK_EQ(retire_drain(p.local), 1);
    place_delete(&p);
}

/* A record that stays online (a thread that was stopped in a section): drain gives
 * up after about a second, and what it left is still there. */
static void
test_T8_drain_gives_up_on_a_section_that_stays(void)
{
    place p = place_new();
    stepper *r = reader_new(p.domain);
    ref(&p, 1);
    CHECK_EQ(retire_drain(p.local), 1);
    reader_enter(r);
    ref(&p, 2);
    uint64_t began = now_ns();
    CHECK_EQ(retire_drain(p.local), 0);
    uint64_t took = now_ns() - began;
    CHECK(took > UINT64_C(200000000) && took < UINT64_C(20000000000));
    CHECK_EQ(n_ran, 1);
    CHECK_HELD(&p, 0, 1);
    CHECK(!retire_queue_is_empty(p.queue));
    reader_exit(r);
    CHECK_EQ(retire_drain(p.local), 1);
    stepper_end(r);
    place_delete(&p);
}

int
main(void)
{
    harness_init(true);
    RUN(test_T6_what_a_quiet_thread_left);
    RUN(test_T6_what_a_thread_left_that_ended);
    RUN(test_T6_the_next_thread_with_the_record_goes_on);
    RUN(test_T6_over_the_limit_at_once);
    RUN(test_T6_adopted_batches_wait_too);
    RUN(test_T6_collect_takes_everybody_s);
    RUN(test_T9_held_is_exact);
    RUN(test_Q11_queues_of_one_domain_are_independent);
    RUN(test_T8_drain_runs_everything);
    RUN(test_T8_drain_ends_where_finalizers_do_not);
    RUN(test_T8_drain_gives_up_on_a_section_that_stays);
    return 0;
}
