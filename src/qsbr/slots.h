/* A thread's records in domains that come and go: a table of its own, by the domain's id.
 *
 * Why ids.  A domain ends, and its memory is freed at once, while threads that had a record
 * in it are anywhere.  A thread touches a record of its table only in two cases: it is given
 * the domain, which then lives as long as its caller says so; or it holds the list lock, at
 * its own end, and the end of a domain empties the slots of all its records under that lock.
 * Ids are never reused, so a slot that was emptied is never found again.
 *
 * The owner alone looks up, puts in and makes room.  The list lock is for the slots' records:
 * to empty a slot of another thread's, and to move slots to a larger table. */
#ifndef QSBR_SLOTS_H
#define QSBR_SLOTS_H

#include "qsbr/qsbr.h"

typedef struct qsbr_slot {
    uint64_t id;                /* (owner) of the domain; 0: free */
    _Atomic(qsbr_record *) rec; /* (list lock to empty it) NULL: that domain has ended */
} qsbr_slot;

typedef struct slot_table slot_table;

struct slot_table {
    slot_table *next, *prev; /* (list lock) all threads' tables */
    uint32_t mask, used;     /* (owner) emptied ones are used */
    qsbr_slot slots[];
};

/* The record of that domain, or NULL; `table` may be NULL. */
qsbr_record *slots_find(slot_table *table, uint64_t id);

/* One more can be put in afterwards.  A new table is without the slots that were emptied, and
 * at least half of it is free: a constant number of steps for each that is ever put in, and
 * memory for at most twice as many as there ever were at once.  False: no memory. */
bool slots_make_room(slot_table **table, qc_lock *list_lock);
void slots_put(slot_table *table, uint64_t id, qsbr_record *rec);

/* (list lock) The table's thread ends: the caller frees it after unlocking. */
void slots_unlink(slot_table *table);
/* In the child of a fork (Q10): frees the tables of the threads that are gone.  `mine`: the
 * forking thread's, or NULL.  The list can be walked forward at any moment of a change. */
void slots_forget_others(slot_table *mine);

#endif
