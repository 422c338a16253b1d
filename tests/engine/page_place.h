/* A heap with threads that do one thing at a time, for the page tests. */
#ifndef ENGINE_PAGE_PLACE_H
#define ENGINE_PAGE_PLACE_H

#include "harness.h"

#include <string.h>

#include "heap/page.h"

/* Two classes of few blocks a page: the tests fill pages by hand. */
enum { BIG = 8192, BIGS = 7, MIDDLE = 4096, MIDDLES = 15 };

static qsbr_domain *domain;
static heap *h;

static inline void
place_begin(void)
{
#ifdef QC_DEBUG
    page_blocks = 0;
#endif
    heap_page_limit = (size_t)1 << 40; /* nothing is tagged before it is needed */
    heap_page_batch = 1;               /* and all at once then */
    domain = qsbr_domain_new();
    CHECK(domain != NULL && qsbr_register(domain) != NULL);
    h = heap_new(domain);
    CHECK(h != NULL);
}

static inline heap_figures
figures(void)
{
    heap_figures f;
    heap_stats(h, &f);
    return f;
}

/* All is given back: nothing is counted any more. */
static inline void
place_end(void)
{
    heap_collect(h, qsbr_wait);
    heap_figures f = figures();
    CHECK_EQ(f.live_bytes, 0);
    CHECK_EQ(f.pages_waiting, 0);
    CHECK_EQ(f.retired_bytes, 0);
    CHECK_EQ(f.pages, 0);
    heap_delete(h);
    qsbr_unregister(qsbr_find(domain));
    qsbr_domain_release(domain);
}

static inline uint64_t
advances(void)
{
    return qc_load_relaxed(&domain->advances);
}

/* ---- blocks ---- */

/* Filled, so that who may not read it any more is seen to. */
static inline void *
get(size_t size)
{
    unsigned char *block = heap_alloc(h, size);
    CHECK(block != NULL);
    memset(block, 0xA5, size);
    return block;
}

/* H1: all but the first word. */
static inline bool
intact(void *block, size_t size)
{
    for (size_t i = sizeof(heap_block); i < size; i++)
        if (((unsigned char *)block)[i] != 0xA5)
            return false;
    return true;
}

static inline void
get_many(void **blocks, int n, size_t size)
{
    for (int i = 0; i < n; i++)
        blocks[i] = get(size);
}

static inline void
retire_many(void **blocks, int n, size_t size)
{
    for (int i = 0; i < n; i++)
        heap_retire(h, blocks[i], size);
}

static inline void
free_many(void **blocks, int n, size_t size)
{
    for (int i = 0; i < n; i++)
        heap_free(h, blocks[i], size);
}

static inline bool
is_among(void *block, void **blocks, int n)
{
    for (int i = 0; i < n; i++)
        if (blocks[i] == block)
            return true;
    return false;
}

static inline bool
waits(heap_page *p)
{
    uint64_t s = qc_load_acquire(&p->state);
    return state_live(s) == 0 && (s & STATE_WAITS) != 0;
}

static inline unsigned
live_in(heap_page *p)
{
    return (unsigned)state_live(qc_load_acquire(&p->state));
}

/* ---- other threads ---- */

typedef struct {
    void **blocks;
    int n;
    size_t size;
} task;

static inline void
do_get(void *arg)
{
    task *t = arg;
    CHECK(qsbr_register(domain) != NULL);
    get_many(t->blocks, t->n, t->size);
}

static inline void
do_retire(void *arg)
{
    task *t = arg;
    CHECK(qsbr_register(domain) != NULL);
    retire_many(t->blocks, t->n, t->size);
}

static inline void
do_free(void *arg)
{
    task *t = arg;
    CHECK(qsbr_register(domain) != NULL);
    free_many(t->blocks, t->n, t->size);
}

static inline void
get_by(stepper *s, void **blocks, int n, size_t size)
{
    task t = {blocks, n, size};
    stepper_run(s, do_get, &t);
}

static inline void
retire_by(stepper *s, void **blocks, int n, size_t size)
{
    task t = {blocks, n, size};
    stepper_run(s, do_retire, &t);
}

static inline void
free_by(stepper *s, void **blocks, int n, size_t size)
{
    task t = {blocks, n, size};
    stepper_run(s, do_free, &t);
}

#endif
