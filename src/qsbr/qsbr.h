/* Quiescent-state based reclamation: when may memory that readers walk without
 * a lock be freed?
 *
 *   writer      unlink X    g = advance()          poll(g) ... poll(g): yes   free X
 *   ------------+-----------+----------------------+------------------+-------+--->
 *   reader 1      [===== may hold X =====]                            :
 *   reader 2                      [= cannot reach X =============]    :
 *                                                  ^ reader 1 was still in, "no"
 *
 * A domain has a write sequence, wr_seq.  A reader marks a *section* by copying
 * wr_seq into its own record on the way in and 0 (offline) on the way out.  A
 * writer unlinks, then advances wr_seq: the result is the *goal*.  A record that
 * is offline, or whose copy is at the goal or later, belongs to a reader that
 * began after the unlink and cannot reach what was unlinked.  When all records
 * are like that the goal is *reached*.  The scheme is FreeBSD's GUS/SMR
 * (sys/kern/subr_smr.c), as in CPython's own qsbr.c, over sections instead of
 * bytecode boundaries.
 *
 * Why it is safe.  Take a reader that loaded a pointer to X before X was
 * unlinked, and a poll(g) that said yes.  Its enter copied a value s.
 *  (a) s < g: s was loaded from wr_seq, and all later values of it, starting
 *      with g, were written after the unlink.
 *  (b) The poll ran its heavy barrier and then read the record.  If it read s,
 *      the minimum was below g and the answer no.  If it read "offline" from
 *      before the enter, then the enter store was not yet visible at the heavy
 *      barrier, so the reader's loads come after that barrier (barrier.h), and
 *      with it after the unlink: the reader never saw X.  If it read "offline"
 *      from the exit, the acquire load there orders all the reader did before
 *      the free.
 *
 * Two orders that look right and are not (model checkers find the use after
 * free in each; keep them out):
 *  - A goal that was never added (`wr_seq + 2` read without the RMW, to be
 *    reached when another thread advances): it can be read while the unlink
 *    still sits in the store buffer, so readers that enter at that very goal
 *    may see X.  Deferring is done by batches instead: take the batch, advance
 *    once, tag what was taken (retire.h).
 *  - poll loading wr_seq after the heavy barrier: between the two another
 *    writer can unlink Y and advance to h; a reader whose enter is still
 *    buffered holds Y, looks offline, and h would be published as reached.
 *    The load comes first, and rd_seq never rises above it.
 *
 * One barrier serves all polls for goals up to the sequence that was loaded
 * before it, at any time and in any thread: a section whose enter store the
 * barrier did not make visible began to read after it, and so after those
 * unlinks.  `fenced` is the highest such sequence; a poll below it only scans.
 * (Published after the barrier, never before: a poll that skips the barrier on
 * the word of one that has not finished is a use after free.)
 *
 * Guarantees that live here
 *  Q1  No reader reads memory that was unlinked before advance() returned g once
 *      poll(g) said yes.  Sequences are 64 bits, odd (0 is offline), compared by
 *      difference; debug builds start near the wrap.
 *  Q2  A section never blocks, never calls Python, never allocates, and is a
 *      bounded number of instructions per element.  The thread that waits for a
 *      grace period is outside any section: qsbr_wait and the queue's processing check.
 *  Q3  enter and exit write the thread's own record only.
 *  Q4  The process domain's record is one thread-local load away.  Registering is
 *      lazy; unregistering happens when the OS thread ends, also if Python did not
 *      start it.
 *  Q5  A record has two references, the registry's and the OS thread's; the drop of the
 *      last one gives it back.  The end of the domain drops both.  Each thread finds its
 *      records in a table of its own, by domain ids, which are never reused (slots.h).
 *      No thread keeps a record that another thread has by then (qsbr_at_thread_end).
 *  Q6  Fields written by different threads are separate atomics, no bit fields.
 *  Q7  A record is detached, attached or shutting down.  qsbr_shut_down makes it
 *      so for all threads but the one that finalizes, and for those that register
 *      later: qsbr_attach refuses, and the layers above end their waits.  A
 *      section is safe all the same: a domain and its records are freed only when the
 *      creator releases the domain, outside all sections, and the process domain never is.
 *  Q8  Registering takes the registry lock: the caller holds no GIL then.
 *  Q9  Unregistering a thread that is detached already, or one of another thread,
 *      goes through the record's domain; what changes under the registry lock
 *      (registered, the chunks, the free list) is read under it.
 *  Q10 After fork the child has one record, its own; those of threads that are gone
 *      are given back by pthread_atfork's handler, plain C only.  Locks that they
 *      held are orphans (qc_lock.h); what they had in the queue is adopted
 *      (retire.h), what they were changing is put right (keytable.h, ptrarray.h).  A
 *      change that could not be put right runs between qsbr_hold_forks and
 *      qsbr_let_forks: a fork from C waits, for a second at most, until no other thread
 *      is in between.  (os.fork on a free-threaded build stops the interpreter's threads
 *      where they hold nothing.)
 *  Q11 Sequence and records belong to the process: one OS thread can serve
 *      several interpreters.  Nothing here knows of interpreters.
 *  Q12 Both barrier modes (barrier.h) hold all of this.
 */
#ifndef QSBR_QSBR_H
#define QSBR_QSBR_H

#include "base/qc_atomic.h"
#include "base/qc_debug.h"
#include "base/qc_lock.h"
#include "qsbr/barrier.h"

#define QSBR_OFFLINE ((uint64_t)0)
#define QSBR_STEP ((uint64_t)2)

#ifdef QC_DEBUG
#define QSBR_START ((uint64_t)0 - 199) /* odd, a hundred advances before the wrap */
#else
#define QSBR_START ((uint64_t)1)
#endif

/* A thread has a safe point at least every so many operations, even if none is asked for
 * (T6: for the batches of threads that went quiet). */
#define QSBR_LOOK_EVERY 1024

/* Q7 */
typedef enum { QSBR_DETACHED, QSBR_ATTACHED, QSBR_SHUTTING_DOWN } qsbr_state;

typedef struct qsbr_domain qsbr_domain;
typedef struct qsbr_record qsbr_record;

struct qsbr_record {
    /* The first line pair is the owner's; `seq` is read by polls. */
    _Alignas(QC_LINE_PAIR) _Atomic uint64_t seq; /* offline, or wr_seq at enter */
    qsbr_domain *domain;
    uint32_t nesting;             /* (owner) sections nest; the outermost stores */
    int32_t look_in;              /* (owner) operations until the next safe point looks around */
    _Atomic uint32_t holds_forks; /* written by the owner, read by a forking thread (Q10) */

    /* The second is cold. */
    _Alignas(QC_LINE_PAIR) _Atomic uint32_t refs; /* Q5 */
    _Atomic uint32_t registered;                  /* (registry lock to write) */
    _Atomic uint32_t state;  /* Q7: a qsbr_state; owner and finalizing thread, by CAS */
    _Atomic uint64_t tenure; /* how many threads had it so far */
    qsbr_record *free_next;  /* (registry lock) */
    struct qsbr_slot *slot;  /* (list lock) by which its thread finds it; NULL: process domain */
    uint32_t number;         /* among the domain's records, from 0; written once */
};

#define QSBR_CHUNK_RECORDS 32

/* Records live in chunks that never move, so that a scan needs no lock.  A chunk has one
 * bit for each record, set while the record is registered.  A scan reads registered
 * records only, and a single word of a chunk whose threads have all ended.
 *
 * Why a scan may skip a record whose bit it does not see.  Registering sets the bit,
 * then fences (register_record); the poll fences (fence, qsbr.c), then scans.  If the
 * scan misses the bit, the poll's fence came first.  So every section of that record
 * sees the unlinks whose goal was advanced to before that fence, and the scan answers
 * for no others.  A scan that skips a record whose bit was cleared has loaded the bit
 * with acquire, so the record's last section comes before the free. */
struct qsbr_chunk {
    qsbr_record records[QSBR_CHUNK_RECORDS];
    struct qsbr_chunk *next;
    _Atomic uint32_t registered; /* (registry lock to write) a bit a record */
};

struct qsbr_domain {
    _Alignas(QC_LINE_PAIR) _Atomic uint64_t wr_seq;
    _Alignas(QC_LINE_PAIR) _Atomic uint64_t rd_seq; /* highest goal known as reached */
    _Atomic uint64_t fenced;     /* highest sequence that was loaded before a finished barrier */
    _Atomic uint32_t registered; /* records that exist */
    _Atomic uint32_t ends;       /* (registry lock to write) records given back so far */
    _Atomic uint32_t broken;     /* heavy barriers that failed: nothing is freed any more */
    _Atomic uint64_t advances, polls, heavy_barriers;
    _Alignas(QC_LINE_PAIR) qc_lock lock; /* the registry lock */
    uint64_t id;                         /* never reused */
    bool shutting_down;                  /* (registry lock) Q7: what new records begin with */
    _Atomic(struct qsbr_chunk *) chunks; /* grows under the registry lock, never shrinks */
    qsbr_record *free;                   /* (registry lock) */
    uint32_t n_records;                  /* (registry lock) in all chunks */
    qsbr_domain *all_next, *all_prev;    /* (list lock) all domains */
};

/* The one domain of all containers, and this thread's record in it: NULL until
 * qsbr_register_process. */
#define QSBR_TLS QC_TLS QC_HIDDEN
QC_HIDDEN extern qsbr_domain qsbr_process;
extern QSBR_TLS qsbr_record *qsbr_self;

/* Once a process, before anything else here; false: no TLS key to be had. */
bool qsbr_init(void);

/* A separate domain, so that a slow section in another domain stalls no thread of this one.
 * NULL: no memory.  qsbr_domain_release ends the domain and all its records, and frees
 * their memory.  No thread may be in a section of it, or use one of its records afterwards;
 * a thread may end meanwhile or later.  Each thread that had a record keeps 16 bytes, until
 * it registers in other domains or ends. */
qsbr_domain *qsbr_domain_new(void);
void qsbr_domain_release(qsbr_domain *domain);

/* This thread's record in `domain`, made if need be; NULL: no memory.  Takes the
 * registry lock: call it without the GIL, detached (Q8).  The record stays the
 * thread's until the thread or the domain ends, or it calls qsbr_unregister. */
qsbr_record *qsbr_register(qsbr_domain *domain);
qsbr_record *qsbr_register_process(void);

/* From now on `forget` is called in each OS thread that ends, before its records are given
 * back: the layers above clear what they keep of them in thread-local variables.
 * (The thread may not be through: a destructor of another library's may run Python code,
 * and registers once more.)  Plain C without an allocator, as the destructor that it is
 * called from (Q10).  At most QSBR_FORGETS functions; one that is known is not added. */
#define QSBR_FORGETS 4
void qsbr_at_thread_end(void (*forget)(void));

/* This thread's record in `domain` or NULL; no lock, and O(1) in the number of domains. */
qsbr_record *qsbr_find(qsbr_domain *domain);

/* Takes the calling thread's record out of the registry, outside any section.  The
 * OS thread's reference stays until the thread ends. */
void qsbr_unregister(qsbr_record *rec);

/* Q7: all records but `mine` (or NULL), present and to come, are shutting down
 * from here on; and the way back, for a process that starts an interpreter again. */
void qsbr_shut_down(qsbr_domain *domain, qsbr_record *mine);
void qsbr_start_again(qsbr_domain *domain);

static inline qsbr_state
qsbr_state_of(qsbr_record *rec)
{
    /* acquire: partner is the release in qsbr_shut_down. */
    return (qsbr_state)qc_load_acquire(&rec->state);
}

/* The sequence of an unlink: call it after the unlink, once a batch. */
uint64_t qsbr_advance(qsbr_domain *domain);

/* Deferred advance, for callers with batches of their own: one real advance for
 * many unlinks.  Call it after each unlink; 0: not yet, keep the memory.  Else
 * the limit is reached and the result is the goal of everything that was counted
 * since the last goal.  qsbr_advance_now is the same without a limit, 0 if nothing
 * was counted.  (There is no goal before the advance: see "never added" above.) */
typedef struct {
    uint32_t blocks, max_blocks;
    size_t bytes, max_bytes;
} qsbr_deferred;

/* Measured: a heavy barrier beside running threads costs about 10 us; shared by
 * 127 blocks it disappears behind their allocation. */
#define QSBR_DEFER_BLOCKS 127
/* So that many middling blocks do not add up to much. */
#define QSBR_DEFER_BYTES ((size_t)1 << 20)
#define QSBR_DEFERRED                                                                              \
    {                                                                                              \
        .max_blocks = QSBR_DEFER_BLOCKS, .max_bytes = QSBR_DEFER_BYTES                             \
    }

uint64_t qsbr_advance_deferred(qsbr_domain *domain, qsbr_deferred *deferred, size_t bytes);
uint64_t qsbr_advance_now(qsbr_domain *domain, qsbr_deferred *deferred);

/* Whether no reader can still read memory that was unlinked before advance() returned
 * `goal`.  goal_reached looks at the cache only; poll scans the records, with
 * one heavy barrier, and must be called outside sections of `domain`. */
bool qsbr_poll(qsbr_domain *domain, uint64_t goal);

/* Polls until `goal` is reached, yielding the CPU in between.  False: the heavy barrier
 * fails, so there is no grace period.  For programs without an interpreter only: while a
 * reader is stopped in its section, an attached caller would keep signals and the collector
 * out.  The extension waits through py_wait.h (T7). */
bool qsbr_wait(qsbr_domain *domain, uint64_t goal);

static inline bool
qsbr_before(uint64_t a, uint64_t b)
{
    return (int64_t)(a - b) < 0;
}

static inline bool
qsbr_goal_reached(qsbr_domain *domain, uint64_t goal)
{
    /* acquire: partner is the release CAS that raises rd_seq in scan_for; what
     * readers did in their sections comes before the free that follows. */
    return !qsbr_before(qc_load_acquire(&domain->rd_seq), goal);
}

/* ---- safe points (T5) ---- */

/* By the record's own thread: its next operation processes the queue.  The flag
 * that T5 speaks of is the countdown at its end, so that the read path tests one
 * thing. */
static inline void
qsbr_ask(qsbr_record *rec)
{
    rec->look_in = 0;
}

static inline bool
qsbr_is_asked(const qsbr_record *rec)
{
    return rec->look_in <= 0;
}

/* At the start of an operation: is a safe point due? */
QC_INLINE bool
qsbr_safe_point_is_due(qsbr_record *rec)
{
    return qc_unlikely(--rec->look_in < 0);
}

/* ---- sections: the read path ---- */

QC_INLINE bool
qsbr_in_section(const qsbr_record *rec)
{
    return rec->nesting != 0;
}

/* What the outermost enter and exit store. */
QC_INLINE void
qsbr_go_online(qsbr_record *rec, qsbr_domain *domain)
{
    /* acquire: partner is the advance's RMW.  A section that enters at g sees
     * every unlink that came before g. */
    uint64_t seq = qc_load_acquire(&domain->wr_seq);
    /* release: partner is the acquire load of the scan.  A relaxed store would
     * end the release sequence of the previous section's exit: a poll that
     * reads this value must still come after all that section did. */
#ifdef QC_BREAK_RELAXED_ENTER
    qc_store_relaxed(&rec->seq, seq);
#else
    qc_store_release(&rec->seq, seq);
#endif
    barrier_light(); /* partner: barrier_heavy in fence (qsbr.c) */
}

QC_INLINE void
qsbr_go_offline(qsbr_record *rec)
{
    /* release: partner is the acquire load of the scan; all this section read
     * is read before the memory is freed. */
#ifdef QC_BREAK_RELAXED_EXIT
    qc_store_relaxed(&rec->seq, QSBR_OFFLINE);
#else
    qc_store_release(&rec->seq, QSBR_OFFLINE);
#endif
}

QC_INLINE void
qsbr_enter(qsbr_record *rec)
{
    if (qc_likely(rec->nesting++ == 0))
        qsbr_go_online(rec, rec->domain);
}

QC_INLINE void
qsbr_exit(qsbr_record *rec)
{
    qc_assert(rec->nesting != 0);
    if (qc_likely(--rec->nesting == 0))
        qsbr_go_offline(rec);
}

/* A leaf: a section of the process domain in which no other one begins, so that it need
 * not be counted and its two stores are all.  False: this thread is in a section already
 * (attached); enter and exit do it then.  Debug builds count it, for the assertions. */
QC_INLINE bool
qsbr_enter_leaf(qsbr_record *rec)
{
    qc_assert(rec->domain == &qsbr_process);
#ifndef QC_BREAK_LEAF_IN_SECTION
    if (qc_unlikely(rec->nesting != 0))
        return false;
#endif
#ifdef QC_DEBUG
    rec->nesting = 1;
#endif
    qsbr_go_online(rec, &qsbr_process);
    return true;
}

QC_INLINE void
qsbr_exit_leaf(qsbr_record *rec)
{
#ifdef QC_DEBUG
    qc_assert(rec->nesting == 1);
    rec->nesting = 0;
#endif
    qsbr_go_offline(rec);
}

/* ---- what no fork may come between (Q10) ---- */

/* How many forks are about to happen or happening. */
QC_HIDDEN extern _Atomic uint32_t qsbr_forks;

/* Waits until no fork is under way, for a second at most.  Another library's atfork handler
 * may be waiting for a lock that the calling thread holds; then the fork ends only after
 * this thread goes on. */
void qsbr_await_forks(qsbr_record *rec);

/* From here to qsbr_let_forks no other thread forks, so in a child the change in
 * between is complete or has not begun.  It takes a bounded number of instructions, as a
 * section does (Q2).  Each side waits for the other for a second at most.  If one is kept
 * off the CPU for longer, or they wait for each other through a lock of another library,
 * the child gets the change half done. */
QC_INLINE void
qsbr_hold_forks(qsbr_record *rec)
{
    qc_assert(qc_load_relaxed(&rec->holds_forks) == 0);
    qc_store_relaxed(&rec->holds_forks, 1u);
    /* Partner: barrier_heavy in before_fork.  It sees the store above, or the load
     * below sees its flag; else the fork could come between. */
    barrier_light();
    if (qc_unlikely(qc_load_relaxed(&qsbr_forks) != 0))
        qsbr_await_forks(rec);
}

QC_INLINE void
qsbr_let_forks(qsbr_record *rec)
{
    /* release: partner is the acquire load in before_fork; the child has all that was
     * done in between. */
    qc_store_release(&rec->holds_forks, 0u);
}

/* ---- attached threads ---- */

/* For readers that hold pointers most of the time: from attach to detach is one
 * long section, in which qsbr_quiescent_state says "I hold nothing now".  Sections
 * nest inside and cost no barrier.  False: shutting down, stay away. */
bool qsbr_attach(qsbr_record *rec);
void qsbr_detach(qsbr_record *rec);

static inline void
qsbr_quiescent_state(qsbr_record *rec)
{
    qc_assert(rec->nesting == 1);
    /* An exit and an enter: the offline moment between them does no harm, and one argument
     * covers both. */
    qsbr_exit(rec);
    qsbr_enter(rec);
}

#endif
