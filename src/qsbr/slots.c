#include "qsbr/slots.h"

#include <stdlib.h>

#define LEAST_SLOTS 8u

static _Atomic(slot_table *) all_tables; /* (list lock) */

/* (list lock) */
static void
link_table(slot_table *table)
{
    table->next = qc_load_relaxed(&all_tables);
    table->prev = NULL;
    if (table->next != NULL)
        table->next->prev = table;
    /* release: partner is the acquire in slots_forget_others, in the child of a fork.  Without
     * it the child could find the table and not its `next`. */
    qc_store_release(&all_tables, table);
}

void
slots_unlink(slot_table *table)
{
    if (table->prev != NULL)
        table->prev->next = table->next;
    else
        qc_store_release(&all_tables, table->next);
    if (table->next != NULL)
        table->next->prev = table->prev;
}

void
slots_forget_others(slot_table *mine)
{
    for (slot_table *t = qc_load_acquire(&all_tables), *next; t != NULL; t = next) {
        next = t->next;
        if (t != mine)
            free(t);
    }
    if (mine != NULL)
        mine->next = mine->prev = NULL;
    qc_store_relaxed(&all_tables, mine);
}

/* The slot of the domain, or the free one where it would be.  A table always has a free one.
 * Ids are consecutive, so most slots are where a probe begins. */
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
    qc_lock_acquire(list_lock); /* no domain ends while slots move */
    for (uint32_t i = 0; old != NULL && i <= old->mask; i++) {
        qsbr_record *rec = qc_load_relaxed(&old->slots[i].rec);
        if (rec != NULL)
            slots_put(new, old->slots[i].id, rec);
    }
    *table = new;
    link_table(new);
    if (old != NULL)
        slots_unlink(old);
    qc_lock_release(list_lock);
    free(old);
    return true;
}
