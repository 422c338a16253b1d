/* A fork while another thread is at any place of any change of a pointer array (Q10): the
 * child finds it as it was before the change or as it is after it, and goes on with it.
 *
 * flavours: debug asan
 * modes: one
 */
#include "fork_stops.h"
#include "ptrarray_list.h"

#include <string.h>

enum { MOST = 200, NEW = 1000 };

typedef struct {
    size_t size;
    int64_t n[MOST];
} contents;

static void
put_at_end(contents *c, int64_t n)
{
    CHECK(c->size < MOST);
    c->n[c->size++] = n;
}

/* ---- changes ---- */

static ptrarray *in_hand; /* what a change took out, freed when it is through */

static void
append_one(void)
{
    lock();
    in_hand = append_locked(word_from_int(NEW));
    unlock();
}

static void
one_more(contents *c)
{
    put_at_end(c, NEW);
}

static void
extend_by_four(void)
{
    ptrarray *more = ptrarray_new(words_heap, 4);
    CHECK(more != NULL);
    for (int64_t i = 0; i < 4; i++)
        CHECK(ptrarray_append(more, word_from_int(NEW + i)));
    ptrarray *a = lock();
    if (!ptrarray_append_all(a, more)) {
        ptrarray *fresh = ptrarray_bigger(words_heap, a, 4);
        CHECK(fresh != NULL && ptrarray_append_all(fresh, more));
        in_hand = ptrarray_publish(&list, fresh);
    }
    unlock();
    ptrarray_free(more);
}

static void
four_more(contents *c)
{
    for (int64_t i = 0; i < 4; i++)
        put_at_end(c, NEW + i);
}

static void
pop_one(void)
{
    pop();
}

static void
one_less(contents *c)
{
    c->size--;
}

static void
set_one(void)
{
    set(1, word_from_int(NEW));
}

static void
one_is_new(contents *c)
{
    c->n[1] = NEW;
}

static void
clear(void)
{
    lock();
    in_hand = ptrarray_publish(&list, &ptrarray_none);
    unlock();
}

static void
none_left(contents *c)
{
    c->size = 0;
}

static void
look(void)
{
    ptrarray_drop((lock(), ptrarray_moment(words_heap, &list, ignore)), 0, ignore);
    unlock();
}

static void
as_it_is(contents *c)
{
    (void)c;
}

typedef struct {
    const char *name;
    size_t filled;
    void (*in_list)(void);
    void (*in_contents)(contents *c);
} change;

static const change changes[] = {
    {"append the first", 0, append_one, one_more},
    {"append in place", 4, append_one, one_more},
    {"append and grow", 27, append_one, one_more},
    {"extend in place", 4, extend_by_four, four_more},
    {"extend and grow", 26, extend_by_four, four_more},
    {"pop", 5, pop_one, one_less},
    {"pop the only one", 1, pop_one, one_less},
    {"set", 5, set_one, one_is_new},
    {"clear", 5, clear, none_left},
    {"look", 5, look, as_it_is},
};
enum { CHANGES = sizeof changes / sizeof *changes };

typedef struct {
    const change *what;
    contents is, will;
    unsigned then;
} scene;

static void
begin_change(void *arg)
{
    CHECK(qsbr_register_process() != NULL);
    ((scene *)arg)->what->in_list();
}

/* ---- what must hold, whoever looks ---- */

static bool
reads_as(const contents *c)
{
    qc_word word;
    bool same = len() == c->size;
    for (size_t i = 0; same && i < c->size; i++)
        same = HAS(i, c->n[i]) && ENDS(c->size - i, c->n[i]);
    return same && get(c->size, &word) == PTRARRAY_OUT &&
           get_back(c->size + 1, &word) == PTRARRAY_OUT;
}

static void
check_all(const contents *c)
{
    CHECK(reads_as(c));
    ptrarray *a = lock();
    ptrarray_check(a);
    ptrarray *moment = ptrarray_moment(words_heap, &list, ignore);
    unlock();
    CHECK_EQ(ptrarray_size(moment), c->size);
    for (size_t i = 0; i < c->size; i++)
        CHECK_EQ(ptrarray_word(moment, i), word_from_int(c->n[i]));
    ptrarray_drop(moment, 0, ignore);
}

/* ---- what the child does ---- */

enum { APPEND, POP, SET, CLEAR, LOOK, THREADS, END, THENS };

static void
change_and_look(void *arg, unsigned i)
{
    qc_word word;
    const contents *c = arg;
    CHECK(qsbr_register_process() != NULL);
    for (int n = 0; n < 20; n++) {
        if (i == 0) {
            ptrarray *old = (lock(), append_locked(word_from_int(n)));
            unlock();
            (void)old; /* others may be reading it */
        }
        for (size_t at = 0; at < c->size; at++)
            CHECK(HAS(at, c->n[at]));
        while (get_back(1, &word) == PTRARRAY_CHANGED)
            ;
    }
}

static void
do_first(scene *s, contents *c)
{
    switch (s->then) {
    case APPEND:
        append(word_from_int(5));
        put_at_end(c, 5);
        break;
    case POP:
        if (c->size != 0) {
            CHECK_EQ(pop(), word_from_int(c->n[c->size - 1]));
            c->size--;
        }
        break;
    case SET:
        if (c->size != 0) {
            set(0, word_from_int(6));
            c->n[0] = 6;
        }
        break;
    case CLEAR:
        clear();
        ptrarray_free(in_hand);
        c->size = 0;
        break;
    case LOOK:
        check_all(c);
        break;
    case THREADS:
        run_threads(3, change_and_look, c);
        for (int64_t n = 0; n < 20; n++)
            put_at_end(c, n);
        break;
    default:
        break;
    }
}

static void
child(void *arg)
{
#ifdef QC_DEBUG
    qc_yield_hook = NULL;
#endif
    scene *s = arg;
    contents c = reads_as(&s->is) ? s->is : s->will;
    CHECK(reads_as(&c));
    do_first(s, &c);
    if (s->then != END) {
        check_all(&c);
        for (int64_t n = 0; n < 50; n++) {
            append(word_from_int(n));
            put_at_end(&c, n);
            if (n % 5 == 0) {
                CHECK_EQ(pop(), word_from_int(n));
                c.size--;
                append(word_from_int(n + 1));
                set(c.size / 2, word_from_int(-n));
                put_at_end(&c, n + 1);
                c.n[(c.size - 1) / 2] = -n;
            }
        }
        check_all(&c);
    }
    ptrarray_drop(ptrarray_take(&list), 0, ignore);
    CHECK(heap_live_bytes(words_heap) <= 2048); /* what was in hand */
}

static void
test_Q10_fork_at_every_place_of_every_change(void)
{
    unsigned places = 0;
    for (unsigned i = 0; i < CHANGES; i++) {
        bool more = true;
        printf("  %s\n", changes[i].name);
        for (unsigned n = 0; more; n++, places++) {
            for (unsigned then = 0; more && then < THENS; then++) {
                scene s = {.what = &changes[i], .then = then};
                fill(s.what->filled);
                for (size_t at = 0; at < s.what->filled; at++)
                    put_at_end(&s.is, (int64_t)at);
                s.will = s.is;
                s.what->in_contents(&s.will);
                in_hand = NULL;
                stepper *other = stepper_new();
                more = fork_at(other, begin_change, &s, n, child);
                stepper_end(other);
                if (in_hand != NULL)
                    ptrarray_free(in_hand);
                check_all(&s.will); /* in the parent nothing has happened */
            }
        }
    }
    CHECK(places > 30);
}

int
main(void)
{
    list_begin_tests();
    RUN(test_Q10_fork_at_every_place_of_every_change);
    list_end_tests();
    return 0;
}
