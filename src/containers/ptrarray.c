#include "containers/ptrarray.h"

#include <string.h>

_Alignas(QC_LINE_PAIR) ptrarray ptrarray_none;

#define WORDS_MAX ((PTRDIFF_MAX - sizeof(ptrarray)) / sizeof(qc_word))
#define SMALLEST_BYTES 64
#define DOUBLING_BYTES 512

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
    if (need > WORDS_MAX / 2)
        return need;
    size_t wanted = sizeof(ptrarray) + need * sizeof(qc_word);
    size_t bytes = SMALLEST_BYTES;
    while (bytes < wanted && bytes < DOUBLING_BYTES)
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

ptrarray *
ptrarray_picked(heap *h, ptrarray *a, size_t start, ptrdiff_t step, size_t count)
{
    ptrarray *fresh = ptrarray_new(h, count);
    if (fresh == NULL || count == 0)
        return fresh;
    qc_assert(start < a->capacity && start + (count - 1) * (size_t)step < a->capacity);
    /* Plain, as in ptrarray_bigger. */
    if (step == 1)
        memcpy((void *)fresh->words, (const void *)(a->words + start), count * sizeof(qc_word));
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
    memcpy((void *)fresh->words, (const void *)a->words, size * sizeof(qc_word));
    /* What is there already is copied behind itself: few calls, even for one word. */
    for (size_t have = size, all = size * times; have < all; have *= 2)
        memcpy((void *)(fresh->words + have), (const void *)fresh->words,
               (have < all - have ? have : all - have) * sizeof(qc_word));
    qc_store_relaxed(&fresh->size, size * times);
    ptrarray_check(fresh);
    return fresh;
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
    /* Plain: nobody reads `fresh` yet, and nobody writes `a`. */
    memcpy((void *)fresh->words, (const void *)a->words, size * sizeof(qc_word));
    qc_store_relaxed(&fresh->size, size);
    ptrarray_check(fresh);
    return fresh;
}

bool
ptrarray_append_all(ptrarray *a, ptrarray *from)
{
    size_t size = ptrarray_size(a), n = ptrarray_size(from);
    if (n > a->capacity - size)
        return false;
    /* release: as in ptrarray_append. */
    for (size_t i = 0; i < n; i++)
        qc_store_release(&a->words[size + i], qc_load_relaxed(&from->words[i]));
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
