/* The C API: the retire queue of other extensions.
 *
 * It is the containers' queue (retire.h), over a domain of theirs, without the main
 * thread's pending call: their own operations are its safe points.  T2 and T5 hold as
 * they do there. */
#include "py/py_capi.h"

#include "py/py_limits.h"
#include "py/py_wait.h"
#include "py/py_threads.h"

#include <stdlib.h>

struct qsbrc_queue {
    capi_link link;
    retire_queue *engine;
    qsbrc_domain *domain;
    int64_t interpreter; /* Q11 */
    unsigned users;      /* (queues' lock) its owner until queue_free, a thread that drains it */
};

/* All queues: an interpreter's end finds its own here, and what a queue_free could not
 * empty stays reachable (T8). */
static capi_list queues;

/* Room is the thread's local while a batch is taken; what is left of it is kept in
 * kept_above, which is ours in these queues. */
static uintptr_t
room_left(retire_local *local)
{
    return (uintptr_t)local->kept_above;
}

static void
set_room(retire_local *local, uintptr_t n)
{
    local->kept_above = (void *)n;
}

/* The local that this thread has already, without a lock: of the locals with its record
 * there is one, and of the threads that had the record it is this one's if it says so. */
static retire_local *
find_local(retire_queue *engine, qsbr_record *rec)
{
    retire_local *l = retire_local_find(engine, rec);
    return l != NULL && l->tenure == qc_load_relaxed(&rec->tenure) ? l : NULL;
}

static retire_local *
local_of(qsbrc_queue *queue)
{
    uint64_t id = queue->engine->id;
    size_t i = id % CAPI_CACHED;
    if (qc_likely(capi_cached.locals[i].id == id))
        return capi_cached.locals[i].found;
    qsbr_record *rec = capi_record(queue->domain);
    if (rec == NULL)
        return NULL;
    retire_queue *engine = queue->engine;
    retire_local *local = find_local(engine, rec);
    if (local == NULL) {
        /* Q7: this thread may never attach again, and the interpreter end meanwhile. */
        retire_queue_ref(engine);
        PyThreadState *detached = threads_detach();
        local = retire_local_get(engine, rec);
        retire_queue_unref(engine);
        threads_attach(detached);
        if (local == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        set_room(local, 0); /* the record's last thread may have left some */
    }
    capi_cached.locals[i].id = id;
    capi_cached.locals[i].found = local;
    return local;
}

static qsbrc_queue *
queue_new(qsbrc_domain *domain)
{
    qsbrc_queue *queue = malloc(sizeof *queue);
    retire_queue *engine = queue == NULL ? NULL : retire_queue_new(domain->engine);
    if (engine == NULL) {
        free(queue);
        PyErr_NoMemory();
        return NULL;
    }
    capi_domain_ref(domain);
    queue->engine = engine;
    engine->wait = wait_for_queue;
    queue->domain = domain;
    queue->interpreter = capi_interpreter();
    queue->users = 1;
    capi_list_lock(&queues);
    capi_list_add(&queues, &queue->link);
    qc_lock_release(&queues.lock);
    return queue;
}

/* ---- retiring (T2) ---- */

static qsbrc_room *
reserve(qsbrc_queue *queue, unsigned n)
{
    _Static_assert(QSBRC_MAX_ROOM <= RETIRE_BATCH_ITEMS, "no batch has that room");
    retire_local *local = local_of(queue);
    if (local == NULL)
        return NULL;
    if (n > QSBRC_MAX_ROOM)
        PyErr_Format(PyExc_ValueError, "qsbrc_reserve() of more than %u", QSBRC_MAX_ROOM);
    else if (local->taken != NULL)
        PyErr_SetString(PyExc_RuntimeError, "qsbrc_reserve() again before qsbrc_commit()");
    else if (queue->interpreter != capi_interpreter())
        PyErr_SetString(PyExc_RuntimeError, "qsbrc_reserve() in a queue of another interpreter");
    else if (retire_must_wait(queue->engine) && limits_wait_in(local, NULL) < 0)
        return NULL;
    else if (!retire_reserve(local, n))
        PyErr_NoMemory();
    else {
        set_room(local, n);
        return (qsbrc_room *)local;
    }
    return NULL;
}

static void
retire(qsbrc_room *room, qsbrc_free_fn fn, uint64_t word, size_t bytes)
{
    retire_local *local = (retire_local *)room;
    uintptr_t left = room_left(local);
    if (qc_unlikely(local->taken == NULL || left == 0))
        Py_FatalError("qsbrc_retire() without room: more calls than were reserved");
    /* Here, and not later at some other's safe point. */
    if (qc_unlikely(fn == NULL))
        Py_FatalError("qsbrc_retire() without a function");
    set_room(local, left - 1);
    if (bytes != 0)
        retire_block(local, fn, word, bytes);
    else
        retire_ref(local, fn, word);
}

static void
commit(qsbrc_room *room)
{
    retire_local *local = (retire_local *)room;
    if (qc_unlikely(local->taken == NULL))
        Py_FatalError("qsbrc_commit() without qsbrc_reserve()");
    set_room(local, 0);
    retire_commit(local);
}

/* ---- safe points (T5) ---- */

/* Items may run: nothing of the domain is in this thread's hands. */
static bool
may_process(qsbrc_queue *queue, retire_local *local)
{
    return !qsbr_in_section(local->rec) && local->taken == NULL &&
           queue->interpreter == capi_interpreter();
}

/* Q7: while the interpreter ends, the thread that ends it frees; the others do if much
 * gathers. */
static bool
leave_it(qsbrc_queue *queue, retire_local *local)
{
    return qsbr_state_of(local->rec) == QSBR_SHUTTING_DOWN &&
           qc_load_relaxed(&queue->engine->bytes) <= retire_limit.queue_bytes;
}

/* Also for a thread that is new here: it may be the one that frees what others have
 * left (T6). */
static QC_NOINLINE void
look_around(qsbrc_queue *queue)
{
    threads_exception set = threads_put_aside();
    retire_local *local = local_of(queue);
    if (local == NULL)
        PyErr_Clear(); /* no memory now; a later safe point does the work */
    else if (!qsbr_is_asked(local->rec))
        ; /* its first operation here */
    else if (leave_it(queue, local))
        local->rec->look_in = QSBR_LOOK_EVERY;
    else if (may_process(queue, local))
        retire_process(local);
    threads_put_back(set);
}

static void
safe_point(qsbrc_queue *queue)
{
    uint64_t id = queue->engine->id;
    size_t i = id % CAPI_CACHED;
    if (qc_likely(capi_cached.locals[i].id == id)) {
        retire_local *local = capi_cached.locals[i].found;
        if (!qsbr_safe_point_is_due(local->rec))
            return;
    }
    look_around(queue);
}

static Py_ssize_t
collect(qsbrc_queue *queue)
{
    retire_local *local = local_of(queue);
    if (local == NULL)
        return -1;
    if (!may_process(queue, local)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "qsbrc_collect() in a section, between qsbrc_reserve() and qsbrc_commit(), "
                        "or in another interpreter than the queue's");
        return -1;
    }
    /* This wait comes first, since it raises if there is no grace period. */
    if (capi_wait(queue->domain, qsbr_advance(queue->domain->engine)) < 0)
        return -1;
    threads_exception none = threads_put_aside();
    size_t n = retire_collect(local);
    if (n == RETIRE_NO_WAIT)
        return -1;
    threads_put_back(none);
    return (Py_ssize_t)n;
}

/* ---- the end ---- */

static void
drain(qsbrc_queue *queue)
{
    threads_exception set = threads_put_aside();
    retire_local *local = local_of(queue);
    if (local != NULL && may_process(queue, local))
        retire_drain(local);
    threads_put_back(set);
}

/* The interpreter's next queue after `queue`, or its first one; adds a user. */
static qsbrc_queue *
next_queue(int64_t interpreter, qsbrc_queue *queue)
{
    capi_list_lock(&queues);
    capi_link *link = queue != NULL ? queue->link.next : queues.first.next;
    while (link != NULL && ((qsbrc_queue *)link)->interpreter != interpreter)
        link = link->next;
    if (link != NULL)
        ((qsbrc_queue *)link)->users++;
    qc_lock_release(&queues.lock);
    return (qsbrc_queue *)link;
}

/* The last user frees the queue, if it is empty; a reader may still hold what is in it. */
static void
drop_user(qsbrc_queue *queue)
{
    bool last;
    capi_list_lock(&queues);
    last = --queue->users == 0 && retire_queue_is_empty(queue->engine);
    if (last)
        capi_list_remove(&queues, &queue->link);
    qc_lock_release(&queues.lock);
    if (!last)
        return;
    retire_queue_unref(queue->engine);
    capi_domain_unref(queue->domain);
    free(queue);
}

static void
queue_free(qsbrc_queue *queue)
{
    if (queue == NULL)
        return;
    drain(queue);
    capi_cached.locals[queue->engine->id % CAPI_CACHED].id = 0;
    drop_user(queue);
}

/* A queue is drained here, not by its module: an item that waits in it may be the last
 * reference that keeps the module alive, and then the module never frees it. */
void
qc_capi_drain(void)
{
    int64_t interpreter = capi_interpreter();
    capi_domains_shut_down(interpreter);
    for (qsbrc_queue *queue = next_queue(interpreter, NULL), *next; queue != NULL; queue = next) {
        drain(queue);
        next = next_queue(interpreter, queue); /* a queue with a user stays on the list */
        drop_user(queue);
    }
}

static void
queue_held(qsbrc_queue *queue, uint64_t *bytes, uint64_t *items)
{
    retire_held(queue->engine, bytes, items);
}

void
capi_fill_queue(qsbrc_api *api)
{
    capi_list_init(&queues);
    api->queue_new = queue_new;
    api->queue_free = queue_free;
    api->reserve = reserve;
    api->retire = retire;
    api->commit = commit;
    api->safe_point = safe_point;
    api->collect = collect;
    api->queue_held = queue_held;
}
