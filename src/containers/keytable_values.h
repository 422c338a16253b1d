/* What the words of a key table refer to (K8).
 *
 * Keys and tables wait for readers, values do not.  So before the reference in a word is
 * dropped, no word that a reader may still come upon and believe says so any more.
 *
 *   assigned   the entry has the next word
 *   deleted    DELETED
 *   grown      MOVED in the table that was replaced: in each that readers may have, before
 *              the new one can be assigned to (move_words)
 *   cleared    DELETED in each word of the table that was taken out (keytable_take_word)
 *
 * And a reader that has found a word and taken a reference to what it refers to looks at
 * the word again (keytable_is_still): only then is that the value.
 */
#ifndef CONTAINERS_KEYTABLE_VALUES_H
#define CONTAINERS_KEYTABLE_VALUES_H

#include "containers/keytable.h"

/* In the section in which `word` was seen there, after a reference to what it refers to
 * was taken: whether the word is still there, so that the reference is to the value.
 * acquire: partners are the stores that unlink a word (keytable_assign, _exchange, _delete,
 * move_words, keytable_take_word), each of which comes before the drop.  A count that was
 * raised after the drop orders this load after that store (py_try.h). */
QC_INLINE bool
keytable_is_still(const keytable_entry *e, qc_word word)
{
#ifdef QC_BREAK_VALUE_NO_SECOND_LOOK
    (void)e;
    (void)word;
    return true;
#endif
    return qc_load_acquire(&e->value) == word;
}

/* K7: with the lock, and frozen if shared: a new table with the live entries, in order,
 * that no other thread knows.  It takes hashes and keys as they are and compares none.
 * The caller takes references to keys and words before it unlocks.  NULL: no memory. */
keytable *keytable_copy(keymap *map);

/* Publishes a table that no other thread knows, from keytable_new_empty or
 * keytable_copy; returns the old one, whose live words and their keys the caller
 * drops: the words each by keytable_take_word, the keys
 * (keytable_each_key) after the grace period if shared.  A shared map is frozen, or has no live
 * word: then no assignment without the lock can succeed (K2: from a live word only). */
keytable *keytable_new_empty(heap *h);
keytable *keytable_swap(keymap *map, keytable *t);

/* The word of the entry `at` of a table that was cleared, which readers find DELETED from
 * now on; WORD_DELETED if it was before.  An exchange: an assignment that found the table
 * before it was replaced may come until then, and fails afterwards. */
qc_word keytable_take_word(keytable *t, uint32_t at);

/* The keys that a table had when it was replaced by keytable_swap, in the order of the
 * index, which still has the entries that were live. */
QC_INLINE void
keytable_each_key(keytable *t, void (*each)(void *ctx, qc_word key), void *ctx)
{
    for (uint64_t slot = 0; slot <= t->mask; slot++) {
        uint32_t s = qc_load_relaxed(&t->index[slot]);
        if (s < KEYTABLE_DUMMY)
            each(ctx, keytable_entries(t)[s & t->mask].key);
    }
}

/* Another reference to a table, for one that has one: while it drops the values. */
static inline void
keytable_hold(keytable *t)
{
    (void)qc_add_relaxed(&t->refs, 1u);
}

#endif
