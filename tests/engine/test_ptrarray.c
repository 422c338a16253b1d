/* containers/ptrarray: what is read without a lock, step by step and under torture.
 *
 * The steps use the yield hook: at a place inside a read, a write happens. */
#include "harness.h"

#include <signal.h>
#include <string.h>

#include "containers/ptrarray.h"
#include "qsbr/retire.h"

static heap *words_heap;
static ptrarray_root list;

/* ---- what a list's operations do, without references ---- */

static ptrarray *
lock(void)
{
    qc_lock_acquire(&list.lock);
    return ptrarray_locked(&list);
}

static void
unlock(void)
{
    qc_lock_release(&list.lock);
}

/* Returns the array that was replaced, or NULL. */
static ptrarray *
append_locked(qc_word word)
{
    ptrarray *a = ptrarray_locked(&list);
    if (ptrarray_append(a, word))
        return NULL;
    ptrarray *fresh = ptrarray_bigger(words_heap, a, 1);
    CHECK(fresh != NULL && ptrarray_append(fresh, word));
    CHECK(ptrarray_publish(&list, fresh) == a);
    return a;
}

static void
append(qc_word word)
{
    lock();
    ptrarray *old = append_locked(word);
    unlock();
    if (old != NULL)
        ptrarray_free(old); /* the protocol tests look, and do not keep */
}

static qc_word
pop(void)
{
    qc_word word = ptrarray_pop(lock());
    unlock();
    return word;
}

static void
set(size_t i, qc_word word)
{
    ptrarray_set(lock(), i, word);
    unlock();
}

static void
ignore(qc_word word)
{
    (void)word;
}

static void
fill(size_t n)
{
    ptrarray_drop(ptrarray_take(&list), 0, ignore);
    for (size_t i = 0; i < n; i++)
        append(word_from_int((int64_t)i));
}

static ptrarray_result
get(size_t i, qc_word *word)
{
    *word = WORD_EMPTY;
    qsbr_enter(qsbr_self);
    ptrarray_result result = ptrarray_get(&list, qsbr_self, i, word);
    qsbr_exit(qsbr_self);
    return result;
}

static ptrarray_result
get_back(size_t back, qc_word *word)
{
    *word = WORD_EMPTY;
    qsbr_enter(qsbr_self);
    ptrarray_result result = ptrarray_get_from_end(&list, qsbr_self, back, word);
    qsbr_exit(qsbr_self);
    return result;
}

static size_t
len(void)
{
    qsbr_enter(qsbr_self);
    size_t n = ptrarray_len(&list, qsbr_self);
    qsbr_exit(qsbr_self);
    return n;
}

#define HAS(i, v) (get((i), &word) == PTRARRAY_HIT && word == word_from_int(v))
#define ENDS(back, v) (get_back((back), &word) == PTRARRAY_HIT && word == word_from_int(v))

/* ---- one thread ---- */

static void
test_A1_reading(void)
{
    qc_word word;
    fill(0);
    CHECK(len() == 0 && get(0, &word) == PTRARRAY_OUT && get_back(1, &word) == PTRARRAY_OUT);
    fill(1000);
    CHECK_EQ(len(), 1000);
    for (size_t i = 0; i < 1000; i++)
        CHECK(HAS(i, (int64_t)i) && ENDS(1000 - i, (int64_t)i));
    const size_t out[] = {1000, 1001, SIZE_MAX / 8, SIZE_MAX / 2 + 1, SIZE_MAX};
    for (size_t i = 0; i < sizeof out / sizeof *out; i++) {
        CHECK_EQ(get(out[i], &word), PTRARRAY_OUT);
        CHECK_EQ(get_back(out[i] + (i == 0), &word), PTRARRAY_OUT);
    }
}

static void
test_A2_append_and_pop_in_place(void)
{
    qc_word word;
    fill(100);
    ptrarray *a = ptrarray_exclusive(&list);
    for (int i = 99; i >= 50; i--) {
        CHECK_EQ(pop(), word_from_int(i));
        CHECK(get((size_t)i, &word) == PTRARRAY_OUT && HAS((size_t)i - 1, i - 1));
    }
    for (int i = 50; i < 100; i++) {
        append(word_from_int(-i));
        CHECK(HAS((size_t)i, -i) && ENDS(1, -i));
    }
    CHECK(ptrarray_exclusive(&list) == a);
    while (len() > 0)
        pop();
    CHECK(get(0, &word) == PTRARRAY_OUT && ptrarray_exclusive(&list) == a);
}

static void
test_A3_a_replaced_array_stays_as_it_was(void)
{
    fill(3);
    ptrarray *old = ptrarray_exclusive(&list);
    CHECK_EQ(old->capacity, 3);
    lock();
    CHECK(append_locked(word_from_int(3)) == old);
    ptrarray_set(ptrarray_locked(&list), 0, word_from_int(-1));
    ptrarray_pop(ptrarray_locked(&list));
    unlock();
    CHECK_EQ(ptrarray_size(old), 3);
    CHECK_EQ(ptrarray_word(old, 0), word_from_int(0));
    ptrarray_free(old);
}

static void
test_A6_memory(void)
{
    CHECK_EQ(sizeof(ptrarray), 40);
    fill(0);
    uint64_t before = heap_live_bytes(words_heap);
    size_t replaced = 0;
    for (int i = 0; i < 100000; i++) {
        ptrarray *was = ptrarray_exclusive(&list);
        append(word_from_int(i));
        ptrarray *a = ptrarray_exclusive(&list);
        size_t bytes = heap_live_bytes(words_heap) - before;
        CHECK_EQ(bytes, ptrarray_bytes(a));
        replaced += a != was;
        if (bytes > 1024)
            CHECK(bytes <= (40 + 8 * (size_t)(i + 1)) * 9 / 8 + 64);
    }
    CHECK(replaced < 80); /* an eighth more each time */
    CHECK(ptrarray_new(words_heap, SIZE_MAX) == NULL);
    CHECK(ptrarray_new(words_heap, SIZE_MAX / 8) == NULL);
    CHECK(ptrarray_bigger(words_heap, ptrarray_exclusive(&list), SIZE_MAX) == NULL);
    CHECK(ptrarray_bigger(words_heap, ptrarray_exclusive(&list), SIZE_MAX / 8) == NULL);
    fill(0);
    CHECK_EQ(heap_live_bytes(words_heap), before);
    CHECK(ptrarray_new(words_heap, 0) == &ptrarray_none);
    ptrarray_free(&ptrarray_none);
}

static int64_t sum;

static void
add(qc_word word)
{
    sum += word_to_int(word);
}

static void
subtract(qc_word word)
{
    sum -= word_to_int(word);
}

/* A5, and what is beyond the size is nobody's. */
static void
test_A5_moment_and_drop(void)
{
    fill(101);
    pop();
    sum = 0;
    lock();
    ptrarray *moment = ptrarray_moment(words_heap, &list, add);
    unlock();
    CHECK_EQ(sum, 99 * 100 / 2);
    set(0, word_from_int(7));
    pop();
    CHECK(ptrarray_size(moment) == 100 && ptrarray_word(moment, 0) == word_from_int(0));
    ptrarray_drop(moment, 50, subtract);
    CHECK_EQ(sum, 49 * 50 / 2);
    fill(0);
    lock();
    CHECK(ptrarray_moment(words_heap, &list, add) == &ptrarray_none);
    unlock();
}

static void
no_step(void *arg)
{
    (void)arg;
}

/* Says when a popped word may be freed: not while the section lasts that may have it. */
static void
test_A1_a_popped_word_outlives_the_section(void)
{
    stepper *reader = reader_new(&qsbr_process);
    fill(5);
    reader_enter(reader);
    pop();
    uint64_t goal = qsbr_advance(&qsbr_process);
    CHECK(!qsbr_poll(&qsbr_process, goal));
    stepper_run(reader, no_step, NULL);
    CHECK(!qsbr_poll(&qsbr_process, goal));
    reader_exit(reader);
    reader_enter(reader);
    CHECK(qsbr_poll(&qsbr_process, goal));
    reader_exit(reader);
    stepper_end(reader);
}

#ifdef QC_DEBUG
/* ---- a write in the middle of a read ---- */

static const char *hook_place;
static void (*hook_write)(void);

static void
hook(const char *place)
{
    if (hook_write == NULL || strcmp(place, hook_place) != 0)
        return;
    void (*write)(void) = hook_write;
    hook_write = NULL; /* once */
    write();
}

static void
at(const char *place, void (*write)(void))
{
    hook_place = place;
    hook_write = write;
}

static void
pop_one(void)
{
    pop();
}

static void
append_one(void)
{
    append(word_from_int(-1));
}

static void
pop_and_append(void)
{
    pop();
    append(word_from_int(-1));
}

static void
set_all(void)
{
    for (size_t i = 0; i < 10; i++)
        set(i, word_from_int(-1));
}

static ptrarray *kept;

static void
replace(void)
{
    lock();
    kept = ptrarray_publish(&list, &ptrarray_none);
    unlock();
}

static void
test_A1_get_with_a_write_in_between(void)
{
    qc_word word;
    const char *places[] = {"get: covered", "get: loaded"};
    for (int loaded = 0; loaded < 2; loaded++) {
        fill(10);
        at(places[loaded], pop_one);
        CHECK_EQ(get(9, &word), PTRARRAY_OUT);
        at(places[loaded], pop_one);
        CHECK(HAS(7, 7));
        fill(10);
        at(places[loaded], pop_and_append);
        CHECK(HAS(9, loaded ? 9 : -1));
        at(places[loaded], append_one);
        CHECK(HAS(9, -1));
        fill(10);
        at(places[loaded], set_all);
        CHECK(HAS(5, loaded ? 5 : -1));
        fill(10);
        at(places[loaded], replace);
        CHECK(HAS(9, 9)); /* as of its load of the array */
        CHECK(len() == 0 && get(9, &word) == PTRARRAY_OUT);
        ptrarray_drop(kept, 0, ignore);
    }
}

static void
test_A1_get_from_end_with_a_write_in_between(void)
{
    qc_word word;
    const char *places[] = {"get: covered", "get: loaded"};
    for (int loaded = 0; loaded < 2; loaded++) {
        fill(10);
        at(places[loaded], pop_one);
        CHECK_EQ(get_back(3, &word), PTRARRAY_CHANGED);
        at(places[loaded], pop_and_append); /* the size is the same */
        CHECK_EQ(get_back(3, &word), PTRARRAY_CHANGED);
        at(places[loaded], append_one);
        CHECK_EQ(get_back(3, &word), PTRARRAY_CHANGED);
        fill(10);
        at(places[loaded], set_all);
        CHECK(ENDS(3, loaded ? 7 : -1));
        fill(10);
        at(places[loaded], replace);
        CHECK(ENDS(3, 7));
        ptrarray_drop(kept, 0, ignore);
    }
}

/* ---- a read in the middle of a write ---- */

static size_t seen_len;
static qc_word seen_last;
static ptrarray_result seen_new;

static void
look(void)
{
    qc_word word;
    seen_len = len();
    CHECK_EQ(get_back(1, &seen_last), PTRARRAY_HIT);
    seen_new = get(10, &word);
}

#define SAW(n, last, new)                                                                          \
    (seen_len == (n) && seen_last == word_from_int(last) && seen_new == PTRARRAY_##new)

static void
test_A2_append_pop_and_extend_appear_at_once(void)
{
    fill(10);
    at("word", look);
    append_one();
    CHECK(SAW(10, 9, OUT));
    at("size", look); /* the count of changes is behind */
    pop();
    CHECK(SAW(10, 9, OUT));
    at("size", look);
    append_one();
    CHECK(SAW(11, -1, HIT));

    ptrarray *more = ptrarray_new(words_heap, 30);
    for (int i = 0; i < 30; i++)
        ptrarray_append(more, word_from_int(100 + i));
    fill(10);
    lock();
    ptrarray *fresh = ptrarray_bigger(words_heap, ptrarray_locked(&list), 60);
    ptrarray_free(ptrarray_publish(&list, fresh));
    at("words", look);
    CHECK(ptrarray_append_all(ptrarray_locked(&list), more));
    CHECK(SAW(10, 9, OUT));
    look();
    CHECK(SAW(40, 129, HIT));
    unlock();
    ptrarray_free(more);
}

static _Atomic bool in_append, go_on;

static void
stop_there(void)
{
    qc_store_release(&in_append, true);
    while (!qc_load_acquire(&go_on))
        sleep_ms(0);
}

static void
do_append(void *arg)
{
    (void)arg;
    append_one();
}

static stepper *writer;

static void
pop_and_half_an_append(void)
{
    pop();
    at("word", stop_there);
    stepper_start(writer, do_append, NULL);
    while (!qc_load_acquire(&in_append))
        sleep_ms(0);
}

/* The reader found the index covered; a pop took the element, and an append that is
 * not through has written the slot: that word is in nobody's list yet. */
static void
test_A1_a_word_that_is_not_published_is_not_seen(void)
{
    qc_word word;
    writer = stepper_new();
    fill(10);
    at("get: covered", pop_and_half_an_append);
    CHECK_EQ(get(9, &word), PTRARRAY_OUT);
    CHECK_EQ(len(), 9);
    qc_store_release(&go_on, true);
    stepper_end(writer);
    CHECK(HAS(9, -1));
}

/* ---- no memory; the validator ---- */

static void
test_A4_no_memory(void)
{
    qc_word word;
    fill(3);
    heap_fail_at(1, true);
    CHECK(ptrarray_new(words_heap, 5) == NULL);
    CHECK(ptrarray_bigger(words_heap, ptrarray_exclusive(&list), 1) == NULL);
    lock();
    CHECK(ptrarray_moment(words_heap, &list, ignore) == NULL);
    CHECK(!ptrarray_append(ptrarray_locked(&list), word_from_int(3)));
    unlock();
    heap_fail_at(0, false);
    CHECK(len() == 3 && HAS(2, 2));
}

static void
append_a_special_word(void *arg)
{
    (void)arg;
    append(WORD_DELETED);
}

static void
raise_the_size_too_far(void *arg)
{
    (void)arg;
    ptrarray_set_size(lock(), 50);
}

static void
read_outside_a_section(void *arg)
{
    (void)arg;
    ptrarray_len(&list, qsbr_self);
}

static void
test_the_validator_and_the_assertions(void)
{
    fill(10);
    in_child_that_dies(append_a_special_word, NULL, SIGABRT);
    in_child_that_dies(raise_the_size_too_far, NULL, SIGABRT);
    in_child_that_dies(read_outside_a_section, NULL, SIGABRT);
}
#endif

int
main(void)
{
    harness_init(true);
    CHECK(qsbr_register_process() != NULL);
    words_heap = heap_new();
    ptrarray_init(&list);
    RUN(test_A1_reading);
    RUN(test_A2_append_and_pop_in_place);
    RUN(test_A3_a_replaced_array_stays_as_it_was);
    RUN(test_A6_memory);
    RUN(test_A5_moment_and_drop);
    RUN(test_A1_a_popped_word_outlives_the_section);
#ifdef QC_DEBUG
    qc_yield_hook = hook;
    RUN(test_A1_get_with_a_write_in_between);
    RUN(test_A1_get_from_end_with_a_write_in_between);
    RUN(test_A2_append_pop_and_extend_appear_at_once);
    RUN(test_A1_a_word_that_is_not_published_is_not_seen);
    RUN(test_A4_no_memory);
    RUN(test_the_validator_and_the_assertions);
#endif
    fill(0);
    heap_delete(words_heap);
    return 0;
}
