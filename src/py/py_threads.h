/* Threads and safe points: what every operation of a container begins with.
 *
 *   begin    the thread's record (made at its first operation), a safe point if
 *            one is due (T5), and what a foreign access means for the container
 *   ...      sections, locks
 *
 * T1 Memory is delayed only where it must be.  A container begins as its
 *    creator's: `owner` is the record of the one thread that touched it.  The
 *    first access by another takes the container's lock once and makes it
 *    SHARED, for good.  Why the lock: whoever holds it sees a fixed answer, so a
 *    writer that found "mine" under the lock may free at once, and the second
 *    thread's first section begins after that.  A record may be handed to a new
 *    thread when its last one ended: that one can touch nothing any more, so to
 *    take the new thread for the owner is right.
 *    Reads use a section in unshared containers too: the owner may be reading
 *    when the second thread comes and writes.
 *
 *    With a GIL nothing has to be delayed, shared or not: who is in a section is
 *    attached and does not detach in it, so that whoever changes something is alone
 *    with it (QC_FREES_AT_ONCE).  What may be gone when a thread comes back from
 *    Python code or from a wait is the same with and without: it has left its
 *    section, and looks anew.  Debug builds and those with sanitizers delay all the
 *    same, so that these see with a GIL what else is seen only without.
 *    Then nobody waits for a section around instructions that call nothing either: no
 *    memory of containers, no change of K7, no turn of an iterator.  So threads_enter_leaf
 *    and _exit_leaf are nothing there; and who else has touched a container does not
 *    matter, so that threads_begin_fast does not ask.  From the load of the table or array
 *    to the reference that is taken there is no call in these: no decref, no Python code,
 *    nothing that detaches.  Interpreters with a GIL of their own share no container (Q11);
 *    what others retire in the process's domain is read in sections of theirs.  The
 *    countdown to the next safe point is the same (T5, T6).
 *
 *    Shared and deferred are two states.  A container that has been shared for
 *    QC_SETTLE_MS, and is still used, gets deferred reference counting and is SETTLED:
 *    not at once, since only the collector frees such an object, and most shared
 *    containers are made for one request.  One access in QC_LOOK_AT_SHARED of a thread to
 *    containers that are not settled yet looks at the clock, and QC_SETTLE_LOOKS such
 *    looks at one container, about a thousand accesses, are enough of a use.  All other
 *    accesses go the way of settled ones.
 *
 * T7 What writes begins with threads_begin_write: over the hard limit it waits there,
 *    before anything is changed (py_limits.c).  What containers with deferred counting
 *    have grown by is added up as well, since only the collector frees those: their
 *    tables at each change of size, their values by a sample, when the container settles
 *    and at its writers' safe points.  (Not at those of readers: a reference that a sample
 *    holds may become the value's last, and K8 has values die with their writer.)  When
 *    that is more than a limit, and than all that was live after it last ran, a safe point
 *    runs it.  Pages that wait go back to the system at a safe point, too, where they are
 *    more than the limit: it may be long until a thread writes.
 *
 * Q7 At the main interpreter's exit all other threads become shutting down: they
 *    wait no more, and leave what they retire to the thread that finalizes.
 *
 * Q8 Whatever may wait for the registry or queue lock runs detached.
 */
#ifndef PY_THREADS_H
#define PY_THREADS_H

#include "py/state.h"

#include "py/py_limits.h"
#include "py/py_refs.h"

#define QC_LOOK_AT_SHARED 61 /* prime: threads that take containers in turn come to each */
#define QC_SETTLE_LOOKS 16
#define QC_SETTLE_MS 1000

#define QC_HELD_UNIT 4096u

/* The same, as it is in this process: QSBRCONTAINERS_SETTLE_MS. */
extern QC_HIDDEN uint32_t threads_settle_ms;

/* A build flag forces either, so that freeing at once is tested under a sanitizer, too. */
#if defined(QC_FREES_AT_ONCE)
#if QC_FREES_AT_ONCE && defined(Py_GIL_DISABLED)
#error "without a GIL nothing can be freed at once"
#endif
#elif defined(Py_GIL_DISABLED) || defined(QC_DEBUG) || defined(QC_HEAP_LIBC)
#define QC_FREES_AT_ONCE 0
#else
#define QC_FREES_AT_ONCE 1
#endif

/* Values of sharing.owner that are no record. */
#define QC_SHARED ((qsbr_record *)1)
#define QC_SETTLED ((qsbr_record *)2)

typedef struct {
    _Atomic(qsbr_record *) owner; /* (the container's lock) to leave "one thread" */
    _Atomic uint32_t since;       /* when it was shared: the clock's ms, which may wrap; from
                                     SETTLED on, what its values take, by QC_HELD_UNIT bytes */
    _Atomic uint16_t looks;       /* at the clock since, until they are enough */
    _Atomic bool deferred;        /* (the container's lock) to set: only the collector frees it */
    size_t bytes;                 /* (the container's lock) of its table */
} qc_sharing;

/* Once a process / once a module, at import: 0, or -1 with an exception. */
int threads_init_process(void);
int threads_init_state(qc_state *state);
/* At the module's end: runs what is left; nothing of the queue is used later. */
void threads_fini_state(qc_state *state);

/* Q8: around what waits for the registry's or a queue's lock.
 *
 * From threads_stay_attached on, at the end of an interpreter, the thread that ends it
 * stays attached instead.  (When 3.11 ends the main interpreter it ends the others that
 * are left, and a thread that has detached from one of those is itself ended when it
 * comes back: the process's status is 0 then, whatever it was.)  Nobody is held up: who
 * has one of these locks waits for nothing. */
PyThreadState *threads_detach(void);
void threads_attach(PyThreadState *detached);
void threads_stay_attached(void);

/* This thread's record, made now.  NULL with MemoryError. May detach. */
QC_NOINLINE qsbr_record *threads_register(void);
/* This thread's local in the state's queue.  NULL with MemoryError.  May detach:
 * neither under a lock nor in a section. */
retire_local *threads_local_slow(qc_state *state);
/* Items may run Python code: an exception that is set before is put aside, and set
 * again afterwards.  What the items have left (those of other extensions may) is
 * reported as unraisable. */
typedef struct {
    PyObject *type, *value, *trace;
} threads_exception;
threads_exception threads_put_aside(void);
void threads_put_back(threads_exception set);
/* A safe point: runs Python code. */
QC_NOINLINE void threads_safe_point(qc_state *state);
/* The same for a writer (T7); true: there is room, or none to be had. */
bool threads_make_room(retire_local *local, heap *pages);
/* Q7, at the interpreter's exit: from here on other threads wait no more.  Detaches. */
void threads_shut_down(void);
/* An access by a thread that is not the owner. */
QC_NOINLINE void threads_foreign(PyObject *op, qc_state *state, qc_sharing *sharing, qc_lock *lock,
                                 qsbr_record *rec);
/* T7: about what the values of a container take.  Each type has its function; outside
 * sections, without locks.  A dict's takes references, one at a time: one that becomes the
 * last is dropped here, and runs Python code. */
#define SHARING_SAMPLE 32
size_t dict_held_bytes(PyObject *op, qsbr_record *rec);
size_t list_held_bytes(PyObject *op, qsbr_record *rec);
/* What a value takes, as far as its type says, one level deep.  Without Python code. */
size_t threads_value_bytes(PyObject *value);
/* At a safe point of a writer, if only the collector frees the container. */
QC_NOINLINE void threads_weigh(PyObject *op, qc_state *state, qc_sharing *sharing,
                               qsbr_record *rec);

/* Under the container's lock, or before anybody else has it: its table is of
 * another size (T7). */
void sharing_resized(qc_state *state, qc_sharing *sharing, size_t bytes);

/* The current interpreter's local, cached. */
typedef struct {
    struct numbers *numbers; /* py_numbers.h */
    uint64_t queue_id;
    retire_local *local;
    uint32_t look_at_shared; /* accesses until one looks at the clock (T1) */
} threads_cache;
extern QSBR_TLS threads_cache threads_cached;

/* What nothing was reserved for, after unlocking and whatever Python code that ran: where
 * there is no memory to retire it, this thread waits for the readers (py_wait.h). */
void threads_retire(retire_local *local, retire_fn fn, uint64_t arg, size_t bytes);

/* How many states this process has made. */
extern QC_HIDDEN _Atomic uint32_t threads_states;

/* Whether what is cached, if anything is, is of `state`.  Of the only one that was ever
 * made without a look at it: who has a second one has seen that it was made. */
QC_INLINE bool
threads_cached_is_of(qc_state *state)
{
    return qc_likely(qc_load_relaxed(&threads_states) == 1) ||
           threads_cached.queue_id == state->queue_id;
}

QC_INLINE retire_local *
threads_local(qc_state *state)
{
    if (qc_likely(threads_cached.queue_id == state->queue_id))
        return threads_cached.local;
    return threads_local_slow(state);
}

/* The new container belongs to the calling thread.  0, or -1 with MemoryError. */
static inline int
sharing_init(qc_sharing *sharing)
{
    qsbr_record *rec = qsbr_self != NULL ? qsbr_self : threads_register();
    qc_store_relaxed(&sharing->owner, rec);
    qc_store_relaxed(&sharing->looks, (uint16_t)0);
    qc_store_relaxed(&sharing->deferred, false);
    sharing->bytes = 0;
    return rec == NULL ? -1 : 0;
}

/* Whether this access to a container that is not settled goes its way without a look at
 * the clock.  The count stays 0 until threads_foreign has looked: the fast path that finds
 * it so only hands over to threads_begin, which asks again. */
QC_INLINE bool
threads_need_not_look(void)
{
    uint32_t left = threads_cached.look_at_shared;
    if (qc_unlikely(left == 0))
        return false;
    threads_cached.look_at_shared = left - 1;
    return true;
}

/* The start of every operation, reads too: this thread's record, or NULL with
 * MemoryError.  Python code may run in it (T5); afterwards nothing of ours is
 * held. */
QC_INLINE qsbr_record *
threads_begin_as(PyObject *op, qc_state *state, qc_sharing *sharing, qc_lock *lock, bool writer)
{
    qsbr_record *rec = qsbr_self;
    if (qc_unlikely(rec == NULL)) {
        rec = threads_register();
        if (rec == NULL)
            return NULL;
    }
    if (qsbr_safe_point_is_due(rec)) {
        threads_safe_point(state);
        if (writer && qc_load_relaxed(&sharing->deferred))
            threads_weigh(op, state, sharing, rec);
    }
    /* acquire: partner is the release in threads_foreign.  A third thread that
     * finds SHARED without the lock must also find what the owner unlinked, and
     * freed at once, before the second thread came. */
    qsbr_record *owner = qc_load_acquire(&sharing->owner);
    if (qc_unlikely(owner != rec && owner != QC_SETTLED) &&
        (owner != QC_SHARED || !threads_need_not_look()))
        threads_foreign(op, state, sharing, lock, rec);
    return rec;
}

QC_INLINE qsbr_record *
threads_begin(PyObject *op, qc_state *state, qc_sharing *sharing, qc_lock *lock)
{
    return threads_begin_as(op, state, sharing, lock, false);
}

/* The same where nothing is in the way, without a call; else NULL, and threads_begin is
 * to be asked.  Whose the container is matters only where that decides something (T1). */
QC_INLINE qsbr_record *
threads_begin_fast(qc_sharing *sharing)
{
    qsbr_record *rec = qsbr_self;
    if (qc_unlikely(rec == NULL) || qsbr_safe_point_is_due(rec))
        return NULL;
    if (QC_FREES_AT_ONCE)
        return rec;
    qsbr_record *owner = qc_load_acquire(&sharing->owner); /* as in threads_begin */
    if (qc_likely(owner == QC_SETTLED || owner == rec))
        return rec;
    return owner == QC_SHARED && threads_need_not_look() ? rec : NULL;
}

/* The section of a container's operation in which nothing is called (qsbr_enter_leaf):
 * false if there can be none.  With a GIL the thread is alone anyway (T1). */
QC_INLINE bool
threads_enter_leaf(qsbr_record *rec)
{
    return QC_FREES_AT_ONCE || qsbr_enter_leaf(rec);
}

QC_INLINE void
threads_exit_leaf(qsbr_record *rec)
{
    if (!QC_FREES_AT_ONCE)
        qsbr_exit_leaf(rec);
}

/* The same for what writes: NULL with an exception, also when a signal's handler
 * raises while it waits (T7). */
QC_INLINE qsbr_record *
threads_begin_write(PyObject *op, qc_state *state, qc_sharing *sharing, qc_lock *lock)
{
    qsbr_record *rec = threads_begin_as(op, state, sharing, lock, true);
    return qc_likely(limits_room(state) == 0) ? rec : NULL;
}

/* Under the container's lock: whether what is unlinked must wait (T1). */
static inline bool
sharing_is_shared(qc_sharing *sharing)
{
    if (QC_FREES_AT_ONCE)
        return false;
    qsbr_record *owner = qc_load_relaxed(&sharing->owner);
    return owner == QC_SHARED || owner == QC_SETTLED;
}

#endif
