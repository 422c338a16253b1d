/* Torture for the key table: every kind of operation at once, with what the guarantees
 * promise checked by the threads themselves.
 *
 *   stable keys    are never deleted: no reader and no cursor may miss one (K1, K6)
 *   a pair         of keys that one writer assigns in turn: a reader, and a snapshot of
 *                  one moment, never sees the second ahead of the first (K1, K7)
 *   counters       ints that all writers add to: the sum is exact in the end, however
 *                  often the table was replaced meanwhile (K2, K3)
 *   volatile keys  come and go, and make it grow and shrink
 *   hot keys       a few among many, which all writers insert and delete at once: each
 *                  insertion but the last has its deletion (K4)
 */
#include "kt_place.h"

enum {
    FIRST = 1, /* the pair */
    SECOND = 2,
    COUNTERS = 10, /* 10..13 */
    N_COUNTERS = 4,
    STABLE = 100, /* 100..131 */
    N_STABLE = 32,
    VOLATILE = 1000,
    N_VOLATILE = 300,
    SURE = 2 + N_COUNTERS + N_STABLE,
};

static uint64_t
hash_collide(uint64_t key)
{
    return hash_well(key % 200);
}

static kt shared;
static _Atomic uint64_t added[N_COUNTERS], reads, snapshots, cursors, tables, pairs;

/* ---- readers ---- */

static void
read_pair(kt *k)
{
    uint64_t second = kt_get(k, SECOND), first = kt_get(k, FIRST);
    CHECK(first != UINT64_MAX && second != UINT64_MAX);
    CHECK(first >= second); /* it was assigned before */
}

static void *
read_for_a_while(void *arg)
{
    kt k = kt_join(&shared);
    uint64_t random = a_seed(), n = 0;
    (void)arg;
    for (uint64_t max = 500 + chance(&random) % 5000; n < max && !time_is_over(); n++) {
        uint64_t dice = chance(&random);
        kt_safe_point(&k);
        if (dice % 8 == 0)
            read_pair(&k);
        else if (dice % 8 < 4)
            CHECK(kt_get(&k, STABLE + (dice >> 8) % N_STABLE) != UINT64_MAX);
        else if (dice % 8 < 7)
            kt_get(&k, VOLATILE + (dice >> 8) % N_VOLATILE);
        else {
            uint64_t len = keytable_len(k.map);
            CHECK(len >= SURE && len <= SURE + N_VOLATILE);
        }
    }
    qc_add_relaxed(&reads, n);
    return NULL;
}

/* All that was there all along, in order, each once. */
static void
iterate(kt *k)
{
    bool seen[N_STABLE] = {false};
    unsigned n_seen = 0;
    keytable_cursor c;
    keytable_stepped r;
    qsbr_enter(k->p.rec);
    keytable_cursor_init(&c, k->map, k->p.rec);
    qsbr_exit(k->p.rec);
    do {
        qc_word key, word;
        qsbr_enter(k->p.rec);
        r = keytable_step(&c, k->map, k->p.rec, &key, &word);
        if (r == KEYTABLE_ITEM) {
            uint64_t n = box_check(key, KEY_MAGIC)->key;
            if (!word_is_int(word))
                CHECK_EQ(box_check(word, VALUE_MAGIC)->key, n);
            if (n >= STABLE && n < STABLE + N_STABLE) {
                CHECK(!seen[n - STABLE]);
                seen[n - STABLE] = true;
                n_seen++;
            }
        }
        qsbr_exit(k->p.rec);
    } while (r != KEYTABLE_END);
    CHECK_EQ(n_seen, N_STABLE);
    keytable_unref(c.table);
    qc_add_relaxed(&cursors, 1u);
}

static void
snapshot(kt *k)
{
    uint64_t keys[SURE + N_VOLATILE], numbers[SURE + N_VOLATILE];
    unsigned n = kt_snapshot(k, keys, numbers, SURE + N_VOLATILE), sure = 0;
    uint64_t pair[2] = {0, 0};
    for (unsigned i = 0; i < n; i++) {
        sure += keys[i] < VOLATILE;
        if (keys[i] == FIRST || keys[i] == SECOND)
            pair[keys[i] - FIRST] = numbers[i];
    }
    CHECK_EQ(sure, SURE);
    CHECK(pair[0] == pair[1] || pair[0] == pair[1] + 1); /* one moment */
    qc_add_relaxed(&snapshots, 1u);
}

static void
look_at_all(void)
{
    kt k = kt_join(&shared);
    while (!time_is_over()) {
        kt_safe_point(&k);
        iterate(&k);
        snapshot(&k);
        retire_process(k.p.local);
    }
}

/* ---- writers ---- */

static void
assign_pair(void)
{
    kt k = kt_join(&shared);
    uint64_t n = 1;
    for (; !time_is_over(); n++) {
        kt_safe_point(&k);
        kt_set(&k, FIRST, n);
        kt_set(&k, SECOND, n);
    }
    qc_add_relaxed(&pairs, n);
}

static void *
write_for_a_while(void *arg)
{
    kt k = kt_join(&shared);
    uint64_t random = a_seed();
    (void)arg;
    for (uint64_t n = chance(&random) % 5000; n > 0 && !time_is_over(); n--) {
        uint64_t dice = chance(&random), key = VOLATILE + (dice >> 8) % N_VOLATILE;
        keytable *t = keytable_exclusive(k.map);
        kt_safe_point(&k);
        if (dice % 8 < 2) {
            kt_incr(&k, COUNTERS + (dice >> 16) % N_COUNTERS, 1);
            qc_add_relaxed(&added[(dice >> 16) % N_COUNTERS], 1u);
        }
        else if (dice % 8 < 3) {
            kt_set(&k, STABLE + (dice >> 8) % N_STABLE, n);
        }
        else if (n % 512 < 256) {
            kt_set(&k, key, n);
        }
        else {
            kt_del(&k, key);
        }
        qc_add_relaxed(&tables, keytable_exclusive(k.map) != t);
    }
    return NULL;
}

static void
body(void *arg, unsigned i)
{
    (void)arg;
    if (i == 0)
        assign_pair();
    else if (i == 1)
        look_at_all();
    while (!time_is_over())
        thread_join(thread_start(i % 2 == 0 ? read_for_a_while : write_for_a_while, NULL));
}

static void
torture_with(unsigned ms, unsigned threads, uint64_t (*hash)(uint64_t))
{
    shared = kt_new(hash);
    memset((void *)added, 0, sizeof added);
    kt_set(&shared, FIRST, 0);
    kt_set(&shared, SECOND, 0);
    for (uint64_t i = 0; i < N_COUNTERS; i++)
        kt_set_int(&shared, COUNTERS + i, 0);
    for (uint64_t i = 0; i < N_STABLE; i++)
        kt_set(&shared, STABLE + i, 0);
    run_threads_for(ms, threads, body, NULL);
    for (uint64_t i = 0; i < N_COUNTERS; i++)
        CHECK_EQ(kt_get(&shared, COUNTERS + i), qc_load_relaxed(&added[i]));
    iterate(&shared);
    snapshot(&shared);
    CHECK(qc_load_relaxed(&tables) > 0);
    report("sum", "reads", qc_exchange_acq_rel(&reads, 0u));
    report("sum", "pairs", qc_exchange_acq_rel(&pairs, 0u));
    report("sum", "cursors", qc_exchange_acq_rel(&cursors, 0u));
    report("sum", "snapshots", qc_exchange_acq_rel(&snapshots, 0u));
    report("sum", "tables", qc_exchange_acq_rel(&tables, 0u));
    kt_delete(&shared);
}

static void
test_K1_K7_torture(void)
{
    torture_with(600, 4, hash_well);
}

static void
test_K1_K7_torture_with_collisions(void)
{
    torture_with(500, 6, hash_collide);
}

/* Only clears, and readers of one key that comes back after each: it is there with a
 * proper value, or not at all. */
static void
clear_or_read(void *arg, unsigned i)
{
    (void)arg;
    kt k = kt_join(&shared);
    for (uint64_t n = 1; !time_is_over(); n++) {
        kt_safe_point(&k);
        if (i != 0) {
            uint64_t got = kt_get(&k, n % 8);
            CHECK(got == UINT64_MAX || got % 8 == n % 8);
            if (i == 1 && n % 16 == 0) { /* assigned to what may be cleared just now */
                box *b = box_new(VALUE_MAGIC, n % 8, n);
                if (!kt_assign(&k, n % 8, word_from_pointer(b)))
                    box_free(word_from_pointer(b));
            }
        }
        else {
            for (uint64_t key = 0; key < 8; key++)
                kt_set(&k, key, n * 8 + key);
            kt_clear(&k);
        }
    }
}

static void
test_K7_torture_of_clear(void)
{
    shared = kt_new(hash_well);
    run_threads_for(300, 3, clear_or_read, NULL);
    kt_delete(&shared);
}

/* ---- a few keys that come and go ---- */

enum { HOT = 10, N_HOT = 3 };

static _Atomic int64_t there[N_HOT]; /* insertions less deletions */
static _Atomic uint64_t came;

/* Hot keys share their sequence with stable ones and with each other. */
static uint64_t
hash_hot(uint64_t key)
{
    return key < HOT + N_HOT || key < STABLE + 4 ? 42 | key << 60 : hash_well(key);
}

static void
churn_hot(void)
{
    kt k = kt_join(&shared);
    uint64_t random = a_seed(), n = 0;
    for (; !time_is_over(); n++) {
        uint64_t dice = chance(&random), which = (dice >> 8) % N_HOT;
        kt_safe_point(&k);
        if (dice % 2 == 0) {
            kt_miss miss = kt_look(&k, HOT + which);
            if (kt_put_missed(&k, HOT + which, miss, word_from_int(1)))
                qc_add_relaxed(&there[which], 1);
        }
        else if (kt_del(&k, HOT + which)) {
            qc_sub_relaxed(&there[which], 1);
        }
    }
    qc_add_relaxed(&came, n);
}

static void
churn_or_look(void *arg, unsigned i)
{
    (void)arg;
    if (i != 0) {
        churn_hot();
        return;
    }
    kt k = kt_join(&shared);
    uint64_t random = a_seed();
    while (!time_is_over()) {
        kt_safe_point(&k);
        for (unsigned n = 0; n < 200; n++)
            CHECK(kt_get(&k, STABLE + chance(&random) % N_STABLE) != UINT64_MAX);
        uint64_t keys[N_STABLE + N_HOT], numbers[N_STABLE + N_HOT];
        unsigned all = kt_snapshot(&k, keys, numbers, N_STABLE + N_HOT);
        bool seen[N_HOT] = {false};
        for (unsigned n = 0; n < all; n++)
            if (keys[n] < STABLE) {
                CHECK(!seen[keys[n] - HOT]);
                seen[keys[n] - HOT] = true;
            }
    }
}

static void
test_K4_torture_of_hot_keys(void)
{
    shared = kt_new(hash_hot);
    memset((void *)there, 0, sizeof there);
    for (uint64_t i = 0; i < N_STABLE; i++)
        kt_set(&shared, STABLE + i, 0);
    run_threads_for(400, 4, churn_or_look, NULL);
    for (uint64_t i = 0; i < N_HOT; i++)
        CHECK_EQ(qc_load_relaxed(&there[i]), kt_get(&shared, HOT + i) != UINT64_MAX);
    report("sum", "changes of hot keys", qc_exchange_acq_rel(&came, 0u));
    kt_delete(&shared);
}

int
main(void)
{
    harness_init(true);
    RUN(test_K1_K7_torture);
    RUN(test_K1_K7_torture_with_collisions);
    RUN(test_K7_torture_of_clear);
    RUN(test_K4_torture_of_hot_keys);
    return 0;
}
