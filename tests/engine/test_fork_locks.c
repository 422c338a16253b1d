/* base/qc_lock after a fork (Q10): a lock whose holder is gone is taken over, once, and who
 * takes it is told; nobody waits for a thread that is not there.
 *
 * modes: one
 */
#include "harness.h"

#include "base/qc_lock.h"

static qc_lock held;

static void
hold(void *arg)
{
    (void)arg;
    CHECK_EQ(qc_lock_acquire(&held), QC_LOCK_TAKEN);
}

static void
let_go(void *arg)
{
    (void)arg;
    qc_lock_release(&held);
}

static void
take_and_let_go(void *arg)
{
    hold(arg);
    let_go(arg);
}

/* ---- told once, or until it is put right ---- */

enum { THREADS = 4, TURNS = 50 };

typedef struct {
    _Atomic unsigned told, to_tell;
    uint64_t a, b; /* (the lock) plain: ThreadSanitizer sees who has it at the same time */
} orphan;

static void
take_orphan(void *arg, unsigned i)
{
    orphan *o = arg;
    for (unsigned turn = 0; turn < TURNS; turn++) {
        qc_lock_found found = qc_lock_acquire(&held);
        CHECK(qc_lock_is_held(&held) && qc_lock_may_be_orphaned(&held));
        CHECK_EQ(o->a, o->b);
        o->a++;
        if (turn % 20 == i)
            sleep_ms(1); /* the others go to sleep in the kernel */
        o->b++;
        if (found == QC_LOCK_ORPHANED) {
            CHECK(qc_add_relaxed(&o->told, 1u) < qc_load_relaxed(&o->to_tell));
            if (qc_load_relaxed(&o->told) == qc_load_relaxed(&o->to_tell))
                found = QC_LOCK_TAKEN; /* all is right now */
        }
        else {
            CHECK_EQ(qc_load_relaxed(&o->told), qc_load_relaxed(&o->to_tell));
        }
        qc_lock_release_as(&held, found);
    }
}

static void
child_takes_over(void *arg)
{
    orphan o = {.to_tell = *(unsigned *)arg};
    CHECK(qc_lock_is_held(&held) && qc_lock_may_be_orphaned(&held));
    run_threads(THREADS, take_orphan, &o);
    CHECK_EQ(qc_load_relaxed(&o.told), *(unsigned *)arg);
    CHECK_EQ(o.a, THREADS * TURNS);
    CHECK(!qc_lock_is_held(&held) && !qc_lock_may_be_orphaned(&held));
}

static void
test_Q10_an_orphan_is_taken_over_and_who_takes_it_is_told(void)
{
    unsigned times[] = {1, 2, 60};
    for (unsigned i = 0; i < 3; i++) {
        stepper *s = stepper_new();
        stepper_run(s, hold, NULL);
        CHECK(!qc_lock_may_be_orphaned(&held)); /* nobody has forked here */
        in_child(child_takes_over, &times[i]);
        CHECK(qc_lock_is_held(&held)); /* here its holder is not gone */
        stepper_run(s, let_go, NULL);
        take_and_let_go(NULL);
        stepper_end(s);
    }
}

/* One that others slept for; the child's waiters are woken all the same. */
static void
test_Q10_an_orphan_that_others_waited_for(void)
{
    stepper *s = stepper_new(), *waiters[3];
    stepper_run(s, hold, NULL);
    for (int i = 0; i < 3; i++) {
        waiters[i] = stepper_new();
        stepper_start(waiters[i], take_and_let_go, NULL);
    }
    sleep_ms(5);
    unsigned times = 3;
    in_child(child_takes_over, &times);
    stepper_run(s, let_go, NULL);
    for (int i = 0; i < 3; i++) {
        stepper_wait(waiters[i]);
        stepper_end(waiters[i]);
    }
    stepper_end(s);
}

/* A sleeper is told too: the one who has the orphan lets go without having put it right. */
static void *
wait_for_orphan(void *arg)
{
    (void)arg;
    CHECK_EQ(qc_lock_acquire(&held), QC_LOCK_ORPHANED);
    qc_lock_release_as(&held, QC_LOCK_ORPHANED);
    return NULL;
}

static void
child_leaves_it_as_it_was(void *arg)
{
    (void)arg;
    pthread_t threads[3];
    CHECK_EQ(qc_lock_acquire(&held), QC_LOCK_ORPHANED);
    for (int i = 0; i < 3; i++)
        threads[i] = thread_start(wait_for_orphan, NULL);
    sleep_ms(5);
    qc_lock_release_as(&held, QC_LOCK_ORPHANED);
    for (int i = 0; i < 3; i++)
        thread_join(threads[i]);
    CHECK_EQ(qc_lock_acquire(&held), QC_LOCK_ORPHANED);
    qc_lock_release(&held);
    take_and_let_go(NULL);
}

static void
test_Q10_an_orphan_stays_one_until_it_is_put_right(void)
{
    stepper *s = stepper_new();
    stepper_run(s, hold, NULL);
    in_child(child_leaves_it_as_it_was, NULL);
    stepper_run(s, let_go, NULL);
    stepper_end(s);
}

/* ---- children of children ---- */

static void
child_that_forks(void *arg)
{
    /* Put right and left to nobody; then a thread of this process has it. */
    CHECK_EQ(qc_lock_acquire(&held), QC_LOCK_ORPHANED);
    qc_lock_release(&held);
    in_child(take_and_let_go, NULL);
    stepper *s = stepper_new();
    stepper_run(s, hold, NULL);
    in_child(child_takes_over, arg);
    stepper_run(s, let_go, NULL);
    stepper_end(s);
    take_and_let_go(NULL);
}

static void
child_that_puts_nothing_right(void *arg)
{
    in_child(child_takes_over, arg); /* found as it was two generations ago */
    CHECK_EQ(qc_lock_acquire(&held), QC_LOCK_ORPHANED);
    qc_lock_release_as(&held, QC_LOCK_ORPHANED);
    in_child(child_takes_over, arg);
    child_takes_over(arg);
}

static void
test_Q10_children_of_children(void)
{
    unsigned times = 1;
    stepper *s = stepper_new();
    stepper_run(s, hold, NULL);
    in_child(child_that_forks, &times);
    in_child(child_that_puts_nothing_right, &times);
    stepper_run(s, let_go, NULL);
    stepper_end(s);
}

/* ---- at any moment ---- */

static _Atomic bool over;
static _Atomic unsigned counting;
static uint64_t first, second; /* (held) equal when nothing is half done */

static void *
keep_counting(void *arg)
{
    (void)arg;
    qc_add_relaxed(&counting, 1u);
    while (!qc_load_relaxed(&over)) {
        CHECK_EQ(qc_lock_acquire(&held), QC_LOCK_TAKEN);
        *(volatile uint64_t *)&first = second + 1;
        *(volatile uint64_t *)&second = first;
        qc_lock_release(&held);
    }
    return NULL;
}

static void
child_counts_on(void *orphans)
{
    /* Half done only if it says so. */
    if (qc_lock_acquire(&held) == QC_LOCK_ORPHANED)
        qc_add_relaxed((_Atomic unsigned *)orphans, 1u);
    else
        CHECK_EQ(first, second);
    CHECK(first == second || first == second + 1);
    qc_lock_release(&held);
    take_and_let_go(NULL);
}

static void
test_Q10_a_lock_that_is_no_orphan_protects_nothing_half_done(void)
{
    static _Atomic unsigned orphans;
    pthread_t threads[3];
    qc_store_relaxed(&over, false);
    for (int i = 0; i < 3; i++)
        threads[i] = thread_start(keep_counting, NULL);
    /* While a thread starts it may hold locks of AddressSanitizer's, for good in a child. */
    while (qc_load_relaxed(&counting) != 3)
        sleep_ms(0);
    for (uint64_t n = scaled(200); n > 0; n--)
        in_child(child_counts_on, &orphans);
    qc_store_relaxed(&over, true);
    for (int i = 0; i < 3; i++)
        thread_join(threads[i]);
    CHECK_EQ(qc_load_relaxed(&orphans), 0); /* what a child counts stays there */
    CHECK_EQ(first, second);
}

int
main(void)
{
    harness_init(true);
    qc_lock_init(&held);
    RUN(test_Q10_an_orphan_is_taken_over_and_who_takes_it_is_told);
    RUN(test_Q10_an_orphan_that_others_waited_for);
    RUN(test_Q10_an_orphan_stays_one_until_it_is_put_right);
    RUN(test_Q10_children_of_children);
    RUN(test_Q10_a_lock_that_is_no_orphan_protects_nothing_half_done);
    return 0;
}
