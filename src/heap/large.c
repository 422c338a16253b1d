/* Blocks above HEAP_SMALL_MAX, and the shelf for those that come and go (H6).
 *
 * A list of 1,000 elements that others read gets a new array at each insert(0).  Its
 * memory goes back when no reader can have it, a megabyte at a time, and mimalloc gives
 * that to the system at once, as it should where a table of 5 MB has been replaced.
 * Then each new array is faulted in page by page, which takes several times as long as
 * copying the elements (measured: insert(0) and pop(0), 6.8 us each; 0.3 with the shelf).
 *
 * So blocks up to SHELF_MOST are put on the shelf, heap_kept_limit bytes in all, and
 * serve the next allocation of their class, in any thread.  A block on it is as free as
 * one that was given back: whoever frees has waited for readers.  The shelf is given
 * back as a whole by heap_collect, when a block of SHELF_BESIDE is asked for (so that a
 * container which grows large does not hold what it outgrew), by heap_tidy when nobody
 * has used it for a while, and when the heap is deleted.
 *
 * Q10  A list of the shelf changes by one store of its head, so in the child of a fork
 *      it is right; its lock is made new and the bytes are counted again (large_mend).
 *      The block in the hand of a thread that is gone is lost.
 */
#include "heap/page.h"

#include <stdlib.h>

#ifdef QC_HEAP_LIBC
#define system_alloc(size) malloc(size)
#define system_free(p) free(p)
/* Sanitizers and valgrind are to see every block freed. */
size_t heap_kept_limit = 0;
#else
#include <mimalloc.h>
#define system_alloc(size) mi_malloc(size)
#define system_free(p) mi_free(p)
size_t heap_kept_limit = HEAP_KEPT_LIMIT;
#endif

#define SHELF_LOG 13 /* of HEAP_SMALL_MAX */
#define SHELF_MOST (HEAP_SMALL_MAX << (SHELF_CLASSES / 8))
#define SHELF_BESIDE ((size_t)1 << 20)
/* Safe points without any use, which are a thousand operations each or more. */
#define SHELF_IDLE 16

_Static_assert(HEAP_SMALL_MAX == 1 << SHELF_LOG, "classes begin there");

/* Eight a doubling, as mimalloc has: it gives a block the room of its class anyway. */
static unsigned
class_of(size_t size)
{
    unsigned log = SHELF_LOG;
    while (((size - 1) >> log) > 1)
        log++;
    return (log - SHELF_LOG) * 8 + (unsigned)(((size - 1) >> (log - 3)) & 7);
}

static size_t
class_bytes(unsigned class)
{
    unsigned log = SHELF_LOG + class / 8;
    return ((size_t)1 << log) + ((size_t)(class % 8 + 1) << (log - 3));
}

static void
lock_shelf(heap *h)
{
    heap_look_for_fork(h);
    qc_lock_acquire(&h->shelf.lock);
}

static void
count_kept(heap *h, size_t more)
{
    qc_store_relaxed(&h->shelf.bytes, qc_load_relaxed(&h->shelf.bytes) + more);
}

/* NULL: there is none. */
static heap_block *
take(heap *h, unsigned class)
{
    if (qc_load_relaxed(&h->shelf.bytes) == 0)
        return NULL;
    lock_shelf(h);
    heap_block *b = qc_load_relaxed(&h->shelf.first[class]);
    if (b != NULL) {
        page_show(b, class_bytes(class));
        qc_store_release(&h->shelf.first[class], (heap_block *)b->link);
        qc_yield("shelf");
        count_kept(h, 0 - class_bytes(class));
    }
    h->shelf.used = true;
    qc_lock_release(&h->shelf.lock);
    return b;
}

/* False: there is no room for it. */
static bool
put(heap *h, heap_block *b, unsigned class)
{
    size_t bytes = class_bytes(class);
    if (heap_kept_limit == 0)
        return false;
    lock_shelf(h);
    bool may = !h->shelf.closed && qc_load_relaxed(&h->shelf.bytes) + bytes <= heap_kept_limit;
    if (may) {
        b->link = qc_load_relaxed(&h->shelf.first[class]);
        page_hide(b + 1, bytes - sizeof *b);
        /* release: the link first, for the child of a fork. */
        qc_store_release(&h->shelf.first[class], b);
        qc_yield("shelf");
        count_kept(h, bytes);
        h->shelf.used = true;
    }
    qc_lock_release(&h->shelf.lock);
    return may;
}

#ifdef QC_DEBUG
/* As in page.c: somebody who had no right to has written to a free block. */
static void
check_kept(heap_block *b, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)b;
    for (size_t i = sizeof *b; i < size; i += 61)
        qc_assert(bytes[i] == QC_POISON);
}
#else
#define check_kept(b, size) ((void)(b))
#endif

size_t
large_give_back(heap *h)
{
    size_t sum = 0;
    if (qc_load_relaxed(&h->shelf.bytes) == 0)
        return 0;
    for (unsigned class = 0; class < SHELF_CLASSES; class ++) {
        if (qc_load_relaxed(&h->shelf.first[class]) == NULL)
            continue;
        lock_shelf(h);
        heap_block *b = qc_load_relaxed(&h->shelf.first[class]);
        qc_store_release(&h->shelf.first[class], NULL);
        size_t bytes = 0;
        for (heap_block *each = b; each != NULL; each = each->link)
            bytes += class_bytes(class);
        count_kept(h, 0 - bytes);
        qc_lock_release(&h->shelf.lock);
        for (heap_block *next; b != NULL; b = next) {
            next = b->link;
            page_show(b, class_bytes(class));
            check_kept(b, class_bytes(class));
            system_free(b);
        }
        sum += bytes;
    }
    return sum;
}

void
large_close(heap *h)
{
    lock_shelf(h);
    h->shelf.closed = true;
    qc_lock_release(&h->shelf.lock);
    large_give_back(h);
}

void
large_mend(heap *h)
{
    size_t bytes = 0;
    qc_lock_init(&h->shelf.lock);
    for (unsigned class = 0; class < SHELF_CLASSES; class ++)
        for (heap_block *b = qc_load_relaxed(&h->shelf.first[class]); b != NULL; b = b->link)
            bytes += class_bytes(class);
    qc_store_relaxed(&h->shelf.bytes, bytes);
}

void
heap_tidy(heap *h)
{
    if (qc_likely(qc_load_relaxed(&h->shelf.bytes) == 0))
        return;
    lock_shelf(h);
    h->shelf.idle = h->shelf.used ? 0 : h->shelf.idle + 1;
    h->shelf.used = false;
    bool idle = h->shelf.idle >= SHELF_IDLE;
    qc_lock_release(&h->shelf.lock);
    if (idle)
        large_give_back(h);
}

void *
large_alloc(heap *h, size_t size)
{
    if (size > PTRDIFF_MAX)
        return NULL;
    size_t room = size;
    heap_block *block = NULL;
    if (size <= SHELF_MOST) {
        unsigned class = class_of(size);
        room = class_bytes(class);
        block = take(h, class);
        if (block != NULL)
            check_kept(block, room);
    }
    else if (size >= SHELF_BESIDE) {
        large_give_back(h);
    }
    if (block == NULL && (block = system_alloc(room)) == NULL)
        return NULL;
    page_hide((char *)block + size, room - size);
    qc_add_relaxed(&h->large_bytes, size);
    qc_add_relaxed(&h->refs, 1u);
    return block;
}

void
large_free(heap *h, void *block, size_t size)
{
    unsigned class = size <= SHELF_MOST ? class_of(size) : 0;
    size_t room = size <= SHELF_MOST ? class_bytes(class) : size;
    page_show(block, room);
    qc_poison(block, room);
    if (size > SHELF_MOST || !put(h, block, class))
        system_free(block);
    qc_sub_relaxed(&h->large_bytes, size);
    heap_unref(h);
}
