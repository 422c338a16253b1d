/* The page heap (H1-H5, T4) driven from bytes, against a model that knows which
 * blocks must not be served yet.
 *
 * There is one OS thread.  It plays up to THREADS others, with records and locals of
 * their own, so that a run is what its bytes say and nothing else.  The model is a
 * list of retired blocks, each with the set of readers that were in a section when it
 * was retired: as long as one of them still is, the block's bytes stay as they were
 * (H1: but for the first word) and no block that is served may overlap it.  A block
 * that is in use overlaps no other.  In the end everything is given back.
 *
 * Places inside the heap (the yield hook) are steps too: there other threads do what
 * the next bytes say, as they could at that moment; where the one in the middle holds
 * a lock, what needs none.
 *
 * With FUZZ_MAIN it is a program that replays files and then a number of random
 * inputs, for machines without libFuzzer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heap/page.h"

#define REQUIRE(cond)                                                                              \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: step %u: not so: %s\n", __FILE__, __LINE__, steps, #cond);     \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum { THREADS = 6, BLOCKS = 160, RETIRED = 2000, FILL = 0xA5 };

typedef struct {
    unsigned char *at;
    size_t size;
    unsigned char fill;
    unsigned readers; /* a bit each, of those that may hold it */
} block;

static qsbr_domain *domain;
static heap *h;
static unsigned steps;
static const uint8_t *next;
static const uint8_t *end;

/* A thread is a record: without one (rec NULL) it has not begun. */
static struct {
    qsbr_record *rec;
    heap_local *local;
} threads[THREADS];
static int acting;    /* inside a call of the heap's: the thread, else -1 */
static int held = -1; /* one that is in the middle of a call, while others act */

static block live[BLOCKS + 1], retired[RETIRED + 1]; /* one in the middle of each */
static unsigned n_live, n_retired;
static uint64_t live_bytes;

static unsigned
byte(void)
{
    return next < end ? *next++ : 0;
}

/* ---- threads ---- */

/* The bit by which polls find a record of the domain's one chunk. */
static void
mark_registered(qsbr_record *rec, bool registered)
{
    struct qsbr_chunk *chunk = qc_load_relaxed(&domain->chunks);
    uint32_t bits = qc_load_relaxed(&chunk->registered), mine = (uint32_t)1 << rec->number;
    qc_store_release(&chunk->registered, registered ? bits | mine : bits & ~mine);
}

/* Does what qsbr_register does, for a record of the domain that no thread has. */
static void
begin(unsigned t)
{
    qsbr_record *rec = NULL;
    for (int i = 0; i < QSBR_CHUNK_RECORDS && rec == NULL; i++)
        if (qc_load_relaxed(&qc_load_relaxed(&domain->chunks)->records[i].refs) == 0)
            rec = &qc_load_relaxed(&domain->chunks)->records[i];
    REQUIRE(rec != NULL && qc_load_relaxed(&rec->seq) == QSBR_OFFLINE);
    qc_store_relaxed(&rec->refs, 2u);
    qc_add_relaxed(&rec->tenure, 1u);
    qc_store_release(&rec->registered, 1u);
    mark_registered(rec, true);
    qc_add_acq_rel(&domain->registered, 1u);
    threads[t].rec = rec;
    threads[t].local = NULL; /* until it comes to the heap */
}

static bool
in_section(unsigned t)
{
    return threads[t].rec != NULL && qsbr_in_section(threads[t].rec);
}

static void
check_retired(block *b)
{
    for (size_t i = sizeof(heap_block); i < b->size; i++)
        REQUIRE(b->at[i] == b->fill);
}

static void
leave(unsigned t)
{
    for (unsigned i = 0; i < n_retired;) {
        if (retired[i].readers & 1u << t)
            check_retired(&retired[i]);
        retired[i].readers &= ~(1u << t);
        if (retired[i].readers == 0)
            retired[i] = retired[--n_retired];
        else
            i++;
    }
    qsbr_exit(threads[t].rec);
}

static void
finish(unsigned t)
{
    qsbr_record *rec = threads[t].rec;
    if (in_section(t))
        leave(t);
    qc_store_release(&rec->registered, 0u);
    mark_registered(rec, false);
    qc_sub_acq_rel(&domain->registered, 1u);
    qc_store_release(&rec->refs, 0u);
    threads[t].rec = NULL;
}

/* The heap's calls that follow are by t. */
static void
be(unsigned t)
{
    if (threads[t].rec != NULL && threads[t].local == NULL)
        threads[t].local = heap_local_get(h, threads[t].rec);
    heap_act_as(h, threads[t].rec != NULL ? threads[t].local : NULL);
}

/* ---- blocks ---- */

static bool
overlap(block *a, block *b)
{
    return a->at < b->at + b->size && b->at < a->at + a->size;
}

static void
served(void *at, size_t size)
{
    REQUIRE(n_live <= BLOCKS);
    block *b = &live[n_live++];
    *b = (block){.at = at, .size = size, .fill = (unsigned char)(FILL ^ steps)};
    REQUIRE((uintptr_t)at % 16 == 0);
    for (unsigned i = 0; i + 1 < n_live; i++)
        REQUIRE(!overlap(b, &live[i]));
    for (unsigned i = 0; i < n_retired; i++)
        REQUIRE(!overlap(b, &retired[i]));
    memset(b->at, b->fill, size);
    live_bytes += size;
}

static const size_t sizes[] = {16, 100, 1024, 2000, 4096, 8192};

static void
get(unsigned t, unsigned which)
{
    size_t size = sizes[which % (sizeof sizes / sizeof *sizes)];
    if (n_live >= BLOCKS || in_section(t)) /* Q2: a section never allocates */
        return;
    be(t);
    acting = (int)t;
    void *at = heap_alloc(h, size);
    acting = -1;
    REQUIRE(at != NULL);
    served(at, size);
}

static void
give(unsigned t, unsigned i, bool retire)
{
    if (n_live == 0 || (retire && n_retired >= RETIRED))
        return;
    i %= n_live;
    block b = live[i];
    for (size_t j = 0; j < b.size; j++)
        REQUIRE(b.at[j] == b.fill);
    live[i] = live[--n_live];
    live_bytes -= b.size;
    if (retire) {
        for (unsigned r = 0; r < THREADS; r++)
            if (in_section(r))
                b.readers |= 1u << r;
        if (b.readers != 0)
            retired[n_retired++] = b;
    }
    be(t);
    acting = (int)t;
    if (retire)
        heap_retire(h, b.at, b.size);
    else
        heap_free(h, b.at, b.size);
    acting = -1;
}

/* ---- steps ---- */

static void
check_all(void)
{
    heap_figures f;
    heap_stats(h, &f);
    REQUIRE(f.live_bytes == live_bytes);
    REQUIRE(f.pages_free + f.pages_waiting <= f.pages);
    for (unsigned i = 0; i < n_retired; i++)
        check_retired(&retired[i]);
}

static void
enter_or_leave(unsigned t)
{
    if (threads[t].rec == NULL)
        return;
    if (in_section(t))
        leave(t);
    else
        qsbr_enter(threads[t].rec);
}

static void
step(void)
{
    unsigned what = byte(), t = what / 16 % THREADS;
    if ((int)t == held)
        return;
    switch (what % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
        get(t, byte());
        break;
    case 4: /* the rest of a page, and more */
        for (unsigned which = byte(), n = 2 + which / 16; n > 0; n--)
            get(t, which);
        break;
    case 5:
    case 6:
    case 7:
        give(t, byte(), true);
        break;
    case 8: /* the last ones: whole pages */
        for (unsigned n = byte() % 32; n > 0 && n_live > 0; n--)
            give(t, n_live - 1, true);
        break;
    case 9:
        give(t, byte(), false);
        break;
    case 10:
    case 11:
        enter_or_leave(t);
        break;
    case 12:
        be(t);
        if (!in_section(t))
            heap_collect(h, NULL);
        break;
    case 13:
        qsbr_poll(domain, qsbr_advance(domain));
        break;
    case 14:
        if (threads[t].rec != NULL)
            finish(t);
        else
            begin(t);
        break;
    default:
        heap_page_limit = (size_t)(byte() % 8) * PAGE_BYTES;
        break;
    }
}

/* ---- in between ---- */

/* Whether giving the block back would need a lock, as page_give sees it. */
static bool
would_settle(block *b)
{
    uint64_t s = qc_load_relaxed(&page_of(b->at)->state);
    return (s & STATE_LISTED) == 0 || (state_live(s) == 1 && (s & STATE_UNTAGGED) == 0);
}

/* Whether an allocation would find its block without a lock, as page_alloc sees it. */
static bool
would_search(unsigned t, size_t size)
{
    heap_local *l = threads[t].local;
    heap_page *p = l != NULL ? qc_load_relaxed(&l->current[page_class(size)]) : NULL;
    return p == NULL || (qc_load_relaxed(&p->state) & STATE_TAG) != l->tag ||
           (qc_load_relaxed(&p->free) == NULL &&
            qc_load_relaxed(&p->used) == qc_load_relaxed(&p->capacity));
}

/* Where the one in the middle may hold locks. */
static void
step_without_locks(void)
{
    unsigned what = byte(), t = what / 16 % THREADS, more = byte();
    if ((int)t == held)
        return;
    switch (what % 4) {
    case 0:
    case 1:
        enter_or_leave(t);
        break;
    case 2:
        if (n_live > 0 && threads[t].local != NULL && !would_settle(&live[more % n_live]))
            give(t, more, true);
        break;
    default:
        more %= sizeof sizes / sizeof *sizes;
        if (threads[t].rec != NULL && !would_search(t, sizes[more]))
            get(t, more);
        break;
    }
}

/* Each call gives back what it took, so whoever is in the middle has it. */
static bool
lock_held(void)
{
    bool any = qc_lock_is_held(&h->lock) || qc_lock_is_held(&h->common_lock) ||
               qc_lock_is_held(&h->tag_lock) || qc_lock_is_held(&h->waiting.lock);
    for (heap_local *l = qc_load_acquire(&h->locals); l != NULL; l = l->next)
        any = any || qc_lock_is_held(&l->lock);
    return any;
}

static void
in_between(const char *place)
{
    if (acting < 0 || strncmp(place, "page", 4) != 0 || next == end)
        return;
    bool locked = lock_held();
    held = acting;
    qc_yield_hook = NULL;
    for (unsigned n = byte() % 8; n > 0; n--)
        if (locked)
            step_without_locks();
        else
            step();
    acting = held;
    held = -1;
    be((unsigned)acting);
    qc_yield_hook = in_between;
}

/* ---- a run ---- */

static void
prepare(void)
{
    REQUIRE(barrier_init(NULL) && qsbr_init());
    domain = qsbr_domain_new();
    REQUIRE(domain != NULL && qsbr_register(domain) != NULL);
}

static void
give_all_back(void)
{
    heap_figures f;
    for (unsigned t = 0; t < THREADS; t++)
        if (in_section(t))
            leave(t);
    REQUIRE(n_retired == 0);
    while (n_live > 0)
        give(n_live % THREADS, 0, n_live % 2 == 0);
    heap_act_as(h, NULL);
    heap_collect(h, qsbr_wait);
    heap_stats(h, &f);
    REQUIRE(f.live_bytes == 0 && f.retired_bytes == 0 && f.pages == 0);
    for (unsigned t = 0; t < THREADS; t++)
        if (threads[t].rec != NULL)
            finish(t);
    heap_delete(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (domain == NULL)
        prepare();
    next = data;
    end = data + size;
    acting = -1;
    unsigned first = byte();
    page_blocks = 2 + first % 6;
    heap_page_limit = HEAP_PAGE_LIMIT;
    heap_page_batch = first / 6 % 4 == 3 ? HEAP_PAGE_BATCH : 1;
    qsbr_poll(domain, qsbr_advance(domain)); /* no run depends on the one before */
    h = heap_new(domain);
    REQUIRE(h != NULL);
    for (unsigned t = 0; t < THREADS / 2; t++)
        begin(t);
    qc_yield_hook = in_between;
    for (steps = 0; next < end && steps < 3000; steps++) {
        step();
        if (steps % 16 == 0)
            check_all();
    }
    qc_yield_hook = NULL;
    check_all();
    give_all_back();
    return 0;
}

#ifdef FUZZ_MAIN
static uint8_t input[4096];

static void
replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    size_t n = fread(input, 1, sizeof input, file);
    fclose(file);
    LLVMFuzzerTestOneInput(input, n);
}

/* fuzz_heap N FILE...: the files, then N random inputs, the same each time. */
int
main(int argc, char **argv)
{
    for (int i = 2; i < argc; i++)
        replay(argv[i]);
    long n = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    for (long i = 0; i < n; i++) {
        uint64_t random = (uint64_t)i * UINT64_C(0x9E3779B97F4A7C15) + 1;
        size_t size = 16 + (size_t)i % (sizeof input - 16) / (1 + (size_t)i % 7);
        for (size_t j = 0; j < size; j++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            input[j] = (uint8_t)(random >> 32);
        }
        LLVMFuzzerTestOneInput(input, size);
    }
    printf("%d files and %ld random inputs\n", argc > 2 ? argc - 2 : 0, n);
    return 0;
}
#endif
