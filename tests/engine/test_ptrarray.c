/* containers/ptrarray, step by step: what each operation does, and memory. */
#include "ptrarray_list.h"

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
    ptrarray_set(&list, 0, word_from_int(-1));
    ptrarray_pop(ptrarray_locked(&list));
    unlock();
    CHECK_EQ(ptrarray_size(old), 3);
    CHECK_EQ(ptrarray_word(old, 0), word_from_int(0));
    ptrarray_free(old);
}

static uint64_t
version(void)
{
    lock();
    uint64_t v = ptrarray_version(&list);
    unlock();
    return v;
}

/* The number says so, whatever has changed, and back to what it was before. */
static void
test_A4_every_change_is_another_version(void)
{
    uint64_t was = version();
    fill(0);
    for (int i = 0; i < 200; i++) {
        append(word_from_int(i));
        CHECK(version() > was);
        was = version();
        set(0, word_from_int(0));
        CHECK(version() > was);
        was = version();
        if (i % 4 == 0) {
            pop();
            CHECK(version() > was);
            was = version();
        }
        lock();
        ptrarray *old = ptrarray_publish(&list, &ptrarray_none);
        unlock();
        CHECK(version() > was);
        was = version();
        lock();
        ptrarray_publish(&list, old);
        unlock();
        CHECK(version() > was);
        was = version();
    }
    lock();
    ptrarray_mend(&list);
    unlock();
    CHECK(version() > was);
    was = version();
    CHECK(len() == 150 && version() == was);
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

/* Slices in both directions, and nothing: by what a loop of indices says. */
static void
test_A5_picked_and_repeated(void)
{
    fill(10);
    ptrarray *a = ptrarray_exclusive(&list);
    for (size_t start = 0; start < 10; start++) {
        for (ptrdiff_t step = -11; step <= 11; step++) {
            size_t count = 0;
            for (ptrdiff_t i = (ptrdiff_t)start; step != 0 && i >= 0 && i < 10; i += step) {
                count++;
                ptrarray *picked = ptrarray_picked(words_heap, a, start, step, count);
                CHECK_EQ(ptrarray_size(picked), count);
                CHECK_EQ(picked->capacity, count);
                for (size_t n = 0; n < count; n++)
                    CHECK_EQ(ptrarray_word(picked, n),
                             word_from_int((int64_t)start + (int64_t)n * step));
                ptrarray_free(picked);
            }
        }
    }
    CHECK(ptrarray_picked(words_heap, a, 7, 3, 0) == &ptrarray_none);
    for (size_t times = 0; times < 20; times++) {
        ptrarray *all = ptrarray_repeated(words_heap, a, times);
        CHECK_EQ(ptrarray_size(all), 10 * times);
        for (size_t n = 0; n < 10 * times; n++)
            CHECK_EQ(ptrarray_word(all, n), word_from_int((int64_t)n % 10));
        ptrarray_free(all);
    }
    CHECK(ptrarray_repeated(words_heap, a, SIZE_MAX) == NULL);
    CHECK(ptrarray_repeated(words_heap, a, SIZE_MAX / 80) == NULL);
    CHECK(ptrarray_repeated(words_heap, a, SIZE_MAX / 10 + 1) == NULL);
    CHECK(ptrarray_repeated(words_heap, &ptrarray_none, SIZE_MAX) == &ptrarray_none);
    CHECK_EQ(len(), 10);
}

/* Only small ones wait in their page: of a large one nothing is done, and its memory is
 * the caller's to retire. */
static void
test_A3_retired_by_itself_if_it_is_small(void)
{
    size_t most = (HEAP_SMALL_MAX - sizeof(ptrarray)) / sizeof(qc_word);
    uint64_t live = heap_live_bytes(words_heap);
    for (size_t n = most; n <= most + 1; n++) {
        ptrarray *a = ptrarray_new(words_heap, n);
        CHECK(a != NULL);
        CHECK(ptrarray_append(a, word_from_int(5)));
        CHECK_EQ(heap_live_bytes(words_heap), live + ptrarray_bytes(a));
        CHECK_EQ(ptrarray_retire(a), n == most);
        if (n == most)
            continue;
        CHECK_EQ(heap_live_bytes(words_heap), live + ptrarray_bytes(a));
        CHECK(ptrarray_size(a) == 1 && ptrarray_word(a, 0) == word_from_int(5));
        ptrarray_free(a);
    }
    CHECK_EQ(heap_live_bytes(words_heap), live);
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

int
main(void)
{
    list_begin_tests();
    RUN(test_A1_reading);
    RUN(test_A2_append_and_pop_in_place);
    RUN(test_A3_a_replaced_array_stays_as_it_was);
    RUN(test_A4_every_change_is_another_version);
    RUN(test_A6_memory);
    RUN(test_A5_moment_and_drop);
    RUN(test_A5_picked_and_repeated);
    RUN(test_A3_retired_by_itself_if_it_is_small);
    RUN(test_A1_a_popped_word_outlives_the_section);
    list_end_tests();
    return 0;
}
