/* containers/ptrarray: a write at each place inside a read, a read at each place inside a
 * write, by the yield hook.  Also the validator, the assertions, and no memory.
 *
 * flavours: debug asan
 * modes: one
 */
#include "ptrarray_list.h"

#include <signal.h>
#include <string.h>

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

int
main(void)
{
    list_begin_tests();
    qc_yield_hook = hook;
    RUN(test_A1_get_with_a_write_in_between);
    RUN(test_A1_get_from_end_with_a_write_in_between);
    RUN(test_A2_append_pop_and_extend_appear_at_once);
    RUN(test_A1_a_word_that_is_not_published_is_not_seen);
    RUN(test_A4_no_memory);
    RUN(test_the_validator_and_the_assertions);
    list_end_tests();
    return 0;
}
