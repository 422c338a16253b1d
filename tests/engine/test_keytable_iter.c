/* K6, one step at a time: a cursor while its map changes in every way.
 *
 * modes: one
 */
#include "kt_place.h"

enum { KEYS = 2000 };

static uint64_t
hash_collide(uint64_t key)
{
    return key % 500;
}

static kt
filled(unsigned n)
{
    kt k = kt_new(hash_collide);
    for (uint64_t key = 0; key < n; key++)
        kt_set(&k, key, key);
    return k;
}

static void
test_K6_all_in_order(void)
{
    kt k = filled(KEYS);
    keytable_cursor c = kt_begin(&k);
    uint64_t n;
    for (uint64_t key = 0; key < KEYS; key++) {
        CHECK_EQ(kt_next(&k, &c, &n), kt_backwards ? KEYS - 1 - key : key);
        CHECK_EQ(n, kt_backwards ? KEYS - 1 - key : key);
    }
    for (int i = 0; i < 3; i++)
        CHECK_EQ(kt_next(&k, &c, &n), UINT64_MAX); /* and stays at the end */
    kt_end(&c);
    kt_delete(&k);
}

/* Between two steps: nothing, or one of these. */
static void
grow(kt *k)
{
    keytable *t = keytable_exclusive(k->map);
    for (uint64_t key = 1000000 + t->id * 10000; keytable_exclusive(k->map) == t; key++)
        kt_set(k, key, key);
}

static void
clear_and_refill(kt *k)
{
    kt_clear(k);
    for (uint64_t key = 0; key < KEYS; key += 3)
        kt_set(k, key, key + 10000);
}

static void
clear_for_good(kt *k)
{
    kt_clear(k);
}

static void
delete_and_insert_some(kt *k)
{
    for (uint64_t key = 1; key < KEYS; key += 2) {
        kt_del(k, key);
        kt_set(k, key, key + 10000);
    }
}

static void
delete_most(kt *k)
{
    for (uint64_t key = 0; key < KEYS; key++)
        if (key % 7 != 0)
            kt_del(k, key);
}

static void
assign_all(kt *k)
{
    for (uint64_t key = 0; key < KEYS; key++)
        kt_set(k, key, key + 20000);
}

static void
insert_more(kt *k)
{
    for (uint64_t key = KEYS; key < KEYS + 50; key++)
        kt_set(k, key, key);
}

typedef void (*change)(kt *k);
static const change changes[] = {grow,       clear_and_refill, clear_for_good,        delete_most,
                                 assign_all, insert_more,      delete_and_insert_some};

/* Never twice the same entry, never what is not there; what was there all along is
 * yielded, with a value it had since the beginning.  A key that came, or was deleted and
 * came back, is another entry: it may be yielded or not, or once more (its new box may
 * have the address of an old one whose entry the cursor has yet to pass). */
static void
iterate_with(const change *what, unsigned many, unsigned after)
{
    kt k = filled(KEYS);
    static bool seen[KEYS], gone[KEYS]; /* gone: deleted at some time */
    memset(seen, 0, sizeof seen);
    memset(gone, 0, sizeof gone);
    keytable_cursor c = kt_begin(&k);
    unsigned steps = 0;
    uint64_t n, key;
    while ((key = kt_next(&k, &c, &n)) != UINT64_MAX) {
        CHECK_EQ(kt_get(&k, key), n); /* there, now */
        if (key < KEYS) {
            CHECK(!seen[key] || gone[key]);
            CHECK(n == key || n == key + 10000 || n == key + 20000);
            seen[key] = true;
        }
        if (++steps == after) {
            for (unsigned i = 0; i < many; i++) {
                what[i](&k);
                /* Everything that can be freed is: what the cursor has must be its own. */
                retire_collect(k.p.local);
                for (unsigned j = 0; j < KEYS; j++)
                    gone[j] = gone[j] || what[i] == clear_and_refill ||
                              (what[i] == delete_and_insert_some && j % 2 == 1) ||
                              kt_get(&k, j) == UINT64_MAX;
            }
        }
        CHECK(steps <= KEYS);
    }
    for (key = 0; key < KEYS; key++)
        CHECK(seen[key] || gone[key]);
    kt_end(&c);
    kt_delete(&k);
}

static void
test_K6_one_change_at_any_time(void)
{
    static const unsigned when[] = {1, 2, 255, 256, 257, KEYS / 2, KEYS - 1, KEYS};
    for (unsigned i = 0; i < sizeof changes / sizeof *changes; i++)
        for (unsigned j = 0; j < sizeof when / sizeof *when; j++)
            iterate_with(&changes[i], 1, when[j]);
}

static void
test_K6_several_changes(void)
{
    uint64_t random = 5;
    for (uint64_t n = scaled(60); n > 0; n--) {
        change some[4];
        for (int i = 0; i < 4; i++)
            some[i] = changes[chance(&random) % (sizeof changes / sizeof *changes)];
        iterate_with(some, 4, 1 + (unsigned)(chance(&random) % KEYS));
    }
}

/* Tables that only cursors hold live as long as the last of them, whoever it is. */
static void
test_K6_cursors_pin_their_tables(void)
{
    enum { CURSORS = 6 };
    kt k = filled(10);
    keytable_cursor c[CURSORS];
    for (int i = 0; i < CURSORS; i++) {
        c[i] = kt_begin(&k);
        grow(&k);
        retire_collect(k.p.local);
    }
    uint64_t n;
    for (int i = CURSORS - 1; i >= 0; i--) {
        for (uint64_t key = 0; key < 10; key++)
            CHECK_EQ(kt_next(&k, &c[i], &n), key);
        kt_end(&c[i]);
    }
    kt_delete(&k); /* every table is freed: the heap is empty */
}

#ifdef QC_DEBUG
/* While it grows: at each word that is moved, a cursor goes over the whole table. */
static kt *at_hook;
static unsigned calls;

static void
iterate_now(const char *where)
{
    (void)where;
    void (*hook)(const char *) = qc_yield_hook;
    qc_yield_hook = NULL;
    keytable_cursor c = kt_begin(at_hook);
    uint64_t n;
    for (uint64_t key = 0; key < 21; key++)
        CHECK_EQ(kt_next(at_hook, &c, &n), key);
    CHECK_EQ(kt_next(at_hook, &c, &n), UINT64_MAX);
    kt_end(&c);
    calls++;
    qc_yield_hook = hook;
}

static void
test_K6_iteration_while_it_grows(void)
{
    kt k = filled(21);
    kt reader = kt_join(&k);
    CHECK_EQ(keytable_exclusive(k.map)->capacity, 21);
    at_hook = &reader;
    qc_yield_hook = iterate_now;
    qc_lock_acquire(&k.map->lock);
    keytable *old;
    CHECK(keytable_make_room(k.map, true, &old) && old != NULL);
    qc_lock_release(&k.map->lock);
    qc_yield_hook = NULL;
    CHECK(calls > 21);
    keytable_unref(old); /* nobody is in a section */
    kt_delete(&k);
}
#endif

/* An unshared map's table that is replaced says so if a cursor is there, which may be
 * another thread's next; else there is nobody to tell (T1). */
static void
test_K6_a_table_nobody_shares_says_that_it_was_replaced(void)
{
    kt k = filled(0);
    for (int with_cursor = 0; with_cursor < 2; with_cursor++) {
        keymap map;
        keytable *old = NULL, *t;
        uint64_t keys = 0;
        CHECK(keytable_init(&map, k.heap, 0));
        t = keytable_exclusive(&map);
        keytable_cursor c = {.table = NULL};
        qc_lock_acquire(&map.lock);
        for (; old == NULL; keys++) {
            if (with_cursor && keys == 3) {
                qsbr_enter(k.p.rec);
                keytable_cursor_init(&c, &map, k.p.rec);
                qsbr_exit(k.p.rec);
            }
            CHECK(keytable_make_room(&map, false, &old));
            keytable_insert(&map, keys % 2, 8 * (keys + 1), word_from_int((int64_t)keys),
                            KEYTABLE_NO_SLOT);
        }
        CHECK(old == t && keytable_locked(&map) != t);
        CHECK((qc_load_relaxed(&t->next) != NULL) == with_cursor);
        for (uint32_t i = 0; i < qc_load_relaxed(&keytable_counts(t)->used); i++)
            CHECK_EQ(qc_load_relaxed(&keytable_entries(t)[i].value),
                     with_cursor ? WORD_MOVED : word_from_int(i));
        qc_lock_release(&map.lock);
        keytable_unref(old);
        CHECK_EQ(keytable_len(&map), keys);
        if (with_cursor) {
            qc_word key, word;
            qsbr_enter(k.p.rec);
            for (uint64_t i = 0; i < 3; i++) {
                CHECK(keytable_step(&c, &map, k.p.rec, &key, &word) == KEYTABLE_ITEM);
                CHECK_EQ(key, 8 * (i + 1));
                CHECK_EQ(word, word_from_int((int64_t)i));
            }
            CHECK(keytable_step(&c, &map, k.p.rec, &key, &word) == KEYTABLE_END);
            qsbr_exit(k.p.rec);
            kt_end(&c);
        }
        keytable_unref(keytable_exclusive(&map));
    }
    kt_delete(&k);
}

#ifdef QC_DEBUG
/* While a cursor pins the table that it has found, another one pins it too; or the map
 * gets another table, and lets go of this one. */
static kt *at_pin;
static keytable_cursor second;
static bool pin_replaced;

static void
while_it_pins(const char *where)
{
    if (strcmp(where, "pin") != 0)
        return;
    qc_yield_hook = NULL;
    if (!pin_replaced) {
        keytable_cursor_init(&second, at_pin->map, at_pin->p.rec);
        return;
    }
    keytable *empty = keytable_new_empty(at_pin->heap);
    qc_lock_acquire(&at_pin->map->lock);
    keytable *old = keytable_swap(at_pin->map, empty);
    qc_lock_release(&at_pin->map->lock);
    CHECK(keytable_retire(old)); /* the last reference: nobody may have one again */
}

static void
test_K6_a_cursor_pins_what_is_still_there(void)
{
    kt k = filled(0);
    at_pin = &k;
    for (int i = 0; i < 2; i++) {
        keytable_cursor first;
        qsbr_enter(k.p.rec);
        keytable *t = keytable_in_section(k.map, k.p.rec);
        pin_replaced = i == 1;
        qc_yield_hook = while_it_pins;
        keytable_cursor_init(&first, k.map, k.p.rec);
        CHECK(qc_yield_hook == NULL);
        keytable *now = keytable_in_section(k.map, k.p.rec);
        CHECK(first.table == now);
        CHECK((now != t) == pin_replaced);
        CHECK_EQ(qc_load_relaxed(&now->refs), pin_replaced ? 2 : 3);
        if (pin_replaced)
            CHECK_EQ(qc_load_relaxed(&t->refs), 0);
        qsbr_exit(k.p.rec);
        kt_end(&first);
        if (!pin_replaced)
            kt_end(&second);
    }
    kt_delete(&k);
}
#endif

/* A small table that is replaced loses the map's reference at once, and what readers
 * still have of it waits in its page: for whom it was pinned, for as long as that. */
static void
test_K6_the_last_reference_retires_a_small_table(void)
{
    kt k = filled(5);
    stepper *r = reader_new(k.p.domain);
    uint64_t n, keys = 0;
    reader_enter(r);
    keytable_cursor c = kt_begin(&k);
    keytable *t = c.table;
    for (uint64_t key = 5; keytable_exclusive(k.map) == t; key++)
        kt_set(&k, key, key);
    CHECK(t->early && heap_is_small(t->bytes));
    CHECK_EQ(qc_load_relaxed(&t->refs), 1); /* the cursor's */
    while (kt_next(&k, &c, &n) != UINT64_MAX)
        keys++;
    CHECK_EQ(keys, 5);
    size_t bytes = t->bytes;
    uint64_t live = heap_live_bytes(k.heap);
    heap_figures before, after;
    heap_stats(k.heap, &before);
    kt_end(&c);
    CHECK_EQ(heap_live_bytes(k.heap), live - bytes);
    heap_stats(k.heap, &after);
    CHECK(after.retired_bytes >= before.retired_bytes + bytes); /* the reader is in */
    reader_exit(r);
    stepper_end(r);
    kt_delete(&k);
}

int
main(void)
{
    harness_init(true);
    RUN(test_K6_the_last_reference_retires_a_small_table);
    RUN(test_K6_all_in_order);
    RUN(test_K6_one_change_at_any_time);
    RUN(test_K6_several_changes);
    kt_backwards = true;
    RUN(test_K6_all_in_order);
    RUN(test_K6_one_change_at_any_time);
    RUN(test_K6_several_changes);
    kt_backwards = false;
    RUN(test_K6_cursors_pin_their_tables);
    RUN(test_K6_a_table_nobody_shares_says_that_it_was_replaced);
#ifdef QC_DEBUG
    RUN(test_K6_a_cursor_pins_what_is_still_there);
    RUN(test_K6_iteration_while_it_grows);
#endif
    return 0;
}
