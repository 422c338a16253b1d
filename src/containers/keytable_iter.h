/* Iteration over a key table that others change and replace meanwhile (K6). */
#ifndef CONTAINERS_KEYTABLE_ITER_H
#define CONTAINERS_KEYTABLE_ITER_H

#include "containers/keytable.h"

/* Never raises because of other threads, never repeats an entry, always ends.
 * A cursor pins its table's memory and sees the entries there were at the start.
 * While the table is current it reads there.  After it was replaced the keys and
 * values of its entries may be gone: of each entry that was live then it uses
 * hash and key address only, finds them by identity in the current table, and
 * touches only what it finds there.
 * An entry found that way may be younger than the cursor: its key was deleted and the
 * same object inserted again, or another object with its hash at its address.  The second
 * may equal a key that the cursor has passed already: entries are never repeated, keys
 * that were deleted and inserted again may be. */
typedef struct {
    keytable *table;       /* pinned */
    keytable_entry *found; /* where the last step found its word, good in its section */
    uint32_t at, end;
} keytable_cursor;

typedef enum { KEYTABLE_END, KEYTABLE_ITEM, KEYTABLE_AGAIN } keytable_stepped;

/* In a section: pins the current table. */
void keytable_cursor_init(keytable_cursor *c, keymap *map, const qsbr_record *rec);
/* In a section: one step.  ITEM: a key, valid in this section, and a word, which was
 * found in c->found (K8).  AGAIN: a bounded number of entries was passed without finding
 * one (Q2): leave the section and come again. */
keytable_stepped keytable_step(keytable_cursor *c, keymap *map, const qsbr_record *rec,
                               qc_word *key, qc_word *word);

/* A step from the last entry to the first, for a cursor that only steps back: `at` stays 0
 * and `end` is the number of entries that are left.  In a section, with the promises of
 * keytable_step. */
keytable_stepped keytable_step_back(keytable_cursor *c, keymap *map, const qsbr_record *rec,
                                    qc_word *key, qc_word *word);

/* A step for a caller that knows that no other thread writes or steps meanwhile (as in
 * qc_lock_try_alone).  True if the next entry is live and its table is current.  False, with
 * no change: the caller asks keytable_step. */
QC_INLINE bool
keytable_step_alone(keytable_cursor *c, keymap *map, qc_word *key, qc_word *word)
{
    keytable *t = c->table;
    if (qc_unlikely(t != keytable_exclusive(map) || c->at >= c->end))
        return false;
    keytable_entry *e = &keytable_entries(t)[c->at];
    *word = qc_load_relaxed(&e->value);
    if (qc_unlikely(!word_is_live(*word)))
        return false;
    c->at++;
    *key = e->key;
    return true;
}

#endif
