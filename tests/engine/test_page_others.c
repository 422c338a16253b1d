/* Pages between threads, one step at a time: retirement into the page of a thread
 * that sleeps, pages taken away from it, threads that end, heaps that end. */
#include "page_place.h"

#include <unistd.h>

/* ---- H5: retirement by others ---- */

/* The owner sleeps; somebody else's retirements bring its page to 0; a third thread
 * gets the page, for another class, after the grace period. */
static void
test_H5_a_page_whose_owner_sleeps(void)
{
    place_begin();
    stepper *owner = stepper_new(), *other = stepper_new(), *r = reader_new(domain);
    void *a[BIGS], *b[MIDDLES], *mine[EXTENT_PAGES * MIDDLES];
    get_by(owner, a, BIGS, BIG);
    heap_page *p = page_of(a[0]);
    reader_enter(r);
    retire_by(other, a, BIGS - 1, BIG);
    CHECK_EQ(live_in(p), 1);
    CHECK(!waits(p));
    heap_retire(h, a[BIGS - 1], BIG);
    CHECK(waits(p)); /* within reach: */
    get_many(mine, (EXTENT_PAGES - 1) * MIDDLES, MIDDLE);
    get_by(other, b, MIDDLES, MIDDLE); /* a fresh page is needed, there is none */
    CHECK(page_of(b[0]) != p && waits(p));
    for (int i = 0; i < BIGS; i++)
        CHECK(intact(a[i], BIG));
    reader_exit(r);
    free_by(other, b, MIDDLES, MIDDLE);
    get_many(mine + (EXTENT_PAGES - 1) * MIDDLES, MIDDLES, MIDDLE);
    heap_collect(h, qsbr_wait);
    CHECK((qc_load_relaxed(&p->state) & STATE_TAG) == 0);
    CHECK_EQ(figures().pages_stolen, 2); /* b's too, whose owner is `other` */
    free_many(mine, EXTENT_PAGES * MIDDLES, MIDDLE);
    stepper_end(owner);
    stepper_end(other);
    stepper_end(r);
    place_end();
}

/* H4: the owner wakes and must not allocate from what was taken from it; nor does it
 * miss anything. */
static void
test_H4_an_owner_that_wakes(void)
{
    place_begin();
    stepper *owner = stepper_new(), *r = reader_new(domain);
    void *a[BIGS], *b[EXTENT_PAGES * MIDDLES], *c[BIGS];
    get_by(owner, a, 3, BIG);
    heap_page *p = page_of(a[0]);
    retire_many(a, 3, BIG);
    int n = 0;
    /* Until the page is used for another class. */
    while ((qc_load_relaxed(&p->state) & STATE_TAG) == 0 || p->class != page_class(MIDDLE)) {
        CHECK(n < EXTENT_PAGES * MIDDLES);
        get_many(b + n++, 1, MIDDLE);
    }
    get_by(owner, c, BIGS, BIG);
    for (int i = 0; i < BIGS; i++)
        CHECK(page_of(c[i]) != p && page_of(c[i])->class == page_class(BIG));
    for (int i = 0; i < n; i++)
        heap_free(h, b[i], MIDDLE);
    for (int i = 0; i < BIGS; i++)
        CHECK(intact(c[i], BIG));
    free_by(owner, c, BIGS, BIG);
    stepper_end(owner);
    stepper_end(r);
    place_end();
}

#ifdef QC_DEBUG
/* The same when it sleeps in the middle of an allocation, or of a retirement that has
 * made its page empty: then others find and use the page first. */
static const char *where;
static stepper *waker;
static heap_page *page_in_hand;
static void *taken[EXTENT_PAGES * MIDDLES];
static int n_taken;

static void
use_it_for_another_class(void *arg)
{
    (void)arg;
    CHECK(qsbr_register(domain) != NULL);
    heap_collect(h, qsbr_wait);
    while ((qc_load_relaxed(&page_in_hand->state) & STATE_TAG) == 0 ||
           page_in_hand->class != page_class(MIDDLE)) {
        CHECK(n_taken < EXTENT_PAGES * MIDDLES);
        get_many(taken + n_taken++, 1, MIDDLE);
    }
}

static void
others_take_the_page(const char *place)
{
    if (strcmp(place, where) != 0)
        return;
    qc_yield_hook = NULL;
    stepper_run(waker, use_it_for_another_class, NULL);
}

static void
wake_in_the_middle(const char *place)
{
    where = place;
    place_begin();
    waker = stepper_new();
    n_taken = 0;
    void *a[1], *b[1];
    get_many(a, 1, BIG);
    page_in_hand = page_of(a[0]);
    heap_retire(h, a[0], BIG);
    CHECK(waits(page_in_hand));
    qc_yield_hook = others_take_the_page;
    get_many(b, 1, BIG);
    CHECK(qc_yield_hook == NULL && n_taken != 0);
    CHECK(page_of(b[0]) != page_in_hand && page_of(b[0])->class == page_class(BIG));
    for (int i = 0; i < n_taken; i++)
        CHECK(intact(taken[i], MIDDLE));
    free_many(b, 1, BIG);
    free_by(waker, taken, n_taken, MIDDLE);
    stepper_end(waker);
    place_end();
}

static void
test_H4_an_owner_that_wakes_in_the_middle(void)
{
    wake_in_the_middle("page hint");
    wake_in_the_middle("page alloc");
}

/* Between the CAS that made the page empty and the duty that comes with it, somebody
 * else may have done it, and the page be anybody's. */
static void *middle_block;

static void
serve_retire_and_use_it(void *arg)
{
    /* The owner: the waiting page serves its class, and waits again. */
    heap_page *p = arg;
    void *b[1];
    CHECK(qsbr_register(domain) != NULL);
    get_many(b, 1, BIG);
    CHECK(page_of(b[0]) == p);
    heap_retire(h, b[0], BIG);
    CHECK(waits(p));
}

static stepper *sleeping_owner;

static void
the_duty_is_done_by_others(const char *place)
{
    if (strcmp(place, "page settle") != 0)
        return;
    qc_yield_hook = NULL;
    stepper_run(sleeping_owner, serve_retire_and_use_it, page_in_hand);
    stepper_run(waker, use_it_for_another_class, NULL);
}

static void
test_H5_a_duty_that_comes_late(void)
{
    place_begin();
    waker = stepper_new();
    sleeping_owner = stepper_new();
    n_taken = 0;
    get_by(sleeping_owner, &middle_block, 1, BIG);
    page_in_hand = page_of(middle_block);
    qc_yield_hook = the_duty_is_done_by_others;
    heap_retire(h, middle_block, BIG);
    CHECK(qc_yield_hook == NULL && n_taken != 0);
    CHECK(!waits(page_in_hand) && page_in_hand->class == page_class(MIDDLE));
    for (int i = 0; i < n_taken; i++)
        CHECK(intact(taken[i], MIDDLE));
    free_by(waker, taken, n_taken, MIDDLE);
    stepper_end(waker);
    stepper_end(sleeping_owner);
    place_end();
}
#endif

#ifdef QC_DEBUG
/* The same while it has found the local and not yet its lock: the page is nobody's by
 * then, or another's, who has filled it. */
static bool late;
static bool for_another;

static void
take_it_away(void *arg)
{
    (void)arg;
    CHECK(qsbr_register(domain) != NULL);
    CHECK(heap_collect(h, qsbr_wait) != 0);
    CHECK_EQ(qc_load_relaxed(&page_in_hand->state), 0);
}

static void
use_it_up(void *arg)
{
    use_it_for_another_class(arg);
    while ((qc_load_relaxed(&page_in_hand->state) & STATE_LISTED) != 0)
        get_many(taken + n_taken++, 1, MIDDLE);
    CHECK_EQ(live_in(page_in_hand), MIDDLES);
}

static void
others_are_quicker_to_the_lock(const char *place)
{
    late |= strcmp(place, "page settle") == 0;
    if (!late || strcmp(place, "lock") != 0)
        return;
    qc_yield_hook = NULL;
    stepper_run(sleeping_owner, serve_retire_and_use_it, page_in_hand);
    stepper_run(waker, for_another ? use_it_up : take_it_away, NULL);
}

static void
check_lists_of(heap_page *p)
{
    for (heap_local *l = qc_load_acquire(&h->locals); l != NULL; l = l->next) {
        heap_lock_local(l);
        page_check_local(l);
        for (heap_page *q = l->lists[page_class(BIG)].first; q != NULL; q = q->links[IN_CLASS].next)
            CHECK(q != p);
        qc_lock_release(&l->lock);
    }
}

static void
test_H5_a_duty_that_is_late_at_the_lock(void)
{
    for (int i = 0; i < 2; i++) {
        place_begin();
        waker = stepper_new();
        sleeping_owner = stepper_new();
        n_taken = 0;
        for_another = i == 1;
        late = false;
        get_by(sleeping_owner, &middle_block, 1, BIG);
        page_in_hand = page_of(middle_block);
        qc_yield_hook = others_are_quicker_to_the_lock;
        heap_retire(h, middle_block, BIG);
        CHECK(late && qc_yield_hook == NULL);
        if (for_another)
            CHECK_EQ(live_in(page_in_hand), MIDDLES);
        else
            CHECK_EQ(qc_load_relaxed(&page_in_hand->state), 0);
        check_lists_of(page_in_hand);
        for (int j = 0; j < n_taken; j++)
            CHECK(intact(taken[j], MIDDLE));
        free_by(waker, taken, n_taken, MIDDLE);
        stepper_end(waker);
        stepper_end(sleeping_owner);
        place_end();
    }
}

/* All blocks of a page are in use, and it goes off its owner's list: if just then one
 * comes back, it stays, since nobody would put it there again. */
static void
one_comes_back(const char *place)
{
    if (strcmp(place, "unlist") != 0)
        return;
    qc_yield_hook = NULL;
    retire_by(waker, &middle_block, 1, BIG);
}

static void
test_H5_a_block_that_comes_back_to_a_page_just_found_full(void)
{
    place_begin();
    waker = stepper_new();
    stepper *r = reader_new(domain);
    void *a[BIGS], *b[BIGS], *c[1];
    get_many(a, BIGS, BIG);
    middle_block = a[2];
    reader_enter(r);
    qc_yield_hook = one_comes_back;
    get_many(b, BIGS, BIG);
    CHECK(qc_yield_hook == NULL && page_of(b[0]) != page_of(a[0]));
    CHECK((qc_load_relaxed(&page_of(a[0])->state) & STATE_LISTED) != 0);
    reader_exit(r);
    get_many(c, 1, BIG);
    CHECK(c[0] == a[2]);
    free_many(a, BIGS, BIG);
    free_many(b, BIGS, BIG);
    stepper_end(r);
    stepper_end(waker);
    place_end();
}
#endif

#ifdef QC_DEBUG
/* A page that waited and was filled up again is on no list of waiting pages.  Then all its
 * blocks come back together, from threads that have yet to settle it.  It is not taken away
 * before one of them has, and none of the owner's other pages is lost with it. */
static _Atomic uint32_t parked, unparked;
static _Thread_local bool parks;

static void
park(const char *place)
{
    if (!parks || strcmp(place, "page settle") != 0)
        return;
    qc_add_acq_rel(&parked, 1u);
    while (!qc_load_acquire(&unparked))
        sleep_ms(1);
}

static void
do_retire_and_park(void *block)
{
    CHECK(qsbr_register(domain) != NULL);
    parks = true;
    heap_retire(h, block, BIG);
    parks = false;
}

static void
test_H4_a_page_that_is_filled_up_again(void)
{
    place_begin();
    void *a[BIGS], *b[BIGS], *c[BIGS];
    stepper *others[BIGS];
    qc_store_relaxed(&parked, 0u);
    qc_store_relaxed(&unparked, 0u);
    get_many(a, BIGS, BIG);
    get_many(b, BIGS, BIG);
    get_many(c, 1, BIG);
    heap_page *p = page_of(b[0]), *q = page_of(c[0]);
    free_many(b, BIGS, BIG);
    CHECK(waits(p));
    get_many(c + 1, BIGS - 1, BIG);
    get_many(b, BIGS, BIG);
    heap_free(h, c[BIGS - 1], BIG);
    get_many(c + BIGS - 1, 1, BIG); /* finds p full on the way */
    CHECK(page_of(c[BIGS - 1]) == q && page_of(b[BIGS - 1]) == p && live_in(p) == BIGS);
    CHECK(page_state_of(qc_load_relaxed(&p->state)) == PAGE_OFF);
    CHECK_EQ(heap_waiting_bytes(h), 0);
    heap_free(h, a[0], BIG); /* listed, with q */
    qc_yield_hook = park;
    for (int i = 0; i < BIGS; i++)
        stepper_start(others[i] = stepper_new(), do_retire_and_park, b[i]);
    while (qc_load_acquire(&parked) < BIGS)
        sleep_ms(1);
    heap_collect(h, qsbr_wait);
    CHECK_EQ(live_in(p), 0);
    CHECK(page_state_of(qc_load_relaxed(&p->state)) == PAGE_OFF); /* none has found it */
    qc_store_release(&unparked, 1u);
    for (int i = 0; i < BIGS; i++) {
        stepper_wait(others[i]);
        stepper_end(others[i]);
    }
    qc_yield_hook = NULL;
    CHECK(waits(p));
    heap_collect(h, qsbr_wait);
    CHECK(page_state_of(qc_load_relaxed(&p->state)) == PAGE_NOBODYS);
    get_many(a, 1, BIG);
    for (int i = 0; i < BIGS; i++)
        CHECK(page_of(a[i]) == page_of(a[1]) && (i == 0 || intact(a[i], BIG)) && intact(c[i], BIG));
    free_many(a, BIGS, BIG);
    free_many(c, BIGS, BIG);
    place_end();
}
#endif

/* Blocks that come back to a full page from elsewhere are found by the owner, each
 * generation after its goal. */
static void
test_H5_the_owner_finds_what_others_retired(void)
{
    place_begin();
    stepper *other = stepper_new(), *r = reader_new(domain);
    void *a[BIGS], *b[2 * BIGS], *c[2];
    get_many(a, BIGS, BIG);
    get_many(b, 1, BIG); /* the first page is known to be full */
    heap_page *p = page_of(a[0]);
    CHECK((qc_load_relaxed(&p->state) & STATE_LISTED) == 0);
    reader_enter(r);
    retire_by(other, a, 2, BIG);
    CHECK((qc_load_relaxed(&p->state) & STATE_LISTED) != 0);
    CHECK_EQ(live_in(p), BIGS - 2);
    get_many(b + 1, 2 * BIGS - 1, BIG); /* two more pages: r is in */
    for (int i = 0; i < 2 * BIGS; i++)
        CHECK(!is_among(b[i], a, 2));
    CHECK(intact(a[0], BIG) && intact(a[1], BIG));
    reader_exit(r);
    get_many(c, 2, BIG);
    CHECK(is_among(c[0], a, 2) && is_among(c[1], a, 2) && c[0] != c[1]);
    free_many(c, 2, BIG);
    free_many(a + 2, BIGS - 2, BIG);
    free_many(b, 2 * BIGS, BIG);
    stepper_end(other);
    stepper_end(r);
    place_end();
}

/* heap_free by another thread waits as a retirement does, and is counted so. */
static void
test_H5_freeing_another_thread_s_block(void)
{
    place_begin();
    stepper *other = stepper_new();
    void *a[3];
    get_many(a, 3, BIG);
    free_by(other, a, 2, BIG);
    CHECK_EQ(figures().live_bytes, BIG);
    CHECK_EQ(figures().retired_bytes, 2 * BIG);
    CHECK_EQ(live_in(page_of(a[2])), 1);
    heap_free(h, a[2], BIG);
    CHECK(waits(page_of(a[2])));
    stepper_end(other);
    place_end();
}

/* ---- H5: threads that end ---- */

static void
check_owner(heap_page *p, qsbr_record *rec)
{
    heap_local *l = qc_load_acquire(&p->local);
    CHECK(l->rec == rec);
    CHECK_EQ(qc_load_relaxed(&p->state) & STATE_TAG, l->tag);
}

/* With live blocks: for the next thread that needs the class, and for no other. */
static void
test_H5_a_page_with_live_blocks_is_adopted(void)
{
    place_begin();
    stepper *owner = stepper_new(), *other = stepper_new(), *r = reader_new(domain);
    void *a[BIGS], *b[BIGS], *c[MIDDLES];
    get_by(owner, a, BIGS - 1, BIG);
    heap_page *p = page_of(a[0]);
    reader_enter(r);
    retire_by(owner, a, 2, BIG);     /* in `newer` */
    retire_by(other, a + 2, 1, BIG); /* on the list for others */
    get_many(b, 1, BIG);
    CHECK(page_of(b[0]) != p); /* the owner lives */
    stepper_end(owner);
    get_many(c, MIDDLES, MIDDLE);
    CHECK(page_of(c[0]) != p); /* another class */
    CHECK_EQ(figures().pages_adopted, 0);
    get_many(b + 1, BIGS - 1, BIG);
    void *next[BIGS];
    get_many(next, 1, BIG);
    CHECK(page_of(next[0]) == p); /* the block that was never used */
    CHECK_EQ(figures().pages_adopted, 1);
    check_owner(p, qsbr_find(domain));
    CHECK_EQ(live_in(p), BIGS - 3);
    /* What the owner that ended and others had retired is still waited for. */
    get_many(next + 1, BIGS - 1, BIG);
    for (int i = 0; i < BIGS; i++)
        CHECK(!is_among(next[i], a, 3));
    for (int i = 0; i < 3; i++)
        CHECK(intact(a[i], BIG));
    reader_exit(r);
    void *last[4];
    get_many(last, 4, BIG); /* one is left in the page of next[1..] */
    CHECK(is_among(last[1], a, 3) && is_among(last[2], a, 3) && is_among(last[3], a, 3));
    free_many(last, 4, BIG);
    free_many(next, BIGS, BIG);
    free_many(b, BIGS, BIG);
    free_many(c, MIDDLES, MIDDLE);
    retire_by(other, a + 3, BIGS - 4, BIG);
    stepper_end(other);
    stepper_end(r);
    place_end();
}

/* Without: for any. */
static void
test_H5_an_empty_page_of_a_thread_that_ended(void)
{
    place_begin();
    stepper *owner = stepper_new(), *r = reader_new(domain);
    void *a[EXTENT_PAGES * BIGS], *b[MIDDLES + 1], *c[EXTENT_PAGES * MIDDLES];
    get_by(owner, a, EXTENT_PAGES * BIGS, BIG);
    reader_enter(r);
    retire_by(owner, a, EXTENT_PAGES * BIGS, BIG);
    stepper_end(owner);
    CHECK_EQ(figures().pages_waiting, EXTENT_PAGES);
    get_many(b, MIDDLES, MIDDLE); /* finds them, tags them, may not have them */
    CHECK_EQ(figures().pages_waiting, EXTENT_PAGES);
    CHECK_EQ(figures().pages, 2 * EXTENT_PAGES);
    for (int i = 0; i < EXTENT_PAGES * BIGS; i++)
        CHECK(intact(a[i], BIG));
    reader_exit(r);
    int n = 0;
    for (; figures().pages_free != 0; n += MIDDLES)
        get_by(r, c + n, MIDDLES, MIDDLE);
    get_many(b + MIDDLES, 1, MIDDLE); /* takes them all */
    CHECK_EQ(figures().pages, 2 * EXTENT_PAGES);
    CHECK_EQ(figures().pages_waiting, 0);
    CHECK_EQ(figures().pages_stolen, EXTENT_PAGES);
    free_many(b, MIDDLES + 1, MIDDLE);
    free_by(r, c, n, MIDDLE);
    stepper_end(r);
    place_end();
}

/* However many waiting pages an ended thread has left, the pages of the next ended thread are
 * adopted. */
static void
test_H5_an_ended_thread_behind_one_whose_pages_wait(void)
{
    enum { PAGES = 40 };
    place_begin();
    stepper *r = reader_new(domain), *behind = stepper_new(), *first = stepper_new();
    void *a[PAGES * BIGS], *b, *c;
    get_by(behind, &b, 1, MIDDLE);
    get_by(first, a, PAGES * BIGS, BIG);
    reader_enter(r);
    retire_by(first, a, PAGES * BIGS, BIG);
    stepper_end(first);
    stepper_end(behind);
    CHECK_EQ(figures().pages_waiting, PAGES);
    get_many(&c, 1, MIDDLE);
    CHECK_EQ(figures().pages_adopted, 1);
    CHECK(page_of(c) == page_of(b));
    reader_exit(r);
    free_many(&b, 1, MIDDLE);
    free_many(&c, 1, MIDDLE);
    stepper_end(r);
    place_end();
}

/* The next thread with the record goes on with what the last one had. */
static void
test_H5_a_recycled_record(void)
{
    place_begin();
    stepper *first = stepper_new(), *second;
    void *a[BIGS], *b[BIGS];
    get_by(first, a, 2, BIG);
    heap_local *l = qc_load_relaxed(&page_of(a[0])->local);
    stepper_end(first);
    second = stepper_new();
    get_by(second, b, BIGS, BIG);
    CHECK(page_of(b[0]) == page_of(a[0]));
    CHECK(qc_load_relaxed(&page_of(b[0])->local) == l);
    CHECK_EQ(figures().pages_adopted, 0);
    free_by(second, a, 2, BIG);
    free_by(second, b, BIGS, BIG);
    stepper_end(second);
    place_end();
}

/* A thread that has another one's record, and does not come to this heap, has not
 * its pages. */
static void
do_register(void *arg)
{
    (void)arg;
    CHECK(qsbr_register(domain) != NULL);
}

static void
test_H5_a_record_whose_new_thread_stays_away(void)
{
    place_begin();
    stepper *first = stepper_new(), *second = stepper_new();
    void *a[BIGS], *b[BIGS];
    get_by(first, a, 2, BIG);
    qsbr_record *rec = qc_load_relaxed(&page_of(a[0])->local)->rec;
    stepper_end(first);
    stepper_run(second, do_register, NULL);
    CHECK_EQ(qc_load_relaxed(&rec->registered), 1);
    get_many(b, 1, BIG);
    CHECK(page_of(b[0]) == page_of(a[0])); /* adopted all the same */
    CHECK_EQ(figures().pages_adopted, 1);
    free_many(b, 1, BIG);
    get_by(second, b, BIGS, BIG);
    CHECK(page_of(b[0]) != page_of(a[0]));
    free_many(a, 2, BIG);
    free_by(second, b, BIGS, BIG);
    stepper_end(second);
    place_end();
}

/* A thread that unregisters and lives keeps its pages, and may come back. */
static void
do_unregister(void *arg)
{
    (void)arg;
    qsbr_unregister(qsbr_find(domain));
}

static void
test_H5_unregistered_is_not_ended(void)
{
    place_begin();
    stepper *s = stepper_new();
    void *a[BIGS], *b[BIGS];
    get_by(s, a, 2, BIG);
    stepper_run(s, do_unregister, NULL);
    get_many(b, BIGS, BIG);
    CHECK(page_of(b[0]) != page_of(a[0]));
    get_by(s, a + 2, 1, BIG);
    CHECK(page_of(a[2]) == page_of(a[0]));
    free_many(b, BIGS, BIG);
    free_by(s, a, 3, BIG);
    stepper_end(s);
    place_end();
}

/* The destructor of another library's key comes after the thread's end, and uses the
 * heap once more.  The record has another thread by then, and with it the local. */
static pthread_key_t late_key;
static stepper *late_heir;

static heap_local *
local_of(void *block)
{
    return qc_load_relaxed(&page_of(block)->local);
}

static void
use_late(void *rec)
{
    void *theirs;
    get_by(late_heir, &theirs, 1, BIG);
    CHECK(local_of(theirs)->rec == rec);
    CHECK(qsbr_register(domain) != NULL);
    void *mine = get(BIG);
    CHECK(local_of(mine) != local_of(theirs));
    heap_free(h, mine, BIG);
    free_by(late_heir, &theirs, 1, BIG);
}

static void *
end_late(void *arg)
{
    qsbr_record *rec = qsbr_register(domain);
    heap_free(h, get(BIG), BIG);
    CHECK(pthread_setspecific(late_key, rec) == 0);
    return arg;
}

static void
test_Q5_a_thread_that_goes_on_after_its_end(void)
{
    place_begin();
    CHECK(pthread_key_create(&late_key, use_late) == 0); /* its turn is after ours */
    late_heir = stepper_new();
    thread_join(thread_start(end_late, NULL));
    stepper_end(late_heir);
    CHECK(pthread_key_delete(late_key) == 0);
    place_end();
}

/* ---- threads without a record, and the end ---- */

static void
do_without_record(void *arg)
{
    void **blocks = arg;
    CHECK(qsbr_find(domain) == NULL);
    get_many(blocks, BIGS + 3, BIG);
    CHECK_EQ(figures().live_bytes, (BIGS + 3) * BIG);
    free_many(blocks, 2, BIG);
    retire_many(blocks + 2, 2, BIG);
    CHECK_EQ(figures().live_bytes, (BIGS - 1) * BIG);
}

static void
test_H5_threads_without_a_record(void)
{
    place_begin();
    stepper *s = stepper_new();
    void *a[BIGS + 3];
    stepper_run(s, do_without_record, a);
    free_many(a + 4, BIGS - 1, BIG);
    stepper_end(s);
    place_end();
}

/* The heap's end, with blocks left in pages, retired and live. */
static void
test_heap_ends_with_its_last_block(void)
{
    place_begin();
    stepper *s = stepper_new();
    void *a[BIGS], *b[MIDDLES], *large = heap_alloc(h, 100000);
    get_many(a, BIGS, BIG);
    get_by(s, b, MIDDLES, MIDDLE);
    retire_many(a, 2, BIG);
    retire_by(s, b, MIDDLES, MIDDLE);
    heap_delete(h);
    CHECK_EQ(heap_live_bytes(h), (BIGS - 2) * BIG + 100000);
    retire_by(s, a + 2, 2, BIG);
    heap_free(h, large, 100000);
    free_many(a + 4, BIGS - 5, BIG);
    free_by(s, a + BIGS - 1, 1, BIG); /* a leak checker says whether it has ended */
    stepper_end(s);
    qsbr_unregister(qsbr_find(domain));
    qsbr_domain_release(domain);
}

/* T8: what a record that is online for good may read is left where it is. */
static void
test_heap_end_waits_for_readers(void)
{
    place_begin();
    stepper *r = reader_new(domain);
    void *a[1];
    get_many(a, 1, BIG);
    reader_enter(r);
    heap_retire(h, a[0], BIG);
    uint64_t began = now_ns();
    heap_delete(h);
    CHECK(now_ns() - began > UINT64_C(100000000));
    CHECK(intact(a[0], BIG));
    reader_exit(r);
    stepper_end(r);
    qsbr_unregister(qsbr_find(domain));
    qsbr_domain_release(domain);
}

#ifdef QC_DEBUG
/* Memory that cannot be had: of a thread's part (it is served all the same), of
 * descriptors, of pages. */
static void
test_heap_without_memory(void)
{
    for (unsigned i = 1; i <= 4; i++) {
        place_begin();
        harness_fail_malloc(i);
        void *block = heap_alloc(h, BIG);
        harness_fail_malloc(0);
        CHECK_EQ(block == NULL, i == 2 || i == 3);
        CHECK_EQ(figures().live_bytes, block != NULL ? BIG : 0);
        void *a[EXTENT_PAGES * BIGS];
        int n = block == NULL ? EXTENT_PAGES * BIGS : EXTENT_PAGES * BIGS - 1;
        while (n > 0 && (i != 1 || n >= BIGS)) /* that block's page is the common one's */
            a[--n] = get(BIG);
        for (unsigned j = 1; j <= 2; j++) {
            harness_fail_malloc(j);
            CHECK(heap_alloc(h, BIG) == NULL);
            harness_fail_malloc(0);
        }
        int all = block == NULL ? EXTENT_PAGES * BIGS : EXTENT_PAGES * BIGS - 1;
        free_many(a + n, all - n, BIG);
        if (block != NULL)
            heap_free(h, block, BIG);
        place_end();
    }
}
#endif

#ifdef QC_DEBUG
static void
do_without_record_or_memory(void *arg)
{
    (void)arg;
    harness_fail_malloc(1);
    CHECK(qsbr_find(domain) == NULL && heap_alloc(h, BIG) == NULL);
    harness_fail_malloc(0);
    CHECK_EQ(figures().live_bytes, 0);
    CHECK_EQ(figures().pages, 0);
}

static void
test_no_memory_for_a_heap(void)
{
    place_begin();
    for (unsigned i = 1; i <= 4; i++) {
        harness_fail_malloc(i);
        CHECK(heap_new(domain) == NULL);
        harness_fail_malloc(0);
    }
    stepper *s = stepper_new();
    stepper_run(s, do_without_record_or_memory, NULL);
    stepper_end(s);
    place_end();
}
#endif

/* ---- Q10 ---- */

typedef struct {
    stepper *owner;
    void **a, **b;
} forked;

static void
child(void *arg)
{
    forked *f = arg;
    void *c[4 * BIGS];
    /* What the owner that is gone has left, held locks and all. */
    get_many(c, 4 * BIGS, BIG);
    for (int i = 0; i < 4 * BIGS; i++)
        CHECK(!is_among(c[i], f->a, BIGS) && !is_among(c[i], f->b, 2));
    retire_many(f->a, BIGS, BIG); /* its blocks */
    heap_free(h, f->b[0], BIG);
    stepper *s = stepper_new();
    get_by(s, f->b, 1, BIG);
    free_by(s, f->b, 1, BIG);
    free_by(s, c, 4 * BIGS, BIG);
    stepper_end(s);
    heap_free(h, f->b[1], BIG);
    heap_collect(h, qsbr_wait);
    CHECK_EQ(figures().live_bytes, 0);
    CHECK_EQ(figures().pages_waiting, 0);
    CHECK(figures().pages <= EXTENT_PAGES); /* one page may be lost */
    heap_delete(h);
}

static void
test_Q10_a_fork_between_operations(void)
{
    place_begin();
    void *a[BIGS], *b[2];
    forked f = {.owner = stepper_new(), .a = a, .b = b};
    get_by(f.owner, a, BIGS, BIG);
    get_by(f.owner, b, 2, BIG);
    in_child(child, &f);
    free_by(f.owner, a, BIGS, BIG);
    free_by(f.owner, b, 2, BIG);
    stepper_end(f.owner);
    place_end();
}

#ifdef QC_DEBUG
/* While another thread holds the lock of its local, or the heap's, in the middle of
 * something. */
static _Atomic uint32_t there, go_on;
static pthread_t sleeper;

static void
sleep_there(const char *place)
{
    if (strcmp(place, where) != 0 || !pthread_equal(pthread_self(), sleeper))
        return;
    qc_store_release(&there, 1u);
    while (!qc_load_acquire(&go_on))
        sleep_ms(1);
}

static void
do_sleep_in_the_middle(void *arg)
{
    void **a = arg;
    sleeper = pthread_self();
    CHECK(qsbr_register(domain) != NULL);
    get_many(a, BIGS, BIG);
    retire_many(a, 2, BIG);
    bool late = strcmp(where, "page tag") == 0;
    if (!late)
        qc_yield_hook = sleep_there;
    get_many(a, 1, BIG); /* takes a batch; later tags its waiting pages */
    retire_many(a, 1, BIG);
    retire_many(a + 2, BIGS - 2, BIG);
    qc_yield_hook = sleep_there;
    heap_collect(h, NULL);
    qc_yield_hook = NULL;
}

static void
child_in_the_middle(void *arg)
{
    void **a = arg, *c[4 * BIGS];
    qc_yield_hook = NULL;
    get_many(c, 4 * BIGS, BIG);
    free_many(c, 4 * BIGS, BIG);
    /* The blocks that the thread which is gone had not retired by then. */
    if (strcmp(where, "page tag") != 0)
        retire_many(a + 2, BIGS - 2, BIG);
    heap_collect(h, qsbr_wait);
    CHECK_EQ(figures().pages_waiting, 0);
    CHECK_EQ(figures().pages, 0);
    get_many(c, 4 * BIGS, BIG);
    free_many(c, 4 * BIGS, BIG);
}

static void
test_Q10_a_fork_while_lists_are_half_done(void)
{
    const char *places[] = {"page take", "page tag", "lock", "list page", "page settle"};
    for (int i = 0; i < 5; i++) {
        place_begin();
        stepper *s = stepper_new();
        void *a[BIGS];
        where = places[i];
        qc_store_release(&there, 0u);
        qc_store_release(&go_on, 0u);
        stepper_start(s, do_sleep_in_the_middle, a);
        while (!qc_load_acquire(&there))
            sleep_ms(1);
        in_child(child_in_the_middle, a);
        qc_store_release(&go_on, 1u);
        stepper_wait(s);
        stepper_end(s);
        place_end();
    }
}

/* Between the stores by which a page gives out a block again: by a thread that is gone,
 * or by one without a record, whose pages are anybody's (with the lock).  The block is
 * lost, and the page counts what it has. */
static void
do_give_out_again(void *arg)
{
    void **a = arg;
    sleeper = pthread_self();
    get_many(a, BIGS, BIG);
    retire_many(a, 3, BIG);
    qc_yield_hook = sleep_there;
    get_many(a, 1, BIG);
    qc_yield_hook = NULL;
    get_many(a + 1, 2, BIG);
}

static void
do_register_and_give_out_again(void *arg)
{
    do_register(NULL);
    do_give_out_again(arg);
}

static void
do_use_what_is_left(void *arg)
{
    void **a = arg, *b[2];
    get_many(b, 2, BIG); /* the validator counts */
    for (int i = 0; i < 2; i++)
        CHECK(page_of(b[i]) == page_of(a[3]) && !is_among(b[i], a + 3, BIGS - 3));
    free_many(b, 2, BIG);
}

static void
child_between_two_stores(void *arg)
{
    void **a = arg;
    qc_yield_hook = NULL;
    stepper *s = stepper_new();
    if (qc_load_relaxed(&page_of(a[3])->local) == h->common)
        stepper_run(s, do_use_what_is_left, a);
    else
        do_use_what_is_left(a); /* adopted */
    stepper_end(s);
    free_many(a + 3, BIGS - 3, BIG);
    heap_collect(h, qsbr_wait);
    CHECK_EQ(figures().live_bytes, 0);
    CHECK(figures().pages_waiting <= 1);
}

static void
test_Q10_a_fork_while_a_page_gives_out_a_block(void)
{
    void (*ways[])(void *) = {do_register_and_give_out_again, do_give_out_again};
    for (int i = 0; i < 2; i++) {
        place_begin();
        stepper *s = stepper_new();
        void *a[BIGS];
        where = "page pop";
        qc_store_release(&there, 0u);
        qc_store_release(&go_on, 0u);
        stepper_start(s, ways[i], a);
        while (!qc_load_acquire(&there))
            sleep_ms(1);
        in_child(child_between_two_stores, a);
        qc_store_release(&go_on, 1u);
        stepper_wait(s);
        free_by(s, a, BIGS, BIG);
        stepper_end(s);
        place_end();
    }
}

/* In the child two threads find that a fork was: one puts the lists right, and not the
 * other one again, when pages have their places. */
static heap_page *tagged_page;

static void
do_tag_a_page(void *arg)
{
    void *a[1];
    (void)arg;
    do_register(NULL);
    get_many(a, 1, BIG);
    tagged_page = page_of(a[0]);
    heap_retire(h, a[0], BIG);
    heap_collect(h, NULL);
}

static void
another_one_mends(const char *place)
{
    if (strcmp(place, "lock") != 0)
        return;
    qc_yield_hook = NULL;
    CHECK(qc_load_relaxed(&h->mended) != qc_fork_generation);
    stepper_run(waker, do_tag_a_page, NULL);
}

static void
child_with_two_threads(void *arg)
{
    (void)arg;
    stepper *r = reader_new(domain);
    reader_enter(r);
    waker = stepper_new();
    qc_yield_hook = another_one_mends;
    figures();
    CHECK(qc_yield_hook == NULL && qc_load_relaxed(&h->mended) == qc_fork_generation);
    uint64_t s = qc_load_relaxed(&tagged_page->state);
    CHECK_EQ(s & (STATE_WAITS | STATE_PHASE), STATE_QUEUED | STATE_TAGGED);
    CHECK_EQ(figures().pages_waiting, 1);
    reader_exit(r);
    stepper_end(r);
    stepper_end(waker);
}

static void
test_Q10_lists_are_made_anew_once(void)
{
    place_begin();
    in_child(child_with_two_threads, NULL);
    place_end();
}
#endif

int
main(void)
{
    harness_init(true);
    RUN(test_H5_a_page_whose_owner_sleeps);
    RUN(test_H4_an_owner_that_wakes);
#ifdef QC_DEBUG
    RUN(test_H4_an_owner_that_wakes_in_the_middle);
    RUN(test_H5_a_duty_that_comes_late);
    RUN(test_H5_a_duty_that_is_late_at_the_lock);
    RUN(test_H5_a_block_that_comes_back_to_a_page_just_found_full);
    RUN(test_H4_a_page_that_is_filled_up_again);
#endif
    RUN(test_H5_the_owner_finds_what_others_retired);
    RUN(test_H5_freeing_another_thread_s_block);
    RUN(test_H5_a_page_with_live_blocks_is_adopted);
    RUN(test_H5_an_empty_page_of_a_thread_that_ended);
    RUN(test_H5_an_ended_thread_behind_one_whose_pages_wait);
    RUN(test_H5_a_recycled_record);
    RUN(test_H5_a_record_whose_new_thread_stays_away);
    RUN(test_H5_unregistered_is_not_ended);
    RUN(test_H5_threads_without_a_record);
    RUN(test_Q5_a_thread_that_goes_on_after_its_end);
    RUN(test_heap_ends_with_its_last_block);
    RUN(test_heap_end_waits_for_readers);
    RUN(test_Q10_a_fork_between_operations);
#ifdef QC_DEBUG
    RUN(test_heap_without_memory);
    RUN(test_no_memory_for_a_heap);
    RUN(test_Q10_a_fork_while_lists_are_half_done);
    RUN(test_Q10_a_fork_while_a_page_gives_out_a_block);
    RUN(test_Q10_lists_are_made_anew_once);
#endif
    return 0;
}
