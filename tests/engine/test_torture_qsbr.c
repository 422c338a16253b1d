/* Torture for Q1: readers and writers on shared pointers, in both barrier modes.
 *
 * An item has an age: 0 linked, 1 unlinked, 2 its goal is reached.  Then it would be
 * freed, so a reader that sees an age of 2 or more, at any time in its section, has
 * found a grace period that was too short, whether memory was reused or not.  Every
 * second item goes on living for two more grace periods, to be caught at it; the others
 * are poisoned (with plain stores, which ThreadSanitizer compares with the readers'
 * plain loads) and freed at once, for AddressSanitizer.
 *
 * Near misses: how long after its unlinking an item was reused at the earliest, and was
 * still seen at the latest; how many polls said no because of one section alone.
 */
#include "harness.h"

#include <string.h>

#define MAGIC UINT64_C(0x6974656d6974656d)
#define AGES 5
#define PAYLOAD 14

typedef struct item item;
struct item {
    uint64_t magic;
    _Atomic uint32_t age;
    uint64_t payload[PAYLOAD];
    _Atomic uint64_t unlinked; /* when */
    item *next;                /* (its writer) */
    uint64_t goal;             /* (its writer) */
};

enum { SLOTS = 4, NOISE = 12 };

typedef struct {
    _Alignas(QC_LINE_PAIR) _Atomic(item *) item;
} slot;

typedef struct {
    _Alignas(QC_LINE_PAIR) _Atomic uint64_t word;
} line;

typedef struct {
    qsbr_domain *domain;
    slot slots[SLOTS];
    unsigned slots_used, writers;
    bool turnover;
    line noise[NOISE];
    _Atomic uint64_t seen[AGES], sections, made, freed, polls, blocked, blocked_by_one;
    spans reused, stale;
} torture;

/* Stores that have to wait for a line which another CPU has: what comes after them, an
 * enter for one, stays in the store buffer for so long. */
static void
make_noise(torture *t, unsigned lines)
{
    for (unsigned i = 0; i < lines; i++)
        qc_store_relaxed(&t->noise[i].word, 1u);
}

static item *
item_new(torture *t, uint64_t n)
{
    item *x = malloc(sizeof *x);
    CHECK(x != NULL);
    x->magic = MAGIC;
    qc_store_relaxed(&x->age, 0u);
    for (int i = 0; i < PAYLOAD; i++)
        x->payload[i] = n + (uint64_t)i;
    qc_add_relaxed(&t->made, 1u);
    return x;
}

static void
item_free(torture *t, item *x)
{
    volatile uint64_t *p = (volatile uint64_t *)x->payload;
    for (int i = 0; i < PAYLOAD; i++)
        p[i] = UINT64_C(0xDBDBDBDBDBDBDBDB);
    *(volatile uint64_t *)&x->magic = 0;
    free(x);
    qc_add_relaxed(&t->freed, 1u);
}

/* ---- readers ---- */

static void
check_item(const item *x)
{
    CHECK_EQ(x->magic, MAGIC);
    for (uint64_t i = 0; i < PAYLOAD; i++)
        CHECK_EQ(x->payload[i], x->payload[0] + i);
}

static void
one_section(torture *t, qsbr_record *rec, uint64_t *random, span *stale)
{
    uint64_t dice = chance(random);
    make_noise(t, (unsigned)(dice & 15) < NOISE ? (unsigned)(dice & 15) : 0);
    slot *s = &t->slots[(dice >> 8) % t->slots_used];
    qsbr_enter(rec);
    if ((dice >> 16) % 8 == 0)
        qsbr_enter(rec);
    item *x = qc_load_acquire(&s->item);
    unsigned looks = (dice >> 24) % 64 == 0 ? 200 : 1 + (unsigned)((dice >> 32) % 4);
    uint32_t age = 0;
    for (unsigned i = 0; i < looks; i++) {
        check_item(x);
        age = qc_load_acquire(&x->age);
        CHECK(age < 2);
    }
    if (age == 1)
        span_add(stale, now_ns() - qc_load_relaxed(&x->unlinked));
    if (qsbr_in_section(rec) && (dice >> 16) % 8 == 0)
        qsbr_exit(rec);
    qsbr_exit(rec);
    qc_add_relaxed(&t->seen[age], 1u);
}

static void *
read_for_a_while(void *arg)
{
    torture *t = arg;
    qsbr_record *rec = qsbr_register(t->domain);
    CHECK(rec != NULL);
    uint64_t random = a_seed(), n = 0;
    span stale = {0};
    uint64_t max = t->turnover ? chance(&random) % 2000 : UINT64_MAX;
    for (; n < max && !time_is_over(); n++)
        one_section(t, rec, &random, &stale);
    qc_add_relaxed(&t->sections, n);
    span_put_together(&t->stale, &stale);
    if (t->turnover && n % 2 == 0)
        qsbr_unregister(rec);
    return NULL;
}

static void
readers(torture *t)
{
    if (!t->turnover)
        read_for_a_while(t);
    while (!time_is_over())
        thread_join(thread_start(read_for_a_while, t));
}

/* ---- writers ---- */

typedef struct {
    torture *t;
    item *first, **last; /* unlinked, oldest first */
    unsigned pending;
    span reused;
} writer;

static void
wait_in_line(writer *w, item *x, uint64_t goal)
{
    x->goal = goal;
    x->next = NULL;
    *w->last = x;
    w->last = &x->next;
    w->pending++;
}

/* What has reached its goal grows older, or dies. */
static void
let_age(writer *w)
{
    while (w->first != NULL && qsbr_goal_reached(w->t->domain, w->first->goal)) {
        item *x = w->first;
        w->first = x->next;
        if (w->first == NULL)
            w->last = &w->first;
        w->pending--;
        uint32_t age = qc_load_relaxed(&x->age) + 1;
        bool dies = age == AGES - 1 || (age == 2 && x->payload[0] % 2 == 0);
        qc_store_relaxed(&x->age, age);
        if (age == 2)
            span_add(&w->reused, now_ns() - qc_load_relaxed(&x->unlinked));
        if (dies)
            item_free(w->t, x);
        else
            wait_in_line(w, x, qsbr_advance(w->t->domain));
    }
}

static void
poll_once(torture *t, uint64_t goal)
{
    qc_add_relaxed(&t->polls, 1u);
    if (qsbr_poll(t->domain, goal))
        return;
    qc_add_relaxed(&t->blocked, 1u);
    qc_add_relaxed(&t->blocked_by_one, sections_before(t->domain, goal) == 1 ? 1u : 0u);
}

static void
write_all_the_time(torture *t, unsigned i)
{
    writer w = {.t = t};
    w.last = &w.first;
    uint64_t random = a_seed(), n = 0;
    bool registered = i % 2 == 0 && qsbr_register(t->domain) != NULL;
    while (!time_is_over()) {
        uint64_t dice = chance(&random);
        item *x = item_new(t, n++);
        slot *s = &t->slots[dice % t->slots_used];
        make_noise(t, NOISE);
        x = qc_exchange_acq_rel(&s->item, x);
        /* Before the age, by whose release a reader that sees the one sees the other. */
        qc_store_relaxed(&x->unlinked, now_ns());
        uint64_t goal = qsbr_advance(t->domain);
        qc_store_release(&x->age, 1u);
        wait_in_line(&w, x, goal);
        if (w.pending > 1000)
            CHECK(qsbr_wait(t->domain, goal));
        else if ((dice >> 20) % 4 != 0)
            poll_once(t, goal);
        let_age(&w);
        for (volatile unsigned spin = (dice >> 32) % 256; spin > 0; spin--)
            ;
    }
    while (w.first != NULL) {
        CHECK(qsbr_wait(t->domain, w.first->goal));
        let_age(&w);
    }
    span_put_together(&t->reused, &w.reused);
    if (registered)
        qsbr_unregister(qsbr_find(t->domain));
}

static void
body(void *arg, unsigned i)
{
    torture *t = arg;
    if (i < t->writers)
        write_all_the_time(t, i);
    else
        readers(t);
}

static void
torture_with(unsigned ms, unsigned writers, unsigned readers, unsigned slots, bool turnover)
{
    static torture t;
    memset((void *)&t, 0, sizeof t);
    t.domain = qsbr_domain_new();
    t.slots_used = slots;
    t.writers = writers;
    t.turnover = turnover;
    for (unsigned i = 0; i < slots; i++)
        qc_store_relaxed(&t.slots[i].item, item_new(&t, i));
    run_threads_for(ms, writers + readers, body, &t);
    for (unsigned i = 0; i < slots; i++)
        item_free(&t, qc_load_relaxed(&t.slots[i].item));
    CHECK_EQ(qc_load_relaxed(&t.made), qc_load_relaxed(&t.freed));
    CHECK_EQ(qc_load_relaxed(&t.domain->registered), 0);
    report("sum", "sections", qc_load_relaxed(&t.sections));
    report("sum", "sections that saw what was unlinked", qc_load_relaxed(&t.seen[1]));
    report("sum", "items", qc_load_relaxed(&t.made));
    report("sum", "polls", qc_load_relaxed(&t.polls));
    report("sum", "polls blocked", qc_load_relaxed(&t.blocked));
    report("sum", "polls blocked by one reader", qc_load_relaxed(&t.blocked_by_one));
    span_report(&t.stale, "age of what readers saw");
    span_report(&t.reused, "age at reuse");
    qsbr_domain_release(t.domain);
}

/* One reader and one writer, each on a CPU of its own: stores that are late. */
static void
test_Q1_torture_two_threads(void)
{
    torture_with(600, 1, 1, 1, false);
}

static void
test_Q1_torture_many_threads(void)
{
    torture_with(300, 2, 3, SLOTS, false);
}

static void
test_Q1_Q5_torture_with_thread_turnover(void)
{
    torture_with(400, 2, 3, SLOTS, true);
}

int
main(void)
{
    harness_init(true);
    RUN(test_Q1_torture_two_threads);
    RUN(test_Q1_torture_many_threads);
    RUN(test_Q1_Q5_torture_with_thread_turnover);
    return 0;
}
