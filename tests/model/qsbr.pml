/* Sections, advance and poll (src/qsbr/qsbr.c) over store buffers: does a reader ever
 * hold what a writer frees?  README.md says what is modelled and what is not.
 *
 * A thread's plain stores go into a buffer of its own, first in, first out, and the
 * process `memory` makes them visible whenever it likes.  A read-modify-write and a
 * fence wait until the own buffer is empty; membarrier waits for every thread's in
 * turn, in any order.  Loads are where they stand in the program, unless a mutant says
 * that the processor or the compiler may move one: then the reader does it there.
 *
 * From the load of a pointer to the exit a reader may follow it at any moment, so the
 * property (Q1) is checked at both ends: what is loaded is not freed yet, and what is
 * freed is held by nobody.  Sequences are a byte, odd, and begin just before the wrap.
 *
 * Configuration, by -D:
 *   MEMBARRIER or FENCE   the barrier (Q12)
 *   READERS, SECTIONS     how many, and how often each comes (a reader is one record)
 *   ROUNDS                objects that each writer replaces
 *   LATE                  so many readers register meanwhile, and unregister
 *   FENCED                polls below a finished barrier's sequence go without one
 *   BATCH                 the writers are a retire queue's owner, and a thread that takes
 *                         its open batch (retire.c); they replace two objects
 * Mutants: each a MUTANT_ macro; test_promela.py says where each is found.
 */
#ifndef READERS
#define READERS 2
#endif
#ifndef SECTIONS
#define SECTIONS 1
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef LATE
#define LATE 0
#endif
#if defined(MEMBARRIER) == defined(FENCE)
#error one of MEMBARRIER and FENCE
#endif

#define OFFLINE 0
#define START 253
#define STEP(seq) (((seq) + 2) & 255)
#define before(a, b) ((((a) - (b)) & 128) != 0)

/* Objects are numbered from 1; writer w replaces object w + 1 in slot w by w + 3 and so
 * on, the last of them by nothing, 0. */
#define OBJECTS (2 * ROUNDS)

byte wr_seq = START, rd_seq = START, fenced = START;
byte rec_seq[READERS];
byte registered = READERS - LATE;
byte chunks = (1 << READERS) - (1 << LATE); /* the records that a scan finds, a bit each */
byte slot[2] = {1, 2};
bool freed[OBJECTS + 1];
byte hold[READERS + 2]; /* what a reader may follow: see above; writers hold nothing */

/* What mutants allow a load to be late for: a section's loads that are not done. */
#if defined(MUTANT_RELAXED_EXIT) || defined(MUTANT_RELAXED_ENTER)
#define LOADS_MAY_BE_LATE
bool late[READERS + 2];
#endif

chan seq_buffer[READERS] = [2 * SECTIONS] of { byte }; /* readers store nothing else */
#define OPEN 2 /* beside the slots 0 and 1, for BATCH */
chan slot_buffer[2] = [2] of { byte, byte }; /* place and value */

#ifdef BATCH
byte open;                                /* the open batch: a bit for each object in it */
chan closed = [4] of { byte, byte };      /* goal and batch: pushed and taken by RMWs */
#endif

inline load_pointer()
{
    atomic {
        if
        :: hold[_pid] = slot[0]
        :: hold[_pid] = slot[1]
        fi;
        assert(!freed[hold[_pid]])
    }
}

inline store_seq(value)
{
    seq_buffer[_pid]!value
}

/* Between the enter store and the first load. */
inline barrier_light()
{
#if defined(FENCE) && !defined(MUTANT_NO_LIGHT_BARRIER)
    empty(seq_buffer[_pid])
#else
    skip
#endif
}

inline enter_and_load()
{
#if defined(MUTANT_RELAXED_SEQ_LOAD)
    load_pointer(); /* before the sequence is loaded */
    s = wr_seq;
    atomic { store_seq(s); s = 0 };
#elif defined(MUTANT_NO_LIGHT_BARRIER) && defined(MEMBARRIER)
    s = wr_seq;
    if /* as the compiler likes */
    :: atomic { store_seq(s); s = 0 };
        load_pointer()
    :: load_pointer();
        atomic { store_seq(s); s = 0 }
    fi;
#else
    s = wr_seq;
    atomic { store_seq(s); s = 0 };
    barrier_light();
    load_pointer();
#endif
}

inline exit()
{
#ifdef MUTANT_RELAXED_EXIT
    atomic { store_seq(OFFLINE); late[_pid] = true };
    atomic { hold[_pid] = 0; late[_pid] = false; left-- }
#else
    atomic { hold[_pid] = 0; store_seq(OFFLINE); left-- }
#endif
}

active [READERS] proctype reader()
{
    byte s, left = SECTIONS;
#if LATE
    if
    :: _pid < LATE ->
#ifdef MUTANT_NO_REGISTER_FENCE
        load_pointer(); /* an acquire-release RMW lets it pass */
#endif
        chunks = chunks | (1 << _pid);
        registered++
    :: else
    fi;
#ifdef MUTANT_NO_REGISTER_FENCE
    s = wr_seq;
    atomic { store_seq(s); s = 0 };
    goto inside;
#endif
#endif
    do
    :: left > 0 ->
        enter_and_load();
#ifdef MUTANT_NO_REGISTER_FENCE
inside:
#endif
#ifdef MUTANT_RELAXED_ENTER
        /* The next section's enter store may be visible before this section's loads are
         * done; the exit's, which would have waited for them, is overwritten unseen. */
        if
        :: left > 1 ->
            s = wr_seq;
            atomic { store_seq(s); s = 0; late[_pid] = true };
            atomic { hold[_pid] = 0; late[_pid] = false };
            left--;
            barrier_light();
            load_pointer()
        :: skip
        fi;
#endif
        exit()
    :: else -> break
    od;
#if LATE
    if
    :: atomic {
            _pid < LATE && empty(seq_buffer[_pid]) ->
            chunks = chunks & ~(1 << _pid);
            registered--
        }
    :: _pid >= LATE
    fi
#endif
}

/* ---- writers: w is the number; sequences and the like are the process's own ---- */

#define w (_pid - READERS)
#define OTHERS (((1 << (READERS + 2)) - 1) & ~(1 << _pid))

/* A full barrier in one thread: what it has stored is visible, what it loads is done. */
#define INTERRUPT(p, buffer)                                                                   \
    atomic {                                                                                   \
        (todo & (1 << (p))) && empty(buffer) ->                                                \
            todo = todo & ~(1 << (p));                                                         \
            LOADS_ARE_DONE(p)                                                                  \
    }
#ifdef LOADS_MAY_BE_LATE
#define LOADS_ARE_DONE(p) hold[p] = (late[p] -> 0 : hold[p])
#else
#define LOADS_ARE_DONE(p)
#endif

inline advance(goal)
{
    atomic { empty(slot_buffer[w]) -> wr_seq = STEP(wr_seq); goal = wr_seq }
}

/* The lowest sequence of a section under way, or `seq`. */
inline scan(lowest)
{
    atomic { lowest = seq; seen = chunks };
    do
    :: atomic {
        if
        :: (seen & (1 << i)) && rec_seq[i] != OFFLINE && before(rec_seq[i], lowest) ->
            lowest = rec_seq[i]
        :: else
        fi;
        i++;
        if
        :: i == READERS -> i = 0; seen = 0; break
        :: else
        fi
    }
    od
}

/* (A CAS that is tried until the value is not lower is one step here.) */
inline raise_fenced()
{
#ifdef FENCED
    fenced = (before(fenced, seq) -> seq : fenced)
#else
    skip
#endif
}

inline barrier_heavy()
{
#if defined(MEMBARRIER) && !defined(MUTANT_NO_HEAVY_BARRIER)
    todo = OTHERS;
    do
    :: INTERRUPT(0, seq_buffer[0])
#if READERS > 1
    :: INTERRUPT(1, seq_buffer[1])
#endif
#if READERS > 2
    :: INTERRUPT(2, seq_buffer[2])
#endif
    :: INTERRUPT(READERS, slot_buffer[0])
    :: INTERRUPT(READERS + 1, slot_buffer[1])
    :: todo == 0 -> break
    od
#else
    skip /* what stands before it in any case is a fence */
#endif
}

/* fence() of qsbr.c: a sequence, and after it a barrier.  The fence before the look at `registered` has
 * nothing to wait for: every poll comes after a read-modify-write. */
inline fence_all()
{
#ifdef MUTANT_FENCED_TOO_EARLY
    seq = wr_seq;
    raise_fenced();
    barrier_heavy()
#elif defined(MUTANT_LOAD_AFTER_BARRIER)
    barrier_heavy();
    seq = wr_seq;
    raise_fenced()
#elif defined(MUTANT_BARRIER_LEFT_OUT_OFFLINE)
    seq = wr_seq;
    scan(lowest);
    if
    :: lowest != seq -> barrier_heavy()
    :: else
    fi;
    raise_fenced()
#else
    seq = wr_seq;
#if LATE
    if
    :: registered > 0 -> barrier_heavy()
    :: registered == 0
    fi;
#else
    barrier_heavy();
#endif
    raise_fenced()
#endif
}

inline scan_and_raise(goal)
{
#if defined(MUTANT_NO_HEAVY_BARRIER) && defined(FENCE)
    lowest = early;
#else
    scan(lowest);
#endif
    atomic {
        reached = !before(lowest, goal) || !before(rd_seq, goal);
        rd_seq = (before(rd_seq, lowest) -> lowest : rd_seq);
        lowest = 0
    }
}

/* qsbr_poll and qsbr_wait, as often as the thread likes; result in `reached`. */
inline poll(goal)
{
    do
    :: atomic { !before(rd_seq, goal) -> reached = true; break } /* goal_reached */
    :: before(rd_seq, goal) ->
#ifdef FENCED
        if
#ifdef MUTANT_FENCED_SCANS_TOO_FAR
        :: !before(fenced, goal) -> seq = wr_seq
#else
        :: atomic { !before(fenced, goal) -> seq = fenced }
#endif
        :: before(fenced, goal) -> fence_all()
        fi;
#else
        fence_all();
#endif
again:
        scan_and_raise(goal);
        atomic {
            if
            :: reached -> seq = 0; break
            :: !reached -> goto again /* qsbr_wait */
            :: !reached -> seq = 0
            :: !reached -> seq = 0; break
            fi
        }
    od
}

inline free_object(x)
{
    atomic {
        assert(!freed[x]);
        assert(hold[0] != x);
#if READERS > 1
        assert(hold[1] != x);
#endif
#if READERS > 2
        assert(hold[2] != x);
#endif
        freed[x] = true
    }
}

#ifndef BATCH

active [2] proctype writer()
{
    byte round, goal, seq, lowest, todo, seen, i;
    bool reached;
#if defined(MUTANT_NO_HEAVY_BARRIER) && defined(FENCE)
    byte early;
#endif
    do
    :: round < ROUNDS ->
        atomic {
            round++;
            slot_buffer[w]!w, (round < ROUNDS -> w + 1 + 2 * round : 0)
        };
#if defined(MUTANT_NO_HEAVY_BARRIER) && defined(FENCE)
        /* Without a fence the scan's loads may come between the load and the store of
         * the RMW below, before which the unlink need not be visible. */
        atomic { seq = STEP(wr_seq); scan(early); seq = 0 };
#endif
#ifdef MUTANT_GOAL_NOT_ADDED
        if
        :: w == 0 -> goal = STEP(wr_seq)
        :: w == 1 -> advance(goal) /* so that it is reached some day */
        fi;
#else
        advance(goal);
#endif
#ifdef MUTANT_FREE_AT_ONCE
        reached = true;
#else
        poll(goal);
#endif
        if
        :: reached -> free_object(w - 1 + 2 * round); reached = false
        :: else
        fi;
        goal = 0
    :: else -> break
    od
}

#else /* BATCH */

inline close_batch()
{
#ifndef MUTANT_TAG_BEFORE_LAST_ITEM
    advance(goal);
#endif
    atomic { empty(slot_buffer[w]) -> closed!goal, batch; goal = 0; batch = 0 }
}

inline process_closed()
{
    do
    :: atomic { empty(slot_buffer[w]) && nempty(closed) -> closed?goal, batch };
        poll(goal);
        if
        :: reached ->
            if
            :: batch & 1 -> free_object(1)
            :: else
            fi;
            if
            :: batch & 2 -> free_object(2)
            :: else
            fi;
            reached = false
        :: else -> closed!goal, batch; break
        fi
    :: break
    od
}

/* reserve, unlink, retire, commit; twice, then a safe point. */
active proctype owner()
{
    byte n, batch, goal, seq, lowest, todo, seen, i;
    bool reached;
    do
    :: n < 2 ->
        atomic { empty(slot_buffer[w]) -> batch = open; open = 0 };
#ifdef MUTANT_TAG_BEFORE_LAST_ITEM
        advance(goal);
#endif
        atomic { slot_buffer[w]!n, 0; batch = batch | (1 << n); n++ };
        if /* by the batch's size */
        :: close_batch()
        :: atomic { slot_buffer[w]!OPEN, batch; batch = 0; goal = 0 }
        fi
    :: else -> break
    od;
    process_closed()
}

/* A safe point of another thread. */
active proctype taker()
{
    byte batch, goal, seq, lowest, todo, seen, i;
    bool reached;
#ifdef MUTANT_GOAL_BEFORE_BATCH
    advance(goal);
#endif
    atomic { batch = open; open = 0 };
    if
    :: batch != 0 ->
#ifdef MUTANT_GOAL_BEFORE_BATCH
        closed!goal, batch
#else
        close_batch()
#endif
    :: else
    fi;
    process_closed()
}

#endif

inline make_visible()
{
    if
#ifdef BATCH
    :: place == OPEN -> open = value
    :: else -> slot[place] = value
#else
    :: slot[place] = value
#endif
    fi;
    place = 0;
    value = 0
}

active proctype memory()
{
    byte place, value;
end:
    do
    :: seq_buffer[0]?rec_seq[0]
#if READERS > 1
    :: seq_buffer[1]?rec_seq[1]
#endif
#if READERS > 2
    :: seq_buffer[2]?rec_seq[2]
#endif
    :: atomic { slot_buffer[0]?place, value -> make_visible() }
#ifndef BATCH /* the taker has nothing to store */
    :: atomic { slot_buffer[1]?place, value -> make_visible() }
#endif
    od
}
