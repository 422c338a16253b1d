/* A fork while another thread is at any place of any change of a map (Q10): the child finds
 * it as it was before the change or as it is after it, goes on with it in every way, and
 * gives all back but what the thread that is gone had in hand.
 *
 * flavours: debug asan
 * modes: one
 */
#define _GNU_SOURCE
#include "fork_stops.h"
#include "kt_place.h"

#include <sys/mman.h>

enum { MOST = 80, NEW = 1000, NEW_N = 77 };

/* What is in a map, in order. */
typedef struct {
    unsigned count;
    uint64_t keys[MOST], n[MOST];
} contents;

static unsigned
position(const contents *c, uint64_t key)
{
    for (unsigned i = 0; i < c->count; i++)
        if (c->keys[i] == key)
            return i;
    return MOST;
}

static void
put_in(contents *c, uint64_t key, uint64_t n)
{
    unsigned i = position(c, key);
    if (i == MOST) {
        CHECK(c->count < MOST);
        i = c->count++;
    }
    c->keys[i] = key;
    c->n[i] = n;
}

static void
take_out(contents *c, uint64_t key)
{
    unsigned i = position(c, key);
    if (i == MOST)
        return;
    for (c->count--; i < c->count; i++) {
        c->keys[i] = c->keys[i + 1];
        c->n[i] = c->n[i + 1];
    }
}

/* ---- changes to be caught in ---- */

typedef struct change change;

typedef struct {
    const change *what;
    kt k;              /* the main thread's */
    kt other;          /* the way of the thread that is stopped */
    contents is, will; /* before and after the change */
    keytable_cursor cursor;
    unsigned then; /* what the child does first */
    bool again;    /* it is a child's child: the first change may be half done too */
} scene;

struct change {
    const char *name;
    unsigned filled, deleted; /* keys 0 to filled - 1 are put, the first `deleted` deleted */
    void (*in_map)(kt *k);
    void (*in_contents)(contents *c);
    unsigned in_hand; /* boxes that leak at most */
};

static void
put_new(kt *k)
{
    kt_put(k, NEW, word_from_pointer(box_new(VALUE_MAGIC, NEW, NEW_N)));
}

static void
new_is_in(contents *c)
{
    put_in(c, NEW, NEW_N);
}

static void
put_again(kt *k)
{
    kt_put(k, 2, word_from_pointer(box_new(VALUE_MAGIC, 2, NEW_N)));
}

static void
assign(kt *k)
{
    kt_set(k, 2, NEW_N);
}

static void
two_is_new(contents *c)
{
    put_in(c, 2, NEW_N);
}

static void
delete_two(kt *k)
{
    CHECK(kt_del(k, 2));
}

static void
two_is_gone(contents *c)
{
    take_out(c, 2);
}

static void
pop_last(kt *k)
{
    kt_popitem(k);
}

static void
last_is_gone(contents *c)
{
    c->count -= c->count != 0;
}

static void
all_is_gone(contents *c)
{
    c->count = 0;
}

static void
look(kt *k)
{
    uint64_t keys[MOST], n[MOST];
    kt_snapshot(k, keys, n, MOST);
}

static void
as_it_is(contents *c)
{
    (void)c;
}

static const change changes[] = {
    {"insert", 3, 0, put_new, new_is_in, 2},
    {"insert into an empty one", 0, 0, put_new, new_is_in, 2},
    {"insert and grow", 5, 0, put_new, new_is_in, 2},
    {"insert and grow, with deleted keys", 10, 2, put_new, new_is_in, 2},
    {"insert and get smaller", 21, 18, put_new, new_is_in, 2},
    {"put", 4, 0, put_again, two_is_new, 1},
    {"assign", 4, 0, assign, two_is_new, 1},
    {"delete", 4, 0, delete_two, two_is_gone, 2},
    {"delete the last", 3, 0, delete_two, two_is_gone, 2},
    {"popitem", 5, 0, pop_last, last_is_gone, 2},
    {"popitem, behind deleted ones", 5, 4, pop_last, last_is_gone, 2},
    {"clear", 5, 0, kt_clear, all_is_gone, 10},
    {"snapshot", 5, 0, look, as_it_is, 0},
};
enum { CHANGES = sizeof changes / sizeof *changes };

/* Some keys have one hash, some only its low bits. */
static uint64_t
hash_mixed(uint64_t key)
{
    return key % 3 == 0 ? 5 : key % 5 == 0 ? key << 32 | 5 : key;
}

static void
scene_set(scene *s, const change *what)
{
    *s = (scene){.what = what, .k = kt_new(hash_mixed)};
    for (uint64_t key = 0; key < what->filled; key++) {
        kt_set(&s->k, key, key);
        put_in(&s->is, key, key);
    }
    for (uint64_t key = 0; key < what->deleted; key++) {
        CHECK(kt_del(&s->k, key));
        take_out(&s->is, key);
    }
    s->will = s->is;
    what->in_contents(&s->will);
    s->cursor = kt_begin(&s->k);
}

static void
join(void *arg)
{
    scene *s = arg;
    s->other = kt_join(&s->k);
}

static void
begin_change(void *arg)
{
    scene *s = arg;
    s->what->in_map(&s->other);
}

/* ---- what must hold of a map, whoever looks ---- */

static bool
reads_as(kt *k, const contents *c)
{
    bool same = true;
    for (uint64_t key = 0; key < MOST; key++) {
        unsigned i = position(c, key);
        same = same && kt_get(k, key) == (i == MOST ? UINT64_MAX : c->n[i]);
        same = same && kt_is_there(k, key) == (i != MOST);
    }
    unsigned i = position(c, NEW);
    return same && kt_get(k, NEW) == (i == MOST ? UINT64_MAX : c->n[i]);
}

static void
check_iteration(kt *k, const contents *c)
{
    if (qc_lock_may_be_orphaned(&k->map->lock)) { /* as the Python layer does */
        kt_lock(k);
        kt_unlock(k);
    }
    keytable_cursor cursor = kt_begin(k);
    uint64_t n;
    for (unsigned i = 0; i < c->count; i++) {
        CHECK_EQ(kt_next(k, &cursor, &n), c->keys[i]);
        CHECK_EQ(n, c->n[i]);
    }
    CHECK_EQ(kt_next(k, &cursor, &n), UINT64_MAX);
    kt_end(&cursor);
}

static void
check_snapshot(kt *k, const contents *c)
{
    uint64_t keys[MOST], n[MOST];
    CHECK_EQ(kt_snapshot(k, keys, n, MOST), c->count);
    for (unsigned i = 0; i < c->count; i++) {
        CHECK_EQ(keys[i], c->keys[i]);
        CHECK_EQ(n[i], c->n[i]);
    }
}

static void
check_all(kt *k, const contents *c)
{
    CHECK(reads_as(k, c));
    CHECK_EQ(keytable_len(k->map), c->count);
    check_iteration(k, c);
    check_snapshot(k, c);
    kt_lock(k);
    keytable_check(k->map);
    kt_unlock(k);
}

/* Nobody has written yet and nothing is put right: a cursor sees, once, in order, what is
 * there before and after the change, and nothing that is in neither. */
static void
check_first_iteration(kt *k, const contents *c, const contents *is, const contents *will)
{
    keytable_cursor cursor = kt_begin(k);
    uint64_t key, n, seen[MOST];
    unsigned count = 0;
    while ((key = kt_next(k, &cursor, &n)) != UINT64_MAX) {
        CHECK(position(is, key) != MOST || position(will, key) != MOST);
        for (unsigned i = 0; i < count; i++)
            CHECK(seen[i] != key);
        CHECK(count < MOST);
        seen[count++] = key;
    }
    for (unsigned i = 0, at = 0; i < c->count; i++) {
        if (position(is, c->keys[i]) == MOST || position(will, c->keys[i]) == MOST)
            continue;
        while (at < count && seen[at] != c->keys[i])
            at++;
        CHECK(at < count);
    }
    kt_end(&cursor);
}

/* The cursor that was begun before the change, by the thread that forks. */
static void
check_old_cursor(scene *s, kt *k, const contents *c)
{
    uint64_t key, n;
    unsigned at = 0, yielded = 0, wanted = 0;
    for (; (key = kt_next(k, &s->cursor, &n)) != UINT64_MAX; yielded++) {
        while (at < s->is.count && s->is.keys[at] != key)
            at++;
        CHECK(at < s->is.count); /* once each, in order */
    }
    for (unsigned i = 0; i < s->is.count; i++)
        wanted += position(c, s->is.keys[i]) != MOST;
    if (s->again) /* it began when an insertion was there and not counted */
        wanted -= yielded < wanted;
    CHECK_EQ(yielded, wanted);
    kt_end(&s->cursor);
}

/* ---- what the child does ---- */

enum { LEN, PUT, SET, ITERATE, DELETE, POP, CLEAR, SNAPSHOT, THREADS, END, THENS };

static void
change_and_look(void *arg, unsigned i)
{
    scene *s = arg;
    kt k = kt_join(&s->k);
    for (uint64_t n = 0; n < 30; n++) {
        uint64_t key = 30 + 15 * i + n % 15;
        CHECK_EQ(kt_get(&k, key), n < 15 ? UINT64_MAX : n - 15);
        kt_set(&k, key, n);
        CHECK_EQ(kt_get(&k, key), n);
        (void)keytable_len(k.map);
        if (n == 20)
            look(&k);
    }
}

static void
in_threads(scene *s, contents *c)
{
    (void)c;
    run_threads(3, change_and_look, s);
    for (uint64_t key = 30; key < 75; key++)
        CHECK(kt_del(&s->k, key));
}

static void
do_first(scene *s, contents *c)
{
    kt *k = &s->k;
    uint64_t last = c->count != 0 ? c->keys[c->count - 1] : UINT64_MAX;
    switch (s->then) {
    case LEN:
        CHECK_EQ(keytable_len(k->map), c->count);
        CHECK_EQ(keytable_len(k->map), c->count);
        break;
    case PUT:
        kt_set(k, 15, 1);
        put_in(c, 15, 1);
        break;
    case SET:
        last = last != UINT64_MAX ? last : 15;
        kt_set(k, last, 3);
        put_in(c, last, 3);
        break;
    case ITERATE:
        if (!s->again)
            check_first_iteration(k, c, &s->is, &s->will);
        check_iteration(k, c);
        break;
    case DELETE:
        CHECK_EQ(kt_del(k, 3), position(c, 3) != MOST);
        take_out(c, 3);
        break;
    case POP:
        CHECK_EQ(kt_popitem(k), last);
        take_out(c, last);
        break;
    case CLEAR:
        kt_clear(k);
        c->count = 0;
        break;
    case SNAPSHOT:
        check_snapshot(k, c);
        break;
    default:
        in_threads(s, c);
    }
}

static void
go_on(scene *s, contents *c)
{
    for (uint64_t key = 1; key < 60; key += 2) {
        kt_set(&s->k, key, key + 1);
        put_in(c, key, key + 1);
        if (key % 5 == 0) {
            CHECK(kt_del(&s->k, key));
            take_out(c, key);
        }
        retire_process(s->k.p.local);
    }
    check_all(&s->k, c);
    CHECK_EQ(kt_popitem(&s->k), c->keys[c->count - 1]);
    c->count--;
    check_all(&s->k, c);
}

/* All but what the thread that is gone had in hand comes back. */
static void
give_back(scene *s)
{
    kt *k = &s->k;
    if (qc_lock_acquire(&k->map->lock) == QC_LOCK_ORPHANED) {
        keytable *old = keytable_mend(k->map);
        if (old != NULL)
            keytable_unref(old);
    }
    table_free_with_contents((uint64_t)(uintptr_t)keytable_exclusive(k->map));
    retire_drain(k->p.local);
    CHECK(qc_load_relaxed(&boxes) >= 0);
    CHECK(qc_load_relaxed(&boxes) <= s->what->in_hand);
    CHECK(heap_live_bytes(k->heap) <= 2048); /* a table or two */
}

static void
child(void *arg)
{
#ifdef QC_DEBUG
    qc_yield_hook = NULL;
#endif
    scene *s = arg;
    /* Reading works, and sees what was, or what will be. */
    contents c = reads_as(&s->k, &s->is) ? s->is : s->will;
    CHECK(reads_as(&s->k, &c));
    if (s->then == END) {
        kt_end(&s->cursor);
        give_back(s);
        return;
    }
    do_first(s, &c);
    CHECK(!keytable_is_frozen(s->k.map)); /* K7: nobody thaws it any more */
    check_all(&s->k, &c);
    check_old_cursor(s, &s->k, &c);
    go_on(s, &c);
    give_back(s);
}

/* ---- the tests ---- */

/* Of the combinations some: processes take long to fork, and more so under ASan. */
enum { STRIDE = HARNESS_ASAN ? 4 : 2, STRIDE_TWICE = 2 * STRIDE };

static void
finish(scene *s)
{
    check_all(&s->k, &s->will); /* in the parent nothing has happened */
    kt_end(&s->cursor);
    kt_delete(&s->k);
}

static void
test_Q10_fork_at_every_place_of_every_change(void)
{
    unsigned places = 0;
    for (unsigned i = 0; i < CHANGES; i++) {
        bool more = true;
        printf("  %s\n", changes[i].name);
        for (unsigned n = 0; more; n++, places++) {
            for (unsigned then = n % STRIDE; more && then < THENS; then += STRIDE) {
                scene s;
                scene_set(&s, &changes[i]);
                s.then = then;
                stepper *other = stepper_new();
                stepper_run(other, join, &s);
                more = fork_at(other, begin_change, &s, n, child);
                stepper_end(other);
                finish(&s);
            }
        }
    }
    CHECK(places > 80);
}

/* The child's own change, which first puts right what was left, is caught as well: at
 * its second[0]-th place; second[1] says whether it has as many. */
static _Atomic unsigned *second;

static void
child_that_is_caught(void *arg)
{
#ifdef QC_DEBUG
    qc_yield_hook = NULL;
#endif
    scene *s = arg;
    contents now = reads_as(&s->k, &s->is) ? s->is : s->will;
    s->is = s->will = now;
    new_is_in(&s->will);
    const change again = {"again", 0, 0, put_new, new_is_in, s->what->in_hand + 2};
    s->what = &again;
    s->again = true;
    kt_end(&s->cursor);
    s->cursor = kt_begin(&s->k);
    stepper *other = stepper_new();
    stepper_run(other, join, s);
    qc_store_relaxed(&second[1],
                     fork_at(other, begin_change, s, qc_load_relaxed(&second[0]), child));
    stepper_end(other);
    check_all(&s->k, &s->will);
}

static void
test_Q10_fork_at_every_place_of_a_change_that_mends(void)
{
    unsigned places = 0;
    second = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(second != MAP_FAILED);
    for (unsigned i = 2; i < CHANGES; i += 3) {
        bool more = true;
        for (unsigned n = 0; more; n++) {
            qc_store_relaxed(&second[1], 1);
            unsigned m = (n + i) % STRIDE_TWICE;
            for (; more && qc_load_relaxed(&second[1]); m += STRIDE_TWICE, places++) {
                scene s;
                scene_set(&s, &changes[i]);
                s.then = places % THENS;
                qc_store_relaxed(&second[0], m);
                stepper *other = stepper_new();
                stepper_run(other, join, &s);
                more = fork_at(other, begin_change, &s, n, child_that_is_caught);
                stepper_end(other);
                finish(&s);
            }
        }
    }
    CHECK(places > 200 / STRIDE_TWICE);
}

int
main(void)
{
    harness_init(true);
    RUN(test_Q10_fork_at_every_place_of_every_change);
    RUN(test_Q10_fork_at_every_place_of_a_change_that_mends);
    return 0;
}
