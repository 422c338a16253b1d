/* Pages: the unit of delayed reuse.
 *
 * A page is 64 KiB of blocks of one size class.  Its first word, which masking finds from
 * any block, is the address of the page's *descriptor* (struct heap_page).  Descriptors
 * lie elsewhere and are never freed before the heap is, so a stale pointer to one can be
 * followed safely.  One word, `state`, tells whether the page still is what the holder of
 * the pointer expects.
 *
 *   state   live blocks | blocks that other threads retired | owner's tag | flags
 *
 * Why it is safe.  `state` changes by CAS only, so of two changes that exclude each
 * other exactly one happens:
 *  - The owner (the thread whose local has the page's tag) allocates by
 *    live -> live + 1 while the tag is its own.  After that the page has a live block,
 *    and only the owner touches the owner's fields of a page with live blocks.
 *  - A page is taken away (for another class, or to be given back) by live 0,
 *    TAGGED -> no tag.  The owner's CAS then fails: H4, also for an owner that
 *    slept meanwhile.
 *  - Another thread retires by pushing the block and live -> live - 1 in one CAS.
 *    The thread whose CAS leaves 0, the owner or another, has the duty to put the page
 *    where all threads find it (page_settle).  It takes the lock of the page's local and
 *    loads the state again, so another thread may have done the duty first, and the page
 *    may have changed hands meanwhile.
 *
 *   block:   in use --heap_retire--> newer --promotion--> older --goal reached--> free --> in use
 *               |    (or foreign ------^   taken, then advance, then tagged)        ^
 *               +----------------------------heap_free------------------------------+
 *
 *   page:    live blocks --the last goes--> untagged --taken, advance--> tagged
 *               ^                              |                           |   |
 *               +------- its own class --------+---------------------------+   | goal reached
 *               ^                                                              v
 *               +---- any class <---- heap's pool <--------------------- nobody's ---> mimalloc
 *
 * A goal covers only what was unlinked before the advance.  So generations and waiting
 * pages are *taken* first, then one advance follows, then exactly what was taken is tagged.
 * A generation is taken by moving the blocks that other threads retired into it (owner's
 * fields).  A waiting page is taken by the flag TAKEN, which the next allocation clears, so
 * a page that was used in between is not tagged.  (QC_BREAK_PAGE_TAG_EARLY: the advance
 * comes before the taking.)
 *
 *  H1  (heap.h) A block's first word is the link of these lists; the rest is
 *      poisoned, and hidden from AddressSanitizer, when it becomes free and not
 *      before.
 *  H2  Retired small blocks carry no goal of their own: a page has two generations.
 *      `newer` takes blocks in; at promotion it is taken, an advance follows, and it
 *      becomes `older` with that goal; `older` takes none in, and when its goal is
 *      reached its blocks become free together.  One promotion serves the thread's spent
 *      pages and its waiting pages: they are taken together, with one advance and one
 *      goal.  It is lazy: it happens when the owner has no free block of a class, has
 *      served heap_page_batch blocks since the last promotion, and nearly as many blocks
 *      are retired without a goal.  An allocation polls once then, and at no other time.
 *      So 1,000 retired blocks cost at most ten advances and ten heavy barriers, whatever
 *      their size.  The price is memory: before it promotes, a thread takes fresh pages
 *      for that many blocks, at most fifteen.
 *  H3  A page without live blocks goes on its thread's list of waiting pages, which
 *      is tagged as a whole (taken, advance, tag what was taken).  When a fresh page
 *      is needed, the list is processed first: pages whose goal is reached serve any
 *      size class or go back to mimalloc.
 *  H4  A waiting page still serves its own size class, from blocks never used or
 *      whose own generation's goal is reached, and allocating from it takes it off
 *      the list.  (Not from blocks just retired: these are no type-stable objects.)
 *      The state alone decides that a page is off the list: the CAS that makes the first
 *      block live also clears TAKEN and TAGGED, and without TAGGED no thread takes the
 *      page.  The thread that next walks the list cleans up the links, so a thread that
 *      allocates and frees one block all the time takes no lock.
 *      A page that waits is on its class's list, or on that of spent or aging pages
 *      (page_state.h).
 *  H5  Another thread's retirement goes onto the page's own atomic list.  The thread that
 *      brings the live count of a page to 0 puts it within the domain's reach, so
 *      that an owner that sleeps holds nothing up: every thread may tag and take the
 *      waiting pages of any local, under its lock.  When a thread ends, its pages are
 *      abandoned to the domain with their goals and counts: a page with live blocks is
 *      for the next thread that needs the class, a page without is for any thread.  No
 *      code runs when a thread ends; its record, which is free or another thread's by
 *      then, shows it.  A thread that needs a fresh page checks PAGE_OTHERS locals in
 *      turn.  The pages of a local whose thread has ended move to the heap's `orphans`,
 *      and are adopted from there.  No step depends on the number of threads there are or
 *      were: locals with waiting pages are on a list, and a thread that gets a record
 *      gets its local, too.
 *      heap_free by another thread is a retirement: it is rare, and one list is
 *      simpler than two.
 *
 * Locks, in the order in which a thread takes them: tag_lock, the heap's, a local's (that
 * of the orphans after that of a local whose thread has ended), that of the list of locals
 * with waiting pages.  The layers above hold them as leaves, for microseconds at most.  No
 * thread polls or calls mimalloc under them.
 *
 * What it costs: an allocation or a free by the owner is one CAS on a line of its own
 * and a few plain stores.  Measured, the pair takes 11 ns where mimalloc's takes 5, and
 * 12 before there were pages, when blocks and bytes were counted in the heap: that CAS
 * is what makes an owner that sleeps hold nothing up, and a table's initialization is
 * many times as long.
 *
 * Fork (Q10).  All lists follow from the states, so the child makes them anew (heap_mend),
 * one step a page, whatever the threads that are gone were doing to them.  The owner's
 * fields are written in an order that can lose blocks and never doubles one: at
 * worst one page of each thread that is gone never becomes empty.
 */
#ifndef HEAP_PAGE_H
#define HEAP_PAGE_H

#include "base/qc_lock.h"
#include "heap/heap.h"
#include "heap/page_state.h"

#if defined(__SANITIZE_ADDRESS__)
#define PAGE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PAGE_ASAN 1
#endif
#endif
#ifdef PAGE_ASAN
#include <sanitizer/asan_interface.h>
#define page_hide(p, n) __asan_poison_memory_region((p), (n))
#define page_show(p, n) __asan_unpoison_memory_region((p), (n))
#else
#define page_hide(p, n) ((void)(p), (void)(n))
#define page_show(p, n) ((void)(p), (void)(n))
#endif

#define PAGE_BYTES ((size_t)64 << 10)
#define PAGE_FIRST 64 /* where the blocks begin; the first word is the descriptor's address */
#define PAGE_GRAIN 16

/* mimalloc 3.4 takes 128 KiB for 64 KiB aligned to 64 KiB, and 68 KiB a page for
 * sixteen of them in one piece: it keeps 64 KiB in front of each.  A piece goes back
 * when all its pages are free. */
#ifdef QC_DEBUG
#define EXTENT_PAGES 4
#else
#define EXTENT_PAGES 16
#endif

/* The most pages that an allocation without a free block checks, so that it is short. */
#define PAGE_LOOKS 32
/* The most spent pages that one promotion takes: at least as many as a batch has blocks. */
#define PAGE_BATCH_LOOKS 256
/* How many other locals it visits. */
#define PAGE_OTHERS 8
/* Enough blocks for an advance: a little below a batch, since not every block that was
 * served has been retired. */
#define PAGE_ENOUGH (heap_page_batch - heap_page_batch / 25)

#ifdef QC_DEBUG
/* Tests lower the number of blocks in a page, to reach its end; 0: all are used. */
extern unsigned page_blocks;
/* Locals visited by searches whose cost must not depend on the number of locals. */
extern _Atomic uint64_t page_locals_seen;
#define page_count_seen() ((void)qc_add_relaxed(&page_locals_seen, 1u))
#else
#define page_count_seen() ((void)0)
#endif

typedef struct heap_page heap_page;
typedef struct heap_local heap_local;
typedef struct heap_extent heap_extent;

/* ---- descriptors ---- */

typedef struct {
    heap_page *first, *last;
    size_t n;
} page_list;

struct heap_page {
    _Alignas(QC_LINE_PAIR) _Atomic uint64_t state;
    /* The owner's fields, for the thread with the tag and either a live block or the
     * local's lock.  They are atomic because the owner reads them as a hint before its CAS
     * confirms that they are its own, and are written in the order that a fork needs. */
    _Atomic(heap_block *) free;
    _Atomic uint32_t used; /* blocks ever served, from the first on: the rest is untouched */
    _Atomic uint32_t n_free;
    _Atomic uint32_t capacity;
    uint32_t block_bytes;
    char *base;
    _Atomic(heap_block *) newer;
    _Atomic(heap_block *) older;
    uint64_t older_goal;
    uint16_t n_older;
    uint8_t class;
    bool lossy; /* a fork may have lost blocks of it */
    /* Of the local's lock: */
    uint8_t which; /* a class, a page_which, or PAGE_NOWHERE */
    uint8_t waits; /* a page_wait_list */
    struct {
        heap_page *next, *prev;
    } links[2];
    uint64_t goal;               /* if TAGGED */
    _Atomic(heap_local *) local; /* read without the lock, and checked again under it */
    heap_extent *extent;         /* written once */
};

_Static_assert(sizeof(heap_page) == QC_LINE_PAIR, "one line pair a descriptor");

/* Sixteen descriptors and the memory of their pages, or NULL. */
struct heap_extent {
    heap_page pages[EXTENT_PAGES];
    heap_extent *next;      /* written once */
    heap_extent *bare_next; /* (the heap's lock) those without memory */
    char *memory;           /* (the heap's lock) */
    uint32_t n_free;        /* (the heap's lock) pages in the pool */
};

/* A thread's part in a heap.  Lives as long as the heap. */
struct heap_local {
    heap *heap;
    uint64_t tag;                               /* as in the state; never reused */
    _Atomic(heap_page *) current[PAGE_CLASSES]; /* (lock to write) or NULL: a hint */
    _Atomic uint64_t live_bytes;                /* (owner) allocated less freed; wraps */
    _Atomic uint64_t retired_bytes;             /* retired less reused; any thread writes */
    qsbr_record *rec;                           /* its thread is the one that has it now */
    uint64_t tenure;                            /* (the heap's lock) of that record */
    heap_local *next;                           /* written once */
    heap_local *same_hash;                      /* (the heap's lock) */
    qc_lock lock;
    page_list lists[PAGE_LISTS]; /* (lock) by IN_CLASS */
    page_list untagged, queued;  /* (lock) waiting pages; `queued` by goal */
    uint32_t served;             /* (lock) blocks in pages that served, since the last promotion */
    uint32_t untagged_blocks;    /* (lock) blocks that began to wait since the last tagging */
    _Atomic uint32_t listed;     /* (lock to write) the length of `lists`: a hint */
    _Atomic uint32_t waiting;    /* (lock to write) that of the waiting ones: a hint */
    heap_local *w_next, *w_prev; /* (waiting.lock) */
    bool in_waiting;             /* (lock) on the heap's list of locals with waiting pages */
    bool visited;                /* (tag_lock) in the first round of tag_several */
    heap_local *visited_next;    /* (tag_lock) for its second round */
};

/* Locals by their records, chained by same_hash. */
typedef struct {
    uint32_t mask; /* one less than a power of two */
    heap_local *first[];
} heap_table;

#define SHELF_CLASSES 40 /* up to 256 KiB, eight a doubling */

struct heap {
    qsbr_domain *domain;
    uint64_t id;
    _Atomic(heap_local *) locals; /* (lock to write) */
    heap_local *common;           /* of threads without a record, under common_lock */
    heap_local *orphans;          /* the pages of threads that ended, under `lock` */
    heap_local *cursor;           /* (lock) the next local that is checked for an ended thread */
    heap_table *by_record;        /* (lock) */
    uint32_t n_locals;            /* (lock) that have a record */
    qc_lock common_lock;
    qc_lock lock;
    heap_extent *_Atomic extents; /* (lock to write) */
    heap_extent *bare;            /* (lock) those without memory */
    page_list pool;               /* (lock) free pages */
    uint32_t idle_extents;        /* (lock) those that have free pages only */
    uint64_t next_tag;            /* (lock) */
    _Atomic uint32_t mended;      /* the fork generation that locks and lists are from */
    /* The creator's, one a large block, and after heap_delete one a page with live
     * blocks: the last one ends the heap. */
    _Atomic uint64_t refs;
    _Atomic uint64_t large_bytes;
    qc_lock tag_lock; /* one thread tags the waiting pages of several locals at a time */
    struct {
        qc_lock lock;
        heap_local *first, *last; /* (lock) the locals that have waiting pages */
        size_t n;                 /* (lock) */
        _Atomic uint64_t pages;   /* of all locals */
    } waiting;
    struct {
        qc_lock lock;
        bool closed, used;                                      /* (lock) */
        uint32_t idle;                                          /* (lock) */
        _Atomic uint64_t bytes;                                 /* (lock to write) */
        _Atomic(heap_block *) first[SHELF_CLASSES];             /* (lock) */
    } shelf;                                                    /* H6 */
    _Atomic uint64_t reused, back, stolen, adopted, given_back; /* pages */
    heap *unfinished_next;
};

/* ---- small things ---- */

QC_INLINE unsigned
page_class(size_t size)
{
    if (size <= 128)
        return size == 0 ? 0 : (unsigned)((size - 1) / PAGE_GRAIN);
    unsigned log = 7;
#if defined(__GNUC__)
    log = 31u - (unsigned)__builtin_clz((unsigned)(size - 1));
#else
    while (((size - 1) >> log) > 1)
        log++;
#endif
    /* Four a doubling: at most a quarter of a block is waste. */
    return 8 + (log - 7) * 4 + (unsigned)(((size - 1) >> (log - 2)) & 3);
}

static inline uint32_t
page_class_bytes(unsigned class)
{
    if (class < 8)
        return (class + 1) * PAGE_GRAIN;
    unsigned log = 7 + (class - 8) / 4;
    return (1u << log) + ((class - 8) % 4 + 1) * (1u << (log - 2));
}

QC_INLINE heap_page *
page_of(void *block)
{
    return *(heap_page **)((uintptr_t)block & ~(uintptr_t)(PAGE_BYTES - 1));
}

/* As a hint by others than the owner. */
QC_INLINE bool
page_has_block(heap_page *p)
{
    return qc_load_relaxed(&p->free) != NULL ||
           qc_load_relaxed(&p->used) < qc_load_relaxed(&p->capacity);
}

/* Every change of a state goes through here, so an illegal state is never stored. */
QC_INLINE bool
page_cas(heap_page *p, uint64_t *s, uint64_t after)
{
    qc_assert(page_state_of(after) != PAGE_ILLEGAL);
    return qc_cas_acq_rel(&p->state, s, after);
}

/* ---- page.c: blocks ---- */

/* A block for the local's own thread.  NULL: no memory. */
void *page_alloc(heap_local *l, unsigned class);
/* `l` is the caller's local or NULL. */
void page_give(heap *h, heap_local *l, void *block, bool retire);
/* The first page of the class that has a block, after freeing the blocks whose goal is
 * reached; NULL: none.  (owner, lock; for the orphans also the heap's lock) */
heap_page *page_ready(heap_local *l, unsigned class);
/* H2, H3: if enough blocks wait, takes the blocks of spent pages and the waiting pages, then
 * advances once, then tags what was taken.  Returns the goal or 0.  (as above) */
uint64_t page_take_batch(heap_local *l);
/* A page whose goal is reached, or a new one: all blocks are as never used. */
void page_reset(heap_page *p);
/* Debug builds: what must hold.  (owner, and a live block or the lock) */
void page_check(heap_page *p);

/* ---- page_lists.c: where pages are ---- */

void page_list_push(page_list *list, page_links in, heap_page *p, bool first);
void page_list_remove(page_list *list, page_links in, heap_page *p);
/* All with the local's lock; `which` is a class or a page_which.  page_drop_waiting leaves a
 * page alone that is on no list of waiting pages. */
void page_put(heap_local *l, heap_page *p, unsigned which, bool first);
void page_drop(heap_local *l, heap_page *p);
void page_put_waiting(heap_local *l, heap_page *p, page_wait_list where);
void page_drop_waiting(heap_local *l, heap_page *p);
/* Puts a page where it belongs. */
void page_place(heap_local *l, heap_page *p);
/* The duty of a thread whose CAS leaves a page on other lists than it belongs on. */
QC_NOINLINE void page_settle(heap_page *p);
/* The next local with waiting pages, in turn; NULL: there is none. */
heap_local *page_next_waiting(heap *h);
/* Debug builds: flags and lists go together.  (lock) */
#ifdef QC_DEBUG
void page_check_place(heap_local *l, heap_page *p);
void page_check_local(heap_local *l);
#else
#define page_check_place(l, p) ((void)(l), (void)(p))
#define page_check_local(l) ((void)(l))
#endif

/* ---- page_wait.c: waiting pages, and where a fresh page comes from ---- */

/* With the local's lock.  page_take_waiting marks the pages that wait without a goal as TAKEN,
 * page_tag_taken tags those that still are, page_tag_waiting does both with an advance in
 * between. */
void page_take_waiting(heap_local *l);
void page_tag_taken(heap_local *l, uint64_t goal);
void page_tag_waiting(heap_local *l);
/* For a thread that has served many blocks: tags waiting pages of other locals and polls,
 * for `goal` too.  Returns whether the oldest goal of the thread's own pages is reached. */
bool page_look(heap_local *l, uint64_t goal);
/* Tags all waiting pages, with one advance, and moves those whose goal is reached to the
 * pool.  *goal: the oldest goal that is not reached.  `l`: the caller's local or NULL. */
void page_reclaim_all(heap *h, heap_local *l, uint64_t *goal);
/* Gets a page of the class for `l`.  Another thread may have taken it away again by the time
 * that the caller has the lock.  False: no memory. */
bool page_fresh(heap_local *l, unsigned class, bool looked);

/* ---- page_left.c: threads that ended ---- */

/* H5: adopts a page of an ended thread for `l`.  `looked`: the orphans may be promoted. */
bool page_adopt(heap_local *l, unsigned class, bool looked);

/* ---- large.c ---- */

void *large_alloc(heap *h, size_t size);
void large_free(heap *h, void *block, size_t size);
/* All that is kept goes back to mimalloc: how many bytes. */
size_t large_give_back(heap *h);
/* The same, and nothing is kept any more. */
void large_close(heap *h);
/* In the child of a fork (Q10). */
void large_mend(heap *h);

/* ---- extent.c ---- */

/* (the heap's lock) */
void heap_pool_add(heap *h, heap_page *p);
/* Puts pages without an owner, chained by links[IN_WAIT].next, into the pool. */
void heap_pool_put(heap *h, heap_page *chain);
/* NULL: there is none. */
heap_page *heap_pool_get(heap *h);
/* All memory without a page in use goes back to mimalloc. */
void heap_pool_give_back(heap *h);
/* More memory for the pool.  False: none. */
bool heap_extent_add(heap *h);
void heap_extents_end(heap *h);

/* ---- heap_fork.c ---- */

void heap_mend(heap *h);

/* Called before any lock of the heap is taken, so that no thread finds a lock orphaned. */
QC_INLINE void
heap_look_for_fork(heap *h)
{
    /* acquire: partner is the release in heap_mend. */
    if (qc_unlikely(qc_load_acquire(&h->mended) != qc_fork_generation))
        heap_mend(h);
}

/* Both call heap_look_for_fork first. */
void heap_lock(heap *h);
void heap_lock_local(heap_local *l);

/* ---- heap.c ---- */

/* A poll, unless the calling thread is in a section: its own would hold it up. */
bool heap_poll(heap *h, uint64_t goal);
/* Whether the local's thread has ended.  (the heap's lock) */
bool heap_local_is_left(heap_local *l);
/* The local of `rec` in `h`; NULL: no memory. */
heap_local *heap_local_get(heap *h, qsbr_record *rec);
/* In the child of a fork: makes the table of locals by record anew. */
void heap_mend_by_record(heap *h);
void heap_unref(heap *h);
#ifdef QC_DEBUG
/* Tests: the calling thread is taken for the one that has `l` (NULL: for one without
 * a record) in its calls on `h`. */
void heap_act_as(heap *h, heap_local *l);
#endif

#endif
