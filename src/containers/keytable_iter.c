#include "containers/keytable_iter.h"

/* How many entries a step passes at most in one section (Q2). */
#define STEP_ENTRIES 256

/* Not one whose last reference went when it was replaced: the map has another then.
 * (The caller is in the section in which it found the table, so the memory is as it
 * was.) */
static bool
pin(keytable *t)
{
    uint32_t refs = qc_load_relaxed(&t->refs);
    while (refs != 0) {
        qc_yield("pin");
        if (qc_cas_relaxed(&t->refs, &refs, refs + 1))
            return true;
    }
    return false;
}

void
keytable_cursor_init(keytable_cursor *c, keymap *map, const qsbr_record *rec)
{
    do
        c->table = keytable_in_section(map, rec);
    while (!pin(c->table));
    c->found = NULL;
    c->at = 0;
    /* acquire: partner is the release in keytable_insert. */
    c->end = qc_load_acquire(&keytable_counts(c->table)->used);
}

/* By identity: the context is the key's word. */
static keytable_result
same_key(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    (void)t;
    (void)slot;
    return e->key == *(qc_word *)ctx ? KEYTABLE_HIT : KEYTABLE_MISS;
}

/* In a section: whether an entry of the cursor's table is still in the map, and its key and
 * word by now. */
QC_INLINE bool
look(keytable_cursor *c, keytable_entry *e, keymap *map, const qsbr_record *rec, qc_word *key,
     qc_word *word)
{
    qc_yield("step");
    /* The table is looked up before the word is read: if it is current, in
     * this section, the key of a live word is not dropped. */
    keytable *current = keytable_in_section(map, rec);
    qc_word w = qc_load_acquire(&e->value);
    if (w == WORD_DELETED)
        return false;
    if (current == c->table && w != WORD_MOVED) {
        *key = e->key;
        *word = w;
        c->found = e;
        return true;
    }
    /* Replaced, or being replaced at this moment: the key by its address. */
    keytable_pos pos;
    qc_word address = e->key;
#ifdef QC_BREAK_MOVED_IS_GONE
    return false;
#endif
    if (keytable_find(current, e->hash, same_key, &address, &pos) != KEYTABLE_HIT)
        return false;
    *key = pos.entry->key;
    *word = pos.word;
    c->found = pos.entry;
    return true;
}

keytable_stepped
keytable_step(keytable_cursor *c, keymap *map, const qsbr_record *rec, qc_word *key, qc_word *word)
{
    keytable_entry *entries = keytable_entries(c->table);
    for (int n = 0; n < STEP_ENTRIES && c->at < c->end; n++)
        if (look(c, &entries[c->at++], map, rec, key, word))
            return KEYTABLE_ITEM;
    return c->at < c->end ? KEYTABLE_AGAIN : KEYTABLE_END;
}

keytable_stepped
keytable_step_back(keytable_cursor *c, keymap *map, const qsbr_record *rec, qc_word *key,
                   qc_word *word)
{
    keytable_entry *entries = keytable_entries(c->table);
    for (int n = 0; n < STEP_ENTRIES && c->end > 0; n++)
        if (look(c, &entries[--c->end], map, rec, key, word))
            return KEYTABLE_ITEM;
    return c->end > 0 ? KEYTABLE_AGAIN : KEYTABLE_END;
}
