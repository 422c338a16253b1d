/* H5: the pages of threads that ended, and their adoption. */
#include "heap/page.h"

/* The most pages that become orphans in one step. */
#define LEFT_PAGES 32

/* Gives a page with live blocks of a thread that ended to another local, on no list.  False:
 * it has no live block.  (lock; no thread owns the page) */
static bool
hand_over(heap_local *from, heap_page *p, heap_local *to)
{
    uint64_t s = qc_load_acquire(&p->state);
    do {
        if (state_live(s) == 0)
            return false; /* it waits, and is for any class */
    } while (!page_cas(p, &s, (s & (STATE_LIVE | STATE_FOREIGN)) | to->tag));
    page_drop(from, p);
    page_drop_waiting(from, p);
    if (qc_load_relaxed(&from->current[p->class]) == p)
        qc_store_relaxed(&from->current[p->class], NULL);
    /* release, and after the tag: partner is the acquire in page_settle.  Either page_settle
     * finds the new local, or it finds the old one, waits for its lock and then sees the
     * tag. */
    qc_store_release(&p->local, to);
    return true;
}

/* Makes up to LEFT_PAGES listed pages of an ended thread orphans.  (A page on no list follows
 * when a block of it is given back.)  Pages that wait stay with the old local, at the end of
 * their lists, until their readers have left.  True: it is the next local's turn, since all
 * pages were visited or some of them wait.  (the heap's lock; only this function holds the
 * locks of two locals) */
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

/* No code runs when a thread ends, so each call checks the next few locals.  (the heap's
 * lock) */
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
            return; /* once around at most */
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
