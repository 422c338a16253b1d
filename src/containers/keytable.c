#include "containers/keytable_values.h"

#include <string.h>

static _Atomic uint64_t next_id = 1;

#ifdef QC_DEBUG
uint64_t keytable_max_slots = KEYTABLE_MAX_SLOTS;
#endif

/* ---- tables ---- */

/* NULL: no memory, or more slots than one can number. */
static keytable *
table_new(heap *h, uint64_t slots)
{
    if (slots > keytable_max_slots)
        return NULL;
    uint32_t capacity = (uint32_t)keytable_capacity(slots);
    size_t index = (size_t)slots * sizeof(uint32_t);
    size_t bytes = sizeof(keytable) + index + capacity * sizeof(keytable_entry);
    bytes += sizeof(keytable_counted);
    keytable *t = heap_alloc(h, bytes);
    if (t == NULL)
        return NULL;
    t->heap = h;
    t->bytes = bytes;
    t->id = qc_add_relaxed(&next_id, 1u);
    qc_store_relaxed(&t->next, NULL);
    qc_store_relaxed(&t->refs, 1u);
    qc_store_relaxed(&keytable_counts(t)->used, 0u);
    t->mask = (uint32_t)slots - 1;
    t->capacity = capacity;
    keytable_counts(t)->last = 0;
    t->early = false;
    memset((void *)t->index, 0xFF, index); /* KEYTABLE_EMPTY */
    return t;
}

/* Room for `entries` and, as dict does, for half as many again and more. */
static uint64_t
slots_for(uint64_t entries)
{
    uint64_t slots = KEYTABLE_MIN_SLOTS;
    while (slots < entries * 3 / 2 + 1)
        slots *= 2;
    return slots;
}

void
keytable_unref(keytable *t)
{
    if (qc_sub_acq_rel(&t->refs, 1u) != 1)
        return;
    if (t->early)
        heap_retire(t->heap, t, t->bytes);
    else
        heap_free(t->heap, t, t->bytes);
}

bool
keytable_retire(keytable *t)
{
    if (!heap_is_small(t->bytes))
        return false;
    t->early = true;
    keytable_unref(t);
    return true;
}

keytable *
keytable_new_empty(heap *h)
{
    return table_new(h, KEYTABLE_MIN_SLOTS);
}

bool
keytable_init(keymap *map, heap *h, uint64_t entries)
{
    if (entries > KEYTABLE_MAX_SLOTS)
        return false;
    keytable *t = table_new(h, slots_for(entries));
    qc_store_relaxed(&map->table.published, t);
    if (t != NULL)
        keytable_init_with(map, t);
    return t != NULL;
}

void
keytable_init_with(keymap *map, keytable *t)
{
    qc_store_relaxed(&map->table.published, t);
    qc_store_relaxed(&map->live, qc_load_relaxed(&keytable_counts(t)->used));
    qc_store_relaxed(&map->frozen, 0u);
    qc_lock_init(&map->lock);
}

/* release: partner is the acquire load in keytable_in_section. */
static void
publish(keymap *map, keytable *t)
{
    qc_yield("publish table");
    qc_store_release(&map->table.published, t);
    qc_yield("table published");
}

/* The first free slot for a hash. */
static uint32_t
free_slot(keytable *t, uint64_t hash)
{
    uint64_t perturb = hash;
    uint32_t slot = (uint32_t)hash & t->mask;
    while (qc_load_relaxed(&t->index[slot]) < KEYTABLE_DUMMY)
        keytable_next_slot(slot, perturb, t->mask);
    return slot;
}

/* ---- growing ---- */

/* Copies all live entries of `old`, in order (K5); no thread reads `new` yet.  `new` may be
 * `old`: an entry is read before another overwrites it. */
static void
copy_entries(keytable *old, keytable *new)
{
    keytable_entry *from = keytable_entries(old), *to = keytable_entries(new);
    uint32_t used = qc_load_relaxed(&keytable_counts(old)->used), n = 0;
    for (uint32_t i = 0; i < used; i++) {
        /* acquire: partner is the release of keytable_assign.  The reader of
         * the copy must see the object behind it. */
        qc_word word = qc_load_acquire(&from[i].value);
        if (word == WORD_DELETED)
            continue;
        uint64_t hash = from[i].hash;
        to[n].hash = hash;
        to[n].key = from[i].key;
        qc_store_relaxed(&to[n].value, word);
        uint32_t slot = free_slot(new, hash);
        qc_store_relaxed(&new->index[slot], keytable_tag(new, hash) | n);
        n++;
    }
    qc_store_relaxed(&keytable_counts(new)->used, n);
    keytable_counts(new)->last = n;
}

keytable *
keytable_copy(keymap *map)
{
    keytable *t = keytable_locked(map);
    keytable *copy = table_new(t->heap, slots_for(qc_load_relaxed(&map->live)));
    if (copy != NULL)
        copy_entries(t, copy);
    return copy;
}

/* K3: hands the words over, one by one.  From the CAS on, the entry lives in
 * `new` and assignments go there; until then they go to `old`, and the CAS
 * notices. */
static void
move_words(keytable *old, keytable *new)
{
    keytable_entry *from = keytable_entries(old), *to = keytable_entries(new);
    uint32_t used = qc_load_relaxed(&keytable_counts(old)->used), n = 0;
    /* release: partner is the acquire load in keytable_unchanged, in a thread that has not
     * met MOVED.  Without it that thread could find an incomplete table.  (A thread that has
     * met MOVED is ordered by the CAS below, too.) */
    qc_store_release(&old->next, new);
    qc_yield("next");
    for (uint32_t i = 0; i < used; i++) {
        qc_word word = qc_load_relaxed(&from[i].value);
        if (word == WORD_DELETED)
            continue;
        if (word == WORD_MOVED) { /* by the thread that began: see keytable_mend */
            n++;
            continue;
        }
#ifdef QC_BREAK_MOVED_BEFORE_COPY
        qc_store_release(&from[i].value, WORD_MOVED);
        (void)to;
#else
        word = qc_load_relaxed(&to[n].value);
        /* release: partner is the acquire of the probe that meets MOVED; it
         * finds the copy. */
        while (!qc_cas_acq_rel(&from[i].value, &word, WORD_MOVED)) {
            qc_yield("copy again");
            qc_store_relaxed(&to[n].value, word);
        }
#endif
        qc_yield("moved");
        n++;
    }
}

/* The number of slots of a table with room again.  It is for twice the live entries, so that
 * the next growth is as many insertions away as there are entries, and lower than before if
 * most entries were deleted.  Near the limit it is the largest number there is, and then
 * nearly every insertion may copy the table. */
static uint64_t
slots_wanted(keymap *map)
{
    uint64_t live = qc_load_relaxed(&map->live), slots = slots_for(live * 2);
    return slots > keytable_max_slots && live < KEYTABLE_MAX_KEYS ? keytable_max_slots : slots;
}

bool
keytable_compact(keymap *map, qsbr_record *rec)
{
    keytable *t = keytable_locked(map);
    qc_assert(!keytable_has_room(map));
    uint64_t slots = (uint64_t)t->mask + 1;
    /* acquire: partner is the decrement in keytable_unref.  Without it this thread could move
     * entries before an iterator that has ended had read them. */
    if (slots > KEYTABLE_COMPACT_SLOTS || slots_wanted(map) != slots ||
        qc_load_acquire(&t->refs) != 1)
        return false;
    qsbr_hold_forks(rec);
    t->id = qc_add_relaxed(&next_id, 1u);
    memset((void *)t->index, 0xFF, ((size_t)t->mask + 1) * sizeof(uint32_t));
    copy_entries(t, t);
    qsbr_let_forks(rec);
    keytable_check(map);
    return true;
}

bool
keytable_make_room(keymap *map, bool shared, keytable **old)
{
    keytable *t = keytable_locked(map);
    *old = NULL;
    if (qc_likely(qc_load_relaxed(&keytable_counts(t)->used) < t->capacity))
        return true;
    keytable *new = table_new(t->heap, slots_wanted(map));
    if (new == NULL)
        return false;
    copy_entries(t, new);
    /* In an unshared map only iterators can still look at the old table. */
    if (shared || qc_load_acquire(&t->refs) > 1)
        move_words(t, new);
    publish(map, new);
    *old = t;
    keytable_check(map);
    return true;
}

/* ---- changes ---- */

void
keytable_insert(keymap *map, uint64_t hash, qc_word key, qc_word word, uint32_t slot)
{
    keytable *t = keytable_locked(map);
    uint32_t n = qc_load_relaxed(&keytable_counts(t)->used);
    qc_assert(n < t->capacity && word_is_live(word));
    if (slot == KEYTABLE_NO_SLOT)
        slot = free_slot(t, hash);
    qc_assert(slot == free_slot(t, hash));
    keytable_entry *e = &keytable_entries(t)[n];
    e->hash = hash;
    e->key = key;
    qc_store_relaxed(&e->value, word);
    qc_yield("insert");
#ifdef QC_BREAK_USED_BEFORE_SLOT
    qc_store_release(&keytable_counts(t)->used, n + 1);
    qc_yield("slot");
#endif
    /* release: partner is the acquire load of the slot in the probe.  Without it
     * a reader can find the slot and not the key. */
    qc_store_release(&t->index[slot], keytable_tag(t, hash) | n);
    qc_yield("slot");
    /* release, and after the slot: partners are the acquire loads in keytable_cursor_init
     * and keytable_used.  A writer that reads a `used` above n finds the slot.  Without this
     * order it could miss the slot, and keytable_place would take the entry for one that
     * the writer has compared with. */
    qc_store_release(&keytable_counts(t)->used, n + 1);
    qc_yield("used");
    keytable_counts(t)->last = n + 1;
    qc_store_release(&map->live, qc_load_relaxed(&map->live) + 1);
    qc_yield("live");
    keytable_check(map);
}

qc_word
keytable_exchange(keytable_entry *e, qc_word word)
{
    /* release: the probe's acquire; acquire: the old word's object is complete. */
    qc_word old = qc_exchange_acq_rel(&e->value, word);
    qc_yield("exchanged");
    return old;
}

/* After the word is DELETED.  The slot is still the entry's: both were found with the lock,
 * or the word was still live when the lock was taken. */
static void
finish_delete(keymap *map, keytable_pos *pos)
{
    keytable *t = pos->table;
    qc_assert(pos->entry == &keytable_entries(t)[qc_load_relaxed(&t->index[pos->slot]) & t->mask]);
    qc_yield("delete");
    qc_store_release(&t->index[pos->slot], KEYTABLE_DUMMY);
    qc_yield("dummy");
    qc_store_release(&map->live, qc_load_relaxed(&map->live) - 1);
    qc_yield("live");
    keytable_check(map);
}

qc_word
keytable_delete(keymap *map, keytable_pos *pos)
{
    qc_assert(pos->table == keytable_locked(map));
    /* K2's assignments are CAS-es from a live word: none comes after this. */
    qc_word word = qc_exchange_acq_rel(&pos->entry->value, WORD_DELETED);
    qc_assert(word_is_live(word));
    finish_delete(map, pos);
    return word;
}

bool
keytable_delete_if(keymap *map, keytable_pos *pos, qc_word expected)
{
    qc_assert(pos->table == keytable_locked(map) && word_is_live(expected));
    /* As above: K2's assignments go on until this CAS. */
    if (!qc_cas_acq_rel(&pos->entry->value, &expected, WORD_DELETED))
        return false;
    finish_delete(map, pos);
    return true;
}

bool
keytable_find_last(keymap *map, keytable_pos *pos)
{
    keytable *t = keytable_locked(map);
    keytable_entry *entries = keytable_entries(t);
    while (keytable_counts(t)->last > 0) {
        keytable_entry *e = &entries[keytable_counts(t)->last - 1];
        qc_word word = qc_load_acquire(&e->value);
        if (word_is_live(word)) {
            uint64_t perturb = e->hash;
            uint32_t slot = (uint32_t)e->hash & t->mask;
            uint32_t wanted = keytable_tag(t, e->hash) | (keytable_counts(t)->last - 1);
            while (qc_load_relaxed(&t->index[slot]) != wanted)
                keytable_next_slot(slot, perturb, t->mask);
            *pos = (keytable_pos){.table = t, .entry = e, .word = word, .slot = slot};
            return true;
        }
        keytable_counts(t)->last--;
    }
    return false;
}

/* `frozen`: the number of threads that freeze the map, and above it the fork generation in
 * which they do; 0 if no thread does. */
#define FREEZE_BITS 16
#define FREEZE_COUNT (((uint32_t)1 << FREEZE_BITS) - 1)

/* Whether a fork left behind all threads that raised the flag. */
static bool
freezes_are_gone(uint32_t frozen)
{
    return ((frozen >> FREEZE_BITS ^ qc_fork_generation) & FREEZE_COUNT) != 0;
}

keytable_freezing
keytable_freeze(keymap *map, qsbr_domain *domain)
{
#ifdef QC_BREAK_NO_FREEZE
    return (keytable_freezing){qc_load_relaxed(&domain->rd_seq), qc_fork_generation + 1};
#endif
    uint32_t raised, was = qc_load_relaxed(&map->frozen);
    do
        raised = freezes_are_gone(was) ? qc_fork_generation << FREEZE_BITS | 1 : was + 1;
    /* Ordered before the advance's RMW; partner is the acquire in keytable_is_frozen.  An
     * assignment whose section begins at the goal sees the flag, and the goal waits for all
     * earlier sections.  Without this order a later assignment could miss the flag. */
    while (!qc_cas_acq_rel(&map->frozen, &was, raised));
    qc_yield("frozen");
    return (keytable_freezing){qsbr_advance(domain), qc_fork_generation};
}

void
keytable_thaw(keymap *map, keytable_freezing freezing)
{
    uint32_t was = qc_load_relaxed(&map->frozen);
    if (!keytable_freeze_holds(freezing))
        return;
    qc_assert(!freezes_are_gone(was) && (was & FREEZE_COUNT) != 0);
    /* release: partner is the acquire load in keytable_is_frozen.  Without it an assignment
     * that finds the flag cleared could change a word before the copy has read it. */
#ifdef QC_BREAK_FREEZE_NOT_COUNTED
    was = (was & ~FREEZE_COUNT) | 1;
    qc_store_relaxed(&map->frozen, was);
#endif
    while (!qc_cas_acq_rel(&map->frozen, &was, (was & FREEZE_COUNT) == 1 ? 0 : was - 1))
        ;
    qc_yield("thawed");
}

void
keytable_forget_freezes(keymap *map)
{
    uint32_t was = qc_load_relaxed(&map->frozen);
    if (freezes_are_gone(was))
        (void)qc_cas_acq_rel(&map->frozen, &was, 0u); /* fails if a thread of this process froze */
}

keytable *
keytable_swap(keymap *map, keytable *t)
{
    keytable *old = keytable_locked(map);
    publish(map, t);
    qc_store_release(&map->live, qc_load_relaxed(&keytable_counts(t)->used));
    qc_yield("swapped");
    keytable_check(map);
    return old;
}

qc_word
keytable_take_word(keytable *t, uint32_t at)
{
    /* release: partner is the second look in keytable_is_still; acquire: the object is
     * complete. */
    qc_word word = qc_exchange_acq_rel(&keytable_entries(t)[at].value, WORD_DELETED);
    qc_yield("cleared word");
    return word;
}

/* ---- what a fork left half done (Q10) ---- */

/* What is written beside the words and the index, from them. */
static void
recount(keymap *map, keytable *t)
{
    keytable_entry *entries = keytable_entries(t);
    uint32_t used = qc_load_relaxed(&keytable_counts(t)->used), live = 0;
    for (uint64_t i = 0; i <= t->mask; i++) {
        uint32_t s = qc_load_relaxed(&t->index[i]);
        if (s >= KEYTABLE_DUMMY)
            continue;
        if ((s & t->mask) >= used) /* an insertion: readers find it, so it is there */
            used = (s & t->mask) + 1;
        if (qc_load_relaxed(&entries[s & t->mask].value) == WORD_DELETED)
            qc_store_release(&t->index[i], KEYTABLE_DUMMY);
    }
    keytable_counts(t)->last = 0;
    t->early = false;
    for (uint32_t i = 0; i < used; i++) {
        if (qc_load_relaxed(&entries[i].value) == WORD_DELETED)
            continue;
        keytable_counts(t)->last = i + 1;
        live++;
    }
    qc_store_release(&keytable_counts(t)->used, used);
    qc_store_release(&map->live, live);
}

keytable *
keytable_mend(keymap *map)
{
    keytable *t = keytable_locked(map), *old = NULL;
#ifdef QC_BREAK_NO_MEND
    return old;
#endif
    keytable *next = qc_load_relaxed(&t->next);
    if (next != NULL) {
        /* It was growing: `next` is complete but for the words, and has the entries
         * of `t` that are not deleted in the same order. */
        move_words(t, next);
        publish(map, next);
        old = t;
        t = next;
    }
    recount(map, t);
    keytable_forget_freezes(map);
    keytable_check(map);
    return old;
}

/* With the lock of a thread that is gone. */
static uint64_t
len_of_orphan(keymap *map, qc_lock_found *found)
{
    keytable *next = qc_load_relaxed(&keytable_locked(map)->next);
    if (next != NULL)
        return qc_load_relaxed(
            &keytable_counts(next)->used); /* complete, and nothing deleted yet */
    (void)keytable_mend(map);
    *found = QC_LOCK_TAKEN;
    return qc_load_relaxed(&map->live);
}

uint64_t
keytable_len(keymap *map)
{
#ifndef QC_BREAK_LEN_NO_LOCK
    if (qc_unlikely(qc_lock_is_held(&map->lock))) {
        qc_lock_found found = qc_lock_acquire(&map->lock);
        uint64_t n =
            found == QC_LOCK_TAKEN ? qc_load_relaxed(&map->live) : len_of_orphan(map, &found);
        qc_lock_release_as(&map->lock, found);
        return n;
    }
#endif
    return qc_load_acquire(&map->live);
}
