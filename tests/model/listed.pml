/* The list of locals that hold batches, their owners, and the thread that looks after them
 * (src/qsbr/retire_look.c): is every batch found in the end, and by one thread (T6)?
 * README.md lists what is modelled and what is not.
 *
 * Every thread has a local, retires into it, runs its closed batches, and looks after all.
 * A batch is the number of its items.  `linked` counts how often a local is on the list or
 * in the part of it that the looker has taken: never twice, which would break the list, and
 * once at the end if the local holds a batch.
 *
 * Words, `closed`, `head` and `looker` change by read-modify-writes and by release stores
 * that come last.  A store buffer can delay only the store by which the owner gives the word
 * back, which is a step of its own here.
 *
 * Configuration, by -D: THREADS, OPERATIONS of each.
 * Mutants: each a MUTANT_ macro; promela.py says where each is found.
 */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef OPERATIONS
#define OPERATIONS 2
#endif

#define OFF 0
#define LISTED 1
#define IN_HAND 2
#define NIL THREADS

byte open[THREADS];  /* the word: items of the open batch .. */
byte state[THREADS]; /* .. and OFF, LISTED or IN_HAND */
byte closed[THREADS];
byte next[THREADS] = NIL;
byte head = NIL, looking = NIL;
bool looker;
byte retired, ran, ended;
byte linked[THREADS];

/* ---- each thread's own: was, batch, rest, h ---- */

inline push(l)
{
    do
    :: h = head;
        next[l] = h;
        atomic {
            if
            :: head == h ->
                head = l;
                linked[l]++;
                assert(linked[l] == 1);
                h = 0;
                break
            :: else
            fi
        }
    od
}

inline take()
{
#ifdef MUTANT_LISTED_BY_A_LOOK
    was = state[_pid];
    atomic { batch = open[_pid]; open[_pid] = 0; state[_pid] = IN_HAND };
#else
    atomic { was = state[_pid]; batch = open[_pid]; open[_pid] = 0; state[_pid] = IN_HAND };
#endif
    assert(was != IN_HAND)
}

inline give_back()
{
    atomic { open[_pid] = batch; state[_pid] = LISTED; batch = 0 };
    if
    :: was == OFF -> push(_pid)
    :: else
    fi;
    was = 0
}

/* With the word in hand. */
inline append_closed(items)
{
    atomic { rest = closed[_pid]; closed[_pid] = 0 };
    atomic { closed[_pid] = rest + items; rest = 0 }
}

inline retire()
{
    take();
    atomic { batch++; retired++ };
    if
    :: append_closed(batch);
        batch = 0
    :: skip
    fi;
    give_back()
}

/* retire_run.c: runs the batches that are reached, and closes the others again. */
inline run_closed()
{
    atomic { got = closed[_pid]; closed[_pid] = 0 };
    if
    :: atomic { ran = ran + got; got = 0 }
    :: got > 0 ->
#ifdef MUTANT_CLOSED_WITHOUT_THE_WORD
        append_closed(got);
        got = 0
#else
        take();
        append_closed(got);
        got = 0;
        give_back()
#endif
    fi
}

inline look_at(l)
{
    atomic {
        was = state[l];
        batch = open[l]
    };
    if
    :: (batch > 0 || closed[l] > 0) -> stays = true /* too young */
    :: true -> stays = false
    fi;
#ifndef MUTANT_TAKEN_FROM_THE_HAND
    if
    :: was == IN_HAND -> stays = true
    :: else
    fi;
#endif
    if
    :: stays -> push(l)
    :: else ->
        atomic {
            if
#ifndef MUTANT_TAKEN_FROM_THE_HAND
            /* The batch may be the same and have more in it. */
            :: state[l] != was || (open[l] > 0) != (batch > 0) -> stays = true
#endif
            :: else ->
                got = got + open[l];
                open[l] = 0;
                state[l] = OFF
            fi
        };
        if
        :: stays -> push(l)
        :: else -> atomic { got = got + closed[l]; closed[l] = 0 }
        fi
    fi;
    atomic { was = 0; batch = 0; stays = false }
}

inline look()
{
#ifdef MUTANT_LOOK_WITHOUT_CLAIM
    skip;
#else
    atomic { !looker -> looker = true };
#endif
    atomic { looking = head; head = NIL };
    do
    :: looking != NIL ->
        atomic {
            assert(looking != NIL);
            at = looking;
#ifndef MUTANT_NEXT_READ_LATE
            looking = next[at];
#endif
            linked[at]--
        };
        look_at(at);
#ifdef MUTANT_NEXT_READ_LATE
        looking = next[at];
#endif
        at = 0
    :: else -> break
    od;
    if
    :: got > 0 ->
        take();
        append_closed(got);
        got = 0;
        give_back()
    :: else
    fi;
    looker = false
}

active [THREADS] proctype thread()
{
    byte n, was, batch, rest, got, h, at;
    bool stays;
    do
    :: n < OPERATIONS ->
        if
        :: retire()
        :: run_closed()
        :: look()
        fi;
        n++
    :: else -> break
    od;
    ended++
}

active proctype at_the_end()
{
    byte i, held, found;
    ended == THREADS;
    atomic {
        do
        :: i < THREADS ->
            assert(state[i] != IN_HAND);
            assert((open[i] == 0 && closed[i] == 0) || (state[i] == LISTED && linked[i] == 1));
            assert((state[i] == LISTED) == (linked[i] == 1));
            held = held + open[i] + closed[i];
            found = found + linked[i];
            i++
        :: else -> break
        od;
        assert(retired == ran + held);
        i = head;
        do
        :: i != NIL ->
            assert(found > 0 && linked[i] == 1);
            found--;
            i = next[i]
        :: else -> break
        od;
        assert(found == 0)
    }
}
