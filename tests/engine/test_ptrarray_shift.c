/* containers/ptrarray: what shifts words, in a new array and in place, against a model; what
 * readers see of it, and a fork in the middle of it.
 */
#include "ptrarray_list.h"

#include <string.h>

enum { MOST = 64 };

typedef struct {
    size_t size;
    int64_t n[MOST];
} model;

static int64_t fresh_number;

/* The list and the model with 0, 1, ... of room for `room`. */
static model
begin(size_t size, size_t room)
{
    model m = {.size = size};
    ptrarray_drop(ptrarray_take(&list), 0, ignore);
    ptrarray *a = ptrarray_new(words_heap, room);
    for (size_t i = 0; i < size; i++) {
        m.n[i] = (int64_t)i;
        CHECK(ptrarray_append(a, word_from_int((int64_t)i)));
    }
    lock();
    ptrarray_publish(&list, a);
    unlock();
    return m;
}

static void
check_array(ptrarray *a, const model *m)
{
    ptrarray_check(a);
    CHECK_EQ(ptrarray_size(a), m->size);
    for (size_t i = 0; i < m->size; i++)
        CHECK_EQ(ptrarray_word(a, i), word_from_int(m->n[i]));
}

static void
check_fresh(ptrarray *fresh, const model *m)
{
    check_array(fresh, m);
    CHECK((fresh == &ptrarray_none) == (m->size == 0));
    ptrarray_free(fresh);
}

static void
check_list(const model *m)
{
    qc_word word;
    check_array(lock(), m);
    unlock();
    CHECK_EQ(len(), m->size);
    for (size_t i = 0; i < m->size; i++)
        CHECK(HAS(i, m->n[i]) && ENDS(m->size - i, m->n[i]));
}

static void
model_splice(model *m, size_t at, size_t out, const int64_t *in, size_t n)
{
    memmove(m->n + at + n, m->n + at + out, (m->size - at - out) * sizeof *m->n);
    memcpy(m->n + at, in, n * sizeof *m->n);
    m->size += n - out;
}

static void
model_cut(model *m, size_t start, size_t step, size_t count)
{
    size_t to = 0, next = start;
    for (size_t i = 0; i < m->size; i++) {
        if (count != 0 && i == next) {
            next += step;
            count--;
        }
        else {
            m->n[to++] = m->n[i];
        }
    }
    m->size = to;
}

static void
test_A3_splices(void)
{
    int64_t in[5];
    qc_word words[5];
    for (size_t size = 0; size <= 9; size++)
        for (size_t at = 0; at <= size; at++)
            for (size_t out = 0; at + out <= size; out++)
                for (size_t n = 0; n <= 5; n++) {
                    model m = begin(size, size + 5);
                    for (size_t i = 0; i < n; i++) {
                        in[i] = 100 + fresh_number++ % 50;
                        words[i] = word_from_int(in[i]);
                    }
                    model was = m;
                    model_splice(&m, at, out, in, n);
                    ptrarray *a = lock();
                    uint64_t version = ptrarray_version(&list);
                    check_fresh(ptrarray_spliced(words_heap, a, at, out, words, n), &m);
                    check_array(a, &was);
                    ptrarray_splice(&list, qsbr_self, at, out, words, n);
                    CHECK_EQ(ptrarray_version(&list) > version, out + n > 0);
                    unlock();
                    check_list(&m);
                }
}

static void
test_A3_cuts(void)
{
    for (size_t size = 1; size <= 20; size++)
        for (size_t start = 0; start < size; start++)
            for (size_t step = 1; step <= 21; step++)
                for (size_t count = 1; start + (count - 1) * step < size; count++) {
                    model m = begin(size, size), was = m;
                    model_cut(&m, start, step, count);
                    ptrarray *a = lock();
                    uint64_t version = ptrarray_version(&list);
                    check_fresh(ptrarray_without(words_heap, a, start, step, count), &m);
                    check_array(a, &was);
                    ptrarray_cut(&list, qsbr_self, start, step, count);
                    CHECK(ptrarray_version(&list) > version);
                    unlock();
                    check_list(&m);
                }
}

static void
test_A3_replacements_and_reverse(void)
{
    for (size_t size = 1; size <= 12; size++)
        for (size_t start = 0; start < size; start++)
            for (ptrdiff_t step = -13; step <= 13; step++) {
                model m = begin(size, size + 1), was = m;
                ptrarray *in = ptrarray_new(words_heap, MOST);
                ptrdiff_t i = (ptrdiff_t)start;
                for (; step != 0 && i >= 0 && i < (ptrdiff_t)size; i += step) {
                    m.n[i] = 1000 + i;
                    CHECK(ptrarray_append(in, word_from_int(1000 + i)));
                }
                ptrarray *a = lock();
                uint64_t version = ptrarray_version(&list);
                check_fresh(ptrarray_with(words_heap, a, start, step, in), &m);
                check_array(a, &was);
                ptrarray_replace(&list, qsbr_self, start, step, in);
                CHECK(ptrarray_version(&list) > version);
                version = ptrarray_version(&list);
                unlock();
                check_list(&m);
                ptrarray_free(in);
                for (size_t n = 0; n < size; n++)
                    was.n[n] = m.n[size - 1 - n];
                lock();
                ptrarray_reverse(&list, qsbr_self);
                CHECK(ptrarray_version(&list) > version);
                unlock();
                check_list(&was);
            }
}

/* Lists that grow at the front do not build an array each time, and those that shrink
 * become smaller before they waste half. */
static void
test_A6_room(void)
{
    qc_word word = word_from_int(5);
    begin(0, 0);
    size_t built = 0;
    for (size_t i = 0; i < 10000; i++) {
        ptrarray *a = lock();
        if (a->capacity > i) {
            ptrarray_splice(&list, qsbr_self, 0, 0, &word, 1);
        }
        else {
            ptrarray_free(ptrarray_publish(&list, ptrarray_spliced(words_heap, a, 0, 0, &word, 1)));
            built++;
        }
        unlock();
    }
    CHECK(built < 60);
    built = 0;
    for (size_t i = 10000; i-- > 0;) {
        ptrarray *a = lock();
        if (ptrarray_is_too_large(a, i)) {
            ptrarray_free(ptrarray_publish(&list, ptrarray_spliced(words_heap, a, 0, 1, NULL, 0)));
            built++;
        }
        else {
            ptrarray_splice(&list, qsbr_self, 0, 1, NULL, 0);
        }
        a = ptrarray_locked(&list);
        CHECK(ptrarray_size(a) == i && (a->capacity <= 64 || i >= a->capacity / 2));
        unlock();
    }
    CHECK(built > 3 && built < 20);
    lock();
    CHECK(ptrarray_spliced(words_heap, ptrarray_locked(&list), 0, 0, &word, SIZE_MAX / 8) == NULL);
    unlock();
}

#ifdef QC_DEBUG

/* ---- a fork while words are shifted in place (Q10) ---- */

static _Atomic bool in_the_middle;
static const char *stop_place;

static void
stop(const char *place)
{
    if (strcmp(place, stop_place) != 0)
        return;
    qc_store_release(&in_the_middle, true);
    sleep_ms(30);
}

static void
shift(void *arg)
{
    qc_word words[3] = {word_from_int(100), word_from_int(101), word_from_int(102)};
    CHECK(qsbr_register_process() != NULL);
    lock();
    if (strcmp(arg, "splice: moved") == 0) {
        ptrarray_splice(&list, qsbr_self, 1, 0, words, 3);
    }
    else if (strcmp(arg, "cut: moved") == 0) {
        ptrarray_cut(&list, qsbr_self, 1, 2, 3);
    }
    else if (strcmp(arg, "replace: put") == 0) {
        ptrarray *in = ptrarray_picked(words_heap, ptrarray_locked(&list), 0, 3, 3);
        ptrarray_replace(&list, qsbr_self, 6, -3, in);
        ptrarray_free(in);
    }
    else {
        ptrarray_reverse(&list, qsbr_self);
    }
    unlock();
}

static void
child_finds_it_whole(void *arg)
{
    qc_yield_hook = NULL;
    CHECK(qsbr_register_process() != NULL);
    check_list(arg);
}

static void
test_Q10_no_fork_comes_between(void)
{
    char *places[] = {"splice: moved", "cut: moved", "replace: put", "reverse"};
    for (int i = 0; i < 4; i++) {
        model m = begin(9, 12);
        const int64_t in[] = {100, 101, 102};
        if (i == 0)
            model_splice(&m, 1, 0, in, 3);
        else if (i == 1)
            model_cut(&m, 1, 2, 3);
        else if (i == 2)
            m.n[6] = 0, m.n[0] = 6;
        else
            for (int n = 0; n < 9; n++)
                m.n[n] = 8 - n;
        stop_place = places[i];
        qc_store_release(&in_the_middle, false);
        qc_yield_hook = stop;
        stepper *s = stepper_new();
        stepper_start(s, shift, places[i]);
        while (!qc_load_acquire(&in_the_middle))
            sleep_ms(0);
        in_child(child_finds_it_whole, &m);
        stepper_wait(s);
        stepper_end(s);
        qc_yield_hook = NULL;
        check_list(&m);
    }
}

static void
test_A4_no_memory(void)
{
    qc_word word = word_from_int(7);
    model m = begin(9, 12);
    ptrarray *a = lock(), *in = ptrarray_picked(words_heap, a, 0, 2, 3);
    heap_fail_at(1, true);
    CHECK(ptrarray_spliced(words_heap, a, 1, 1, &word, 1) == NULL);
    CHECK(ptrarray_without(words_heap, a, 1, 2, 3) == NULL);
    CHECK(ptrarray_with(words_heap, a, 1, 2, in) == NULL);
    CHECK(ptrarray_picked(words_heap, a, 1, 2, 3) == NULL);
    CHECK(ptrarray_repeated(words_heap, a, 2) == NULL);
    CHECK(ptrarray_spliced(words_heap, a, 0, 9, NULL, 0) == &ptrarray_none);
    CHECK(ptrarray_without(words_heap, a, 0, 1, 9) == &ptrarray_none);
    CHECK(ptrarray_with(words_heap, &ptrarray_none, 0, 1, &ptrarray_none) == &ptrarray_none);
    CHECK(ptrarray_bigger(words_heap, a, 1) == NULL);
    heap_fail_at(0, false);
    /* More than there can be: of memory, of the address space, of size_t. */
    harness_fail_malloc(1);
    CHECK(ptrarray_bigger(words_heap, a, PTRDIFF_MAX / sizeof(qc_word) / 2) == NULL);
    CHECK(ptrarray_bigger(words_heap, a, PTRDIFF_MAX / sizeof(qc_word) - 9) == NULL);
    CHECK(ptrarray_bigger(words_heap, a, SIZE_MAX - 8) == NULL);
    CHECK(ptrarray_spliced(words_heap, a, 0, 0, &word, SIZE_MAX) == NULL);
    unlock();
    ptrarray_free(in);
    check_list(&m);
}

#endif

int
main(void)
{
    list_begin_tests();
    RUN(test_A3_splices);
    RUN(test_A3_cuts);
    RUN(test_A3_replacements_and_reverse);
    RUN(test_A6_room);
#ifdef QC_DEBUG
    RUN(test_Q10_no_fork_comes_between);
    RUN(test_A4_no_memory);
#endif
    list_end_tests();
    return 0;
}
