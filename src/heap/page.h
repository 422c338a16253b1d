/* Pages: the unit of delayed reuse.
 *
 * A page is 64 KiB of blocks of one size class.  Its first word leads from any
 * block, by masking, to the page's *descriptor* (struct heap_page), which lies
 * elsewhere and is never freed before the heap is: so a stale pointer to it can be
 * followed safely, and whether it still means the page one thought is told by one
 * word, `state`.
 *
 *   state   live blocks | blocks that other threads retired | owner's tag | flags
 *
 * Why it is safe.  `state` changes by CAS only, so of any two things that exclude
 * each other exactly one happens:
 *  - The owner (the thread whose local has the page's tag) allocates by
 *    live -> live + 1 while the tag is its own.  After that the page has a live
 *    block, and nobody else touches the owner's fields of a page with live blocks.
 *  - A page is taken away (for another class, or to be given back) by live 0,
 *    TAGGED -> no tag.  The owner's CAS then fails: H4, also for an owner that
 *    slept meanwhile.
 *  - Another thread retires by pushing the block and live -> live - 1 in one CAS.
 *    Whoever sees 0 come out, the owner or not, has the duty to put the page where
 *    all threads find it (page_settle); the duty is done under the lock of the
 *    page's local by looking at the state again, so that it does not matter who else
 *    has done it or what has become of the page meanwhile.
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
 * A goal tells only about what was unlinked before it.  So generations and waiting pages
 * are *taken* first, then there is one advance, then exactly what was taken is tagged.  A
 * generation is taken by moving what other threads retired into it (owner's fields); a
 * waiting page by the flag TAKEN, which the next allocation clears: a page that was used in
 * between is not tagged (QC_BREAK_PAGE_TAG_EARLY: the advance comes before the taking).
 *
 *  H1  (heap.h) A block's first word is the link of these lists; the rest is
 *      poisoned, and hidden from AddressSanitizer, when it becomes free and not
 *      before.
 *  H2  Retired small blocks carry no goal of their own: a page has two generations.
 *      `newer` takes blocks in; at promotion it is taken, an advance follows, and it
 *      becomes `older` with that goal; `older` takes none in, and when its goal is
 *      reached its blocks become free together.  Promotion is one for the spent pages of
 *      the thread and all that wait: taken together, one advance, one goal.  It is lazy:
 *      when the owner has no free block of a class, and has served heap_page_batch blocks
 *      since the last time, and nearly as many are retired without a goal.  Then there is
 *      also one poll, and at no other time.  So 1,000 retired blocks cost at most ten
 *      advances and ten heavy barriers, whatever their size.  What it costs is memory: a
 *      thread takes fresh pages for that many blocks before it looks, at most fifteen.
 *  H3  A page without live blocks goes on its thread's list of waiting pages, which
 *      is tagged as a whole (taken, advance, tag what was taken).  When a fresh page
 *      is needed, the list is processed first: pages whose goal is reached serve any
 *      size class or go back to mimalloc.
 *  H4  A waiting page still serves its own size class, from blocks never used or
 *      whose own generation's goal is reached, and allocating from it takes it off
 *      the list.  (Not from blocks just retired: these are no type-stable objects.)
 *      "Off the list" is a matter of the state: the CAS that makes the first block
 *      live also clears TAKEN and TAGGED, and without TAGGED no thread takes the page.
 *      The links are cleaned up by the thread that next walks the list, so that a thread
 *      that allocates and frees one block all the time takes no lock.
 *      A page that waits is on its local's lists (page_state.h).
 *  H5  Another thread's retirement goes onto the page's own atomic list.  The thread that
 *      brings the live count of a page to 0 puts it within the domain's reach, so
 *      that an owner that sleeps holds nothing up: every thread may tag and take the
 *      waiting pages of any local, under its lock.  When a thread ends, its pages are
 *      abandoned to the domain, goals and counts right: with live blocks for the next
 *      thread that needs the class, without for any.  Nothing runs when a thread
 *      ends: that its record is nobody's, or another thread's, says it.  A thread that
 *      needs a fresh page looks at PAGE_OTHERS locals in turn; pages of one that is left
 *      become those of the heap's `orphans`, and are adopted from there.  No step depends
 *      on how many threads there are or were: locals with waiting pages are on a list, and
 *      the local that a thread leaves is the next thread's that gets its record.
 *      heap_free by another thread is a retirement: it is rare, and one list is
 *      simpler than two.
 *
 * Locks: that of the thread that tags for others, the heap's, a local's (and the orphans'
 * after that of a local that is left), that of the list of locals with waiting pages.  All
 * are leaves for the layers above, held for microseconds at most, and no thread polls or
 * calls mimalloc under them.
 *
 * What it costs: an allocation or a free by the owner is one CAS on a line of its own
 * and a few plain stores.  Measured, the pair takes 11 ns where mimalloc's takes 5, and
 * 12 before there were pages, when blocks and bytes were counted in the heap: that CAS
 * is what makes an owner that sleeps hold nothing up, and a table's initialization is
 * many times as long.
 *
 * Fork (Q10).  All lists follow from the states, so in the child they are made anew
 * (heap_mend), one step a page, whatever the threads that are gone were doing to them.  The owner's
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

/* So many pages an allocation without a free block looks at, so that it is short. */
#define PAGE_LOOKS 32
/* So many spent pages are taken at once: at least as many as the blocks of a batch. */
#define PAGE_BATCH_LOOKS 256
/* So many other locals it looks at. */
#define PAGE_OTHERS 8
/* An advance is worth it for so many blocks: not all that were served are retired. */
#define PAGE_ENOUGH (heap_page_batch - heap_page_batch / 25)

#ifdef QC_DEBUG
/* So many blocks of a page are used, for tests that want to see its end: 0: all. */
extern unsigned page_blocks;
/* Locals that were looked at, in searches that must not depend on how many there are. */
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
    /* The owner's: whoever has the tag and a live block or the local's lock.  Atomic
     * since the owner looks at them, as a hint, before its CAS says that they are
     * its own; and written in the order that a fork needs. */
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
    _Atomic(heap_local *) local; /* read without the lock, and looked at again under it */
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
    _Atomic uint64_t live_bytes;                /* (owner) what it got less what it freed; wraps */
    _Atomic uint64_t retired_bytes;             /* the same of what was retired; anybody's */
    qsbr_record *rec;                           /* the thread is whoever has this record */
    uint64_t tenure;                            /* (the heap's lock) of that record */
    heap_local *next;                           /* written once */
    heap_local *same_hash;                      /* (the heap's lock) */
    qc_lock lock;
    page_list lists[PAGE_LISTS]; /* (lock) by IN_CLASS */
    page_list untagged, queued;  /* (lock) waiting pages; `queued` by goal */
    uint32_t served;             /* (lock) blocks in pages that it took since it last looked */
    uint32_t untagged_blocks;    /* (lock) that came to wait since the last tagging */
    _Atomic uint32_t listed;     /* (lock to write) the length of `lists`: a hint */
    _Atomic uint32_t waiting;    /* (lock to write) that of the waiting ones: a hint */
    heap_local *w_next, *w_prev; /* (waiting.lock) */
    bool in_waiting;             /* (lock) on the heap's list of those with waiting pages */
    bool visited;                /* (tag_lock) by the thread that tags for several locals, */
    heap_local *visited_next;    /* which comes by once more */
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
    heap_local *cursor;           /* (lock) the next one that is looked at: has its thread ended? */
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
    qc_lock tag_lock; /* of the one that tags the waiting pages of several locals */
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

/* All changes of a state go through here: none is to a state that is not legal. */
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
/* The first page of the class that has a block, after making free what can be; NULL:
 * none.  (owner, lock; of the orphans, both locks) */
heap_page *page_ready(heap_local *l, unsigned class);
/* H2, H3: if it is enough, the blocks of spent pages and the waiting pages are taken; then
 * there is one advance; then what was taken is tagged.  Returns the goal or 0.  (as above) */
uint64_t page_take_batch(heap_local *l);
/* A page whose goal is reached, or a new one: all blocks are as never used. */
void page_reset(heap_page *p);
/* Debug builds: what must hold.  (owner, and a live block or the lock) */
void page_check(heap_page *p);

/* ---- page_lists.c: where pages are ---- */

void page_list_push(page_list *list, page_links in, heap_page *p, bool first);
void page_list_remove(page_list *list, page_links in, heap_page *p);
/* All with the local's lock; `which` is a class or a page_which.  A page that is on no list
 * of waiting pages is not dropped from one. */
void page_put(heap_local *l, heap_page *p, unsigned which, bool first);
void page_drop(heap_local *l, heap_page *p);
void page_put_waiting(heap_local *l, heap_page *p, page_wait_list where);
void page_drop_waiting(heap_local *l, heap_page *p);
/* Puts a page where it belongs. */
void page_place(heap_local *l, heap_page *p);
/* The duty of a thread that sees that a page is not where it belongs. */
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

/* With the local's lock.  What waits without a goal is to be tagged with the next advance;
 * what was taken is tagged; the two with an advance in between. */
void page_take_waiting(heap_local *l);
void page_tag_taken(heap_local *l, uint64_t goal);
void page_tag_waiting(heap_local *l);
/* A thread that has served many blocks looks after the waiting pages of others, and polls,
 * for `goal` too.  Whether the oldest goal of its own is reached. */
bool page_look(heap_local *l, uint64_t goal);
/* All waiting pages are tagged, with one advance; those whose goal is reached go to the
 * pool.  *goal: the oldest that is not.  `l`: the caller's local or NULL. */
void page_reclaim_all(heap *h, heap_local *l, uint64_t *goal);
/* Gets `l` a page for the class, which may be gone again when its lock is taken.
 * False: no memory. */
bool page_fresh(heap_local *l, unsigned class, bool looked);

/* ---- page_left.c: threads that ended ---- */

/* H5: a page of theirs for `l`.  `looked`: a batch of theirs may be taken. */
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
/* Pages of nobody's, chained by links[IN_WAIT].next, for the pool. */
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

/* Before any lock of the heap's: nobody finds an orphan. */
QC_INLINE void
heap_look_for_fork(heap *h)
{
    /* acquire: partner is the release in heap_mend. */
    if (qc_unlikely(qc_load_acquire(&h->mended) != qc_fork_generation))
        heap_mend(h);
}

/* Both do so. */
void heap_lock(heap *h);
void heap_lock_local(heap_local *l);

/* ---- heap.c ---- */

/* A poll, unless the calling thread is in a section: its own would hold it up. */
bool heap_poll(heap *h, uint64_t goal);
/* Whether the local's thread has ended.  (the heap's lock) */
bool heap_local_is_left(heap_local *l);
/* The local of `rec` in `h`; NULL: no memory. */
heap_local *heap_local_get(heap *h, qsbr_record *rec);
/* In the child of a fork: the table by which it is found is made anew. */
void heap_mend_by_record(heap *h);
void heap_unref(heap *h);
#ifdef QC_DEBUG
/* Tests: the calling thread is taken for the one that has `l` (NULL: for one without
 * a record) in its calls on `h`. */
void heap_act_as(heap *h, heap_local *l);
#endif

#endif
