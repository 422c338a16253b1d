/* Records: registration at a thread's first operation, release at its end, and the effects
 * of a fork and of the end of a domain. */
#define _GNU_SOURCE
#include "qsbr/slots.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

qsbr_domain qsbr_process = {
    .wr_seq = QSBR_START, .rd_seq = QSBR_START, .fenced = QSBR_START, .id = 1};
QSBR_TLS qsbr_record *qsbr_self;

static _Thread_local slot_table *thread_slots;
static _Thread_local qsbr_record *thread_process; /* the one that qsbr_self is or was */
static _Thread_local bool thread_has_key;
static pthread_key_t thread_key; /* its destructor ends the thread's records */
static qc_lock list_lock;        /* of the list of domains, and of threads' slots */
static qsbr_domain *all_domains = &qsbr_process;
static _Atomic uint64_t next_domain_id = 2;
static void (*_Atomic forgets[QSBR_FORGETS])(void); /* (list lock to write) */
_Atomic uint32_t qsbr_forks;

/* ---- records ---- */

/* Under the registry lock; NULL: no memory. */
static qsbr_record *
take_record(qsbr_domain *domain)
{
    if (domain->free == NULL) {
        void *memory;
        if (posix_memalign(&memory, QC_LINE_PAIR, sizeof(struct qsbr_chunk)) != 0)
            return NULL;
        struct qsbr_chunk *chunk = memory;
        memset(chunk, 0, sizeof *chunk);
        for (int i = QSBR_CHUNK_RECORDS - 1; i >= 0; i--) {
            chunk->records[i].domain = domain;
            chunk->records[i].number = domain->n_records + (uint32_t)i;
            chunk->records[i].free_next = domain->free;
            domain->free = &chunk->records[i];
        }
        domain->n_records += QSBR_CHUNK_RECORDS;
        chunk->next = qc_load_relaxed(&domain->chunks);
        /* release: partner is the acquire load in the scan, which finds zeroed
         * (offline) records. */
        qc_store_release(&domain->chunks, chunk);
    }
    qsbr_record *rec = domain->free;
    domain->free = rec->free_next;
    return rec;
}

/* Q5: the last of the two references gives the record back to its chunk. */
static void
record_unref(qsbr_record *rec)
{
    if (qc_sub_acq_rel(&rec->refs, 1u) != 1)
        return;
    qsbr_domain *domain = rec->domain;
    qc_lock_acquire(&domain->lock);
    rec->free_next = domain->free;
    domain->free = rec;
    qc_add_relaxed(&domain->ends, 1u);
    qc_lock_release(&domain->lock);
}

/* Under the registry lock: sets or clears the bit by which scans find the record. */
static void
mark_registered(qsbr_record *rec, bool registered)
{
    uint32_t i = rec->number % QSBR_CHUNK_RECORDS;
    struct qsbr_chunk *chunk = (struct qsbr_chunk *)(void *)(rec - i); /* its first member */
    uint32_t bits = qc_load_relaxed(&chunk->registered), mine = (uint32_t)1 << i;
    /* release: partner is the acquire in scan (qsbr.c).  Without it a scan could skip the
     * record before its last section is over. */
    qc_store_release(&chunk->registered, registered ? bits | mine : bits & ~mine);
}

/* The record this thread has or had in `domain`, or NULL. */
static qsbr_record *
find_any(qsbr_domain *domain)
{
    if (domain == &qsbr_process)
        return thread_process;
    return slots_find(thread_slots, domain->id);
}

qsbr_record *
qsbr_find(qsbr_domain *domain)
{
    if (domain == &qsbr_process)
        return qsbr_self;
    qsbr_record *rec = find_any(domain);
    return rec != NULL && qc_load_acquire(&rec->registered) ? rec : NULL;
}

/* A record for the registry's list: this thread's old one, or one from the chunks. */
static qsbr_record *
register_record(qsbr_domain *domain, qsbr_record *old)
{
#ifdef QC_BREAK_REGISTRY_READ_EARLY
    qsbr_record *free = domain->free;
    qc_lock_acquire(&domain->lock);
    domain->free = free; /* as if all below had been read before the lock (Q9) */
#else
    qc_lock_acquire(&domain->lock);
#endif
    qsbr_record *rec = old != NULL ? old : take_record(domain);
    if (rec != NULL) {
        /* `seq` is OFFLINE already and is left alone: a relaxed store would end
         * the release sequence of the last owner's exit. */
        qc_assert(qc_load_relaxed(&rec->seq) == QSBR_OFFLINE);
        qc_add_relaxed(&rec->refs, old != NULL ? 1u : 2u);
        /* release: partners are the acquire loads that find a local's thread ended
         * (retire_locals.c, heap.c).  Without it they could miss what that thread did
         * with its local. */
        if (old == NULL)
            qc_add_acq_rel(&rec->tenure, 1u);
        rec->nesting = 0;
        rec->look_in = QSBR_LOOK_EVERY;
        qc_store_relaxed(&rec->state, domain->shutting_down ? QSBR_SHUTTING_DOWN : QSBR_DETACHED);
        qc_store_release(&rec->registered, 1u);
#ifndef QC_BREAK_NOT_IN_THE_SCAN
        mark_registered(rec, true);
#endif
        qc_add_acq_rel(&domain->registered, 1u);
    }
    qc_lock_release(&domain->lock);
    /* A poll leaves the heavy barrier out if no other record exists.
     * Partner: the fence in fence (qsbr.c), before that look and before the scan's.  Either
     * they see this record, or this thread's sections see the unlink that it polls for. */
    qc_fence_seq_cst();
    return rec;
}

qsbr_record *
qsbr_register(qsbr_domain *domain)
{
    qsbr_record *rec = qsbr_find(domain);
    if (rec != NULL)
        return rec;
    /* Without the key's destructor the record would never be given back. */
    if (!thread_has_key && pthread_setspecific(thread_key, &thread_has_key) != 0)
        return NULL;
    thread_has_key = true;
    qsbr_record *old = find_any(domain);
    if (old == NULL && domain != &qsbr_process && !slots_make_room(&thread_slots, &list_lock))
        return NULL;
    rec = register_record(domain, old);
    if (rec == NULL)
        return NULL;
    if (domain == &qsbr_process)
        thread_process = qsbr_self = rec;
    else if (old == NULL)
        slots_put(thread_slots, domain->id, rec);
    return rec;
}

qsbr_record *
qsbr_register_process(void)
{
    return qsbr_register(&qsbr_process);
}

static void
unregister(qsbr_record *rec)
{
    qsbr_domain *domain = rec->domain;
    qc_lock_acquire(&domain->lock);
    bool was = qc_load_relaxed(&rec->registered) != 0; /* Q9: not before the lock */
    qc_store_release(&rec->registered, 0u);
    if (was) {
        qc_store_release(&rec->seq, QSBR_OFFLINE);
        mark_registered(rec, false);
        /* release: partner is the load of `registered` in fence (qsbr.c);
         * sections of this record end before a poll does without it. */
        qc_sub_acq_rel(&domain->registered, 1u);
    }
    qc_lock_release(&domain->lock);
    if (was) {
        if (rec == qsbr_self)
            qsbr_self = NULL;
        record_unref(rec);
    }
}

void
qsbr_unregister(qsbr_record *rec)
{
    qc_assert(rec->nesting == 0);
    unregister(rec);
}

void
qsbr_at_thread_end(void (*forget)(void))
{
    int i = 0;
    qc_lock_acquire(&list_lock);
    while (qc_load_relaxed(&forgets[i]) != NULL && qc_load_relaxed(&forgets[i]) != forget)
        i++;
    qc_assert(i < QSBR_FORGETS);
    /* release: partner is the acquire load in thread_end. */
    qc_store_release(&forgets[i], forget);
    qc_lock_release(&list_lock);
}

/* Drops both references (Q5), at the end of the thread or of the domain. */
static void
end_record(qsbr_record *rec)
{
    unregister(rec);
    rec->slot = NULL;
    record_unref(rec);
}

/* The end of an OS thread: the key's destructor, without a thread state and
 * possibly after the interpreter.  Plain C and libc, not mimalloc (Q10). */
static void
thread_end(void *key)
{
    (void)key;
    thread_has_key = false;
#ifndef QC_BREAK_NOT_FORGOTTEN
    for (int i = 0; i < QSBR_FORGETS; i++) {
        void (*forget)(void) = qc_load_acquire(&forgets[i]);
        if (forget != NULL)
            forget();
    }
#endif
    if (thread_process != NULL)
        end_record(thread_process);
    thread_process = qsbr_self = NULL;
    slot_table *table = thread_slots;
    if (table == NULL)
        return;
    qc_lock_acquire(&list_lock); /* the end of a domain empties its slots under this lock */
    for (uint32_t i = 0; i <= table->mask; i++) {
        qsbr_record *rec = qc_load_relaxed(&table->slots[i].rec);
        if (rec != NULL)
            end_record(rec);
    }
    thread_slots = NULL;
    slots_unlink(table);
    qc_lock_release(&list_lock);
    free(table);
}

/* ---- attached, detached, shutting down (Q7) ---- */

bool
qsbr_attach(qsbr_record *rec)
{
    uint32_t state = QSBR_DETACHED;
    qc_assert(!qsbr_in_section(rec));
    if (!qc_cas_acq_rel(&rec->state, &state, QSBR_ATTACHED))
        return false;
    qsbr_enter(rec);
    return true;
}

void
qsbr_detach(qsbr_record *rec)
{
    uint32_t state = QSBR_ATTACHED;
    qc_assert(rec->nesting == 1);
    qsbr_exit(rec);
    (void)qc_cas_acq_rel(&rec->state, &state, QSBR_DETACHED); /* or shutting down by now */
}

/* The state of all records that exist, but `mine`, and what new ones begin with. */
static void
set_state(qsbr_domain *domain, qsbr_record *mine, bool shutting_down)
{
    qc_lock_acquire(&domain->lock); /* against records that register just now */
    domain->shutting_down = shutting_down;
    for (struct qsbr_chunk *c = qc_load_relaxed(&domain->chunks); c != NULL; c = c->next) {
        for (int i = 0; i < QSBR_CHUNK_RECORDS; i++) {
            qsbr_record *rec = &c->records[i];
            if (rec == mine)
                continue;
            uint32_t was = QSBR_SHUTTING_DOWN;
            if (shutting_down)
                /* release: partner is the load in qsbr_state_of. */
                qc_store_release(&rec->state, QSBR_SHUTTING_DOWN);
            else
                (void)qc_cas_acq_rel(&rec->state, &was, QSBR_DETACHED);
        }
    }
    qc_lock_release(&domain->lock);
}

void
qsbr_shut_down(qsbr_domain *domain, qsbr_record *mine)
{
    set_state(domain, mine, true);
}

void
qsbr_start_again(qsbr_domain *domain)
{
    set_state(domain, NULL, false);
}

/* ---- domains and fork ---- */

qsbr_domain *
qsbr_domain_new(void)
{
    void *memory;
    if (posix_memalign(&memory, QC_LINE_PAIR, sizeof(qsbr_domain)) != 0)
        return NULL;
    qsbr_domain *domain = memory;
    memset(domain, 0, sizeof *domain);
    qc_store_relaxed(&domain->wr_seq, QSBR_START);
    qc_store_relaxed(&domain->rd_seq, QSBR_START);
    qc_store_relaxed(&domain->fenced, QSBR_START);
    domain->id = qc_add_relaxed(&next_domain_id, 1u);
    qc_lock_init(&domain->lock);
    qc_lock_acquire(&list_lock);
    domain->all_prev = &qsbr_process;
    domain->all_next = qsbr_process.all_next;
    if (domain->all_next != NULL)
        domain->all_next->all_prev = domain;
    qsbr_process.all_next = domain;
    qc_lock_release(&list_lock);
    return domain;
}

void
qsbr_domain_release(qsbr_domain *domain)
{
    qc_lock_acquire(&list_lock); /* no thread ends and no slot table grows meanwhile */
    for (struct qsbr_chunk *c = qc_load_acquire(&domain->chunks); c != NULL; c = c->next) {
        for (int i = 0; i < QSBR_CHUNK_RECORDS; i++) {
            qsbr_record *rec = &c->records[i];
            if (qc_load_acquire(&rec->refs) == 0)
                continue;
#ifndef QC_BREAK_SLOT_IS_LEFT
            qc_store_relaxed(&rec->slot->rec, NULL);
#endif
            end_record(rec);
        }
    }
    domain->all_prev->all_next = domain->all_next; /* the process domain is always first */
    if (domain->all_next != NULL)
        domain->all_next->all_prev = domain->all_prev;
    qc_lock_release(&list_lock);
    for (struct qsbr_chunk *c = qc_load_relaxed(&domain->chunks), *next; c != NULL; c = next) {
        next = c->next;
        free(c);
    }
    qc_poison(domain, sizeof *domain);
    free(domain);
}

/* In the child of a fork one thread is left, with its own records: those of the
 * threads that are gone go back to their chunks, whatever they were doing, and
 * the locks that they may have held are new.  Plain C only (Q10). */
static void
forget_others(qsbr_domain *d, qsbr_record *mine)
{
    d->free = NULL;
    qc_add_relaxed(&d->ends, 1u);
    for (struct qsbr_chunk *c = qc_load_relaxed(&d->chunks); c != NULL; c = c->next) {
        for (int i = 0; i < QSBR_CHUNK_RECORDS; i++) {
            qsbr_record *rec = &c->records[i];
            if (rec == mine)
                continue;
            qc_store_relaxed(&rec->seq, QSBR_OFFLINE);
            qc_store_relaxed(&rec->refs, 0u);
            qc_store_relaxed(&rec->registered, 0u);
            qc_store_relaxed(&rec->holds_forks, 0u);
            mark_registered(rec, false);
            rec->slot = NULL;
            rec->free_next = d->free;
            d->free = rec;
        }
    }
}

/* The forking thread and a thread that holds forks back wait for each other in steps, for
 * a second at most. */
static const struct timespec fork_step = {.tv_nsec = 100 * 1000};
#define FORK_STEPS 10000

void
qsbr_await_forks(qsbr_record *rec)
{
    int steps = FORK_STEPS;
    do {
        qc_store_release(&rec->holds_forks, 0u); /* as in qsbr_let_forks */
        while (qc_load_relaxed(&qsbr_forks) != 0 && steps > 0) {
            nanosleep(&fork_step, NULL);
#ifndef QC_BREAK_FORKS_AWAITED_FOR_EVER
            steps--;
#endif
        }
        qc_store_relaxed(&rec->holds_forks, 1u);
        barrier_light(); /* as in qsbr_hold_forks */
    } while (qc_load_relaxed(&qsbr_forks) != 0 && steps > 0);
}

/* Whether a thread other than this one holds forks back. */
static bool
forks_are_held(void)
{
    bool held = false;
    qc_lock_acquire(&list_lock);
    for (qsbr_domain *d = all_domains; d != NULL; d = d->all_next) {
        qsbr_record *mine = find_any(d); /* a signal handler forks: the child goes on there */
        for (struct qsbr_chunk *c = qc_load_acquire(&d->chunks); c != NULL; c = c->next)
            for (int i = 0; i < QSBR_CHUNK_RECORDS; i++)
                /* acquire: partner is qsbr_let_forks. */
                held |= &c->records[i] != mine && qc_load_acquire(&c->records[i].holds_forks) != 0;
    }
    qc_lock_release(&list_lock);
    return held;
}

/* One barrier serves all looks.  Partner: barrier_light in qsbr_hold_forks.  Whose store
 * the barrier did not make visible loads the flag after it, and holds nothing; without
 * it both could miss the other, and the fork come between.  The flag itself may be
 * relaxed, since the barrier stands behind it. */
static void
before_fork(void)
{
    qc_add_relaxed(&qsbr_forks, 1u);
#ifndef QC_BREAK_FORK_DOES_NOT_WAIT
    for (int tries = barrier_heavy() ? FORK_STEPS : 0; forks_are_held() && tries > 0; tries--)
        nanosleep(&fork_step, NULL);
#else
    (void)forks_are_held;
#endif
}

static void
after_fork_in_parent(void)
{
    qc_sub_relaxed(&qsbr_forks, 1u);
}

static void
after_fork_in_child(void)
{
    qc_store_relaxed(&qsbr_forks, 0u);
    qc_fork_happened();
    qc_lock_init(&list_lock);
    for (qsbr_domain *d = all_domains, *prev = NULL; d != NULL; prev = d, d = d->all_next) {
        d->all_prev = prev; /* the fork may have come between two links */
        qc_lock_init(&d->lock);
        qsbr_record *mine = find_any(d);
        forget_others(d, mine);
        uint32_t registered = mine != NULL && qc_load_relaxed(&mine->registered);
        if (mine != NULL) {
            qc_store_relaxed(&mine->refs, registered + 1u);
            if (!qsbr_in_section(mine))
                qc_store_relaxed(&mine->state, QSBR_DETACHED);
        }
        d->shutting_down = false; /* the process that was is another */
        qc_store_relaxed(&d->registered, registered);
    }
    slots_forget_others(thread_slots);
}

bool
qsbr_init(void)
{
    qc_lock_init(&list_lock);
    qc_lock_init(&qsbr_process.lock);
    return pthread_key_create(&thread_key, thread_end) == 0 &&
           pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0;
}
