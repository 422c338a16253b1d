/* Reading a pointer array, in a section (A1).
 *
 * An object takes a reference, and what was removed does not wait for readers (K8,
 * py_try.h): it may be gone, another may live at its address, and that one may even be
 * in the list elsewhere.  So a reader looks again when it has the reference, which keeps
 * the address for one object: ptrarray_is_still.  It finds, in this order,
 *
 *     the size above the index; the word; the size again; this array published.
 *
 * An array that was replaced keeps its words, and all of its readers' indices are
 * covered: without the last look, each of them would be believed.  One that is published
 * still was so throughout (no array comes back while it is being read, but one that
 * drain() could not use, unchanged), so the list had these sizes and this word at these
 * moments.  If the index was covered when the word was found, that is the element.  If
 * not, it was popped between the first two looks, or is being appended between the
 * last two: at the end of the one, at the beginning of the other, the word was the
 * element, and the reader had its object all the time.  (With the first look alone, an
 * append that is not through would be seen, and undone by a look at the length; with
 * the second alone, an address that a popped word has left behind.)
 */
#ifndef CONTAINERS_PTRARRAY_READ_H
#define CONTAINERS_PTRARRAY_READ_H

#include "containers/ptrarray.h"

/* acquire: partner is the release store in ptrarray_set_size; who learned from
 * this length that an element is there will find it. */
QC_INLINE size_t
ptrarray_len(ptrarray_root *root, const qsbr_record *rec)
{
    return qc_load_acquire(&ptrarray_in_section(root, rec)->size);
}

/* Where a reader has found a word, for the second look. */
typedef struct {
    ptrarray *array;
    size_t index;
    size_t size;      /* 0: by index; else from the end, and the size then */
    uint64_t changes; /* from the end */
} ptrarray_place;

/* The first look.  ptrarray_is_covered is to follow, or, of an object, ptrarray_is_still. */
QC_INLINE ptrarray_result
ptrarray_find(ptrarray_root *root, const qsbr_record *rec, size_t index, ptrarray_place *place,
              qc_word *word)
{
    ptrarray *a = place->array = ptrarray_in_section(root, rec);
    place->index = index;
    place->size = 0;
    /* acquire: partner is the release store in ptrarray_set_size.  Without it the
     * slot could still hold what was in it before the element that this size is
     * about: nothing at all, or a word whose reference is gone. */
    if (qc_unlikely(index >= qc_load_acquire(&a->size)))
        return PTRARRAY_OUT;
    qc_yield("get: covered");
    /* acquire: partners are the release stores of words.  What the word points to
     * is complete, and the second look sees the pop before an append's word. */
    *word = qc_load_acquire(&a->words[index]);
    qc_yield("get: loaded");
    return PTRARRAY_HIT;
}

/* The second look at the size: HIT, or OUT. */
QC_INLINE ptrarray_result
ptrarray_is_covered(const ptrarray_place *place)
{
#ifndef QC_BREAK_LIST_NO_RECHECK
    /* relaxed: only the number matters, and the load of the word keeps it behind. */
    if (qc_unlikely(place->index >= qc_load_relaxed(&place->array->size)))
        return PTRARRAY_OUT;
#endif
    return PTRARRAY_HIT;
}

/* Both, for a number, or a word that is not followed. */
QC_INLINE ptrarray_result
ptrarray_get(ptrarray_root *root, const qsbr_record *rec, size_t index, qc_word *word)
{
    ptrarray_place place;
    ptrarray_result result = ptrarray_find(root, rec, index, &place, word);
    return qc_likely(result == PTRARRAY_HIT) ? ptrarray_is_covered(&place) : result;
}

/* The same for who knows that nobody else writes meanwhile (as in qc_lock_try_alone): no
 * section, and one look at the size. */
QC_INLINE ptrarray_result
ptrarray_get_alone(ptrarray_root *root, size_t index, qc_word *word)
{
    ptrarray *a = ptrarray_exclusive(root);
    if (qc_unlikely(index >= ptrarray_size(a)))
        return PTRARRAY_OUT;
    *word = ptrarray_word(a, index);
    return PTRARRAY_HIT;
}

/* K8: in the section in which the word was found at `place`, with a reference to its object:
 * whether it is an element now.  The order of the looks is the header's; all but the last
 * are acquires so that they come in it.  Partners are the stores that unlink a word
 * (ptrarray_set_in, ptrarray_set_size, ptrarray_publish), each of which comes before the
 * drop: a count that was raised after the drop orders these loads after that store. */
QC_INLINE bool
ptrarray_is_still(ptrarray_root *root, const ptrarray_place *place, qc_word word)
{
    ptrarray *a = place->array;
#ifdef QC_BREAK_VALUE_NO_SECOND_LOOK
    return true;
#endif
#ifdef QC_BREAK_LIST_LOOKS_AT_WORD
    return qc_load_acquire(&a->words[place->index]) == word;
#endif
    size_t size = qc_load_acquire(&a->size);
    if (qc_unlikely(place->index >= size) ||
        qc_unlikely(qc_load_acquire(&a->words[place->index]) != word))
        return false;
    size_t again = qc_load_acquire(&a->size);
    /* From the end: no change of the size since it was found, as in the first look. */
    if (qc_unlikely(place->size != 0) &&
        (size != place->size || again != size || qc_load_acquire(&a->changes) != place->changes))
        return false;
    return qc_likely(place->index < again && qc_load_relaxed(&root->published) == a);
}

/* The element `back` from the end, 1 is the last. */
QC_INLINE ptrarray_result
ptrarray_find_from_end(ptrarray_root *root, const qsbr_record *rec, size_t back,
                       ptrarray_place *place, qc_word *word)
{
    ptrarray *a = place->array = ptrarray_in_section(root, rec);
    /* acquire: partner is the release store of `changes` in ptrarray_set_size; the
     * size below is at least as new as this count. */
    uint64_t changes = qc_load_acquire(&a->changes);
    size_t size = qc_load_acquire(&a->size); /* as in ptrarray_get */
    if (qc_unlikely(back > size))
        return PTRARRAY_OUT;
    place->index = size - back;
    place->size = size;
    place->changes = changes;
    qc_yield("get: covered");
    *word = qc_load_acquire(&a->words[size - back]); /* as in ptrarray_get */
    qc_yield("get: loaded");
    /* The size first, acquire: partner is its release store.  A size of a later
     * change than the next one brings the raised count with it. */
    if (qc_unlikely(qc_load_acquire(&a->size) != size || qc_load_relaxed(&a->changes) != changes))
        return PTRARRAY_CHANGED;
    return PTRARRAY_HIT;
}

QC_INLINE ptrarray_result
ptrarray_get_from_end(ptrarray_root *root, const qsbr_record *rec, size_t back, qc_word *word)
{
    ptrarray_place place;
    return ptrarray_find_from_end(root, rec, back, &place, word);
}

#endif
