/* Assertions, poison, the yield hook, and small words about the compiler.
 *
 * QC_DEBUG builds check what release builds promise: every assertion here is
 * a sentence of the design.  They also start at the dangerous edge (sequence
 * near its wrap, small batches), poison what they free, and yield at every
 * published store, so that a schedule that happens once a year on two cores
 * happens in a test.
 */
#ifndef QC_DEBUG_H
#define QC_DEBUG_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Sizes are added to 64-bit counts, negative ones as their complement, and a word holds a
 * pointer or a 51-bit int. */
_Static_assert(sizeof(void *) == 8 && sizeof(size_t) == 8,
               "qsbrcontainers needs a 64-bit platform: its accounting is wrong on others");

#ifdef QC_DEBUG
#include <stdio.h>
#include <stdlib.h>
#define qc_assert(cond)                                                                            \
    ((cond)                                                                                        \
         ? (void)0                                                                                 \
         : (fprintf(stderr, "%s:%d: assertion failed: %s\n", __FILE__, __LINE__, #cond), abort()))
#else
#define qc_assert(cond) ((void)0)
#endif

#if defined(__GNUC__)
#define qc_likely(x) __builtin_expect(!!(x), 1)
#define qc_unlikely(x) __builtin_expect(!!(x), 0)
#ifdef QC_COUNTING /* `make coverage`: or each caller's copy would have branches of its own */
#define QC_INLINE static inline
#else
#define QC_INLINE static inline __attribute__((always_inline))
#endif
/* Not `cold`: gcc 12 then takes whole files that call such functions for cold. */
#define QC_NOINLINE __attribute__((noinline))
#define QC_HIDDEN __attribute__((visibility("hidden"))) /* one load, not two */
#else
#define qc_likely(x) (x)
#define qc_unlikely(x) (x)
#define QC_INLINE static inline
#define QC_NOINLINE
#define QC_HIDDEN
#endif

/* For the small thread-local variables of the hot paths.  With the initial-exec model a load
 * is one instruction instead of a call.  A library that is loaded by dlopen may use that
 * model only if the C library reserves static TLS for such libraries.  glibc does (the
 * surplus), and these variables take less than 100 bytes together.  musl does not, and
 * would refuse to load the library. */
#if defined(__GLIBC__) && defined(__GNUC__)
#define QC_TLS _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define QC_TLS _Thread_local
#endif

/* For the functions of the hot paths: their locals are words, and no array that could
 * be overrun, but a word whose address is taken would have the stack guarded, at the
 * cost of five instructions a call. */
#ifdef __has_attribute
#if __has_attribute(no_stack_protector)
#define QC_WORDS_ONLY __attribute__((no_stack_protector))
#endif
#endif
#ifndef QC_WORDS_ONLY
#define QC_WORDS_ONLY
#endif

#define QC_LINE_PAIR 128 /* two cache lines: adjacent-line prefetch pairs them */

/* What freed memory is filled with before it is given back in debug builds:
 * as a word it is no pointer, no int and no special word of ours, but a double
 * that nobody stores. */
#define QC_POISON 0xDB

static inline void
qc_poison(void *p, size_t n)
{
#ifdef QC_DEBUG
    memset(p, QC_POISON, n);
    /* free() follows: without this the compiler leaves the dead stores out. */
    __asm__ volatile("" : : "r"(p) : "memory");
#else
    (void)p;
    (void)n;
#endif
}

/* The yield hook: a test gives the function, the code names the places (the
 * order of a published store, a lock about to be taken).  Nothing in release
 * builds. */
#ifdef QC_DEBUG
extern void (*qc_yield_hook)(const char *place);
/* A hook that sleeps 20 us at one place in n, so that windows of a few
 * nanoseconds are hit; 0: none. */
void qc_yield_at_random(unsigned n);
#define qc_yield(place)                                                                            \
    do {                                                                                           \
        if (qc_yield_hook != NULL)                                                                 \
            qc_yield_hook(place);                                                                  \
    } while (0)
#else
#define qc_yield(place) ((void)0)
#endif

#endif
