/* Q12 where membarrier is refused: from the start (fenced mode), and later, by a
 * filter that came after the mode was chosen (quarantine: nothing is freed on a
 * guess).  Linux only; everything happens in children.
 *
 * modes: one
 */
#define _GNU_SOURCE
#include "kt_place.h"

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
filter_calls(struct sock_filter *filter, size_t n)
{
    struct sock_fprog program = {.len = (unsigned short)n, .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static bool
deny_membarrier(unsigned error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    if (!filter_calls(filter, sizeof filter / sizeof *filter))
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

/* The registration goes through, and the barrier does not. */
static bool
deny_the_barrier_only(void)
{
    enum { PRIVATE_EXPEDITED = 1 << 3 };
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)), /* its low half */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PRIVATE_EXPEDITED, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return filter_calls(filter, sizeof filter / sizeof *filter);
}

static void
chosen_by_the_barrier(void *arg)
{
    (void)arg;
    if (!deny_the_barrier_only()) {
        printf("    (no seccomp filters here: not tested)\n");
        return;
    }
    CHECK(!barrier_init("membarrier"));
    CHECK(barrier_init(NULL));
    CHECK_EQ(barrier_chosen, BARRIER_FENCE);
    CHECK(barrier_heavy());
    CHECK(qsbr_init());
    use_engine();
}

static void
test_Q12_fenced_where_only_the_barrier_is_refused(void)
{
    in_child(chosen_by_the_barrier, NULL);
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
    /* What was reached stays so, and needs no second look. */
    uint64_t polls = qc_load_relaxed(&p->domain->polls);
    CHECK(qsbr_poll(p->domain, reached) && qsbr_wait(p->domain, reached));
    CHECK_EQ(qc_load_relaxed(&p->domain->polls), polls);
    retire_note_others(p->queue, 2 * (uint64_t)RETIRE_HARD_BYTES);
    CHECK(retire_must_wait(p->queue) && retire_make_room(p->local)); /* waiting would not help */
    retire_note_others(p->queue, 0);
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

/* What needs a grace period to go on says no, and has changed nothing (K7); what waits for
 * one ends (T8), and leaves what a reader may have. */
static void
containers_without_grace_periods(void *arg)
{
    (void)arg;
    CHECK(barrier_init(NULL) && qsbr_init());
    if (barrier_chosen != BARRIER_MEMBARRIER) {
        printf("    (no membarrier here: not tested)\n");
        return;
    }
    kt k = kt_new(hash_well);
    stepper *r = reader_new(k.p.domain);
    for (uint64_t key = 0; key < 20; key++)
        kt_set_int(&k, key, (int64_t)key);
    deny_or_leave(EPERM);
    for (int i = 0; i < 3; i++) {
        keytable_freezing freezing = keytable_freeze(k.map, k.p.domain);
        CHECK(!qsbr_wait(k.p.domain, freezing.goal)); /* comes back, and says so */
        keytable_thaw(k.map, freezing);
        CHECK(!keytable_is_frozen(k.map));
    }
    for (uint64_t key = 0; key < 40; key++) /* everything else goes on */
        kt_set_int(&k, key, 5);
    CHECK(kt_del(&k, 39));
    CHECK_EQ(keytable_len(k.map), 39);
    CHECK_EQ(kt_get(&k, 38), 5);
    heap *h = heap_new(k.p.domain);
    unsigned char *block = heap_alloc(h, 100);
    memset(block, 7, 100);
    heap_retire(h, block, 100);
    CHECK_EQ(heap_collect(h, qsbr_wait), 0);
    CHECK_EQ(heap_collect(h, NULL), 0);
    heap_delete(h);
    for (size_t i = sizeof(heap_block); i < 100; i++)
        CHECK_EQ(block[i], 7);
    stepper_end(r);
}

static void
test_Q12_containers_where_membarrier_fails_later(void)
{
    in_child(containers_without_grace_periods, NULL);
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
    RUN(test_Q12_fenced_where_only_the_barrier_is_refused);
    RUN(test_Q12_quarantine_where_membarrier_fails_later);
    RUN(test_Q12_containers_where_membarrier_fails_later);
#endif
    return 0;
}
