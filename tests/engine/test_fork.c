/* What a fork leaves in the child: one thread, with its own records. */
#include "retire_place.h"

#include <unistd.h>

static void
check_alone(qsbr_domain *d, qsbr_record *mine)
{
    CHECK_EQ(qc_load_relaxed(&d->registered), mine != NULL ? 1 : 0);
    CHECK(qsbr_find(d) == mine);
    uint64_t barriers = qc_load_relaxed(&d->heavy_barriers);
    CHECK(qsbr_poll(d, qsbr_advance(d)));
    CHECK_EQ(qc_load_relaxed(&d->heavy_barriers), barriers); /* nobody else exists */
}

/* New threads in the child: registering, sections, and their end. */
static void
check_works(qsbr_domain *d)
{
    unsigned before = qc_load_relaxed(&d->registered);
    stepper *r[40];
    for (int i = 0; i < 40; i++) {
        r[i] = reader_new(d);
        for (int j = 0; j < i; j++)
            CHECK(reader_record(r[i]) != reader_record(r[j]));
        CHECK(reader_record(r[i]) != qsbr_find(d));
    }
    reader_enter(r[20]);
    uint64_t goal = qsbr_advance(d);
    CHECK(!qsbr_poll(d, goal));
    reader_exit(r[20]);
    CHECK(qsbr_poll(d, goal));
    for (int i = 0; i < 40; i++)
        stepper_end(r[i]);
    CHECK_EQ(qc_load_relaxed(&d->registered), before);
}

/* ---- readers that are gone hold nothing back ---- */

typedef struct {
    qsbr_domain *domain;
    uint64_t goal;
} sectioned;

static void
child_without_readers(void *arg)
{
    sectioned *s = arg;
    CHECK(qsbr_poll(s->domain, s->goal));
    check_alone(s->domain, qsbr_find(s->domain));
    check_works(s->domain);
}

static void
readers_in_sections(qsbr_domain *d, bool with_record)
{
    stepper *a = reader_new(d), *b = reader_new(d);
    if (with_record)
        CHECK(qsbr_register(d) != NULL);
    reader_enter(a);
    reader_enter(b);
    reader_enter(b);
    sectioned s = {.domain = d, .goal = qsbr_advance(d)};
    in_child(child_without_readers, &s);
    /* In the parent nothing has changed. */
    CHECK(!qsbr_poll(d, s.goal));
    CHECK_EQ(qc_load_relaxed(&d->registered), with_record ? 3 : 2);
    reader_exit(a);
    reader_exit(b);
    reader_exit(b);
    CHECK(qsbr_poll(d, s.goal));
    stepper_end(a);
    stepper_end(b);
    if (with_record)
        qsbr_unregister(qsbr_find(d));
}

static void
test_Q5_fork_leaves_one_record(void)
{
    for (int with_record = 0; with_record < 2; with_record++) {
        qsbr_domain *d = qsbr_domain_new();
        readers_in_sections(d, with_record != 0);
        qsbr_domain_release(d);
    }
}

static void
test_Q5_fork_in_the_process_domain(void)
{
    readers_in_sections(&qsbr_process, false);
    CHECK(qsbr_register_process() != NULL);
    readers_in_sections(&qsbr_process, true);
    CHECK(qsbr_self == NULL);
}

/* From a thread that has a record and one that it has unregistered, in domains each of
 * which has other records too. */
typedef struct {
    qsbr_domain *with, *without;
    qsbr_record *rec, *old;
} forker;

static void
child_of_forker(void *arg)
{
    forker *f = arg;
    CHECK(qsbr_find(f->with) == f->rec);
    CHECK(qsbr_find(f->without) == NULL);
    check_alone(f->with, f->rec);
    check_alone(f->without, NULL);
    check_works(f->with);
    check_works(f->without);                    /* none of them gets this thread's old record, */
    CHECK(qsbr_register(f->without) == f->old); /* which is still this thread's */
    CHECK_EQ(qc_load_relaxed(&f->old->refs), 2);
    CHECK_EQ(qc_load_relaxed(&f->rec->refs), 2);
    check_works(f->without);
    qsbr_unregister(f->rec);
    check_alone(f->with, NULL);
    CHECK(qsbr_register(f->with) == f->rec);
}

static void
fork_from_here(void *arg)
{
    forker *f = arg;
    f->rec = qsbr_register(f->with);
    f->old = qsbr_register(f->without);
    qsbr_unregister(f->old);
    in_child(child_of_forker, f);
}

static void
test_Q5_fork_after_unregistering(void)
{
    forker f = {.with = qsbr_domain_new(), .without = qsbr_domain_new()};
    stepper *a = reader_new(f.with), *b = reader_new(f.without), *s = stepper_new();
    reader_enter(a);
    reader_enter(b);
    stepper_run(s, fork_from_here, &f);
    reader_exit(a);
    reader_exit(b);
    stepper_end(a);
    stepper_end(b);
    stepper_end(s);
    qsbr_domain_release(f.with);
    qsbr_domain_release(f.without);
}

/* From inside: in the child it is the same section, of the one thread there is. */
typedef struct {
    qsbr_domain *domain;
    qsbr_record *rec;
} attacher;

static void
attach(void *arg)
{
    attacher *a = arg;
    a->rec = qsbr_register(a->domain);
    CHECK(a->rec != NULL && qsbr_attach(a->rec));
}

static void
detach(void *arg)
{
    attacher *a = arg;
    CHECK_EQ(qsbr_state_of(a->rec), QSBR_ATTACHED);
    qsbr_detach(a->rec);
    CHECK_EQ(qsbr_state_of(a->rec), QSBR_DETACHED);
}

static void
child_is_attached(void *arg)
{
    attacher *a = arg, other = {.domain = a->domain};
    uint64_t goal = qsbr_advance(a->domain), seq = qc_load_relaxed(&a->rec->seq);
    CHECK_EQ(qsbr_state_of(a->rec), QSBR_ATTACHED);
    CHECK(seq != QSBR_OFFLINE && qsbr_before(seq, goal));
    stepper *s = stepper_new();
    stepper_run(s, attach, &other); /* perhaps with the record of one that is gone */
    stepper_run(s, detach, &other);
    stepper_end(s);
    detach(a);
    CHECK(qsbr_poll(a->domain, goal)); /* nobody else is in */
    attach(a);
    detach(a);
}

static void
fork_attached(void *arg)
{
    attach(arg);
    in_child(child_is_attached, arg);
    detach(arg);
}

static void
test_Q10_fork_while_attached(void)
{
    qsbr_domain *d = qsbr_domain_new();
    attacher a = {.domain = d}, gone = {.domain = d};
    stepper *s = stepper_new(), *other = stepper_new();
    stepper_run(other, attach, &gone);
    stepper_run(s, fork_attached, &a);
    stepper_run(other, detach, &gone);
    stepper_end(s);
    stepper_end(other);
    qsbr_domain_release(d);
}

/* ---- domains in the child ---- */

static void *
register_in(void *domain)
{
    CHECK(qsbr_register(domain) != NULL);
    return NULL;
}

static void
child_frees_domains(void *arg)
{
    qsbr_domain **d = arg;
    for (int i = 0; i < 3; i++) {
        thread_join(thread_start(register_in, d[i]));
        CHECK_EQ(records_in_use(d[i]), 0);
    }
    /* In an order that is not the list's. */
    qsbr_domain_release(d[1]);
    qsbr_domain_release(d[2]);
    qsbr_domain *new = qsbr_domain_new();
    qsbr_domain_release(d[0]);
    check_works(new);
    qsbr_domain_release(new);
}

static void
test_Q5_domains_are_freed_in_the_child(void)
{
    qsbr_domain *d[3];
    stepper *r[3];
    for (int i = 0; i < 3; i++) {
        d[i] = qsbr_domain_new();
        r[i] = reader_new(d[i]);
    }
    in_child(child_frees_domains, d);
    for (int i = 0; i < 3; i++) {
        stepper_end(r[i]);
        qsbr_domain_release(d[i]);
    }
}

/* ---- locks that somebody held ---- */

static void
hold_registry_lock(void *domain)
{
    qc_lock_acquire(&((qsbr_domain *)domain)->lock);
}

static void
let_go_of_registry_lock(void *domain)
{
    qc_lock_release(&((qsbr_domain *)domain)->lock);
}

static void
child_registers(void *domain)
{
    CHECK(qsbr_register(domain) != NULL);
    check_works(domain);
}

static void
test_Q5_fork_while_the_registry_lock_is_held(void)
{
    qsbr_domain *d = qsbr_domain_new();
    stepper *r = reader_new(d);
    stepper_run(r, hold_registry_lock, d);
    in_child(child_registers, d);
    stepper_run(r, let_go_of_registry_lock, d);
    stepper_end(r);
    qsbr_domain_release(d);
}

static void
hold_queue_lock(void *queue)
{
    qc_lock_acquire(&((retire_queue *)queue)->lock);
}

static void
let_go_of_queue_lock(void *queue)
{
    qc_lock_release(&((retire_queue *)queue)->lock);
}

static void *
retire_one(void *arg)
{
    place p = *(place *)arg;
    join_place(&p);
    ref(&p, 7);
    return NULL;
}

static void
child_retires(void *arg)
{
    place *p = arg;
    pthread_t threads[3]; /* one of them mends the lock, once */
    for (int i = 0; i < 3; i++)
        threads[i] = thread_start(retire_one, p);
    for (int i = 0; i < 3; i++)
        thread_join(threads[i]);
    CHECK_EQ(retire_drain(p->local), 3);
}

static void
test_Q10_fork_while_the_queue_lock_is_held(void)
{
    place p = place_new();
    stepper *s = stepper_new();
    stepper_run(s, hold_queue_lock, p.queue);
    in_child(child_retires, &p);
    stepper_run(s, let_go_of_queue_lock, p.queue);
    CHECK_EQ(n_ran, 0);
    retire_one(&p);
    CHECK_EQ(retire_drain(p.local), 1);
    stepper_end(s);
    place_delete(&p);
}

/* Forks at any moment of threads and domains that come and go: also while they are in
 * the allocator, whose locks glibc's fork sees to and AddressSanitizer's (before LLVM 17)
 * does not. */
#if !HARNESS_ASAN
static _Atomic bool over;

static void *
churn(void *arg)
{
    (void)arg;
    qsbr_domain *d = qsbr_domain_new();
    thread_join(thread_start(register_in, d));
    qsbr_domain_release(d);
    CHECK(qsbr_register_process() != NULL);
    qsbr_enter(qsbr_self);
    qsbr_exit(qsbr_self);
    return NULL;
}

static void *
keep_churning(void *arg)
{
    while (!qc_load_relaxed(&over))
        thread_join(thread_start(churn, arg));
    return NULL;
}

static void
child_goes_on(void *arg)
{
    (void)arg;
    CHECK(qsbr_register_process() != NULL);
    check_alone(&qsbr_process, qsbr_self);
    qsbr_domain *d = qsbr_domain_new();
    check_alone(d, NULL);
    CHECK(qsbr_register(d) != NULL);
    check_alone(d, qsbr_find(d));
    qsbr_domain_release(d);
}

static void
test_Q5_fork_at_any_moment(void)
{
    pthread_t threads[2];
    qc_store_relaxed(&over, false);
    for (int i = 0; i < 2; i++)
        threads[i] = thread_start(keep_churning, NULL);
    for (uint64_t n = scaled(100); n > 0; n--)
        in_child(child_goes_on, NULL);
    qc_store_relaxed(&over, true);
    for (int i = 0; i < 2; i++)
        thread_join(threads[i]);
}
#endif

/* ---- what other threads had queued ---- */

static void
retire_ten(void *arg)
{
    place *p = arg;
    join_place(p);
    for (uint64_t i = 0; i < 9; i++)
        i < 4 ? block(p, i, RETIRE_MAX_BYTES) : ref(p, i);
    ref(p, 9);
}

static void
child_adopts(void *arg)
{
    place *p = arg;
    CHECK_HELD(p, 4 * RETIRE_MAX_BYTES, 10);
    CHECK_EQ(retire_drain(p->local), 10); /* each once, sections or not */
    bool seen[10] = {false};
    for (int i = 0; i < 10; i++) {
        CHECK(ran[i] < 10 && !seen[ran[i]]);
        seen[ran[i]] = true;
    }
    CHECK_HELD(p, 0, 0);
}

static void
test_T6_what_other_threads_queued_before_a_fork(void)
{
    place p = place_new(), other = p;
    stepper *s = stepper_new(), *r = reader_new(p.domain);
    reader_enter(r);
    stepper_run(s, retire_ten, &other);
    in_child(child_adopts, &p);
    CHECK_EQ(n_ran, 0);
    CHECK_EQ(retire_process(p.local), 0);
    reader_exit(r);
    CHECK_EQ(retire_collect(p.local), 10);
    stepper_end(s);
    stepper_end(r);
    place_delete(&p);
}

/* The fork came while a thread was between reserve and commit: who gets its record
 * gets what it had retired. */
static qsbr_record *cut_short;

static void
begin_to_retire(void *arg)
{
    place p = *(place *)arg;
    join_place(&p);
    ref(&p, 1);
    CHECK(retire_reserve(p.local, 3));
    retire_ref(p.local, run_item, 2);
    retire_ref(p.local, run_item, 3);
    cut_short = p.rec;
}

static void
finish_retiring(void *arg)
{
    place p = *(place *)arg;
    join_place(&p);
    retire_commit(p.local);
}

static void
join_and_retire(void *arg)
{
    place p = *(place *)arg;
    join_place(&p);
    ref(&p, 4);
}

static void
child_gets_the_record(void *arg)
{
    place *p = arg;
    stepper *s[33];
    unsigned n = 0;
    do {
        CHECK(n < 33);
        s[n] = reader_new(p->domain);
    } while (reader_record(s[n++]) != cut_short);
    stepper_run(s[n - 1], join_and_retire, p);
    CHECK_EQ(retire_drain(p->local), 4);
    CHECK_EQ(ran[0] + ran[1] + ran[2] + ran[3], 10);
    while (n > 0)
        stepper_end(s[--n]);
}

static void
test_Q10_fork_while_a_thread_retires(void)
{
    place p = place_new();
    stepper *s = stepper_new();
    stepper_run(s, begin_to_retire, &p);
    in_child(child_gets_the_record, &p);
    stepper_run(s, finish_retiring, &p);
    CHECK_EQ(retire_drain(p.local), 3);
    stepper_end(s);
    place_delete(&p);
}

int
main(void)
{
    harness_init(true);
    RUN(test_Q5_fork_leaves_one_record);
    RUN(test_Q5_fork_in_the_process_domain);
    RUN(test_Q5_fork_after_unregistering);
    RUN(test_Q10_fork_while_attached);
    RUN(test_Q5_domains_are_freed_in_the_child);
    RUN(test_Q5_fork_while_the_registry_lock_is_held);
    RUN(test_Q10_fork_while_the_queue_lock_is_held);
#if !HARNESS_ASAN
    RUN(test_Q5_fork_at_any_moment);
#endif
    RUN(test_T6_what_other_threads_queued_before_a_fork);
    RUN(test_Q10_fork_while_a_thread_retires);
    return 0;
}
