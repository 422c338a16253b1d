/* Slots of a key table that are used again (src/containers/keytable.h, K1): does a reader ever
 * miss a key that is there, or find one that is not, and does a key ever go in twice?
 * README.md lists what is modelled and what is not.
 *
 * `now` is the map's value of each key.  It changes in the step by which an operation takes
 * effect, as in moved.pml: every word that a reader finds is compared with it, and a key that a
 * reader misses must have been absent at some moment since that reader began.  An insertion
 * takes effect by its store of the slot; the key must be absent then.
 *
 * All keys have the same hash and so one probe sequence, slots 0 to SLOTS - 1.  Key 1 is there
 * throughout; 0 and 2 come and go.  Entries are numbered as they are inserted and never reused.
 * The holder of the lock reads in one step whatever only holders of the lock write.
 *
 * Configuration, by -D: TABLES (one more than growths), READERS, OPS (of both writers together).
 * Mutants: each a MUTANT_ macro; promela.py says where each is found.
 */
#ifndef TABLES
#define TABLES 1
#endif
#ifndef READERS
#define READERS 1
#endif
#ifndef OPS
#define OPS 4
#endif

#define KEYS 3
#define STAYS 1
#define SLOTS 3
#define ENTRIES (2 + OPS)

/* Slots; above: an entry's number and TAKEN. */
#define EMPTY 0
#define DUMMY 1
#define TAKEN 2
#define SECOND_TAKEN 3
/* Words */
#define ABSENT 0 /* in `now` */
#define DELETED 1
#define MOVED 2
#define FIRST 3 /* and SECOND: live */
#define SECOND 4
#define is_live(x) ((x) >= FIRST)

byte slot[TABLES * SLOTS] = {TAKEN, SECOND_TAKEN, EMPTY};
byte keys[TABLES * ENTRIES] = {0, STAYS, 0};
byte word[TABLES * ENTRIES] = {FIRST, FIRST, ABSENT};
#if TABLES == 1
byte used[TABLES] = 2;
#else
byte used[TABLES] = {2, 0};
#endif
byte table; /* the map's */
bool lock;  /* the map's */
byte ops;
byte now[KEYS] = {FIRST, FIRST, ABSENT};
byte wanted[READERS];     /* each reader's key */
bool was_absent[READERS]; /* that key, at a moment since the reader began */

#define SLOT (t * SLOTS + i)
#define ENTRY(v) (t * ENTRIES + (v) - TAKEN)

inline is_absent(k)
{
    now[k] = ABSENT;
    was_absent[0] = was_absent[0] || wanted[0] == k;
#if READERS > 1
    was_absent[1] = was_absent[1] || wanted[1] == k;
#endif
}

/* In a section: t, i, v, w and key are the process's own.  Ends with a live word in w, and the
 * slot's number and value in i and v; or with ABSENT. */
inline find(reads)
{
    i = 0;
    do
    :: i < SLOTS ->
        v = slot[SLOT];
        if
#ifdef MUTANT_READER_STOPS_AT_DUMMY
        :: v == DUMMY -> w = ABSENT; break
#else
        :: v == DUMMY -> i++
#endif
        :: v == EMPTY -> w = ABSENT; break
        :: v >= TAKEN && keys[ENTRY(v)] != key -> i++
        :: v >= TAKEN && keys[ENTRY(v)] == key ->
            atomic {
                w = word[ENTRY(v)];
                assert(!reads || !is_live(w) || w == now[key])
            };
            if
            :: w == DELETED -> i++
#if TABLES > 1
            :: w == MOVED -> atomic { t++; i = 0 }
#endif
            :: is_live(w) -> break
            fi
        fi
    :: else -> w = ABSENT; break
    od
}

/* ---- readers ---- */

active [READERS] proctype reader()
{
    byte t, i, v, w, key;
    atomic {
        if
        :: key = 0
        :: key = STAYS
        fi;
        wanted[_pid] = key;
        was_absent[_pid] = (now[key] == ABSENT);
        t = table
    };
    find(true);
    assert(is_live(w) || was_absent[_pid])
}

/* ---- writers ---- */

inline acquire_lock()
{
    atomic { !lock -> lock = true }
}

/* With the lock, keytable_place(): the first free slot in `place`; `again` if an entry was
 * inserted since the look began that has the key (for others the writer compares and goes on). */
inline look_again()
{
    d_step {
        i = 0;
        place = SLOTS;
        again = false;
        do
        :: i < SLOTS ->
            v = slot[SLOT];
            if
            :: v < TAKEN && place == SLOTS -> place = i
            :: else
            fi;
#ifndef MUTANT_PLACE_BLIND
            if
            :: v >= TAKEN && v - TAKEN >= compared && keys[ENTRY(v)] == key -> again = true
            :: else
            fi;
#endif
            i++
        :: else -> break
        od;
        i = 0;
        v = 0
    }
}

/* keytable_insert() */
inline insert()
{
    i = place;
    n = used[t];
#ifdef MUTANT_ENTRY_REUSED
    if
    :: slot[SLOT] == DUMMY -> n = 0 /* which had key 0 */
    :: else
    fi;
#endif
    atomic {
        keys[t * ENTRIES + n] = key;
        word[t * ENTRIES + n] = FIRST
    };
#ifdef MUTANT_USED_BEFORE_SLOT
    used[t] = n + 1;
#endif
    atomic {
        assert(now[key] == ABSENT);
        slot[SLOT] = n + TAKEN;
        now[key] = FIRST
    };
#if !defined(MUTANT_USED_BEFORE_SLOT) && !defined(MUTANT_ENTRY_REUSED)
    used[t] = n + 1
#else
    skip
#endif
}

/* d[key] = value: looks without the lock, assigns by a CAS if the key is there (K2). */
inline set()
{
    t = table;
#ifndef MUTANT_USED_AFTER_LOOK
    compared = used[t];
#endif
    seen = t;
    find(false);
#ifdef MUTANT_USED_AFTER_LOOK
    compared = used[t];
#endif
    if
    :: is_live(w) ->
        atomic {
            if
            :: word[ENTRY(v)] == w ->
                assert(w == now[key]);
                word[ENTRY(v)] = FIRST + SECOND - w;
                now[key] = word[ENTRY(v)]
            :: else
            fi
        }
    :: w == ABSENT ->
        acquire_lock();
        t = table;
#if TABLES > 1 && !defined(MUTANT_USED_OF_ANOTHER_TABLE)
        if
        :: seen != t -> compared = 0
        :: else
        fi;
#endif
        look_again();
        if
        :: again
        :: !again && place < SLOTS -> insert()
        :: !again && place == SLOTS /* the model's table is full */
        fi;
        lock = false
    fi
}

/* del d[key]: looks without the lock; with it the entry is known by its word. */
inline delete()
{
    t = table;
    find(false);
    if
    :: is_live(w) ->
        acquire_lock();
        if
#ifdef MUTANT_DELETION_BY_SLOT
        :: t == table && slot[SLOT] >= TAKEN ->
#else
        :: t == table && is_live(word[ENTRY(v)]) ->
#endif
            atomic {
                w = word[ENTRY(v)];
                word[ENTRY(v)] = DELETED;
                assert(w == now[key]);
                is_absent(key)
            };
#ifdef MUTANT_DELETION_EMPTIES
            slot[SLOT] = EMPTY
#else
            slot[SLOT] = DUMMY
#endif
        :: else
        fi;
        lock = false
    :: w == ABSENT
    fi
}

#if TABLES > 1
/* In one step: moved.pml is about the steps. */
inline grow()
{
    acquire_lock();
    t = table;
    d_step {
        if
        :: t < TABLES - 1 ->
            i = 0;
            do
            :: i < ENTRIES ->
                if
                :: i < used[t] && is_live(word[t * ENTRIES + i]) ->
                    n = used[t + 1];
                    keys[(t + 1) * ENTRIES + n] = keys[t * ENTRIES + i];
                    word[(t + 1) * ENTRIES + n] = word[t * ENTRIES + i];
                    slot[(t + 1) * SLOTS + n] = n + TAKEN;
                    used[t + 1] = n + 1;
                    word[t * ENTRIES + i] = MOVED
                :: else
                fi;
                i++
            :: else -> break
            od;
            table = t + 1
        :: else
        fi;
        i = 0;
        n = 0
    };
    lock = false
}
#endif

active [2] proctype writer()
{
    byte t, i, v, w, key, n, compared, place, seen;
    bool again;
    do
    :: atomic {
        ops < OPS ->
        ops++;
        if
        :: key = 0
        :: key = 2
        fi
    };
        if
        :: set()
        :: delete()
#if TABLES > 1
        :: grow()
#endif
        fi;
        d_step { t = 0; i = 0; v = 0; w = 0; key = 0; n = 0; compared = 0; place = 0; seen = 0; again = false }
    :: atomic { ops == OPS -> break }
    od
}
