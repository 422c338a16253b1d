#include "qsbr/slots.h"

#include <stdlib.h>

#define LEAST_SLOTS 8u

/* The slot of the domain, or the free one where it would be.  There always is a free one.
 * Ids come one after the other, so most are where they belong. */
static qsbr_slot *
slot_of(slot_table *table, uint64_t id)
{
    for (uint64_t i = id;; i++) {
        qsbr_slot *slot = &table->slots[i & table->mask];
        qc_yield("slot");
        if (slot->id == id || slot->id == 0)
            return slot;
    }
}

qsbr_record *
slots_find(slot_table *table, uint64_t id)
{
    return table == NULL ? NULL : qc_load_relaxed(&slot_of(table, id)->rec);
}

void
slots_put(slot_table *table, uint64_t id, qsbr_record *rec)
{
    qsbr_slot *slot = slot_of(table, id);
    qc_assert(slot->id == 0 && table->used < table->mask);
    slot->id = id;
    qc_store_relaxed(&slot->rec, rec);
    rec->slot = slot;
    table->used++;
}

bool
slots_make_room(slot_table **table, qc_lock *list_lock)
{
    slot_table *old = *table;
    if (old != NULL && old->used < old->mask - old->mask / 4)
        return true;
    uint32_t live = 0, n = LEAST_SLOTS;
    for (uint32_t i = 0; old != NULL && i <= old->mask; i++)
        live += qc_load_relaxed(&old->slots[i].rec) != NULL;
    while (n < 2 * (live + 1))
        n *= 2;
    slot_table *new = calloc(1, sizeof *new + n * sizeof new->slots[0]);
    if (new == NULL)
        return false;
    new->mask = n - 1;
    if (old == NULL) {
        *table = new;
        return true;
    }
    qc_lock_acquire(list_lock); /* a domain may end meanwhile */
    for (uint32_t i = 0; i <= old->mask; i++) {
        qsbr_record *rec = qc_load_relaxed(&old->slots[i].rec);
        if (rec != NULL)
            slots_put(new, old->slots[i].id, rec);
    }
    *table = new;
    qc_lock_release(list_lock);
    free(old);
    return true;
}
