/* Q1 under simulated store buffers: the engine's and the queue's own sources, on
 * atomics that are simulated, in many random schedules.
 *
 * links: alone
 * flavours: debug
 *
 * What a stress test cannot make happen on demand is a store that stays in its
 * processor's buffer while other processors run.  Here every thread is a coroutine with
 * a store buffer of its own (as x86: first in, first out; a thread sees its own stores;
 * read-modify-writes and fences empty it), every atomic access is a point where the
 * schedule may change and buffers may drain, and membarrier drains one thread's buffer
 * after the other.  An object is "freed" by setting a flag, and whoever holds it in a
 * section looks at the flag.
 *
 * What x86 gives for free is checked by clocks, as a race detector does: an acquire load
 * takes over the clock that a release store left, a relaxed store leaves none (as C++20
 * has it: C11, and with it ThreadSanitizer, still lets a thread's own relaxed store go on
 * with the release sequence of an earlier one, which AArch64 does not).  All reads of an
 * object must have happened before it is freed.
 *
 * Loads are not reordered here: what depends on that is for a C11 model checker.
 */
#define _GNU_SOURCE
#if !defined(__linux__)
#include <stdio.h>
int
main(void)
{
    puts("ucontext is deprecated here: the model runs on Linux only");
    return 77;
}
#else
#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

/* ---- the atomics, in the place of base/qc_atomic.h ---- */

#define QC_ATOMIC_H

/* What an access takes over (acquire) and leaves (release). */
typedef enum { RELAXED = 0, ACQUIRE = 1, RELEASE = 2, ACQ_REL = 3 } order;

static uint64_t model_load(const void *p, size_t size, order how);
static void model_store(void *p, size_t size, uint64_t value, order how);
static uint64_t model_exchange(void *p, size_t size, uint64_t value, order how);
static uint64_t model_add(void *p, size_t size, uint64_t value, order how);
static bool model_cas(void *p, size_t size, void *expected, uint64_t value, order how);
static void model_fence(void);

#define MODEL_TYPE(p) __typeof__(((void)0, *(p)))
#define MODEL_WORD(v) ((uint64_t)(uintptr_t)(v))
/* (A statement expression, so that nobody has to use the value.) */
#define MODEL_BACK(p, w)                                                                           \
    ({                                                                                             \
        MODEL_TYPE(p) model_value = (MODEL_TYPE(p))(uintptr_t)(w);                                 \
        model_value;                                                                               \
    })
#define MODEL_LOAD(p, how) MODEL_BACK(p, model_load((const void *)(p), sizeof *(p), how))
#define MODEL_STORE(p, v, how) model_store((void *)(p), sizeof *(p), MODEL_WORD(v), how)
#define MODEL_EXCHANGE(p, v, how)                                                                  \
    MODEL_BACK(p, model_exchange((void *)(p), sizeof *(p), MODEL_WORD(v), how))
#define MODEL_ADD(p, v, how) MODEL_BACK(p, model_add((void *)(p), sizeof *(p), v, how))
#define MODEL_CAS(p, expected, v, how)                                                             \
    model_cas((void *)(p), sizeof *(p), (void *)(expected), MODEL_WORD(v), how)

#define qc_load_relaxed(p) MODEL_LOAD(p, RELAXED)
#define qc_load_acquire(p) MODEL_LOAD(p, ACQUIRE)
#define qc_store_relaxed(p, v) MODEL_STORE(p, v, RELAXED)
#define qc_store_release(p, v) MODEL_STORE(p, v, RELEASE)
#define qc_exchange_acquire(p, v) MODEL_EXCHANGE(p, v, ACQUIRE)
#define qc_exchange_acq_rel(p, v) MODEL_EXCHANGE(p, v, ACQ_REL)
#define qc_add_relaxed(p, v) MODEL_ADD(p, MODEL_WORD(v), RELAXED)
#define qc_add_acq_rel(p, v) MODEL_ADD(p, MODEL_WORD(v), ACQ_REL)
#define qc_add_seq_cst(p, v) MODEL_ADD(p, MODEL_WORD(v), ACQ_REL)
#define qc_sub_relaxed(p, v) MODEL_ADD(p, 0 - MODEL_WORD(v), RELAXED)
#define qc_sub_acq_rel(p, v) MODEL_ADD(p, 0 - MODEL_WORD(v), ACQ_REL)
#define qc_cas_relaxed(p, expected, v) MODEL_CAS(p, expected, v, RELAXED)
#define qc_cas_acq_rel(p, expected, v) MODEL_CAS(p, expected, v, ACQ_REL)
#define qc_fence_seq_cst() model_fence()
#define qc_fence_release() atomic_signal_fence(memory_order_release) /* stores stay in order */
#define qc_fence_compiler() atomic_signal_fence(memory_order_seq_cst)

/* ---- the sources ---- */

#include "base/qc_debug.c"
#include "qsbr/qsbr.c"
#include "qsbr/records.c"
#include "qsbr/retire.c"
#include "qsbr/retire_locals.c"
#include "qsbr/retire_look.c"
#include "qsbr/retire_run.c"
#include "qsbr/slots.c"

barrier_mode barrier_chosen;

#define CHECK(cond)                                                                                \
    ((cond) ? (void)0                                                                              \
            : (fprintf(stderr, "%s:%d: %s, schedule %llu: CHECK failed: %s\n", __FILE__, __LINE__, \
                       scenario_name, (unsigned long long)schedule, #cond),                        \
               exit(1)))

static const char *scenario_name = "";
static uint64_t schedule; /* the number that chance began with */

/* ---- coroutines with store buffers ---- */

enum { THREADS = 4, BUFFERED = 8, STACK = 128 * 1024 };

/* Of each thread, the number of its release that this knows of. */
typedef struct {
    uint32_t of[THREADS];
} vector;

typedef struct {
    void *p;
    size_t size;
    uint64_t value;
    vector left;
} buffered_store;

typedef struct {
    ucontext_t context;
    jmp_buf where; /* if it has begun */
    void (*body)(void);
    bool begun, over;
    vector now;
    buffered_store stores[BUFFERED];
    unsigned n;
    slot_table *table; /* its thread-local variables, */
    qsbr_record *self;
    qsbr_record *records; /* and what they hold, if it began registered */
} coroutine;

static coroutine threads[THREADS];
static unsigned n_threads, running;
static ucontext_t outside;
static bool simulated; /* false: setting up and cleaning up, plain memory */
static uint64_t random_state;
static unsigned switches, drains; /* of 256: how often one happens */

static unsigned
chance(unsigned n)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (unsigned)((random_state * UINT64_C(0x2545F4914F6CDD1D)) >> 33) % n;
}

static uint64_t
memory_load(const void *p, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, p, size); /* little-endian */
    return value;
}

/* The clock that the last store to an address left, or none. */
enum { LOCATIONS = 1024 };

static struct {
    const void *p;
    uint64_t when; /* the schedule: all are new in the next one */
    vector left;
} locations[LOCATIONS];

static vector *
left_at(const void *p)
{
    unsigned i = (unsigned)(((uintptr_t)p >> 2) * UINT64_C(0x9E3779B97F4A7C15) >> 54);
    while (locations[i].when == schedule && locations[i].p != p)
        i = (i + 1) % LOCATIONS;
    if (locations[i].when != schedule) {
        memset(&locations[i], 0, sizeof locations[i]);
        locations[i].when = schedule;
        locations[i].p = p;
    }
    return &locations[i].left;
}

static void
join(vector *a, const vector *b)
{
    for (int i = 0; i < THREADS; i++)
        if (a->of[i] < b->of[i])
            a->of[i] = b->of[i];
}

static void
memory_store(void *p, size_t size, uint64_t value, const vector *left)
{
    memcpy(p, &value, size);
    if (left != NULL)
        *left_at(p) = *left;
}

static void
drain_one(coroutine *t)
{
    buffered_store *s = &t->stores[0];
    memory_store(s->p, s->size, s->value, &s->left);
    memmove(t->stores, t->stores + 1, --t->n * sizeof *t->stores);
}

static void
drain(coroutine *t)
{
    while (t->n > 0)
        drain_one(t);
}

static void
go_to(unsigned next)
{
    coroutine *from = &threads[running], *to = &threads[next];
    if (to == from)
        return;
    from->table = thread_slots;
    from->self = qsbr_self;
    running = next;
    thread_slots = to->table;
    qsbr_self = to->self;
    /* Without the system calls of swapcontext. */
    if (_setjmp(from->where) != 0)
        return;
    if (to->begun)
        _longjmp(to->where, 1);
    to->begun = true;
    setcontext(&to->context);
}

/* One that is not over; the running one only if it may go on. */
static unsigned
another(bool may_go_on)
{
    unsigned next;
    do
        next = chance(n_threads);
    while (threads[next].over || (!may_go_on && next == running && n_threads > 1));
    return next;
}

static void
point(void)
{
    if (!simulated)
        return;
    for (unsigned i = 0; i < n_threads; i++)
        if (threads[i].n > 0 && chance(256) < drains)
            drain_one(&threads[i]);
    if (chance(256) < switches)
        go_to(another(true));
}

static uint64_t
model_load(const void *p, size_t size, order how)
{
    coroutine *t = &threads[running];
    point();
    if (!simulated)
        return memory_load(p, size);
    for (unsigned i = t->n; i > 0; i--)
        if (t->stores[i - 1].p == p)
            return t->stores[i - 1].value;
    if (how & ACQUIRE)
        join(&t->now, left_at(p));
    return memory_load(p, size);
}

static void
model_store(void *p, size_t size, uint64_t value, order how)
{
    coroutine *t = &threads[running];
    point();
    if (!simulated) {
        memory_store(p, size, value, NULL);
        return;
    }
    if (t->n == BUFFERED)
        drain_one(t);
    buffered_store *s = &t->stores[t->n++];
    *s = (buffered_store){.p = p, .size = size, .value = value};
    if (how & RELEASE) {
        s->left = t->now;
        t->now.of[running]++;
    }
}

static void
model_fence(void)
{
    point();
    if (simulated)
        drain(&threads[running]);
}

/* The clocks of a read-modify-write: a relaxed one goes on with what is left there. */
static void
take_and_leave(void *p, order how)
{
    coroutine *t = &threads[running];
    if (!simulated)
        return;
    if (how & ACQUIRE)
        join(&t->now, left_at(p));
    if (how & RELEASE) {
        join(left_at(p), &t->now);
        t->now.of[running]++;
    }
}

static uint64_t
model_exchange(void *p, size_t size, uint64_t value, order how)
{
    model_fence();
    uint64_t old = memory_load(p, size);
    memory_store(p, size, value, NULL);
    take_and_leave(p, how);
    return old;
}

static uint64_t
model_add(void *p, size_t size, uint64_t value, order how)
{
    model_fence();
    uint64_t old = memory_load(p, size);
    memory_store(p, size, old + value, NULL);
    take_and_leave(p, how);
    return old;
}

static bool
model_cas(void *p, size_t size, void *expected, uint64_t value, order how)
{
    model_fence();
    if (memcmp(p, expected, size) != 0) {
        memcpy(expected, p, size);
        take_and_leave(p, how & ACQUIRE);
        return false;
    }
    memory_store(p, size, value, NULL);
    take_and_leave(p, how);
    return true;
}

/* The kernel interrupts one CPU after the other, in any order. */
bool
barrier_heavy(void)
{
    if (barrier_chosen == BARRIER_FENCE) {
        model_fence();
        return true;
    }
    unsigned first = chance(n_threads);
    for (unsigned i = 0; i < n_threads; i++) {
        point();
        drain(&threads[(first + i) % n_threads]);
    }
    for (int i = 0; i < 4; i++) /* the way back from the kernel is long */
        point();
    return true;
}

uint32_t qc_fork_generation; /* nobody forks here */

void
qc_fork_happened(void)
{
}

qc_lock_found
qc_lock_wait(qc_lock *lock)
{
    uint32_t unheld = 0;
    while (!qc_cas_acq_rel(&lock->state, &unheld, QC_LOCK_HELD)) {
        unheld = 0;
        go_to(another(false));
    }
    return QC_LOCK_TAKEN;
}

void
qc_lock_wake(qc_lock *lock)
{
    (void)lock;
}

static void
coroutine_main(void)
{
    threads[running].body();
    threads[running].over = true;
    for (unsigned i = 0; i < n_threads; i++)
        if (!threads[i].over)
            go_to(another(false));
    for (unsigned i = 0; i < n_threads; i++)
        drain(&threads[i]);
    setcontext(&outside);
}

/* ---- what the scenarios share ---- */

enum { OBJECTS = 8 };

typedef struct {
    bool freed;
    vector read; /* the last read by each thread */
} object;

static qsbr_domain *domain;
static retire_queue *queue;
static object objects[OBJECTS];
static _Atomic(object *) slots[2];
static unsigned freed; /* in this schedule */
static uint64_t freed_meanwhile;

static void
free_object(uint64_t arg)
{
    object *x = (object *)(uintptr_t)arg;
    CHECK(!x->freed);
    for (unsigned i = 0; simulated && i < n_threads; i++) /* all reads happened before */
        CHECK(i == running || x->read.of[i] <= threads[running].now.of[i]);
    x->freed = true;
    freed++;
}

static void
read_slot_for(qsbr_record *rec, unsigned which, int steps)
{
    qsbr_enter(rec);
    object *x = qc_load_acquire(&slots[which]);
    for (int i = 0; i < steps; i++) {
        CHECK(!x->freed); /* Q1 */
        point();
    }
    CHECK(!x->freed);
    x->read.of[running] = threads[running].now.of[running];
    qsbr_exit(rec);
}

static void
read_slot(qsbr_record *rec, unsigned which)
{
    read_slot_for(rec, which, 6);
}

/* Unlinked with an exchange, or with a store that may stay in the buffer. */
static object *
unlink_from(unsigned which, object *new, bool with_store)
{
    object *old = qc_load_relaxed(&slots[which]);
    if (with_store)
        qc_store_release(&slots[which], new);
    else
        old = qc_exchange_acq_rel(&slots[which], new);
    return old;
}

/* Replaces, then frees if that is allowed soon. */
static void
write_slot(unsigned which, object *new, bool with_store)
{
    object *old = unlink_from(which, new, with_store);
    uint64_t goal = qsbr_advance(domain);
    bool polls = chance(2) == 0; /* or leaves that to the others */
    for (int tries = 0; tries < (polls ? 4 : 24); tries++)
        if (polls ? qsbr_poll(domain, goal) : qsbr_goal_reached(domain, goal)) {
            free_object((uint64_t)(uintptr_t)old);
            return;
        }
}

/* ---- scenarios ---- */

static void
reader(void)
{
    qsbr_record *rec = threads[running].records;
    for (unsigned i = 0; i < 3; i++)
        read_slot(rec, i % 2);
}

static void
reader_of_0(void)
{
    for (unsigned i = 0; i < 4; i++)
        read_slot(threads[running].records, 0);
}

static void
slow_reader_of_0(void)
{
    for (unsigned i = 0; i < 3; i++)
        read_slot_for(threads[running].records, 0, (int)(32u << chance(3)));
}

static void
reader_that_registers(void)
{
    for (unsigned i = 0; i < 2; i++) {
        qsbr_record *rec = qsbr_register(domain);
        read_slot(rec, 0);
        if (i == 0)
            qsbr_unregister(rec);
    }
}

static void
writer_of_0(void)
{
    write_slot(0, &objects[2], chance(2) == 0);
    write_slot(0, &objects[3], chance(2) == 0);
}

static void
writer_of_1(void)
{
    write_slot(1, &objects[4], chance(2) == 0);
    write_slot(1, &objects[5], chance(2) == 0);
}

/* Somebody else's polls. */
static void
poller(void)
{
    for (int i = 0; i < 6; i++)
        qsbr_poll(domain, qsbr_advance(domain));
}

static void
retire_from_0(retire_local *local, object *new, size_t bytes)
{
    CHECK(retire_reserve(local, 1));
    object *old = unlink_from(0, new, chance(2) == 0);
    retire_block(local, free_object, (uint64_t)(uintptr_t)old, bytes);
    retire_commit(local);
}

static void
retirer(void)
{
    retire_local *local = retire_local_get(queue, threads[running].records);
    for (unsigned i = 0; i < 2; i++) {
        retire_from_0(local, &objects[2 + i], RETIRE_MAX_BYTES);
        retire_process(local);
    }
    retire_process(local);
}

/* Leaves its batch open between the two, for others to take. */
static void
retirer_of_small(void)
{
    retire_local *local = retire_local_get(queue, threads[running].records);
    for (unsigned i = 0; i < 4; i++)
        retire_from_0(local, &objects[2 + i], 1);
    retire_process(local);
}

static void
collector(void)
{
    retire_local *local = retire_local_get(queue, threads[running].records);
    uint64_t goal = qsbr_advance(domain);
    qsbr_poll(domain, goal);
    retire_process(local);
}

static void
taker(void)
{
    retire_local *local = retire_local_get(queue, threads[running].records);
    for (int i = 0; i < 8; i++)
        retire_process(local);
}

typedef struct {
    const char *name;
    void (*bodies[THREADS])(void);
    bool registered[THREADS]; /* from the beginning */
    unsigned times;           /* 3,000 schedules */
} scenario;

/* The broken builds that a scenario is to find are found within a seventh of its schedules, in
 * runs of five to eight seeds; the last one's, which is the hardest, within a quarter. */
static const scenario scenarios[] = {
    {"Q1: a reader and a writer", {reader, writer_of_0}, {true, false}, 1},
    {"Q1: a reader, a writer, another's polls",
     {reader_of_0, writer_of_0, poller},
     {true, false, false},
     5},
    {"Q1: a reader and two writers", {reader, writer_of_0, writer_of_1}, {true, false, true}, 2},
    {"Q1: two readers, two writers",
     {reader, writer_of_0, writer_of_1, reader},
     {true, false, false, true},
     2},
    {"Q4: readers that register meanwhile",
     {reader_that_registers, writer_of_0, reader_that_registers},
     {false, true, false},
     2},
    {"T6: the retire queue", {reader, retirer, collector}, {true, true, true}, 2},
    {"T6: the retire queue, two readers",
     {reader, retirer, collector, reader},
     {true, true, true, true},
     2},
    {"T6: an open batch that another takes",
     {slow_reader_of_0, retirer_of_small, taker},
     {true, true, true},
     15},
};

static void
set_up(const scenario *s)
{
    memset(objects, 0, sizeof objects);
    freed = 0;
    /* Old enough to be taken by others at once, or never: not as the clock has it. */
    retire_limit.quiet_ns = s->bodies[2] == taker ? 0 : INT64_MAX;
    retire_limit.look_ns = retire_limit.poll_ns = 0;
    domain = qsbr_domain_new();
    queue = retire_queue_new(domain);
    for (unsigned i = 0; i < 2; i++)
        qc_store_relaxed(&slots[i], &objects[i]);
    n_threads = 0;
    static char *stacks[THREADS];
    for (unsigned i = 0; i < THREADS && s->bodies[i] != NULL; i++, n_threads++) {
        coroutine *t = &threads[i];
        thread_slots = NULL;
        t->records = s->registered[i] ? qsbr_register(domain) : NULL;
        CHECK(!s->registered[i] || t->records != NULL);
        t->table = thread_slots;
        t->self = NULL;
        t->body = s->bodies[i];
        t->over = t->begun = false;
        t->n = 0;
        memset(&t->now, 0, sizeof t->now);
        t->now.of[i] = 1;
        if (stacks[i] == NULL)
            stacks[i] = malloc(STACK);
        CHECK(stacks[i] != NULL);
        getcontext(&t->context);
        t->context.uc_stack.ss_sp = stacks[i];
        t->context.uc_stack.ss_size = STACK;
        t->context.uc_link = NULL;
        makecontext(&t->context, coroutine_main, 0);
    }
}

static void
clean_up(void)
{
    threads[running].table = thread_slots;
    thread_slots = threads[0].table;
    qsbr_record *rec = qsbr_register(domain);
    /* Nobody waits for what may never come: every goal has been advanced to. */
    for (retire_local *l = qc_load_relaxed(&queue->locals); l != NULL; l = l->next)
        for (retire_batch *newest = qc_load_relaxed(&l->closed), *b = newest; b != NULL;) {
            CHECK(!qsbr_before(qc_load_relaxed(&domain->wr_seq), b->goal));
            b = b->next == newest ? NULL : b->next;
        }
    retire_drain(retire_local_get(queue, rec));
    retire_queue_unref(queue);
    threads[0].table = thread_slots;
    for (unsigned i = 0; i < n_threads; i++) {
        thread_slots = threads[i].table;
        thread_end(NULL);
    }
    CHECK(qc_load_relaxed(&domain->registered) == 0);
    qsbr_domain_release(domain);
}

static void
run_once(const scenario *s)
{
    random_state = schedule * UINT64_C(0x9E3779B97F4A7C15) | 1;
    set_up(s);
    /* Long runs and short ones, buffers that drain soon and that do not. */
    switches = 8u << chance(5);
    drains = chance(2) == 0 ? 0 : 1u << chance(7);
    running = chance(n_threads);
    thread_slots = threads[running].table;
    simulated = true;
    threads[running].begun = true;
    swapcontext(&outside, &threads[running].context);
    simulated = false;
    freed_meanwhile += freed;
    freed = 0;
    clean_up();
}

/* With an argument: only the scenario of that name. */
int
main(int argc, char **argv)
{
    const char *mode = getenv("QSBRCONTAINERS_BARRIER"), *text = getenv("QC_TORTURE_SCALE");
    const char *seed = getenv("QC_SEED"); /* other schedules for each */
    double scale = text != NULL && text[0] != '\0' ? strtod(text, NULL) : 1;
    barrier_chosen =
        mode != NULL && strcmp(mode, "fence") == 0 ? BARRIER_FENCE : BARRIER_MEMBARRIER;
    CHECK(qsbr_init());
    schedule = seed != NULL ? strtoull(seed, NULL, 10) << 24 : 0;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        scenario_name = scenarios[i].name;
        if (argc > 1 && strcmp(argv[1], scenario_name) != 0)
            continue;
        freed_meanwhile = 0;
        uint64_t n = (uint64_t)(3000 * scale) * scenarios[i].times;
        for (uint64_t k = 0; k < n; k++) {
            schedule++;
            run_once(&scenarios[i]);
        }
        CHECK(freed_meanwhile > n / 2); /* not all in vain */
        printf("%-48s %llu schedules, %llu freed\n", scenario_name, (unsigned long long)n,
               (unsigned long long)freed_meanwhile);
    }
    return 0;
}
#endif
