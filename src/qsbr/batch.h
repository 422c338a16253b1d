/* What the two halves of the retire queue share: retire.c puts items into batches,
 * retire_run.c runs them.  For these two files only. */
#ifndef QSBR_BATCH_H
#define QSBR_BATCH_H

#include "qsbr/retire.h"

typedef struct {
    retire_fn fn;
    uint64_t arg;
} retire_item;

/* Read and written by whoever has taken it, and nobody else. */
struct retire_batch {
    retire_batch *next;
    uint64_t goal; /* 0 while open */
    size_t bytes;
    size_t largest; /* of its blocks */
    uint32_t n;     /* items put in */
    uint32_t first; /* items run */
    uint32_t blocks;
    bool counted; /* in the queue's bytes and items */
    retire_item items[RETIRE_BATCH_ITEMS];
};

uint64_t retire_now_ns(void);

/* As a new one: for the next operation. */
void retire_make_empty(retire_batch *batch);

/* Makes a batch that only the caller has one of `local`'s closed ones. */
void retire_push_closed(retire_local *local, retire_batch *batch);

/* The batch, which was `from`'s open one and which nobody else can reach any more,
 * gets its goal, is one of `local`'s closed ones, and `local`'s thread is asked to come
 * back for it. */
void retire_close(retire_local *local, retire_local *from, retire_batch *batch);

/* The open batch, out of everybody's reach; NULL: there is none. */
retire_batch *retire_take_open(retire_local *local);

/* The batch's bytes and items begin or cease to be held, and what follows for T7. */
void retire_count(retire_queue *queue, retire_batch *batch, bool held);

/* T7: looks at what is held once more. */
void retire_weigh(retire_queue *queue);

/* Q10: in the child of a fork, once.  `mine` is the calling thread's record. */
void retire_mend(retire_queue *queue, qsbr_record *mine);

#endif
