#define _GNU_SOURCE /* dladdr, RTLD_NODELETE */
#include "py/py_threads.h"

#include "py/py_numbers.h"
#include "py/py_wait.h"

#include <dlfcn.h>
#include <time.h>

QSBR_TLS threads_cache threads_cached;
_Atomic uint32_t threads_states;
uint32_t threads_settle_ms = QC_SETTLE_MS;

static qc_lock process_lock; /* interpreters with a GIL each may import at the same time */
static bool process_ok;      /* (process_lock) */

static void
forget_local(void)
{
    threads_cached = (threads_cache){0};
}

/* With the lock; false, and `bad_limit` may be the name of a variable that holds no number.
 * Tried again by the next import: somebody may have set the environment right. */
static bool
init_process(const char *barrier_wanted, const char **bad_limit)
{
    *bad_limit = limits_from_environment();
    if (*bad_limit != NULL || !barrier_init(barrier_wanted) || !qsbr_init())
        return false;
    qsbr_at_thread_end(forget_local);
#ifdef QC_DEBUG
    const char *yield = getenv("QSBRCONTAINERS_YIELD"); /* NOLINT(concurrency-mt-unsafe) */
    qc_yield_at_random(yield != NULL ? (unsigned)strtoul(yield, NULL, 10) : 0);
#endif
    /* The TLS destructor and the fork handler must outlive any dlclose. */
    Dl_info info;
    if (dladdr((void *)&process_lock, &info) != 0)
        (void)dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE | RTLD_NOLOAD);
    return true;
}

/* What the variable holds, or "".  At import; only what changes the environment just then
 * could hurt. */
static const char *
text_of(const char *variable)
{
    const char *text = getenv(variable); /* NOLINT(concurrency-mt-unsafe) */
    return text != NULL ? text : "";
}

int
threads_init_process(void)
{
    const char *wanted = text_of("QSBRCONTAINERS_BARRIER"), *bad_limit = NULL;
    qc_lock_acquire(&process_lock);
    if (!process_ok)
        process_ok = init_process(wanted[0] != '\0' ? wanted : NULL, &bad_limit);
    bool ok = process_ok;
    qc_lock_release(&process_lock);
    if (ok)
        return 0;
    if (bad_limit != NULL)
        PyErr_Format(PyExc_ImportError, "%s=%s: not a number, or out of range", bad_limit,
                     text_of(bad_limit));
    else
        PyErr_Format(PyExc_ImportError,
                     "QSBRCONTAINERS_BARRIER=%s: not \"membarrier\" or \"fence\", or not to be had "
                     "on this machine",
                     wanted);
    return -1;
}

/* T5: a safe point on the main thread, for threads that retire and go idle.  The
 * call finds the main interpreter's state here, since it may come after that
 * state's end. */
static qc_state *main_state; /* (the main interpreter, attached) */
/* One more than the fork generation in which it was asked, or 0: what a thread that
 * a fork left behind was about to do is not going to be done. */
static _Atomic uint32_t main_asked;

static int
pending_safe_point(void *arg)
{
    (void)arg;
    qc_store_release(&main_asked, 0u);
    if (main_state != NULL)
        threads_safe_point(main_state);
    return 0;
}

static void
ask_main_thread(void *arg)
{
    (void)arg;
    uint32_t was = qc_load_relaxed(&main_asked), now = qc_fork_generation + 1;
    if (was == now || !qc_cas_acq_rel(&main_asked, &was, now))
        return;
    /* A full queue leaves the flag in the record to do it. */
    if (Py_AddPendingCall(pending_safe_point, NULL) != 0)
        qc_store_release(&main_asked, 0u);
}

/* ---- detaching ---- */

/* One more than the id of the interpreter that this thread is ending. */
static _Thread_local int64_t ending;

static int64_t
interpreter_id(void)
{
    return PyInterpreterState_GetID(PyInterpreterState_Get());
}

PyThreadState *
threads_detach(void)
{
    return qc_unlikely(ending != 0) && ending == interpreter_id() + 1 ? NULL : PyEval_SaveThread();
}

void
threads_attach(PyThreadState *detached)
{
    if (detached != NULL)
        PyEval_RestoreThread(detached);
}

void
threads_stay_attached(void)
{
    ending = interpreter_id() + 1;
}

/* ---- an interpreter's state ---- */

int
threads_init_state(qc_state *state)
{
    ending = 0; /* a process that starts Python again has the main one's id again */
    state->queue = retire_queue_new(&qsbr_process);
    state->heap = heap_new(&qsbr_process);
    if (state->queue == NULL || state->heap == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    state->queue->drop_kept = numbers_free;
    state->queue_id = state->queue->id;
    state->queue->wait = wait_for_queue;
    (void)qc_add_relaxed(&threads_states, 1u);
    qc_lock_init(&state->waits_lock);
    /* Pending calls run in the main interpreter, whoever asks. */
    if (PyInterpreterState_Get() == PyInterpreterState_Main()) {
        qsbr_start_again(&qsbr_process);
        state->queue->ask = ask_main_thread;
        main_state = state;
    }
    return 0;
}

void
threads_shut_down(void)
{
    if (PyInterpreterState_Get() != PyInterpreterState_Main())
        return;
    Py_BEGIN_ALLOW_THREADS
    qsbr_shut_down(&qsbr_process, qsbr_self); /* waits for the registry lock (Q8) */
    Py_END_ALLOW_THREADS
}

void
threads_fini_state(qc_state *state)
{
    if (main_state == state)
        main_state = NULL;
    if (state->queue != NULL) {
        state->queue->ask = NULL;
        retire_local *local = threads_local(state);
        if (local != NULL)
            retire_drain(local);
        else
            PyErr_Clear();
        /* T8: a record that is online for good keeps its batches reachable. */
        if (retire_queue_is_empty(state->queue)) {
            threads_cached = (threads_cache){0};
            for (retire_local *l = qc_load_acquire(&state->queue->locals); l != NULL; l = l->next)
                numbers_drop(l);
            retire_queue_unref(state->queue); /* or its last thread does (Q7) */
        }
        state->queue = NULL;
    }
    if (state->heap != NULL)
        heap_delete(state->heap);
    state->heap = NULL;
}

qsbr_record *
threads_register(void)
{
    qsbr_record *rec;
    PyThreadState *detached = threads_detach(); /* Q8 */
    rec = qsbr_register_process();
    threads_attach(detached);
    if (rec == NULL)
        PyErr_NoMemory();
    return rec;
}

retire_local *
threads_local_slow(qc_state *state)
{
    qsbr_record *rec = qsbr_self != NULL ? qsbr_self : threads_register();
    if (rec == NULL)
        return NULL;
    retire_local *local;
    retire_queue *queue = state->queue;
    /* Q7: this thread may never attach again, and the interpreter end meanwhile. */
    retire_queue_ref(queue);
    PyThreadState *detached = threads_detach(); /* Q8 */
    local = retire_local_get(queue, rec);
    retire_queue_unref(queue);
    threads_attach(detached);
    if (local == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    threads_cached.queue_id = queue->id;
    threads_cached.local = local;
    threads_cached.numbers = NULL; /* until the next safe point */
    return local;
}

threads_exception
threads_put_aside(void)
{
    threads_exception e = {NULL, NULL, NULL};
#if PY_VERSION_HEX >= 0x030C0000
    e.value = PyErr_GetRaisedException();
#else
    PyErr_Fetch(&e.type, &e.value, &e.trace);
#endif
    return e;
}

void
threads_put_back(threads_exception e)
{
    if (PyErr_Occurred())
        PyErr_WriteUnraisable(NULL);
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(e.value);
#else
    PyErr_Restore(e.type, e.value, e.trace);
#endif
}

void
threads_safe_point(qc_state *state)
{
    qsbr_record *rec = qsbr_self;
    if (rec != NULL)
        rec->look_in = QSBR_LOOK_EVERY;
    threads_exception set = threads_put_aside();
    retire_local *local = threads_local(state);
    if (local == NULL) {
        PyErr_Clear(); /* no memory now; a later safe point does the work */
    }
    else if (qsbr_state_of(local->rec) != QSBR_SHUTTING_DOWN ||
             qc_load_relaxed(&state->queue->bytes) > retire_limit.queue_bytes) {
        numbers_keep(local);
        retire_process(local);
        uint64_t waiting = heap_waiting_bytes(state->heap);
        if (waiting > heap_waiting_limit) { /* T7: no writer may come that would */
            heap_collect(state->heap, NULL);
            waiting = heap_waiting_bytes(state->heap);
        }
        retire_note_others(state->queue, waiting);
        heap_tidy(state->heap);
        limits_collect_dead(state);
    }
    threads_put_back(set);
}

void
threads_retire(retire_local *local, retire_fn fn, uint64_t arg, size_t bytes)
{
    if (qc_likely(retire_reserve(local, 1))) {
        retire_block(local, fn, arg, bytes);
        retire_commit(local);
        return;
    }
    threads_exception set = threads_put_aside();
    wait_result result = wait_for_goal(&qsbr_process, qsbr_advance(&qsbr_process));
    threads_put_back(set); /* the change has come to be: what a handler raised is reported */
    if (result == WAIT_OVER)
        fn(arg);
    /* Else nothing is freed on a guess. */
}

bool
threads_make_room(retire_local *local, heap *pages)
{
    threads_exception set = threads_put_aside();
    if (pages != NULL) {
        heap_collect(pages, NULL);
        retire_note_others(local->queue, heap_waiting_bytes(pages));
    }
    bool room = retire_make_room(local);
    threads_put_back(set);
    return room;
}

/* ---- sharing (T1) ---- */

void
sharing_resized(qc_state *state, qc_sharing *sharing, size_t bytes)
{
    if (qc_load_relaxed(&sharing->deferred)) {
        qc_add_relaxed(&state->deferred_grown, (uint64_t)bytes - sharing->bytes);
        qc_add_relaxed(&state->deferred_tables, (uint64_t)bytes - sharing->bytes);
    }
    sharing->bytes = bytes;
}

/* Not by __sizeof__, which may be anything. */
size_t
threads_value_bytes(PyObject *value)
{
    if (PyUnicode_CheckExact(value) || PyBytes_CheckExact(value))
        return refs_key_bytes(word_from_pointer(value));
    size_t bytes = (size_t)Py_TYPE(value)->tp_basicsize;
    if (PyByteArray_Check(value))
        return bytes + (size_t)PyByteArray_GET_SIZE(value);
    if (PyList_Check(value))
        return bytes + (size_t)PyList_GET_SIZE(value) * sizeof(PyObject *);
    if (PyTuple_Check(value) || PyBytes_Check(value))
        return bytes + (size_t)Py_SIZE(value) * (size_t)Py_TYPE(value)->tp_itemsize;
    return bytes;
}

void
threads_weigh(PyObject *op, qc_state *state, qc_sharing *sharing, qsbr_record *rec)
{
    threads_exception set = threads_put_aside();
    bool dict = PyObject_TypeCheck(op, state->dict_type);
    size_t held = (dict ? dict_held_bytes : list_held_bytes)(op, rec) / QC_HELD_UNIT;
    uint32_t now = held < UINT32_MAX ? (uint32_t)held : UINT32_MAX;
    uint32_t then = qc_exchange_acq_rel(&sharing->since, now);
    qc_add_relaxed(&state->deferred_grown, ((uint64_t)now - then) * QC_HELD_UNIT);
    threads_put_back(set);
}

/* Deferred counting for a container that other threads keep coming to: true if only the
 * collector frees it from now on. */
static bool
settle(PyObject *op, qc_state *state, qc_sharing *sharing, qc_lock *lock)
{
    if (!refs_enable_deferred(op))
        return false;
    qc_lock_found found = qc_lock_acquire(lock);
    qc_store_relaxed(&sharing->deferred, true);
    qc_add_relaxed(&state->deferred_grown, sharing->bytes);
    qc_add_relaxed(&state->deferred_tables, sharing->bytes);
    qc_lock_release_as(lock, found);
    return true;
}

static uint32_t
clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint32_t)((uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u);
}

/* The first access of another thread than the owner. */
static void
share(qc_sharing *sharing, qc_lock *lock)
{
    qc_lock_found found = qc_lock_acquire(lock);
    qsbr_record *owner = qc_load_relaxed(&sharing->owner);
    if (owner != QC_SHARED && owner != QC_SETTLED) {
        qc_store_relaxed(&sharing->since, clock_ms());
        /* release: partner is the acquire load in threads_begin. */
        qc_store_release(&sharing->owner, QC_SHARED);
    }
    qc_lock_release_as(lock, found);
}

void
threads_foreign(PyObject *op, qc_state *state, qc_sharing *sharing, qc_lock *lock, qsbr_record *rec)
{
    threads_cached.look_at_shared = QC_LOOK_AT_SHARED - 1;
    qsbr_record *owner = qc_load_acquire(&sharing->owner);
    if (owner != QC_SHARED && owner != QC_SETTLED && owner != rec) {
        share(sharing, lock);
        return;
    }
    /* Counted roughly: looks of two threads at a time may be one. */
    uint16_t looks = qc_load_relaxed(&sharing->looks);
    if (looks < QC_SETTLE_LOOKS)
        qc_store_relaxed(&sharing->looks, (uint16_t)(looks + 1));
    if (looks + 1 < QC_SETTLE_LOOKS ||
        clock_ms() - qc_load_relaxed(&sharing->since) < threads_settle_ms)
        return;
    /* Once: whoever is the one that ends the state. */
    if (owner == QC_SHARED && qc_cas_acq_rel(&sharing->owner, &owner, QC_SETTLED)) {
        qc_store_relaxed(&sharing->since, 0u);
        if (settle(op, state, sharing, lock))
            threads_weigh(op, state, sharing, rec);
    }
}
