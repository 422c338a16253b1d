/* Changes that no fork comes between (Q10): qsbr_hold_forks and qsbr_let_forks.
 */
#include "harness.h"

#include "qsbr/qsbr.h"

#include <signal.h>
#include <unistd.h>

static _Atomic uint64_t first, second; /* equal but in between */
static _Atomic unsigned changing;

static void
change(qsbr_record *rec, unsigned between_ms)
{
    qsbr_hold_forks(rec);
    qc_add_relaxed(&first, 1u);
    qc_add_relaxed(&changing, 1u);
    if (between_ms != 0)
        sleep_ms(between_ms);
    qc_add_relaxed(&second, 1u);
    qsbr_let_forks(rec);
}

static void
change_slowly(void *arg)
{
    qsbr_record *rec = qsbr_register(arg);
    CHECK(rec != NULL);
    change(rec, 30);
}

static void
register_here(void *arg)
{
    CHECK(qsbr_register(arg) != NULL);
}

static void
child_finds_it_whole(void *arg)
{
    CHECK_EQ(qc_load_relaxed(&first), qc_load_relaxed(&second));
    CHECK_EQ(qc_load_relaxed(&qsbr_forks), 0);
    stepper *s = stepper_new(); /* with a record that was in the middle of a change */
    stepper_run(s, change_slowly, arg);
    in_child(register_here, arg);
    stepper_end(s);
    CHECK_EQ(qc_load_relaxed(&first), qc_load_relaxed(&second));
}

static void
fork_beside_a_slow_change(qsbr_domain *domain)
{
    stepper *s = stepper_new();
    unsigned before = qc_load_relaxed(&changing);
    stepper_start(s, change_slowly, domain);
    while (qc_load_relaxed(&changing) == before)
        sleep_ms(0);
    in_child(child_finds_it_whole, domain);
    CHECK_EQ(qc_load_relaxed(&qsbr_forks), 0);
    stepper_wait(s);
    stepper_end(s);
}

static void
test_Q10_a_fork_waits_for_a_change(void)
{
    fork_beside_a_slow_change(&qsbr_process);
    qsbr_domain *domain = qsbr_domain_new();
    fork_beside_a_slow_change(domain);
    qsbr_domain_release(domain);
}

/* A signal handler may fork: the child goes on where it was. */
static void
test_Q10_a_fork_does_not_wait_for_its_own_thread(void)
{
    qsbr_record *rec = qsbr_register_process();
    qsbr_hold_forks(rec);
    in_child(register_here, &qsbr_process); /* else only after a second */
    CHECK_EQ(qc_load_relaxed(&rec->holds_forks), 1);
    qsbr_let_forks(rec);
}

/* The other way round: a change does not begin while a fork is under way. */
static void
test_Q10_a_change_waits_for_a_fork(void)
{
    stepper *s = stepper_new();
    unsigned before = qc_load_relaxed(&changing);
    qc_add_relaxed(&qsbr_forks, 1u);
    stepper_start(s, change_slowly, &qsbr_process);
    sleep_ms(20);
    CHECK_EQ(qc_load_relaxed(&changing), before);
    qc_sub_acq_rel(&qsbr_forks, 1u);
    stepper_wait(s);
    CHECK_EQ(qc_load_relaxed(&changing), before + 1);
    stepper_end(s);
}

/* ---- another library's atfork handler ---- */

/* It runs after the engine's handler, and waits for a lock whose holder waits for the fork. */
static pthread_mutex_t theirs = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool takes_theirs;

static void
take_theirs(void)
{
    if (qc_load_relaxed(&takes_theirs))
        pthread_mutex_lock(&theirs);
}

static void
let_go_of_theirs(void)
{
    if (qc_load_relaxed(&takes_theirs))
        pthread_mutex_unlock(&theirs);
}

static void
change_with_theirs(void *arg)
{
    pthread_mutex_lock(&theirs);
    qc_add_relaxed(&changing, 1u);
    while (qc_load_relaxed(&qsbr_forks) == 0)
        sleep_ms(1);
    for (int i = 0; i < 2; i++)
        change(arg, 0);
    pthread_mutex_unlock(&theirs);
}

static void
child_changes(void *arg)
{
    (void)arg;
    change(qsbr_register_process(), 0);
}

static void
register_and_change(void *arg)
{
    (void)arg;
    change_with_theirs(qsbr_register_process());
}

static void
hang(int signal)
{
    (void)signal;
    CHECK(!"a fork and a change wait for each other for ever");
}

static void
test_Q10_a_fork_and_a_change_that_wait_for_each_other(void)
{
    void (*harness_hangs)(int) = signal(SIGALRM, hang);
    alarm(20);
    stepper *s = stepper_new();
    unsigned before = qc_load_relaxed(&changing);
    qc_store_relaxed(&takes_theirs, true);
    stepper_start(s, register_and_change, NULL);
    while (qc_load_relaxed(&changing) == before)
        sleep_ms(1);
    in_child(child_changes, NULL); /* hangs if the change waits without a limit */
    stepper_wait(s);
    qc_store_relaxed(&takes_theirs, false);
    alarm(0);
    signal(SIGALRM, harness_hangs);
    CHECK_EQ(qc_load_relaxed(&qsbr_forks), 0);
    CHECK_EQ(qc_load_relaxed(&first), qc_load_relaxed(&second));
    stepper_end(s);
}

/* ---- at any moment ---- */

static _Atomic bool over;

static void *
keep_changing(void *arg)
{
    qsbr_record *rec = qsbr_register(arg);
    CHECK(rec != NULL);
    while (!qc_load_relaxed(&over))
        change(rec, 0);
    return NULL;
}

static void
child_finds_it_whole_at_once(void *arg)
{
    (void)arg;
    CHECK_EQ(qc_load_relaxed(&first), qc_load_relaxed(&second));
}

static void
test_Q10_forks_at_any_moment_of_changes(void)
{
    pthread_t threads[2];
    qc_store_relaxed(&over, false);
    for (int i = 0; i < 2; i++)
        threads[i] = thread_start(keep_changing, &qsbr_process);
    for (uint64_t n = scaled(200); n > 0; n--)
        in_child(child_finds_it_whole_at_once, NULL);
    qc_store_relaxed(&over, true);
    for (int i = 0; i < 2; i++)
        thread_join(threads[i]);
}

int
main(void)
{
    /* Prepare handlers run in reverse order of registration, so this runs after the engine's. */
    pthread_atfork(take_theirs, let_go_of_theirs, let_go_of_theirs);
    harness_init(true);
    RUN(test_Q10_a_fork_waits_for_a_change);
    RUN(test_Q10_a_fork_does_not_wait_for_its_own_thread);
    RUN(test_Q10_a_change_waits_for_a_fork);
    RUN(test_Q10_a_fork_and_a_change_that_wait_for_each_other);
    RUN(test_Q10_forks_at_any_moment_of_changes);
    return 0;
}
