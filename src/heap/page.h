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
 * A goal tells only about what was unlinked before it.  So both generations and
 * lists are *taken* first, then there is one advance, then exactly what was taken is
 * tagged.  A generation is taken by moving it (owner's fields); a page on a list by
 * the flag TAKEN, which the next allocation clears: a page that was used in between
 * is not tagged (QC_BREAK_PAGE_TAG_EARLY: the advance comes before the taking).
 *
 *  H1  (heap.h) A block's first word is the link of these lists; the rest is
 *      poisoned, and hidden from AddressSanitizer, when it becomes free and not
 *      before.
 *  H2  Retired small blocks carry no goal of their own: a page has two generations.
 *      `newer` takes blocks in; at promotion it is taken, an advance follows, and it
 *      becomes `older` with that goal; `older` takes none in, and when its goal is
 *      reached its blocks become free together.  Promotion is lazy: when the owner
 *      has no free block of the class.
 *  H3  A page without live blocks goes on its thread's list of waiting pages, which
 *      is tagged as a whole (taken, advance, tag what was taken).  When a fresh page
 *      is needed, the list is processed first: pages whose goal is reached serve any
 *      size class or go back to mimalloc.
 *  H4  A waiting page still serves its own size class, from blocks never used or
 *      whose own generation's goal is reached, and allocating from it takes it off
 *      the list.  (Not from blocks just retired: these are no type-stable objects.)
 *      "Off the list" is a matter of the state: the CAS that makes the first block
 *      live also clears TAKEN and TAGGED, and without TAGGED nobody takes the page.
 *      The links are cleaned up by whoever next walks the list, so that a thread that
 *      allocates and frees one block all the time takes no lock.
 *  H5  Another thread's retirement goes onto the page's own atomic list.  Whoever
 *      brings the live count of a page to 0 puts it within the domain's reach, so
 *      that an owner that sleeps holds nothing up: everybody may tag and take the
 *      waiting pages of any local, under its lock.  When a thread ends, its pages are
 *      abandoned to the domain, goals and counts right: with live blocks for the next
 *      thread that needs the class, without for any.  (Nothing runs when a thread
 *      ends: that its record is nobody's, or somebody else's, says it.)
 *      heap_free by another thread is a retirement: it is rare, and one list is
 *      simpler than two.
 *
 * Locks: the heap's, then a local's.  Both are leaves for everybody else, held for a
 * few hundred nanoseconds, and nobody polls or calls mimalloc under them.
 *
 * What it costs: an allocation or a free by the owner is one CAS on a line of its own
 * and a few plain stores.  Measured, the pair takes 11 ns where mimalloc's takes 5, and
 * 12 before there were pages, when blocks and bytes were counted in the heap: that CAS
 * is what makes an owner that sleeps hold nothing up, and a table's initialization is
 * many times as long.
 *
 * Fork (Q10).  All lists follow from the states, so in the child they are made anew
 * (heap_mend), whatever the threads that are gone were doing to them.  The owner's
 * fields are written in an order that can lose blocks and never doubles one: at
 * worst one page of each thread that is gone never becomes empty.
 */
#ifndef HEAP_PAGE_H
#define HEAP_PAGE_H

#include "base/qc_lock.h"
#include "heap/heap.h"

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
#define PAGE_CLASSES 32

/* mimalloc 3.4 takes 128 KiB for 64 KiB aligned to 64 KiB, and 68 KiB a page for
 * sixteen of them in one piece: it keeps 64 KiB in front of each.  A piece goes back
 * when all its pages are free. */
#ifdef QC_DEBUG
#define EXTENT_PAGES 4
#else
#define EXTENT_PAGES 16
#endif

/* How many pages of its class an allocation without a free block looks at. */
#define PAGE_LOOKS 32

#ifdef QC_DEBUG
/* So many blocks of a page are used, for tests that want to see its end: 0: all. */
extern unsigned page_blocks;
#endif

typedef struct heap_page heap_page;
typedef struct heap_local heap_local;
typedef struct heap_extent heap_extent;

/* ---- the state word ---- */

#define STATE_LIVE ((uint64_t)0xFFFF) /* blocks in use */
#define STATE_FOREIGN_SHIFT 16        /* the newest block retired by others, in grains */
#define STATE_FOREIGN (STATE_LIVE << STATE_FOREIGN_SHIFT)
#define STATE_TAG_SHIFT 32 /* of the local that has it; 0: nobody's */
#define STATE_TAG ((uint64_t)0xFFFFFF << STATE_TAG_SHIFT)
#define STATE_LISTED ((uint64_t)1 << 56)   /* on its class's list: may have blocks to give */
#define STATE_UNTAGGED ((uint64_t)1 << 57) /* on the list of waiting pages without a goal */
#define STATE_QUEUED ((uint64_t)1 << 58)   /* on the list of those with one */
#define STATE_TAKEN ((uint64_t)1 << 59)    /* to be tagged with the advance to come */
#define STATE_TAGGED ((uint64_t)1 << 60)   /* no block was live since; `goal` is right */
#define STATE_LAST ((uint64_t)1 << 61)     /* the heap was deleted: 0 drops a reference */
#define STATE_PHASE (STATE_TAKEN | STATE_TAGGED)
#define STATE_WAITS (STATE_UNTAGGED | STATE_QUEUED)

#define state_live(s) ((s)&STATE_LIVE)
#define state_foreign(s) (((s)&STATE_FOREIGN) >> STATE_FOREIGN_SHIFT)

/* ---- descriptors ---- */

typedef enum { IN_CLASS, IN_WAIT } page_links; /* IN_CLASS: also the pool's */

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
    uint32_t n_older;
    uint16_t class;
    bool lossy; /* a fork may have lost blocks of it */
    /* Of the local's lock: */
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
    qc_lock lock;
    page_list listed[PAGE_CLASSES]; /* (lock) */
    page_list untagged, queued;     /* (lock) waiting pages; `queued` by goal */
    _Atomic uint32_t waiting;       /* (lock to write) the length of both: a hint */
};

#define SHELF_CLASSES 40 /* up to 256 KiB, eight a doubling */

struct heap {
    qsbr_domain *domain;
    uint64_t id;
    _Atomic(heap_local *) locals; /* (lock to write) */
    heap_local *common;           /* of threads without a record, under common_lock */
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

/* ---- page.c: blocks ---- */

/* A block for the local's own thread.  NULL: no memory. */
void *page_alloc(heap_local *l, unsigned class);
/* `l` is the caller's local or NULL. */
void page_give(heap *h, heap_local *l, void *block, bool retire);
/* Whether the page has a block to serve, after making free what can be.  (owner,
 * lock; or of a thread that ended, with both locks) */
bool page_gather(heap_local *l, heap_page *p);
/* A page whose goal is reached, or a new one: all blocks are as never used. */
void page_reset(heap_page *p);
/* Debug builds: what must hold.  (owner, and a live block or the lock) */
void page_check(heap_page *p);

/* ---- page_wait.c: lists ---- */

void page_list_push(page_list *list, page_links in, heap_page *p, bool first);
void page_list_remove(page_list *list, page_links in, heap_page *p);
void page_set_waiting(heap_local *l);
/* The duty of who sees that a page is not where it belongs. */
QC_NOINLINE void page_settle(heap_page *p);
/* Both with the local's lock: tags what waits without a goal; takes away the pages
 * whose goal is reached, which are nobody's then (chained by links[IN_WAIT].next). */
void page_tag_waiting(heap_local *l);
heap_page *page_take_reached(heap_local *l);
/* Waiting pages of all threads whose goal is reached go to the pool; *goal: the
 * oldest that is not, if older than it was.  `l`: the caller's local or NULL. */
bool page_reclaim_all(heap *h, heap_local *l, uint64_t *goal);
/* Gets `l` a page for the class, which may be gone again when its lock is taken.
 * False: no memory. */
bool page_fresh(heap_local *l, unsigned class);
/* Debug builds.  (lock) */
void page_check_local(heap_local *l);

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
void heap_unref(heap *h);
#ifdef QC_DEBUG
/* Tests: the calling thread is taken for the one that has `l` (NULL: for one without
 * a record) in its calls on `h`. */
void heap_act_as(heap *h, heap_local *l);
#endif

#endif
