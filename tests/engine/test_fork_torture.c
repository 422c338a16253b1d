/* Forks at any moment of threads that change a map and an array in every way (Q10): each
 * child finds what is always there, finds the rest whole, goes on with both in threads of its
 * own, and frees them; in the parent nobody notices.
 *
 * Not under the sanitizers: their runtimes have locks that no fork sees to (the allocator of
 * AddressSanitizer before LLVM 17; a child of ThreadSanitizer's hangs now and then).
 *
 * modes: one
 * flavours: release debug
 */
#define _GNU_SOURCE
#include "kt_place.h"

#include <sys/mman.h>

#include "containers/ptrarray_read.h"

enum {
    WRITERS = 3,
    FIRST = 1, /* a pair: assigned in turn, the second after the first */
    SECOND = 2,
    STABLE = 100, /* 100..131 are always there */
    N_STABLE = 32,
    VOLATILE = 1000,
    N_VOLATILE = 100,
    MOST = 2 + N_STABLE + N_VOLATILE + 200,
    ROUND = 10000, /* what is at i in the list is i, and any times this */
};

static kt shared;
static ptrarray_root list;
static _Atomic bool over;

/* Of all children and grandchildren. */
typedef struct {
    _Atomic unsigned children, dicts, lists, growing, frozen; /* half done */
    _Atomic uint64_t missing;                                 /* most in one child */
} found;
static found *seen;

/* ---- the list ---- */

static void
list_lock(void)
{
    if (qc_lock_acquire(&list.lock) == QC_LOCK_ORPHANED)
        ptrarray_mend(&list);
}

static void
free_array(uint64_t arg)
{
    ptrarray_free((ptrarray *)(uintptr_t)arg);
}

static void
list_change(kt *k, uint64_t dice)
{
    ptrarray *old = NULL;
    list_lock();
    CHECK(retire_reserve(k->p.local, 1));
    ptrarray *a = ptrarray_locked(&list);
    size_t size = ptrarray_size(a);
    if (dice % 8 < 4) {
        if (!ptrarray_append(a, word_from_int((int64_t)size))) {
            ptrarray *fresh = ptrarray_bigger(k->heap, a, 1);
            CHECK(fresh != NULL && ptrarray_append(fresh, word_from_int((int64_t)size)));
            old = ptrarray_publish(&list, fresh);
        }
    }
    else if (dice % 8 < 6 && size != 0) {
        CHECK_EQ((uint64_t)word_to_int(ptrarray_pop(a)) % ROUND, size - 1);
    }
    else if (dice % 8 == 6 && size != 0) {
        int64_t n = word_to_int(ptrarray_word(a, dice / 8 % size));
        ptrarray_set(&list, dice / 8 % size, word_from_int(n + ROUND));
    }
    else if (size > 300) {
        old = ptrarray_publish(&list, &ptrarray_none);
    }
    if (old != NULL && old != &ptrarray_none)
        retire_block(k->p.local, free_array, (uint64_t)(uintptr_t)old, ptrarray_bytes(old));
    qc_lock_release(&list.lock);
    retire_commit(k->p.local);
}

/* One that is covered has what belongs there. */
static void
list_look(kt *k, uint64_t dice)
{
    qc_word word;
    qsbr_enter(k->p.rec);
    size_t size = qc_load_acquire(&ptrarray_in_section(&list, k->p.rec)->size);
    size_t i = size == 0 ? 0 : dice % size;
    if (ptrarray_get(&list, k->p.rec, i, &word) == PTRARRAY_HIT)
        CHECK_EQ((uint64_t)word_to_int(word) % ROUND, i);
    qsbr_exit(k->p.rec);
}

/* ---- the map ---- */

static void
map_change(kt *k, uint64_t dice, unsigned me)
{
    uint64_t key = VOLATILE + dice / 64 % N_VOLATILE, second;
    switch (dice % 16) {
    case 0:
        if (me != 0) /* one writer assigns the pair */
            break;
        second = kt_get(k, SECOND);
        kt_set(k, FIRST, second + 1);
        kt_set(k, SECOND, second + 1);
        break;
    case 1:
        kt_set(k, STABLE + dice / 64 % N_STABLE, dice >> 32);
        break;
    case 2: {
        uint64_t keys[MOST], numbers[MOST];
        kt_snapshot(k, keys, numbers, MOST);
        break;
    }
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
        kt_del(k, key);
        break;
    default:
        kt_set(k, key, dice >> 32);
    }
}

static void
map_look(kt *k, uint64_t dice)
{
    uint64_t second = kt_get(k, SECOND), first = kt_get(k, FIRST);
    CHECK(first != UINT64_MAX && second != UINT64_MAX && first >= second);
    CHECK(kt_get(k, STABLE + dice % N_STABLE) != UINT64_MAX);
    kt_get(k, VOLATILE + dice / 64 % N_VOLATILE);
}

static void
work(kt *k, uint64_t *random, unsigned me)
{
    uint64_t dice = chance(random);
    if (qsbr_safe_point_is_due(k->p.rec))
        retire_process(k->p.local);
    if (dice >> 63)
        map_change(k, dice & INT64_MAX, me);
    else
        list_change(k, dice);
    map_look(k, dice);
    list_look(k, dice);
}

static void *
keep_working(void *arg)
{
    kt k = kt_join(&shared);
    uint64_t random = a_seed();
    while (!qc_load_relaxed(&over))
        work(&k, &random, (unsigned)(uintptr_t)arg);
    return NULL;
}

/* ---- the child ---- */

static void
check_whole(kt *k)
{
    uint64_t keys[MOST], numbers[MOST], n = 0;
    unsigned sure = 0, at = 0;
    if (qc_lock_may_be_orphaned(&k->map->lock)) {
        kt_lock(k);
        kt_unlock(k);
    }
    unsigned count = kt_snapshot(k, keys, numbers, MOST);
    CHECK_EQ(keytable_len(k->map), count);
    keytable_cursor c = kt_begin(k);
    for (uint64_t key; (key = kt_next(k, &c, &n)) != UINT64_MAX; at++) {
        CHECK(at < count && keys[at] == key && numbers[at] == n);
        CHECK_EQ(kt_get(k, key), n);
        sure += key < VOLATILE;
    }
    kt_end(&c);
    CHECK_EQ(at, count);
    CHECK_EQ(sure, 2 + N_STABLE);
    list_lock();
    ptrarray *a = ptrarray_locked(&list);
    ptrarray_check(a);
    for (size_t i = 0; i < ptrarray_size(a); i++)
        CHECK_EQ((uint64_t)word_to_int(ptrarray_word(a, i)) % ROUND, i);
    qc_lock_release(&list.lock);
}

static void
work_a_little(void *arg, unsigned i)
{
    kt k = kt_join(&shared);
    uint64_t random = i + 1;
    (void)arg;
    for (int n = 0; n < 100; n++)
        work(&k, &random, i);
}

static void
child(void *arg)
{
    kt *k = &shared;
    (void)arg;
#ifdef QC_DEBUG
    qc_yield_at_random(0);
#endif
    qc_add_relaxed(&seen->children, 1u);
    if (qc_lock_is_held(&k->map->lock)) {
        qc_add_relaxed(&seen->dicts, 1u);
        qc_add_relaxed(&seen->growing, qc_load_relaxed(&keytable_exclusive(k->map)->next) != NULL);
        qc_add_relaxed(&seen->frozen, qc_load_relaxed(&k->map->frozen));
    }
    qc_add_relaxed(&seen->lists, qc_lock_is_held(&list.lock));
    for (uint64_t n = 0; n < 50; n++) { /* reading works, whatever is held */
        map_look(k, n);
        list_look(k, n);
    }
    if (now_ns() / 1000 % 2)
        run_threads(3, work_a_little, NULL);
    check_whole(k);
    run_threads(2, work_a_little, NULL);
    check_whole(k);
    kt_clear(k);
    CHECK_EQ(keytable_len(k->map), 0);
    retire_drain(k->p.local);
    /* What is missing was in a writer's hand: what it was changing, the item that it ran. */
    int64_t missing = qc_load_relaxed(&boxes);
    CHECK(missing >= 0 && missing <= WRITERS * 4);
    uint64_t most = qc_load_relaxed(&seen->missing);
    while ((uint64_t)missing > most && !qc_cas_relaxed(&seen->missing, &most, (uint64_t)missing))
        ;
}

static void
test_Q10_fork_at_any_moment(void)
{
    pthread_t threads[WRITERS];
    shared = kt_new(hash_well);
    ptrarray_init(&list);
    seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(seen != MAP_FAILED);
    kt_set(&shared, FIRST, 0);
    kt_set(&shared, SECOND, 0);
    for (uint64_t key = STABLE; key < STABLE + N_STABLE; key++)
        kt_set(&shared, key, key);
#ifdef QC_DEBUG
    qc_yield_at_random(8);
#endif
    qc_store_relaxed(&over, false);
    for (uintptr_t i = 0; i < WRITERS; i++)
        threads[i] = thread_start(keep_working, (void *)i);
    for (uint64_t n = scaled(400); n > 0; n--) {
        in_child(child, NULL);
        map_look(&shared, n);
        list_look(&shared, n);
    }
    qc_store_relaxed(&over, true);
    for (int i = 0; i < WRITERS; i++)
        thread_join(threads[i]);
#ifdef QC_DEBUG
    qc_yield_at_random(0);
#endif
    check_whole(&shared);
    report("sum", "children", seen->children);
    report("sum", "children that found the map's lock held", seen->dicts);
    report("sum", "and the map growing", seen->growing);
    report("sum", "and the map frozen", seen->frozen);
    report("sum", "children that found the list's lock held", seen->lists);
    report("most", "values in a thread's hand", seen->missing);
    munmap(seen, 4096);
    ptrarray_free(ptrarray_take(&list));
    kt_delete(&shared);
}

int
main(void)
{
    harness_init(true);
    RUN(test_Q10_fork_at_any_moment);
    return 0;
}
