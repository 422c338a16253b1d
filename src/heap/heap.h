/* Memory for tables and arrays.
 *
 * A heap belongs to an interpreter (Q11).  Blocks up to HEAP_SMALL_MAX come from
 * pages of one size class each, whose reuse waits for readers (page.h has the
 * argument and the drawing); larger ones straight from mimalloc, or from libc
 * where QC_HEAP_LIBC is defined, so that sanitizers and valgrind see every block.
 *
 *  H1  A block's first word is the heap's (list link) and no reader uses it; the
 *      rest stays as readers knew it until the grace period is over.  A block is
 *      on a page list or in a retire batch, never both: what has been given to
 *      heap_retire or heap_free is the heap's.
 *  H6  Large blocks go straight to mimalloc and through the retire queue:
 *      heap_retire does not take them.  Of those that are freed, middling ones are
 *      kept for the next that are asked for, heap_kept_limit bytes in all (large.c).
 *  H7  No other heap of the process is touched: mimalloc is linked statically
 *      with its symbols hidden, and nothing of it overrides malloc, neither in
 *      the process nor inside the extension.
 *  T4  Bytes in pages that wait for reuse are counted too.  The write sequence advances
 *      when a thread's pages that wait without a goal hold more than heap_page_limit bytes
 *      and at least heap_page_batch blocks (without which large blocks would cost an
 *      advance for each dozen).
 *
 * heap_alloc, heap_free, heap_collect and heap_delete may call mimalloc, so never
 * from a TLS destructor or without an attached thread: mimalloc has no fork
 * handlers (Q10), and a raw fork beside threads that allocate may leave its locks
 * held in the child, which nothing here can mend.  heap_retire calls no allocator.
 */
#ifndef HEAP_HEAP_H
#define HEAP_HEAP_H

#include "base/qc_atomic.h"
#include "base/qc_debug.h"
#include "qsbr/qsbr.h"

typedef struct heap heap;

/* What every block begins with. */
typedef struct {
    void *link; /* H1: the heap's */
} heap_block;

#define HEAP_SMALL_MAX 8192

/* T4.  The interpreter's own reclamation has the same limit (twenty of its 4 KiB
 * pages).  It is low enough for a waiting page to be reusable when the next one is
 * needed, and high enough that a thread which empties one page at a time does not make
 * all readers fetch a new sequence for each.  Set before the heaps are used. */
#ifdef QC_DEBUG
#define HEAP_PAGE_LIMIT ((size_t)1) /* each page at once */
#else
#define HEAP_PAGE_LIMIT ((size_t)80 << 10)
#endif
extern size_t heap_page_limit;

/* T7: the limit for the bytes in waiting pages of all threads together.  A thread that adds a
 * page above it has a safe point at its next operation, which collects the pages that can be
 * and makes writers wait for the others.  (Limits for each thread alone would add up over any
 * number of threads.)  Set before the heaps are used. */
#define HEAP_WAITING_LIMIT ((size_t)4 << 20)
extern size_t heap_waiting_limit;

/* H2: how many blocks a thread serves between two promotions of its retired blocks, each with
 * one advance and one poll: 15 pages of the largest.  Set before the heaps are used. */
#ifdef QC_DEBUG
#define HEAP_PAGE_BATCH 8u
#else
#define HEAP_PAGE_BATCH 104u
#endif
extern uint32_t heap_page_batch;

/* H6: how much of large blocks that were freed is kept.  A list of 1,000 whose elements
 * are shifted has its old arrays back a batch at a time (RETIRE_MAX_BYTES), and asks for
 * as many before the next one: two threads' worth.  Set before the heaps are used. */
#define HEAP_KEPT_LIMIT ((size_t)2 << 20)
extern size_t heap_kept_limit;

/* Blocks come from readers of `domain`; it has to outlive the heap's last block.
 * NULL: no memory. */
heap *heap_new(qsbr_domain *domain);

/* No other thread is in a call on this heap, and none allocates from it later.
 * Blocks that are left may still be freed or retired by any thread; the heap goes
 * with the last of them.  What readers may still hold is waited for, for half a
 * second (T8); if a record stays online it is left reachable. */
void heap_delete(heap *h);

/* Uninitialized, 16-byte aligned; NULL: no memory, or a size beyond it.  Outside
 * any section (Q2; it may poll).  May be called under a container's lock: the locks
 * taken here are leaves and held for a few hundred nanoseconds.  A thread without a
 * record is served too, more slowly. */
void *heap_alloc(heap *h, size_t size);

/* Nobody can reach the block any more; `size` as it was asked for. */
void heap_free(heap *h, void *block, size_t size);

/* The block has been unlinked and readers may still hold it; size <=
 * HEAP_SMALL_MAX.  O(1), never fails, frees nothing, needs no memory: it uses the
 * block's first word only. */
void heap_retire(heap *h, void *block, size_t size);

static inline bool
heap_is_small(size_t size)
{
    return size <= HEAP_SMALL_MAX;
}

/* Tags the waiting pages of all threads now, collects those whose goal is reached, and gives
 * free memory back to mimalloc.  `wait`, unless NULL, waits for a grace period for them; if it
 * returns false, the rest of the pages keep waiting.  The caller, and so `wait`, is outside
 * sections and holds no lock of ours.  Returns the bytes given back. */
size_t heap_collect(heap *h, bool (*wait)(qsbr_domain *domain, uint64_t goal));

/* Now and then, as heap_collect is called: gives back what is kept and nobody asks for. */
void heap_tidy(heap *h);

/* Bytes asked for, and neither freed nor retired. */
uint64_t heap_live_bytes(heap *h);
/* Bytes in waiting pages, also in those whose goal has been reached meanwhile.  Takes no
 * lock. */
uint64_t heap_waiting_bytes(heap *h);

/* Exact where no other thread is in a call on the heap; safe at any time. */
typedef struct {
    uint64_t live_bytes;    /* asked for, and neither freed nor retired */
    uint64_t retired_bytes; /* retired into pages and not known as free yet */
    uint64_t waiting_bytes; /* in pages without live blocks that are not free yet */
    uint64_t kept_bytes;    /* of large blocks that are free (H6) */
    uint64_t pages;         /* that have memory: in use, waiting or free */
    uint64_t pages_waiting; /* no live blocks, the goal not reached or not looked at */
    uint64_t pages_free;    /* for any class */
    /* Since the heap began: */
    uint64_t pages_reused;     /* waiting pages whose goal was reached, for any class */
    uint64_t pages_back;       /* waiting pages that served their own class again */
    uint64_t pages_stolen;     /* of those reused, taken from another thread */
    uint64_t pages_adopted;    /* with live blocks, from a thread that ended */
    uint64_t pages_given_back; /* to mimalloc */
} heap_figures;

void heap_stats(heap *h, heap_figures *out);

/* Tests: the n-th allocation from now fails, and with `forever` all after it.
 * n = 0 turns it off.  What was left of the last n: 0 if that one failed, and was to
 * fail once.  Debug builds only. */
#ifdef QC_DEBUG
uint64_t heap_fail_at(uint64_t n, bool forever);
#endif

#endif
