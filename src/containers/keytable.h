/* The key table: an insertion-ordered hash table that is read without a lock.
 *
 *   keymap.table --> +--------+-------------------+---------------------------+
 *                    | header | index (u32 slots) | entries, insertion order  |
 *                    +--------+-------------------+---------------------------+
 *                                 slot: EMPTY -> tag|entry -> DUMMY -> tag|entry ..
 *                                                    {hash, key, value word}
 *                       | next (while it grows)  word: live -> live .. -> DELETED
 *                       v                                        \.. -> MOVED
 *                    the table that replaces it
 *
 * Why a reader may walk it.  An entry is never reused within a table: its hash and
 * key are written before its slot is published and never again, a word that is
 * DELETED or MOVED stays so, and an entry's number is in one slot only, from its
 * insertion to its deletion.  A slot is reused, but never becomes EMPTY again: every
 * slot before a key's on its probe sequence was taken when the key went in, and a probe
 * passes every slot that is not EMPTY.  So a reader finds each key that is there
 * throughout: the key's slot does not move within a table, and when the table is
 * replaced the key's word becomes MOVED only after the next table holds it, index
 * included.  A reader can miss a key that goes into a slot which the reader has already
 * passed; that key was absent before its insertion, while the reader was under way.
 * Key and table memory outlive the section (qsbr.h), since the table retires what it
 * drops of these.  Values do not wait (K8).
 *
 * Why a DUMMY is reused.  All slots that one key leaves behind lie on its own probe
 * sequence, which would otherwise only get longer.  An insertion takes the first free
 * slot (EMPTY or DUMMY), so it uses up an EMPTY one only if no DUMMY comes before it.
 *
 * Why no key goes in twice.  A slot that was EMPTY before the lock was taken and still is
 * EMPTY proves nothing: meanwhile the key may have gone into a DUMMY before that slot, or
 * into a slot that was freed.  So a writer that compared without the lock, or that
 * released it to compare, looks again with the lock (keytable_place).  This second look
 * walks the sequence once more, finds the free slot on the way, and compares hashes only.
 * Entries are numbered in the order of insertion, so an entry that was inserted after the
 * comparisons began has a number at or above the `used` that the writer read before them.
 *  - An entry with the key's hash below that number, still in its slot, was published
 *    before `used` was raised above it (keytable_insert).  So it was in this slot all the
 *    time, and the slots before it were never EMPTY: the comparisons reached it and found
 *    another key.
 *  - An entry with the key's hash at or above that number may be the key.  The writer
 *    starts over.
 *  - If there is neither, the key is absent, whatever was inserted and deleted meanwhile.
 * A writer without such a number uses 0, and every entry with the hash counts as new.
 * (A count of deletions could save the second look, but every assignment would have to
 * load it before its probe, from the line that all insertions and deletions write.)
 *
 * Above the bits that number the entry, a slot holds bits of the hash's upper half (the
 * tag), which tell most collisions apart without a load of the entry.  The tag's highest
 * bit is 0 and that of EMPTY and DUMMY is 1.  So these match no tag, and a probe that hits
 * needs no test for them.
 *
 * Guarantees that live here
 *  K1  Reading takes no lock, is linearizable, never misses a key that was there
 *      throughout, and takes the steps that the load factor implies, whatever was
 *      inserted and deleted before.  Within a table an entry is written once; a slot
 *      goes EMPTY -> entry -> DUMMY -> entry .., and the next insertion that comes by
 *      a DUMMY takes it.  Deletion makes the word DELETED and the slot a DUMMY before
 *      the key is retired; a reader that meets a DELETED word goes on probing (the key
 *      may have come back further on).
 *  K2  keytable_assign: a CAS on the word, from a live word only, in one section
 *      with the look at `frozen`.  No lock.  For shared maps only (T1).
 *  K3  Growing never loses a concurrent assignment: keys, hashes, words and index
 *      of the new table are complete before the first MOVED; each word is CAS-ed
 *      to MOVED in the old one and copied again if that fails; a reader or writer that
 *      meets MOVED follows `next`.
 *  K4  Inserting and deleting are atomic (the lock; one release store publishes);
 *      keytable_len is exact.
 *  K5  Entries are in insertion order, and copied in it.
 *  K6  Iteration: keytable_iter.h.
 *  K7  From the goal of keytable_freeze to keytable_thaw no assignment of K2 changes a
 *      word: a section that began before the goal is over, and a later one finds `frozen`
 *      set and takes the lock.  So no word changes while the freezing thread also holds
 *      the lock, and a copy made then (keytable_copy) shows one moment.  The copy neither
 *      hashes nor compares keys.  Reaching the goal needs the flag, not the lock.  A thread
 *      that finds a reader stopped releases the lock, waits for the goal with the flag set,
 *      and takes the lock again; other threads' changes in between were made with the
 *      lock, and no thread waits for a grace period twice.  Several threads may freeze a
 *      map at the same time, so `frozen` counts them.  `frozen` also carries the fork
 *      generation, so in the child of a fork the freezes of threads that are gone do not
 *      count.  Nor does that of the forking thread itself, if a signal handler forked while
 *      it waited: it freezes again (keytable_freeze_holds).
 *  K8  Values: keytable_values.h.
 *  K9  A map takes exactly KEYTABLE_MAX_KEYS keys, 1.43 * 10^9.
 *  Q10 A fork's child may have a map whose lock was held by a thread that is gone.
 *      What readers follow (the table, its index, entries, words, `next`) is right
 *      at every moment, K1-K3 live by that; only what is written beside it (used,
 *      last, live, frozen) may not be.  keytable_mend makes that anew and ends what
 *      readers see as begun: an insertion or deletion that they see has happened,
 *      growing goes on.  Nothing but what the thread had in hand is lost.
 *
 * Locks and sections are the caller's, and so are references: words and keys are
 * opaque here.  A match compares a key with an entry's and answers MISS, HIT,
 * ERROR, or CHANGED (it had to leave the section or the lock to compare, and the
 * table or the slot has changed meanwhile: start over).  It returns inside the
 * section, or with the lock, that it was called in.
 */
#ifndef CONTAINERS_KEYTABLE_H
#define CONTAINERS_KEYTABLE_H

#include "base/qc_atomic.h"
#include "base/qc_debug.h"
#include "base/qc_lock.h"
#include "containers/word.h"
#include "heap/heap.h"
#include "qsbr/qsbr.h"

typedef struct {
    uint64_t hash;         /* written once, before the slot */
    qc_word key;           /* written once, before the slot */
    _Atomic qc_word value; /* live, then DELETED or MOVED for good */
} keytable_entry;

typedef struct keytable keytable;

struct keytable {
    heap_block block; /* H1 */
    heap *heap;
    size_t bytes;                         /* of the whole block */
    uint64_t id;                          /* never reused, unlike the address */
    _Atomic(keytable *) next;             /* (map lock) before the first MOVED */
    _Atomic uint32_t refs;                /* the map (until its retirement) and iterators */
    uint32_t mask;                        /* slots - 1 */
    uint32_t capacity;                    /* entries there is room for: two thirds of the slots */
    bool early;                           /* the map dropped it while others may read it */
    _Alignas(8) _Atomic uint32_t index[]; /* the entries follow, aligned for their words */
};

/* The fields that each insertion writes.  They are at the end of the block, behind the
 * entries, since every reader loads the header first. */
typedef struct {
    _Atomic uint32_t used; /* (map lock) entries written */
    uint32_t last;         /* (map lock) no live entry at or after this one */
} keytable_counted;

_Static_assert(offsetof(keytable, index) == sizeof(keytable), "table_new adds up sizes");

#define KEYTABLE_EMPTY UINT32_MAX
#define KEYTABLE_DUMMY (UINT32_MAX - 1)
#define KEYTABLE_NO_SLOT UINT32_MAX /* instead of a slot's number */
#define KEYTABLE_MIN_SLOTS 8u
#define KEYTABLE_MAX_SLOTS ((uint64_t)1 << 31)     /* the highest bit is in no mask */
#define KEYTABLE_COMPACT_SLOTS ((uint64_t)1 << 22) /* keytable_compact takes 30 ms */
#ifdef QC_DEBUG
extern uint64_t keytable_max_slots; /* a power of two, which tests lower */
#else
#define keytable_max_slots KEYTABLE_MAX_SLOTS
#endif

/* A pointer that readers follow: loaded by the accessors below only. */
typedef struct {
    _Atomic(keytable *) published;
} keytable_ref;

/* What readers follow stands at the beginning, and what all that insert and delete write a
 * line behind it, so that these are never in one cache line, wherever the map begins (at a
 * multiple of 16).  The layer above may have its own in between: first what its readers look
 * at, in 8 bytes, then what is hardly ever written. */
#define KEYMAP_APART 64
#define KEYMAP_BETWEEN (KEYMAP_APART - sizeof(keytable_ref) - sizeof(uint64_t))

typedef struct {
    keytable_ref table;
    char between[KEYMAP_BETWEEN];
    _Atomic uint32_t frozen;           /* K7: assignments go to the lock */
    _Alignas(8) _Atomic uint32_t live; /* (lock) keys, fewer than KEYTABLE_MAX_SLOTS */
    qc_lock lock;
} keymap;

_Static_assert(offsetof(keymap, live) == KEYMAP_APART, "nothing between but what is meant");

typedef enum { KEYTABLE_MISS, KEYTABLE_HIT, KEYTABLE_ERROR, KEYTABLE_CHANGED } keytable_result;
typedef keytable_result (*keytable_match)(void *ctx, keytable *t, keytable_entry *e, uint32_t slot);

/* Where a key is (HIT).  After a MISS only `table` is valid, the table that was searched,
 * except where a function says more. */
typedef struct {
    keytable *table;
    keytable_entry *entry;
    qc_word word; /* the live word that was seen */
    uint32_t slot;
} keytable_pos;

/* ---- access to the table ---- */

/* In a section.  acquire: partner is the release store in publish(); a reader
 * of the pointer sees the complete table. */
QC_INLINE keytable *
keytable_in_section(keymap *map, const qsbr_record *rec)
{
    (void)rec;
    qc_assert(qsbr_in_section(rec));
    return qc_load_acquire(&map->table.published);
}

/* With the lock: no other thread publishes. */
static inline keytable *
keytable_locked(keymap *map)
{
    qc_assert(qc_lock_is_held(&map->lock));
    return qc_load_relaxed(&map->table.published);
}

/* Only the calling thread has the map (construction, deallocation), or the interpreter has
 * stopped the others (traversal). */
static inline keytable *
keytable_exclusive(keymap *map)
{
    return qc_load_relaxed(&map->table.published);
}

static inline keytable_entry *
keytable_entries(keytable *t)
{
    return (keytable_entry *)(void *)(t->index + t->mask + 1);
}

static inline keytable_counted *
keytable_counts(keytable *t)
{
    return (keytable_counted *)(void *)((char *)t + t->bytes) - 1;
}

/* acquire: partner is the release in keytable_insert.  Without it a writer could read `used`
 * and then miss the slot of an entry below it. */
static inline uint32_t
keytable_used(keytable *t)
{
    return qc_load_acquire(&keytable_counts(t)->used);
}

/* ---- probing ---- */

QC_INLINE uint32_t
keytable_tag(const keytable *t, uint64_t hash)
{
    return (uint32_t)(hash >> 33) & ~t->mask;
}

/* The open addressing sequence is dict's: the hash's other bits are worked in,
 * so that keys which agree in the low bits part ways. */
#define KEYTABLE_PERTURB_SHIFT 5
#define keytable_next_slot(slot, perturb, mask)                                                    \
    ((perturb) >>= KEYTABLE_PERTURB_SHIFT,                                                         \
     (slot) = (uint32_t)((uint64_t)(slot)*5 + (perturb) + 1) & (mask))

/* In a section or under the lock; inline with its match.  HIT: the word may be MOVED. */
QC_INLINE keytable_result
keytable_probe(keytable *t, uint64_t hash, keytable_match match, void *ctx, keytable_pos *pos)
{
    uint32_t mask = t->mask;
    uint32_t tag = keytable_tag(t, hash);
    uint64_t perturb = hash;
    uint32_t slot = (uint32_t)hash & mask;
    keytable_entry *entries = keytable_entries(t);
    pos->table = t;
    /* Ends: a table has fewer entries than slots. */
    for (;; keytable_next_slot(slot, perturb, mask)) {
        /* acquire: partner is the release store of the slot in keytable_insert;
         * hash and key are there. */
        uint32_t s = qc_load_acquire(&t->index[slot]);
        /* XOR with the tag leaves the entry's number if the slot has the tag, else more. */
        uint32_t number = s ^ tag;
        if (number > mask) {
            if (s != KEYTABLE_EMPTY)
                continue;
            return KEYTABLE_MISS;
        }
        keytable_entry *e = &entries[number];
        if (e->hash != hash)
            continue;
        keytable_result r = match(ctx, t, e, slot);
        if (qc_likely(r == KEYTABLE_HIT)) {
            /* acquire: partners are the releases by which words are stored; the
             * object behind the word is complete, and with MOVED, `next`. */
            qc_word word = qc_load_acquire(&e->value);
            if (qc_unlikely(word == WORD_DELETED))
                continue;
            pos->entry = e;
            pos->slot = slot;
            pos->word = word;
            return KEYTABLE_HIT;
        }
        if (qc_unlikely(r != KEYTABLE_MISS))
            return r;
    }
}

/* The common part of the two functions below; `placing` is a constant. */
QC_INLINE keytable_result
keytable_probe_first(keytable *t, uint64_t hash, keytable_match match, void *ctx, keytable_pos *pos,
                     bool placing)
{
    uint32_t mask = t->mask;
    uint32_t tag = keytable_tag(t, hash);
    uint64_t perturb = hash;
    uint32_t slot = (uint32_t)hash & mask, place = KEYTABLE_NO_SLOT, s, number;
    pos->table = t;
    for (;; keytable_next_slot(slot, perturb, mask)) { /* as above */
        s = qc_load_acquire(&t->index[slot]);
        number = s ^ tag;
        if (qc_likely(number <= mask))
            break;
        if (s == KEYTABLE_EMPTY) {
            if (placing)
                pos->slot = place == KEYTABLE_NO_SLOT ? slot : place;
            return KEYTABLE_MISS;
        }
        if (placing && s == KEYTABLE_DUMMY && place == KEYTABLE_NO_SLOT)
            place = slot;
    }
    keytable_entry *e = &keytable_entries(t)[number];
    if (qc_unlikely(e->hash != hash || match(ctx, t, e, slot) != KEYTABLE_HIT))
        return KEYTABLE_CHANGED;
    pos->entry = e;
    pos->slot = slot;
    pos->word = qc_load_acquire(&e->value); /* as above */
    return qc_likely(word_is_live(pos->word)) ? KEYTABLE_HIT : KEYTABLE_CHANGED;
}

/* As keytable_probe, but only to the first entry with the hash's tag, which is nearly always
 * the key's.  It keeps no state for going on, so the registers suffice.  CHANGED: that entry
 * is another key's or its word is not live, and the caller asks keytable_find. */
QC_INLINE keytable_result
keytable_probe_once(keytable *t, uint64_t hash, keytable_match match, void *ctx, keytable_pos *pos)
{
    return keytable_probe_first(t, hash, match, ctx, pos, false);
}

/* As keytable_probe_once with the lock, for an insertion: after a MISS pos->slot is the first
 * free slot. */
QC_INLINE keytable_result
keytable_probe_place(keytable *t, uint64_t hash, keytable_match match, void *ctx, keytable_pos *pos)
{
    return keytable_probe_first(t, hash, match, ctx, pos, true);
}

/* In a section: follows MOVED.  A table reached by `next` was still current when
 * the section began, or came after, so it outlives the section too. */
QC_INLINE keytable_result
keytable_find(keytable *t, uint64_t hash, keytable_match match, void *ctx, keytable_pos *pos)
{
    for (;;) {
        keytable_result r = keytable_probe(t, hash, match, ctx, pos);
        if (qc_likely(r != KEYTABLE_HIT || pos->word != WORD_MOVED))
            return r;
        t = qc_load_acquire(&t->next);
    }
}

/* For a match that left the section or the lock and came back: whether the entry that it
 * compared is still in its slot.  `id` was read before leaving, since the table's memory
 * may be another table's by now.  A slot with the same value has had it all the time, since
 * it never gets the same entry twice.  (For DUMMY the entry is gone, and a probe may go on
 * from there whatever the match found.)  The slots before it may have changed: that does
 * not concern a reader, and an insertion looks again (keytable_place).
 *
 * `now` is the map's table.  While it grows, a reader compares MOVED entries in `next`, so
 * the table with that id is looked for there as well.  In the child of a fork a table may be
 * growing until the first write, and a reader that started over until then would never
 * end (Q10). */
static inline bool
keytable_unchanged(keytable *now, uint64_t id, uint32_t slot, uint32_t slot_value)
{
#ifdef QC_BREAK_COMPARE_BY_ADDRESS
    (void)id;
#else
    while (now->id != id) {
#ifdef QC_BREAK_COMPARE_IN_FIRST_ONLY
        return false;
#endif
        /* acquire: partner is the release in move_words. */
        now = qc_load_acquire(&now->next);
        if (now == NULL)
            return false;
    }
#endif
    return qc_load_acquire(&now->index[slot]) == slot_value;
}

/* K2: in a section, with `expected` a live word seen there.  False: the word is
 * another now, in *expected.  The caller has looked at `frozen` in this section
 * (keytable_is_frozen).  release: partner is the acquire of readers' words. */
QC_INLINE bool
keytable_assign(keytable_entry *e, qc_word *expected, qc_word word)
{
    qc_assert(word_is_live(*expected));
    qc_yield("assign");
    return qc_cas_acq_rel(&e->value, expected, word);
}

/* In a section, before keytable_assign.  acquire: partners are the RMWs in keytable_freeze and
 * keytable_thaw.  An assignment that misses the flag is in a section that the goal waits
 * for. */
QC_INLINE bool
keytable_is_frozen(keymap *map)
{
    return qc_load_acquire(&map->frozen) != 0;
}

/* ---- with the lock ---- */

/* 0 or more entries; false: no memory, or more than KEYTABLE_MAX_KEYS. */
bool keytable_init(keymap *map, heap *h, uint64_t entries);
/* With the table of keytable_copy, which the map takes over. */
void keytable_init_with(keymap *map, keytable *t);

/* Whether one more entry fits as it is. */
static inline bool
keytable_has_room(keymap *map)
{
    keytable *t = keytable_locked(map);
    return qc_load_relaxed(&keytable_counts(t)->used) < t->capacity;
}

/* How many keys fit in a table of `slots`, and in the largest (K9). */
#define keytable_capacity(slots) ((uint64_t)(slots)*2 / 3)
#define KEYTABLE_MAX_KEYS keytable_capacity(keytable_max_slots)

/* One more entry fits afterwards.  It may have to replace the table: *old is then
 * the old one, to be retired (or keytable_unref-ed if not `shared`); NULL
 * otherwise.  False: no memory, or there are KEYTABLE_MAX_KEYS; nothing changed. */
bool keytable_make_room(keymap *map, bool shared, keytable **old);

/* Makes room in place, in a full table of a map that no other thread reads (T1), which saves
 * the page faults of a new table.  The table gets a new id, by which a comparison that
 * released the lock or left the section notices (keytable_unchanged).  False, with no change:
 * the map needs another size, an iterator pins this table, or it has more slots than
 * KEYTABLE_COMPACT_SLOTS.  Forks are held back meanwhile (Q10), since keytable_mend could not
 * finish a compaction.  A fork waits for a second at most (qsbr_hold_forks), and a larger
 * table might take longer. */
bool keytable_compact(keymap *map, qsbr_record *rec);

/* With the lock, in the map's table: the slot for a key that a look has not found.
 * KEYTABLE_NO_SLOT: the key may be there, since an entry with its hash was inserted after
 * the look began.  `compared`: this table's number of entries, read with acquire
 * (keytable_used) before the look; 0 if it is not known. */
QC_INLINE uint32_t
keytable_place(keytable *t, uint64_t hash, uint32_t compared)
{
    uint32_t mask = t->mask;
    uint32_t tag = keytable_tag(t, hash);
    uint64_t perturb = hash;
    uint32_t slot = (uint32_t)hash & mask, place = KEYTABLE_NO_SLOT;
    for (;; keytable_next_slot(slot, perturb, mask)) {
        uint32_t s = qc_load_relaxed(&t->index[slot]);
        uint32_t number = s ^ tag;
        if (s >= KEYTABLE_DUMMY) {
            if (place == KEYTABLE_NO_SLOT)
                place = slot;
            if (s == KEYTABLE_EMPTY)
                return place;
        }
#ifndef QC_BREAK_PLACE_BLIND
        else if (number <= mask && number >= compared && keytable_entries(t)[number].hash == hash)
            return KEYTABLE_NO_SLOT;
#endif
    }
}

/* Inserts a key that is not there.  `slot` is the first free one of its sequence, from
 * keytable_place or keytable_probe_place, or KEYTABLE_NO_SLOT: then it is looked for.  The
 * table has room. */
void keytable_insert(keymap *map, uint64_t hash, qc_word key, qc_word word, uint32_t slot);

/* Assigns; returns the word that was there. */
qc_word keytable_exchange(keytable_entry *e, qc_word word);

/* Deletes; returns the last word.  The key is in the entry, for the caller to
 * retire. */
qc_word keytable_delete(keymap *map, keytable_pos *pos);
/* The same if the word is `expected`; false: it is another one. */
bool keytable_delete_if(keymap *map, keytable_pos *pos, qc_word expected);

/* The entry that was inserted last, or false if there is none. */
bool keytable_find_last(keymap *map, keytable_pos *pos);

/* K7: raises the flag.  From the goal on, until keytable_thaw, words change only under the
 * lock.  The caller waits for the goal, briefly with the lock or without it.  thaw needs no
 * lock.  For shared maps only, since in others no thread assigns without the lock. */
typedef struct {
    uint64_t goal;
    uint32_t generation; /* the fork generation in which the flag was raised */
} keytable_freezing;
keytable_freezing keytable_freeze(keymap *map, qsbr_domain *domain);
void keytable_thaw(keymap *map, keytable_freezing freezing);

/* False in the child of a fork that came after the freeze: the goal was waited for in another
 * process.  The freeze no longer holds the flag, and keytable_thaw does nothing. */
static inline bool
keytable_freeze_holds(keytable_freezing freezing)
{
    return freezing.generation == qc_fork_generation;
}

/* Clears the flag if only threads that a fork left behind had raised it (Q10).  For
 * assignments that found it set; the lock is not needed. */
QC_NOINLINE void keytable_forget_freezes(keymap *map);

/* Q10: with the lock, found as an orphan.  Allocates nothing and cannot fail; done
 * twice, or cut short by a fork and done again, it is the same.  Returns the table
 * that was replaced, as keytable_make_room does, or NULL. */
keytable *keytable_mend(keymap *map);

/* ---- tables ---- */

/* The map's reference is dropped by the table's retirement, an iterator's when
 * it is done: the drop of the last one frees. */
void keytable_unref(keytable *t);

/* Drops the map's reference to a table that other threads may still read, in place of a
 * retirement.  A small table waits in its page, where the drop of the last reference, the
 * map's or an iterator's, puts it (K6).  False, with no change: the table is too large. */
bool keytable_retire(keytable *t);

/* K4: takes the lock if it finds it held: an operation under way may have
 * published its change and not yet its count. */
uint64_t keytable_len(keymap *map);

/* ---- debug ---- */

#ifdef QC_DEBUG
/* Aborts unless the table is as it should be; with the lock. */
void keytable_check(keymap *map);
#else
#define keytable_check(map) ((void)0)
#endif

#endif
