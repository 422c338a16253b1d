/* Memory for tables and arrays.
 *
 * A heap belongs to an interpreter (Q11) and counts what it gave out; the bytes
 * come from mimalloc, or from libc where QC_HEAP_LIBC is defined, so that
 * AddressSanitizer and valgrind see every block of the test programs.
 *
 *  H1  A block's first word is the heap's and no reader uses it; the rest stays
 *      as readers knew it until heap_free.  (The word is for the page layer;
 *      callers leave room for it from the start: heap_block.)
 *  H6  Large blocks go straight to mimalloc and wait in the retire queue.  Until
 *      there are pages, small ones do the same.
 *  H7  No other heap of the process is touched: mimalloc is linked statically
 *      with its symbols hidden, and nothing of it overrides malloc.
 *
 * Never called from a TLS destructor or without an attached thread: mimalloc
 * has no fork handlers (Q10).
 */
#ifndef HEAP_HEAP_H
#define HEAP_HEAP_H

#include "base/qc_atomic.h"
#include "base/qc_debug.h"

typedef struct heap heap;

/* What every block begins with. */
typedef struct {
    void *link; /* H1: the heap's */
} heap_block;

/* NULL: no memory.  A heap that still has blocks may be deleted by the last
 * heap_free instead (heap_delete marks it). */
heap *heap_new(void);
void heap_delete(heap *h);

/* Uninitialized, 16-byte aligned; NULL: no memory, or a size beyond it. */
void *heap_alloc(heap *h, size_t size);
/* Nobody can reach the block any more; `size` as it was asked for. */
void heap_free(heap *h, void *block, size_t size);

/* Bytes asked for and not freed. */
uint64_t heap_live_bytes(heap *h);

/* Tests: the n-th allocation from now fails, and with `forever` all after it.
 * n = 0 turns it off.  Debug builds only. */
#ifdef QC_DEBUG
void heap_fail_at(uint64_t n, bool forever);
#endif

#endif
