/* The pointer array: a list of words that is read without a lock.
 *
 *   ptrarray_root.published --> +---------------------------+---------------------+
 *                               | capacity, size, changes   | words[capacity]     |
 *                               +---------------------------+---------------------+
 *     append in place              (2) size, (3) changes       (1) word
 *     pop in place                 (1) size, (2) changes           the word stays
 *     no room, clear            a new, complete array, and one store of the pointer;
 *                               the old one stays as it was, and is retired
 *
 * Why a reader may walk it.  An array never moves and never shrinks, and its
 * memory outlives the section (qsbr.h): whatever index a reader has found below
 * the size stays an address it may load from.  Whether the word it loads there
 * was in the list, and not yet or no longer, is what the second look at the size
 * is for:
 *
 *   - A pop lowers the size and leaves the word.  A reader that found the index
 *     covered before that may load the word of an object that is gone by now, so
 *     it looks a second time after it has taken a reference (ptrarray_read.h).
 *   - The next append writes the popped slot before it raises the size.  A reader
 *     that found the index covered long ago may load that word early.  It
 *     acquires the word, so it sees the pop that came before it, and the second
 *     look says "not covered", or the append's own size if that is there: in the
 *     first case the list was too short at that moment and IndexError is right,
 *     in the second the word is in the list.
 *
 * So reading a number by index takes two looks and no retry: it is wait-free.  An
 * array that was replaced meanwhile is frozen as of the replacement, which came
 * after the reader's load of the pointer: what it says was true during the operation.
 *
 * A negative index asks for the size and the word of one moment.  `changes` is
 * raised after each change of the size; between two raises there is just one such
 * change.  A reader that found the same count before and after, and the same size
 * twice in between, knows that there was none.  If not, it starts over, in a
 * section of its own, so that nobody's memory waits for its luck (Q2).
 *
 * A version for those who look twice.  What takes a moment, works on it without the
 * lock and comes back (sort, remove) has to know whether the list is still what it
 * was.  ptrarray_version, with the lock, is another number after every change: the
 * root's part is raised by stores of a word and, before the pointer, by a new array
 * (by all the changes that its predecessor had seen, and one), the array's part is
 * `changes`.  All that writes goes through ptrarray_set, ptrarray_set_size or
 * ptrarray_publish, so nobody can forget it; a reader never looks at it.
 *
 * Guarantees that live here
 *  A1  l[i], len(l) and iteration take no lock, are linearizable and never out of
 *      bounds (ptrarray_read.h): ptrarray_get loads the size again after the word and answers by
 *      it; ptrarray_get_from_end answers CHANGED, start over, if the count of
 *      changes moved.  Who takes a reference starts over unless ptrarray_is_still,
 *      which fails only where the list was changed.
 *  A2  append and pop() work in place where there is room; pop lowers the size
 *      before it takes the word; extend appears at once (one store of the size,
 *      or of the pointer).
 *  A3  What shifts elements builds a new array and publishes it (ptrarray_spliced,
 *      _without, _with, _picked; ptrarray_publish), so that no reader sees a
 *      half-shifted list.  A list that no other thread reads, which who has the lock
 *      knows (T1), is changed in place (ptrarray_splice, _cut, _replace, _reverse).
 *      What only cuts off the end is a pop of several: one store of the size.
 *  A4  Nothing stored is lost: all that write have the lock, and the old array's
 *      words cannot change between their copying and the publication.
 *  A5  What reads several elements sees one moment: it has the lock
 *      (ptrarray_moment), and works on its own copy afterwards.
 *  A6  8 bytes an element, and 40 an array; growth leaves at most an eighth free
 *      beyond 512 bytes.
 *  Q10 A fork's child may have a list whose lock was held by a thread that is gone.
 *      Every change that readers may see is one store (a word, the size, or the
 *      pointer), so it has happened or not; ptrarray_mend raises `changes`, which may
 *      have been next.  What is done in place takes many, and no fork comes between
 *      them (qsbr_hold_forks).
 *
 * Sections, locks and references are the caller's: words are opaque here.
 */
#ifndef CONTAINERS_PTRARRAY_H
#define CONTAINERS_PTRARRAY_H

#include "base/qc_atomic.h"
#include "base/qc_debug.h"
#include "base/qc_lock.h"
#include "containers/word.h"
#include "heap/heap.h"
#include "qsbr/qsbr.h"

typedef struct ptrarray ptrarray;

struct ptrarray {
    heap_block block; /* H1 */
    heap *heap;
    size_t capacity;
    _Atomic size_t size;      /* (lock) */
    _Atomic uint64_t changes; /* (lock) of the size, in this array */
    _Atomic qc_word words[];  /* below size: live; above: stale, and nobody's */
};

/* A pointer that readers follow, loaded by the accessors below only, with the
 * lock of those who write. */
typedef struct {
    _Atomic(ptrarray *) published;
    qc_lock lock;
    uint64_t version; /* (lock) all but the changes of the published array */
} ptrarray_root;

typedef enum {
    PTRARRAY_HIT,
    PTRARRAY_OUT,     /* there was a moment when the index was out of range */
    PTRARRAY_CHANGED, /* leave the section and start over */
} ptrarray_result;

/* What an empty list has: no room, and nobody's memory.  Never written. */
extern ptrarray ptrarray_none;

static inline void
ptrarray_init(ptrarray_root *root)
{
    qc_store_relaxed(&root->published, &ptrarray_none);
    qc_lock_init(&root->lock);
    root->version = 0;
}

/* ---- access to the array ---- */

/* In a section.  acquire: partner is the release store in ptrarray_publish; a
 * reader of the pointer sees the complete array. */
QC_INLINE ptrarray *
ptrarray_in_section(ptrarray_root *root, const qsbr_record *rec)
{
    (void)rec;
    qc_assert(qsbr_in_section(rec));
    return qc_load_acquire(&root->published);
}

/* With the lock: nobody else publishes. */
QC_INLINE ptrarray *
ptrarray_locked(ptrarray_root *root)
{
    qc_assert(qc_lock_is_held(&root->lock));
    return qc_load_relaxed(&root->published);
}

/* Nobody else has the list (construction, deallocation), or the interpreter has
 * stopped the others (traversal, a GIL). */
static inline ptrarray *
ptrarray_exclusive(ptrarray_root *root)
{
    return qc_load_relaxed(&root->published);
}

/* Of an array that the caller has from ptrarray_locked or _exclusive, or made. */
static inline size_t
ptrarray_size(ptrarray *a)
{
    return qc_load_relaxed(&a->size);
}

static inline qc_word
ptrarray_word(ptrarray *a, size_t i)
{
    qc_assert(i < a->capacity);
    return qc_load_relaxed(&a->words[i]);
}

static inline size_t
ptrarray_bytes(const ptrarray *a)
{
    return sizeof *a + a->capacity * sizeof(qc_word);
}

/* ---- writing, with the lock ---- */

#ifdef QC_DEBUG
/* Aborts unless the array is one.  A sample of the words where they are many. */
void ptrarray_check(ptrarray *a);
#else
#define ptrarray_check(a) ((void)(a))
#endif

QC_INLINE void
ptrarray_set_size(ptrarray *a, size_t size)
{
    qc_assert(a != &ptrarray_none && size <= a->capacity);
    /* release: partner is the acquire load in readers; they see the words below.
     * It is also the unlink of a pop, before the word is dropped: partner is the
     * second look in ptrarray_is_still. */
    qc_store_release(&a->size, size);
    qc_yield("size");
    /* release: partner is the acquire load in ptrarray_get_from_end. */
    qc_store_release(&a->changes, qc_load_relaxed(&a->changes) + 1);
    qc_yield("changes");
    ptrarray_check(a);
}

/* Of an array of `size` words that has room. */
QC_INLINE void
ptrarray_append_at(ptrarray *a, size_t size, qc_word word)
{
    qc_assert(size == qc_load_relaxed(&a->size) && size < a->capacity);
    /* release: partner is the acquire load of words; see above for the reader that
     * loads it before the size. */
    qc_store_release(&a->words[size], word);
    qc_yield("word");
    ptrarray_set_size(a, size + 1);
}

/* False: no room. */
QC_INLINE bool
ptrarray_append(ptrarray *a, qc_word word)
{
    size_t size = qc_load_relaxed(&a->size);
    if (qc_unlikely(size == a->capacity))
        return false;
    ptrarray_append_at(a, size, word);
    return true;
}

/* The words of an array that nobody else has. */
static inline const qc_word *
ptrarray_words(ptrarray *a)
{
    return (const qc_word *)(const void *)a->words;
}

/* `n` words at once.  False: no room. */
bool ptrarray_append_some(ptrarray *a, const qc_word *in, size_t n);

/* All words of `from`, the caller's own, which stay its words too.  False: no room. */
static inline bool
ptrarray_append_all(ptrarray *a, ptrarray *from)
{
    return ptrarray_append_some(a, ptrarray_words(from), ptrarray_size(from));
}

/* Lowers the size, and only then returns the word that is no longer covered.  Of
 * an array that is not empty. */
QC_INLINE qc_word
ptrarray_pop(ptrarray *a)
{
    size_t last = qc_load_relaxed(&a->size) - 1;
    ptrarray_set_size(a, last);
    return qc_load_relaxed(&a->words[last]);
}

/* Returns the word that was there.  Of the list's array `a`. */
QC_INLINE qc_word
ptrarray_set_in(ptrarray_root *root, ptrarray *a, size_t index, qc_word word)
{
    qc_assert(index < ptrarray_size(a));
    qc_word old = qc_load_relaxed(&a->words[index]);
    root->version++;
    /* release: partner is the acquire load of words.  It is also the unlink of the old one
     * (ptrarray_is_still). */
    qc_store_release(&a->words[index], word);
    qc_yield("set");
    ptrarray_check(a);
    return old;
}

QC_INLINE qc_word
ptrarray_set(ptrarray_root *root, size_t index, qc_word word)
{
    return ptrarray_set_in(root, ptrarray_locked(root), index, word);
}

/* Another number than before if there was any change since. */
static inline uint64_t
ptrarray_version(ptrarray_root *root)
{
    return root->version + qc_load_relaxed(&ptrarray_locked(root)->changes);
}

/* ---- changing in place what no other thread reads (A3, T1), with the lock ---- */

/* What ptrarray_spliced, _without, _with and ptrarray_picked (backwards) do, in the array
 * itself: it has the room. */
void ptrarray_splice(ptrarray_root *root, qsbr_record *rec, size_t at, size_t out,
                     const qc_word *in, size_t n);
void ptrarray_cut(ptrarray_root *root, qsbr_record *rec, size_t start, size_t step, size_t count);
void ptrarray_replace(ptrarray_root *root, qsbr_record *rec, size_t start, ptrdiff_t step,
                      ptrarray *in);
void ptrarray_reverse(ptrarray_root *root, qsbr_record *rec);

/* Q10: with the lock, found as an orphan. */
static inline void
ptrarray_mend(ptrarray_root *root)
{
    ptrarray *a = ptrarray_locked(root);
    root->version++;
    /* release: partner is the acquire load in ptrarray_get_from_end; one raise more
     * than there were changes makes a reader start over, no more. */
    if (a != &ptrarray_none)
        qc_store_release(&a->changes, qc_load_relaxed(&a->changes) + 1);
    ptrarray_check(a);
}

/* Makes `fresh`, complete and the caller's alone until now, the list's array, and
 * returns the old one: the caller's to free, unless it is ptrarray_none. */
ptrarray *ptrarray_publish(ptrarray_root *root, ptrarray *fresh);

/* Nobody else has the list: its array is the caller's, the list is empty. */
static inline ptrarray *
ptrarray_take(ptrarray_root *root)
{
    ptrarray *a = ptrarray_exclusive(root);
    root->version += qc_load_relaxed(&a->changes) + 1;
    qc_store_relaxed(&root->published, &ptrarray_none);
    return a;
}

/* ---- arrays that nobody else has ---- */

/* An empty one with room for `capacity` words, ptrarray_none for 0; NULL: no
 * memory. */
ptrarray *ptrarray_new(heap *h, size_t capacity);

/* Fills a new one: words at any of its places, in any order, then how many there are. */
static inline void
ptrarray_put(ptrarray *a, size_t i, qc_word word)
{
    qc_assert(i < a->capacity);
    qc_store_relaxed(&a->words[i], word);
}

static inline void
ptrarray_filled(ptrarray *a, size_t size)
{
    qc_assert(size <= a->capacity);
    if (size != 0)
        qc_store_relaxed(&a->size, size);
    ptrarray_check(a);
}

/* An array with the words of `a`, which the caller has locked, and room for `more`
 * and some.  Two arrays have the words then; who publishes this one does away with
 * the memory of `a` alone.  NULL: no memory. */
ptrarray *ptrarray_bigger(heap *h, ptrarray *a, size_t more);

/* The words `start`, `start + step`, ... of `a`, `count` of them, which `a` keeps too: a
 * slice, taken words, all words backwards.  Of an array that the caller has locked or
 * made.  NULL: no memory. */
ptrarray *ptrarray_picked(heap *h, ptrarray *a, size_t start, ptrdiff_t step, size_t count);

/* All words of `a`, `times` over.  NULL: no memory. */
ptrarray *ptrarray_repeated(heap *h, ptrarray *a, size_t times);

/* All words of `a` with `n` others in place of the `out` from `at` on, and room for some
 * more (ptrarray_none if none is left).  NULL: no memory. */
ptrarray *ptrarray_spliced(heap *h, ptrarray *a, size_t at, size_t out, const qc_word *in,
                           size_t n);

/* All words of `a` but `start`, `start + step`, ..., `count` of them, and room for some
 * more.  NULL: no memory. */
ptrarray *ptrarray_without(heap *h, ptrarray *a, size_t start, size_t step, size_t count);

/* All words of `a` with those of `in` in place of `start`, `start + step`, ..., and the
 * same room.  NULL: no memory. */
ptrarray *ptrarray_with(heap *h, ptrarray *a, size_t start, ptrdiff_t step, ptrarray *in);

/* Arrays grow by doubling up to so many bytes. */
#define PTRARRAY_DOUBLING_BYTES 512

/* Whether an array that has `size` words wastes so much that a smaller one is worth its
 * making: less than half is used, and that is not little. */
static inline bool
ptrarray_is_too_large(ptrarray *a, size_t size)
{
    return size < a->capacity / 2 && ptrarray_bytes(a) > PTRARRAY_DOUBLING_BYTES;
}

/* Each word from `first` on. */
QC_INLINE void
ptrarray_retain(ptrarray *a, size_t first, void (*retain)(qc_word))
{
    for (size_t i = first, n = ptrarray_size(a); i < n; i++)
        retain(ptrarray_word(a, i));
}

/* A5: the list's words, each retained; NULL: no memory.  With the lock. */
QC_INLINE ptrarray *
ptrarray_moment(heap *h, ptrarray_root *root, void (*retain)(qc_word))
{
    ptrarray *a = ptrarray_locked(root);
    ptrarray *copy = ptrarray_picked(h, a, 0, 1, ptrarray_size(a));
    if (copy != NULL)
        ptrarray_retain(copy, 0, retain);
    return copy;
}

/* Memory only; nothing happens to ptrarray_none. */
void ptrarray_free(ptrarray *a);
/* The same for an array that others may still read, in place of a retirement.  False:
 * it is too large for that, and nothing has been done. */
bool ptrarray_retire(ptrarray *a);

/* Releases the words from `first` on, in order, and frees the memory. */
void ptrarray_drop(ptrarray *a, size_t first, void (*release)(qc_word));

#endif
