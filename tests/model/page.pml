/* One page of the heap between its owners, threads that retire its blocks and a thread that
 * collects (src/heap/page*.c).  Is the page on the lists that its state names whenever a
 * thread relies on it, and is it taken away only while no block of it is in use (H3, H4,
 * H5)?  README.md lists what is modelled and what is not.
 *
 * The state word is one integer and changes as a whole: a CAS compares all of it.  The
 * owner's fields and the lists are variables of their own.  The model is about the order of
 * events, not of stores (the CASes acquire and release), so memory is sequentially
 * consistent.
 *
 * Configuration, by -D: BLOCKS (of the page), OWNERS, RETIRERS, ADOPT (an owner's thread may
 * end, and the other one adopts the page).  Mutants: each a MUTANT_ macro.
 */
#ifndef BLOCKS
#define BLOCKS 1
#endif
#ifndef OWNERS
#define OWNERS 2
#endif
#ifndef RETIRERS
#define RETIRERS 1
#endif

/* The state word */
#define LIVE 3           /* live blocks */
#define FOREIGN 12       /* those that others retired */
#define ONE_FOREIGN 4
#define TAG 48           /* the local that has it: 1, 2; 0: nobody's */
#define of(x) ((x) << 4)
#define LISTED 64
#define READY 128
#define UNTAGGED 256
#define QUEUED 512
#define TAKEN 1024
#define TAGGED 2048
#define PHASE (TAKEN | TAGGED)
#define FLAGS (LISTED | READY | UNTAGGED | QUEUED | PHASE)

/* page_state_of() */
#define flags(s) ((s) & (FLAGS & ~READY))
#define is_legal(s)                                                                            \
    (((s) & TAG) == 0 -> (s) == 0 :                                                            \
     (flags(s) == 0 -> ((s) & READY) == 0 :                                                    \
      (flags(s) == LISTED || flags(s) == (LISTED | UNTAGGED) || flags(s) == (LISTED | QUEUED) || \
       (((s) & LIVE) == 0 &&                                                                   \
        (flags(s) == (LISTED | UNTAGGED | TAKEN) || flags(s) == (LISTED | QUEUED | TAGGED))))))

short state;
byte belongs;         /* p->local */
byte spare, newer;    /* (owner) blocks to serve; retired by the owner, or collected */
byte listed;          /* the local on one of whose lists it is by IN_CLASS; 0: none */
byte waiting;         /* by IN_WAIT */
bool untagged_list;   /* of which list of the two */
bool lock[3];         /* of the locals */
bool pooled = true;
bool ended;           /* the thread of local 1 */
byte in_use;          /* blocks in the hands of users */
byte busy;            /* threads that are giving one back, or adopting the page */
bool untouched[2];    /* no block was live since the last advance of the collector, of T4's */
bit tagged_by;        /* which of them gave the goal */
#define COLLECTOR 0
#define T4 1

/* A section with the lock in which one thing happens is one step, `with`. */
#define acquire(l) atomic { !lock[l] -> lock[l] = true }
#define release(l) lock[l] = false
#define with(l) !lock[l]

/* Every new state is legal.  (ANY_STATE turns this off, to find mutants by the consequences.) */
#ifdef ANY_STATE
#define assert_legal() skip
#else
#define assert_legal() assert(is_legal(state))
#endif
#define store(x)                                                                               \
    state = x;                                                                                 \
    assert_legal();                                                                            \
    untouched[0] = untouched[0] && (state & LIVE) == 0;                                        \
    untouched[1] = untouched[1] && (state & LIVE) == 0

/* (lock) */
inline put(l)
{
    assert(listed == 0);
    listed = l
}

inline drop(l)
{
    assert(listed == l); /* or another list loses its pages */
    listed = 0
}

inline put_waiting(l, which)
{
    assert(waiting == 0);
    waiting = l;
    untagged_list = which
}

inline drop_waiting(l)
{
    if
    :: waiting != 0 ->
        assert(waiting == l);
        waiting = 0;
        untagged_list = false
    :: else
    fi
}

/* page_check_place(): whenever a lock is given back. */
inline check(l)
{
    assert((state & TAG) != of(l) ||
           ((listed == l) == ((state & LISTED) != 0) &&
            (waiting == l) == ((state & (UNTAGGED | QUEUED)) != 0) &&
            (waiting != l || untagged_list == ((state & UNTAGGED) != 0))))
}

/* H5: whenever no thread is about to settle the page, it is found by those who look for it:
 * if it has no live blocks, it waits; if some are not in use, it is listed; if it can serve
 * one at once, on its class's list. */
#define is_found                                                                               \
    (busy != 0 || (state & TAG) == 0 ||                                                        \
     (((state & LIVE) != 0 || (state & (UNTAGGED | TAGGED)) != 0) &&                           \
      ((newer == 0 && (state & FOREIGN) == 0) || (state & LISTED) != 0) &&                     \
      (spare == 0 || (state & READY) != 0)))

/* ---- tagging and taking away ---- */

/* page_take_waiting() */
inline take_waiting(l)
{
    if
    :: waiting == l && untagged_list && (state & LIVE) == 0 -> store(state | TAKEN)
    :: waiting == l && untagged_list && (state & LIVE) != 0 ->
        store(state & ~UNTAGGED);
        drop_waiting(l)
    :: else
    fi
}

/* page_tag_taken() */
inline tag_taken(l, by)
{
    if
    :: waiting == l && untagged_list && (state & TAKEN) != 0 ->
        assert(untouched[by]); /* or a reader may have a block of it */
        tagged_by = by;
        store((state & ~(TAKEN | UNTAGGED)) | TAGGED | QUEUED);
        drop_waiting(l);
        put_waiting(l, false)
    :: else
    fi
}

#define advance(by) untouched[by] = ((state & LIVE) == 0)

/* ---- where the page belongs ---- */

/* page_place() */
inline place(l)
{
    atomic {
        if
        :: (state & LISTED) == 0 -> store(state | LISTED | (spare != 0 -> READY : 0)); put(l)
        :: (state & LISTED) != 0 && (state & READY) == 0 && spare != 0 ->
            store(state | READY); drop(l); put(l)
        :: else
        fi
    };
    atomic {
        if
        :: (state & LIVE) == 0 && (state & (UNTAGGED | TAGGED)) == 0 ->
            store((state & ~QUEUED) | UNTAGGED);
            drop_waiting(l);
            put_waiting(l, true)
        :: else
        fi
    };
    /* T4: the limit may be passed, or not. */
    if
    :: waiting == l && untagged_list ->
        atomic {
            if
            :: (state & LIVE) == 0 -> store(state | TAKEN)
            :: else
            fi
        };
        advance(T4);
        atomic { tag_taken(l, T4); check(l); release(l) }
    :: true -> atomic { check(l); release(l) }
    fi
}

/* page_settle(): l is the process's own */
inline settle()
{
    do
    :: l = belongs;
#ifdef MUTANT_SETTLE_BLIND
        acquire(l);
        place(l);
        break
#else
        if
        :: atomic { with(l) && (state & TAG) == of(l) -> lock[l] = true };
            place(l);
            break
        :: with(l) && (state & TAG) == 0 -> break
        :: with(l) && (state & TAG) != of(l) && (state & TAG) != 0
        fi
#endif
    od;
    l = 0
}

/* page_give(): after the CAS that left `s` */
#define must_settle(s, flag) (((s) & flag) == 0 || (((s) & LIVE) == 0 && ((s) & UNTAGGED) == 0))

/* ---- owners ---- */

inline served()
{
    spare--;
    in_use++
}

/* page_ready() and take_block(), with the lock: a block is served; or there is none, and the
 * page is off its class's list (unlist) or spent (put_spent); or the blocks of a spent page
 * have become free again (their goals are qsbr.pml's business). */
inline slow_path(l)
{
    if
    :: (state & READY) != 0 && spare != 0 -> store((state & ~PHASE) + 1); served()
    :: (state & READY) != 0 && spare == 0 && newer == 0 && (state & FOREIGN) == 0 &&
       (state & LIVE) != 0 ->
#ifdef MUTANT_UNLISTED_WAITS
        state = state & ~(LISTED | READY);
        drop(l)
#else
        store(state & ~FLAGS);
        drop(l);
        drop_waiting(l)
#endif
    :: (state & READY) != 0 && spare == 0 &&
       (newer != 0 || (state & FOREIGN) != 0 || (state & LIVE) == 0) ->
        store(state & ~READY);
        drop(l);
        put(l)
    :: (state & (READY | LISTED)) == LISTED ->
        spare = spare + newer + ((state & FOREIGN) >> 2);
        newer = 0;
        store((state & ~FOREIGN) | READY);
        drop(l);
        put(l)
    :: (state & LISTED) == 0
    fi
}

/* page_start() */
inline start(l)
{
    spare = BLOCKS;
    newer = 0;
    belongs = l;
    store(of(l) | LISTED | READY);
    put(l);
    check(l)
}

proctype owner(byte me)
{
    short s;
    byte l, w;
again:
    do
    /* page_alloc() */
    :: atomic { (state & TAG) == of(me) && spare != 0 -> s = state };
        atomic {
            if
#ifdef MUTANT_PHASE_STAYS
            :: state == s -> store(s + 1)
#else
            :: state == s -> store((s & ~PHASE) + 1)
#endif
            :: else -> s = 0
            fi
        };
        if
        :: s != 0 -> assert((state & TAG) == of(me)); atomic { served(); s = 0 }
        :: else
        fi
    /* page_alloc_slow() */
    :: atomic { with(me) && (state & TAG) == of(me) -> slow_path(me); check(me) }
    /* page_fresh(), and the block that the page was needed for, if it is not gone by then */
    :: atomic { pooled && with(me) -> pooled = false; busy++; start(me) };
        atomic {
            with(me) ->
            if
            :: (state & TAG) == of(me) -> store((state & ~PHASE) + 1); served()
            :: else
            fi;
            busy--
        }
    /* page_give() of its own: a retirement, or freed at once */
    :: atomic { (state & TAG) == of(me) && in_use != 0 -> in_use--; busy++ };
        if
        :: newer++; w = LISTED
        :: spare++; w = READY
        fi;
        atomic { store(state - 1); s = state };
        if
        :: must_settle(s, w) -> goto settling
        :: else -> busy--
        fi;
        atomic { s = 0; w = 0 }
#ifdef ADOPT
    :: me == 1 -> ended = true; goto over
    /* page_adopt(), hand_over() */
    :: atomic {
            me == 2 && ended && with(1) && listed == 1 && (state & LIVE) != 0 ->
            assert((state & TAG) == of(1));
            lock[1] = true;
            busy++;
            store((state & (LIVE | FOREIGN)) | of(2));
            drop(1);
            drop_waiting(1)
        };
        belongs = 2;
        atomic { check(1); release(1) };
        goto settling
#endif
    od;
settling:
    settle();
    atomic { busy--; s = 0; w = 0 };
    goto again;
over:
    skip
}

/* ---- threads that retire ---- */

active [RETIRERS] proctype retirer()
{
    short s;
    byte l;
    do
    :: atomic { in_use != 0 -> in_use--; busy++ };
        atomic { store(state + ONE_FOREIGN - 1); s = state };
        if
#ifdef MUTANT_EMPTY_NOT_SETTLED
        :: (s & LISTED) == 0 -> settle()
#else
        :: must_settle(s, LISTED) -> settle()
#endif
        :: else
        fi;
        atomic { busy--; s = 0 }
    od
}

/* ---- one that collects ---- */

/* take_reached(), the goal is reached; a page that is taken away is the pool's. */
inline take_reached(l)
{
    if
    :: waiting == l && !untagged_list && (state & LIVE) != 0 ->
        store(state & ~QUEUED);
        drop_waiting(l)
    :: waiting == l && !untagged_list && (state & LIVE) == 0 && (state & TAGGED) == 0 ->
        store((state & ~QUEUED) | UNTAGGED);
        drop_waiting(l);
        put_waiting(l, true)
    :: waiting == l && !untagged_list && (state & LIVE) == 0 && (state & TAGGED) != 0 ->
        assert(untouched[tagged_by] && in_use == 0);
        store(0);
        drop_waiting(l);
        drop(l);
        pooled = true
    :: else
    fi
}

/* tag_several(), each local twice with an advance in between; reclaim(). */
active proctype collector()
{
    do
    ::
#ifdef MUTANT_TAG_EARLY
        advance(COLLECTOR);
#endif
        atomic { with(1) -> take_waiting(1); check(1) };
#if OWNERS == 2
        atomic { with(2) -> take_waiting(2); check(2) };
#endif
#ifndef MUTANT_TAG_EARLY
        advance(COLLECTOR);
#endif
        atomic { with(1) -> tag_taken(1, COLLECTOR); check(1) };
#if OWNERS == 2
        atomic { with(2) -> tag_taken(2, COLLECTOR); check(2) };
#endif
        atomic { with(1) -> take_reached(1); check(1) };
#if OWNERS == 2
        atomic { with(2) -> take_reached(2); check(2) };
#endif
        assert(is_found)
    od
}

init
{
    atomic {
        run owner(1);
#if OWNERS == 2
        run owner(2)
#endif
    }
}
