/* Where pages' memory comes from: extents, and the pool of free pages. */
#define _GNU_SOURCE /* posix_memalign */
#include "heap/page.h"

#include <stdlib.h>
#include <string.h>

#define EXTENT_BYTES (EXTENT_PAGES * PAGE_BYTES)

#ifdef QC_HEAP_LIBC
#define system_free(p) free(p)
static void *
system_extent(void)
{
    void *memory;
    return posix_memalign(&memory, PAGE_BYTES, EXTENT_BYTES) == 0 ? memory : NULL;
}
#else
#include <mimalloc.h>
#define system_extent() mi_malloc_aligned(EXTENT_BYTES, PAGE_BYTES)
#define system_free(p) mi_free(p)
#endif

static void
free_extents(char *memory)
{
    while (memory != NULL) {
        char *next = *(char **)memory;
        page_show(memory, EXTENT_BYTES);
        qc_poison(memory, EXTENT_BYTES);
        system_free(memory);
        memory = next;
    }
}

/* An extent whose pages are all free loses its memory, which is put before `chain`;
 * to be freed without the lock.  (lock) */
static char *
strip_extent(heap *h, heap_extent *e, char *chain)
{
    char *memory = e->memory;
    for (int i = 0; i < EXTENT_PAGES; i++)
        page_list_remove(&h->pool, IN_CLASS, &e->pages[i]);
    e->memory = NULL; /* first: a fork may leak it, and free it twice never */
    e->n_free = 0;
    e->bare_next = h->bare;
    h->bare = e;
    h->idle_extents--;
    qc_add_relaxed(&h->given_back, EXTENT_PAGES);
    page_show(memory, sizeof chain);
    *(char **)memory = chain;
    return memory;
}

void
heap_pool_add(heap *h, heap_page *p)
{
    page_list_push(&h->pool, IN_CLASS, p, true);
    h->idle_extents += ++p->extent->n_free == EXTENT_PAGES;
}

void
heap_pool_put(heap *h, heap_page *chain)
{
    char *memory = NULL;
    heap_page *next;
    heap_lock(h);
    for (heap_page *p = chain; p != NULL; p = next) {
        next = p->links[IN_WAIT].next;
        heap_pool_add(h, p);
        /* One idle extent is kept, so that a page that comes and goes does not take
         * memory from the system and give it back each time. */
        if (h->idle_extents > 1 && p->extent->n_free == EXTENT_PAGES)
            memory = strip_extent(h, p->extent, memory);
    }
    qc_lock_release(&h->lock);
    free_extents(memory);
}

heap_page *
heap_pool_get(heap *h)
{
    heap_lock(h);
    heap_page *p = h->pool.first;
    if (p != NULL) {
        page_list_remove(&h->pool, IN_CLASS, p);
        h->idle_extents -= p->extent->n_free-- == EXTENT_PAGES;
    }
    qc_lock_release(&h->lock);
    return p;
}

/* Descriptors whose memory was given back, or new ones.  NULL: no memory. */
static heap_extent *
bare_extent(heap *h)
{
    heap_lock(h);
    heap_extent *e = h->bare;
    if (e != NULL)
        h->bare = e->bare_next;
    qc_lock_release(&h->lock);
    void *memory = e;
    if (e == NULL && posix_memalign(&memory, QC_LINE_PAIR, sizeof *e) != 0)
        return NULL;
    if (e == NULL) {
        e = memory;
        memset((void *)e, 0, sizeof *e);
        for (int i = 0; i < EXTENT_PAGES; i++) {
            e->pages[i].extent = e;
            e->pages[i].which = PAGE_NOWHERE;
        }
        heap_lock(h);
        e->next = qc_load_relaxed(&h->extents);
        /* release: the link first, for the child of a fork. */
        qc_store_release(&h->extents, e);
        qc_lock_release(&h->lock);
    }
    return e;
}

bool
heap_extent_add(heap *h)
{
    heap_extent *e = bare_extent(h);
    if (e == NULL)
        return false;
    char *memory = system_extent();
    heap_lock(h);
    if (memory != NULL) {
        page_hide(memory, EXTENT_BYTES);
        for (int i = EXTENT_PAGES - 1; i >= 0; i--) {
            e->pages[i].base = memory + (size_t)i * PAGE_BYTES;
            heap_pool_add(h, &e->pages[i]);
        }
        e->memory = memory;
    }
    else {
        e->bare_next = h->bare;
        h->bare = e;
    }
    qc_lock_release(&h->lock);
    return memory != NULL;
}

void
heap_pool_give_back(heap *h)
{
    char *memory = NULL;
    heap_lock(h);
    for (heap_extent *e = qc_load_relaxed(&h->extents); e != NULL; e = e->next)
        if (e->n_free == EXTENT_PAGES)
            memory = strip_extent(h, e, memory);
    qc_lock_release(&h->lock);
    free_extents(memory);
}

void
heap_extents_end(heap *h)
{
    for (heap_extent *e = qc_load_relaxed(&h->extents), *next; e != NULL; e = next) {
        next = e->next;
        if (e->memory != NULL) {
            page_show(e->memory, sizeof(char *));
            *(char **)e->memory = NULL;
            free_extents(e->memory);
        }
        qc_poison(e, sizeof *e);
        free(e);
    }
}
