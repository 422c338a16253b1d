/* Atomics with the order in the name.
 *
 * The one place where C11 atomics are spelled out: everywhere else the order
 * of an access is part of the word one reads at the call, so that a review of
 * lock-free code never has to look up an argument.  (The habit of naming the
 * order is mimalloc's, include/mimalloc/atomic.h.)
 *
 * All of these work on any _Atomic lvalue of 1, 4 or 8 bytes or a pointer.
 * A plain `relaxed` access promises nothing but that it is not torn; every
 * other order must name its partner in a comment where it is used.
 */
#ifndef QC_ATOMIC_H
#define QC_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define qc_load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
#define qc_load_acquire(p) atomic_load_explicit((p), memory_order_acquire)

/* Of an object that is not declared _Atomic since it is somebody else's. */
#define qc_load_relaxed_plain(p) __atomic_load_n((p), __ATOMIC_RELAXED)

#define qc_store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define qc_store_release(p, v) atomic_store_explicit((p), (v), memory_order_release)

#define qc_exchange_acquire(p, v) atomic_exchange_explicit((p), (v), memory_order_acquire)
#define qc_exchange_acq_rel(p, v) atomic_exchange_explicit((p), (v), memory_order_acq_rel)

#define qc_add_relaxed(p, v) atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
#define qc_add_acq_rel(p, v) atomic_fetch_add_explicit((p), (v), memory_order_acq_rel)
#define qc_add_seq_cst(p, v) atomic_fetch_add_explicit((p), (v), memory_order_seq_cst)
#define qc_sub_relaxed(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_relaxed)
#define qc_sub_acq_rel(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_acq_rel)

/* Compare and set: true if *p was *expected and is now v; otherwise *expected
 * receives what was found, by an acquire load (a failed CAS is a read). */
#define qc_cas_acq_rel(p, expected, v)                                                             \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_acq_rel,            \
                                            memory_order_acquire)
#define qc_cas_relaxed(p, expected, v)                                                             \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_relaxed,            \
                                            memory_order_relaxed)

#if defined(__SANITIZE_THREAD__)
#define QC_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define QC_TSAN 1
#endif
#endif

/* A full fence.  ThreadSanitizer does not model fences: what it can prove about
 * us rests on the acquire and release accesses alone, which is as it should be.
 * clang compiles the fence all the same; gcc refuses it under -Werror, and gets a
 * relaxed RMW, which is a fence on x86 and makes no edge that would hide a race. */
static inline void
qc_fence_seq_cst(void)
{
#if defined(QC_TSAN) && !defined(__clang__)
    static _Atomic unsigned dummy;
    atomic_fetch_add_explicit(&dummy, 1, memory_order_relaxed);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* Orders plain stores: a thread that sees a store behind the fence also sees those before
 * it.  (On x86 this costs no instruction; it only binds the compiler.) */
static inline void
qc_fence_release(void)
{
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
    atomic_signal_fence(memory_order_release); /* as above */
#else
    atomic_thread_fence(memory_order_release);
#endif
}

/* Keeps the compiler, and only it, from moving accesses across. */
#define qc_fence_compiler() atomic_signal_fence(memory_order_seq_cst)

#endif
