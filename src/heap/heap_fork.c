/* What a fork leaves of a heap (Q10), and the locks that ask for it. */
#include "heap/page.h"

/* Nobody else is in a page whose thread is gone, or that is the common local's:
 * whoever comes to have it asks for its lock first. */
static void
recount(heap_page *p)
{
    uint32_t n = 0;
    for (heap_block *b = qc_load_relaxed(&p->free); b != NULL; b = b->link)
        n++;
    qc_store_relaxed(&p->n_free, n);
    p->lossy = true;
}

/* The states are right, whatever was being done to the lists: they are made anew
 * from them.  One thread at a time, and nobody else has a lock meanwhile. */
static void
mend_page(heap *h, heap_page *p)
{
    uint64_t s = qc_load_acquire(&p->state);
    heap_local *l = qc_load_relaxed(&h->locals);
    while (l != NULL && l->tag != (s & STATE_TAG))
        l = l->next;
    if (l == NULL) {
        heap_pool_add(h, p);
        return;
    }
    uint64_t flags = STATE_LISTED | STATE_WAITS | STATE_PHASE, after;
    do {
        after = (s & ~flags) | STATE_LISTED;
        if (state_live(s) == 0)
            after |= STATE_UNTAGGED;
    } while (!qc_cas_acq_rel(&p->state, &s, after));
    if (l->rec == NULL || heap_local_is_left(l))
        recount(p);
    qc_store_release(&p->local, l);
    page_list_push(&l->listed[p->class], IN_CLASS, p, false);
    if (after & STATE_UNTAGGED)
        page_list_push(&l->untagged, IN_WAIT, p, false);
}

static void
mend(heap *h)
{
    page_list none = {0};
    qc_lock_init(&h->lock);
    qc_lock_init(&h->common_lock);
    large_mend(h);
    for (heap_local *l = qc_load_acquire(&h->locals); l != NULL; l = l->next) {
        qc_lock_init(&l->lock);
        for (int c = 0; c < PAGE_CLASSES; c++)
            l->listed[c] = none;
        l->untagged = l->queued = none;
    }
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
    for (heap_local *l = qc_load_acquire(&h->locals); l != NULL; l = l->next)
        qc_store_relaxed(&l->waiting, (uint32_t)l->untagged.n);
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
