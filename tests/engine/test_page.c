/* Pages, one step at a time: when exactly a block or a page may be served again.
 * The owner is this thread; others are in test_page_others.c. */
#include "page_place.h"

/* ---- H1 ---- */

/* A retired block stays as readers knew it, but for its first word, through every
 * list it is on, until the grace period is over. */
static void
test_H1_readers_see_retired_blocks_as_they_were(void)
{
    place_begin();
    stepper *r = reader_new(domain), *other = stepper_new();
    void *a[BIGS], *b[BIGS];
    get_many(a, BIGS, BIG);
    reader_enter(r);
    retire_many(a, 2, BIG);
    retire_by(other, a + 2, 2, BIG);
    get_many(b, BIGS, BIG); /* none of them: promotion */
    retire_by(other, a + 4, 1, BIG);
    retire_many(a + 5, 2, BIG); /* the page waits */
    heap_collect(h, NULL);      /* is tagged, and stays */
    CHECK(waits(page_of(a[0])));
    for (int i = 0; i < BIGS; i++)
        CHECK(intact(a[i], BIG) && !is_among(a[i], b, BIGS));
    reader_exit(r);
    retire_many(b, BIGS, BIG);
    stepper_end(r);
    stepper_end(other);
    place_end();
}

/* Sizes of one class share pages; a block is as large as asked for, and aligned. */
static void
test_H1_classes(void)
{
    place_begin();
    unsigned last = 0;
    for (size_t size = 0; size <= HEAP_SMALL_MAX; size++) {
        unsigned c = page_class(size);
        CHECK(c == last || c == last + 1);
        CHECK(c < PAGE_CLASSES && page_class_bytes(c) >= size);
        CHECK(c == 0 || page_class_bytes(c - 1) < size);
        CHECK(size <= 16 || page_class_bytes(c) - size < 16 + size / 4);
        last = c;
    }
    CHECK_EQ(last, PAGE_CLASSES - 1);
    for (unsigned c = 0; c < PAGE_CLASSES; c++) {
        void *block = get(page_class_bytes(c));
        CHECK_EQ((uintptr_t)block % 16, 0);
        CHECK(page_of(block)->class == c);
        heap_free(h, block, page_class_bytes(c));
    }
    place_end();
}

/* ---- H2 ---- */

static void
test_H2_a_generation_waits_for_the_readers_before_it(void)
{
    place_begin();
    stepper *first = reader_new(domain), *second = reader_new(domain);
    void *a[BIGS], *b[BIGS], *c[BIGS], *d[BIGS];
    get_many(a, BIGS, BIG);
    reader_enter(first);
    retire_many(a, 2, BIG);
    get_many(b, BIGS, BIG); /* another page: a[0] and a[1] are `older` now */
    CHECK(page_of(b[0]) != page_of(a[0]) && page_of(b[0]) == page_of(b[BIGS - 1]));
    reader_enter(second); /* after that generation's goal */
    retire_many(a + 2, 2, BIG);
    reader_exit(first);
    get_many(c, BIGS, BIG);
    CHECK(is_among(c[0], a, 2) && is_among(c[1], a, 2) && c[0] != c[1]);
    for (int i = 2; i < BIGS; i++)
        CHECK(page_of(c[i]) != page_of(a[0])); /* `second` may hold a[2] and a[3] */
    reader_exit(second);
    get_many(d, 4, BIG); /* two are left in the third page */
    CHECK(is_among(d[2], a + 2, 2) && is_among(d[3], a + 2, 2) && d[2] != d[3]);
    free_many(a + 4, BIGS - 4, BIG);
    free_many(b, BIGS, BIG);
    free_many(c, BIGS, BIG);
    free_many(d, 4, BIG);
    stepper_end(first);
    stepper_end(second);
    place_end();
}

/* Retiring neither advances nor polls; a promotion advances once, for all blocks. */
static void
test_H2_one_advance_a_generation(void)
{
    place_begin();
    stepper *r = reader_new(domain);
    void *a[MIDDLES], *more[1];
    get_many(a, MIDDLES, MIDDLE);
    uint64_t before = advances(), polls = qc_load_relaxed(&domain->polls);
    retire_many(a, MIDDLES - 1, MIDDLE);
    CHECK_EQ(advances(), before);
    CHECK_EQ(qc_load_relaxed(&domain->polls), polls);
    get_many(more, 1, MIDDLE);
    CHECK_EQ(advances(), before + 1);
    CHECK_EQ(qc_load_relaxed(&domain->polls), polls + 1);
    for (int i = 0; i < MIDDLES - 2; i++)
        get_many(a + i, 1, MIDDLE);
    CHECK_EQ(advances(), before + 1);
    CHECK_EQ(qc_load_relaxed(&domain->polls), polls + 1);
    CHECK_EQ(page_of(more[0])->n_older, MIDDLES - 1);
    CHECK_EQ(figures().pages - figures().pages_free, 1);
    free_many(more, 1, MIDDLE);
    free_many(a, MIDDLES - 2, MIDDLE);
    free_many(a + MIDDLES - 1, 1, MIDDLE);
    stepper_end(r);
    place_end();
}

#ifdef QC_DEBUG
/* What is retired while a generation is being promoted: with a reader that began
 * just before.  Whether it belongs to this generation or the next one, the reader
 * is waited for. */
static stepper *late_reader, *late_retirer;
static void *late_block;
static size_t late_size;

static void
at_the_taking(const char *place)
{
    if (strcmp(place, "page take") != 0)
        return;
    qc_yield_hook = NULL;
    reader_enter(late_reader);
    retire_by(late_retirer, &late_block, 1, late_size);
}

static void
test_H2_a_generation_is_taken_before_the_advance(void)
{
    place_begin();
    late_reader = reader_new(domain);
    late_retirer = stepper_new();
    void *a[BIGS], *b[BIGS];
    get_many(a, BIGS, BIG);
    retire_many(a, 1, BIG);
    late_block = a[1];
    late_size = BIG;
    qc_yield_hook = at_the_taking;
    get_many(b, BIGS, BIG);
    CHECK(qc_yield_hook == NULL);
    CHECK(!is_among(late_block, b, BIGS));
    CHECK(intact(late_block, BIG));
    reader_exit(late_reader);
    free_many(b, BIGS, BIG);
    free_many(a + 2, BIGS - 2, BIG);
    stepper_end(late_reader);
    stepper_end(late_retirer);
    place_end();
}

/* The same for a list of waiting pages: one that was in use until then. */
static void
test_H3_the_list_is_taken_before_the_advance(void)
{
    place_begin();
    late_reader = reader_new(domain);
    late_retirer = stepper_new();
    void *a[BIGS], *b[MIDDLES], *c[2 * BIGS];
    get_many(a, BIGS, BIG);
    heap_page *p = page_of(a[0]);
    retire_many(a, BIGS - 1, BIG);
    get_many(a, 1, BIG); /* promotes; a block of a's */
    CHECK(page_of(a[0]) == p);
    retire_many(a, 1, BIG);
    retire_many(a + BIGS - 1, 1, BIG);
    CHECK(waits(p));
    get_many(a, 1, BIG); /* and is in use again, its links still on the list */
    CHECK(page_of(a[0]) == p && !waits(p));
    late_block = a[0];
    late_size = BIG;
    qc_yield_hook = at_the_taking;
    heap_collect(h, NULL); /* tags the list: the page has become empty, meanwhile */
    CHECK(qc_yield_hook == NULL && waits(p));
    heap_collect(h, NULL);
    get_many(b, MIDDLES, MIDDLE);
    CHECK(page_of(b[0]) != p);
    CHECK(intact(late_block, BIG));
    reader_exit(late_reader);
    heap_collect(h, NULL);
    CHECK(!waits(p));
    get_many(c, 2 * BIGS, BIG);
    free_many(b, MIDDLES, MIDDLE);
    free_many(c, 2 * BIGS, BIG);
    stepper_end(late_reader);
    stepper_end(late_retirer);
    place_end();
}
#endif

/* ---- H3 ---- */

/* Pages until there is no free one left: what comes next needs a waiting one, or
 * memory. */
static int
fill_extent(void **blocks, size_t size)
{
    int n = 0;
    do
        get_many(blocks + n++, 1, size);
    while (figures().pages_free != 0);
    heap_page *last = page_of(blocks[n - 1]);
    while (live_in(last) < qc_load_relaxed(&last->capacity))
        get_many(blocks + n++, 1, size);
    return n;
}

/* No other class gets a page before its goal, any class after it; the whole list is
 * tagged at once. */
static void
test_H3_a_waiting_page_serves_other_classes_after_its_goal(void)
{
    enum { MANY = EXTENT_PAGES * BIGS };
    place_begin();
    stepper *r = reader_new(domain);
    void *a[MANY], *b[EXTENT_PAGES * MIDDLES], *c[MIDDLES];
    CHECK_EQ(fill_extent(a, BIG), MANY);
    reader_enter(r);
    retire_many(a, 2 * BIGS, BIG); /* two pages */
    CHECK_EQ(figures().pages_waiting, 2);
    uint64_t before = advances(), added = EXTENT_PAGES;
    for (int i = 0; i < MANY; i++)
        CHECK(intact(a[i], BIG));
    CHECK_EQ(figures().pages, EXTENT_PAGES);
    int n = fill_extent(b, MIDDLE); /* needs another extent, as long as r is in */
    CHECK_EQ(n, EXTENT_PAGES * MIDDLES);
    CHECK_EQ(figures().pages, EXTENT_PAGES + added);
    CHECK_EQ(advances(), before + 1); /* the list, once */
    for (int i = 0; i < n; i++)
        CHECK(!is_among((void *)page_of(b[i]), (void *[]){page_of(a[0]), page_of(a[BIGS])}, 2));
    for (int i = 0; i < 2 * BIGS; i++)
        CHECK(intact(a[i], BIG));
    reader_exit(r);
    CHECK_EQ(figures().pages_reused, 0);
    get_many(c, MIDDLES, MIDDLE);
    CHECK(page_of(c[0]) == page_of(a[0]) || page_of(c[0]) == page_of(a[BIGS]));
    CHECK_EQ(figures().pages_reused, 2);
    CHECK_EQ(figures().pages, EXTENT_PAGES + added);
    CHECK_EQ(advances(), before + 1);
    free_many(a + 2 * BIGS, MANY - 2 * BIGS, BIG);
    free_many(b, n, MIDDLE);
    free_many(c, MIDDLES, MIDDLE);
    stepper_end(r);
    place_end();
}

/* ... or go back to mimalloc, when all of an extent has come together. */
static void
test_H3_memory_goes_back(void)
{
    enum { MANY = 3 * EXTENT_PAGES * BIGS };
    place_begin();
    stepper *r = reader_new(domain);
    void **a = calloc(MANY, sizeof *a);
    get_many(a, MANY, BIG);
    CHECK_EQ(figures().pages, 3 * EXTENT_PAGES);
    CHECK_EQ(figures().live_bytes, MANY * (uint64_t)BIG);
    reader_enter(r);
    retire_many(a, MANY, BIG);
    CHECK_EQ(figures().live_bytes, 0);
    CHECK_EQ(figures().retired_bytes, MANY * (uint64_t)BIG);
    CHECK_EQ(figures().waiting_bytes, 3 * EXTENT_PAGES * PAGE_BYTES);
    CHECK_EQ(heap_collect(h, NULL), 0);
    CHECK_EQ(figures().waiting_bytes, 3 * EXTENT_PAGES * PAGE_BYTES);
    for (int i = 0; i < MANY; i++)
        CHECK(intact(a[i], BIG));
    reader_exit(r);
    CHECK_EQ(heap_collect(h, NULL), 3 * EXTENT_PAGES * PAGE_BYTES);
    CHECK_EQ(figures().pages, 0);
    CHECK_EQ(figures().retired_bytes, 0);
    CHECK_EQ(figures().pages_given_back, 3 * EXTENT_PAGES);
    get_many(a, MANY, BIG); /* and again, with the old descriptors */
    free_many(a, MANY, BIG);
    free(a);
    stepper_end(r);
    place_end();
}

/* ---- H4 ---- */

/* A waiting page serves its class from what was never used, and not from what was
 * just retired. */
static void
never_used_blocks(bool tagged)
{
    place_begin();
    stepper *r = reader_new(domain);
    void *a[BIGS], *b[BIGS], *c[BIGS];
    reader_enter(r);
    get_many(a, 2, BIG);
    heap_page *p = page_of(a[0]);
    retire_many(a, 2, BIG);
    CHECK(waits(p));
    if (tagged)
        heap_collect(h, NULL);
    get_many(b, BIGS, BIG);
    for (int i = 0; i < BIGS; i++) {
        CHECK_EQ(page_of(b[i]) == p, i < BIGS - 2);
        CHECK(!is_among(b[i], a, 2));
    }
    CHECK(!waits(p)); /* off the list */
    CHECK_EQ(figures().pages_waiting, 0);
    CHECK(intact(a[0], BIG) && intact(a[1], BIG));
    retire_many(b, BIGS, BIG);
    CHECK(waits(p)); /* all are used, none is free */
    if (tagged)
        heap_collect(h, NULL);
    get_many(c, BIGS, BIG);
    for (int i = 0; i < BIGS; i++) {
        CHECK_EQ(page_of(c[i]) == page_of(b[BIGS - 1]), i < BIGS - 2);
        CHECK(!is_among(c[i], a, 2) && !is_among(c[i], b, BIGS));
    }
    CHECK(waits(p));
    reader_exit(r);
    free_many(c, BIGS, BIG);
    stepper_end(r);
    place_end();
}

static void
test_H4_never_used_blocks_of_a_waiting_page(void)
{
    never_used_blocks(false);
    never_used_blocks(true);
}

/* ... and from a generation whose goal is reached, while the younger one and the
 * page have to wait. */
static void
test_H4_blocks_past_their_generation_s_goal(void)
{
    place_begin();
    stepper *r = reader_new(domain);
    void *a[BIGS], *b[BIGS], *c[BIGS];
    get_many(a, BIGS, BIG);
    heap_page *p = page_of(a[0]);
    retire_many(a, 3, BIG);
    reader_enter(r);
    get_many(b, BIGS, BIG); /* promoted */
    CHECK(page_of(b[0]) != p);
    reader_exit(r);
    CHECK(qsbr_poll(domain, qc_load_relaxed(&domain->wr_seq))); /* reached */
    reader_enter(r);
    retire_many(a + 3, BIGS - 3, BIG);
    CHECK(waits(p));
    get_many(c, BIGS, BIG);
    for (int i = 0; i < BIGS; i++) {
        CHECK_EQ(is_among(c[i], a, 3), i < 3);
        CHECK(!is_among(c[i], a + 3, BIGS - 3));
    }
    CHECK(!waits(p));
    for (int i = 3; i < BIGS; i++)
        CHECK(intact(a[i], BIG));
    reader_exit(r);
    free_many(b, BIGS, BIG);
    free_many(c, BIGS, BIG);
    stepper_end(r);
    place_end();
}

/* A page that was taken off the list has lost its goal: what was retired into it
 * since is waited for. */
static void
test_H4_taking_a_page_off_the_list_cancels_its_goal(void)
{
    place_begin();
    stepper *first = reader_new(domain), *second = reader_new(domain);
    void *a[2], *b[MIDDLES];
    reader_enter(first);
    get_many(a, 1, BIG);
    heap_page *p = page_of(a[0]);
    retire_many(a, 1, BIG);
    heap_collect(h, NULL); /* tagged */
    CHECK((qc_load_relaxed(&p->state) & STATE_TAGGED) != 0);
    get_many(a + 1, 1, BIG); /* serves its class: cancelled */
    CHECK(page_of(a[1]) == p && (qc_load_relaxed(&p->state) & STATE_PHASE) == 0);
    reader_enter(second);
    retire_many(a + 1, 1, BIG);
    CHECK(waits(p));
    reader_exit(first);
    CHECK(qsbr_poll(domain, p->goal)); /* the goal it had is reached */
    heap_collect(h, NULL);
    get_many(b, MIDDLES, MIDDLE);
    CHECK(page_of(b[0]) != p && waits(p));
    CHECK(intact(a[1], BIG));
    reader_exit(second);
    heap_collect(h, NULL);
    CHECK(!waits(p));
    free_many(b, MIDDLES, MIDDLE);
    stepper_end(first);
    stepper_end(second);
    place_end();
}

/* A waiting page whose goal is reached is as good as new for its own class too. */
static void
test_H4_after_its_goal_a_page_begins_anew(void)
{
    place_begin();
    stepper *r = reader_new(domain);
    void *a[BIGS], *b[BIGS];
    reader_enter(r);
    get_many(a, BIGS, BIG);
    heap_page *p = page_of(a[0]);
    retire_many(a, BIGS, BIG);
    heap_collect(h, NULL);
    reader_exit(r);
    CHECK(qsbr_poll(domain, p->goal));
    get_many(b, BIGS, BIG);
    for (int i = 0; i < BIGS; i++)
        CHECK(page_of(b[i]) == p && is_among(b[i], a, BIGS));
    CHECK_EQ(figures().pages_back, 1);
    CHECK_EQ(figures().retired_bytes, 0);
    free_many(b, BIGS, BIG);
    stepper_end(r);
    place_end();
}

/* What nobody else could reach is served again at once. */
static void
test_H4_freed_blocks_at_once(void)
{
    place_begin();
    stepper *r = reader_new(domain);
    reader_enter(r);
    void *a = get(100), *b;
    for (int i = 0; i < 1000; i++) {
        heap_free(h, a, 100);
        b = get(100);
        CHECK(a == b);
    }
    CHECK_EQ(figures().pages - figures().pages_free, 1);
    heap_free(h, b, 100);
    reader_exit(r);
    stepper_end(r);
    place_end();
}

/* ---- T4 ---- */

static void
test_T4_waiting_bytes_over_the_limit_advance(void)
{
    place_begin();
    heap_page_limit = 3 * PAGE_BYTES;
    stepper *r = reader_new(domain);
    void *a[9 * BIGS];
    get_many(a, 9 * BIGS, BIG);
    reader_enter(r);
    uint64_t before = advances();
    for (int i = 0; i < 9; i++) {
        CHECK_EQ(advances(), before + (uint64_t)i / 4); /* the fourth is over it */
        CHECK_EQ(figures().waiting_bytes, i * PAGE_BYTES);
        CHECK_EQ(heap_waiting_bytes(h), i * PAGE_BYTES);
        retire_many(a + i * BIGS, BIGS, BIG);
    }
    CHECK_EQ(advances(), before + 2);
    CHECK_EQ(qc_load_relaxed(&domain->polls), 0); /* a retirement does not look */
    reader_exit(r);
    heap_collect(h, NULL);
    CHECK_EQ(heap_waiting_bytes(h), 0);
    stepper_end(r);
    place_end();
}

static void
test_T4_the_default_limit(void)
{
#ifdef QC_DEBUG
    CHECK(HEAP_PAGE_LIMIT <= 80 << 10);
#else
    CHECK_EQ(HEAP_PAGE_LIMIT, 80 << 10);
#endif
}

int
main(void)
{
    harness_init(true);
    RUN(test_T4_the_default_limit);
    RUN(test_H1_classes);
    RUN(test_H1_readers_see_retired_blocks_as_they_were);
    RUN(test_H2_a_generation_waits_for_the_readers_before_it);
    RUN(test_H2_one_advance_a_generation);
#ifdef QC_DEBUG
    RUN(test_H2_a_generation_is_taken_before_the_advance);
    RUN(test_H3_the_list_is_taken_before_the_advance);
#endif
    RUN(test_H3_a_waiting_page_serves_other_classes_after_its_goal);
    RUN(test_H3_memory_goes_back);
    RUN(test_H4_never_used_blocks_of_a_waiting_page);
    RUN(test_H4_blocks_past_their_generation_s_goal);
    RUN(test_H4_taking_a_page_off_the_list_cancels_its_goal);
    RUN(test_H4_after_its_goal_a_page_begins_anew);
    RUN(test_H4_freed_blocks_at_once);
    RUN(test_T4_waiting_bytes_over_the_limit_advance);
    return 0;
}
