/* H5: threads that ended, and the pages that they have left. */
#include "heap/page.h"

/* So many pages change hands at once. */
#define LEFT_PAGES 32

/* A page with live blocks of a thread that ended becomes another local's, and is on no
 * list.  (lock; and nobody owns it) */
static bool
hand_over(heap_local *from, heap_page *p, heap_local *to)
{
    uint64_t s = qc_load_acquire(&p->state);
    do {
        if (state_live(s) == 0)
            return false; /* it waits, for any class */
    } while (!page_cas(p, &s, (s & (STATE_LIVE | STATE_FOREIGN)) | to->tag));
    page_drop(from, p);
    page_drop_waiting(from, p);
    if (qc_load_relaxed(&from->current[p->class]) == p)
        qc_store_relaxed(&from->current[p->class], NULL);
    /* release, after the tag: partner is page_settle, which waits for this lock or finds
     * the new local. */
    qc_store_release(&p->local, to);
    return true;
}

/* The listed pages of a thread that ended become orphans, a number of them.  (What it has
 * on no list comes later, if a block of it is given back.)  Whether it is the next local's
 * turn: that was all, or pages that wait stand before the others.  Those stay, however long
 * the reader does that they wait for, and have gone to the end of their lists.  (the heap's
 * lock; here alone are two locals' taken) */
static bool
leave(heap_local *left, heap_local *orphans)
{
    size_t looks = LEFT_PAGES;
    bool stay = false;
    qc_lock_acquire(&left->lock);
    qc_lock_acquire(&orphans->lock);
    for (unsigned which = 0; which < PAGE_LISTS && looks > 0; which++) {
        for (size_t n = left->lists[which].n; n > 0 && looks > 0; n--, looks--) {
            heap_page *p = left->lists[which].first;
            if (hand_over(left, p, orphans)) {
                page_place(orphans, p);
            }
            else {
                page_drop(left, p);
                page_put(left, p, which, false);
                stay = true;
            }
        }
    }
    page_check_local(left);
    qc_lock_release(&orphans->lock);
    qc_lock_release(&left->lock);
    return looks != 0 || stay;
}

/* Nothing runs when a thread ends: a few locals are looked at each time.  (the heap's lock) */
static void
look_for_left(heap *h)
{
#ifdef QC_BREAK_PAGE_ALL_LOCALS
    for (h->cursor = NULL;;) {
#else
    for (int i = 0; i < PAGE_OTHERS; i++) {
#endif
        heap_local *l = h->cursor != NULL ? h->cursor : qc_load_relaxed(&h->locals);
        page_count_seen();
        if (qc_load_relaxed(&l->listed) != 0 && heap_local_is_left(l) && !leave(l, h->orphans)) {
            h->cursor = l; /* there is more */
            return;
        }
        h->cursor = l->next;
        if (l->next == NULL)
            return; /* once round at most */
    }
}

bool
page_adopt(heap_local *l, unsigned class, bool looked)
{
    heap *h = l->heap;
    heap_local *orphans = h->orphans;
    heap_page *found = NULL;
    heap_lock(h);
    look_for_left(h);
    if (qc_load_relaxed(&orphans->listed) != 0) {
        qc_lock_acquire(&orphans->lock);
        for (int n = 0; n < PAGE_LOOKS && found == NULL; n++) {
            heap_page *p = page_ready(orphans, class);
            if (p == NULL)
                break;
            if (hand_over(orphans, p, l)) {
                found = p;
            }
            else {
                page_drop(orphans, p);
                page_put(orphans, p, class, false);
            }
        }
        if (found == NULL && looked)
            page_take_batch(orphans);
        page_check_local(orphans);
        qc_lock_release(&orphans->lock);
    }
    qc_lock_release(&h->lock);
    if (found == NULL)
        return false;
    qc_add_relaxed(&h->adopted, 1u);
    page_settle(found);
    return true;
}
