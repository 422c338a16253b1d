/* One slot's 64 bits: a pointer, a 51-bit integer, a double, or a special word.
 *
 * NaN-boxing, arranged so that a pointer is its own word and a test for it is a
 * shift and a compare.  With C = 0x7FF8 << 48, a double's word is its bits ^ C.
 * Of the doubles only those with the top 13 bits 0x7FF8 or 0xFFF8 (quiet NaNs)
 * would land on the other two kinds, and NaNs stay objects (their identity
 * matters, and so does the sign or payload somebody put there).
 *
 *     top 13 bits   0000 0000 0000 0    pointer (51 bits are enough for any
 *                                       user-space address), or special if < 8
 *                   1000 0000 0000 0    51-bit two's complement integer
 *                   all others          double ^ C
 *
 * No value encodes to a special word: pointers are larger, and all others have
 * a bit among the top 13.
 */
#ifndef CONTAINERS_WORD_H
#define CONTAINERS_WORD_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef uint64_t qc_word;

#define WORD_EMPTY ((qc_word)0)   /* never written yet */
#define WORD_DELETED ((qc_word)2) /* was a value; the entry is dead for good */
#define WORD_MOVED ((qc_word)4)   /* the entry lives in the next table */

#define WORD_INT_BITS 51
#define WORD_INT_MAX (((int64_t)1 << (WORD_INT_BITS - 1)) - 1)
#define WORD_INT_MIN (-((int64_t)1 << (WORD_INT_BITS - 1)))

#define WORD_KIND(w) ((uint32_t)((w) >> WORD_INT_BITS))
#define WORD_KIND_POINTER 0u
#define WORD_KIND_INT 0x1000u
#define WORD_DOUBLE_XOR ((uint64_t)0x7FF8 << 48)

static inline bool
word_is_live(qc_word w)
{
    return w >= 8;
}

/* Of a live word. */
static inline bool
word_is_pointer(qc_word w)
{
    return WORD_KIND(w) == WORD_KIND_POINTER;
}

static inline bool
word_is_int(qc_word w)
{
    return WORD_KIND(w) == WORD_KIND_INT;
}

static inline qc_word
word_from_pointer(const void *p)
{
    return (qc_word)(uintptr_t)p;
}

static inline void *
word_to_pointer(qc_word w)
{
    return (void *)(uintptr_t)w;
}

static inline bool
word_int_fits(int64_t v)
{
    return v >= WORD_INT_MIN && v <= WORD_INT_MAX;
}

static inline qc_word
word_from_int(int64_t v)
{
    return ((qc_word)WORD_KIND_INT << WORD_INT_BITS) |
           ((uint64_t)v & (((uint64_t)1 << WORD_INT_BITS) - 1));
}

static inline int64_t
word_to_int(qc_word w)
{
    /* The kind's bits are shifted out, the sign comes back in. */
    return (int64_t)(w << (64 - WORD_INT_BITS)) >> (64 - WORD_INT_BITS);
}

/* Not for NaNs. */
static inline qc_word
word_from_double(double d)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    return bits ^ WORD_DOUBLE_XOR;
}

static inline double
word_to_double(qc_word w)
{
    uint64_t bits = w ^ WORD_DOUBLE_XOR;
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

#endif
