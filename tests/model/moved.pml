/* A key table that is replaced while it is read and assigned to without its lock
 * (src/containers/keytable.c, src/py/py_dict_replace.c): is what is read ever anything but
 * what the map holds at that moment (K1, K2, K3)?  README.md says what is modelled and what
 * is not.
 *
 * `now` is what the map holds, a word for each key: it changes in the same step as the word
 * by which an operation takes effect.  So the model says of each operation when it happens,
 * and every load is checked against `now`: that is linearizability, with the moments named.
 * One exception: a reader that finds a key missing may be late.  It must have been missing
 * at some moment since that reader began.
 *
 * Key 0 is there throughout; key 1 may be deleted and come back, in an entry of its own, as
 * nothing in a table is reused.  A table has an entry for key 0 and two for key 1, in the
 * order of their insertion, which is that of probing.
 *
 * The thread that grows has a store buffer (first in, first out); its plain stores are those
 * of the copies, of `next` and of the published pointer.  The other operations are
 * read-modify-writes, or one publishing store, and take effect at once.
 *
 * Configuration, by -D: TABLES (one more than growths), ASSIGNERS, READERS, READS of each.
 * Mutants: each a MUTANT_ macro; promela.py says where each is found.
 */
#ifndef TABLES
#define TABLES 2
#endif
#ifndef ASSIGNERS
#define ASSIGNERS 1
#endif
#ifndef READERS
#define READERS 1
#endif
#ifndef READS
#define READS 1
#endif

/* Words */
#define EMPTY 0 /* no entry; in `now`: no such key */
#define DELETED 1
#define MOVED 2
#define FIRST 3 /* and above: live */
#define SECOND 4
#define is_live(x) ((x) >= FIRST)

#define ENTRIES 3
#define NONE TABLES /* where `next` of the newest table points to */

byte word[TABLES * ENTRIES] = {FIRST, SECOND, EMPTY};
byte next[TABLES] = NONE;
byte published; /* the map's table */
bool lock;      /* the map's */
byte now[2] = {FIRST, SECOND};
bool was_absent[READERS]; /* the key that it looks for, at a moment since it began */

/* ---- the one who grows ---- */

/* Places in the store buffer: the words, then these. */
#define NEXT(t) (TABLES * ENTRIES + (t))
#define PUBLISHED (TABLES * ENTRIES + TABLES)

chan buffer = [8] of { byte, byte };

active proctype memory()
{
    byte place, value;
end:
    do
    :: atomic {
        buffer?place, value ->
        if
        :: place < NEXT(0) -> word[place] = value
        :: place >= NEXT(0) && place < PUBLISHED -> next[place - NEXT(0)] = value
        :: place == PUBLISHED -> published = value
        fi;
        place = 0;
        value = 0
    }
    od
}

#define FROM(i) (t * ENTRIES + (i))
#define TO(i) ((t + 1) * ENTRIES + ((i) == 2 -> 1 : (i)))
/* What another entry of the old table goes to the same place of the new one? None: of the
 * two for key 1 the first is deleted before the second is written. */

inline acquire_lock()
{
    atomic { !lock -> lock = true }
}

/* copy_entries() and move_words(), publish() */
active proctype grower()
{
    byte t, i, w;
    byte copy[ENTRIES]; /* what it has stored in the new table: it sees its own stores */
    do
    :: t < TABLES - 1 ->
#ifdef MUTANT_GROWTH_WITHOUT_LOCK
        skip;
#else
        acquire_lock();
#endif
        do
        :: i < ENTRIES ->
            w = word[FROM(i)];
            atomic {
                if
                :: w == EMPTY || w == DELETED
                :: else ->
#ifndef MUTANT_MOVED_BEFORE_COPY
                    buffer!TO(i), w;
#endif
                    copy[i] = w
                fi;
                w = 0;
                i++
            }
        :: else -> break
        od;
        i = 0;
#ifdef MUTANT_PUBLISHED_BEFORE_MOVED
        buffer!PUBLISHED, t + 1;
#endif
#ifndef MUTANT_NEXT_AFTER_MOVED
        buffer!NEXT(t), t + 1;
#endif
        do
        :: i < ENTRIES ->
            w = word[FROM(i)];
            if
            :: w == EMPTY || w == DELETED
            :: else ->
                w = copy[i];
#ifdef MUTANT_MOVED_BEFORE_COPY
                atomic { empty(buffer) -> w = word[FROM(i)]; word[FROM(i)] = MOVED };
                buffer!TO(i), w;
#elif defined(MUTANT_MOVED_NOT_CAS)
                buffer!FROM(i), MOVED;
#else
                do
                :: atomic { empty(buffer) && word[FROM(i)] == w ->
                       word[FROM(i)] = MOVED;
                       break
                   }
                :: atomic { empty(buffer) && word[FROM(i)] != w -> w = word[FROM(i)] };
#ifndef MUTANT_NOT_COPIED_AGAIN
                    buffer!TO(i), w
#endif
                od;
#endif
            fi;
            atomic { w = 0; copy[i] = 0; i++ }
        :: else -> break
        od;
        i = 0;
#ifdef MUTANT_NEXT_AFTER_MOVED
        buffer!NEXT(t), t + 1;
#endif
#ifndef MUTANT_PUBLISHED_BEFORE_MOVED
        buffer!PUBLISHED, t + 1;
#endif
        atomic { empty(buffer) -> lock = false; t++ }
    :: else -> break
    od
}

/* ---- probing: t, e, w and key are the process's own ---- */

#define AT (t * ENTRIES + e)

/* In a section.  Ends with a live word in w, or with EMPTY or DELETED: there is no such
 * key.  `reads`: what is found is what a reader returns. */
inline find(reads)
{
    e = key;
    do
    :: atomic { w = word[AT]; assert(!reads || !is_live(w) || w == now[key]) };
        if
        :: w == DELETED && e == 1 -> e = 2 /* goes on probing */
#ifndef MUTANT_MOVED_IS_MISSING
        :: w == MOVED ->
            assert(next[t] != NONE);
            atomic { t = next[t]; e = key }
#endif
        :: else -> break
        fi
    od
}

/* With the lock: the published table's words have not moved. */
inline find_locked()
{
    e = key;
    do
    :: w = word[AT];
        if
        :: w == DELETED && e == 1 -> e = 2
        :: else -> break
        fi
    od
}

/* ---- readers ---- */

active [READERS] proctype reader()
{
    byte t, e, w, key, n;
#define ME (_pid - 2)
    do
    :: n < READS ->
        atomic {
            if
            :: key = 0
            :: key = 1
            fi;
            was_absent[ME] = (now[key] == EMPTY);
            t = published
        };
        find(true);
        assert(is_live(w) || was_absent[ME]);
        atomic { n++; t = 0; e = 0; w = 0; key = 0; was_absent[ME] = false }
    :: else -> break
    od
}

/* ---- assignments: K2, and with the lock where that cannot be done ---- */

#define takes_effect(new)                                                                      \
    assert(w == now[key]); /* what is released is what was there */                            \
    now[key] = new

active [ASSIGNERS] proctype assigner()
{
    byte t, e, w, key, value = SECOND + 1 + _pid;
    atomic {
        if
        :: key = 0
        :: key = 1
        fi;
        t = published
    };
    find(false);
    do
    :: !is_live(w) -> goto with_lock
#ifdef MUTANT_ASSIGN_NOT_CAS
    :: is_live(w) -> atomic { word[AT] = value; now[key] = value };
        goto done
#else
    :: atomic { is_live(w) && word[AT] == w -> word[AT] = value; takes_effect(value) };
        goto done
    :: atomic { is_live(w) && word[AT] != w -> w = word[AT] }
#endif
    od;
with_lock:
    acquire_lock();
    t = published;
    find_locked();
    atomic {
        if
        :: is_live(w) -> w = word[AT]; word[AT] = value; takes_effect(value)
        :: else ->
            assert(now[key] == EMPTY);
            if
            :: w == DELETED -> e++
            :: else
            fi;
            assert(key == 1 && e < ENTRIES && word[AT] == EMPTY);
            word[AT] = value;
            now[key] = value
        fi
    };
    lock = false;
done:
    skip
}

/* ---- deletion ---- */

active proctype deleter()
{
    byte t, e, w, key = 1;
#ifdef MUTANT_DELETION_IGNORES_MOVED
    t = published; /* and not again with the lock */
    acquire_lock();
    e = 1;
    w = word[AT];
#elif defined(MUTANT_DELETION_WITHOUT_LOCK)
    t = published;
    find(false);
#else
    acquire_lock();
    t = published;
    find_locked();
#endif
    if
    :: atomic {
        w != EMPTY && w != DELETED ->
        w = word[AT];
        word[AT] = DELETED;
#ifndef MUTANT_DELETION_IGNORES_MOVED
        takes_effect(EMPTY);
#endif
        now[key] = EMPTY;
        was_absent[0] = true;
#if READERS > 1
        was_absent[1] = true
#endif
    }
    :: w == EMPTY || w == DELETED
    fi;
#ifndef MUTANT_DELETION_WITHOUT_LOCK
    lock = false
#endif
}
