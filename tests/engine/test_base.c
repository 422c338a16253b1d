/* base/qc_lock and containers/word.h, below everything else.
 *
 * modes: one
 */
#define _GNU_SOURCE /* sched_setaffinity */
#include "harness.h"

#include <math.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "base/qc_lock.h"
#include "containers/word.h"

/* ---- the lock ---- */

typedef struct {
    qc_lock lock;
    uint64_t a, b; /* (lock) plain, so that ThreadSanitizer sees a lock that is none */
    uint64_t rounds;
    unsigned outside; /* work between two turns */
} counted;

static void
count_under_lock(void *arg, unsigned i)
{
    counted *c = arg;
    uint64_t random = i + 1;
    for (uint64_t n = 0; n < c->rounds; n++) {
        qc_lock_acquire(&c->lock);
        CHECK(qc_lock_is_held(&c->lock));
        CHECK_EQ(c->a, c->b);
        c->a++;
        /* Now and then long enough for the others to go to sleep in the kernel. */
        if (chance(&random) % 4096 == 0)
            sleep_ms(1);
        c->b++;
        qc_lock_release(&c->lock);
        for (volatile unsigned spin = 0; spin < c->outside; spin++)
            ;
    }
}

static void
count_with(unsigned threads, unsigned outside)
{
    counted c = {.rounds = scaled(100000), .outside = outside};
    qc_lock_init(&c.lock);
    run_threads(threads, count_under_lock, &c);
    CHECK_EQ(c.a, threads * c.rounds);
    CHECK_EQ(c.b, c.a);
    CHECK(!qc_lock_is_held(&c.lock));
}

static void
test_lock_excludes(void)
{
    count_with(2, 0);
    count_with(3, 100);
    count_with(8, 0);
}

static qc_lock handed;
static _Atomic unsigned got;

static void
acquire_and_release(void *arg)
{
    (void)arg;
    qc_lock_acquire(&handed);
    qc_add_relaxed(&got, 1u);
    qc_lock_release(&handed);
}

/* All of several waiters that sleep are woken, one after the other. */
#if defined(__linux__)
/* Where there is one CPU, a waiter leaves it to the holder.  (In a process that has not
 * asked yet how many there are.) */
static void
count_on_one_cpu(void *arg)
{
    (void)arg;
    cpu_set_t all, one;
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    CPU_ZERO(&one);
    for (int i = 0; CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    count_with(3, 100);
}

static void
test_lock_excludes_on_one_cpu(void)
{
    in_child(count_on_one_cpu, NULL);
}
#endif

static void
test_lock_wakes_all_waiters(void)
{
    enum { WAITERS = 5 };
    stepper *waiters[WAITERS];
    qc_lock_init(&handed);
    for (int i = 0; i < WAITERS; i++)
        waiters[i] = stepper_new();
    for (int round = 0; round < 20; round++) {
        qc_store_relaxed(&got, 0u);
        qc_lock_acquire(&handed);
        for (int i = 0; i < WAITERS; i++)
            stepper_start(waiters[i], acquire_and_release, NULL);
        sleep_ms(5);
        CHECK_EQ(qc_load_relaxed(&got), 0);
        qc_lock_release(&handed);
        for (int i = 0; i < WAITERS; i++)
            stepper_wait(waiters[i]);
        CHECK_EQ(qc_load_relaxed(&got), WAITERS);
        CHECK(!qc_lock_is_held(&handed));
    }
    for (int i = 0; i < WAITERS; i++)
        stepper_end(waiters[i]);
}

/* A waiter that sleeps gets the lock though others take it all the time. */
static _Atomic bool over;

static void *
keep_taking(void *arg)
{
    (void)arg;
    while (!qc_load_relaxed(&over)) {
        qc_lock_acquire(&handed);
        qc_lock_release(&handed);
    }
    return NULL;
}

static void
test_lock_is_handed_over(void)
{
    qc_lock_init(&handed);
    qc_store_relaxed(&over, false);
    pthread_t greedy = thread_start(keep_taking, NULL);
    for (int i = 0; i < 200; i++) {
        acquire_and_release(NULL);
        if (i % 50 == 0)
            sleep_ms(1);
    }
    qc_store_relaxed(&over, true);
    thread_join(greedy);
}

/* K4's use: an element is published before the count that includes it; who has
 * seen the element and finds the lock free must see the count. */
typedef struct {
    qc_lock lock;
    _Atomic uint64_t slot, count;
} counted_slots;

static void
look_at_free_lock(void *arg, unsigned i)
{
    counted_slots *s = arg;
    uint64_t rounds = scaled(200000);
    for (uint64_t n = 1; n <= rounds; n++) {
        if (i == 0) {
            qc_lock_acquire(&s->lock);
            qc_store_release(&s->slot, n);
            qc_store_relaxed(&s->count, n);
            qc_lock_release(&s->lock);
        }
        else {
            uint64_t element = qc_load_acquire(&s->slot);
            if (!qc_lock_is_held(&s->lock))
                CHECK(qc_load_relaxed(&s->count) >= element);
        }
    }
}

static void
test_lock_free_means_finished(void)
{
    counted_slots s = {.slot = 0, .count = 0};
    qc_lock_init(&s.lock);
    run_threads(2, look_at_free_lock, &s);
    CHECK_EQ(qc_load_relaxed(&s.count), scaled(200000));
}

/* ---- words ---- */

static void
check_ordinary(qc_word w)
{
    CHECK(word_is_live(w));
    CHECK(w != WORD_EMPTY && w != WORD_DELETED && w != WORD_MOVED);
}

static void
check_int(int64_t v)
{
    CHECK(word_int_fits(v));
    qc_word w = word_from_int(v);
    check_ordinary(w);
    CHECK(word_is_int(w) && !word_is_pointer(w));
    CHECK_EQ(word_to_int(w), v);
}

static void
test_words_ints(void)
{
    CHECK_EQ(WORD_INT_MAX, (INT64_C(1) << 50) - 1);
    CHECK_EQ(WORD_INT_MIN, -(INT64_C(1) << 50));
    for (int64_t d = 0; d < 100000; d++) {
        check_int(d);
        check_int(-d);
        check_int(WORD_INT_MAX - d);
        check_int(WORD_INT_MIN + d);
    }
    for (int bit = 0; bit < 50; bit++)
        for (int64_t d = -3; d <= 3; d++) {
            int64_t v = (INT64_C(1) << bit) + d;
            if (word_int_fits(v))
                check_int(v);
            if (word_int_fits(-v))
                check_int(-v);
        }
    CHECK(!word_int_fits(WORD_INT_MAX + 1));
    CHECK(!word_int_fits(WORD_INT_MIN - 1));
    CHECK(!word_int_fits(INT64_MAX));
    CHECK(!word_int_fits(INT64_MIN));
    uint64_t random = 1;
    for (uint64_t n = scaled(1000000); n > 0; n--)
        check_int((int64_t)chance(&random) >> (64 - WORD_INT_BITS));
}

static void
check_double(double d)
{
    qc_word w = word_from_double(d);
    check_ordinary(w);
    CHECK(!word_is_int(w) && !word_is_pointer(w));
    double back = word_to_double(w);
    CHECK(memcmp(&back, &d, sizeof d) == 0); /* -0.0 too */
}

static double
from_bits(uint64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

static void
test_words_doubles(void)
{
    static const double some[] = {0.0,      -0.0,      1.0,      -1.0,      0.1,      1e308,
                                  -1e308,   5e-324,    -5e-324,  2.25e-308, INFINITY, -INFINITY,
                                  2.5e-308, 0x1p-1022, 0x1p1023, 1e22,      3.0e-310};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        check_double(some[i]);
    /* The edges of every exponent and sign, up to the infinities. */
    for (uint64_t top = 0; top < 0x1000; top++) {
        if ((top & 0x7FF) == 0x7FF)
            continue;
        uint64_t bits = top << 52;
        for (uint64_t d = 0; d < 4; d++) {
            check_double(from_bits(bits + d));
            check_double(from_bits(bits + 0xFFFFFFFFFFFFF - d));
            check_double(from_bits(bits + 0x7FFFFFFFFFFFF + d));
        }
    }
    uint64_t random = 1;
    for (uint64_t n = scaled(1000000); n > 0; n--) {
        double d = from_bits(chance(&random));
        if (!isnan(d))
            check_double(d);
    }
}

static void
check_pointer(void *p)
{
    qc_word w = word_from_pointer(p);
    check_ordinary(w);
    CHECK(word_is_pointer(w) && !word_is_int(w));
    CHECK(word_to_pointer(w) == p);
}

static void
test_words_pointers(void)
{
    int local;
    static int global;
    check_pointer(&local);
    check_pointer(&global);
    check_pointer((void *)(uintptr_t)8);
    for (int bit = 3; bit < 51; bit++) {
        check_pointer((void *)((uintptr_t)1 << bit));
        check_pointer((void *)(((uintptr_t)1 << (bit + 1)) - 8));
    }
    for (int i = 0; i < 1000; i++) {
        void *p = malloc((size_t)1 << (i % 20));
        CHECK(p != NULL);
        check_pointer(p);
        free(p);
    }
}

/* The special words are none of the three kinds' values, and poison is no pointer. */
static void
test_words_special(void)
{
    CHECK(!word_is_live(WORD_EMPTY) && !word_is_live(WORD_DELETED) && !word_is_live(WORD_MOVED));
    CHECK(WORD_EMPTY != WORD_DELETED && WORD_DELETED != WORD_MOVED && WORD_EMPTY != WORD_MOVED);
    for (qc_word w = 0; w < 8; w++) {
        CHECK(!word_is_int(w));
        CHECK(isnan(word_to_double(w))); /* so no double that is stored by value */
    }
    /* Every quiet NaN lands on the two other kinds, and nothing else does. */
    for (uint64_t top = 0; top < 0x2000; top++) {
        qc_word w = word_from_double(from_bits(top << 51));
        bool other = word_is_int(w) || word_is_pointer(w);
        CHECK_EQ(other, top == 0xFFF || top == 0x1FFF);
    }
    qc_word poison;
    memset(&poison, QC_POISON, sizeof poison);
    CHECK(!word_is_pointer(poison) && !word_is_int(poison));
}

int
main(void)
{
    harness_init(false);
#if defined(__linux__)
    RUN(test_lock_excludes_on_one_cpu); /* first */
#endif
    RUN(test_lock_excludes);
    RUN(test_lock_wakes_all_waiters);
    RUN(test_lock_is_handed_over);
    RUN(test_lock_free_means_finished);
    RUN(test_words_ints);
    RUN(test_words_doubles);
    RUN(test_words_pointers);
    RUN(test_words_special);
    return 0;
}
