/* A small dict of boxed keys and values on the key table, in plain C: what the
 * Python layer does, without Python.  Boxes are poisoned before they are freed, and
 * every look at one checks its magic number.
 */
#ifndef ENGINE_KT_PLACE_H
#define ENGINE_KT_PLACE_H

#include <string.h>

#include "containers/keytable_iter.h"
#include "containers/keytable_values.h"
#include "retire_place.h"

#define KEY_MAGIC UINT64_C(0x6b65796b65796b65)
#define VALUE_MAGIC UINT64_C(0x76616c756576616c)

typedef struct {
    uint64_t magic;
    uint64_t key; /* a value's: of whom */
    uint64_t n;   /* a value's */
    uint64_t again[5];
} box;

/* The map, and one thread's way to it. */
typedef struct {
    keymap *map;
    heap *heap;
    uint64_t (*hash)(uint64_t key);
    place p;
    void (*in_match)(void); /* once, in the next comparison that hits */
    bool alone;             /* no other thread reads: tables are compacted in place */
} kt;

static _Atomic int64_t boxes; /* that live */

static inline box *
box_new(uint64_t magic, uint64_t key, uint64_t n)
{
    box *b = malloc(sizeof *b);
    CHECK(b != NULL);
    *b = (box){.magic = magic, .key = key, .n = n};
    for (int i = 0; i < 5; i++)
        b->again[i] = n;
    qc_add_relaxed(&boxes, 1);
    return b;
}

/* Through a volatile pointer, so that the compiler cannot leave the stores out. */
static inline void
box_free(uint64_t word)
{
    volatile uint64_t *p = (uint64_t *)(uintptr_t)word;
    CHECK(p[0] == KEY_MAGIC || p[0] == VALUE_MAGIC);
    for (size_t i = 0; i < sizeof(box) / sizeof *p; i++)
        p[i] = UINT64_C(0xDBDBDBDBDBDBDBDB);
    free((void *)p);
    qc_sub_relaxed(&boxes, 1);
}

static inline box *
box_check(qc_word word, uint64_t magic)
{
    CHECK(word_is_live(word) && word_is_pointer(word));
    box *b = word_to_pointer(word);
    CHECK_EQ(b->magic, magic);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(b->again[i], b->n);
    return b;
}

/* A word is a box, or an int. */
static inline void
word_free(qc_word word)
{
    if (word_is_pointer(word))
        box_free(word);
}

typedef struct {
    kt *k;
    uint64_t key;
} kt_probe;

static inline keytable_result
kt_match(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    kt_probe *probe = ctx;
    (void)t;
    (void)slot;
    if (box_check(e->key, KEY_MAGIC)->key != probe->key)
        return KEYTABLE_MISS;
    void (*in_match)(void) = probe->k->in_match;
    if (in_match != NULL) {
        probe->k->in_match = NULL;
        in_match();
    }
    return KEYTABLE_HIT;
}

static inline uint64_t
hash_well(uint64_t key)
{
    uint64_t state = key * 2 + 1;
    return chance(&state);
}

/* ---- map and threads ---- */

static inline kt
kt_new(uint64_t (*hash)(uint64_t))
{
    kt k = {.p = place_new(), .hash = hash};
    k.heap = heap_new(k.p.domain);
    k.map = malloc(sizeof *k.map);
    CHECK(k.map != NULL && k.heap != NULL && keytable_init(k.map, k.heap, 0));
    return k;
}

/* The same for the calling thread. */
static inline kt
kt_join(const kt *k)
{
    kt mine = *k;
    mine.in_match = NULL;
    join_place(&mine.p);
    return mine;
}

/* The queue's items: tables, and all that is in one. */
static inline void
table_free(uint64_t arg)
{
    keytable_unref((keytable *)(uintptr_t)arg);
}

static inline void
table_free_with_contents(uint64_t arg)
{
    keytable *t = (keytable *)(uintptr_t)arg;
    keytable_entry *e = keytable_entries(t);
    for (uint32_t i = 0; i < qc_load_acquire(&keytable_counts(t)->used); i++) {
        qc_word word = qc_load_acquire(&e[i].value);
        if (word != WORD_DELETED) {
            CHECK(word_is_live(word));
            word_free(word);
            box_free(e[i].key);
        }
    }
    keytable_unref(t);
}

/* All threads but the caller are gone. */
static inline void
kt_delete(kt *k)
{
    table_free_with_contents((uint64_t)(uintptr_t)keytable_exclusive(k->map));
    retire_drain(k->p.local);
    CHECK_EQ(qc_load_relaxed(&boxes), 0);
    CHECK_EQ(heap_live_bytes(k->heap), 0);
    heap_delete(k->heap);
    free(k->map);
    place_delete(&k->p);
}

static inline void
kt_safe_point(kt *k)
{
    if (qsbr_safe_point_is_due(k->p.rec))
        retire_process(k->p.local);
}

/* ---- operations ---- */

/* In a section. */
static inline keytable_result
kt_find(kt *k, uint64_t key, keytable_pos *pos)
{
    kt_probe probe = {k, key};
    keytable *t = keytable_in_section(k->map, k->p.rec);
    return keytable_find(t, k->hash(key), kt_match, &probe, pos);
}

/* The value's n, or UINT64_MAX; ints as they are. */
static inline uint64_t
kt_get(kt *k, uint64_t key)
{
    keytable_pos pos;
    uint64_t n = UINT64_MAX;
    qsbr_enter(k->p.rec);
    keytable_result r = kt_find(k, key, &pos);
    CHECK(r == KEYTABLE_HIT || r == KEYTABLE_MISS);
    if (r == KEYTABLE_HIT) {
        CHECK(word_is_live(pos.word));
        if (word_is_int(pos.word)) {
            n = (uint64_t)word_to_int(pos.word);
        }
        else {
            box *b = box_check(pos.word, VALUE_MAGIC);
            CHECK_EQ(b->key, key);
            n = b->n;
        }
    }
    qsbr_exit(k->p.rec);
    return n;
}

/* A comparison that leaves the section and comes back, as one does that runs Python code. */
static inline keytable_result
kt_match_outside(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    kt_probe *probe = ctx;
    uint64_t id = t->id, key = box_check(e->key, KEY_MAGIC)->key;
    uint32_t slot_value = qc_load_relaxed(&t->index[slot]);
    qsbr_exit(probe->k->p.rec);
    qsbr_enter(probe->k->p.rec);
    keytable *now = keytable_in_section(probe->k->map, probe->k->p.rec);
    if (!keytable_unchanged(now, id, slot, slot_value))
        return KEYTABLE_CHANGED;
    return key == probe->key ? KEYTABLE_HIT : KEYTABLE_MISS;
}

/* Found by such comparisons, where nobody else goes on: none is made in vain. */
static inline bool
kt_is_there(kt *k, uint64_t key)
{
    kt_probe probe = {k, key};
    keytable_pos pos;
    qsbr_enter(k->p.rec);
    keytable *t = keytable_in_section(k->map, k->p.rec);
    keytable_result r = keytable_find(t, k->hash(key), kt_match_outside, &probe, &pos);
    qsbr_exit(k->p.rec);
    CHECK(r == KEYTABLE_HIT || r == KEYTABLE_MISS);
    return r == KEYTABLE_HIT;
}

/* With nothing reserved.  Q10: what a thread that is gone had in hand is put right. */
static inline void
kt_lock(kt *k)
{
    if (qc_lock_acquire(&k->map->lock) == QC_LOCK_TAKEN)
        return;
    keytable *old = keytable_mend(k->map);
    qc_lock_release(&k->map->lock);
    if (old != NULL) {
        CHECK(retire_reserve(k->p.local, 1));
        retire_block(k->p.local, table_free, (uint64_t)(uintptr_t)old, old->bytes);
        retire_commit(k->p.local);
    }
    CHECK_EQ(qc_lock_acquire(&k->map->lock), QC_LOCK_TAKEN);
}

static inline void
kt_unlock(kt *k)
{
    qc_lock_release(&k->map->lock);
}

/* With the lock and a reservation: inserts a key that is not there, at keytable_place's slot. */
static inline void
kt_insert_locked(kt *k, uint64_t key, qc_word word, uint32_t slot)
{
    keytable *old, *was = keytable_locked(k->map);
    if (k->alone && !keytable_has_room(k->map) && keytable_compact(k->map, k->p.rec))
        slot = KEYTABLE_NO_SLOT;
    CHECK(keytable_make_room(k->map, true, &old));
    CHECK_EQ(keytable_locked(k->map) == was, old == NULL);
    if (old != NULL && !keytable_retire(old))
        retire_block(k->p.local, table_free, (uint64_t)(uintptr_t)old, old->bytes);
    qc_word boxed = word_from_pointer(box_new(KEY_MAGIC, key, key));
    keytable_insert(k->map, k->hash(key), boxed, word, old == NULL ? slot : KEYTABLE_NO_SLOT);
}

/* The same for a key that may be there: returns the old word or WORD_EMPTY. */
static inline qc_word
kt_put_locked(kt *k, uint64_t key, qc_word word)
{
    kt_probe probe = {k, key};
    keytable_pos pos;
    if (keytable_probe(keytable_locked(k->map), k->hash(key), kt_match, &probe, &pos) ==
        KEYTABLE_HIT)
        return keytable_exchange(pos.entry, word);
    kt_insert_locked(k, key, word, KEYTABLE_NO_SLOT);
    return WORD_EMPTY;
}

static inline void
kt_put(kt *k, uint64_t key, qc_word word)
{
    kt_lock(k);
    CHECK(retire_reserve(k->p.local, 2));
    qc_word old = kt_put_locked(k, key, word);
    kt_unlock(k);
    if (old != WORD_EMPTY && word_is_pointer(old))
        retire_ref(k->p.local, box_free, old);
    retire_commit(k->p.local);
}

/* A look that did not find the key, for kt_put_missed. */
typedef struct {
    uint64_t table_id;
    uint32_t used;
    bool missed;
} kt_miss;

static inline kt_miss
kt_look(kt *k, uint64_t key)
{
    kt_probe probe = {k, key};
    keytable_pos pos;
    qsbr_enter(k->p.rec);
    keytable *t = keytable_in_section(k->map, k->p.rec);
    kt_miss miss = {.table_id = t->id, .used = keytable_used(t)};
    miss.missed =
        keytable_find(t, k->hash(key), kt_match, &probe, &pos) == KEYTABLE_MISS && pos.table == t;
    qsbr_exit(k->p.rec);
    return miss;
}

/* As kt_put, for a key that a look without the lock has missed; whether it was inserted. */
static inline bool
kt_put_missed(kt *k, uint64_t key, kt_miss miss, qc_word word)
{
    uint32_t slot = KEYTABLE_NO_SLOT;
    qc_word old = WORD_EMPTY;
    kt_lock(k);
    CHECK(retire_reserve(k->p.local, 2));
    keytable *t = keytable_locked(k->map);
    if (miss.missed)
        slot = keytable_place(t, k->hash(key), t->id == miss.table_id ? miss.used : 0);
    if (slot != KEYTABLE_NO_SLOT)
        kt_insert_locked(k, key, word, slot);
    else
        old = kt_put_locked(k, key, word);
    kt_unlock(k);
    if (old != WORD_EMPTY && word_is_pointer(old))
        retire_ref(k->p.local, box_free, old);
    retire_commit(k->p.local);
    return old == WORD_EMPTY;
}

/* K2: without the lock, if the key is there and the map is not frozen. */
static inline bool
kt_assign(kt *k, uint64_t key, qc_word word)
{
    keytable_pos pos;
    qc_word old = WORD_EMPTY;
    CHECK(retire_reserve(k->p.local, 1));
    qsbr_enter(k->p.rec);
    while (!keytable_is_frozen(k->map) && kt_find(k, key, &pos) == KEYTABLE_HIT)
        if (keytable_assign(pos.entry, &pos.word, word)) {
            old = pos.word;
            break;
        }
    qsbr_exit(k->p.rec);
    if (old != WORD_EMPTY && word_is_pointer(old))
        retire_ref(k->p.local, box_free, old);
    retire_commit(k->p.local);
    return old != WORD_EMPTY;
}

/* As a dict's d[key] = value. */
static inline void
kt_set(kt *k, uint64_t key, uint64_t n)
{
    qc_word word = word_from_pointer(box_new(VALUE_MAGIC, key, n));
    kt_miss miss = kt_look(k, key);
    if (miss.missed || !kt_assign(k, key, word))
        kt_put_missed(k, key, miss, word);
}

static inline void
kt_set_int(kt *k, uint64_t key, int64_t n)
{
    if (!kt_assign(k, key, word_from_int(n)))
        kt_put(k, key, word_from_int(n));
}

/* Adds to an int that is there; the new value. */
static inline int64_t
kt_incr(kt *k, uint64_t key, int64_t delta)
{
    for (;;) {
        keytable_pos pos;
        bool done = false;
        qsbr_enter(k->p.rec);
        if (!keytable_is_frozen(k->map)) {
            CHECK(kt_find(k, key, &pos) == KEYTABLE_HIT && word_is_int(pos.word));
            done =
                keytable_assign(pos.entry, &pos.word, word_from_int(word_to_int(pos.word) + delta));
        }
        qsbr_exit(k->p.rec);
        if (done)
            return word_to_int(pos.word) + delta;
        if (keytable_is_frozen(k->map)) {
            /* Wait for the one who holds the lock. */
            kt_lock(k);
            kt_unlock(k);
        }
    }
}

/* What was deleted: the key was read with the lock, the table may be gone since. */
static inline void
kt_drop(kt *k, qc_word key, qc_word word)
{
    if (word_is_pointer(word))
        retire_ref(k->p.local, box_free, word);
    retire_ref(k->p.local, box_free, key);
}

static inline bool
kt_del(kt *k, uint64_t key)
{
    kt_probe probe = {k, key};
    keytable_pos pos;
    kt_lock(k);
    CHECK(retire_reserve(k->p.local, 2));
    bool found = keytable_probe(keytable_locked(k->map), k->hash(key), kt_match, &probe, &pos) ==
                 KEYTABLE_HIT;
    qc_word word = found ? keytable_delete(k->map, &pos) : WORD_EMPTY;
    qc_word boxed = found ? pos.entry->key : WORD_EMPTY;
    kt_unlock(k);
    if (found)
        kt_drop(k, boxed, word);
    retire_commit(k->p.local);
    return found;
}

/* The key that was inserted last, or UINT64_MAX. */
static inline uint64_t
kt_popitem(kt *k)
{
    keytable_pos pos;
    uint64_t key = UINT64_MAX;
    kt_lock(k);
    CHECK(retire_reserve(k->p.local, 2));
    bool found = keytable_find_last(k->map, &pos);
    qc_word word = WORD_EMPTY, boxed = WORD_EMPTY;
    if (found) {
        boxed = pos.entry->key;
        key = box_check(boxed, KEY_MAGIC)->key;
        word = keytable_delete(k->map, &pos);
    }
    kt_unlock(k);
    if (found)
        kt_drop(k, boxed, word);
    retire_commit(k->p.local);
    return key;
}

/* With the lock (K7). */
static inline keytable_freezing
kt_freeze(kt *k)
{
    keytable_freezing freezing = keytable_freeze(k->map, k->p.domain);
    CHECK(qsbr_wait(k->p.domain, freezing.goal));
    return freezing;
}

static inline void
kt_clear(kt *k)
{
    keytable *empty = keytable_new_empty(k->heap);
    CHECK(empty != NULL);
    kt_lock(k);
    CHECK(retire_reserve(k->p.local, 1));
    keytable_freezing freezing = kt_freeze(k);
    keytable *old = keytable_swap(k->map, empty);
    keytable_thaw(k->map, freezing);
    kt_unlock(k);
    retire_block(k->p.local, table_free_with_contents, (uint64_t)(uintptr_t)old, old->bytes);
    retire_commit(k->p.local);
}

/* One moment's keys and values' numbers, in order (K5, K7); how many. */
static inline unsigned
kt_snapshot(kt *k, uint64_t *keys, uint64_t *numbers, unsigned max)
{
    unsigned n = 0;
    kt_lock(k);
    keytable_freezing freezing = kt_freeze(k);
    keytable *t = keytable_locked(k->map);
    keytable_entry *e = keytable_entries(t);
    for (uint32_t i = 0; i < qc_load_relaxed(&keytable_counts(t)->used); i++) {
        qc_word word = qc_load_acquire(&e[i].value);
        if (word == WORD_DELETED)
            continue;
        CHECK(n < max);
        keys[n] = box_check(e[i].key, KEY_MAGIC)->key;
        numbers[n] =
            word_is_int(word) ? (uint64_t)word_to_int(word) : box_check(word, VALUE_MAGIC)->n;
        n++;
    }
    CHECK_EQ(n, qc_load_relaxed(&k->map->live));
    keytable_thaw(k->map, freezing);
    kt_unlock(k);
    return n;
}

/* ---- cursors ---- */

static inline keytable_cursor
kt_begin(kt *k)
{
    keytable_cursor c;
    qsbr_enter(k->p.rec);
    keytable_cursor_init(&c, k->map, k->p.rec);
    qsbr_exit(k->p.rec);
    return c;
}

static bool kt_backwards; /* all cursors step back */

/* The next key, or UINT64_MAX; its value's number in *n.  Everything that is touched is
 * checked in the section. */
static inline uint64_t
kt_next(kt *k, keytable_cursor *c, uint64_t *n)
{
    qc_word key, word;
    keytable_stepped r;
    uint64_t found = UINT64_MAX;
    do {
        qsbr_enter(k->p.rec);
        uint32_t left = c->end - c->at;
        r = kt_backwards ? keytable_step_back(c, k->map, k->p.rec, &key, &word)
                         : keytable_step(c, k->map, k->p.rec, &key, &word);
        CHECK(r != KEYTABLE_AGAIN || c->end - c->at < left); /* it always ends */
        CHECK(left - (c->end - c->at) <= 256);
        if (r == KEYTABLE_ITEM) {
            found = box_check(key, KEY_MAGIC)->key;
            box *value = box_check(word, VALUE_MAGIC);
            CHECK_EQ(value->key, found);
            *n = value->n;
        }
        qsbr_exit(k->p.rec);
    } while (r == KEYTABLE_AGAIN);
    return found;
}

static inline void
kt_end(keytable_cursor *c)
{
    keytable_unref(c->table);
}

#endif
