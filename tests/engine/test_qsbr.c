/* The engine's protocol, one step at a time: one thread drives the records of
 * several, and says at each step whether a goal may be reached. */
#include "harness.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static qsbr_domain *
domain_new(void)
{
    qsbr_domain *d = qsbr_domain_new();
    CHECK(d != NULL);
    CHECK_EQ(qc_load_relaxed(&d->wr_seq) & 1, 1); /* odd: never the value of offline */
    return d;
}

/* ---- Q1: when a goal is reached ---- */

static void
test_Q1_goal_waits_for_a_section_from_before(void)
{
    qsbr_domain *d = domain_new();
    stepper *r = reader_new(d);
    reader_enter(r);
    uint64_t goal = qsbr_advance(d);
    for (int i = 0; i < 100; i++) {
        CHECK(!qsbr_poll(d, goal));
        CHECK(!qsbr_goal_reached(d, goal));
    }
    reader_exit(r);
    CHECK(!qsbr_goal_reached(d, goal)); /* the cache: nobody has looked yet */
    CHECK(qsbr_poll(d, goal));
    CHECK(qsbr_goal_reached(d, goal));
    CHECK(qsbr_poll(d, goal));
    stepper_end(r);
    qsbr_domain_release(d);
}

static void
test_Q1_later_sections_hold_nothing_back(void)
{
    qsbr_domain *d = domain_new();
    stepper *before = reader_new(d), *after = reader_new(d);
    reader_enter(before);
    uint64_t goal = qsbr_advance(d);
    reader_enter(after);
    CHECK(!qsbr_poll(d, goal));
    reader_exit(before);
    CHECK(qsbr_poll(d, goal));
    /* But the later section holds back the later goal. */
    uint64_t later = qsbr_advance(d);
    CHECK(!qsbr_poll(d, later));
    CHECK(qsbr_poll(d, goal));
    reader_exit(after);
    CHECK(qsbr_poll(d, later));
    stepper_end(before);
    stepper_end(after);
    qsbr_domain_release(d);
}

/* A thread that leaves and enters again between two polls lets go of the first. */
static void
test_Q1_leaving_and_coming_back_lets_go(void)
{
    qsbr_domain *d = domain_new();
    stepper *r = reader_new(d);
    reader_enter(r);
    uint64_t goal = qsbr_advance(d);
    CHECK(!qsbr_poll(d, goal));
    reader_exit(r);
    reader_enter(r);
    CHECK(qsbr_poll(d, goal));
    reader_exit(r);
    stepper_end(r);
    qsbr_domain_release(d);
}

/* The oldest of many sections counts, on whichever record of whichever chunk. */
static void
test_Q1_oldest_of_all_records_counts(void)
{
    enum { READERS = 40 }; /* more than a chunk has */
    qsbr_domain *d = domain_new();
    stepper *r[READERS];
    uint64_t goals[READERS];
    for (int i = 0; i < READERS; i++) {
        r[i] = reader_new(d);
        reader_enter(r[i]);
        goals[i] = qsbr_advance(d);
    }
    /* They leave in an order of their own; goal i waits for 0..i. */
    bool inside[READERS];
    memset(inside, true, sizeof inside);
    for (int n = 0; n < READERS; n++) {
        int leaver = n % 2 != 0 ? n / 2 : READERS - 1 - n / 2;
        reader_exit(r[leaver]);
        inside[leaver] = false;
        int first = 0;
        while (first < READERS && !inside[first])
            first++;
        for (int i = READERS - 1; i >= 0; i--)
            CHECK_EQ(qsbr_poll(d, goals[i]), i < first);
    }
    for (int i = 0; i < READERS; i++)
        stepper_end(r[i]);
    qsbr_domain_release(d);
}

static void
test_Q1_only_the_outermost_exit_counts(void)
{
    qsbr_domain *d = domain_new();
    stepper *r = reader_new(d);
    reader_enter(r);
    uint64_t goal = qsbr_advance(d);
    for (int depth = 0; depth < 5; depth++)
        reader_enter(r); /* the inner ones do not take a new sequence */
    for (int depth = 0; depth < 5; depth++) {
        CHECK(!qsbr_poll(d, goal));
        CHECK(qsbr_in_section(reader_record(r)));
        reader_exit(r);
    }
    CHECK(!qsbr_poll(d, goal));
    reader_exit(r);
    CHECK(!qsbr_in_section(reader_record(r)));
    CHECK(qsbr_poll(d, goal));
    stepper_end(r);
    qsbr_domain_release(d);
}

/* ---- leaves: sections of the process domain that are not counted ---- */

static bool entered;

static void
enter_leaf(void *r)
{
    entered = qsbr_enter_leaf(r);
}

static void
exit_leaf(void *r)
{
    qsbr_exit_leaf(r);
}

static void
test_Q1_goal_waits_for_a_leaf_from_before(void)
{
    stepper *r = reader_new(&qsbr_process);
    stepper_run(r, enter_leaf, reader_record(r));
    CHECK(entered);
    uint64_t goal = qsbr_advance(&qsbr_process);
    CHECK(!qsbr_poll(&qsbr_process, goal));
    stepper_run(r, exit_leaf, reader_record(r));
    CHECK(qsbr_poll(&qsbr_process, goal));
    CHECK(!qsbr_in_section(reader_record(r)));
    stepper_end(r);
}

/* Its exit would end the section around it. */
static void
test_Q1_no_leaf_in_a_section(void)
{
    stepper *r = reader_new(&qsbr_process);
    reader_enter(r);
    uint64_t goal = qsbr_advance(&qsbr_process);
    stepper_run(r, enter_leaf, reader_record(r));
    if (entered)
        stepper_run(r, exit_leaf, reader_record(r));
    CHECK(!qsbr_poll(&qsbr_process, goal));
    CHECK(!entered);
    reader_exit(r);
    CHECK(qsbr_poll(&qsbr_process, goal));
    stepper_end(r);
}

/* Through the wrap (debug builds begin just before it), with sections and goals on
 * both sides of it. */
static void
test_Q1_sequence_wraps(void)
{
    qsbr_domain *d = domain_new();
    stepper *r = reader_new(d);
    uint64_t start = qc_load_relaxed(&d->wr_seq), previous = start;
    bool wrapped = false;
    for (int i = 0; i < 300; i++) {
        reader_enter(r);
        uint64_t goal = qsbr_advance(d);
        CHECK_EQ(goal, previous + QSBR_STEP);
        CHECK(goal != QSBR_OFFLINE && (goal & 1) == 1);
        CHECK(qsbr_before(previous, goal) && !qsbr_before(goal, previous));
        CHECK(qsbr_poll(d, previous)); /* also across the wrap */
        CHECK(!qsbr_poll(d, goal));
        reader_exit(r);
        CHECK(qsbr_poll(d, goal));
        wrapped = wrapped || goal < previous;
        previous = goal;
    }
#ifdef QC_DEBUG
    CHECK(wrapped);
#endif
    stepper_end(r);
    qsbr_domain_release(d);

    /* One section held from before the wrap to long after it. */
    d = domain_new();
    r = reader_new(d);
    reader_enter(r);
    uint64_t first = qsbr_advance(d), last = first;
    for (int i = 0; i < 300; i++) {
        last = qsbr_advance(d);
        CHECK(!qsbr_poll(d, first));
        CHECK(!qsbr_poll(d, last));
    }
    reader_exit(r);
    CHECK(qsbr_poll(d, last));
    CHECK(qsbr_goal_reached(d, first));
    stepper_end(r);
    qsbr_domain_release(d);
}

/* rd_seq only rises, and never above wr_seq, whatever happens in whatever order. */
static void
test_Q1_read_sequence_only_rises(void)
{
    enum { READERS = 4 };
    qsbr_domain *d = domain_new();
    stepper *r[READERS];
    bool inside[READERS] = {false};
    uint64_t random = 12345, goal = qc_load_relaxed(&d->wr_seq);
    for (int i = 0; i < READERS; i++)
        r[i] = reader_new(d);
    uint64_t known = qc_load_relaxed(&d->rd_seq);
    for (uint64_t n = scaled(4000); n > 0; n--) {
        unsigned what = (unsigned)(chance(&random) % 6),
                 who = (unsigned)(chance(&random) % READERS);
        if (what == 0)
            goal = qsbr_advance(d);
        else if (what == 1)
            qsbr_poll(d, goal);
        else if (what == 2)
            qsbr_poll(d, goal - 20); /* an older one */
        else {
            (inside[who] ? reader_exit : reader_enter)(r[who]);
            inside[who] = !inside[who];
        }
        uint64_t now = qc_load_relaxed(&d->rd_seq);
        CHECK(!qsbr_before(now, known));
        CHECK(!qsbr_before(qc_load_relaxed(&d->wr_seq), now));
        for (int i = 0; i < READERS; i++) /* nobody under way is passed over */
            if (inside[i])
                CHECK(!qsbr_before(qc_load_relaxed(&reader_record(r[i])->seq), now));
        known = now;
    }
    for (int i = 0; i < READERS; i++) {
        if (inside[i])
            reader_exit(r[i]);
        stepper_end(r[i]);
    }
    CHECK(qsbr_poll(d, goal));
    qsbr_domain_release(d);
}

/* A goal is reached by an advance, never by itself: what was not added to wr_seq
 * is reached by nobody's poll (qsbr.h, the first of "two orders"). */
static void
test_Q1_a_goal_has_to_be_added(void)
{
    qsbr_domain *d = domain_new();
    stepper *r = reader_new(d);
    uint64_t future = qc_load_relaxed(&d->wr_seq) + QSBR_STEP;
    for (int i = 0; i < 10; i++)
        CHECK(!qsbr_poll(d, future));
    CHECK_EQ(qsbr_advance(d), future);
    CHECK(qsbr_poll(d, future));
    stepper_end(r);
    qsbr_domain_release(d);
}

/* qsbr_wait comes back when the section has ended, and not before. */
typedef struct {
    qsbr_domain *domain;
    uint64_t goal;
    bool reached;
    uint64_t returned;
} waiting;

static void
wait_for_goal(void *arg)
{
    waiting *w = arg;
    w->reached = qsbr_wait(w->domain, w->goal);
    w->returned = now_ns();
}

static void
test_Q1_wait_ends_with_the_section(void)
{
    qsbr_domain *d = domain_new();
    stepper *r = reader_new(d), *waiter = stepper_new(); /* the waiter has no record */
    reader_enter(r);
    waiting w = {.domain = d, .goal = qsbr_advance(d)};
    stepper_start(waiter, wait_for_goal, &w);
    sleep_ms(20);
    CHECK(stepper_busy(waiter));
    uint64_t left = now_ns();
    reader_exit(r);
    stepper_wait(waiter);
    CHECK(w.reached && w.returned >= left);
    stepper_end(r);
    stepper_end(waiter);
    qsbr_domain_release(d);
}

/* ---- the heavy barrier: one a poll, none where it is not needed ---- */

static void
test_Q12_heavy_barrier_only_where_another_record_exists(void)
{
    qsbr_domain *d = domain_new();
    /* Nobody; then only the poller's own record. */
    for (int i = 0; i < 2; i++) {
        CHECK(qsbr_poll(d, qsbr_advance(d)));
        CHECK_EQ(qc_load_relaxed(&d->heavy_barriers), 0);
        CHECK(qsbr_register(d) != NULL);
    }
    CHECK_EQ(qc_load_relaxed(&d->polls), 2);
    /* Another record, offline: its enter may be on the way. */
    stepper *r = reader_new(d);
    uint64_t goal = qsbr_advance(d);
    CHECK(qsbr_poll(d, goal));
    CHECK_EQ(qc_load_relaxed(&d->heavy_barriers), 1);
    CHECK(qsbr_poll(d, goal)); /* known: none */
    CHECK_EQ(qc_load_relaxed(&d->heavy_barriers), 1);
    stepper_end(r);
    CHECK(qsbr_poll(d, qsbr_advance(d)));
    CHECK_EQ(qc_load_relaxed(&d->heavy_barriers), 1);
    CHECK_EQ(qc_load_relaxed(&d->broken), 0);
    CHECK_EQ(qc_load_relaxed(&d->advances), 4);
    qsbr_unregister(qsbr_find(d));
    qsbr_domain_release(d);
}

static void
test_Q12_mode_is_the_one_asked_for(void)
{
    const char *wanted = getenv("QSBRCONTAINERS_BARRIER");
    if (wanted != NULL)
        CHECK_EQ(barrier_chosen == BARRIER_FENCE, strcmp(wanted, "fence") == 0);
    CHECK(!barrier_init("something else"));
    barrier_mode mode = barrier_chosen;
    CHECK(barrier_init("fence")); /* chosen once: later words change nothing */
    CHECK_EQ(barrier_chosen, mode);
    CHECK(barrier_heavy());
}

/* ---- Q2, Q3, Q6 ---- */

#ifdef QC_DEBUG
static void
poll_in_section(void *arg)
{
    qsbr_domain *d = arg;
    qsbr_record *rec = qsbr_register(d);
    qsbr_enter(rec);
    qsbr_poll(d, qsbr_advance(d));
}

static void
exit_without_enter(void *arg)
{
    qsbr_exit(qsbr_register(arg));
}

static void
test_Q2_waiting_in_a_section_is_found(void)
{
    qsbr_domain *d = domain_new();
    in_child_that_dies(poll_in_section, d, SIGABRT);
    in_child_that_dies(exit_without_enter, d, SIGABRT);
    qsbr_domain_release(d);
}
#endif

/* Nothing of the domain and no other record changes by a section. */
static void
test_Q3_sections_write_the_own_record_only(void)
{
    qsbr_domain *d = domain_new();
    stepper *r = reader_new(d), *other = reader_new(d);
    qsbr_domain before;
    qsbr_record record;
    memcpy((void *)&before, (void *)d, sizeof before);
    memcpy((void *)&record, (void *)reader_record(other), sizeof record);
    for (int i = 0; i < 3; i++) {
        reader_enter(r);
        CHECK_EQ(qc_load_relaxed(&reader_record(r)->seq), qc_load_relaxed(&d->wr_seq));
        CHECK(memcmp((void *)&before, (void *)d, sizeof before) == 0);
        reader_exit(r);
        CHECK_EQ(qc_load_relaxed(&reader_record(r)->seq), QSBR_OFFLINE);
        CHECK(memcmp((void *)&before, (void *)d, sizeof before) == 0);
        CHECK(memcmp((void *)&record, (void *)reader_record(other), sizeof record) == 0);
    }
    stepper_end(r);
    stepper_end(other);
    qsbr_domain_release(d);
}

static void
test_Q6_records_have_lines_of_their_own(void)
{
    CHECK_EQ(sizeof(qsbr_record) % QC_LINE_PAIR, 0);
    CHECK(offsetof(qsbr_record, refs) >= QC_LINE_PAIR);
    CHECK(offsetof(qsbr_domain, rd_seq) - offsetof(qsbr_domain, wr_seq) >= QC_LINE_PAIR);
    CHECK(offsetof(qsbr_domain, lock) - offsetof(qsbr_domain, rd_seq) >= QC_LINE_PAIR);
    qsbr_domain *d = domain_new();
    stepper *a = reader_new(d), *b = reader_new(d);
    CHECK_EQ((uintptr_t)d % QC_LINE_PAIR, 0);
    CHECK_EQ((uintptr_t)reader_record(a) % QC_LINE_PAIR, 0);
    CHECK(reader_record(a) != reader_record(b));
    stepper_end(a);
    stepper_end(b);
    qsbr_domain_release(d);
}

int
main(void)
{
    harness_init(true);
    RUN(test_Q1_goal_waits_for_a_section_from_before);
    RUN(test_Q1_later_sections_hold_nothing_back);
    RUN(test_Q1_leaving_and_coming_back_lets_go);
    RUN(test_Q1_oldest_of_all_records_counts);
    RUN(test_Q1_only_the_outermost_exit_counts);
    RUN(test_Q1_goal_waits_for_a_leaf_from_before);
    RUN(test_Q1_no_leaf_in_a_section);
    RUN(test_Q1_sequence_wraps);
    RUN(test_Q1_read_sequence_only_rises);
    RUN(test_Q1_a_goal_has_to_be_added);
    RUN(test_Q1_wait_ends_with_the_section);
    RUN(test_Q12_heavy_barrier_only_where_another_record_exists);
    RUN(test_Q12_mode_is_the_one_asked_for);
#ifdef QC_DEBUG
    RUN(test_Q2_waiting_in_a_section_is_found);
#endif
    RUN(test_Q3_sections_write_the_own_record_only);
    RUN(test_Q6_records_have_lines_of_their_own);
    return 0;
}
