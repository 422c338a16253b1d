/* Repairs a heap in the child of a fork (Q10); its locks check whether that is due. */
#include "heap/page.h"

/* For a page whose thread is gone, or that is the common local's.  No other thread uses it,
 * since a thread that gets it takes its local's lock first. */
static void
recount(heap_page *p)
{
    uint32_t n = 0;
    for (heap_block *b = qc_load_relaxed(&p->free); b != NULL; b = b->link)
        n++;
    qc_store_relaxed(&p->n_free, n);
    p->lossy = true;
}

/* The local whose tag is in the page's state, or NULL if no local has the page. */
static heap_local *
owner_of(heap *h, heap_page *p)
{
    uint64_t tag = qc_load_acquire(&p->state) & STATE_TAG;
    heap_local *l = qc_load_relaxed(&p->local);
    if (tag == 0)
        return NULL;
    if (l != NULL && l->tag == tag)
        return l;
    /* The fork came between the two stores of hand_over.  That has the heap's lock, so there
     * is at most one such page. */
    for (l = qc_load_relaxed(&h->locals); l->tag != tag; l = l->next)
        page_count_seen();
    return l;
}

/* The states are right, whatever was being done to the lists, so the lists are made anew from
 * them.  One thread mends at a time, and no other thread has a lock of the heap meanwhile. */
static void
mend_page(heap *h, heap_page *p)
{
    heap_local *l = owner_of(h, p);
    p->which = PAGE_NOWHERE;
    p->waits = NOT_WAITING;
    if (l == NULL) {
        heap_pool_add(h, p);
        return;
    }
    uint64_t s = qc_load_acquire(&p->state);
    while (!page_cas(p, &s, s & ~STATE_FLAGS))
        ;
    if (l->rec == NULL || heap_local_is_left(l))
        recount(p);
    qc_store_release(&p->local, l);
    page_place(l, p);
}

static void
mend(heap *h)
{
    page_list none = {0};
    qc_lock_init(&h->lock);
    qc_lock_init(&h->common_lock);
    qc_lock_init(&h->tag_lock);
    qc_lock_init(&h->waiting.lock);
    large_mend(h);
    h->waiting.first = h->waiting.last = NULL;
    h->waiting.n = 0;
    qc_store_relaxed(&h->waiting.pages, 0u);
    for (heap_local *l = qc_load_acquire(&h->locals); l != NULL; l = l->next) {
        qc_lock_init(&l->lock);
        for (int which = 0; which < PAGE_LISTS; which++)
            l->lists[which] = none;
        l->untagged = l->queued = none;
        l->untagged_blocks = 0;
        l->in_waiting = l->visited = false;
        qc_store_relaxed(&l->listed, 0u);
        qc_store_relaxed(&l->waiting, 0u);
    }
    heap_mend_by_record(h);
    h->bare = NULL;
    h->pool = none;
    h->idle_extents = 0;
    for (heap_extent *e = qc_load_acquire(&h->extents); e != NULL; e = e->next) {
        e->n_free = 0;
        if (e->memory == NULL) {
            e->bare_next = h->bare;
            h->bare = e;
            continue;
        }
        for (int i = 0; i < EXTENT_PAGES; i++)
            mend_page(h, &e->pages[i]);
    }
}

static qc_lock mend_lock; /* an orphan's holder was mending: so is the next */

void
heap_mend(heap *h)
{
    qc_lock_acquire(&mend_lock);
    if (qc_load_relaxed(&h->mended) != qc_fork_generation) {
        mend(h);
        /* release: partner is the acquire load in heap_look_for_fork. */
        qc_store_release(&h->mended, qc_fork_generation);
    }
    qc_lock_release(&mend_lock);
}

void
heap_lock(heap *h)
{
    heap_look_for_fork(h);
    qc_lock_acquire(&h->lock);
}

void
heap_lock_local(heap_local *l)
{
    heap_look_for_fork(l->heap);
    qc_lock_acquire(&l->lock);
}
