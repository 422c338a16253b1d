#include "heap/heap.h"

#include <stdint.h>

#ifdef QC_HEAP_LIBC
#include <stdlib.h>
#define system_alloc(size) malloc(size)
#define system_free(p) free(p)
#else
#include <mimalloc.h>
#define system_alloc(size) mi_malloc(size)
#define system_free(p) mi_free(p)
#endif

struct heap {
    _Atomic uint64_t bytes;
    /* The creator's reference and one a block: the last one frees. */
    _Atomic uint64_t refs;
};

#ifdef QC_DEBUG
static _Atomic uint64_t fail_in;
static _Atomic uint32_t fail_forever;

void
heap_fail_at(uint64_t n, bool forever)
{
    qc_store_relaxed(&fail_forever, forever);
    qc_store_relaxed(&fail_in, n);
}

static bool
fails(void)
{
    uint64_t n = qc_load_relaxed(&fail_in);
    while (n != 0) {
        bool now = n == 1;
        uint64_t left = now && qc_load_relaxed(&fail_forever) ? 1 : n - 1;
        if (qc_cas_relaxed(&fail_in, &n, left))
            return now;
    }
    return false;
}
#else
#define fails() false
#endif

static void
heap_unref(heap *h)
{
    if (qc_sub_acq_rel(&h->refs, 1u) == 1)
        system_free(h);
}

heap *
heap_new(void)
{
    heap *h = system_alloc(sizeof *h);
    if (h != NULL) {
        qc_store_relaxed(&h->bytes, 0u);
        qc_store_relaxed(&h->refs, 1u);
    }
    return h;
}

void
heap_delete(heap *h)
{
    heap_unref(h);
}

void *
heap_alloc(heap *h, size_t size)
{
    if (size > PTRDIFF_MAX || fails())
        return NULL;
    void *block = system_alloc(size);
    if (block != NULL) {
        qc_add_relaxed(&h->bytes, size);
        qc_add_relaxed(&h->refs, 1u);
    }
    return block;
}

void
heap_free(heap *h, void *block, size_t size)
{
    qc_poison(block, size);
    system_free(block);
    qc_sub_relaxed(&h->bytes, size);
    heap_unref(h);
}

uint64_t
heap_live_bytes(heap *h)
{
    return qc_load_relaxed(&h->bytes);
}
