/* A domain with a queue, and the items that the retire tests put in it. */
#ifndef ENGINE_RETIRE_PLACE_H
#define ENGINE_RETIRE_PLACE_H

#include "harness.h"
#include "qsbr/retire.h"

/* A domain with a queue, and the calling thread's part in both. */
typedef struct {
    qsbr_domain *domain;
    retire_queue *queue;
    qsbr_record *rec;
    retire_local *local;
} place;

static inline void
join_place(place *p)
{
    p->rec = qsbr_register(p->domain);
    CHECK(p->rec != NULL);
    p->local = retire_local_get(p->queue, p->rec);
    CHECK(p->local != NULL && retire_local_get(p->queue, p->rec) == p->local);
}

/* What has run, in order. */
static uint64_t ran[8192];
static unsigned n_ran;

static inline place
place_new(void)
{
    place p = {.domain = qsbr_domain_new()};
    /* One step at a time: each may look and poll (T6, T7), whatever the clock says. */
    retire_limit.look_ns = retire_limit.poll_ns = 0;
    CHECK(p.domain != NULL);
    p.queue = retire_queue_new(p.domain);
    CHECK(p.queue != NULL);
    join_place(&p);
    n_ran = 0;
    return p;
}

static inline void
place_delete(place *p)
{
    CHECK(retire_queue_is_empty(p->queue));
    retire_queue_unref(p->queue);
    qsbr_unregister(p->rec);
    qsbr_domain_release(p->domain);
}

static inline void
run_item(uint64_t arg)
{
    CHECK(n_ran < sizeof ran / sizeof *ran);
    ran[n_ran++] = arg;
}

static inline void
block(place *p, uint64_t arg, size_t bytes)
{
    CHECK(retire_reserve(p->local, 1));
    retire_block(p->local, run_item, arg, bytes);
    retire_commit(p->local);
}

static inline void
ref(place *p, uint64_t arg)
{
    CHECK(retire_reserve(p->local, 1));
    retire_ref(p->local, run_item, arg);
    retire_commit(p->local);
}

static inline bool
asked(place *p)
{
    return qsbr_is_asked(p->rec);
}

static inline uint64_t
advances(place *p)
{
    return qc_load_relaxed(&p->domain->advances);
}

#define CHECK_HELD(p, bytes, items) check_held(p, bytes, items, __LINE__)

static inline void
check_held(place *p, uint64_t bytes, uint64_t items, int line)
{
    uint64_t b, i;
    retire_held(p->queue, &b, &i);
    if (b != bytes || i != items)
        fprintf(stderr, "held at line %d: %llu bytes, %llu items\n", line, (unsigned long long)b,
                (unsigned long long)i);
    CHECK_EQ(b, bytes);
    CHECK_EQ(i, items);
}

/* A thread of its own in the place of another. */
typedef struct {
    place p;
    uint64_t first;
    unsigned n;
    size_t bytes; /* 0: references */
} quiet;

static inline void
retire_some(void *arg)
{
    quiet *q = arg;
    join_place(&q->p);
    for (unsigned i = 0; i < q->n; i++)
        if (q->bytes == 0)
            ref(&q->p, q->first + i);
        else
            block(&q->p, q->first + i, q->bytes);
}

static inline void *
retire_some_and_end(void *arg)
{
    retire_some(arg);
    return NULL;
}

#endif
