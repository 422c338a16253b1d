/* Q12 where membarrier is refused: from the start (fenced mode), and later, by a
 * filter that came after the mode was chosen (quarantine: nothing is freed on a
 * guess).  Linux only; everything happens in children.
 *
 * modes: one
 */
#define _GNU_SOURCE
#include "retire_place.h"

#include <errno.h>
#include <string.h>

#if defined(__linux__)
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__linux__) && defined(SYS_membarrier)

/* From here on this process's membarrier fails with `error`; false: it cannot be
 * arranged. */
static bool
deny_membarrier(unsigned error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return false;
    CHECK(syscall(SYS_membarrier, 0, 0, 0) == -1 && errno == (int)error);
    return true;
}

static void
deny_or_leave(unsigned error)
{
    if (!deny_membarrier(error)) {
        printf("    (no seccomp filters here: not tested)\n");
        fflush(NULL);
        _exit(0);
    }
}

static void
use_engine(void)
{
    place p = place_new();
    stepper *r = reader_new(p.domain);
    reader_enter(r);
    block(&p, 1, RETIRE_MAX_BYTES);
    CHECK_EQ(retire_process(p.local), 0);
    reader_exit(r);
    CHECK_EQ(retire_process(p.local), 1);
    CHECK_EQ(qc_load_relaxed(&p.domain->broken), 0);
    stepper_end(r);
    place_delete(&p);
}

/* ---- refused when the mode is chosen ---- */

static void
chosen_under_a_filter(void *arg)
{
    deny_or_leave(*(unsigned *)arg);
    CHECK(!barrier_init("nonsense"));
    CHECK(!barrier_init("membarrier")); /* asked for, and not to be had */
    CHECK(barrier_init(NULL));
    CHECK_EQ(barrier_chosen, BARRIER_FENCE);
    CHECK(barrier_heavy());
    CHECK(qsbr_init());
    use_engine();
}

static void
test_Q12_fenced_where_membarrier_is_refused(void)
{
    static unsigned errors[] = {EPERM, ENOSYS, EINVAL};
    for (int i = 0; i < 3; i++)
        in_child(chosen_under_a_filter, &errors[i]);
}

static void
fence_is_asked_for(void *arg)
{
    (void)arg;
    CHECK(barrier_init("fence"));
    CHECK_EQ(barrier_chosen, BARRIER_FENCE);
    deny_or_leave(EPERM); /* makes no difference */
    CHECK(qsbr_init());
    use_engine();
}

static void
test_Q12_fenced_mode_needs_no_system_call(void)
{
    in_child(fence_is_asked_for, NULL);
}

/* ---- refused later ---- */

static void *
try_for_goal(void *domain)
{
    qsbr_domain *d = domain;
    CHECK(!qsbr_poll(d, qsbr_advance(d)));
    return NULL;
}

static void
check_quarantine(place *p, uint64_t reached, uint64_t goal)
{
    uint64_t known = qc_load_relaxed(&p->domain->rd_seq);
    for (int i = 0; i < 100; i++) {
        CHECK(!qsbr_poll(p->domain, goal));
        CHECK(!qsbr_wait(p->domain, goal)); /* comes back, and says so */
        CHECK_EQ(retire_process(p->local), 0);
        CHECK_EQ(retire_collect(p->local), 0);
    }
    CHECK(qc_load_relaxed(&p->domain->broken) >= 1);
    CHECK_EQ(qc_load_relaxed(&p->domain->rd_seq), known);
    CHECK(qsbr_poll(p->domain, reached)); /* what was reached stays so */
    thread_join(thread_start(try_for_goal, p->domain));
    uint64_t began = now_ns();
    CHECK_EQ(retire_drain(p->local), 0);
    CHECK(now_ns() - began < UINT64_C(10000000000));
    CHECK_EQ(n_ran, 0);
    CHECK_HELD(p, RETIRE_MAX_BYTES, 2);
}

static void
refused_later(void *arg)
{
    (void)arg;
    CHECK(barrier_init(NULL) && qsbr_init());
    if (barrier_chosen != BARRIER_MEMBARRIER) {
        printf("    (no membarrier here: not tested)\n");
        return;
    }
    place p = place_new();
    stepper *r = reader_new(p.domain); /* offline all along */
    uint64_t reached = qsbr_advance(p.domain);
    CHECK(qsbr_poll(p.domain, reached));
    ref(&p, 1);
    block(&p, 2, RETIRE_MAX_BYTES);
    CHECK_EQ(qc_load_relaxed(&p.domain->broken), 0);
    deny_or_leave(EPERM);
    check_quarantine(&p, reached, qsbr_advance(p.domain));
    /* For good: the record that made the barrier necessary is gone. */
    stepper_end(r);
    CHECK(!qsbr_poll(p.domain, qsbr_advance(p.domain)));
    CHECK_EQ(n_ran, 0);
    /* Another domain learns it for itself, where it needs a barrier. */
    qsbr_domain *alone = qsbr_domain_new();
    CHECK(qsbr_poll(alone, qsbr_advance(alone)));
}

static void
test_Q12_quarantine_where_membarrier_fails_later(void)
{
    in_child(refused_later, NULL);
}

#endif

int
main(void)
{
    harness_init(false); /* the mode is chosen in each child */
#if defined(__linux__) && defined(SYS_membarrier)
    RUN(test_Q12_fenced_where_membarrier_is_refused);
    RUN(test_Q12_fenced_mode_needs_no_system_call);
    RUN(test_Q12_quarantine_where_membarrier_fails_later);
#endif
    return 0;
}
