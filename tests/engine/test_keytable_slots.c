/* Slots that are used again (K1): the number of steps of a probe, single insertion of each
 * key whatever happens between a writer's look and its lock, and the largest table (K9).
 *
 * modes: one
 */
#include "kt_place.h"

/* ---- steps ---- */

/* If two thirds of the slots are taken and hashes are well spread, one walk in 10^11 is
 * longer than this. */
enum { LONGEST = 64 };

static unsigned
steps_to(keytable *t, uint64_t hash)
{
    uint64_t perturb = hash;
    uint32_t slot = (uint32_t)hash & t->mask;
    unsigned steps = 1;
    while (qc_load_relaxed(&t->index[slot]) != KEYTABLE_EMPTY) {
        keytable_next_slot(slot, perturb, t->mask);
        steps++;
    }
    return steps;
}

static uint32_t
not_empty(keytable *t)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i <= t->mask; i++)
        n += qc_load_relaxed(&t->index[i]) != KEYTABLE_EMPTY;
    return n;
}

static kt
filled(uint64_t (*hash)(uint64_t), uint64_t others)
{
    kt k = kt_new(hash);
    for (uint64_t key = 0; key < others; key++)
        kt_set_int(&k, key, (int64_t)key);
    return k;
}

/* One key is inserted and deleted among others, and never takes a second slot. */
static void
churn_one(uint64_t others)
{
    const uint64_t hot = 1000000000;
    kt k = filled(hash_well, others);
    uint64_t pairs = others < 10000 ? 20 * (others + 10) : others;
    for (uint64_t n = 0; n < pairs; n++) {
        kt_set_int(&k, hot, 1);
        CHECK(kt_del(&k, hot));
        keytable *t = keytable_exclusive(k.map);
        CHECK(steps_to(t, hash_well(hot)) <= LONGEST);
        if (n % (pairs / 100 + 1) == 0) {
            CHECK(not_empty(t) <= others + 1);
            CHECK(steps_to(t, hash_well(hot + 1 + n)) <= LONGEST);
        }
        kt_safe_point(&k);
    }
    CHECK_EQ(keytable_len(k.map), others);
    kt_delete(&k);
}

static void
test_K1_one_key_takes_one_slot(void)
{
    churn_one(0);
    churn_one(10);
    churn_one(1000);
    churn_one(100000);
}

/* A few keys are inserted and deleted, in any order. */
static void
test_K1_a_few_keys_take_a_few_slots(void)
{
    enum { OTHERS = 1000, FEW = 7 };
    kt k = filled(hash_well, OTHERS);
    uint64_t random = 5;
    for (unsigned n = 0; n < 20 * OTHERS; n++) {
        uint64_t key = OTHERS + chance(&random) % FEW;
        if (chance(&random) % 2)
            kt_set_int(&k, key, 1);
        else
            kt_del(&k, key);
        keytable *t = keytable_exclusive(k.map);
        CHECK(steps_to(t, hash_well(key)) <= LONGEST);
        if (n % 97 == 0)
            CHECK(not_empty(t) <= OTHERS + 2 * FEW);
        kt_safe_point(&k);
    }
    kt_delete(&k);
}

/* An LRU cache: each insertion deletes the oldest key, or moves it to the end. */
static void
test_K1_keys_that_pass_through(void)
{
    enum { OTHERS = 1000 };
    for (unsigned move = 0; move < 2; move++) {
        kt k = filled(hash_well, OTHERS);
        for (uint64_t n = 0; n < 20 * OTHERS; n++) {
            uint64_t oldest = move ? n % OTHERS : n;
            CHECK(kt_del(&k, oldest));
            kt_set_int(&k, move ? oldest : n + OTHERS, 1);
            keytable *t = keytable_exclusive(k.map);
            CHECK(steps_to(t, hash_well(n + 12345678)) <= LONGEST);
            if (n % 97 == 0)
                CHECK(not_empty(t) <= t->capacity);
            kt_safe_point(&k);
        }
        CHECK_EQ(keytable_len(k.map), OTHERS);
        kt_delete(&k);
    }
}

/* ---- a table that is compacted in place ---- */

/* Uses up the entries of the table without adding a key. */
static void
use_up(kt *k)
{
    for (bool room = true; room;) {
        kt_set_int(k, 1000, 1);
        CHECK(kt_del(k, 1000));
        kt_lock(k);
        room = keytable_has_room(k->map);
        kt_unlock(k);
    }
}

static void
test_K5_compaction_in_place(void)
{
    for (uint64_t others = 0; others < 200; others++) {
        kt k = filled(hash_well, others);
        use_up(&k);
        use_up(&k); /* the table has the wanted size */
        keytable *t = keytable_exclusive(k.map);
        uint64_t id = t->id, keys[200], numbers[200];
        keytable_cursor c = kt_begin(&k);
        kt_lock(&k);
        CHECK(!keytable_compact(k.map, k.p.rec)); /* an iterator pins it */
        CHECK_EQ(t->id, id);
        kt_end(&c);
        CHECK(keytable_compact(k.map, k.p.rec));
        CHECK(keytable_locked(k.map) == t && t->id != id);
        CHECK_EQ(keytable_used(t), others);
        CHECK_EQ(not_empty(t), others);
        kt_unlock(&k);
        CHECK_EQ(kt_snapshot(&k, keys, numbers, 200), others);
        for (uint64_t key = 0; key < others; key++) {
            CHECK_EQ(keys[key], key);
            CHECK_EQ(kt_get(&k, key), key);
        }
        kt_set_int(&k, 5000, 1);
        CHECK_EQ(kt_get(&k, 5000), 1);
        kt_delete(&k);
    }
}

/* Q10: a fork waits only for a second, so a large table is not compacted.  The test sets
 * `used` to the capacity instead of inserting so many keys. */
static void
test_Q10_a_large_table_is_not_compacted(void)
{
    kt k = kt_new(hash_well);
    keymap map;
    CHECK(keytable_init(&map, k.heap, KEYTABLE_COMPACT_SLOTS));
    CHECK_EQ(qc_lock_acquire(&map.lock), QC_LOCK_TAKEN);
    keytable *t = keytable_locked(&map);
    uint64_t id = t->id;
    CHECK(t->mask >= KEYTABLE_COMPACT_SLOTS);
    qc_store_relaxed(&keytable_counts(t)->used, t->capacity);
    qc_store_relaxed(&map.live, t->capacity / 2); /* the wanted size stays */
    CHECK(!keytable_compact(&map, k.p.rec));
    CHECK_EQ(t->id, id);
    qc_lock_release(&map.lock);
    keytable_unref(t);
    kt_delete(&k);
}

/* ---- K4: a key goes in once ---- */

enum { KEYS = 3, TARGET = 0 };

static uint64_t
hash_same(uint64_t key)
{
    (void)key;
    return 42;
}

/* Different hashes with the same probe sequence. */
static uint64_t
hash_one_way(uint64_t key)
{
    return 42 | key << 60;
}

/* The n-th change of another writer. */
static void
change(kt *k, unsigned n)
{
    if (n < KEYS)
        kt_set_int(k, n, 1000 + n);
    else
        kt_del(k, n - KEYS);
}

static unsigned
how_often(kt *k, uint64_t wanted)
{
    uint64_t keys[64], numbers[64];
    unsigned n = kt_snapshot(k, keys, numbers, 64), found = 0;
    for (unsigned i = 0; i < n; i++)
        found += keys[i] == wanted;
    return found;
}

/* A map from which all keys but those of `mask` were deleted, and which never had the target.
 * In every other map the next insertion replaces the table. */
static kt
with_keys(uint64_t (*hash)(uint64_t), unsigned mask)
{
    kt k = kt_new(hash);
    for (unsigned n = 0; mask % 2 != 0 && n < 3; n++) {
        kt_set_int(&k, KEYS, 0);
        kt_del(&k, KEYS);
    }
    for (uint64_t key = 1; key < KEYS; key++)
        kt_set_int(&k, key, (int64_t)key);
    for (uint64_t key = 1; key < KEYS; key++)
        if ((mask >> key & 1) == 0)
            kt_del(&k, key);
    return k;
}

/* A writer looks for the target, other writers make up to three changes, and then the writer
 * inserts the target: for every combination of changes. */
static void
put_after_changes(uint64_t (*hash)(uint64_t), bool knows_used)
{
    const unsigned all = 2 * KEYS;
    for (unsigned mask = 0; mask < 1 << KEYS; mask++)
        for (unsigned changes = 0; changes < all * all * all; changes++) {
            kt k = with_keys(hash, mask);
            kt_miss miss = kt_look(&k, TARGET);
            CHECK(miss.missed);
            if (!knows_used)
                miss.used = 0;
            change(&k, changes % all);
            change(&k, changes / all % all);
            change(&k, changes / all / all);
            kt_put_missed(&k, TARGET, miss, word_from_int(7));
            CHECK_EQ(how_often(&k, TARGET), 1);
            CHECK_EQ(kt_get(&k, TARGET), 7);
            CHECK(kt_del(&k, TARGET));
            CHECK_EQ(kt_get(&k, TARGET), UINT64_MAX);
            kt_delete(&k);
        }
}

static void
test_K4_a_key_goes_in_once(void)
{
    put_after_changes(hash_same, true);
    put_after_changes(hash_same, false);
    put_after_changes(hash_one_way, true);
    put_after_changes(hash_one_way, false);
}

/* An entry that was compared is not compared again. */
static void
test_K4_only_new_entries_are_compared(void)
{
    kt k = with_keys(hash_same, 6);
    kt_miss miss = kt_look(&k, TARGET);
    CHECK(kt_del(&k, 1));
    kt_lock(&k);
    keytable *t = keytable_locked(k.map);
    CHECK(keytable_place(t, 42, miss.used) == (42 & t->mask));
    CHECK(keytable_place(t, 42, 0) == KEYTABLE_NO_SLOT);
    kt_unlock(&k);
    kt_set_int(&k, 9, 9); /* goes where 1 was */
    kt_lock(&k);
    CHECK(keytable_place(t, 42, miss.used) == KEYTABLE_NO_SLOT);
    kt_unlock(&k);
    kt_delete(&k);
}

#ifdef QC_DEBUG
static kt *looking;
static unsigned look_at, look_n;
static kt_miss looked;

/* At the look_at-th yield: looks for the target. */
static void
look_there(const char *where)
{
    (void)where;
    if (look_n++ != look_at)
        return;
    void (*hook)(const char *) = qc_yield_hook;
    qc_yield_hook = NULL;
    looked = kt_look(looking, TARGET);
    qc_yield_hook = hook;
}

/* A writer looks while another is at any place of two changes, and a third change follows.
 * So it may see a deletion half done, or an insertion that is not counted yet. */
static void
test_K4_a_look_in_the_middle_of_a_change(void)
{
    const unsigned all = 2 * KEYS;
    unsigned looks = 0;
    for (unsigned mask = 0; mask < 1 << KEYS; mask += mask == 4 ? 1 : 2)
        for (unsigned changes = 0; changes < all * all * all; changes++)
            for (look_at = 0, look_n = 1; look_at < look_n; look_at++) {
                kt k = with_keys(hash_same, mask), writer = kt_join(&k);
                looking = &writer;
                look_n = 0;
                looked = (kt_miss){.missed = false};
                qc_yield_hook = look_there;
                change(&k, changes % all);
                change(&k, changes / all % all);
                qc_yield_hook = NULL;
                change(&k, changes / all / all);
                looks += looked.missed;
                kt_put_missed(&k, TARGET, looked, word_from_int(7));
                CHECK_EQ(how_often(&k, TARGET), 1);
                kt_delete(&k);
            }
    CHECK(looks > 1000);
}

/* ---- K9 ---- */

static bool
put_if_room(kt *k, uint64_t key)
{
    keytable *old;
    kt_lock(k);
    CHECK(retire_reserve(k->p.local, 1));
    bool room = keytable_make_room(k->map, true, &old);
    if (room) {
        if (old != NULL && !keytable_retire(old))
            retire_block(k->p.local, table_free, (uint64_t)(uintptr_t)old, old->bytes);
        keytable_insert(k->map, k->hash(key), word_from_pointer(box_new(KEY_MAGIC, key, key)),
                        word_from_int(1), KEYTABLE_NO_SLOT);
    }
    CHECK(room || old == NULL);
    kt_unlock(k);
    retire_commit(k->p.local);
    return room;
}

/* The largest table takes as many keys as it has room for and not one more, however they were
 * inserted and deleted before. */
static void
test_K9_the_largest_table_can_be_filled(void)
{
    const uint64_t slots = 4096, most = slots * 2 / 3;
    keytable_max_slots = slots;
    CHECK_EQ(KEYTABLE_MAX_KEYS, most);
    kt k = kt_new(hash_well);
    for (uint64_t key = 0; key < most; key++) {
        CHECK(put_if_room(&k, key));
        if (key > most / 2 - 10 && key % 50 == 0)
            for (uint64_t n = 0; n < 200; n++) { /* entries run out often */
                CHECK(kt_del(&k, key));
                CHECK(put_if_room(&k, key));
            }
        kt_safe_point(&k);
    }
    for (uint64_t n = 0; n < 3; n++) {
        CHECK(!put_if_room(&k, most + n));
        CHECK_EQ(keytable_len(k.map), most);
        CHECK_EQ(kt_get(&k, n), 1);
        CHECK(kt_del(&k, n)); /* makes room for one */
        CHECK(put_if_room(&k, most + n));
    }
    keymap map;
    CHECK(!keytable_init(&map, k.heap, most + 1));
    keytable_max_slots = KEYTABLE_MAX_SLOTS;
    kt_delete(&k);
}
#endif

int
main(void)
{
    harness_init(true);
    RUN(test_K1_one_key_takes_one_slot);
    RUN(test_K1_a_few_keys_take_a_few_slots);
    RUN(test_K1_keys_that_pass_through);
    RUN(test_K5_compaction_in_place);
    RUN(test_Q10_a_large_table_is_not_compacted);
    RUN(test_K4_a_key_goes_in_once);
    RUN(test_K4_only_new_entries_are_compared);
#ifdef QC_DEBUG
    RUN(test_K4_a_look_in_the_middle_of_a_change);
    RUN(test_K9_the_largest_table_can_be_filled);
#endif
    return 0;
}
