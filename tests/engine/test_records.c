/* Q4 and Q5: how records come and go with threads and domains, step by step.
 *
 * modes: one
 */
#include "harness.h"

#include <string.h>

/* A sanitizer has an allocator of its own. */
#if defined(__GLIBC_PREREQ) && !HARNESS_SANITIZED
#if __GLIBC_PREREQ(2, 33)
#include <malloc.h>
#define COUNTS_BYTES
#endif
#endif

#include <string.h>

static unsigned
registered(qsbr_domain *d)
{
    return qc_load_relaxed(&d->registered);
}

static unsigned
refs(qsbr_record *rec)
{
    return qc_load_relaxed(&rec->refs);
}

/* ---- Q4 ---- */

static void *
one_section(void *arg)
{
    qsbr_domain *d = arg;
    CHECK(qsbr_find(d) == NULL);
    qsbr_record *rec = qsbr_register(d);
    CHECK(rec != NULL && qsbr_find(d) == rec && qsbr_register(d) == rec);
    CHECK_EQ(refs(rec), 2); /* Q5: the registry's and the thread's */
    qsbr_enter(rec);
    qsbr_exit(rec);
    return NULL;
}

static void *
ends_in_a_section(void *arg)
{
    qsbr_record *rec = qsbr_register(arg);
    qsbr_enter(rec);
    qsbr_enter(rec);
    pthread_exit(NULL);
}

static void
test_Q4_the_end_of_a_thread_unregisters(void)
{
    qsbr_domain *d = qsbr_domain_new();
    for (int i = 0; i < 3; i++) {
        thread_join(thread_start(one_section, d));
        CHECK_EQ(registered(d), 0);
    }
    /* Also where it ends inside a section: nothing is held back for ever. */
    thread_join(thread_start(ends_in_a_section, d));
    CHECK_EQ(registered(d), 0);
    CHECK(qsbr_poll(d, qsbr_advance(d)));
    qsbr_domain_release(d);
}

/* The next thread gets the record as new: offline, not nested, not asked. */
static void
test_Q4_a_reused_record_is_as_new(void)
{
    qsbr_domain *d = qsbr_domain_new();
    thread_join(thread_start(ends_in_a_section, d));
    stepper *r = reader_new(d);
    qsbr_record *rec = reader_record(r);
    CHECK_EQ(qc_load_relaxed(&rec->seq), QSBR_OFFLINE);
    CHECK(!qsbr_is_asked(rec));
    CHECK_EQ(rec->nesting, 0);
    CHECK_EQ(rec->look_in, QSBR_LOOK_EVERY);
    CHECK_EQ(refs(rec), 2);
    stepper_end(r);
    qsbr_domain_release(d);
}

/* A destructor of another key runs after ours and registers once more: that record
 * is given back too. */
static pthread_key_t late_key;

static void
register_late(void *domain)
{
    CHECK(qsbr_register(domain) != NULL);
}

static void *
registers_at_its_end(void *arg)
{
    CHECK(pthread_setspecific(late_key, arg) == 0);
    return one_section(arg);
}

static void
test_Q4_registering_at_a_thread_s_end(void)
{
    qsbr_domain *d = qsbr_domain_new();
    CHECK(pthread_key_create(&late_key, register_late) == 0);
    for (int i = 0; i < 10; i++) {
        thread_join(thread_start(registers_at_its_end, d));
        CHECK_EQ(registered(d), 0);
    }
    CHECK(pthread_key_delete(late_key) == 0);
    qsbr_domain_release(d);
}

static void *
process_record(void *arg)
{
    (void)arg;
    CHECK(qsbr_self == NULL && qsbr_find(&qsbr_process) == NULL);
    qsbr_record *rec = qsbr_register_process();
    CHECK(rec != NULL && qsbr_self == rec && qsbr_register_process() == rec);
    CHECK(qsbr_find(&qsbr_process) == rec);
    /* By either name it is the same record, counted once. */
    CHECK(qsbr_register(&qsbr_process) == rec);
    CHECK_EQ(refs(rec), 2);
    qsbr_unregister(rec);
    CHECK(qsbr_self == NULL && qsbr_find(&qsbr_process) == NULL);
    CHECK(qsbr_register(&qsbr_process) == rec);
    CHECK(qsbr_register(&qsbr_process) == rec);
    CHECK(qsbr_register_process() == rec && qsbr_self == rec);
    CHECK_EQ(refs(rec), 2);
    return NULL;
}

static void
test_Q4_the_process_domain_s_record(void)
{
    unsigned before = registered(&qsbr_process);
    thread_join(thread_start(process_record, NULL));
    CHECK_EQ(registered(&qsbr_process), before);
}

/* ---- Q5 ---- */

static void
do_unregister(void *arg)
{
    qsbr_unregister(arg);
}

typedef struct {
    qsbr_domain *domain;
    qsbr_record *rec;
} found;

static void
do_find(void *arg)
{
    found *f = arg;
    f->rec = qsbr_find(f->domain);
}

static void
do_register_again(void *arg)
{
    found *f = arg;
    f->rec = qsbr_register(f->domain);
}

/* First the registry lets go, then the thread. */
static void
test_Q5_unregistered_while_the_thread_runs(void)
{
    qsbr_domain *d = qsbr_domain_new();
    stepper *r = reader_new(d), *other = reader_new(d);
    qsbr_record *rec = reader_record(r);
    found f = {.domain = d};

    stepper_run(r, do_unregister, rec);
    CHECK_EQ(refs(rec), 1);
    CHECK_EQ(registered(d), 1);
    stepper_run(r, do_find, &f);
    CHECK(f.rec == NULL);
    stepper_run(r, do_unregister, rec); /* again: nothing */
    CHECK_EQ(refs(rec), 1);

    /* The record stays the thread's: nobody else gets it, */
    stepper *third = reader_new(d);
    CHECK(reader_record(third) != rec);
    /* and the thread gets it back. */
    stepper_run(r, do_register_again, &f);
    CHECK(f.rec == rec);
    CHECK_EQ(refs(rec), 2);
    CHECK_EQ(registered(d), 3);
    reader_enter(r);
    uint64_t goal = qsbr_advance(d);
    CHECK(!qsbr_poll(d, goal));
    reader_exit(r);
    CHECK(qsbr_poll(d, goal));

    stepper_run(r, do_unregister, rec);
    stepper_end(r);
    CHECK_EQ(refs(rec), 0);
    stepper *fourth = reader_new(d);
    CHECK(reader_record(fourth) == rec); /* given back by the thread's end */
    stepper_end(other);
    stepper_end(third);
    stepper_end(fourth);
    CHECK_EQ(registered(d), 0);
    qsbr_domain_release(d);
}

/* Thousands of threads, a few at a time, share the records of one chunk. */
typedef struct {
    qsbr_domain *domain;
    qsbr_record *seen[64];
    _Atomic unsigned n;
    qc_lock lock;
} census;

static void *
be_counted(void *arg)
{
    census *c = arg;
    qsbr_record *rec = qsbr_register(c->domain);
    qsbr_enter(rec);
    qsbr_exit(rec);
    qc_lock_acquire(&c->lock);
    unsigned n = qc_load_relaxed(&c->n), i = 0;
    while (i < n && c->seen[i] != rec)
        i++;
    CHECK(i < 64);
    c->seen[i] = rec;
    if (i == n)
        qc_store_relaxed(&c->n, n + 1);
    qc_lock_release(&c->lock);
    return NULL;
}

static void
test_Q5_records_are_reused(void)
{
    census c = {.domain = qsbr_domain_new()};
    qc_lock_init(&c.lock);
    for (uint64_t n = scaled(1000); n > 0; n--) {
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
            threads[i] = thread_start(be_counted, &c);
        for (int i = 0; i < 4; i++)
            thread_join(threads[i]);
    }
    CHECK(qc_load_relaxed(&c.n) <= 4);
    CHECK_EQ(registered(c.domain), 0);
    CHECK_EQ(records_in_use(c.domain), 0);
    qsbr_domain_release(c.domain);
}

/* Registering and ending at the same time from many threads, while others poll. */
static void
come_and_go(void *arg, unsigned i)
{
    qsbr_domain *d = arg;
    for (uint64_t n = scaled(20000); n > 0; n--) {
        if (i % 2 == 0) {
            qsbr_record *rec = qsbr_register(d);
            qsbr_enter(rec);
            qsbr_exit(rec);
            qsbr_unregister(rec);
        }
        else {
            qsbr_poll(d, qsbr_advance(d));
        }
    }
}

static void
test_Q5_registering_and_polling_at_once(void)
{
    qsbr_domain *d = qsbr_domain_new();
    run_threads(4, come_and_go, d);
    CHECK_EQ(registered(d), 0);
    CHECK_EQ(records_in_use(d), 0);
    CHECK(qsbr_poll(d, qsbr_advance(d)));
    qsbr_domain_release(d);
}

/* ---- domains ---- */

/* A domain that is released while threads have records ends immediately.  The threads are not
 * disturbed, and find no record of it in a new domain at its address. */
static void
test_Q5_domain_released_before_its_threads_end(void)
{
    qsbr_domain *d = qsbr_domain_new();
    uint64_t id = d->id;
    stepper *a = reader_new(d), *b = reader_new(d);
    qsbr_domain_release(d);
    stepper_end(a);

    qsbr_domain *new = qsbr_domain_new();
    CHECK(new->id != id);
    found f = {.domain = new};
    stepper_run(b, do_find, &f);
    CHECK(f.rec == NULL);
    stepper_run(b, do_register_again, &f);
    CHECK(f.rec != NULL && f.rec->domain == new);
    stepper_end(b);
    CHECK_EQ(registered(new), 0);
    CHECK_EQ(records_in_use(new), 0);
    qsbr_domain_release(new);
}

/* ---- many domains ---- */

#ifdef QC_DEBUG
static _Atomic uint64_t looks;

static void
count_looks(const char *place)
{
    if (strcmp(place, "slot") == 0)
        qc_add_relaxed(&looks, 1u);
}
#endif

/* How many slots `body` looks at, and by how many bytes it changes what malloc has in use. */
typedef struct {
    uint64_t looks, bytes;
} cost;

static cost
cost_of(void (*body)(void *), void *arg)
{
    cost c = {0};
#ifdef QC_DEBUG
    qc_store_relaxed(&looks, 0u);
    qc_yield_hook = count_looks;
#endif
#ifdef COUNTS_BYTES
    struct mallinfo2 before = mallinfo2();
#endif
    body(arg);
#ifdef COUNTS_BYTES
    struct mallinfo2 after = mallinfo2();
    uint64_t had = before.uordblks + before.hblkhd, has = after.uordblks + after.hblkhd;
    c.bytes = has > had ? has - had : 0;
#endif
#ifdef QC_DEBUG
    qc_yield_hook = NULL;
    c.looks = qc_load_relaxed(&looks);
#endif
    return c;
}

enum { MANY = 10000 };

/* A thread that lives on, and another that uses the same domains, or NULL. */
static void
come_and_go_in(void *other)
{
    for (int i = 0; i < MANY; i++) {
        found f = {.domain = qsbr_domain_new()};
        qsbr_record *rec = qsbr_register(f.domain);
        CHECK(rec != NULL && qsbr_find(f.domain) == rec);
        if (other != NULL)
            stepper_run(other, do_register_again, &f);
        qsbr_enter(rec);
        qsbr_exit(rec);
        CHECK(qsbr_poll(f.domain, qsbr_advance(f.domain)));
        qsbr_domain_release(f.domain);
    }
}

static void
test_Q5_domains_that_come_and_go_cost_nothing_for_good(void)
{
    stepper *other = stepper_new();
    for (int threads = 1; threads <= 2; threads++) {
        cost c = cost_of(come_and_go_in, threads == 1 ? NULL : other);
        CHECK(c.bytes <= 4096); /* the threads' tables, and what malloc keeps for itself */
        CHECK(c.looks <= (uint64_t)8 * (unsigned)threads * MANY);
    }
    stepper_end(other);
}

typedef struct {
    qsbr_domain *domains[MANY];
    qsbr_record *records[MANY];
} many;

static void
find_all(void *arg)
{
    many *m = arg;
    for (int i = 0; i < MANY; i++)
        CHECK(qsbr_find(m->domains[i]) == m->records[i]);
}

static void
register_in_all(void *arg)
{
    many *m = arg;
    for (int i = 0; i < MANY; i++) {
        m->domains[i] = qsbr_domain_new();
        m->records[i] = qsbr_register(m->domains[i]);
        CHECK(m->records[i] != NULL);
    }
}

static void
release_all(void *arg)
{
    many *m = arg;
    for (int i = 0; i < MANY; i++)
        qsbr_domain_release(m->domains[i == 0 ? 0 : MANY - i]); /* the oldest, then the youngest */
}

/* All domains at the same time; afterwards the table is not kept at its largest size. */
static void
register_find_release(void *arg)
{
    register_in_all(arg);
    find_all(arg);
    release_all(arg);
}

static void
test_Q5_a_record_is_found_in_constant_time(void)
{
    many *m = malloc(sizeof *m);
    CHECK(m != NULL);
    cost c = cost_of(register_in_all, m);
    CHECK(c.looks <= 8 * MANY);
    c = cost_of(find_all, m);
    CHECK(c.looks <= 4 * MANY);
    release_all(m);
    come_and_go_in(NULL); /* the table shrinks */
    c = cost_of(register_find_release, m);
    CHECK(c.bytes <= 8 * sizeof(void *) * MANY);
    free(m);
}

/* Domains come and go; their ids do not come back, their addresses may. */
static void
test_Q5_ids_are_never_reused(void)
{
    uint64_t last = qsbr_process.id;
    for (int i = 0; i < 1000; i++) {
        qsbr_domain *d = qsbr_domain_new();
        CHECK(d->id > last);
        last = d->id;
        if (i % 3 == 0)
            thread_join(thread_start(one_section, d));
        qsbr_domain_release(d);
    }
}

/* A thread in several domains: sections of one hold back nobody in another. */
static void
test_Q5_domains_are_independent(void)
{
    enum { DOMAINS = 5 };
    qsbr_domain *d[DOMAINS];
    stepper *r[DOMAINS];
    for (int i = 0; i < DOMAINS; i++) {
        d[i] = qsbr_domain_new();
        r[i] = reader_new(d[i]);
        found f = {.domain = d[0]};
        stepper_run(r[i], do_register_again, &f);
        CHECK(f.rec != NULL && f.rec->domain == d[0]);
    }
    CHECK_EQ(registered(d[0]), DOMAINS);
    reader_enter(r[2]);
    for (int i = 0; i < DOMAINS; i++)
        CHECK_EQ(qsbr_poll(d[i], qsbr_advance(d[i])), i != 2);
    reader_exit(r[2]);
    for (int i = DOMAINS - 1; i >= 0; i--)
        stepper_end(r[i]);
    for (int i = 0; i < DOMAINS; i++) {
        CHECK_EQ(registered(d[i]), 0);
        CHECK_EQ(records_in_use(d[i]), 0);
        qsbr_domain_release(d[i]);
    }
}

/* ---- no memory ---- */

#ifdef HARNESS_MALLOC
static void *
register_without_memory(void *arg)
{
    qsbr_domain *d = arg;
    /* No record is made that would not be given back when the thread ends (Q4). */
    harness_fail_setspecific();
    CHECK(qsbr_register(d) == NULL);
    CHECK(qsbr_find(d) == NULL);
    for (uint64_t n = 1; n <= 2; n++) { /* the table, the chunk */
        harness_fail_malloc(n);
        CHECK(qsbr_register(d) == NULL);
        CHECK(qsbr_find(d) == NULL);
    }
    CHECK_EQ(registered(d), 0);
    CHECK_EQ(records_in_use(d), 0);
    return one_section(d); /* and now there is some */
}

static void
test_no_memory_for_a_record(void)
{
    harness_fail_malloc(1);
    CHECK(qsbr_domain_new() == NULL);
    qsbr_domain *d = qsbr_domain_new();
    thread_join(thread_start(register_without_memory, d));
    CHECK_EQ(registered(d), 0);
    qsbr_domain_release(d);
}
#endif

int
main(void)
{
    harness_init(true);
    RUN(test_Q4_the_end_of_a_thread_unregisters);
    RUN(test_Q4_a_reused_record_is_as_new);
    RUN(test_Q4_registering_at_a_thread_s_end);
    RUN(test_Q4_the_process_domain_s_record);
    RUN(test_Q5_unregistered_while_the_thread_runs);
    RUN(test_Q5_records_are_reused);
    RUN(test_Q5_registering_and_polling_at_once);
    RUN(test_Q5_domain_released_before_its_threads_end);
    RUN(test_Q5_domains_that_come_and_go_cost_nothing_for_good);
    RUN(test_Q5_a_record_is_found_in_constant_time);
    RUN(test_Q5_ids_are_never_reused);
    RUN(test_Q5_domains_are_independent);
#ifdef HARNESS_MALLOC
    RUN(test_no_memory_for_a_record);
#endif
    return 0;
}
