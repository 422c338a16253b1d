#include "heap/page.h"

uint32_t heap_page_batch = HEAP_PAGE_BATCH;

#ifdef QC_DEBUG
unsigned page_blocks = 24;
_Atomic uint64_t page_locals_seen;
#endif

/* ---- the owner's fields ---- */

static heap_block *
block_at(heap_page *p, uint32_t i)
{
    return (heap_block *)(p->base + PAGE_FIRST + (size_t)i * p->block_bytes);
}

static heap_block *
foreign_block(heap_page *p, uint64_t s)
{
    return state_foreign(s) == 0 ? NULL : (heap_block *)(p->base + state_foreign(s) * PAGE_GRAIN);
}

/* H1: beyond the link no thread reads a free block. */
static void
hide(heap_page *p, heap_block *b)
{
#ifdef QC_DEBUG
    page_show(b, p->block_bytes);
    qc_poison(b + 1, p->block_bytes - sizeof *b);
#endif
    page_hide(b + 1, p->block_bytes - sizeof *b);
}

#ifdef QC_DEBUG
/* A free block must be as it was left.  If it is not, a thread wrote to it after freeing it,
 * or kept it for longer than a section. */
static void
check_hidden(heap_page *p, heap_block *b)
{
    page_show(b, p->block_bytes);
    for (uint32_t i = sizeof *b; i < p->block_bytes; i++)
        qc_assert(((unsigned char *)b)[i] == QC_POISON);
    page_hide(b + 1, p->block_bytes - sizeof *b);
}
#endif

/* A block of a page whose live count the caller has just raised for it. */
static void *
pop(heap_page *p)
{
    heap_block *b = qc_load_relaxed(&p->free);
    if (b != NULL) {
#ifdef QC_DEBUG
        check_hidden(p, b);
#endif
        qc_store_relaxed(&p->free, (heap_block *)b->link);
        qc_yield("page pop");
        qc_store_relaxed(&p->n_free, qc_load_relaxed(&p->n_free) - 1);
    }
    else {
        uint32_t i = qc_load_relaxed(&p->used);
        b = block_at(p, i);
        qc_store_relaxed(&p->used, i + 1);
    }
    page_check(p);
    return b;
}

void
page_reset(heap_page *p)
{
    /* What was retired into it is as free as what was not used: the list heads
     * first, so that a fork between the stores loses blocks and doubles none. */
    qc_store_relaxed(&p->newer, NULL);
    qc_store_relaxed(&p->older, NULL);
    qc_store_relaxed(&p->free, NULL);
    qc_store_relaxed(&p->n_free, 0u);
    qc_store_release(&p->used, 0u);
    p->n_older = 0;
    p->lossy = false;
    page_hide(p->base + PAGE_FIRST, PAGE_BYTES - PAGE_FIRST);
}

/* H2: the older generation's grace period is over. */
static void
free_older(heap_local *l, heap_page *p)
{
    heap_block *first = qc_load_relaxed(&p->older);
    qc_assert(qc_load_relaxed(&p->free) == NULL);
    qc_store_relaxed(&p->older, NULL);
    for (heap_block *b = first; b != NULL; b = b->link)
        hide(p, b);
    /* release: after `older` is empty, for the child of a fork (page.h). */
    qc_store_release(&p->free, first);
    qc_store_relaxed(&p->n_free, p->n_older);
    qc_sub_relaxed(&l->retired_bytes, (uint64_t)p->n_older * p->block_bytes);
}

/* Moves the blocks that other threads retired into `newer`, and counts its blocks. */
static void
collect_foreign(heap_page *p)
{
    qc_assert(qc_load_relaxed(&p->older) == NULL);
    uint64_t s = qc_load_acquire(&p->state);
    while (state_foreign(s) != 0 && !page_cas(p, &s, s & ~STATE_FOREIGN))
        ;
    heap_block *first = foreign_block(p, s), *last = first;
    if (first != NULL) {
        while (last->link != NULL)
            last = last->link;
        last->link = qc_load_relaxed(&p->newer);
        qc_store_release(&p->newer, first);
    }
    /* The blocks that are neither free nor live in the state of that CAS. */
    uint32_t n = qc_load_relaxed(&p->used) - qc_load_relaxed(&p->n_free) - (uint32_t)state_live(s);
    if (p->lossy) {
        n = 0;
        for (heap_block *b = qc_load_relaxed(&p->newer); b != NULL; b = b->link)
            n++;
    }
    p->n_older = (uint16_t)n;
}

/* H2: newer, which was taken before the advance to `goal`, becomes older. */
static void
promote(heap_page *p, uint64_t goal)
{
    heap_block *taken = qc_load_relaxed(&p->newer);
    qc_store_relaxed(&p->newer, NULL);
    p->older_goal = goal;
    /* release: after `newer` is empty, for the child of a fork (page.h). */
    qc_store_release(&p->older, taken);
}

/* Whether the spent pages hold enough blocks without a goal for an advance. */
static bool
is_enough(heap_local *l)
{
    uint32_t n = 0, looks = PAGE_BATCH_LOOKS;
    for (heap_page *p = l->lists[PAGE_SPENT].first; p != NULL && looks > 0; looks--) {
        uint64_t s = qc_load_acquire(&p->state);
        if ((s & STATE_TAGGED) == 0) /* otherwise its goal covers all of its blocks */
            n += qc_load_relaxed(&p->used) - qc_load_relaxed(&p->n_free) - (uint32_t)state_live(s);
#ifdef QC_BREAK_PAGE_ADVANCES
        if (n != 0)
#else
        if (n >= PAGE_ENOUGH)
#endif
            return true;
        p = p->links[IN_CLASS].next;
    }
    return false;
}

uint64_t
page_take_batch(heap_local *l)
{
    uint64_t goal = 0;
    if (!is_enough(l))
        return 0;
#ifdef QC_BREAK_PAGE_TAG_EARLY
    goal = qsbr_advance(l->heap->domain);
#endif
    qc_yield("page take");
    page_take_waiting(l);
    page_list *spent = &l->lists[PAGE_SPENT];
    size_t n = 0;
    for (heap_page *p = spent->first; p != NULL && n < PAGE_BATCH_LOOKS; n++) {
        collect_foreign(p);
        p = p->links[IN_CLASS].next;
    }
#ifndef QC_BREAK_PAGE_TAG_EARLY
    goal = qsbr_advance(l->heap->domain);
#endif
    for (; n > 0; n--) {
        heap_page *p = spent->first;
#ifdef QC_BREAK_BLOCK_AT_ONCE
        promote(p, qc_load_relaxed(&l->heap->domain->rd_seq));
#else
        promote(p, goal);
#endif
        page_drop(l, p);
        page_put(l, p, PAGE_AGING, false);
        page_check(p);
    }
    page_tag_taken(l, goal);
    return goal;
}

/* A waiting page whose own goal is reached serves its class as a new one would. */
static bool
renew(heap_local *l, heap_page *p)
{
    uint64_t s = qc_load_acquire(&p->state);
    if (state_live(s) != 0 || !(s & STATE_TAGGED) || !qsbr_goal_reached(l->heap->domain, p->goal))
        return false;
    /* Only the owner makes a page live, and this is it. */
    uint32_t retired = qc_load_relaxed(&p->used) - qc_load_relaxed(&p->n_free);
    qc_sub_relaxed(&l->retired_bytes, (uint64_t)retired * p->block_bytes);
    bool same = page_cas(p, &s, s & ~(STATE_FOREIGN | STATE_PHASE));
    qc_assert(same);
    (void)same;
    page_reset(p);
    return true;
}

/* Whether the page has a block to serve, after freeing blocks whose goal is reached. */
static bool
gather(heap_local *l, heap_page *p)
{
    if (page_has_block(p) || renew(l, p))
        return true;
    if (qc_load_relaxed(&p->older) != NULL && qsbr_goal_reached(l->heap->domain, p->older_goal))
        free_older(l, p);
    page_check(p);
    return page_has_block(p);
}

/* ---- allocating ---- */

/* Takes a page whose blocks are all in use off its local's lists, until one comes back.
 * False: one already has. */
static bool
unlist(heap_local *l, heap_page *p)
{
    uint64_t s = qc_load_acquire(&p->state);
    do {
        if (state_foreign(s) != 0 || state_live(s) == 0)
            return false;
        qc_yield("unlist");
#ifdef QC_BREAK_UNLISTED_WAITS
    } while (!qc_cas_acq_rel(&p->state, &s, s & ~(STATE_LISTED | STATE_READY)));
    page_drop(l, p);
#else
    } while (!page_cas(p, &s, s & ~STATE_FLAGS));
    page_drop(l, p);
    page_drop_waiting(l, p);
    page_check_place(l, p);
#endif
    return true;
}

/* Moves a page without a block to serve from its class's list to the list on which it waits
 * for one. */
static void
put_spent(heap_local *l, heap_page *p)
{
    bool older = qc_load_relaxed(&p->older) != NULL;
    if (!older && qc_load_relaxed(&p->newer) == NULL && unlist(l, p))
        return;
    uint64_t s = qc_load_acquire(&p->state);
    while (!page_cas(p, &s, s & ~STATE_READY))
        ;
    page_drop(l, p);
    page_put(l, p, older ? PAGE_AGING : PAGE_SPENT, false);
    page_check_place(l, p);
}

/* Moves pages of all classes whose goal is reached back to their classes' lists.  Whether
 * there was any. */
static bool
free_aged(heap_local *l)
{
    size_t n = 0;
    for (; n < PAGE_LOOKS; n++) {
        heap_page *p = l->lists[PAGE_AGING].first;
        if (p == NULL || !qsbr_goal_reached(l->heap->domain, p->older_goal))
            break;
        uint64_t s = qc_load_acquire(&p->state);
        /* A waiting page that another thread may take is left to renew. */
        if ((s & STATE_TAGGED) == 0 || !qsbr_goal_reached(l->heap->domain, p->goal))
            if (!page_has_block(p))
                free_older(l, p);
        while (!page_cas(p, &s, s | STATE_READY))
            ;
        page_drop(l, p);
        page_put(l, p, p->class, true);
        page_check_place(l, p);
    }
    return n != 0;
}

heap_page *
page_ready(heap_local *l, unsigned class)
{
    page_list *list = &l->lists[class];
    do {
        for (int n = 0; list->first != NULL && n < PAGE_LOOKS; n++) {
            heap_page *p = list->first;
            if (gather(l, p))
                return p;
            put_spent(l, p);
        }
    } while (list->first == NULL && free_aged(l) && list->first != NULL);
    return NULL;
}

/* Serves a block; one more live block takes a waiting page off its list (H4).  (owner, lock:
 * no other thread can take the page away.) */
static void *
take_block(heap_local *l, heap_page *p)
{
    uint64_t s = qc_load_acquire(&p->state);
    while (!page_cas(p, &s, (s & ~STATE_PHASE) + 1))
        ;
    qc_assert((s & STATE_TAG) == l->tag);
    if (state_live(s) == 0 && (s & STATE_WAITS) != 0)
        qc_add_relaxed(&l->heap->back, 1u);
    l->served +=
        qc_load_relaxed(&p->n_free) + qc_load_relaxed(&p->capacity) - qc_load_relaxed(&p->used);
    qc_store_relaxed(&l->current[p->class], p);
    return pop(p);
}

static QC_NOINLINE void *
page_alloc_slow(heap_local *l, unsigned class)
{
    for (bool looked = false;;) {
        bool look = false;
        uint64_t goal = 0;
        void *block = NULL;
        heap_lock_local(l);
        heap_page *p = page_ready(l, class);
        if (p != NULL) {
            block = take_block(l, p);
        }
#ifdef QC_BREAK_PAGE_ADVANCES
        else if (!looked) {
#else
        else if (!looked && l->served >= heap_page_batch) {
#endif
            looked = look = true;
            l->served = 0;
            goal = page_take_batch(l);
        }
        page_check_local(l);
        qc_lock_release(&l->lock);
        if (block != NULL)
            return block;
        if (look && page_look(l, goal))
            continue;
        if (!page_fresh(l, class, looked))
            return NULL;
    }
}

void *
page_alloc(heap_local *l, unsigned class)
{
    heap_page *p = qc_load_relaxed(&l->current[class]);
    if (qc_likely(p != NULL)) {
        qc_yield("page hint");
        uint64_t s = qc_load_relaxed(&p->state);
        /* acquire: partners are the CASes by which the last blocks came back.  Without it the
         * new user of a block could write to it before its last user was done.  If the tag is
         * still this local's when the CAS succeeds, the fields that page_has_block read were
         * its own. */
        if (qc_likely((s & STATE_TAG) == l->tag && page_has_block(p))) {
            qc_yield("page alloc");
            if (qc_likely(page_cas(p, &s, (s & ~STATE_PHASE) + 1)))
                return pop(p);
        }
    }
    return page_alloc_slow(l, class);
}

/* ---- giving back ---- */

static void
push(_Atomic(heap_block *) *list, heap_block *b)
{
    b->link = qc_load_relaxed(list);
    /* release: partner is the child of a fork, which must not find the block without its
     * link. */
    qc_store_release(list, b);
}

/* By the owner: the block is on a list before the page can become empty. */
QC_INLINE uint64_t
give_own(heap_page *p, heap_block *b, bool retire, uint64_t s)
{
    if (retire) {
        push(&p->newer, b);
    }
    else {
        hide(p, b);
        push(&p->free, b);
        qc_store_relaxed(&p->n_free, qc_load_relaxed(&p->n_free) + 1);
    }
    qc_yield("page give");
    /* release: partners are the CASes of the threads that take the page (take_if_reached) or
     * find it empty.  Without it they could miss the block on its list. */
    while (!page_cas(p, &s, s - 1))
        ;
    return s - 1;
}

/* H5: by any other thread, one CAS for the list and the count.  (There is no ABA, since the
 * list is taken as a whole.) */
QC_INLINE uint64_t
give_foreign(heap_page *p, heap_block *b, uint64_t s)
{
    uint64_t head = (uint64_t)((char *)b - p->base) / PAGE_GRAIN << STATE_FOREIGN_SHIFT;
    uint64_t after;
    do {
        b->link = foreign_block(p, s);
        after = ((s & ~STATE_FOREIGN) | head) - 1;
        qc_yield("page give");
    } while (!page_cas(p, &s, after));
    return after;
}

/* After the CAS that left `s`.  `flag`: LISTED for a retired block, which is found on any
 * list; READY for a free block, which is looked for on the class's list only. */
QC_INLINE void
settle_after(heap *h, heap_page *p, uint64_t s, uint64_t flag)
{
    /* From here on any thread may have the page.  Its descriptor stays. */
    qc_yield("page settle");
    if (qc_unlikely((s & STATE_LAST) != 0)) {
        if (state_live(s) == 0)
            heap_unref(h);
    }
    else if (qc_unlikely((s & flag) == 0 || (state_live(s) == 0 && (s & STATE_UNTAGGED) == 0))) {
        page_settle(p);
    }
}

void
page_give(heap *h, heap_local *l, void *block, bool retire)
{
    heap_page *p = page_of(block);
    uint64_t s = qc_load_relaxed(&p->state);
    bool mine = l != NULL && (s & STATE_TAG) == l->tag;
    qc_assert(state_live(s) != 0 && (s & STATE_TAG) != 0);
    page_show(block, sizeof(heap_block));
    if (mine && !retire) {
        settle_after(h, p, give_own(p, block, false, s), STATE_READY);
        return;
    }
    qc_add_relaxed(&(l != NULL ? l : h->common)->retired_bytes, p->block_bytes);
    s = mine ? give_own(p, block, true, s) : give_foreign(p, block, s);
    settle_after(h, p, s, STATE_LISTED);
}

/* ---- what must hold ---- */

#ifdef QC_DEBUG
static uint32_t
count_blocks(heap_page *p, heap_block *b, unsigned char *seen)
{
    uint32_t n = 0;
    for (; b != NULL; b = b->link, n++) {
        size_t at = (size_t)((char *)b - p->base);
        qc_assert(at >= PAGE_FIRST && at < PAGE_BYTES);
        qc_assert((at - PAGE_FIRST) % p->block_bytes == 0);
        size_t i = (at - PAGE_FIRST) / p->block_bytes;
        qc_assert(i < qc_load_relaxed(&p->used) && !seen[i]); /* on one list, once */
        seen[i] = 1;
    }
    return n;
}

void
page_check(heap_page *p)
{
    unsigned char seen[PAGE_BYTES / PAGE_GRAIN] = {0};
    uint32_t used = qc_load_relaxed(&p->used);
    qc_assert(used <= qc_load_relaxed(&p->capacity));
    uint32_t n = count_blocks(p, qc_load_relaxed(&p->free), seen);
    qc_assert(n == qc_load_relaxed(&p->n_free) || p->lossy);
    n += count_blocks(p, qc_load_relaxed(&p->newer), seen);
    n += count_blocks(p, qc_load_relaxed(&p->older), seen);
    /* Others only push: the list that a state names stays as it is. */
    uint64_t s = qc_load_acquire(&p->state);
    n += count_blocks(p, foreign_block(p, s), seen);
    qc_assert(n + state_live(s) == used || (p->lossy && n + state_live(s) <= used + 1));
}
#else
void
page_check(heap_page *p)
{
    (void)p;
}
#endif
