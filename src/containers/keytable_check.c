/* The validator of debug builds: what must hold of a table whenever its lock is
 * held and no operation is half done. */
#include "containers/keytable.h"

#ifdef QC_DEBUG

static void
check_slots(keytable *t, uint64_t live)
{
    uint32_t used = qc_load_relaxed(&keytable_counts(t)->used), empty = 0, taken = 0;
    for (uint64_t i = 0; i <= t->mask; i++) {
        uint32_t s = qc_load_relaxed(&t->index[i]);
        if (s == KEYTABLE_EMPTY) {
            empty++;
        }
        else if (s != KEYTABLE_DUMMY) {
            qc_assert((s & t->mask) < used);
            keytable_entry *e = &keytable_entries(t)[s & t->mask];
            qc_assert((s & ~t->mask) == keytable_tag(t, e->hash));
            qc_assert(qc_load_relaxed(&e->value) != WORD_DELETED);
            taken++;
        }
    }
    qc_assert(empty > t->mask - t->capacity); /* probes end */
    qc_assert(taken == live);                 /* a live entry has one slot, a deleted one none */
}

void
keytable_check(keymap *map)
{
    keytable *t = keytable_locked(map);
    keytable_entry *entries = keytable_entries(t);
    uint32_t used = qc_load_relaxed(&keytable_counts(t)->used);
    qc_assert(used <= t->capacity && keytable_counts(t)->last <= used);
    qc_assert(qc_load_relaxed(&t->refs) >= 1);
    qc_assert(qc_load_relaxed(&t->next) == NULL); /* current: not replaced */
    /* Large tables are checked now and then: this is O(n) at every change. */
    if (used > 64 && (used & 0xFF) != 0)
        return;
    uint64_t live = 0;
    for (uint32_t i = 0; i < used; i++) {
        qc_word w = qc_load_relaxed(&entries[i].value);
        qc_assert(w == WORD_DELETED || word_is_live(w));
        live += w != WORD_DELETED;
        qc_assert(w == WORD_DELETED || i < keytable_counts(t)->last);
    }
    qc_assert(live == qc_load_relaxed(&map->live));
    check_slots(t, live);
}

#else
/* ISO C wants a translation unit to declare something. */
typedef int keytable_check_is_off;
#endif
