/* The C API of qsbrcontainers: its engine, to protect structures of your own that
 * are read without a lock, and its containers.
 *
 *     #include <qsbrcontainers.h>          // -I `qsbrcontainers.get_include()`
 *     if (qsbrcontainers_import() < 0)     // in the module's exec function
 *         return -1;
 *
 * docs/c_api.md has an example, the rules and the reasons.  Each function is a member
 * of qsbrc_api and is called by the macro of its name at the end of this file, as
 * qsbrc_domain_new().  Before each stands who may call it:
 *
 *   attached  with an attached thread state (on GIL builds: with the GIL)
 *   detaches  gives it up for a while, so other threads run: never in a section, and
 *             not under a lock of yours that others wait for while they are attached
 *   any       needs neither Python nor a thread state
 *
 * int functions give -1 with an exception, those with a pointer NULL with one.
 *
 * Versions: MAJOR changes when something here changes or goes; MINOR when something is
 * added, always at the end of qsbrc_api.  An extension runs with every version that
 * has its MAJOR and at least its MINOR.
 */
#ifndef QSBRCONTAINERS_H
#define QSBRCONTAINERS_H

#include <Python.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QSBRC_API_MAJOR 1
#define QSBRC_API_MINOR 0
#define QSBRC_CAPSULE "qsbrcontainers._native._C_API"

/* Readers and writers that wait only for each other. */
typedef struct qsbrc_domain qsbrc_domain;
/* A thread in a domain: that thread's alone. */
typedef struct qsbrc_record qsbrc_record;
/* Delayed frees in a domain; belongs to the interpreter that made it. */
typedef struct qsbrc_queue qsbrc_queue;
/* Room that the calling thread has in a queue, from reserve to commit. */
typedef struct qsbrc_room qsbrc_room;

/* Frees what was retired: gets the word that was given to retire.  qsbrc_word and
 * qsbrc_pointer make words of pointers and back. */
typedef void (*qsbrc_free_fn)(uint64_t word);

/* What advance_deferred counts: the caller's own, begins as QSBRC_DEFERRED. */
typedef struct qsbrc_deferred {
    uint32_t blocks, max_blocks;
    size_t bytes, max_bytes;
} qsbrc_deferred;
#define QSBRC_DEFERRED                                                                             \
    {                                                                                              \
        0, 127, 0, (size_t)1 << 20                                                                 \
    }

/* The most that one reserve may ask for. */
#define QSBRC_MAX_ROOM 1000u

typedef struct qsbrc_api {
    uint32_t major, minor;
    size_t size; /* of this struct */

    /* ---- domains ---- */

    /* Attached; detaches.  One for a module, rather than one for an object.  NULL:
     * MemoryError. */
    qsbrc_domain *(*domain_new)(void);
    /* Attached; detaches.  No thread is in a section of it, and none uses a record of it
     * afterwards.  Its queues may be freed later; the domain and its records end with the
     * last of them. */
    void (*domain_release)(qsbrc_domain *domain);

    /* ---- this thread ---- */

    /* Attached; detaches at the thread's first call.  The thread's record, made if it
     * has none; it ends with the thread or the domain.  NULL: MemoryError. */
    qsbrc_record *(*register_thread)(qsbrc_domain *domain);
    /* The same for a thread that is detached or has no thread state.  NULL, without an
     * exception: no memory. */
    qsbrc_record *(*register_detached)(qsbrc_domain *domain);
    /* Attached; detaches.  For a thread that has done with the domain long before it
     * ends; no need otherwise.  0; -1: RuntimeError, in a section. */
    int (*unregister_thread)(qsbrc_record *rec);

    /* ---- sections ---- */

    /* Any.  What this thread can reach between the two is not freed.  They nest, and are
     * short: in a section nothing blocks, allocates, attaches, detaches or calls Python
     * (a decref may). */
    void (*enter)(qsbrc_record *rec);
    void (*exit)(qsbrc_record *rec);

    /* Any.  For threads without Python that hold pointers most of the time: from attach
     * to detach is one section that may be long, and in which each quiescent_state says
     * "I hold nothing now".  attach: 1; 0 while the interpreter shuts down. */
    int (*attach)(qsbrc_record *rec);
    void (*detach)(qsbrc_record *rec);
    void (*quiescent_state)(qsbrc_record *rec);

    /* ---- grace periods ---- */

    /* Any.  After the unlink: the goal at which what was unlinked may be freed.  This,
     * and the next two, are where goals come from; one that is made up is never safe. */
    uint64_t (*advance)(qsbrc_domain *domain);
    /* Any.  Once a batch: after each unlink; 0: not yet, keep the memory; else the goal
     * of all that was counted since the last one. */
    uint64_t (*advance_deferred)(qsbrc_domain *domain, qsbrc_deferred *deferred, size_t bytes);
    /* Any.  The same without waiting for the limit; 0: nothing was counted. */
    uint64_t (*advance_now)(qsbrc_domain *domain, qsbrc_deferred *deferred);
    /* Any.  1: the goal is known to be reached.  Does not look at the readers. */
    int (*goal_reached)(qsbrc_domain *domain, uint64_t goal);
    /* Any, outside sections (0 in one).  1: reached, 0: not yet.  Looks at all records
     * and may interrupt other CPUs: once a batch of frees, not once a free. */
    int (*poll)(qsbrc_domain *domain, uint64_t goal);
    /* Attached; detaches; outside sections.  0: reached; -1: RuntimeError (in a section,
     * or no goal can be reached any more), or what a signal handler raised. */
    int (*wait)(qsbrc_domain *domain, uint64_t goal);

    /* ---- the queue ---- */

    /* Attached.  NULL: MemoryError. */
    qsbrc_queue *(*queue_new)(qsbrc_domain *domain);
    /* Attached; detaches; outside sections and locks.  Frees what is in it first; no
     * other thread uses it any more.  NULL is ignored. */
    void (*queue_free)(qsbrc_queue *queue);
    /* Attached; detaches; outside sections and locks, as it may come to a safe point and
     * wait there where too much is held.  Room to retire n times: the part that can
     * fail, so before the operation changes anything.  NULL: MemoryError, RuntimeError
     * (room already, another interpreter's queue), ValueError (n), a signal's. */
    qsbrc_room *(*reserve)(qsbrc_queue *queue, unsigned n);
    /* Attached.  After the unlink: calls fn(word) once, later, when no reader can read it any
     * more.  Never fails, blocks, frees or runs Python code: a lock may be held.  bytes
     * 0: something small, which may wait in a larger batch.  Any word will do, that of NULL
     * too, as where nothing was replaced: fn(0) is called.  fn is not NULL: a fatal error. */
    void (*retire)(qsbrc_room *room, qsbrc_free_fn fn, uint64_t word, size_t bytes);
    /* Attached.  Ends what reserve began, whether its room was used or not.  No Python
     * code runs and nothing detaches in between. */
    void (*commit)(qsbrc_room *room);
    /* Attached; detaches; outside sections and locks, no room reserved.  At the start of
     * every operation, reads too: frees what is due, if anything is.  An exception that is
     * set stays. */
    void (*safe_point)(qsbrc_queue *queue);
    /* As safe_point, for all that is in the queue, of all threads, after a grace period.
     * The number of items; -1: as wait, or reserve. */
    Py_ssize_t (*collect)(qsbrc_queue *queue);
    /* Any.  What waits; approximate while others run. */
    void (*queue_held)(qsbrc_queue *queue, uint64_t *bytes, uint64_t *items);

    /* ---- ConcurrentDict ----
     *
     * Attached; detaches; outside sections and locks: keys' __hash__ and __eq__, and
     * finalizers, run here.  To other threads each promises what the method in Python
     * does.  Methods that a subclass overrides are not called.  Not a ConcurrentDict:
     * TypeError.  NULL in place of an object: the exception that is set, or else TypeError.
     * NULL in place of a PyObject **: the caller does not want the value. */

    /* The calling interpreter's, a new reference.  NULL: RuntimeError, not imported. */
    PyObject *(*dict_type)(void);
    /* Cannot fail; NULL: 0. */
    int (*dict_check)(PyObject *op);
    int (*dict_check_exact)(PyObject *op);
    PyObject *(*dict_new)(void);
    Py_ssize_t (*dict_size)(PyObject *d);
    int (*dict_contains)(PyObject *d, PyObject *key);
    /* 1: a new reference in *value; 0: no such key, NULL, no exception. */
    int (*dict_get_ref)(PyObject *d, PyObject *key, PyObject **value);
    int (*dict_set)(PyObject *d, PyObject *key, PyObject *value);
    /* setdefault.  1: the key was there; 0: `initial` was inserted.  *value: a new reference
     * to the value that is there now. */
    int (*dict_set_default_ref)(PyObject *d, PyObject *key, PyObject *initial, PyObject **value);
    /* -1: KeyError, too. */
    int (*dict_del)(PyObject *d, PyObject *key);
    /* As get_ref, and removes it. */
    int (*dict_pop)(PyObject *d, PyObject *key, PyObject **value);
    /* incr: the new value. */
    PyObject *(*dict_incr)(PyObject *d, PyObject *key, PyObject *delta, PyObject *initial);
    int (*dict_clear)(PyObject *d);
    /* A dict. */
    PyObject *(*dict_snapshot)(PyObject *d);

    /* ---- ConcurrentList: as ConcurrentDict ---- */

    PyObject *(*list_type)(void);
    int (*list_check)(PyObject *op);
    int (*list_check_exact)(PyObject *op);
    PyObject *(*list_new)(void);
    Py_ssize_t (*list_size)(PyObject *l);
    /* 1: a new reference in *value; 0: out of range, NULL, no exception.  Below 0 counts
     * from the end, here and in set. */
    int (*list_get_ref)(PyObject *l, Py_ssize_t index, PyObject **value);
    /* -1: IndexError, too. */
    int (*list_set)(PyObject *l, Py_ssize_t index, PyObject *value);
    int (*list_append)(PyObject *l, PyObject *value);
    int (*list_extend)(PyObject *l, PyObject *iterable);
    /* 1: the last element, a new reference, in *value; 0: empty, NULL, no exception. */
    int (*list_pop)(PyObject *l, PyObject **value);
    int (*list_clear)(PyObject *l);
    /* A list. */
    PyObject *(*list_snapshot)(PyObject *l);
} qsbrc_api;

/* Where the table's address is kept: in a static variable, one for each file that
 * includes this, which has to import for itself.  An extension of several files defines
 * QSBRC_API_VARIABLE as a name before each include, has in one of the files
 *     const qsbrc_api *THAT_NAME;
 * and imports once. */
#ifdef QSBRC_API_VARIABLE
extern const qsbrc_api *QSBRC_API_VARIABLE;
#else
#define QSBRC_API_VARIABLE qsbrc_api_of_this_file
static const qsbrc_api *qsbrc_api_of_this_file;
#endif

/* Attached.  0; -1: ImportError, not installed or not the version. */
static inline int
qsbrcontainers_import(void)
{
    const qsbrc_api *api = (const qsbrc_api *)PyCapsule_Import(QSBRC_CAPSULE, 0);
    if (api == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError))
            PyErr_SetString(PyExc_ImportError, "this qsbrcontainers has no C API");
        return -1;
    }
    if (api->major != QSBRC_API_MAJOR || (int)api->minor < QSBRC_API_MINOR ||
        api->size < sizeof(qsbrc_api)) {
        PyErr_Format(PyExc_ImportError,
                     "qsbrcontainers has version %u.%u of the C API, and this extension was "
                     "compiled for %u.%u",
                     (unsigned)api->major, (unsigned)api->minor, (unsigned)QSBRC_API_MAJOR,
                     (unsigned)QSBRC_API_MINOR);
        return -1;
    }
    if (QSBRC_API_VARIABLE != api) /* else in use by another interpreter, perhaps */
        QSBRC_API_VARIABLE = api;
    return 0;
}

static inline uint64_t
qsbrc_word(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

static inline void *
qsbrc_pointer(uint64_t word)
{
    return (void *)(uintptr_t)word;
}

#define qsbrc_domain_new QSBRC_API_VARIABLE->domain_new
#define qsbrc_domain_release QSBRC_API_VARIABLE->domain_release
#define qsbrc_register QSBRC_API_VARIABLE->register_thread
#define qsbrc_register_detached QSBRC_API_VARIABLE->register_detached
#define qsbrc_unregister QSBRC_API_VARIABLE->unregister_thread
#define qsbrc_enter QSBRC_API_VARIABLE->enter
#define qsbrc_exit QSBRC_API_VARIABLE->exit
#define qsbrc_attach QSBRC_API_VARIABLE->attach
#define qsbrc_detach QSBRC_API_VARIABLE->detach
#define qsbrc_quiescent_state QSBRC_API_VARIABLE->quiescent_state
#define qsbrc_advance QSBRC_API_VARIABLE->advance
#define qsbrc_advance_deferred QSBRC_API_VARIABLE->advance_deferred
#define qsbrc_advance_now QSBRC_API_VARIABLE->advance_now
#define qsbrc_goal_reached QSBRC_API_VARIABLE->goal_reached
#define qsbrc_poll QSBRC_API_VARIABLE->poll
#define qsbrc_wait QSBRC_API_VARIABLE->wait
#define qsbrc_queue_new QSBRC_API_VARIABLE->queue_new
#define qsbrc_queue_free QSBRC_API_VARIABLE->queue_free
#define qsbrc_reserve QSBRC_API_VARIABLE->reserve
#define qsbrc_retire QSBRC_API_VARIABLE->retire
#define qsbrc_commit QSBRC_API_VARIABLE->commit
#define qsbrc_safe_point QSBRC_API_VARIABLE->safe_point
#define qsbrc_collect QSBRC_API_VARIABLE->collect
#define qsbrc_queue_held QSBRC_API_VARIABLE->queue_held
#define qsbrc_dict_type QSBRC_API_VARIABLE->dict_type
#define qsbrc_dict_check QSBRC_API_VARIABLE->dict_check
#define qsbrc_dict_check_exact QSBRC_API_VARIABLE->dict_check_exact
#define qsbrc_dict_new QSBRC_API_VARIABLE->dict_new
#define qsbrc_dict_size QSBRC_API_VARIABLE->dict_size
#define qsbrc_dict_contains QSBRC_API_VARIABLE->dict_contains
#define qsbrc_dict_get_ref QSBRC_API_VARIABLE->dict_get_ref
#define qsbrc_dict_set QSBRC_API_VARIABLE->dict_set
#define qsbrc_dict_set_default_ref QSBRC_API_VARIABLE->dict_set_default_ref
#define qsbrc_dict_del QSBRC_API_VARIABLE->dict_del
#define qsbrc_dict_pop QSBRC_API_VARIABLE->dict_pop
#define qsbrc_dict_incr QSBRC_API_VARIABLE->dict_incr
#define qsbrc_dict_clear QSBRC_API_VARIABLE->dict_clear
#define qsbrc_dict_snapshot QSBRC_API_VARIABLE->dict_snapshot
#define qsbrc_list_type QSBRC_API_VARIABLE->list_type
#define qsbrc_list_check QSBRC_API_VARIABLE->list_check
#define qsbrc_list_check_exact QSBRC_API_VARIABLE->list_check_exact
#define qsbrc_list_new QSBRC_API_VARIABLE->list_new
#define qsbrc_list_size QSBRC_API_VARIABLE->list_size
#define qsbrc_list_get_ref QSBRC_API_VARIABLE->list_get_ref
#define qsbrc_list_set QSBRC_API_VARIABLE->list_set
#define qsbrc_list_append QSBRC_API_VARIABLE->list_append
#define qsbrc_list_extend QSBRC_API_VARIABLE->list_extend
#define qsbrc_list_pop QSBRC_API_VARIABLE->list_pop
#define qsbrc_list_clear QSBRC_API_VARIABLE->list_clear
#define qsbrc_list_snapshot QSBRC_API_VARIABLE->list_snapshot

#ifdef __cplusplus
}
#endif

#endif
