/* The retire queue: what was unlinked, waiting for its grace period.
 *
 * One queue an interpreter (Q11), one *local* a thread in it.
 *
 *   retire -> [ open batch ] --limit--> advance once, tag with the goal
 *                                              |
 *                [ closed batches of this thread ] --safe point, poll--> run items
 *                                              ^
 *   another thread's safe point takes what quiet threads left (exchange)
 *
 * An item is a function and a word.  It runs at a safe point, where Python code
 * may run: no lock of ours held, outside any section.
 *
 * Why a batch may be tagged once, late: all its items were unlinked before they
 * were put in, and the batch is taken out of everybody's reach before the
 * advance, so the goal comes after every unlink in it.  (Tagging with a goal
 * read before the batch is complete, or a goal that is not advanced to, are the
 * two mistakes; see qsbr.h.)
 *
 * The list.  A local that holds something is on the queue's list, `busy`, so that
 * looking after others costs nothing for locals that hold nothing (T6).  A local's word,
 * `open`, is its open batch and one of
 *
 *   off        the local holds nothing, and is not on the list
 *   LISTED     it is on the list, or in the rest that the looker has yet to look at
 *   IN_HAND    the owner has taken the word (by an exchange) and gives it back LISTED
 *
 *                  owner: exchange                        owner: exchange
 *          off ------------------> IN_HAND <--------------------------- LISTED
 *           ^                         |  store, and push if it was off     ^ |
 *           |                         +------------------------------------+ |
 *           +-------------------- looker: compare and set -------------------+
 *
 * The owner alone gives a local something to hold, its closed batches included, and only
 * with the word in hand.  When it took the word it learned, in the same step, whether the
 * looker had taken the local off; if so it pushes the local once more.  The looker takes
 * the whole list by an exchange and the locals off it one by one: by a compare and set of
 * a word that is not IN_HAND, after which it takes the closed batches too.  A word that
 * is IN_HAND, or has changed, or belongs to a batch that is too young, goes back on the
 * list as it is.  So
 *  - no batch is lost: what the owner stores after the looker's compare and set, it stores
 *    with a word that it found off, and lists;
 *  - no local is on the list twice: only the owner of a word that it found off pushes, and
 *    the looker of one that it has not taken off;
 *  - there is no ABA: locals are pushed one by one and taken all at once.  The compare and
 *    set may succeed on a batch that was out and back meanwhile; it is taken as it is.
 * One thread looks at a time (`looker`, by CAS); it is bounded and runs no Python code.
 * What it has in hand hangs on the queue (`looking`) and on its own local (`gathered`),
 * where the child of a fork finds it.  tests/model/listed.pml checks this to exhaustion.
 *
 * Guarantees that live here
 *  T2  retire_block and retire_ref are O(1), never fail, free nothing and run no
 *      Python code.  Their memory is reserved before the operation changes
 *      anything: retire_reserve is the part that can fail.
 *  T3  The batch is closed, and processing asked for, at RETIRE_MAX_BLOCKS
 *      blocks, RETIRE_MAX_BYTES, or a single block above that.  References wait
 *      in larger batches (RETIRE_BATCH_ITEMS).
 *  T5  Processing is a later operation's business: closing sets the flag in the
 *      thread's record (and calls the queue's `ask` hook), retire_process runs at
 *      the next safe point.  It is not re-entrant, and takes an item out before
 *      it runs it.
 *  T6  Batches, open or closed, are taken by a read-modify-write, by their owner too.
 *      Whoever takes an open one advances and tags it.  So the local of a thread that
 *      ended, or whose batch has been open for RETIRE_QUIET_NS, is emptied by others;
 *      and all are when the queue holds more than RETIRE_QUEUE_BYTES.  Looking after
 *      others is one thread's task at a time, at most every RETIRE_LOOK_NS (at once when
 *      T7's limit has just been passed), with one advance and one goal for all that is
 *      taken, and walks the list above only.  A local is found by its record's number.
 *      What ended threads leave beside batches is freed a few locals a look, and by
 *      retire_collect; records and locals themselves are for the next threads.
 *  T7  What is held, open batches included, is at most retire_bound(largest block): the
 *      one limit RETIRE_HARD_BYTES and twice the largest block.  So a writer may begin
 *      while the limit and one such block are held; and where that is above
 *      RETIRE_MAX_BYTES, half of both: the next large one is not made before the last is
 *      freed, so that a container which is filled and cleared holds little more than
 *      what lives (measured, a list of 200,000: peak 1.5 instead of 2.3 x).  A writer
 *      asks retire_must_wait before it changes anything, and then calls retire_make_room
 *      until there is some; of several that had begun when the limit was passed, each
 *      may add its own operation's blocks.  It waits without locks and without the GIL, so
 *      the waiting is the caller's; after RETIRE_WAIT_NS it calls retire_go_on, and what
 *      is held then is allowed until it has been freed.
 *      Open batches count without a shared write for every retirement: of the locals on
 *      the list RETIRE_ALLOWANCES may each hold limit / RETIRE_SHARES that the queue does
 *      not know of, which the enforcement takes for held; all else is published when it
 *      is committed.
 *      Behind a stopped reader a safe point looks at one goal, the oldest closed batch's:
 *      while that is not reached none is walked.  Closed batches are a chain in the order
 *      in which they came, so the goals ascend, but for adopted ones, which wait for those
 *      before them.  A poll that said no is not repeated by any thread before RETIRE_POLL_NS
 *      or eight times what it took have passed.
 *  T8  retire_drain at the interpreter's exit runs all that can be run.
 *  T9  The counters are atomics, read at any time.
 *  Q7  The queue is freed by its last reference: the interpreter's and those of
 *      threads that are detached inside retire_local_get.
 *  Q10 In the child of a fork, batches that a thread which is gone had reserved or
 *      was running are closed ones again, without the items that had run.  No fork
 *      comes between the instructions that move them (qsbr_hold_forks).
 */
#ifndef QSBR_RETIRE_H
#define QSBR_RETIRE_H

#include "qsbr/qsbr.h"

/* T3: see qsbr.h for what was measured. */
#define RETIRE_MAX_BLOCKS QSBR_DEFER_BLOCKS
#define RETIRE_MAX_BYTES QSBR_DEFER_BYTES
/* References are 16 bytes here and their objects small: 10 ns of barrier each. */
#define RETIRE_BATCH_ITEMS 1020
/* A batch that nobody adds to for this long is anybody's: longer than a thread
 * waits for the CPU, shorter than a user notices. */
#define RETIRE_QUIET_NS ((uint64_t)50 * 1000 * 1000)
/* One thread looks after others, and at most so often. */
#define RETIRE_LOOK_NS ((uint64_t)25 * 1000 * 1000)
/* A poll that has said no is not repeated sooner, by any thread. */
#define RETIRE_POLL_NS ((uint64_t)20 * 1000)
/* T7: the domain's one limit, open batches included, beside twice the largest block: a
 * writer that finds more waits.  (A block that closes its batch alone is waited for by
 * itself.)  Low, since readers are out of their sections after a microsecond and the
 * wait is over then; high enough that some threads can close batches together. */
#define RETIRE_HARD_BYTES ((size_t)4 << 20)
/* At half of it threads close their batches early, and the looker takes young ones too. */
#define RETIRE_QUEUE_BYTES (RETIRE_HARD_BYTES / 2)
/* So that not every retirement writes to a line that all threads write to: the first
 * RETIRE_ALLOWANCES locals on the list may each hold a share of the limit that the queue
 * does not know of, a quarter of the limit together; the others publish each block. */
#define RETIRE_SHARES 64
#define RETIRE_ALLOWANCES 16
/* Nobody keeps a reader off the CPU for longer but a debugger. */
#define RETIRE_WAIT_NS ((uint64_t)1000 * 1000 * 1000)

/* The same, as they are in this process: written before the first queue is made,
 * if at all, and only read afterwards. */
typedef struct {
    uint32_t batch_blocks;
    size_t batch_bytes, queue_bytes, hard_bytes;
    uint64_t quiet_ns, wait_ns, look_ns, poll_ns;
} retire_limits;
extern retire_limits retire_limit;

/* T7: what a thread with an allowance may hold without publishing it. */
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
    _Atomic uintptr_t open;         /* "The list" above: a batch, and how it stands */
    _Atomic(retire_batch *) closed; /* a chain; the owner stores, with `open` in hand */
    _Atomic uint64_t since;         /* when a batch was last opened or closed, ns */
    /* What `open` holds beyond what the queue knows of is the difference. */
    _Atomic uint64_t in_bytes, in_items;   /* (owner writes) that came into it so far */
    _Atomic uint64_t out_bytes, out_items; /* that were published */
    uint64_t allowance;                    /* (owner) T7: may stay unpublished */
    retire_batch *taken;                   /* (owner) this operation's, from reserve to commit */
    retire_batch *running;                 /* (owner) waited for; then the first one's items run */
    retire_batch *spare;                   /* (owner) an empty batch, `taken` at the next reserve */
    retire_batch *gathered, *gathered_open; /* (owner, as the looker) chains on their way */
    qsbr_record *rec;                       /* the thread is whoever has this record now */
    uint64_t tenure; /* (queue's lock to write) of that record, whose local this is */
    retire_queue *queue;
    void *kept_above;        /* (owner) what the layer above keeps for a thread, and frees */
    retire_local *next;      /* written once */
    retire_local *busy_next; /* (the looker, or the owner of a local that is not listed) */
    uint64_t steps;          /* (owner) locals and closed batches that it has looked at */
    int32_t look_again;      /* (owner) operations until it looks at the same goal again */
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
    /* Waits for a goal, by the layer above, while the queue has nothing in hand: false, and
     * nothing is run.  NULL: here, attached.  `drains`: not for ever. */
    bool (*wait)(qsbr_domain *domain, uint64_t goal, bool drains);
    _Atomic(retire_local *) locals; /* grows under `lock`; freed with the queue */
    _Atomic(retire_segment *) segments[RETIRE_SEGMENTS]; /* the same, by record number */
    _Atomic uint32_t generation; /* (lock) of the fork that Q10 has been done for */
    _Atomic uint32_t over;       /* T7: a writer that comes now has to wait */
    _Atomic uint32_t refs;       /* Q7 */
    /* T6 */
    _Alignas(QC_LINE_PAIR) _Atomic(retire_local *) busy; /* push by CAS, take by exchange */
    _Atomic uint64_t listed; /* locals that are listed; approximate by who is about to */
    _Atomic uint64_t next_look, next_poll; /* ns */
    _Atomic(retire_local *) looker;        /* of the thread that looks after others, or NULL */
    retire_local *looking;                 /* (looker) the rest of what it took from `busy` */
    retire_local *sweep_at;                /* (lock, by the looker) the next one, or NULL */
    uint32_t sweep_ends;                   /* (lock) the domain's ends when the sweep began */
    _Atomic uint32_t swept_ends;           /* (looker writes) the same, of the last whole one */
    /* Closed and not yet run, and what is published of open ones: */
    _Alignas(QC_LINE_PAIR) _Atomic uint64_t bytes, items, bytes_peak;
    _Atomic uint64_t largest; /* no block that is held is larger */
    _Atomic uint64_t allowed; /* T7: held when a writer last went on */
    _Atomic uint64_t others;  /* T7: what retire_note_others said */
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
/* The local of that record, whichever thread's it is, or NULL: no lock, O(1). */
retire_local *retire_local_find(retire_queue *queue, qsbr_record *rec);

/* An operation that may retire up to n items: reserve, change, retire, commit.
 * No Python code may run from reserve to commit.  reserve may be called under a
 * container's lock (it uses libc's malloc only) and false means no memory;
 * commit comes after unlocking, since it may call the `ask` hook.
 *
 * The items come into an empty batch of the thread's own, which commit adds to the
 * open one (or which becomes the open one, where that has no room).  So reserving, and
 * committing nothing, is a few loads and stores: whoever might retire something need
 * not find out first. */
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
/* A safe point that takes what all threads left; true: there is room, or none to be
 * had by waiting (inside an item that runs, or a broken barrier). */
bool retire_make_room(retire_local *local);
/* T7, the formula: what may be held where this is the largest block of it, beyond live
 * data and what iterators pin.  The enforcement, stats() and the tests use this. */
uint64_t retire_bound(uint64_t largest);
/* The same as of now, with what a writer that went on has been allowed. */
uint64_t retire_bound_now(retire_queue *queue);
/* Bytes held elsewhere for the same readers (pages that wait), as of now. */
void retire_note_others(retire_queue *queue, uint64_t bytes);
/* Waited long enough. */
void retire_go_on(retire_queue *queue);

/* A safe point: runs what can be run, also what quiet threads left, and returns
 * the number of items.  Called when the record's flag is set or its countdown of
 * operations is over. */
size_t retire_process(retire_local *local);

/* Everything that is in the queue now, of all threads: waits for the grace
 * period by the queue's `wait` hook.  Returns the number of items run, or NO_WAIT where the
 * hook has said false. */
#define RETIRE_NO_WAIT SIZE_MAX
size_t retire_collect(retire_local *local);

/* At the interpreter's exit, until nothing is left or no progress is made (a
 * record of another thread is online for good). */
size_t retire_drain(retire_local *local);

/* Held by all, open batches included; approximate while others run. */
void retire_held(retire_queue *queue, uint64_t *bytes, uint64_t *items);

#endif
