/* containers/ptrarray under torture: writers that append, pop, extend, set, replace and
 * clear, readers that look at what they find.  What is taken out is poisoned before it is
 * freed, and knows since when it is out: not since before the reader began. */
#include "harness.h"

#include <string.h>

#include "containers/ptrarray_read.h"
#include "qsbr/retire.h"

#define WRITERS 2
#define READERS 2

/* ---- objects in the list ---- */

#define ALIVE UINT64_C(0x6e6f6465a11fe000)

typedef struct {
    uint64_t magic;       /* ALIVE until it is poisoned */
    uint64_t a, b;        /* the same; plain, so that ThreadSanitizer sees a use after free */
    _Atomic uint64_t out; /* the clock when it was taken out, or 0 */
    _Atomic uint32_t refs;
} node;

static heap *words_heap;
static retire_queue *queue;
static ptrarray_root list;
static _Atomic uint64_t clock_ticks = 1; /* takings */
static _Atomic uint64_t made, freed;
static _Atomic unsigned writing;

static qc_word
new_node(uint64_t value)
{
    node *p = malloc(sizeof *p);
    CHECK(p != NULL);
    p->magic = ALIVE;
    p->a = p->b = value;
    qc_store_relaxed(&p->out, 0u);
    qc_store_relaxed(&p->refs, 1u);
    qc_add_relaxed(&made, 1u);
    return word_from_pointer(p);
}

static node *
node_of(qc_word word)
{
    CHECK(word_is_live(word) && word_is_pointer(word));
    node *p = word_to_pointer(word);
    CHECK_EQ(p->magic, ALIVE);
    CHECK_EQ(p->a, p->b);
    return p;
}

static void
retain(qc_word word)
{
    CHECK(qc_add_relaxed(&node_of(word)->refs, 1u) != 0);
}

static void
release(qc_word word)
{
    node *p = node_of(word);
    if (qc_sub_acq_rel(&p->refs, 1u) != 1)
        return;
    /* Not memset: compilers take it for a dead store before free. */
    volatile unsigned char *bytes = (volatile unsigned char *)p;
    for (size_t i = 0; i < sizeof *p; i++)
        bytes[i] = QC_POISON;
    free(p);
    qc_add_relaxed(&freed, 1u);
}

static void
release_item(uint64_t word)
{
    release(word);
}

static void
free_array(uint64_t array)
{
    ptrarray_free((ptrarray *)(uintptr_t)array);
}

static void
drop_array(uint64_t array)
{
    ptrarray_drop((ptrarray *)(uintptr_t)array, 0, release);
}

/* After the unlink.  acq_rel: who reads a clock beyond this tick sees the unlink. */
static void
taken_out(qc_word word)
{
    qc_store_relaxed(&node_of(word)->out, qc_add_acq_rel(&clock_ticks, 1u));
}

/* ---- writers ---- */

static ptrarray *
some_nodes(uint64_t n)
{
    ptrarray *words = ptrarray_new(words_heap, n);
    for (uint64_t i = 0; i < n; i++)
        ptrarray_append(words, new_node(i));
    return words;
}

static void
write_add(ptrarray *a, retire_local *local, uint64_t n)
{
    ptrarray *more = some_nodes(n);
    if (!ptrarray_append_all(a, more)) {
        ptrarray *fresh = ptrarray_bigger(words_heap, a, n);
        CHECK(fresh != NULL && ptrarray_append_all(fresh, more));
        CHECK(ptrarray_publish(&list, fresh) == a);
        if (a != &ptrarray_none && !ptrarray_retire(a))
            retire_block(local, free_array, (uintptr_t)a, ptrarray_bytes(a));
    }
    ptrarray_free(more);
}

static void
write_replace(ptrarray *a, retire_local *local, uint64_t n)
{
    ptrarray_publish(&list, some_nodes(n));
    for (size_t i = 0; i < ptrarray_size(a); i++)
        taken_out(ptrarray_word(a, i));
    if (a != &ptrarray_none)
        retire_block(local, drop_array, (uintptr_t)a, ptrarray_bytes(a));
}

static void
write_some(retire_local *local, uint64_t *random)
{
    uint64_t what = chance(random) % 1000, value = chance(random);
    if (qsbr_is_asked(local->rec))
        retire_process(local);
    qc_lock_acquire(&list.lock);
    CHECK(retire_reserve(local, 1));
    ptrarray *a = ptrarray_locked(&list);
    size_t size = ptrarray_size(a);
    if (what < 350 || size == 0) {
        write_add(a, local, 1);
    }
    else if (what < 700) {
        qc_word old = ptrarray_pop(a);
        taken_out(old);
        retire_ref(local, release_item, old);
    }
    else if (what < 950) {
        qc_word old = ptrarray_set(&list, value % size, new_node(value));
        taken_out(old);
        retire_ref(local, release_item, old);
    }
    else if (what < 990) {
        write_add(a, local, value % 20);
    }
    else {
        write_replace(a, local, value % 40 * (what % 2));
    }
    qc_lock_release(&list.lock);
    retire_commit(local);
}

/* ---- readers ---- */

typedef struct {
    uint64_t hits, out_of_range, changed, stale, oldest;
} sights;

static void
look_at(sights *seen, uint64_t began, ptrarray_result result, qc_word word)
{
    if (result == PTRARRAY_HIT) {
        seen->hits++;
        retain(word); /* as Python does: out of the section it is the reader's own */
        uint64_t out = qc_load_relaxed(&node_of(word)->out);
        if (out != 0) {
            CHECK(out >= began); /* A1: it was in the list during the operation */
            uint64_t age = qc_load_relaxed(&clock_ticks) - out;
            seen->stale++;
            seen->oldest = age > seen->oldest ? age : seen->oldest;
        }
    }
    else if (result == PTRARRAY_OUT) {
        seen->out_of_range++;
    }
    else {
        seen->changed++;
    }
}

static void
read_some(sights *seen, uint64_t *random)
{
    qsbr_record *rec = qsbr_self;
    qc_word word = WORD_EMPTY;
    qsbr_enter(rec);
    uint64_t began = qc_load_acquire(&clock_ticks);
    size_t i = chance(random) % (ptrarray_len(&list, rec) + 2);
    bool from_end = chance(random) % 4 == 0;
    ptrarray_result result = from_end ? ptrarray_get_from_end(&list, rec, i + 1, &word)
                                      : ptrarray_get(&list, rec, i, &word);
    look_at(seen, began, result, word);
    qsbr_exit(rec);
    if (result == PTRARRAY_HIT)
        release(word); /* checks it once more */
    if (chance(random) % 512 != 0)
        return;
    qc_lock_acquire(&list.lock);
    ptrarray *moment = ptrarray_moment(words_heap, &list, retain);
    qc_lock_release(&list.lock);
    ptrarray_drop(moment, 0, release);
}

static void
write_and_read(void *arg, unsigned i)
{
    (void)arg;
    uint64_t random = a_seed();
    sights seen = {0};
    CHECK(qsbr_register_process() != NULL);
    retire_local *local = retire_local_get(queue, qsbr_self);
    CHECK(local != NULL);
    if (i < WRITERS) {
        for (uint64_t n = scaled(300000); n > 0; n--)
            write_some(local, &random);
        qc_sub_acq_rel(&writing, 1u);
        return;
    }
    while (qc_load_acquire(&writing) != 0)
        read_some(&seen, &random);
    CHECK(seen.hits != 0);
    report("sum", "elements read", seen.hits);
    report("sum", "elements that were out by then", seen.stale);
    report("most", "takings since then", seen.oldest);
    report("sum", "indexes out of range", seen.out_of_range);
    report("sum", "reads that met a change", seen.changed);
}

static void
test_A1_readers_see_only_what_is_alive(void)
{
    qc_store_relaxed(&writing, WRITERS);
    run_threads(WRITERS + READERS, write_and_read, NULL);
    ptrarray_drop(ptrarray_take(&list), 0, release);
    retire_collect(retire_local_get(queue, qsbr_self));
    CHECK_EQ(qc_load_relaxed(&made), qc_load_relaxed(&freed));
    CHECK_EQ(heap_live_bytes(words_heap), 0);
}

/* ---- the size and the word of one moment ---- */

enum { N = 10, SHORT = 1, LONG = 2, LAST = 3 };

/* Lengths N and N + 1 in turn; whenever the list is N long, slot N - 1 says SHORT. */
static void
short_and_long(void *arg, unsigned i)
{
    (void)arg;
    CHECK(qsbr_register_process() != NULL);
    if (i == 0) {
        for (uint64_t n = scaled(1000000); n > 0; n--) {
            qc_lock_acquire(&list.lock);
            ptrarray *a = ptrarray_locked(&list);
            CHECK(ptrarray_append(a, word_from_int(LAST)));
            ptrarray_set(&list, N - 1, word_from_int(LONG));
            ptrarray_set(&list, N - 1, word_from_int(SHORT));
            ptrarray_pop(a);
            qc_lock_release(&list.lock);
        }
        qc_sub_acq_rel(&writing, 1u);
        return;
    }
    uint64_t counts[4] = {0}, changed = 0;
    while (qc_load_acquire(&writing) != 0) {
        qc_word word = word_from_int(0);
        qsbr_enter(qsbr_self);
        ptrarray_result result = ptrarray_get_from_end(&list, qsbr_self, 1, &word);
        qsbr_exit(qsbr_self);
        CHECK(result != PTRARRAY_OUT);
        if (result == PTRARRAY_HIT)
            counts[word_to_int(word)]++;
        else
            changed++;
    }
    CHECK_EQ(counts[LONG], 0);
    CHECK(counts[SHORT] + counts[LAST] != 0);
    printf("    %llu last elements, %llu changed\n",
           (unsigned long long)(counts[SHORT] + counts[LAST]), (unsigned long long)changed);
}

static void
test_A1_a_negative_index_sees_one_moment(void)
{
    ptrarray *a = ptrarray_new(words_heap, N + 1);
    for (int i = 0; i < N; i++)
        ptrarray_append(a, word_from_int(SHORT));
    qc_lock_acquire(&list.lock);
    ptrarray_publish(&list, a);
    qc_lock_release(&list.lock);
    qc_store_relaxed(&writing, 1u);
    run_threads(2, short_and_long, NULL);
    ptrarray_free(ptrarray_take(&list));
}

int
main(void)
{
    harness_init(true);
    CHECK(qsbr_register_process() != NULL);
    words_heap = heap_new(&qsbr_process);
    queue = retire_queue_new(&qsbr_process);
    CHECK(words_heap != NULL && queue != NULL);
    ptrarray_init(&list);
    RUN(test_A1_readers_see_only_what_is_alive);
    RUN(test_A1_a_negative_index_sees_one_moment);
    retire_queue_unref(queue);
    heap_delete(words_heap);
    return 0;
}
