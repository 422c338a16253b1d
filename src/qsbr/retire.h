/* The retire queue: what was unlinked, waiting for its grace period.
 *
 * One queue an interpreter (Q11), one *local* a thread in it.
 *
 *   retire -> [ open batch ] --limit--> advance once, tag with the goal
 *                                              |
 *                [ closed batches of this thread ] --safe point, poll--> run items
 *                                              ^
 *   another thread's safe point takes the batches of quiet threads (CAS, exchange)
 *
 * An item is a function and a word.  It runs at a safe point, where Python code
 * may run: no lock of ours held, outside any section.
 *
 * Why a batch may be tagged once, late.  Every item was unlinked before it was put in,
 * and no other thread can reach the batch once it is taken.  The advance comes after
 * the taking, so the goal comes after every unlink in the batch.  (The two possible
 * mistakes are a goal that is read before the batch is complete, and a goal that is
 * not advanced to; see qsbr.h.)
 *
 * The list.  Every local that holds a batch is on the queue's list, `busy`, so that a
 * look costs nothing for locals that hold none (T6).  A local's word, `open`, is its open
 * batch and one of three states:
 *
 *   off        the local holds no batch and is not on the list
 *   LISTED     it is on the list, or in the part of it that the looker has yet to visit
 *   IN_HAND    the owner has taken the word by an exchange, and gives it back LISTED
 *
 *                  owner: exchange                        owner: exchange
 *          off ------------------> IN_HAND <--------------------------- LISTED
 *           ^                         |  store, and push if it was off     ^ |
 *           |                         +------------------------------------+ |
 *           +-------------------- looker: compare and set -------------------+
 *
 * Only the owner adds batches to a local, open or closed, and only with the word in hand.
 * The exchange that takes the word also tells the owner whether the looker has taken the
 * local off the list; if so, the owner pushes it again.  The looker takes the whole list by
 * an exchange and then visits its locals one by one.  It takes a local off by a compare and
 * set of a word that is not IN_HAND, and then takes the closed batches too.  If the word is
 * IN_HAND, has changed, or has a batch that is too young, the looker pushes the local back
 * unchanged.  It follows that
 *  - no batch is lost: an owner that stores a batch after the looker's compare and set has
 *    found the word off, and lists the local;
 *  - no local is on the list twice: a local is pushed only by the owner that found its word
 *    off, or by the looker that visited it and did not take it off;
 *  - there is no ABA: locals are pushed one by one and taken all together.  The compare and
 *    set may succeed on a batch that was taken and given back in between, and then the looker
 *    takes that batch as it is by now.
 * One thread looks at a time (`looker`, by CAS).  A look is bounded and runs no Python code.
 * The looker keeps what it has taken on the queue (`looking`) and on its own local
 * (`gathered`), where the child of a fork finds it.  tests/model/listed.pml checks this to
 * exhaustion.
 *
 * Guarantees that live here
 *  T2  retire_block and retire_ref are O(1), never fail, free nothing and run no
 *      Python code.  Their memory is reserved before the operation changes
 *      anything: retire_reserve is the part that can fail.
 *  T3  The batch is closed, and processing asked for, at RETIRE_MAX_BLOCKS
 *      blocks, RETIRE_MAX_BYTES, or a single block above that; and earlier, at a share of
 *      the limit, while the queue holds more than RETIRE_QUEUE_BYTES.  References wait
 *      in larger batches (RETIRE_BATCH_ITEMS).
 *  T5  Processing is a later operation's business: closing sets the flag in the
 *      thread's record (and calls the queue's `ask` hook), retire_process runs at
 *      the next safe point.  It is not re-entrant, and takes an item out before
 *      it runs it.
 *  T6  Every thread, the owner included, takes batches, open or closed, by a
 *      read-modify-write.  The thread that takes an open one advances and then tags it.  So
 *      other threads empty the local of a thread that ended, or whose batch has been open
 *      for RETIRE_QUIET_NS, and all locals while the queue holds more than
 *      RETIRE_QUEUE_BYTES.  One thread looks at a time, at most every RETIRE_LOOK_NS
 *      (immediately when T7's limit has just been passed).  It walks only the list above,
 *      and makes one advance and one goal for all that it takes.  A local is found by its
 *      record's number.  Each look frees what ended threads leave beside batches in a few
 *      locals, and retire_collect in all; records and locals serve the next threads.
 *  T7  What is held, open batches and the heap's waiting pages included, is at most
 *      retire_bound(largest block): the one limit RETIRE_HARD_BYTES plus twice the largest
 *      block.  So a writer may begin
 *      while no more than the limit and one such block are held.  If the largest block is
 *      above RETIRE_MAX_BYTES, no more than half of RETIRE_MAX_BYTES plus half of that block
 *      may be held: the last large block is freed before the next is made, so a container
 *      that is filled and cleared holds little more than its live data (measured, a list of
 *      200,000: peak 1.5 instead of 2.3 x).  A writer asks retire_must_wait before it
 *      changes anything, and then calls retire_make_room until there is room.  Writers that
 *      had begun when the limit was passed may each add their own operation's blocks.  The
 *      caller does the waiting, without locks and without the GIL.  After RETIRE_WAIT_NS it
 *      calls retire_go_on: the limit rises by twice what is held at that moment, until what
 *      is held has fallen below the limit again.
 *      Open batches count without a shared write for every retirement: RETIRE_ALLOWANCES of
 *      the locals on the list may each hold limit / RETIRE_SHARES bytes unpublished, which
 *      the enforcement counts as held.  All other bytes are published at commit.
 *      Behind a stopped reader a safe point checks one goal, that of the oldest closed
 *      batch, and walks no batch while it is not reached.  Closed batches are chained in the
 *      order in which they were closed, so their goals ascend.  Adopted batches are the
 *      exception; they wait for those before them.  After a poll that says no, no thread
 *      polls again before RETIRE_POLL_NS and eight times the poll's duration, up to 1 ms,
 *      have passed.
 *  T8  retire_drain at the interpreter's exit runs all that can be run.
 *  T9  The counters are atomics, read at any time.
 *  Q7  The queue is freed by its last reference: the interpreter's and those of
 *      threads that are detached inside retire_local_get.
 *  Q10 In the child of a fork, the batches that a thread which is gone had reserved, was
 *      running or had gathered are closed again, without the items that had run.  No fork
 *      comes between the instructions that move a batch (qsbr_hold_forks).
 */
#ifndef QSBR_RETIRE_H
#define QSBR_RETIRE_H

#include "qsbr/qsbr.h"

/* T3: see qsbr.h for what was measured. */
#define RETIRE_MAX_BLOCKS QSBR_DEFER_BLOCKS
#define RETIRE_MAX_BYTES QSBR_DEFER_BYTES
/* References are 16 bytes here and their objects small: 10 ns of barrier each. */
#define RETIRE_BATCH_ITEMS 1020
/* Any thread may take a batch that has been open for this long: longer than a thread
 * waits for the CPU, shorter than a user notices. */
#define RETIRE_QUIET_NS ((uint64_t)50 * 1000 * 1000)
/* The least time between two looks, of whichever threads. */
#define RETIRE_LOOK_NS ((uint64_t)25 * 1000 * 1000)
/* After a poll that said no, no thread polls again sooner. */
#define RETIRE_POLL_NS ((uint64_t)20 * 1000)
/* T7: the queue's one limit, open batches included, to which the formula adds twice the
 * largest block.  A writer that finds more waits.  (After a block that closes its batch
 * alone, the next writer waits for that block.)  The limit is low, since readers leave their
 * sections after a microsecond and then the wait is over, and high enough for some threads to
 * close batches at the same time. */
#define RETIRE_HARD_BYTES ((size_t)4 << 20)
/* From half of it on, threads close their batches early and the looker takes young ones. */
#define RETIRE_QUEUE_BYTES (RETIRE_HARD_BYTES / 2)
/* The first RETIRE_ALLOWANCES locals on the list may each hold one share of the limit
 * unpublished, a quarter of the limit together; the others publish each block.  So most
 * retirements do not write to the line that all threads write to. */
#define RETIRE_SHARES 64
#define RETIRE_ALLOWANCES 16
/* Only a debugger keeps a reader off the CPU for longer. */
#define RETIRE_WAIT_NS ((uint64_t)1000 * 1000 * 1000)

/* The limits of this process: written before the first queue is made, if at all, and
 * only read afterwards. */
typedef struct {
    uint32_t batch_blocks;
    size_t batch_bytes, queue_bytes, hard_bytes;
    uint64_t quiet_ns, wait_ns, look_ns, poll_ns;
} retire_limits;
extern retire_limits retire_limit;

/* The monotonic clock, in ns, by which all limits of time go. */
uint64_t retire_now_ns(void);

/* T7: the bytes that a thread with an allowance may hold unpublished. */
static inline uint64_t
retire_allowance(void)
{
    return retire_limit.hard_bytes / RETIRE_SHARES;
}

typedef void (*retire_fn)(uint64_t arg);
typedef struct retire_queue retire_queue;
typedef struct retire_local retire_local;
typedef struct retire_batch retire_batch;

struct retire_local {
    _Atomic uintptr_t open;         /* the open batch and its state: "The list" above */
    _Atomic(retire_batch *) closed; /* a chain; the owner stores, with `open` in hand */
    _Atomic uint64_t since;         /* when a batch was last opened or closed, ns */
    /* The difference of these two is what `open` holds unpublished. */
    _Atomic uint64_t in_bytes, in_items;   /* (owner writes) put in so far */
    _Atomic uint64_t out_bytes, out_items; /* published so far */
    uint64_t allowance;                    /* (owner) T7: bytes that may stay unpublished */
    retire_batch *taken;                   /* (owner) this operation's, from reserve to commit */
    retire_batch *running; /* (owner) whose goals it polls for; then the first runs */
    retire_batch *spare;   /* (owner) an empty batch, `taken` at the next reserve */
    retire_batch *gathered, *gathered_open; /* (owner, as the looker) chains that it has taken */
    qsbr_record *rec;                       /* the local's thread is the one that has it now */
    uint64_t tenure; /* (queue's lock to write) the record's, when the thread got the local */
    retire_queue *queue;
    void *kept_above;        /* (owner) per-thread data of the layer above, which frees it */
    retire_local *next;      /* written once */
    retire_local *busy_next; /* (looker; owner while the local is not listed) */
    uint64_t steps;          /* (owner) locals and closed batches that it has visited */
    int32_t look_again;      /* (owner) operations until it checks the same goal again */
    bool processing;         /* (owner) T5: not re-entrant */
    bool tell;               /* (owner) the `ask` hook is due at commit */
};

typedef _Atomic(retire_local *) retire_segment;
#define RETIRE_SEGMENTS 27 /* all record numbers of 32 bits */

struct retire_queue {
    qsbr_domain *domain;
    uint64_t id;         /* never reused: thread-local caches compare it (Q5) */
    void (*ask)(void *); /* asks the main thread for a safe point; may be NULL */
    void *ask_arg;
    void (*drop_kept)(void *); /* frees what an ended thread's kept_above holds; may be NULL */
    /* The layer above waits for a goal; the calling thread has no batch in hand.  False: run
     * nothing.  `drains`: the wait is bounded.  NULL: the queue waits itself, attached. */
    bool (*wait)(qsbr_domain *domain, uint64_t goal, bool drains);
    _Atomic(retire_local *) locals; /* grows under `lock`; freed with the queue */
    _Atomic(retire_segment *) segments[RETIRE_SEGMENTS]; /* the same, by record number */
    _Atomic uint32_t generation; /* (lock) of the fork that Q10 has been done for */
    _Atomic uint32_t over;       /* T7: a writer that comes now has to wait */
    _Atomic uint32_t refs;       /* Q7 */
    /* T6 */
    _Alignas(QC_LINE_PAIR) _Atomic(retire_local *) busy; /* push by CAS, take by exchange */
    _Atomic uint64_t listed; /* locals on the list, approximately: counted just before the push */
    _Atomic uint64_t next_look, next_poll; /* ns */
    _Atomic(retire_local *) looker;        /* the local of the thread that looks, or NULL */
    retire_local *looking;                 /* (looker) the locals from `busy` still to be visited */
    retire_local *sweep_at;                /* (lock, by the looker) the next one, or NULL */
    uint32_t sweep_ends;                   /* (lock) the domain's ends when the sweep began */
    _Atomic uint32_t swept_ends;           /* (looker writes) the same of the last complete sweep */
    /* Of batches that are closed and not yet run, and the published part of open ones: */
    _Alignas(QC_LINE_PAIR) _Atomic uint64_t bytes, items, bytes_peak;
    _Atomic uint64_t largest; /* upper bound of the blocks that are held */
    _Atomic uint64_t allowed; /* T7: held when a writer last went on */
    _Atomic uint64_t others;  /* T7: from retire_note_others */
    _Atomic uint64_t items_run, bytes_run, batches;
    _Atomic uint64_t waits, waits_in_vain; /* (the layer above counts) T7 */
    qc_lock lock;
};

/* NULL: no memory.  The queue must be empty, and used by no thread but inside
 * retire_local_get, when the creator's reference is dropped. */
retire_queue *retire_queue_new(qsbr_domain *domain);
void retire_queue_ref(retire_queue *queue);
void retire_queue_unref(retire_queue *queue);
bool retire_queue_is_empty(retire_queue *queue);

/* The local of the thread that has `rec`: a thread that got a recycled record
 * takes over what the last one left.  Takes the queue's lock: detached, as
 * registering is (Q8).  NULL: no memory. */
retire_local *retire_local_get(retire_queue *queue, qsbr_record *rec);
/* The local of that record, or NULL; the tenure tells which thread's it is.  No lock, O(1). */
retire_local *retire_local_find(retire_queue *queue, qsbr_record *rec);

/* An operation that may retire up to n items: reserve, change, retire, commit.
 * No Python code may run from reserve to commit.  reserve may be called under a
 * container's lock (it uses libc's malloc only) and false means no memory;
 * commit comes after unlocking, since it may call the `ask` hook.
 *
 * The items go into an empty batch of the thread's own.  commit appends it to the open
 * one, or makes it the open one if that has no room.  Reserving and then committing no
 * item is a few loads and stores, so an operation may reserve before it knows whether it
 * will retire anything. */
bool retire_reserve(retire_local *local, unsigned n);
void retire_block(retire_local *local, retire_fn fn, uint64_t arg, size_t bytes);
void retire_ref(retire_local *local, retire_fn fn, uint64_t arg);
void retire_commit(retire_local *local);

/* T7: whether a writer has to wait before it changes anything.  One load of a
 * line that hardly ever changes. */
QC_INLINE bool
retire_must_wait(retire_queue *queue)
{
    return qc_unlikely(qc_load_relaxed(&queue->over) != 0);
}
/* A safe point that takes the batches of all threads.  True: there is room, or waiting
 * cannot make any (inside an item that runs, or with a broken barrier). */
bool retire_make_room(retire_local *local);
/* T7, the formula: the most bytes that may be held if the largest block held has this size,
 * beyond live data and the tables that iterators pin.  The enforcement, stats() and the
 * tests use this. */
uint64_t retire_bound(uint64_t largest);
/* The current bound, including the rise after a wait that timed out. */
uint64_t retire_bound_now(retire_queue *queue);
/* Sets the bytes that are held elsewhere for the same readers: the heap's waiting pages. */
void retire_note_others(retire_queue *queue, uint64_t bytes);
/* The writer has waited for RETIRE_WAIT_NS: raises the limit (T7). */
void retire_go_on(retire_queue *queue);

/* A safe point: runs every batch whose goal is reached, those of quiet threads included,
 * and returns the number of items.  Called when the record's flag is set or its countdown
 * of operations is over. */
size_t retire_process(retire_local *local);

/* Runs everything that is in the queue now, of all threads, after one grace period, for
 * which the queue's `wait` hook waits.  Returns the number of items run, or
 * RETIRE_NO_WAIT if the hook returned false. */
#define RETIRE_NO_WAIT SIZE_MAX
size_t retire_collect(retire_local *local);

/* At the interpreter's exit, until nothing is left or no progress is made (a
 * record of another thread is online for good). */
size_t retire_drain(retire_local *local);

/* Held by all, open batches included; approximate while others run. */
void retire_held(retire_queue *queue, uint64_t *bytes, uint64_t *items);

#endif
