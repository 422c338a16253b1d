/* Waiting pages, and where a fresh page comes from. */
#include "heap/page.h"

size_t heap_page_limit = HEAP_PAGE_LIMIT;
size_t heap_waiting_limit = HEAP_WAITING_LIMIT;

/* ---- tagging ---- */

void
page_take_waiting(heap_local *l)
{
    heap_page *next;
    for (heap_page *p = l->untagged.first; p != NULL; p = next) {
        next = p->links[IN_WAIT].next;
        uint64_t s = qc_load_acquire(&p->state), after;
        do
            after = state_live(s) == 0 ? s | STATE_TAKEN : s & ~STATE_UNTAGGED;
        while (!page_cas(p, &s, after));
        if ((after & STATE_TAKEN) == 0)
            page_drop_waiting(l, p); /* in use again */
    }
}

void
page_tag_taken(heap_local *l, uint64_t goal)
{
    heap_page *next;
    qc_yield("page tag");
    l->untagged_blocks = 0;
    for (heap_page *p = l->untagged.first; p != NULL; p = next) {
        next = p->links[IN_WAIT].next;
        uint64_t s = qc_load_acquire(&p->state);
        /* A page without TAKEN was used since, and waits for the next advance. */
        if ((s & STATE_TAKEN) == 0)
            continue;
        p->goal = goal;
        while (
            (s & STATE_TAKEN) != 0 &&
            !page_cas(p, &s, (s & ~(STATE_TAKEN | STATE_UNTAGGED)) | STATE_TAGGED | STATE_QUEUED))
            ;
        if ((s & STATE_TAKEN) == 0)
            continue;
        page_drop_waiting(l, p);
        page_put_waiting(l, p, WAITS_QUEUED);
        page_check_place(l, p);
    }
}

void
page_tag_waiting(heap_local *l)
{
    uint64_t goal = 0;
    if (l->untagged.n == 0)
        return;
#ifdef QC_BREAK_PAGE_TAG_EARLY
    goal = qsbr_advance(l->heap->domain);
#endif
    qc_yield("page take");
    page_take_waiting(l);
#ifndef QC_BREAK_PAGE_TAG_EARLY
    if (l->untagged.n != 0)
        goal = qsbr_advance(l->heap->domain);
#endif
    page_tag_taken(l, goal);
}

/* Tags the waiting pages of the next locals in turn, `n` at most, with one advance, if at
 * least `enough` blocks wait.  Returns the goal or 0.  One thread at a time does so.  The
 * pages that it takes in the first round keep TAKEN after it releases the lock of their local.
 * Every other thread that tags takes, advances and tags while it holds that lock.  So no page
 * gets a goal older than its taking, whichever thread gives the goal.  The second round
 * visits exactly the locals of the first (QC_BREAK_PAGE_TAG_NEXT: the next ones in turn,
 * whose pages are not taken). */
static uint64_t
tag_several(heap *h, size_t n, uint32_t enough)
{
    uint64_t goal = 0;
    uint32_t blocks = 0;
    heap_local *visited = NULL, *l;
    heap_look_for_fork(h);
    qc_lock_acquire(&h->tag_lock);
#ifdef QC_BREAK_PAGE_TAG_EARLY
    goal = qsbr_advance(h->domain);
#endif
    qc_yield("page take");
    for (; n > 0; n--) {
        l = page_next_waiting(h);
        if (l == NULL || l->visited)
            break; /* once around */
        l->visited = true;
        l->visited_next = visited;
        visited = l;
        heap_lock_local(l);
        page_take_waiting(l);
        if (l->untagged.n != 0)
            blocks += l->untagged_blocks != 0 ? l->untagged_blocks : 1;
        qc_lock_release(&l->lock);
    }
    bool worth = blocks != 0 && blocks >= enough;
#ifndef QC_BREAK_PAGE_TAG_EARLY
    if (worth)
        goal = qsbr_advance(h->domain);
#endif
    while ((l = visited) != NULL) {
        visited = l->visited_next;
        l->visited = false;
        if (!worth)
            continue;
#ifdef QC_BREAK_PAGE_TAG_NEXT
        if ((l = page_next_waiting(h)) == NULL)
            continue;
#endif
        heap_lock_local(l);
        page_tag_taken(l, goal);
        page_check_local(l);
        qc_lock_release(&l->lock);
    }
    qc_lock_release(&h->tag_lock);
    return worth ? goal : 0;
}

/* ---- taking away ---- */

/* Removes a page that the caller has taken away from the lists of its old local. */
static void
detach(heap_local *l, heap_page *p)
{
    uint32_t retired = qc_load_relaxed(&p->used) - qc_load_relaxed(&p->n_free);
    qc_sub_relaxed(&l->retired_bytes, (uint64_t)retired * p->block_bytes);
    page_drop_waiting(l, p);
    page_drop(l, p);
    if (qc_load_relaxed(&l->current[p->class]) == p)
        qc_store_relaxed(&l->current[p->class], NULL);
}

/* The result for a page on the list of waiting pages with a goal. */
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
        /* acq_rel: partners are the CASes by which the last blocks came back, without which
         * the next user could overwrite a block before its last user was done, and the
         * owner's CAS, which fails after this one (H4). */
    } while (!page_cas(p, &s, after));
    return what;
}

/* Takes away the pages whose goal is reached, chained by links[IN_WAIT].next. */
static heap_page *
take_reached(heap_local *l)
{
    heap_page *chain = NULL, *next;
    for (heap_page *p = l->queued.first; p != NULL; p = next) {
        next = p->links[IN_WAIT].next;
        found what = take_if_reached(l, p);
        if (what == UNREACHED)
            break; /* the goals after it are later */
        if (what == REACHED) {
            detach(l, p);
            p->links[IN_WAIT].next = chain;
            chain = p;
            continue;
        }
        page_drop_waiting(l, p);
        if (what == USED_SINCE) {
            page_put_waiting(l, p, WAITS_UNTAGGED);
            l->untagged_blocks += qc_load_relaxed(&p->used);
        }
        page_check_place(l, p);
    }
    page_check_local(l);
    return chain;
}

/* ---- a fresh page ---- */

static void
page_start(heap_local *l, heap_page *p, unsigned class)
{
    uint32_t bytes = page_class_bytes(class);
    qc_assert((qc_load_relaxed(&p->state) & STATE_TAG) == 0);
    page_show(p->base, PAGE_FIRST);
    *(heap_page **)p->base = p;
    p->class = (uint8_t) class;
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
    qc_store_release(&p->state, l->tag | STATE_LISTED | STATE_READY);
    p->which = PAGE_NOWHERE;
    p->waits = NOT_WAITING;
    page_put(l, p, class, true);
    page_check_place(l, p);
    qc_lock_release(&l->lock);
}

/* Moves the waiting pages of a local whose goal is reached to the pool.  *goal: lowered to the
 * oldest goal that is not reached.  `other`: the local is another thread's. */
static void
reclaim(heap_local *l, uint64_t *goal, bool other)
{
    heap *h = l->heap;
    if (qc_load_relaxed(&l->waiting) == 0)
        return;
    heap_lock_local(l);
    heap_page *chain = take_reached(l), *oldest = l->queued.first;
    if (oldest != NULL && (*goal == 0 || qsbr_before(oldest->goal, *goal)))
        *goal = oldest->goal;
    qc_lock_release(&l->lock);
    for (heap_page *p = chain; p != NULL; p = p->links[IN_WAIT].next) {
        qc_add_relaxed(&h->reused, 1u);
        if (other)
            qc_add_relaxed(&h->stolen, 1u);
    }
    if (chain != NULL)
        heap_pool_put(h, chain);
}

static void
reclaim_several(heap *h, heap_local *l, size_t n, uint64_t *goal)
{
    for (; n > 0; n--) {
        heap_local *o = page_next_waiting(h);
        if (o == NULL)
            return;
        reclaim(o, goal, o != l);
    }
}

void
page_reclaim_all(heap *h, heap_local *l, uint64_t *goal)
{
    qc_lock_acquire(&h->waiting.lock);
    size_t n = h->waiting.n;
    qc_lock_release(&h->waiting.lock);
    tag_several(h, n, 0);
    reclaim_several(h, l, n, goal);
}

bool
page_look(heap_local *l, uint64_t goal)
{
    heap *h = l->heap;
    uint64_t others = tag_several(h, PAGE_OTHERS, PAGE_ENOUGH), oldest = 0;
    if (others != 0)
        goal = others; /* it is the later one */
    heap_lock_local(l);
    if (l->lists[PAGE_AGING].first != NULL)
        oldest = l->lists[PAGE_AGING].first->older_goal;
    if (l->queued.first != NULL && (oldest == 0 || qsbr_before(l->queued.first->goal, oldest)))
        oldest = l->queued.first->goal;
    qc_lock_release(&l->lock);
    if (goal == 0)
        goal = oldest;
    /* One poll, and so one heavy barrier, for all of these. */
    if (goal == 0)
        return false;
    heap_poll(h, goal);
    return oldest != 0 && qsbr_goal_reached(h->domain, oldest);
}

bool
page_fresh(heap_local *l, unsigned class, bool looked)
{
    heap *h = l->heap;
    uint64_t goal = 0;
    reclaim(l, &goal, false);
    if (page_adopt(l, class, looked))
        return true;
    heap_page *p = heap_pool_get(h);
    if (p == NULL) {
        reclaim_several(h, l, PAGE_OTHERS, &goal);
        p = heap_pool_get(h);
    }
    /* (Other threads may take the pages that this thread adds.) */
    for (; p == NULL; p = heap_pool_get(h))
        if (!heap_extent_add(h))
            return false;
    page_start(l, p, class);
    return true;
}
