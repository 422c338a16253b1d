/* Lists of pages, and where a fresh page comes from. */
#include "heap/page.h"

size_t heap_page_limit = HEAP_PAGE_LIMIT;

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
page_set_waiting(heap_local *l)
{
    qc_store_relaxed(&l->waiting, (uint32_t)(l->untagged.n + l->queued.n));
}

/* ---- where a page belongs ---- */

/* On the class's list, as long as some block may be free one day; and without live
 * blocks on the list of those that wait.  (lock) */
static void
place(heap_local *l, heap_page *p)
{
    uint64_t s = qc_load_acquire(&p->state);
    if ((s & STATE_LISTED) == 0) {
        while (!qc_cas_acq_rel(&p->state, &s, s | STATE_LISTED))
            ;
        page_list_push(&l->listed[p->class], IN_CLASS, p, qc_load_relaxed(&p->free) != NULL);
        s |= STATE_LISTED;
    }
    do {
        /* Live again, or somebody has been here. */
        if (state_live(s) != 0 || (s & (STATE_UNTAGGED | STATE_TAGGED)) != 0)
            return;
    } while (!qc_cas_acq_rel(&p->state, &s, (s & ~STATE_QUEUED) | STATE_UNTAGGED));
    if (s & STATE_QUEUED)
        page_list_remove(&l->queued, IN_WAIT, p);
    page_list_push(&l->untagged, IN_WAIT, p, false);
    page_set_waiting(l);
    /* T4: at most this much waits for a goal to be given. */
    if (l->untagged.n * PAGE_BYTES > heap_page_limit)
        page_tag_waiting(l);
    page_check_local(l);
}

void
page_settle(heap_page *p)
{
    for (;;) {
        /* acquire: partner is the release in page_start and adopt_from. */
        heap_local *l = qc_load_acquire(&p->local);
        heap_lock_local(l);
        uint64_t s = qc_load_acquire(&p->state);
        bool right = (s & STATE_TAG) == l->tag;
        if (right)
            place(l, p);
        qc_lock_release(&l->lock);
        /* Nobody's: somebody has found it waiting, and taken it. */
        if (right || (s & STATE_TAG) == 0)
            return;
    }
}

/* H3: those that wait without a goal are taken, then there is one advance, then what
 * was taken is tagged. */
void
page_tag_waiting(heap_local *l)
{
    uint64_t goal = 0;
    heap_page *next;
    if (l->untagged.n == 0)
        return;
#ifdef QC_BREAK_PAGE_TAG_EARLY
    goal = qsbr_advance(l->heap->domain);
#endif
    qc_yield("page take");
    for (heap_page *p = l->untagged.first; p != NULL; p = next) {
        next = p->links[IN_WAIT].next;
        uint64_t s = qc_load_acquire(&p->state), after;
        do
            after = state_live(s) == 0 ? s | STATE_TAKEN : s & ~STATE_UNTAGGED;
        while (!qc_cas_acq_rel(&p->state, &s, after));
        if ((after & STATE_TAKEN) == 0)
            page_list_remove(&l->untagged, IN_WAIT, p); /* in use again */
    }
#ifndef QC_BREAK_PAGE_TAG_EARLY
    if (l->untagged.n != 0)
        goal = qsbr_advance(l->heap->domain);
    qc_yield("page tag");
#endif
    for (heap_page *p = l->untagged.first; p != NULL; p = next) {
        next = p->links[IN_WAIT].next;
        uint64_t s = qc_load_acquire(&p->state);
        p->goal = goal;
        /* Without TAKEN it was used since: it stays for the next time. */
        while ((s & STATE_TAKEN) != 0 &&
               !qc_cas_acq_rel(&p->state, &s,
                               (s & ~(STATE_TAKEN | STATE_UNTAGGED)) | STATE_TAGGED | STATE_QUEUED))
            ;
        if ((s & STATE_TAKEN) == 0)
            continue;
        page_list_remove(&l->untagged, IN_WAIT, p);
        page_list_push(&l->queued, IN_WAIT, p, false);
    }
    page_set_waiting(l);
}

/* Out of the local's lists: a page that is nobody's now. */
static void
detach(heap_local *l, heap_page *p)
{
    uint32_t retired = qc_load_relaxed(&p->used) - qc_load_relaxed(&p->n_free);
    qc_sub_relaxed(&l->retired_bytes, (uint64_t)retired * p->block_bytes);
    page_list_remove(&l->queued, IN_WAIT, p);
    page_list_remove(&l->listed[p->class], IN_CLASS, p);
    if (qc_load_relaxed(&l->current[p->class]) == p)
        qc_store_relaxed(&l->current[p->class], NULL);
}

/* What a page on the list of those with a goal is found to be. */
typedef enum { REACHED, UNREACHED, IN_USE, USED_SINCE } found;

static bool
reached(heap_local *l, heap_page *p)
{
#ifdef QC_BREAK_PAGE_TO_OTHER_CLASS
    (void)l;
    (void)p;
    return true;
#else
    return qsbr_goal_reached(l->heap->domain, p->goal);
#endif
}

static found
take_if_reached(heap_local *l, heap_page *p)
{
    uint64_t s = qc_load_acquire(&p->state), after;
    found what;
    do {
        if (state_live(s) != 0) {
            what = IN_USE;
            after = s & ~STATE_QUEUED;
        }
        else if ((s & STATE_TAGGED) == 0) {
            what = USED_SINCE;
            after = (s & ~STATE_QUEUED) | STATE_UNTAGGED;
        }
        else if (!reached(l, p)) {
            return UNREACHED;
        }
        else {
            what = REACHED;
            after = 0;
        }
        /* acq_rel: partners are the CASes of those who retired the last blocks, and
         * the owner's that fails (H4). */
    } while (!qc_cas_acq_rel(&p->state, &s, after));
    return what;
}

heap_page *
page_take_reached(heap_local *l)
{
    heap_page *chain = NULL, *next;
    for (heap_page *p = l->queued.first; p != NULL; p = next) {
        next = p->links[IN_WAIT].next;
        found what = take_if_reached(l, p);
        if (what == UNREACHED)
            break; /* and those after it are younger */
        if (what == REACHED) {
            detach(l, p);
            p->links[IN_WAIT].next = chain;
            chain = p;
            continue;
        }
        page_list_remove(&l->queued, IN_WAIT, p);
        if (what == USED_SINCE)
            page_list_push(&l->untagged, IN_WAIT, p, false);
    }
    page_set_waiting(l);
    page_check_local(l);
    return chain;
}

/* ---- a fresh page ---- */

void
page_start(heap_local *l, heap_page *p, unsigned class)
{
    uint32_t bytes = page_class_bytes(class);
    qc_assert((qc_load_relaxed(&p->state) & STATE_TAG) == 0);
    page_show(p->base, PAGE_FIRST);
    *(heap_page **)p->base = p;
    p->class = (uint16_t) class;
    p->block_bytes = bytes;
    uint32_t capacity = (uint32_t)((PAGE_BYTES - PAGE_FIRST) / bytes);
#ifdef QC_DEBUG
    if (page_blocks != 0 && capacity > page_blocks)
        capacity = page_blocks;
#endif
    qc_store_relaxed(&p->capacity, capacity);
    page_reset(p);
    heap_lock_local(l);
    qc_store_release(&p->local, l);
    qc_store_release(&p->state, l->tag | STATE_LISTED);
    page_list_push(&l->listed[class], IN_CLASS, p, true);
    qc_lock_release(&l->lock);
}

/* The waiting pages of a local: those whose goal is reached go to the pool.  *goal:
 * the oldest that is not.  Returns whether there was one that is. */
static bool
reclaim(heap_local *l, uint64_t *goal, bool other)
{
    heap *h = l->heap;
    if (qc_load_relaxed(&l->waiting) == 0)
        return false;
    heap_lock_local(l);
    page_tag_waiting(l);
    heap_page *chain = page_take_reached(l), *oldest = l->queued.first;
    if (oldest != NULL && (*goal == 0 || qsbr_before(oldest->goal, *goal)))
        *goal = oldest->goal;
    qc_lock_release(&l->lock);
    if (chain == NULL)
        return false;
    for (heap_page *p = chain; p != NULL; p = p->links[IN_WAIT].next) {
        qc_add_relaxed(&h->reused, 1u);
        if (other)
            qc_add_relaxed(&h->stolen, 1u);
    }
    heap_pool_put(h, chain);
    return true;
}

bool
page_reclaim_all(heap *h, heap_local *l, uint64_t *goal)
{
    bool any = false;
    for (heap_local *o = qc_load_acquire(&h->locals); o != NULL; o = o->next)
        any |= reclaim(o, goal, o != l);
    return any;
}

/* H5: a page with live blocks that a thread which ended has left. (the heap's lock) */
static heap_page *
adopt_from(heap_local *left, heap_local *l, unsigned class)
{
    heap_page *found = NULL;
    page_list *list = &left->listed[class];
    qc_lock_acquire(&left->lock);
    for (size_t n = list->n < PAGE_LOOKS ? list->n : PAGE_LOOKS; n > 0 && found == NULL; n--) {
        heap_page *p = list->first;
        uint64_t s = qc_load_acquire(&p->state);
        /* (An empty one is waiting, for any class.) */
        bool ready = state_live(s) != 0 && page_gather(left, p);
        page_list_remove(list, IN_CLASS, p);
        s = qc_load_acquire(&p->state);
        while (ready && state_live(s) != 0 && found == NULL)
            if (qc_cas_acq_rel(&p->state, &s, (s & (STATE_LIVE | STATE_FOREIGN)) | l->tag))
                found = p;
        if (found == NULL) {
            page_list_push(list, IN_CLASS, p, false);
            continue;
        }
        if (s & STATE_WAITS)
            page_list_remove(s & STATE_UNTAGGED ? &left->untagged : &left->queued, IN_WAIT, p);
        if (qc_load_relaxed(&left->current[class]) == p)
            qc_store_relaxed(&left->current[class], NULL);
        /* release, after the tag: partner is page_settle, which waits for this lock
         * or finds the new local. */
        qc_store_release(&p->local, l);
    }
    page_set_waiting(left);
    qc_lock_release(&left->lock);
    return found;
}

static bool
adopt(heap_local *l, unsigned class)
{
    heap *h = l->heap;
    heap_page *p = NULL;
    heap_lock(h);
    for (heap_local *o = qc_load_acquire(&h->locals); o != NULL && p == NULL; o = o->next)
        if (o != l && heap_local_is_left(o))
            p = adopt_from(o, l, class);
    qc_lock_release(&h->lock);
    if (p == NULL)
        return false;
    qc_add_relaxed(&h->adopted, 1u);
    page_settle(p);
    return true;
}

bool
page_fresh(heap_local *l, unsigned class)
{
    heap *h = l->heap;
    uint64_t goal = 0;
    heap_page *p;
    reclaim(l, &goal, false);
    if (adopt(l, class))
        return true;
    p = heap_pool_get(h);
    if (p == NULL) {
        page_reclaim_all(h, l, &goal);
        p = heap_pool_get(h);
    }
    if (p == NULL && goal != 0 && heap_poll(h, goal)) {
        page_reclaim_all(h, l, &goal);
        p = heap_pool_get(h);
    }
    /* (Others may be quicker to take what this thread adds.) */
    for (; p == NULL; p = heap_pool_get(h))
        if (!heap_extent_add(h))
            return false;
    page_start(l, p, class);
    return true;
}

/* ---- what must hold ---- */

#ifdef QC_DEBUG
static size_t
count_pages(page_list *list, page_links in)
{
    size_t n = 0;
    heap_page *prev = NULL;
    for (heap_page *p = list->first; p != NULL; prev = p, p = p->links[in].next, n++)
        qc_assert(p->links[in].prev == prev);
    qc_assert(list->last == prev && list->n == n);
    return n;
}

void
page_check_local(heap_local *l)
{
    static _Thread_local unsigned calls;
    size_t pages = 0;
    for (unsigned c = 0; c < PAGE_CLASSES; c++)
        pages += l->listed[c].n;
    if (pages > 100 && ++calls % 100 != 0)
        return; /* long lists now and then */
    for (unsigned c = 0; c < PAGE_CLASSES; c++) {
        count_pages(&l->listed[c], IN_CLASS);
        for (heap_page *p = l->listed[c].first; p != NULL; p = p->links[IN_CLASS].next) {
            uint64_t s = qc_load_relaxed(&p->state);
            qc_assert((s & STATE_TAG) == l->tag && (s & STATE_LISTED) != 0 && p->class == c);
            qc_assert((s & STATE_WAITS) != STATE_WAITS);
        }
    }
    size_t n = count_pages(&l->untagged, IN_WAIT) + count_pages(&l->queued, IN_WAIT);
    qc_assert(qc_load_relaxed(&l->waiting) == n);
    for (heap_page *p = l->untagged.first; p != NULL; p = p->links[IN_WAIT].next) {
        uint64_t s = qc_load_relaxed(&p->state);
        qc_assert((s & STATE_TAG) == l->tag && (s & STATE_WAITS) == STATE_UNTAGGED);
        qc_assert((s & STATE_TAGGED) == 0);
    }
    uint64_t goal = 0;
    for (heap_page *p = l->queued.first; p != NULL; p = p->links[IN_WAIT].next) {
        uint64_t s = qc_load_relaxed(&p->state);
        qc_assert((s & STATE_TAG) == l->tag && (s & STATE_WAITS) == STATE_QUEUED);
        qc_assert(goal == 0 || !qsbr_before(p->goal, goal));
        goal = p->goal;
    }
}
#else
void
page_check_local(heap_local *l)
{
    (void)l;
}
#endif
