/* The C API: what its files share.  qsbrcontainers.h is what other extensions see,
 * docs/c_api.md what each function promises.
 *
 *   py_capi.c             the table and its capsule, domains, sections, grace periods
 *   py_capi_queue.c       the retire queue of other extensions
 *   py_capi_containers.c  ConcurrentDict and ConcurrentList
 *
 * There is one table a process, since an extension keeps its address in a static
 * variable.  So what belongs to an interpreter (Q11) is found through the arguments,
 * or for those without any through the interpreter that runs.
 */
#ifndef PY_CAPI_H
#define PY_CAPI_H

#include "py/state.h"

#include <qsbrcontainers.h>

/* A list of all domains, or of all queues, in the order in which they were made.  The `next`
 * links are right at every moment; the child of a fork makes `prev` and `last` anew (Q10). */
typedef struct capi_link {
    struct capi_link *next, *prev; /* (the list's lock) */
} capi_link;
typedef struct {
    qc_lock lock;
    capi_link first; /* only a head, no element */
    capi_link *last; /* (lock) */
} capi_list;

void capi_list_init(capi_list *list);
void capi_list_lock(capi_list *list);
/* With the lock. */
void capi_list_add(capi_list *list, capi_link *link);
void capi_list_remove(capi_list *list, capi_link *link);

/* The engine's domain and the number of its users: a queue is one until it is freed. */
struct qsbrc_domain {
    capi_link link;
    qsbr_domain *engine;
    uint64_t id;         /* of `engine`: never reused, unlike this address */
    int64_t interpreter; /* that made it: Q7, it shuts down with that one */
    unsigned users;      /* (domains' list lock) creator, queues, a thread that shuts it down */
};

/* What this thread found last, for a few domains and queues each: an id that is never
 * reused and what it stands for. */
#define CAPI_CACHED 8
typedef struct {
    struct {
        uint64_t id;
        void *found;
    } records[CAPI_CACHED], locals[CAPI_CACHED];
} capi_cache;
extern _Thread_local capi_cache capi_cached;

/* At the module's start and end. */
int qc_capi_register(PyObject *module, qc_state *state);
void qc_capi_unregister(qc_state *state);
/* At exit: the calling interpreter's domains are shutting down (Q7), and what waits in
 * its queues is freed (T8). */
void qc_capi_drain(void);

/* The calling interpreter, and its module's state: NULL with RuntimeError. */
int64_t capi_interpreter(void);
qc_state *capi_state(void);

/* This thread's record, made if need be: NULL with MemoryError.  May detach. */
qsbr_record *capi_record(qsbrc_domain *domain);
/* One user more or less; the last one ends the domain.  unref may detach. */
void capi_domain_ref(qsbrc_domain *domain);
void capi_domain_unref(qsbrc_domain *domain);
/* Q7, for all domains that the interpreter made.  May detach. */
void capi_domains_shut_down(int64_t interpreter);

int capi_wait(qsbrc_domain *domain, uint64_t goal);

/* Each fills in its part of the table. */
void capi_fill_queue(qsbrc_api *api);
void capi_fill_containers(qsbrc_api *api);

#endif
