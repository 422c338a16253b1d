/* The lists of a local that its pages are on, and the check that they agree with the
 * states. */
#include "heap/page.h"

void
page_list_push(page_list *list, page_links in, heap_page *p, bool first)
{
    heap_page *prev = first ? NULL : list->last, *next = first ? list->first : NULL;
    p->links[in].prev = prev;
    p->links[in].next = next;
    *(prev != NULL ? &prev->links[in].next : &list->first) = p;
    qc_yield("list page");
    *(next != NULL ? &next->links[in].prev : &list->last) = p;
    list->n++;
}

void
page_list_remove(page_list *list, page_links in, heap_page *p)
{
    heap_page *prev = p->links[in].prev, *next = p->links[in].next;
    *(prev != NULL ? &prev->links[in].next : &list->first) = next;
    *(next != NULL ? &next->links[in].prev : &list->last) = prev;
    list->n--;
}

void
page_put(heap_local *l, heap_page *p, unsigned which, bool first)
{
    qc_assert(p->which == PAGE_NOWHERE);
    p->which = (uint8_t)which;
    page_list_push(&l->lists[which], IN_CLASS, p, first);
    qc_store_relaxed(&l->listed, qc_load_relaxed(&l->listed) + 1);
}

void
page_drop(heap_local *l, heap_page *p)
{
    qc_assert(p->which < PAGE_LISTS);
    page_list_remove(&l->lists[p->which], IN_CLASS, p);
    p->which = PAGE_NOWHERE;
    qc_store_relaxed(&l->listed, qc_load_relaxed(&l->listed) - 1);
}

/* ---- waiting pages ---- */

static void
enlist_local(heap *h, heap_local *l)
{
    l->w_prev = h->waiting.last;
    l->w_next = NULL;
    *(l->w_prev != NULL ? &l->w_prev->w_next : &h->waiting.first) = l;
    h->waiting.last = l;
    h->waiting.n++;
}

static void
delist_local(heap *h, heap_local *l)
{
    *(l->w_prev != NULL ? &l->w_prev->w_next : &h->waiting.first) = l->w_next;
    *(l->w_next != NULL ? &l->w_next->w_prev : &h->waiting.last) = l->w_prev;
    h->waiting.n--;
}

/* Counts one waiting page more or less, and keeps the local on the heap's list while it has
 * any. */
static void
count_waiting(heap_local *l, int more)
{
    heap *h = l->heap;
    uint32_t n = qc_load_relaxed(&l->waiting) + (uint32_t)more;
    qc_store_relaxed(&l->waiting, n);
    qc_add_relaxed(&h->waiting.pages, (uint64_t)(int64_t)more);
    if ((n != 0) == l->in_waiting)
        return;
    qc_lock_acquire(&h->waiting.lock);
    (n != 0 ? enlist_local : delist_local)(h, l);
    l->in_waiting = n != 0;
    qc_lock_release(&h->waiting.lock);
}

heap_local *
page_next_waiting(heap *h)
{
    heap_look_for_fork(h);
    qc_lock_acquire(&h->waiting.lock);
    heap_local *l = h->waiting.first;
    if (l != NULL) {
        delist_local(h, l);
        enlist_local(h, l);
        page_count_seen();
    }
    qc_lock_release(&h->waiting.lock);
    return l;
}

void
page_put_waiting(heap_local *l, heap_page *p, page_wait_list where)
{
    qc_assert(p->waits == NOT_WAITING);
    p->waits = (uint8_t)where;
    page_list_push(where == WAITS_UNTAGGED ? &l->untagged : &l->queued, IN_WAIT, p, false);
    count_waiting(l, 1);
}

void
page_drop_waiting(heap_local *l, heap_page *p)
{
    if (p->waits == NOT_WAITING)
        return;
    page_list_remove(p->waits == WAITS_UNTAGGED ? &l->untagged : &l->queued, IN_WAIT, p);
    p->waits = NOT_WAITING;
    count_waiting(l, -1);
}

/* ---- where a page belongs ---- */

/* Lists the page: with its class if it seems to have a block to serve, else as aging or
 * spent. */
static void
list_page(heap_local *l, heap_page *p)
{
    bool ready = page_has_block(p);
    uint64_t s = qc_load_acquire(&p->state), flags = STATE_LISTED | (ready ? STATE_READY : 0);
    if ((s & flags) == flags)
        return;
    while (!page_cas(p, &s, s | flags))
        ;
    if (s & STATE_LISTED)
        page_drop(l, p);
    if (ready)
        page_put(l, p, p->class, true);
    else
        page_put(l, p, qc_load_relaxed(&p->older) != NULL ? PAGE_AGING : PAGE_SPENT, false);
}

/* A page with a block that is not in use is listed, and a page without live blocks waits.
 * (lock) */
void
page_place(heap_local *l, heap_page *p)
{
    list_page(l, p);
    uint64_t s = qc_load_acquire(&p->state);
    do {
        /* It is in use again, or another thread has already put it there. */
        if (state_live(s) != 0 || (s & (STATE_UNTAGGED | STATE_TAGGED)) != 0) {
            page_check_place(l, p);
            return;
        }
    } while (!page_cas(p, &s, (s & ~STATE_QUEUED) | STATE_UNTAGGED));
    page_drop_waiting(l, p);
    page_put_waiting(l, p, WAITS_UNTAGGED);
    l->untagged_blocks += qc_load_relaxed(&p->used);
    page_check_place(l, p);
    /* T4: no more than this waits without a goal. */
    if (l->untagged.n * PAGE_BYTES > heap_page_limit && l->untagged_blocks >= heap_page_batch)
        page_tag_waiting(l);
    page_check_local(l);
}

/* T7: more waits than the limit, and the calling thread has just added a page. */
static void
ask_for_safe_point(heap *h)
{
#ifndef QC_BREAK_PAGES_NOT_ASKED
    qsbr_record *rec = qsbr_find(h->domain);
    if (rec != NULL)
        qsbr_ask(rec);
#else
    (void)h;
#endif
}

void
page_settle(heap_page *p)
{
    for (;;) {
        /* acquire: partners are the releases in page_start, hand_over and mend_page.  Without
         * it this thread may find the local and not its tag in the state. */
        heap_local *l = qc_load_acquire(&p->local);
        heap_lock_local(l);
        uint64_t s = qc_load_acquire(&p->state);
        bool right = (s & STATE_TAG) == l->tag;
        uint32_t before = qc_load_relaxed(&l->waiting);
        if (right)
            page_place(l, p);
        bool more = qc_load_relaxed(&l->waiting) > before;
        qc_lock_release(&l->lock);
        if (more && heap_waiting_bytes(l->heap) > heap_waiting_limit)
            ask_for_safe_point(l->heap);
        /* Without a tag, another thread has found the page waiting and taken it. */
        if (right || (s & STATE_TAG) == 0)
            return;
    }
}

/* ---- what must hold ---- */

#ifdef QC_DEBUG
void
page_check_place(heap_local *l, heap_page *p)
{
    /* Other threads may change only TAKEN, TAGGED and the counts without the lock, so the
     * flags that are compared here hold still. */
    uint64_t s = qc_load_acquire(&p->state);
    qc_assert(page_state_of(s) != PAGE_ILLEGAL && (s & STATE_TAG) == l->tag);
    qc_assert(((s & STATE_LISTED) != 0) == (p->which < PAGE_LISTS));
    qc_assert(((s & STATE_READY) != 0) == (p->which == p->class));
    qc_assert(((s & STATE_UNTAGGED) != 0) == (p->waits == WAITS_UNTAGGED));
    qc_assert(((s & STATE_QUEUED) != 0) == (p->waits == WAITS_QUEUED));
    qc_assert(p->which != PAGE_SPENT || qc_load_relaxed(&p->older) == NULL);
}

static size_t
count_pages(heap_local *l, page_list *list, page_links in, unsigned where)
{
    size_t n = 0;
    heap_page *prev = NULL;
    for (heap_page *p = list->first; p != NULL; prev = p, p = p->links[in].next, n++) {
        qc_assert(p->links[in].prev == prev);
        qc_assert((in == IN_CLASS ? p->which : p->waits) == where);
        page_check_place(l, p);
    }
    qc_assert(list->last == prev && list->n == n);
    return n;
}

void
page_check_local(heap_local *l)
{
    static _Thread_local unsigned calls;
    if (qc_load_relaxed(&l->listed) > 100 && ++calls % 100 != 0)
        return; /* long lists are checked now and then */
    size_t n = 0;
    for (unsigned which = 0; which < PAGE_LISTS; which++)
        n += count_pages(l, &l->lists[which], IN_CLASS, which);
    qc_assert(qc_load_relaxed(&l->listed) == n);
    n = count_pages(l, &l->untagged, IN_WAIT, WAITS_UNTAGGED);
    n += count_pages(l, &l->queued, IN_WAIT, WAITS_QUEUED);
    qc_assert(qc_load_relaxed(&l->waiting) == n && l->in_waiting == (n != 0));
    uint64_t goal = 0;
    for (heap_page *p = l->queued.first; p != NULL; p = p->links[IN_WAIT].next) {
        qc_assert(goal == 0 || !qsbr_before(p->goal, goal));
        goal = p->goal;
    }
}
#endif
