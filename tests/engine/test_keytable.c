/* The key table's protocol, one step at a time: operations against a model, and
 * interleavings that are made to happen in a comparison (our match runs what
 * another thread would do) and at the yield hook of debug builds. */
#include "kt_place.h"

/* ---- against a model ---- */

static uint64_t
hash_same(uint64_t key)
{
    (void)key;
    return 42;
}

static uint64_t
hash_small(uint64_t key) /* as Python's ints */
{
    return key;
}

static uint64_t
hash_low_bits_same(uint64_t key)
{
    return key << 40 | 7;
}

static uint64_t
hash_tags_same(uint64_t key)
{
    return key % 3;
}

enum { MODEL_KEYS = 600 };

typedef struct {
    uint64_t n;
    uint64_t when; /* of insertion; 0: not there */
} model;

static void
check_model(kt *k, const model *m, unsigned keys, unsigned live)
{
    static uint64_t seen[MODEL_KEYS], numbers[MODEL_KEYS];
    CHECK_EQ(kt_snapshot(k, seen, numbers, MODEL_KEYS), live);
    CHECK_EQ(keytable_len(k->map), live);
    uint64_t last = 0;
    for (unsigned i = 0; i < live; i++) { /* K5 */
        const model *entry = &m[seen[i]];
        CHECK(entry->when > last);
        CHECK_EQ(numbers[i], entry->n);
        last = entry->when;
    }
    for (unsigned key = 0; key < keys; key++)
        CHECK_EQ(kt_get(k, key), m[key].when != 0 ? m[key].n : UINT64_MAX);
    qc_lock_acquire(&k->map->lock);
    keytable_check(k->map);
    qc_lock_release(&k->map->lock);
}

static uint64_t
last_inserted(const model *m, unsigned keys)
{
    uint64_t key = UINT64_MAX, last = 0;
    for (unsigned i = 0; i < keys; i++)
        if (m[i].when > last) {
            last = m[i].when;
            key = i;
        }
    return key;
}

static void
random_operations(uint64_t (*hash)(uint64_t), unsigned keys, bool alone)
{
    static model m[MODEL_KEYS];
    memset(m, 0, sizeof m);
    kt k = kt_new(hash);
    k.alone = alone;
    uint64_t random = 99, when = 0;
    unsigned live = 0;
    for (uint64_t n = scaled(20000); n > 0; n--) {
        uint64_t key = chance(&random) % keys, what = chance(&random) % 100;
        /* In phases that grow, and phases that shrink. */
        if (what < (n / 3000 % 2 ? 70u : 30u)) {
            kt_set(&k, key, n);
            if (m[key].when == 0) {
                m[key].when = ++when;
                live++;
            }
            m[key].n = n;
        }
        else if (what < 95) {
            CHECK_EQ(kt_del(&k, key), m[key].when != 0);
            live -= m[key].when != 0;
            m[key].when = 0;
        }
        else {
            uint64_t last = last_inserted(m, keys);
            CHECK_EQ(kt_popitem(&k), last);
            if (last != UINT64_MAX) {
                m[last].when = 0;
                live--;
            }
        }
        kt_safe_point(&k);
        if (n % 500 == 0)
            check_model(&k, m, keys, live);
        if (n % 7000 == 0) {
            kt_clear(&k);
            memset(m, 0, sizeof m);
            live = 0;
        }
    }
    check_model(&k, m, keys, live);
    kt_delete(&k);
}

static void
test_K1_K5_operations_as_of_a_model(void)
{
    for (int alone = 0; alone < 2; alone++) {
        random_operations(hash_well, MODEL_KEYS, alone);
        random_operations(hash_small, MODEL_KEYS, alone);
        random_operations(hash_low_bits_same, 100, alone);
        random_operations(hash_tags_same, 60, alone);
        random_operations(hash_same, 40, alone);
    }
}

/* Room for n means room for n, for any n; and impossible sizes are refused. */
static void
test_sizes(void)
{
    kt k = kt_new(hash_small);
    for (unsigned n = 0; n < 300; n++) {
        keymap map;
        CHECK(keytable_init(&map, k.heap, n));
        keytable *t = keytable_exclusive(&map), *old;
        CHECK(t->capacity >= n);
        CHECK_EQ((uintptr_t)keytable_entries(t) % 8, 0); /* K1: words are loaded whole */
        qc_lock_acquire(&map.lock);
        for (unsigned i = 0; i < n; i++) {
            CHECK(keytable_make_room(&map, false, &old) && old == NULL);
            keytable_insert(&map, i * 7, 8 * (i + 1), word_from_int(i), KEYTABLE_NO_SLOT);
        }
        qc_lock_release(&map.lock);
        CHECK_EQ(keytable_len(&map), n);
        keytable_unref(t);
    }
    keymap map;
    CHECK(!keytable_init(&map, k.heap, UINT64_MAX));
    CHECK(!keytable_init(&map, k.heap, KEYTABLE_MAX_SLOTS));
    CHECK(!keytable_init(&map, k.heap, KEYTABLE_MAX_SLOTS / 3 * 2 + 3));
    kt_delete(&k);
}

/* K7: a copy has the live entries in order, with their hashes, and can be a map's table. */
static void
test_K7_a_copy_is_a_table_of_its_own(void)
{
    for (uint64_t n = 0; n < 200; n += 7) {
        kt k = kt_new(hash_same);
        for (uint64_t key = 0; key < n; key++)
            kt_set(&k, key, key);
        for (uint64_t key = 0; key < n; key += 3)
            kt_del(&k, key);
        qc_lock_acquire(&k.map->lock);
        keytable_freezing freezing = kt_freeze(&k);
        keytable *copy = keytable_copy(k.map);
        keytable_thaw(k.map, freezing);
        qc_lock_release(&k.map->lock);
        CHECK(copy != NULL && copy != keytable_exclusive(k.map));
        uint32_t used = qc_load_relaxed(&keytable_counts(copy)->used);
        CHECK_EQ(used, keytable_len(k.map));
        for (uint32_t i = 0; i < used; i++) {
            keytable_entry *e = &keytable_entries(copy)[i];
            uint64_t key = i / 2 * 3 + i % 2 + 1;
            CHECK_EQ(box_check(e->key, KEY_MAGIC)->key, key);
            CHECK_EQ(e->hash, hash_same(key));
            CHECK_EQ(box_check(qc_load_relaxed(&e->value), VALUE_MAGIC)->n, key);
        }
        keymap other;
        keytable_init_with(&other, copy);
        CHECK_EQ(keytable_len(&other), used);
        qc_lock_acquire(&other.lock);
        keytable *old;
        CHECK(keytable_make_room(&other, false, &old));
        keytable_insert(&other, 5, 8, word_from_int(5), KEYTABLE_EMPTY);
        qc_lock_release(&other.lock);
        CHECK_EQ(keytable_len(&other), used + 1);
        CHECK_EQ(keytable_len(k.map), used);
        if (old != NULL)
            keytable_unref(old);
        keytable_unref(keytable_exclusive(&other)); /* its references are the first map's */
        kt_delete(&k);
    }
}

#ifdef QC_DEBUG
static void
test_no_memory_changes_nothing(void)
{
    kt k = kt_new(hash_well);
    unsigned refused = 0;
    for (uint64_t key = 0; key < 1000; key++) {
        keytable *old, *t = keytable_exclusive(k.map);
        qc_lock_acquire(&k.map->lock);
        heap_fail_at(1, false);
        bool room = keytable_make_room(k.map, true, &old);
        heap_fail_at(0, false);
        CHECK(old == NULL && keytable_locked(k.map) == t);
        refused += !room;
        CHECK_EQ(room, qc_load_relaxed(&keytable_counts(t)->used) < t->capacity);
        qc_lock_release(&k.map->lock);
        CHECK_EQ(kt_get(&k, key), UINT64_MAX);
        CHECK_EQ(keytable_len(k.map), key);
        kt_set(&k, key, key);
        CHECK_EQ(kt_get(&k, key / 2), key / 2);
        kt_safe_point(&k);
    }
    CHECK(refused > 5);
    keymap map;
    heap_fail_at(1, false);
    CHECK(!keytable_init(&map, k.heap, 10));
    heap_fail_at(1, false);
    qc_lock_acquire(&k.map->lock);
    CHECK(keytable_copy(k.map) == NULL);
    qc_lock_release(&k.map->lock);
    heap_fail_at(0, false);
    kt_delete(&k);
}
#endif

/* ---- K1: what happens while a reader compares ---- */

static kt *other;       /* the way of the "other thread": of this one, by the lock */
static uint64_t target; /* the key that the reader looks for */

static uint64_t
hash_collide(uint64_t key)
{
    return key % 2;
}

static void
delete_it(void)
{
    CHECK(kt_del(other, target));
}

static void
delete_and_insert_it(void)
{
    delete_it();
    kt_set(other, target, 1000);
}

/* Another key takes the target's old slot, and the target comes back in a later slot. */
static void
delete_it_and_let_another_in_first(void)
{
    delete_it();
    kt_set(other, target + 1000, 0);
    kt_set(other, target, 1000);
}

/* The target comes back in a slot that the reader has passed. */
static void
delete_it_and_insert_it_before(void)
{
    for (uint64_t i = 0; i < 12; i++)
        CHECK_EQ(kt_del(other, i), true);
    kt_set(other, target, 1000);
    for (uint64_t i = 0; i < 12; i++)
        kt_set(other, i, i == target ? 1000 : i);
}

static void
assign_it(void)
{
    CHECK(kt_assign(other, target, word_from_pointer(box_new(VALUE_MAGIC, target, 2000))));
}

static void
grow(void)
{
    keytable *t = keytable_exclusive(other->map);
    for (uint64_t key = 1000000; keytable_exclusive(other->map) == t; key += 2)
        kt_set(other, key + t->id * 1000, 0);
}

static void
grow_and_assign_it(void)
{
    grow();
    assign_it();
}

static void
assign_it_and_grow_three_times(void)
{
    assign_it();
    grow();
    grow();
    grow();
}

static void
grow_delete_and_insert_it(void)
{
    grow();
    delete_and_insert_it();
    grow();
}

static void
grow_and_delete_it(void)
{
    grow();
    delete_it();
    grow();
}

static void
clear_it(void)
{
    /* By another thread's record: who waits for a grace period is in no section, and
     * this one's reader is.  So without freezing, which is K7's business. */
    CHECK(retire_reserve(other->p.local, 1));
    keytable *empty = keytable_new_empty(other->heap);
    qc_lock_acquire(&other->map->lock);
    keytable *old = keytable_swap(other->map, empty);
    qc_lock_release(&other->map->lock);
    retire_block(other->p.local, table_free_with_contents, (uint64_t)(uintptr_t)old, old->bytes);
    retire_commit(other->p.local);
}

/* The reader compares with `target`, and before the comparison is over somebody does
 * `meanwhile`: it must find `expected`. */
static void
reader_meets(void (*meanwhile)(void), uint64_t expected)
{
    for (uint64_t key = 0; key < 12; key++) {
        kt k = kt_new(hash_collide), writer = kt_join(&k);
        for (uint64_t i = 0; i < 12; i++)
            kt_set(&k, i, i);
        other = &writer;
        target = key;
        k.in_match = meanwhile;
        uint64_t got = kt_get(&k, key);
        CHECK(k.in_match == NULL);
        CHECK_EQ(got, expected == 0 ? key : expected);
        for (uint64_t i = 0; meanwhile != clear_it && i < 12; i++) /* the others are there */
            if (i != key)
                CHECK_EQ(kt_get(&k, i), i);
        retire_drain(k.p.local);
        kt_delete(&k);
    }
}

static void
test_K1_reader_meets_a_change(void)
{
    reader_meets(delete_it, UINT64_MAX);
    /* The reader misses a key that was absent meanwhile and came back in a slot used again .. */
    reader_meets(delete_and_insert_it, UINT64_MAX);
    reader_meets(delete_it_and_insert_it_before, UINT64_MAX);
    /* .. and goes on from a DELETED word, since the key may have come back further on. */
    reader_meets(delete_it_and_let_another_in_first, 1000);
    reader_meets(assign_it, 2000);
    reader_meets(grow, 0);
    reader_meets(grow_and_assign_it, 2000);
    reader_meets(assign_it_and_grow_three_times, 2000);
    reader_meets(grow_delete_and_insert_it, 1000);
    reader_meets(grow_and_delete_it, UINT64_MAX);
    reader_meets(clear_it, 0); /* before the clear, as it began before */
}

static void
test_K1_a_table_is_told_by_its_id(void)
{
    kt k = kt_new(hash_small);
    keytable *a = keytable_new_empty(k.heap), *b = keytable_new_empty(k.heap);
    CHECK(a->id != b->id);
    qc_store_relaxed(&a->index[3], 5u);
    qc_store_relaxed(&b->index[3], 5u);
    CHECK(keytable_unchanged(a, a->id, 3, 5));
    CHECK(!keytable_unchanged(b, a->id, 3, 5)); /* as if at the same address */
    qc_store_relaxed(&a->index[3], KEYTABLE_DUMMY);
    CHECK(!keytable_unchanged(a, a->id, 3, 5));
    keytable_unref(a);
    keytable_unref(b);
    kt_delete(&k);
}

/* What a match answers is passed on, from wherever in the chain. */
static keytable_result answer;

static keytable_result
match_answers(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    (void)ctx, (void)t, (void)e, (void)slot;
    return answer;
}

static void
test_K1_errors_and_changes_are_passed_on(void)
{
    kt k = kt_new(hash_same);
    keytable_pos pos = {.word = WORD_EMPTY};
    for (uint64_t i = 0; i < 5; i++)
        kt_set(&k, i, i);
    qsbr_enter(k.p.rec);
    keytable *t = keytable_in_section(k.map, k.p.rec);
    for (int i = 0; i < 2; i++) {
        answer = i == 0 ? KEYTABLE_ERROR : KEYTABLE_CHANGED;
        CHECK(keytable_find(t, 42, match_answers, NULL, &pos) == answer);
    }
    answer = KEYTABLE_MISS;
    CHECK(keytable_find(t, 42, match_answers, NULL, &pos) == KEYTABLE_MISS);
    qsbr_exit(k.p.rec);
    kt_delete(&k);
}

/* ---- K2 ---- */

static void
test_K2_assignment_from_a_live_word_only(void)
{
    kt k = kt_new(hash_well);
    keytable_pos pos;
    kt_set_int(&k, 1, 10);
    qsbr_enter(k.p.rec);
    CHECK(kt_find(&k, 1, &pos) == KEYTABLE_HIT);
    qc_word seen = pos.word;
    CHECK(keytable_assign(pos.entry, &seen, word_from_int(11)));
    CHECK(!keytable_assign(pos.entry, &seen, word_from_int(12))); /* it is 11 now */
    CHECK_EQ(seen, word_from_int(11));
    qsbr_exit(k.p.rec);
    CHECK_EQ(kt_get(&k, 1), 11);
    CHECK(kt_del(&k, 1));
    CHECK(!keytable_assign(pos.entry, &seen, word_from_int(13)));
    CHECK_EQ(seen, WORD_DELETED);
    CHECK_EQ(kt_get(&k, 1), UINT64_MAX);

    kt_set_int(&k, 2, 20);
    qsbr_enter(k.p.rec);
    CHECK(kt_find(&k, 2, &pos) == KEYTABLE_HIT);
    other = &k;
    grow();
    seen = pos.word;
    CHECK(!keytable_assign(pos.entry, &seen, word_from_int(21)));
    CHECK_EQ(seen, WORD_MOVED);
    CHECK(kt_find(&k, 2, &pos) == KEYTABLE_HIT && pos.word == word_from_int(20));
    qsbr_exit(k.p.rec);
    kt_delete(&k);
}

/* ---- K4 ---- */

/* Deleting what one has seen: not if it was assigned to since, without the lock (K2). */
static void
test_K4_deletion_of_the_word_that_was_seen(void)
{
    kt k = kt_new(hash_collide);
    kt_probe probe = {&k, 1};
    keytable_pos pos;
    for (uint64_t key = 0; key < 4; key++)
        kt_set_int(&k, key, 10);
    kt_lock(&k);
    keytable *t = keytable_locked(k.map);
    CHECK(keytable_probe(t, hash_collide(1), kt_match, &probe, &pos) == KEYTABLE_HIT);
    qc_word boxed = pos.entry->key;
    kt_unlock(&k);
    CHECK(kt_assign(&k, 1, word_from_int(11)));
    kt_lock(&k);
    CHECK(!keytable_delete_if(k.map, &pos, word_from_int(10)));
    kt_unlock(&k);
    CHECK_EQ(kt_get(&k, 1), 11);
    CHECK_EQ(keytable_len(k.map), 4);
    CHECK(retire_reserve(k.p.local, 2));
    kt_lock(&k);
    CHECK(keytable_delete_if(k.map, &pos, word_from_int(11)));
    kt_unlock(&k);
    kt_drop(&k, boxed, word_from_int(11));
    retire_commit(k.p.local);
    CHECK_EQ(kt_get(&k, 1), UINT64_MAX);
    CHECK_EQ(keytable_len(k.map), 3);
    for (uint64_t key = 0; key < 4; key++) /* nor is the slot in anybody's way */
        CHECK_EQ(kt_get(&k, key), key == 1 ? UINT64_MAX : 10);
    kt_set_int(&k, 1, 12);
    CHECK_EQ(kt_get(&k, 1), 12);
    kt_delete(&k);
}

/* ---- the yield hook: another thread's operations at every published store ---- */

#ifdef QC_DEBUG
enum { GROWING = 21 }; /* fills a table of 32 slots */

static kt *at_hook;
static unsigned hook_at, hook_n;
static uint64_t hook_key;
static bool hook_ran;

/* At the hook_at-th yield: assigns to hook_key, and reads everything. */
static void
assign_and_read(const char *where)
{
    (void)where;
    if (hook_n++ != hook_at)
        return;
    void (*hook)(const char *) = qc_yield_hook;
    qc_yield_hook = NULL;
    hook_ran = true;
    CHECK(kt_assign(at_hook, hook_key, word_from_pointer(box_new(VALUE_MAGIC, hook_key, 5000))));
    for (uint64_t key = 0; key < GROWING; key++) {
        CHECK_EQ(kt_get(at_hook, key), key == hook_key ? 5000 : key);
        CHECK(kt_is_there(at_hook, key));
    }
    CHECK_EQ(kt_get(at_hook, 777777), UINT64_MAX);
    CHECK(!kt_is_there(at_hook, 777777));
    qc_yield_hook = hook;
}

static kt
full_table(uint64_t (*hash)(uint64_t))
{
    kt k = kt_new(hash);
    for (uint64_t key = 0; key < GROWING; key++)
        kt_set(&k, key, key);
    keytable *t = keytable_exclusive(k.map);
    CHECK_EQ(qc_load_relaxed(&keytable_counts(t)->used), t->capacity);
    return k;
}

/* For every store that growing publishes, and every key. */
static void
test_K3_assignments_while_it_grows(void)
{
    unsigned places = 0;
    for (bool more = true; more; places++) {
        more = false;
        for (hook_key = 0; hook_key < GROWING; hook_key++) {
            kt k = full_table(hash_collide), writer = kt_join(&k);
            retire_queue *queue = retire_queue_new(k.p.domain); /* a local of its own */
            writer.p.queue = queue;
            join_place(&writer.p);
            at_hook = &writer;
            hook_at = places;
            hook_n = 0;
            hook_ran = false;
            qc_yield_hook = assign_and_read;
            kt_put(&k, 100, word_from_pointer(box_new(VALUE_MAGIC, 100, 100)));
            qc_yield_hook = NULL;
            for (uint64_t key = 0; key < GROWING; key++)
                CHECK_EQ(kt_get(&k, key), hook_ran && key == hook_key ? 5000 : key);
            CHECK_EQ(kt_get(&k, 100), 100);
            more = more || hook_ran;
            retire_drain(writer.p.local);
            retire_queue_unref(queue);
            kt_delete(&k);
        }
    }
    CHECK(places > GROWING); /* one for each moved word, and more */
}

static const char *hook_place;

static void
look_while(const char *where)
{
    if (strcmp(where, hook_place) != 0)
        return;
    hook_ran = true;
    uint64_t got = kt_get(at_hook, target);
    CHECK_EQ(got, UINT64_MAX); /* not there yet, or no more */
    for (uint64_t key = 0; key < 10; key++)
        CHECK_EQ(kt_get(at_hook, key), key);
}

/* An insertion that is not published is not seen; a deletion is, from its first store
 * on, and hides none of the others. */
static void
test_K4_half_done_operations(void)
{
    kt k = kt_new(hash_collide), reader = kt_join(&k);
    at_hook = &reader;
    for (uint64_t key = 0; key < 20; key++)
        kt_set(&k, key, key);
    for (target = 10; target < 20; target++) {
        hook_place = "delete";
        hook_ran = false;
        qc_yield_hook = look_while;
        CHECK(kt_del(&k, target));
        qc_yield_hook = NULL;
        CHECK(hook_ran);
        hook_place = "insert";
        hook_ran = false;
        qc_yield_hook = look_while;
        kt_set(&k, target, target);
        qc_yield_hook = NULL;
        CHECK(hook_ran);
        CHECK_EQ(kt_get(&k, target), target);
    }
    kt_delete(&k);
}
#endif

/* K4: who finds the lock held waits for the count of the operation under way. */
static void
ask_len(void *arg)
{
    kt *k = arg;
    ran[0] = keytable_len(k->map);
}

static void
test_K4_len_is_exact(void)
{
    kt k = kt_new(hash_well);
    stepper *s = stepper_new();
    for (uint64_t key = 0; key < 10; key++) {
        CHECK(retire_reserve(k.p.local, 2));
        qc_lock_acquire(&k.map->lock);
        stepper_start(s, ask_len, &k);
        sleep_ms(3);
        CHECK(stepper_busy(s)); /* an insertion may be published and not counted */
        kt_put_locked(&k, key, word_from_int(1));
        qc_lock_release(&k.map->lock);
        retire_commit(k.p.local);
        stepper_wait(s);
        CHECK_EQ(ran[0], key + 1);
        stepper_run(s, ask_len, &k);
        CHECK_EQ(ran[0], key + 1);
    }
    stepper_end(s);
    kt_delete(&k);
}

/* ---- K7 ---- */

typedef struct {
    kt k;
    keytable_pos pos;
    bool frozen, assigned;
    stepper *s;
} assigner;

static void
assigner_begins(void *arg)
{
    assigner *a = arg;
    a->k = kt_join(&a->k);
    qsbr_enter(a->k.p.rec);
    a->frozen = keytable_is_frozen(a->k.map);
    CHECK(kt_find(&a->k, 1, &a->pos) == KEYTABLE_HIT);
}

static void
assigner_goes_on(void *arg)
{
    assigner *a = arg;
    a->assigned = !a->frozen && keytable_assign(a->pos.entry, &a->pos.word, word_from_int(2));
    qsbr_exit(a->k.p.rec);
}

static keytable_freezing frozen_here;

static void
take_and_freeze(void *arg)
{
    kt *k = arg;
    qc_lock_acquire(&k->map->lock);
    frozen_here = kt_freeze(k);
}

static void
thaw_and_release(void *arg)
{
    kt *k = arg;
    keytable_thaw(k->map, frozen_here);
    qc_lock_release(&k->map->lock);
}

static void
test_K7_freezing_waits_for_assignments_under_way(void)
{
    kt k = kt_new(hash_well);
    kt_set_int(&k, 1, 1);
    assigner before = {.k = k, .s = stepper_new()}, after = {.k = k, .s = stepper_new()};
    stepper *copier = stepper_new();

    stepper_run(before.s, assigner_begins, &before);
    CHECK(!before.frozen);
    stepper_start(copier, take_and_freeze, &k);
    sleep_ms(20);
    CHECK(stepper_busy(copier)); /* not yet one moment: an assignment may come */
    stepper_run(after.s, assigner_begins, &after);
    CHECK(after.frozen); /* to the lock with it */
    stepper_run(before.s, assigner_goes_on, &before);
    CHECK(before.assigned);
    stepper_wait(copier); /* `after` holds nothing up, it will not assign */
    stepper_run(after.s, assigner_goes_on, &after);
    CHECK(!after.assigned);
    CHECK_EQ(kt_get(&k, 1), 2); /* readers notice nothing */
    stepper_run(copier, thaw_and_release, &k);
    CHECK(!keytable_is_frozen(k.map));
    CHECK(kt_assign(&k, 1, word_from_int(3)));
    stepper_end(copier);
    stepper_end(before.s);
    stepper_end(after.s);
    kt_delete(&k);
}

/* A thread that copies and finds a reader stopped releases the lock, and the flag stays set. */
static void
test_K7_a_freeze_outlives_the_lock(void)
{
    kt k = kt_new(hash_well);
    kt_set_int(&k, 1, 1);
    assigner before = {.k = k, .s = stepper_new()}, after = {.k = k, .s = stepper_new()};
    stepper_run(before.s, assigner_begins, &before);
    kt_lock(&k);
    keytable_freezing freezing = keytable_freeze(k.map, k.p.domain);
    CHECK(!qsbr_poll(k.p.domain, freezing.goal));
    kt_unlock(&k);

    kt_set_int(&k, 7, 7); /* other threads take the lock and change the map */
    CHECK(kt_del(&k, 7));
    stepper_run(after.s, assigner_begins, &after);
    CHECK(after.frozen && !qsbr_poll(k.p.domain, freezing.goal));
    stepper_run(before.s, assigner_goes_on, &before);
    CHECK(before.assigned);
    CHECK(qsbr_poll(k.p.domain, freezing.goal)); /* the goal does not wait for `after` */
    kt_lock(&k);
    CHECK(keytable_freeze_holds(freezing));
    stepper_run(after.s, assigner_goes_on, &after);
    CHECK(!after.assigned && kt_get(&k, 1) == 2);
    keytable_thaw(k.map, freezing);
    CHECK(!keytable_is_frozen(k.map));
    kt_unlock(&k);
    stepper_end(before.s);
    stepper_end(after.s);
    kt_delete(&k);
}

static void
test_K7_freezes_of_several_threads_are_counted(void)
{
    kt k = kt_new(hash_well);
    keytable_freezing freezings[5];
    for (int i = 0; i < 5; i++)
        freezings[i] = keytable_freeze(k.map, k.p.domain);
    for (int i = 0; i < 5; i++) {
        CHECK(keytable_is_frozen(k.map)); /* by the freezes that are left */
        keytable_forget_freezes(k.map);   /* no effect: their threads live */
        keytable_thaw(k.map, freezings[i]);
    }
    CHECK(!keytable_is_frozen(k.map));
    kt_delete(&k);
}

/* In the child no freeze from before the fork holds, not even the forking thread's. */
typedef struct {
    kt *k;
    keytable_freezing freezing;
} frozen_before;

static void
child_freezes_anew(void *arg)
{
    frozen_before *f = arg;
    keymap *map = f->k->map;
    CHECK(!keytable_freeze_holds(f->freezing));
    CHECK(keytable_is_frozen(map));
    keytable_freezing mine = keytable_freeze(map, f->k->p.domain);
    CHECK(keytable_freeze_holds(mine));
    keytable_thaw(map, f->freezing);
    keytable_forget_freezes(map);
    CHECK(keytable_is_frozen(map)); /* mine */
    keytable_thaw(map, mine);
    CHECK(!keytable_is_frozen(map));
}

static void
child_assigns(void *arg)
{
    frozen_before *f = arg;
    CHECK(keytable_is_frozen(f->k->map));
    keytable_forget_freezes(f->k->map);
    CHECK(!keytable_is_frozen(f->k->map));
    in_child(child_freezes_anew, &(frozen_before){f->k, keytable_freeze(f->k->map, &qsbr_process)});
}

static void
test_Q10_a_freeze_from_before_a_fork(void)
{
    kt k = kt_new(hash_well);
    for (unsigned threads = 1; threads <= 3; threads++) {
        frozen_before f = {.k = &k};
        for (unsigned i = 0; i < threads; i++)
            f.freezing = keytable_freeze(k.map, k.p.domain);
        in_child(child_freezes_anew, &f);
        in_child(child_assigns, &f);
        for (unsigned i = 0; i < threads; i++)
            keytable_thaw(k.map, f.freezing);
        CHECK(!keytable_is_frozen(k.map));
    }
    kt_delete(&k);
}

int
main(void)
{
    harness_init(true);
    RUN(test_K1_K5_operations_as_of_a_model);
    RUN(test_sizes);
    RUN(test_K7_a_copy_is_a_table_of_its_own);
    RUN(test_K1_reader_meets_a_change);
    RUN(test_K1_a_table_is_told_by_its_id);
    RUN(test_K1_errors_and_changes_are_passed_on);
    RUN(test_K2_assignment_from_a_live_word_only);
    RUN(test_K4_deletion_of_the_word_that_was_seen);
#ifdef QC_DEBUG
    RUN(test_no_memory_changes_nothing);
    RUN(test_K3_assignments_while_it_grows);
    RUN(test_K4_half_done_operations);
#endif
    RUN(test_K4_len_is_exact);
    RUN(test_K7_freezing_waits_for_assignments_under_way);
    RUN(test_K7_a_freeze_outlives_the_lock);
    RUN(test_K7_freezes_of_several_threads_are_counted);
    RUN(test_Q10_a_freeze_from_before_a_fork);
    return 0;
}
