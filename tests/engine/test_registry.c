/* The registry under threads that come at the same moment: Q9 by parking them at the
 * lock, Q6 by reading what another thread clears, and Q5 with domains that end and
 * new ones in their place.
 *
 * modes: one
 */
#include "harness.h"

#include <sched.h>

static unsigned
registered(qsbr_domain *d)
{
    return qc_load_relaxed(&d->registered);
}

static qsbr_domain *
domain_new(void)
{
    qsbr_domain *d = qsbr_domain_new();
    CHECK(d != NULL);
    return d;
}

typedef struct {
    qsbr_domain *domain;
    qsbr_record *rec;
    bool attached;
} member;

static void
do_register(void *arg)
{
    member *m = arg;
    m->rec = qsbr_register(m->domain);
    CHECK(m->rec != NULL && m->rec->domain == m->domain);
}

/* ---- Q9: what was read before the lock is read again after it ---- */

#ifdef QC_DEBUG
/* A thread that is to be parked waits at its next lock until it is let go. */
static _Thread_local _Atomic uint32_t *parked_here;

enum { COMING, PARKED, LET_GO };

static void
park(const char *place)
{
    _Atomic uint32_t *gate = parked_here;
    if (gate == NULL || place[0] != 'l')
        return;
    parked_here = NULL;
    qc_store_release(gate, PARKED);
    while (qc_load_acquire(gate) != LET_GO)
        sched_yield();
}

typedef struct {
    member m;
    void (*what)(void *);
    _Atomic uint32_t gate;
} parked;

static void
do_parked(void *arg)
{
    parked *p = arg;
    parked_here = &p->gate;
    p->what(&p->m);
    CHECK(parked_here == NULL); /* it came by a lock */
}

/* what(&p->m) in the thread of s, as far as the lock. */
static void
start_parked(stepper *s, parked *p, void (*what)(void *))
{
    p->what = what;
    qc_store_release(&p->gate, COMING);
    qc_yield_hook = park;
    stepper_start(s, do_parked, p);
    while (qc_load_acquire(&p->gate) != PARKED)
        sched_yield();
}

static void
let_go(stepper *s, parked *p)
{
    qc_store_release(&p->gate, LET_GO);
    stepper_wait(s);
    qc_yield_hook = NULL;
}

/* A thread that has a table already, so that its next registration comes to the registry's
 * lock and to none before that. */
static stepper *
stepper_with_table(member *elsewhere)
{
    stepper *s = stepper_new();
    *elsewhere = (member){.domain = domain_new()};
    stepper_run(s, do_register, elsewhere);
    return s;
}

static unsigned
chunks(qsbr_domain *d)
{
    unsigned n = 0;
    for (struct qsbr_chunk *c = qc_load_acquire(&d->chunks); c != NULL; c = c->next)
        n++;
    return n;
}

/* Two threads at the lock of a registry with `before` records in use. */
static void
register_two_at_once(unsigned before, unsigned chunks_after)
{
    qsbr_domain *d = domain_new();
    stepper *others[2 * QSBR_CHUNK_RECORDS];
    for (unsigned i = 0; i < before; i++)
        others[i] = reader_new(d);
    member elsewhere[2];
    stepper *a = stepper_with_table(&elsewhere[0]), *b = stepper_with_table(&elsewhere[1]);
    parked pa = {.m = {.domain = d}}, pb = {.m = {.domain = d}};
    start_parked(a, &pa, do_register);
    start_parked(b, &pb, do_register);
    let_go(a, &pa);
    CHECK_EQ(registered(d), before + 1);
    let_go(b, &pb);

    CHECK(pa.m.rec != pb.m.rec);
    CHECK_EQ(registered(d), before + 2);
    CHECK_EQ(chunks(d), chunks_after);
    CHECK_EQ(qc_load_relaxed(&pa.m.rec->refs), 2);
    CHECK_EQ(qc_load_relaxed(&pb.m.rec->refs), 2);
    for (unsigned i = 0; i < before; i++)
        CHECK(reader_record(others[i]) != pa.m.rec && reader_record(others[i]) != pb.m.rec);
    stepper_end(a);
    stepper_end(b);
    for (unsigned i = 0; i < before; i++)
        stepper_end(others[i]);
    CHECK_EQ(registered(d), 0);
    CHECK_EQ(records_in_use(d), 0);
    qsbr_domain_release(d);
    for (int i = 0; i < 2; i++)
        qsbr_domain_release(elsewhere[i].domain);
}

static void
test_Q9_two_threads_at_the_lock_while_the_registry_grows(void)
{
    register_two_at_once(0, 1);                      /* the first chunk: grown once */
    register_two_at_once(QSBR_CHUNK_RECORDS, 2);     /* the next */
    register_two_at_once(QSBR_CHUNK_RECORDS - 1, 2); /* one free record: it is one thread's */
    register_two_at_once(5, 1);
}

static void
test_Q9_shut_down_while_a_thread_registers(void)
{
    parked p = {.m = {.domain = domain_new()}};
    member elsewhere;
    stepper *s = stepper_with_table(&elsewhere);
    start_parked(s, &p, do_register);
    qsbr_shut_down(p.m.domain, NULL);
    let_go(s, &p);
    CHECK_EQ(qsbr_state_of(p.m.rec), QSBR_SHUTTING_DOWN);
    stepper_end(s);
    qsbr_domain_release(p.m.domain);
    qsbr_domain_release(elsewhere.domain);
}

/* The registry and the thread let go of a record at once, in either order. */
static void
do_release(void *arg)
{
    qsbr_domain_release(((member *)arg)->domain);
}

static void
test_Q9_a_thread_ends_while_its_domain_does(void)
{
    /* The releasing thread is about to take the lock when one of the threads ends. */
    parked release = {.m = {.domain = domain_new()}};
    stepper *r = stepper_new(), *thread = reader_new(release.m.domain);
    stepper *stays = reader_new(release.m.domain);
    start_parked(r, &release, do_release);
    stepper_end(thread);
    CHECK_EQ(registered(release.m.domain), 1);
    CHECK_EQ(records_in_use(release.m.domain), 1);
    let_go(r, &release);
    stepper_end(stays); /* touches none of its memory, or AddressSanitizer reports it */
    stepper_end(r);
}

static void
do_find_it(void *arg)
{
    CHECK(qsbr_find(((member *)arg)->domain) == ((member *)arg)->rec);
}

/* A table that grows is about to take the lock when a domain in it ends. */
static void
test_Q9_a_table_grows_while_a_domain_ends(void)
{
    enum { DOMAINS = 7 }; /* one more than the smallest table has room for */
    member m[DOMAINS];
    parked last;
    stepper *s = stepper_new();
    for (int i = 0; i < DOMAINS; i++)
        m[i] = (member){.domain = domain_new()};
    for (int i = 0; i < DOMAINS - 1; i++)
        stepper_run(s, do_register, &m[i]);
    last = (parked){.m = m[DOMAINS - 1]};
    start_parked(s, &last, do_register);
    qsbr_domain_release(m[0].domain);
    let_go(s, &last);
    for (int i = 1; i < DOMAINS - 1; i++)
        stepper_run(s, do_find_it, &m[i]);
    qsbr_domain_release(m[1].domain);
    stepper_end(s);
    for (int i = 2; i < DOMAINS; i++) {
        CHECK_EQ(records_in_use(m[i].domain), 0);
        qsbr_domain_release(m[i].domain);
    }
}
#endif

/* A thread that is detached from everything ends: through its record's domain. */
static void
do_attach(void *arg)
{
    member *m = arg;
    m->attached = qsbr_attach(m->rec);
}

static void
do_detach(void *arg)
{
    qsbr_detach(((member *)arg)->rec);
}

static void
do_leave(void *arg)
{
    qsbr_unregister(((member *)arg)->rec);
    CHECK(qsbr_self == NULL && qsbr_find(((member *)arg)->domain) == NULL);
}

static void
test_Q9_a_thread_that_ends_in_any_state(void)
{
    enum { DETACHED, ATTACHED, ALONE, SHUT_DOWN, WAYS };
    for (int way = 0; way < WAYS; way++) {
        member m = {.domain = domain_new()};
        stepper *s = stepper_new();
        stepper_run(s, do_register, &m);
        stepper_run(s, do_attach, &m);
        CHECK(m.attached);
        if (way == SHUT_DOWN)
            qsbr_shut_down(m.domain, NULL);
        if (way != ATTACHED)
            stepper_run(s, do_detach, &m);
        if (way == ALONE)
            stepper_run(s, do_leave, &m);
        qsbr_record *rec = m.rec;
        stepper_end(s);
        CHECK_EQ(registered(m.domain), 0);
        CHECK_EQ(records_in_use(m.domain), 0);
        CHECK_EQ(qc_load_relaxed(&rec->seq), QSBR_OFFLINE);
        CHECK(qsbr_poll(m.domain, qsbr_advance(m.domain)));
        /* The next thread has it as new. */
        stepper *next = stepper_new();
        stepper_run(next, do_register, &m);
        CHECK(m.rec == rec);
        CHECK_EQ(qsbr_state_of(rec), way == SHUT_DOWN ? QSBR_SHUTTING_DOWN : QSBR_DETACHED);
        stepper_end(next);
        qsbr_domain_release(m.domain);
    }
}

/* ---- Q6: a record is cleared while its owner reads its state ---- */

typedef struct {
    qsbr_domain *domain;
    qsbr_record *rec;
    _Atomic uint32_t phase; /* how far the clearing thread has come */
    _Atomic uint32_t ready;
} cleared;

enum { AT_WORK, ENDING, ENDED };

/* Uses it, as long as it may; then only looks. */
static void
own(cleared *c)
{
    c->rec = qsbr_register(c->domain);
    CHECK(c->rec != NULL);
    qc_store_release(&c->ready, 1u);
    while (qc_load_relaxed(&c->phase) == AT_WORK) {
        if (qsbr_attach(c->rec)) {
            qsbr_enter(c->rec);
            qsbr_exit(c->rec);
            qsbr_quiescent_state(c->rec);
            qsbr_detach(c->rec);
        }
        qsbr_state state = qsbr_state_of(c->rec);
        CHECK(state == QSBR_DETACHED || state == QSBR_SHUTTING_DOWN);
    }
    qc_store_release(&c->ready, 2u);
    while (qc_load_relaxed(&c->phase) != ENDED) {
        CHECK(qsbr_find(c->domain) == c->rec);
        CHECK_EQ(qsbr_state_of(c->rec), QSBR_SHUTTING_DOWN);
        CHECK(!qsbr_attach(c->rec));
        CHECK(!qsbr_in_section(c->rec));
    }
    qc_store_release(&c->ready, 3u);
}

static void
clear(cleared *c)
{
    while (qc_load_acquire(&c->ready) == 0)
        sched_yield();
    for (uint64_t n = scaled(200); n > 0; n--) {
        qsbr_shut_down(c->domain, NULL);
        qsbr_poll(c->domain, qsbr_advance(c->domain));
        qsbr_start_again(c->domain);
    }
    qsbr_shut_down(c->domain, NULL);
    qc_store_release(&c->phase, ENDING);
    while (qc_load_acquire(&c->ready) != 2)
        sched_yield();
    for (uint64_t n = scaled(20); n > 0; n--)
        qsbr_shut_down(c->domain, NULL);
    qc_store_release(&c->phase, ENDED);
    while (qc_load_acquire(&c->ready) != 3)
        sched_yield();
    qsbr_domain_release(c->domain);
}

static void
own_or_clear(void *arg, unsigned i)
{
    if (i == 0)
        own(arg);
    else
        clear(arg);
}

static void
test_Q6_a_record_is_cleared_while_its_owner_reads_its_state(void)
{
    for (uint64_t n = scaled(100); n > 0; n--) {
        cleared c = {.domain = domain_new()};
        run_threads(2, own_or_clear, &c);
    }
}

/* ---- Q5: a new domain at the address of one that ended ---- */

static void
do_find(void *arg)
{
    member *m = arg;
    m->rec = qsbr_find(m->domain);
}

/* Threads end while their domains end. */
typedef struct {
    qsbr_domain *domains[4];
    _Atomic uint32_t ready;
} ending;

static void
end_at_once(void *arg, unsigned i)
{
    ending *e = arg;
    if (i > 0)
        for (int j = 0; j < 4; j++)
            CHECK(qsbr_register(e->domains[j]) != NULL);
    qc_add_acq_rel(&e->ready, 1u);
    while (qc_load_acquire(&e->ready) != 4)
        sched_yield();
    for (int j = 0; i == 0 && j < 4; j++)
        qsbr_domain_release(e->domains[j]);
}

static void
test_Q9_threads_end_while_their_domains_do(void)
{
    for (uint64_t n = scaled(300); n > 0; n--) {
        ending e = {0};
        for (int j = 0; j < 4; j++)
            e.domains[j] = domain_new();
        run_threads(4, end_at_once, &e);
    }
}

static void *
use_once(void *arg)
{
    qsbr_domain *d = arg;
    CHECK(qsbr_find(d) == NULL);
    qsbr_record *rec = qsbr_register(d);
    CHECK(rec != NULL && rec->domain == d && qsbr_find(d) == rec);
    qsbr_enter(rec);
    qsbr_exit(rec);
    return NULL;
}

static void
test_Q5_a_new_domain_at_the_old_address_is_new(void)
{
    enum { TRIES = 200 };
    qsbr_domain *old[TRIES];
    uint64_t id = 0;
    unsigned repeated = 0;
    stepper *elsewhere = reader_new(&qsbr_process); /* has cached others all along */
    for (int i = 0; i < TRIES; i++) {
        member m = {.domain = domain_new()};
        qsbr_domain *d = old[i] = m.domain;
        for (int j = 0; j < i; j++)
            repeated += old[j] == d;
        CHECK(d->id > id);
        id = d->id;
        CHECK_EQ(registered(d), 0);
        CHECK_EQ(qc_load_relaxed(&d->wr_seq), QSBR_START);
        stepper_run(elsewhere, do_find, &m);
        CHECK(m.rec == NULL && qsbr_find(d) == NULL);
        thread_join(thread_start(use_once, d));
        CHECK(qsbr_poll(d, qsbr_advance(d)));
        CHECK_EQ(records_in_use(d), 0);
        qsbr_domain_release(d);
    }
    /* The libc decides; a sanitizer keeps freed memory to itself for long. */
    printf("    (an old address %u times)\n", repeated);
    stepper_end(elsewhere);
}

int
main(void)
{
    harness_init(true);
#ifdef QC_DEBUG
    RUN(test_Q9_two_threads_at_the_lock_while_the_registry_grows);
    RUN(test_Q9_shut_down_while_a_thread_registers);
    RUN(test_Q9_a_thread_ends_while_its_domain_does);
    RUN(test_Q9_a_table_grows_while_a_domain_ends);
#endif
    RUN(test_Q9_a_thread_that_ends_in_any_state);
    RUN(test_Q6_a_record_is_cleared_while_its_owner_reads_its_state);
    RUN(test_Q9_threads_end_while_their_domains_do);
    RUN(test_Q5_a_new_domain_at_the_old_address_is_new);
    return 0;
}
