/* The C API: its capsule, and the engine for domains of other extensions. */
#include "py/py_capi.h"

#include "py/py_threads.h"
#include "py/py_wait.h"

#include <pthread.h>
#include <stdlib.h>

_Thread_local capi_cache capi_cached;

/* ---- which interpreter ---- */

/* An interpreter that has imported the module.  Entries are found without a lock,
 * and never freed; that of an interpreter that has ended serves another one. */
typedef struct entry {
    struct entry *next;        /* written once */
    _Atomic int64_t id;        /* NOBODY: to be had; ids of interpreters are never reused */
    _Atomic(qc_state *) state; /* (the interpreter's threads); NULL: no module */
} entry;

#define NOBODY ((int64_t)-1)

static _Atomic(entry *) entries;
static _Thread_local entry *entry_cached;

int64_t
capi_interpreter(void)
{
    return PyInterpreterState_GetID(PyInterpreterState_Get());
}

static entry *
find_entry(int64_t id)
{
    entry *e = entry_cached;
    if (qc_likely(e != NULL && qc_load_acquire(&e->id) == id))
        return e;
    /* acquire: partner is the CAS in claim_entry. */
    for (e = qc_load_acquire(&entries); e != NULL; e = e->next)
        if (qc_load_acquire(&e->id) == id)
            return entry_cached = e;
    return NULL;
}

/* NULL: no memory. */
static entry *
claim_entry(int64_t id)
{
    for (entry *e = qc_load_acquire(&entries); e != NULL; e = e->next) {
        int64_t nobody = NOBODY;
        if (qc_cas_acq_rel(&e->id, &nobody, id))
            return e;
    }
    entry *e = calloc(1, sizeof *e);
    if (e == NULL)
        return NULL;
    qc_store_relaxed(&e->id, id);
    entry *head = qc_load_relaxed(&entries);
    do
        e->next = head;
    while (!qc_cas_acq_rel(&entries, &head, e));
    return e;
}

qc_state *
capi_state(void)
{
    entry *e = find_entry(capi_interpreter());
    qc_state *state = e == NULL ? NULL : qc_load_acquire(&e->state);
    if (state == NULL)
        PyErr_SetString(PyExc_RuntimeError,
                        "qsbrcontainers is not imported in this interpreter, or has ended");
    return state;
}

/* ---- domains ---- */

void
capi_list_init(capi_list *list)
{
    qc_lock_init(&list->lock);
    list->first = (capi_link){NULL, NULL};
    list->last = &list->first;
}

void
capi_list_lock(capi_list *list)
{
    if (qc_likely(qc_lock_acquire(&list->lock) == QC_LOCK_TAKEN))
        return;
    list->last = &list->first;
    for (capi_link *link = list->first.next; link != NULL; link = link->next) {
        link->prev = list->last;
        list->last = link;
    }
}

void
capi_list_add(capi_list *list, capi_link *link)
{
    *link = (capi_link){NULL, list->last};
    qc_fence_compiler(); /* a signal handler's fork may come before or after the next store */
    list->last->next = link;
    list->last = link;
}

void
capi_list_remove(capi_list *list, capi_link *link)
{
    link->prev->next = link->next;
    if (link->next != NULL)
        link->next->prev = link->prev;
    else
        list->last = link->prev;
}

static capi_list domains;

static qsbrc_domain *
domain_new(void)
{
    qsbrc_domain *domain = malloc(sizeof *domain);
    qsbr_domain *engine = NULL;
    if (domain != NULL) {
        PyThreadState *detached = threads_detach();
        engine = qsbr_domain_new();
        threads_attach(detached);
    }
    if (engine == NULL) {
        free(domain);
        PyErr_NoMemory();
        return NULL;
    }
    domain->engine = engine;
    domain->id = engine->id;
    domain->interpreter = capi_interpreter();
    domain->users = 1;
    capi_list_lock(&domains);
    capi_list_add(&domains, &domain->link);
    qc_lock_release(&domains.lock);
    return domain;
}

void
capi_domain_ref(qsbrc_domain *domain)
{
    capi_list_lock(&domains);
    domain->users++;
    qc_lock_release(&domains.lock);
}

void
capi_domain_unref(qsbrc_domain *domain)
{
    bool last;
    capi_list_lock(&domains);
    last = --domain->users == 0;
    if (last)
        capi_list_remove(&domains, &domain->link);
    qc_lock_release(&domains.lock);
    if (!last)
        return;
    PyThreadState *detached = threads_detach(); /* Q8 */
    qsbr_domain_release(domain->engine);
    threads_attach(detached);
    free(domain);
}

/* The interpreter's next domain after `domain`, or its first one; adds a user. */
static qsbrc_domain *
next_domain(int64_t interpreter, qsbrc_domain *domain)
{
    capi_list_lock(&domains);
    capi_link *link = domain != NULL ? domain->link.next : domains.first.next;
    while (link != NULL && ((qsbrc_domain *)link)->interpreter != interpreter)
        link = link->next;
    if (link != NULL)
        ((qsbrc_domain *)link)->users++;
    qc_lock_release(&domains.lock);
    return (qsbrc_domain *)link;
}

void
capi_domains_shut_down(int64_t interpreter)
{
    for (qsbrc_domain *domain = next_domain(interpreter, NULL), *next; domain != NULL;
         domain = next) {
        PyThreadState *detached = threads_detach(); /* Q8 */
        /* With a record of its own, so that the rest is this thread's to free. */
        qsbr_shut_down(domain->engine, qsbr_register(domain->engine));
        threads_attach(detached);
        next = next_domain(interpreter, domain); /* a domain with a user stays on the list */
        capi_domain_unref(domain);
    }
}

/* ---- records ---- */

QC_INLINE qsbr_record *
cached_record(qsbrc_domain *domain)
{
    size_t i = domain->id % CAPI_CACHED;
    return capi_cached.records[i].id == domain->id ? capi_cached.records[i].found : NULL;
}

static qsbrc_record *
remember_record(qsbrc_domain *domain, qsbr_record *rec)
{
    size_t i = domain->id % CAPI_CACHED;
    capi_cached.records[i].id = rec != NULL ? domain->id : 0;
    capi_cached.records[i].found = rec;
    return (qsbrc_record *)rec;
}

qsbr_record *
capi_record(qsbrc_domain *domain)
{
    qsbr_record *rec = cached_record(domain);
    if (qc_likely(rec != NULL))
        return rec;
    rec = qsbr_find(domain->engine);
    if (rec == NULL) {
        PyThreadState *detached = threads_detach(); /* Q8 */
        rec = qsbr_register(domain->engine);
        threads_attach(detached);
        if (rec == NULL)
            PyErr_NoMemory();
    }
    remember_record(domain, rec);
    return rec;
}

static qsbrc_record *
register_thread(qsbrc_domain *domain)
{
    return (qsbrc_record *)capi_record(domain);
}

static qsbrc_record *
register_detached(qsbrc_domain *domain)
{
    qsbr_record *rec = cached_record(domain);
    return rec != NULL ? (qsbrc_record *)rec
                       : remember_record(domain, qsbr_register(domain->engine));
}

static qsbr_record *
record_of(qsbrc_record *rec)
{
    return (qsbr_record *)rec;
}

static int
not_in_a_section(const char *function)
{
    PyErr_Format(PyExc_RuntimeError, "%s() in a section of the same domain", function);
    return -1;
}

static int
unregister_thread(qsbrc_record *opaque)
{
    qsbr_record *rec = record_of(opaque);
    if (qsbr_in_section(rec))
        return not_in_a_section("qsbrc_unregister");
    for (size_t i = 0; i < CAPI_CACHED; i++)
        if (capi_cached.records[i].found == rec)
            capi_cached.records[i].id = 0;
    PyThreadState *detached = threads_detach(); /* Q8 */
    qsbr_unregister(rec);
    threads_attach(detached);
    return 0;
}

/* ---- sections ---- */

/* With a wrong count of sections all later sections would protect nothing, so a wrong call
 * ends the process. */
static void
expect_nesting(qsbrc_record *rec, bool right, const char *message)
{
    if (qc_unlikely(!right))
        Py_FatalError(message);
    qc_assert(qc_load_relaxed(&record_of(rec)->registered) != 0);
    (void)rec;
}

static void
section_enter(qsbrc_record *rec)
{
    qsbr_enter(record_of(rec));
}

static void
section_exit(qsbrc_record *rec)
{
    expect_nesting(rec, qsbr_in_section(record_of(rec)), "qsbrc_exit() without qsbrc_enter()");
    qsbr_exit(record_of(rec));
}

/* Only where it is the outermost: nothing is held below it. */
static bool
is_attached(qsbrc_record *rec)
{
    return record_of(rec)->nesting == 1;
}

static int
attach(qsbrc_record *rec)
{
    expect_nesting(rec, !qsbr_in_section(record_of(rec)), "qsbrc_attach() in a section");
    return qsbr_attach(record_of(rec));
}

static void
detach(qsbrc_record *rec)
{
    expect_nesting(rec, is_attached(rec), "qsbrc_detach() in a section, or not attached");
    qsbr_detach(record_of(rec));
}

static void
quiescent_state(qsbrc_record *rec)
{
    expect_nesting(rec, is_attached(rec), "qsbrc_quiescent_state() in a section, or not attached");
    qsbr_quiescent_state(record_of(rec));
}

/* ---- grace periods ---- */

static uint64_t
advance(qsbrc_domain *domain)
{
    return qsbr_advance(domain->engine);
}

/* Field by field, so that the public struct and the engine's are two. */
static uint64_t
advance_deferred(qsbrc_domain *domain, qsbrc_deferred *theirs, size_t bytes)
{
    qsbr_deferred ours = {theirs->blocks, theirs->max_blocks, theirs->bytes, theirs->max_bytes};
    uint64_t goal = qsbr_advance_deferred(domain->engine, &ours, bytes);
    theirs->blocks = ours.blocks;
    theirs->bytes = ours.bytes;
    return goal;
}

static uint64_t
advance_now(qsbrc_domain *domain, qsbrc_deferred *theirs)
{
    qsbr_deferred ours = {theirs->blocks, theirs->max_blocks, theirs->bytes, theirs->max_bytes};
    uint64_t goal = qsbr_advance_now(domain->engine, &ours);
    theirs->blocks = ours.blocks;
    theirs->bytes = ours.bytes;
    return goal;
}

static int
goal_reached(qsbrc_domain *domain, uint64_t goal)
{
    return qsbr_goal_reached(domain->engine, goal);
}

/* Whether the calling thread is in a section, so that no goal can be reached. */
static bool
in_section(qsbrc_domain *domain)
{
    qsbr_record *self = qsbr_find(domain->engine);
    return self != NULL && qsbr_in_section(self);
}

static int
poll(qsbrc_domain *domain, uint64_t goal)
{
    if (qsbr_goal_reached(domain->engine, goal))
        return 1;
    return !in_section(domain) && qsbr_poll(domain->engine, goal);
}

int
capi_wait(qsbrc_domain *domain, uint64_t goal)
{
    if (qsbr_goal_reached(domain->engine, goal))
        return 0;
    if (in_section(domain))
        return not_in_a_section("qsbrc_wait");
    wait_result result = wait_for_goal(domain->engine, goal);
    if (result == WAIT_NEVER)
        wait_never(domain->engine, "no grace period can be had any more");
    return result == WAIT_OVER ? 0 : -1;
}

/* ---- the capsule ---- */

static qsbrc_api table = {
    .major = QSBRC_API_MAJOR,
    .minor = QSBRC_API_MINOR,
    .size = sizeof(qsbrc_api),
    .domain_new = domain_new,
    .domain_release = capi_domain_unref,
    .register_thread = register_thread,
    .register_detached = register_detached,
    .unregister_thread = unregister_thread,
    .enter = section_enter,
    .exit = section_exit,
    .attach = attach,
    .detach = detach,
    .quiescent_state = quiescent_state,
    .advance = advance,
    .advance_deferred = advance_deferred,
    .advance_now = advance_now,
    .goal_reached = goal_reached,
    .poll = poll,
    .wait = capi_wait,
};
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void
forget_all(void)
{
    capi_cached = (capi_cache){0};
}

static void
fill_table(void)
{
    capi_list_init(&domains);
    qsbr_at_thread_end(forget_all);
    capi_fill_queue(&table);
    capi_fill_containers(&table);
}

int
qc_capi_register(PyObject *module, qc_state *state)
{
    pthread_once(&table_once, fill_table);
    int64_t id = capi_interpreter();
    entry *e = find_entry(id);
    if (e == NULL && (e = claim_entry(id)) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    PyObject *capsule = PyCapsule_New(&table, QSBRC_CAPSULE, NULL);
    int status = capsule == NULL ? -1 : PyModule_AddObjectRef(module, "_C_API", capsule);
    Py_XDECREF(capsule);
    /* A module that is imported once more, after the first was thrown away, counts. */
    if (status == 0)
        qc_store_release(&e->state, state);
    return status;
}

void
qc_capi_unregister(qc_state *state)
{
    for (entry *e = qc_load_acquire(&entries); e != NULL; e = e->next) {
        if (qc_load_acquire(&e->state) != state)
            continue;
        qc_store_release(&e->state, NULL);
        /* release: partner is the CAS of the interpreter that claims the entry. */
        qc_store_release(&e->id, NOBODY);
    }
}
