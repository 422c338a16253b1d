#include "containers/ptrarray.h"

#include <string.h>

_Alignas(QC_LINE_PAIR) ptrarray ptrarray_none;

#define WORDS_MAX ((PTRDIFF_MAX - sizeof(ptrarray)) / sizeof(qc_word))
#define SMALLEST_BYTES 64

#ifdef QC_DEBUG
void
ptrarray_check(ptrarray *a)
{
    size_t size = qc_load_relaxed(&a->size);
    qc_assert(size <= a->capacity && a->capacity <= WORDS_MAX);
    qc_assert((a->heap == NULL) == (a == &ptrarray_none));
    qc_assert(a != &ptrarray_none || (size == 0 && a->capacity == 0));
    /* Mutations are at the end mostly; a stride catches the rest in time. */
    size_t step = 1;
    for (size_t i = 0; i < size; i += step) {
        qc_assert(word_is_live(qc_load_relaxed(&a->words[i])));
        step = size - i > 64 ? size / 64 + 1 : 1;
    }
}
#endif

/* Room for some more than `need` words: doubling while arrays are small, in sizes
 * that allocators have, then an eighth more. */
static size_t
roomy(size_t need)
{
    qc_assert(need <= WORDS_MAX); /* so nothing here is beyond size_t, and _new refuses it */
    size_t wanted = sizeof(ptrarray) + need * sizeof(qc_word);
    size_t bytes = SMALLEST_BYTES;
    while (bytes < wanted && bytes < PTRARRAY_DOUBLING_BYTES)
        bytes *= 2;
    if (bytes < wanted)
        bytes = (wanted + wanted / 8 + 63) / 64 * 64;
    return (bytes - sizeof(ptrarray)) / sizeof(qc_word);
}

ptrarray *
ptrarray_new(heap *h, size_t capacity)
{
    if (capacity == 0)
        return &ptrarray_none;
    if (capacity > WORDS_MAX)
        return NULL;
    ptrarray *a = heap_alloc(h, sizeof *a + capacity * sizeof(qc_word));
    if (a == NULL)
        return NULL;
    a->heap = h;
    a->capacity = capacity;
    qc_store_relaxed(&a->size, 0u);
    qc_store_relaxed(&a->changes, 0u);
    return a;
}

/* Plain: nobody else writes where this reads, nor reads where it writes. */
static void
copy_words(ptrarray *to, size_t at, const void *from, size_t n)
{
    qc_assert(at + n <= to->capacity);
    if (n != 0)
        memcpy((void *)(to->words + at), from, n * sizeof(qc_word));
}

ptrarray *
ptrarray_picked(heap *h, ptrarray *a, size_t start, ptrdiff_t step, size_t count)
{
    ptrarray *fresh = ptrarray_new(h, count);
    if (fresh == NULL || count == 0)
        return fresh;
    qc_assert(start < a->capacity && start + (count - 1) * (size_t)step < a->capacity);
    if (step == 1)
        copy_words(fresh, 0, (const void *)(a->words + start), count);
    else
        for (size_t i = 0; i < count; i++)
            qc_store_relaxed(&fresh->words[i], ptrarray_word(a, start + i * (size_t)step));
    qc_store_relaxed(&fresh->size, count);
    ptrarray_check(fresh);
    return fresh;
}

ptrarray *
ptrarray_repeated(heap *h, ptrarray *a, size_t times)
{
    size_t size = ptrarray_size(a);
    if (size != 0 && times > WORDS_MAX / size)
        return NULL;
    ptrarray *fresh = ptrarray_new(h, size * times);
    if (fresh == NULL || size * times == 0)
        return fresh;
    copy_words(fresh, 0, (const void *)a->words, size);
    /* What is there already is copied behind itself: few calls, even for one word. */
    for (size_t have = size, all = size * times; have < all; have *= 2)
        copy_words(fresh, have, (const void *)fresh->words, have < all - have ? have : all - have);
    qc_store_relaxed(&fresh->size, size * times);
    ptrarray_check(fresh);
    return fresh;
}

ptrarray *
ptrarray_spliced(heap *h, ptrarray *a, size_t at, size_t out, const qc_word *in, size_t n)
{
    size_t left = ptrarray_size(a) - out, tail = left - at;
    qc_assert(out <= ptrarray_size(a) && at <= left);
    if (n > WORDS_MAX - left)
        return NULL;
    ptrarray *fresh = left + n == 0 ? &ptrarray_none : ptrarray_new(h, roomy(left + n));
    if (fresh == NULL || fresh == &ptrarray_none)
        return fresh;
    copy_words(fresh, 0, (const void *)a->words, at);
    copy_words(fresh, at, in, n);
    copy_words(fresh, at + n, (const void *)(a->words + at + out), tail);
    qc_store_relaxed(&fresh->size, left + n);
    ptrarray_check(fresh);
    return fresh;
}

/* Moves the words between those that go, and the rest, to `to`, which may be `a`. */
static void
close_gaps(ptrarray *to, ptrarray *a, size_t start, size_t step, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t from = start + i * step + 1;
        size_t until = i + 1 < count ? from + step - 1 : ptrarray_size(a);
        memmove((void *)(to->words + from - 1 - i), (const void *)(a->words + from),
                (until - from) * sizeof(qc_word));
    }
}

ptrarray *
ptrarray_without(heap *h, ptrarray *a, size_t start, size_t step, size_t count)
{
    size_t left = ptrarray_size(a) - count;
    ptrarray *fresh = left == 0 ? &ptrarray_none : ptrarray_new(h, roomy(left));
    if (fresh == NULL || fresh == &ptrarray_none)
        return fresh;
    copy_words(fresh, 0, (const void *)a->words, start);
    close_gaps(fresh, a, start, step, count);
    qc_store_relaxed(&fresh->size, left);
    ptrarray_check(fresh);
    return fresh;
}

/* release, for the one that works in place: as in ptrarray_set. */
static void
put_words(ptrarray *a, size_t start, ptrdiff_t step, ptrarray *in)
{
    for (size_t i = 0, n = ptrarray_size(in); i < n; i++)
        qc_store_release(&a->words[start + i * (size_t)step], ptrarray_word(in, i));
}

ptrarray *
ptrarray_with(heap *h, ptrarray *a, size_t start, ptrdiff_t step, ptrarray *in)
{
    ptrarray *fresh = ptrarray_new(h, a->capacity);
    if (fresh == NULL || fresh == &ptrarray_none)
        return fresh;
    copy_words(fresh, 0, (const void *)a->words, ptrarray_size(a));
    put_words(fresh, start, step, in);
    qc_store_relaxed(&fresh->size, ptrarray_size(a));
    ptrarray_check(fresh);
    return fresh;
}

/* ---- in place ---- */

void
ptrarray_splice(ptrarray_root *root, qsbr_record *rec, size_t at, size_t out, const qc_word *in,
                size_t n)
{
    ptrarray *a = ptrarray_locked(root);
    size_t size = ptrarray_size(a);
    qc_assert(at + out <= size && size - out + n <= a->capacity);
    if (out == 0 && n == 0)
        return;
    qsbr_hold_forks(rec);
    memmove((void *)(a->words + at + n), (const void *)(a->words + at + out),
            (size - at - out) * sizeof(qc_word));
    qc_yield("splice: moved");
    copy_words(a, at, in, n);
    ptrarray_set_size(a, size - out + n);
    qsbr_let_forks(rec);
}

void
ptrarray_cut(ptrarray_root *root, qsbr_record *rec, size_t start, size_t step, size_t count)
{
    ptrarray *a = ptrarray_locked(root);
    qsbr_hold_forks(rec);
    close_gaps(a, a, start, step, count);
    qc_yield("cut: moved");
    ptrarray_set_size(a, ptrarray_size(a) - count);
    qsbr_let_forks(rec);
}

void
ptrarray_replace(ptrarray_root *root, qsbr_record *rec, size_t start, ptrdiff_t step, ptrarray *in)
{
    ptrarray *a = ptrarray_locked(root);
    qsbr_hold_forks(rec);
    root->version++;
    put_words(a, start, step, in);
    qc_yield("replace: put");
    ptrarray_check(a);
    qsbr_let_forks(rec);
}

void
ptrarray_reverse(ptrarray_root *root, qsbr_record *rec)
{
    ptrarray *a = ptrarray_locked(root);
    qsbr_hold_forks(rec);
    root->version++;
    for (size_t i = 0, j = ptrarray_size(a); i + 1 < j; i++) {
        qc_word word = ptrarray_word(a, i);
        qc_store_relaxed(&a->words[i], ptrarray_word(a, --j));
        qc_yield("reverse");
        qc_store_relaxed(&a->words[j], word);
    }
    ptrarray_check(a);
    qsbr_let_forks(rec);
}

ptrarray *
ptrarray_bigger(heap *h, ptrarray *a, size_t more)
{
    size_t size = ptrarray_size(a);
    if (more > WORDS_MAX - size)
        return NULL;
    ptrarray *fresh = ptrarray_new(h, roomy(size + more));
    if (fresh == NULL)
        return NULL;
    copy_words(fresh, 0, (const void *)a->words, size);
    qc_store_relaxed(&fresh->size, size);
    ptrarray_check(fresh);
    return fresh;
}

bool
ptrarray_append_some(ptrarray *a, const qc_word *in, size_t n)
{
    size_t size = ptrarray_size(a);
    if (n > a->capacity - size)
        return false;
    /* release: as in ptrarray_append. */
    for (size_t i = 0; i < n; i++) {
        qc_store_release(&a->words[size + i], in[i]);
#ifdef QC_BREAK_LIST_EXTEND_BY_ONE
        ptrarray_set_size(a, size + i + 1);
#endif
    }
    qc_yield("words");
    if (n != 0)
        ptrarray_set_size(a, size + n);
    return true;
}

ptrarray *
ptrarray_publish(ptrarray_root *root, ptrarray *fresh)
{
    ptrarray *old = ptrarray_locked(root);
    ptrarray_check(old);
    ptrarray_check(fresh);
    /* Before the store: a fork between the two leaves a version too many, not the same
     * one for both arrays (Q10). */
    root->version += qc_load_relaxed(&old->changes) + 1;
    /* release: partner is the acquire load in ptrarray_in_section.  It is the
     * unlink of the old array, and with clear of all words in it. */
    qc_store_release(&root->published, fresh);
    qc_yield("publish array");
    return old;
}

void
ptrarray_free(ptrarray *a)
{
    if (a == &ptrarray_none)
        return;
    heap_free(a->heap, a, ptrarray_bytes(a));
}

bool
ptrarray_retire(ptrarray *a)
{
    size_t bytes = ptrarray_bytes(a);
    if (!heap_is_small(bytes))
        return false;
    heap_retire(a->heap, a, bytes);
    return true;
}

void
ptrarray_drop(ptrarray *a, size_t first, void (*release)(qc_word))
{
    for (size_t i = first, n = ptrarray_size(a); i < n; i++)
        release(ptrarray_word(a, i));
    ptrarray_free(a);
}
