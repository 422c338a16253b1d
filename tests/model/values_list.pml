/* A list's words, their readers, and objects that die at once (src/containers/ptrarray.h,
 * K8, A1): does a reader ever return what the list did not hold while it read, or an object
 * that is freed?  README.md says what is modelled and what is not, objects.inc what an object
 * is.
 *
 * The list has up to two elements.  All threads go on for ever.  Addresses are used again,
 * and so are arrays, once all sections are over that began before the array was replaced.
 * `writes` is the threads that have the lock, one after the other.
 *
 * Each step is one load, one store or one read-modify-write.  A store buffer would add
 * nothing: the writer loads only what it alone may store, its stores become visible in
 * order, and a drop and the next lock, being read-modify-writes, wait for them.
 *
 * Configuration, by -D: READERS, ADDRESSES; DROPPER: a thread that has unlocked drops while
 * the next has the lock.
 * Mutants: each a MUTANT_ macro; promela.py says where each is found.
 */
#ifndef READERS
#define READERS 1
#endif
#define ME (_pid - 1) /* the stranger is 0 */
#define ARRAYS 3
#define CAPACITY 2

#include "objects.inc"

byte word[ARRAYS * CAPACITY];
byte size[ARRAYS];
byte published;
byte pinned[ARRAYS];  /* readers for which a replaced array's memory waits */
byte index[READERS];  /* what each looks for */
#ifdef DROPPER
chan dropped = [1] of { byte };
#define none_dropped empty(dropped)
#else
#define none_dropped true
#endif

#define AT(array, i) ((array) * CAPACITY + (i))
#define holds(i) (size[published] > (i) -> word[AT(published, i)] : EMPTY)

/* ---- the property ---- */

inline sees(r)
{
    if
    :: (inside & bit(r)) && holds(index[r]) != EMPTY ->
        seen[r] = seen[r] | bit(holds(index[r]))
    :: (inside & bit(r)) && holds(index[r]) == EMPTY -> missing = missing | bit(r)
    :: else
    fi
}

inline has_written()
{
    sees(0);
#if READERS > 1
    sees(1);
#endif
    changed = changed | inside
}

/* ---- readers: ptrarray_get ---- */

inline unpin(x)
{
    pinned[x] = pinned[x] & ~bit(ME);
    if
    :: pinned[x] == 0 && x != published -> free_array(x)
    :: else
    fi
}

inline free_array(x)
{
    size[x] = 0;
    word[AT(x, 0)] = EMPTY;
    word[AT(x, 1)] = EMPTY
}

inline exit_section()
{
    inside = inside & ~bit(ME);
    seen[ME] = 0;
    missing = missing & ~bit(ME);
    changed = changed & ~bit(ME);
    index[ME] = 0;
    unpin(0);
    unpin(1);
    unpin(2)
}

active [READERS] proctype reads()
{
    byte a, w;
    do
    :: atomic { true ->
            busy++;
            if
            :: index[ME] = 0
            :: index[ME] = 1
            fi;
            inside = inside | bit(ME);
            a = published;
            sees(ME)
        };
        if
        :: atomic { size[a] <= index[ME] ->
               assert(missing & bit(ME));
               exit_section();
               goto done
           }
        :: size[a] > index[ME]
        fi;
        w = word[AT(a, index[ME])];
        if
#ifdef MUTANT_LIST_INCREF_NOT_TRY
        :: w != EMPTY -> atomic { assert(count[w] != 0); count[w]++ }
        :: atomic { w == EMPTY ->
#else
        :: atomic { w != EMPTY && count[w] != 0 && (may_try & bit(w)) -> count[w]++ }
        :: atomic { w == EMPTY || count[w] == 0 || !(may_try & bit(w)) ->
#endif
               assert(changed & bit(ME));
               exit_section();
               goto done
           }
        fi;
#ifndef MUTANT_LIST_NO_SECOND_LOOK
#if !defined(MUTANT_SIZE_AFTER_WORD) && !defined(MUTANT_NO_LOOK_AT_SIZE)
        if
        :: size[a] > index[ME]
        :: size[a] <= index[ME] -> goto let_go
        fi;
#endif
#ifndef MUTANT_NO_LOOK_AT_WORD
        if
        :: word[AT(a, index[ME])] == w
        :: word[AT(a, index[ME])] != w -> goto let_go
        fi;
#endif
#if !defined(MUTANT_SIZE_BEFORE_WORD) && !defined(MUTANT_NO_LOOK_AT_SIZE)
        if
        :: size[a] > index[ME]
        :: size[a] <= index[ME] -> goto let_go
        fi;
#endif
#ifndef MUTANT_LIST_LOOK_AT_WORD_ONLY
        if
        :: published == a
        :: published != a -> goto let_go
        fi;
#endif
#endif
        atomic {
            assert(count[w] != 0 && (seen[ME] & bit(w)));
            hold[ME] = w;
            exit_section()
        };
        atomic { hold[ME] = 0; drop(w); goto done };
let_go:
        atomic { assert(changed & bit(ME)); exit_section() };
        drop(w);
done:
        atomic { a = 0; w = 0; busy-- }
    od
}

/* ---- with the lock ---- */

/* Drops the list's reference to w. */
inline let_drop()
{
#ifdef DROPPER
    atomic { dropped!w; w = EMPTY }
#else
    drop(w)
#endif
}

inline append()
{
    word[AT(a, size[a])] = value;
    atomic { size[a]++; has_written() }
}

inline pop()
{
#ifdef MUTANT_POP_DROPS_FIRST
    atomic { w = word[AT(a, size[a] - 1)]; i = w };
    drop(i);
    atomic { size[a]--; has_written() };
    w = EMPTY;
#else
    atomic { size[a]--; has_written() };
    w = word[AT(a, size[a])]; /* which stays there */
    let_drop();
#endif
}

inline assign()
{
#ifdef MUTANT_ASSIGNMENT_DROPS_FIRST
    w = word[AT(a, i)];
    drop(w);
    atomic { word[AT(a, i)] = value; has_written() }
#else
    atomic { w = word[AT(a, i)]; word[AT(a, i)] = value; has_written() };
    let_drop()
#endif
}

/* The publication of a complete array.  Filling it and publishing it are one step: until
 * then no other thread knows it. */
inline publish()
{
    published = n;
    pinned[a] = inside;
    has_written();
#ifndef MUTANT_ARRAY_NOT_PINNED
    if
    :: pinned[a] == 0 -> free_array(a)
    :: else
    fi
#else
    pinned[a] = 0;
    free_array(a)
#endif
}

active proctype writes()
{
    byte a, n, i, w, value;
    do
    :: atomic { true ->
            busy++;
            a = published;
            n = (a + 1) % ARRAYS;
            if
            :: true /* without a value */
            :: elsewhere != 0 -> value = elsewhere;
                count[value]++;
                enable(value)
            :: true -> allocate(value);
                if
                :: value != 0 -> enable(value)
                :: else
                fi
            fi
        };
        if
        :: value != 0 && size[a] < CAPACITY -> append()
        :: atomic { value != 0 && size[a] > 0 -> i = 0 };
            assign()
        :: atomic { value != 0 && size[a] == 2 -> i = 1 };
            assign()
        :: atomic { value != 0 && size[a] < CAPACITY && pinned[n] == 0 -> /* insert(0, value) */
               word[AT(n, 0)] = value;
               word[AT(n, 1)] = word[AT(a, 0)];
               size[n] = size[a] + 1;
               publish()
           }
        :: value == 0 && size[a] > 0 -> pop()
        :: value == 0 && size[a] > 0 && pinned[n] == 0 -> /* pop(0) */
            w = word[AT(a, 0)];
#ifdef MUTANT_DROP_BEFORE_PUBLISHED
            drop(w);
#endif
            atomic {
                word[AT(n, 0)] = word[AT(a, 1)];
                size[n] = size[a] - 1;
                publish()
            };
#ifndef MUTANT_DROP_BEFORE_PUBLISHED
            let_drop()
#endif
        :: atomic { value == 0 && size[a] == 2 && pinned[n] == 0 -> /* reverse() */
               word[AT(n, 0)] = word[AT(a, 1)];
               word[AT(n, 1)] = word[AT(a, 0)];
               size[n] = 2;
               publish()
           }
        :: value == 0
        fi;
        atomic { a = 0; n = 0; i = 0; value = 0; busy-- }
    od
}

#ifdef DROPPER
active proctype drops()
{
    byte x;
    do
    :: atomic { dropped?x -> drop(x) }
    od
}
#endif

/* When no thread has a reference, the list's are all there are: none leaked, none was dropped
 * twice. */
#define kept(x) ((holds(0) == (x) -> 1 : 0) + (holds(1) == (x) -> 1 : 0))

active proctype counts()
{
    do
    :: atomic {
        busy == 0 && none_dropped ->
        assert(count[1] == kept(1));
        assert(count[2] == kept(2))
#if ADDRESSES > 2
        ;
        assert(count[3] == kept(3))
#endif
    }
    od
}
