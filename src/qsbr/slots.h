/* A thread's records in domains that come and go: a table for each thread, by domain id.
 *
 * Why ids.  The end of a domain frees its memory immediately, wherever the threads are that
 * had a record in it.  A thread follows a record of its table in two cases only.  Either its
 * caller passed the domain, and guarantees that it lives; or the thread is at its end and
 * holds the list lock, under which the end of a domain empties the slots of all its records.
 * Ids are never reused, so a slot that was emptied is never found again.
 *
 * Only the owner looks up, puts in and makes room.  The list lock protects the slots'
 * records: to empty a slot of another thread, and to move slots to a larger table. */
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
    uint32_t mask, used;     /* (owner) emptied slots count as used */
    qsbr_slot slots[];
};

/* The record of that domain, or NULL; `table` may be NULL. */
qsbr_record *slots_find(slot_table *table, uint64_t id);

/* Makes room for one more.  A new table drops the slots that were emptied and is at least
 * half free: a constant number of steps for each record ever put in, and memory in
 * proportion to the most records that the thread had at a time.  False: no memory. */
bool slots_make_room(slot_table **table, qc_lock *list_lock);
void slots_put(slot_table *table, uint64_t id, qsbr_record *rec);

/* (list lock) For a thread that ends.  The caller frees the table after unlocking. */
void slots_unlink(slot_table *table);
/* In the child of a fork (Q10): frees the tables of the threads that are gone.  `mine` is the
 * forking thread's table, or NULL.  The fork may have come in the middle of a change of the
 * list, which can be walked forward at every moment. */
void slots_forget_others(slot_table *mine);

#endif
