/* What a record's thread may do for longer than a section, and what is done once
 * for many: attach and quiescent states (Q7), deferred advances, and one heavy
 * barrier for all polls of what was unlinked before it (Q1, Q12). */
#include "harness.h"

static qsbr_domain *
domain_new(void)
{
    qsbr_domain *d = qsbr_domain_new();
    CHECK(d != NULL);
    return d;
}

/* ---- attach, quiescent state, detach ---- */

typedef struct {
    qsbr_domain *domain;
    qsbr_record *rec;
    bool attached;
} reader;

static void
do_register(void *arg)
{
    reader *r = arg;
    r->rec = qsbr_register(r->domain);
    CHECK(r->rec != NULL);
}

static void
do_attach(void *arg)
{
    reader *r = arg;
    r->attached = qsbr_attach(r->rec);
}

static void
do_quiescent(void *arg)
{
    qsbr_quiescent_state(((reader *)arg)->rec);
}

static void
do_detach(void *arg)
{
    qsbr_detach(((reader *)arg)->rec);
}

/* Nested in what the thread is in: nothing is stored.  Else a short one. */
static void
do_section(void *arg)
{
    reader *r = arg;
    uint64_t seq = qc_load_relaxed(&r->rec->seq), now = qc_load_relaxed(&r->domain->wr_seq);
    qsbr_enter(r->rec);
    CHECK_EQ(qc_load_relaxed(&r->rec->seq), seq != QSBR_OFFLINE ? seq : now);
    qsbr_exit(r->rec);
    CHECK_EQ(qc_load_relaxed(&r->rec->seq), seq);
}

static void
test_Q7_attached_is_one_long_section(void)
{
    reader r = {.domain = domain_new()};
    stepper *s = stepper_new();
    stepper_run(s, do_register, &r);
    CHECK_EQ(qsbr_state_of(r.rec), QSBR_DETACHED);

    uint64_t before = qsbr_advance(r.domain);
    stepper_run(s, do_attach, &r);
    CHECK(r.attached);
    CHECK_EQ(qsbr_state_of(r.rec), QSBR_ATTACHED);
    CHECK(qsbr_poll(r.domain, before)); /* it attached after that */
    uint64_t goal = qsbr_advance(r.domain);
    CHECK(!qsbr_poll(r.domain, goal));
    stepper_run(s, do_section, &r);
    CHECK(!qsbr_poll(r.domain, goal));

    stepper_run(s, do_quiescent, &r);
    CHECK(qsbr_poll(r.domain, goal));
    CHECK_EQ(qsbr_state_of(r.rec), QSBR_ATTACHED);
    goal = qsbr_advance(r.domain);
    CHECK(!qsbr_poll(r.domain, goal));

    stepper_run(s, do_detach, &r);
    CHECK(qsbr_poll(r.domain, goal));
    CHECK_EQ(qsbr_state_of(r.rec), QSBR_DETACHED);
    stepper_end(s);
    qsbr_domain_release(r.domain);
}

/* ---- shutting down ---- */

static void
test_Q7_all_but_the_finalizing_thread_shut_down(void)
{
    qsbr_domain *d = domain_new();
    reader in = {.domain = d}, out = {.domain = d}, late = {.domain = d};
    qsbr_record *mine = qsbr_register(d);
    CHECK(mine != NULL);
    stepper *a = stepper_new(), *b = stepper_new(), *c = stepper_new();
    stepper_run(a, do_register, &in);
    stepper_run(b, do_register, &out);
    stepper_run(a, do_attach, &in);
    uint64_t goal = qsbr_advance(d);

    qsbr_shut_down(d, mine);
    CHECK_EQ(qsbr_state_of(mine), QSBR_DETACHED);
    CHECK_EQ(qsbr_state_of(in.rec), QSBR_SHUTTING_DOWN);
    CHECK_EQ(qsbr_state_of(out.rec), QSBR_SHUTTING_DOWN);
    /* One that is in is as safe as before, and nobody new comes in to stay. */
    CHECK(!qsbr_poll(d, goal));
    stepper_run(b, do_attach, &out);
    CHECK(!out.attached);
    stepper_run(c, do_register, &late);
    CHECK_EQ(qsbr_state_of(late.rec), QSBR_SHUTTING_DOWN);
    /* A section is neither refused nor unseen. */
    stepper_run(a, do_detach, &in);
    CHECK(qsbr_poll(d, goal));
    CHECK_EQ(qsbr_state_of(in.rec), QSBR_SHUTTING_DOWN);
    stepper_run(b, do_section, &out);
    CHECK(qsbr_attach(mine));
    qsbr_detach(mine);

    qsbr_start_again(d);
    CHECK_EQ(qsbr_state_of(out.rec), QSBR_DETACHED);
    stepper_run(b, do_attach, &out);
    CHECK(out.attached);
    stepper_run(b, do_detach, &out);
    stepper_end(a);
    stepper_end(b);
    stepper_end(c);
    qsbr_domain_release(d);
}

/* A thread had a record in a domain that was shut down and has ended.  It goes on in another
 * domain and ends, and never touches the freed memory (or AddressSanitizer reports it). */
static void
test_Q7_a_domain_ends_under_threads_that_had_a_record(void)
{
    reader r = {.domain = domain_new()}, elsewhere = {.domain = domain_new()};
    stepper *s = stepper_new();
    stepper_run(s, do_register, &r);
    qsbr_shut_down(r.domain, NULL);
    qsbr_domain_release(r.domain);
    stepper_run(s, do_register, &elsewhere);
    stepper_run(s, do_section, &elsewhere);
    stepper_run(s, do_attach, &elsewhere);
    CHECK(elsewhere.attached);
    stepper_run(s, do_detach, &elsewhere);
    stepper_end(s);
    qsbr_domain_release(elsewhere.domain);
}

/* ---- deferred advance ---- */

static void
test_Q1_deferred_advances_are_real_ones(void)
{
    qsbr_domain *d = domain_new();
    uint64_t began = qc_load_relaxed(&d->wr_seq);
    qsbr_deferred deferred = QSBR_DEFERRED;
    CHECK_EQ(qsbr_advance_now(d, &deferred), 0); /* nothing to advance for */
    for (int i = 1; i < QSBR_DEFER_BLOCKS; i++)
        CHECK_EQ(qsbr_advance_deferred(d, &deferred, 16), 0);
    CHECK_EQ(qc_load_relaxed(&d->wr_seq), began);
    uint64_t goal = qsbr_advance_deferred(d, &deferred, 16);
    CHECK_EQ(goal, began + QSBR_STEP);
    CHECK_EQ(qc_load_relaxed(&d->wr_seq), goal); /* added, not foretold */
    CHECK_EQ(qc_load_relaxed(&d->advances), 1);

    CHECK_EQ(qsbr_advance_deferred(d, &deferred, QSBR_DEFER_BYTES - 1), 0);
    CHECK_EQ(qsbr_advance_deferred(d, &deferred, 1), goal + QSBR_STEP);
    CHECK_EQ(qsbr_advance_deferred(d, &deferred, QSBR_DEFER_BYTES), goal + 2 * QSBR_STEP);
    CHECK_EQ(qsbr_advance_deferred(d, &deferred, 1), 0);
    CHECK_EQ(qsbr_advance_now(d, &deferred), goal + 3 * QSBR_STEP);
    CHECK_EQ(qsbr_advance_now(d, &deferred), 0);
    qsbr_domain_release(d);
}

/* ---- one barrier for all goals before it ---- */

static uint64_t
barriers(qsbr_domain *d)
{
    return qc_load_relaxed(&d->heavy_barriers);
}

static void
test_Q12_one_barrier_serves_all_goals_before_it(void)
{
    qsbr_domain *d = domain_new();
    stepper *r = reader_new(d);
    uint64_t first = qsbr_advance(d);
    reader_enter(r);
    uint64_t second = qsbr_advance(d);
    CHECK(!qsbr_poll(d, second));
    CHECK_EQ(barriers(d), 1);
    /* Again and again, and for a goal before it: the records alone are looked at. */
    for (int i = 0; i < 10; i++)
        CHECK(!qsbr_poll(d, second));
    CHECK(qsbr_poll(d, first));
    CHECK_EQ(barriers(d), 1);
    /* What was unlinked after it needs one of its own. */
    uint64_t third = qsbr_advance(d);
    CHECK(!qsbr_poll(d, third));
    CHECK_EQ(barriers(d), 2);
    reader_exit(r);
    CHECK(qsbr_poll(d, third));
    CHECK(qsbr_goal_reached(d, second));
    CHECK_EQ(barriers(d), 2);
    stepper_end(r);
    qsbr_domain_release(d);
}

int
main(void)
{
    harness_init(true);
    RUN(test_Q7_attached_is_one_long_section);
    RUN(test_Q7_all_but_the_finalizing_thread_shut_down);
    RUN(test_Q7_a_domain_ends_under_threads_that_had_a_record);
    RUN(test_Q1_deferred_advances_are_real_ones);
    RUN(test_Q12_one_barrier_serves_all_goals_before_it);
    return 0;
}
