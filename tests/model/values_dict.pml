/* A key's word, its readers, and objects that die at once (src/containers/keytable.c, K8):
 * does a reader ever return what the map did not hold while it read, or an object that is
 * freed?  README.md says what is modelled and what is not, objects.inc what an object is.
 *
 * There is one key, with one word in each table.  All threads go on for ever.  Addresses are
 * used again, and so are tables, once all sections are over that began before the table was
 * replaced.
 *
 * Each step is one load, one store or one read-modify-write.  A store buffer would add
 * nothing.  The plain stores (`frozen`, `next`, the published pointer, the copies in a table
 * that is being made) are made with the lock, under which only its owner acts on them.  They
 * become visible in order, and the next lock, exchange or drop, a read-modify-write, waits
 * for them.
 *
 * Configuration, by -D: READERS, ASSIGNERS, LOCKERS, ADDRESSES; GIVEN: an assignment may
 * store an object that another thread has, too.
 * Mutants: each a MUTANT_ macro; promela.py says where each is found.
 */
#ifndef READERS
#define READERS 1
#endif
#ifndef ASSIGNERS
#define ASSIGNERS 1
#endif
#ifndef LOCKERS
#define LOCKERS 1
#endif
#define TABLES 3
#define ME (_pid - 1) /* the stranger is 0 */

#include "objects.inc"

#define DELETED (ADDRESSES + 1)
#define MOVED (ADDRESSES + 2)
#define NONE TABLES

byte word[TABLES];
byte next[TABLES] = NONE;
byte published;
byte cleared;        /* tables that a clear has replaced */
byte pinned[TABLES]; /* threads for which a replaced table's memory waits */
byte waited;         /* assigners whose sections a freeze waits for */
bool lock, frozen;   /* the map's */

#define now (word[published] == MOVED -> word[next[published]] : word[published])

inline acquire_lock()
{
    atomic { !lock -> lock = true }
}

/* ---- sections, and the memory of tables ---- */

inline unpin(x, threads)
{
    pinned[x] = pinned[x] & ~(threads);
    if
    :: pinned[x] == 0 && x != published -> word[x] = EMPTY; next[x] = NONE
    :: else
    fi
}

inline exit_section()
{
    inside = inside & ~bit(ME);
    waited = waited & ~bit(ME);
    if
    :: pinned[0] & bit(ME) -> unpin(0, bit(ME))
    :: else
    fi;
    if
    :: pinned[1] & bit(ME) -> unpin(1, bit(ME))
    :: else
    fi;
    if
    :: pinned[2] & bit(ME) -> unpin(2, bit(ME))
    :: else
    fi
}

/* ---- what writers tell the property ---- */

/* An assignment may still store into a table that a clear has replaced: it began before the
 * clear, and takes effect just before it.  Only readers that began before the clear, too, may
 * see it. */
#define sees(r, x) ((inside & bit(r)) && (!(cleared & bit(x)) || (pinned[x] & bit(r))))

inline has_stored(x, value)
{
    seen[0] = seen[0] | (sees(0, x) -> bit(value) : 0);
#if READERS > 1
    seen[1] = seen[1] | (sees(1, x) -> bit(value) : 0);
#endif
    changed = changed | readers_inside
}

inline has_removed()
{
    missing = missing | readers_inside;
    changed = changed | readers_inside
}

/* ---- readers ---- */

active [READERS] proctype reads()
{
    byte t, w;
    do
    :: atomic { true ->
            busy++;
            inside = inside | bit(ME);
            t = published;
            w = now;
            changed = changed & ~bit(ME);
            seen[ME] = (is_live(w) -> bit(w) : 0);
            missing = (is_live(w) -> missing & ~bit(ME) : missing | bit(ME));
            w = 0
        };
        do
        :: atomic { word[t] == MOVED -> t = next[t] }
        :: atomic { word[t] != MOVED -> w = word[t]; break }
        od;
        if
        :: atomic { !is_live(w) ->
               assert(missing & bit(ME));
               exit_section();
               goto done
           }
        :: is_live(w)
        fi;
#ifdef MUTANT_LOOK_BEFORE_TRY
        if
        :: word[t] == w
        :: atomic { word[t] != w -> exit_section(); goto done }
        fi;
#endif
#ifdef MUTANT_INCREF_NOT_TRY
        atomic { assert(count[w] != 0); count[w]++ };
#else
        if
        :: atomic { count[w] != 0 && (may_try & bit(w)) -> count[w]++ }
        :: atomic { count[w] == 0 || !(may_try & bit(w)) ->
               assert(changed & bit(ME));
               exit_section();
               w = 0;
               goto done
           }
        fi;
#endif
        if
#if defined(MUTANT_NO_SECOND_LOOK) || defined(MUTANT_LOOK_BEFORE_TRY)
        :: atomic { true ->
#else
        :: atomic { word[t] == w ->
#endif
               assert(count[w] != 0 && (seen[ME] & bit(w)));
               hold[ME] = w;
               exit_section()
           }
#if !defined(MUTANT_NO_SECOND_LOOK) && !defined(MUTANT_LOOK_BEFORE_TRY)
        :: atomic { word[t] != w -> assert(changed & bit(ME)); exit_section() };
#ifdef MUTANT_NOT_LET_GO
            w = 0;
#else
            drop(w);
#endif
            goto done
#endif
        fi;
        atomic { hold[ME] = 0; drop(w) };
done:
        atomic {
            t = 0;
            w = 0;
            seen[ME] = 0;
            missing = missing & ~bit(ME);
            changed = changed & ~bit(ME);
            busy--
        }
    od
}

/* ---- assignments: K2, and with the lock where that cannot be done ---- */

active [ASSIGNERS] proctype assigns()
{
    byte t, w, value;
    do
    :: atomic { true ->
            busy++;
            if
            :: true -> allocate(value)
#ifdef GIVEN
            :: elsewhere != 0 -> value = elsewhere; count[value]++
#endif
            fi;
            if
            :: value == 0 -> goto done
            :: else
            fi;
#if !defined(MUTANT_NO_TRY_ENABLE) && !defined(MUTANT_ENABLED_TOO_LATE)
            enable(value)
#endif
        };
        atomic { inside = inside | bit(ME); t = published };
again:
        do
        :: atomic { word[t] == MOVED -> t = next[t] }
        :: atomic { word[t] != MOVED -> w = word[t]; break }
        od;
        if
        :: atomic { !is_live(w) || frozen -> exit_section(); goto with_lock }
        :: is_live(w) && !frozen
        fi;
        if
        :: atomic { word[t] == w -> word[t] = value; has_stored(t, value); exit_section() };
            goto stored
        :: atomic { word[t] != w -> w = 0; goto again }
        fi;
with_lock:
        acquire_lock();
        t = published;
        atomic {
            w = word[t];
            if
            :: w == DELETED -> w = value /* a new entry would be needed: not modelled */
            :: else -> word[t] = value; has_stored(t, value)
            fi
        };
        lock = false;
stored:
#ifdef MUTANT_ENABLED_TOO_LATE
        enable(value);
#endif
        atomic {
            t = 0;
            value = 0;
            if
            :: w == EMPTY -> goto done
            :: else
            fi
        };
        drop(w);
done:
        busy--
    od
}

/* ---- what takes the lock ---- */

inline publish(replaced, made, threads)
{
    published = made;
    pinned[replaced] = threads
}

inline grow()
{
    next[t] = n;
    do
    :: w = word[t];
        if
        :: !is_live(w) -> break
#ifdef MUTANT_MOVED_NOT_SAID
        :: is_live(w) -> word[n] = w; break
#else
        :: is_live(w) -> word[n] = w;
            if
            :: atomic { word[t] == w -> word[t] = MOVED; changed = changed | readers_inside; break }
            :: word[t] != w
            fi
#endif
        fi
    od;
    atomic {
        w = 0;
        changed = changed | readers_inside;
        publish(t, n, inside);
        unpin(t, 0);
        lock = false
    }
}

inline clear()
{
    atomic { frozen = true; waited = inside & ~(bit(READERS) - 1) };
    atomic {
        waited == 0 ->
        has_removed();
        cleared = cleared | bit(t);
        publish(t, n, inside | bit(ME))
    };
    frozen = false;
    lock = false;
#ifdef MUTANT_DROP_BEFORE_DELETED
    w = word[t];
    if
    :: is_live(w) -> drop(w)
    :: else
    fi;
    atomic { word[t] = DELETED; changed = changed | readers_inside };
#elif defined(MUTANT_DELETED_NOT_EXCHANGED)
    w = word[t];
    atomic { word[t] = DELETED; changed = changed | readers_inside };
#else
    atomic { w = word[t]; word[t] = DELETED; changed = changed | readers_inside };
#endif
    atomic { cleared = cleared & ~bit(t); unpin(t, bit(ME)) };
    if
    :: is_live(w) -> drop(w)
    :: else -> w = 0
    fi
}

inline delete()
{
    w = word[t];
#ifdef MUTANT_DELETION_DROPS_FIRST
    if
    :: is_live(w) -> drop(w)
    :: else
    fi;
#endif
    if
    :: !is_live(w)
    :: atomic { is_live(w) -> w = word[t]; word[t] = DELETED; has_removed() }
    fi;
    lock = false;
    if
    :: is_live(w) -> drop(w)
    :: else -> w = 0
    fi
}

active [LOCKERS] proctype writes()
{
    byte t, n, w;
    do
    :: atomic { !lock -> lock = true; busy++; t = published };
        if
        :: delete()
        :: atomic {
            n = (t + 1) % TABLES;
            if
            :: pinned[n] == 0
            :: pinned[n] != 0 -> lock = false; goto done /* another time */
            fi
        };
            if
            :: grow()
            :: clear()
            fi
        fi;
done:
        atomic { t = 0; n = 0; busy-- }
    od
}

/* When no thread has a reference, the map's are all there are: none leaked, none was dropped
 * twice. */
active proctype counts()
{
    do
    :: atomic {
        busy == 0 ->
        assert(count[1] == (now == 1 -> 1 : 0));
        assert(count[2] == (now == 2 -> 1 : 0))
#if ADDRESSES > 2
        ;
        assert(count[3] == (now == 3 -> 1 : 0))
#endif
    }
    od
}
