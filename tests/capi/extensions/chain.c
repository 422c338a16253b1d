/* An extension that protects a structure of its own: a sorted linked list of numbers
 * and objects, read without a lock.
 *
 * Readers walk it in a section.  Writers take the chain's mutex, which is never held
 * across Python code or a detach; what they unlink goes into the module's queue, and is
 * poisoned before it is freed.  Hits are counted in a ConcurrentDict.
 *
 * For the tests: CHAIN_FREES_AT_ONCE is the mistake that all this is about; CHAIN_DAWDLES
 * makes readers slow, so that a mistake shows. */
#include <qsbrcontainers.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
#include <atomic>
using namespace std;
#define ATOMIC(type) atomic<type>
#else
#include <stdatomic.h>
#define ATOMIC(type) _Atomic(type)
#endif

#define STAMP 0x57a3b1e5c0ffee00u

typedef ATOMIC(struct node *) node_link;

typedef struct node {
    node_link next;
    ATOMIC(uint64_t) stamp; /* STAMP as long as it lives */
    long key;
    PyObject *value;
} node;

typedef struct {
    qsbrc_domain *domain;
    qsbrc_queue *queue;
} chain_state;

typedef struct {
    PyObject_HEAD
    node_link first;
    pthread_mutex_t mutex; /* of writers */
    chain_state *state;    /* the type keeps the module, and with it this, alive */
    PyObject *hits;        /* a ConcurrentDict: key -> number of finds */
} chain;

static ATOMIC(long) live_nodes;

/* ---- nodes ---- */

static node *
node_new(long key, PyObject *value)
{
    node *n = (node *)calloc(1, sizeof *n);
    if (n == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    atomic_store_explicit(&n->stamp, (uint64_t)STAMP, memory_order_relaxed);
    n->key = key;
    n->value = Py_NewRef(value);
    atomic_fetch_add(&live_nodes, 1);
    return n;
}

static void
node_free(node *n)
{
    PyObject *value = n->value;
    atomic_store_explicit(&n->stamp, (uint64_t)0xDEAD, memory_order_relaxed);
    n->value = NULL;
    free(n);
    atomic_fetch_add(&live_nodes, -1);
    Py_DECREF(value); /* may run anything: last */
}

/* qsbrc_free_fn */
static void
node_free_item(uint64_t word)
{
    node_free((node *)qsbrc_pointer(word));
}

/* ---- reading: in a section ---- */

static node *
follow(node_link *link)
{
#ifdef CHAIN_DAWDLES
    sched_yield(); /* no reader should ever do this */
#endif
    return atomic_load_explicit(link, memory_order_acquire);
}

static int
is_alive(node *n)
{
    return atomic_load_explicit(&n->stamp, memory_order_relaxed) == STAMP;
}

/* Looks for `key`: 1 with the node, 0, or -1: a node that was freed. */
static int
find(chain *self, long key, node **found)
{
    for (node *n = follow(&self->first); n != NULL; n = follow(&n->next)) {
        if (!is_alive(n))
            return -1;
        *found = n;
        if (n->key >= key)
            return n->key == key;
    }
    return 0;
}

static PyObject *
freed_node(void)
{
    PyErr_SetString(PyExc_SystemError, "a reader has found a node that was freed");
    return NULL;
}

static PyObject *
chain_get(PyObject *op, PyObject *arg)
{
    chain *self = (chain *)op;
    long key = PyLong_AsLong(arg);
    if (key == -1 && PyErr_Occurred())
        return NULL;
    qsbrc_safe_point(self->state->queue);
    qsbrc_record *rec = qsbrc_register(self->state->domain);
    if (rec == NULL)
        return NULL;
    node *n;
    PyObject *value = NULL;
    qsbrc_enter(rec);
    int found = find(self, key, &n);
    if (found > 0)
        value = Py_NewRef(n->value); /* an incref is fine here, a decref is not */
    qsbrc_exit(rec);
    if (found < 0)
        return freed_node();
    if (found == 0) {
        PyErr_SetObject(PyExc_KeyError, arg);
        return NULL;
    }
    PyObject *one = PyLong_FromLong(1), *zero = PyLong_FromLong(0);
    PyObject *hits = one && zero ? qsbrc_dict_incr(self->hits, arg, one, zero) : NULL;
    Py_XDECREF(one);
    Py_XDECREF(zero);
    if (hits == NULL)
        Py_CLEAR(value);
    Py_XDECREF(hits);
    return value;
}

/* Walks the chain `times` times without Python: the GIL is free meanwhile. */
static PyObject *
chain_walk(PyObject *op, PyObject *arg)
{
    chain *self = (chain *)op;
    long times = PyLong_AsLong(arg), nodes = 0;
    int bad = 0;
    if (times == -1 && PyErr_Occurred())
        return NULL;
    qsbrc_safe_point(self->state->queue);
    Py_BEGIN_ALLOW_THREADS
    qsbrc_record *rec = qsbrc_register_detached(self->state->domain);
    for (long i = 0; i < times && rec != NULL && !bad; i++) {
        long last = -1;
        qsbrc_enter(rec);
        for (node *n = follow(&self->first); n != NULL && !bad; n = follow(&n->next)) {
            bad = !is_alive(n) || n->key <= last;
            last = n->key;
            nodes++;
        }
        qsbrc_exit(rec);
    }
    bad |= rec == NULL;
    Py_END_ALLOW_THREADS
    return bad ? freed_node() : PyLong_FromLong(nodes);
}

/* ---- writing: under the mutex ---- */

/* The link at which `key` is or belongs. */
static node_link *
place(chain *self, long key)
{
    node_link *link = &self->first;
    node *n;
    while ((n = atomic_load_explicit(link, memory_order_relaxed)) != NULL && n->key < key)
        link = &n->next;
    return link;
}

/* Puts `fresh` (NULL: nothing) in the place of `key`; 1 if there was something. */
static int
replace(chain *self, long key, node *fresh)
{
    /* All that may fail, detach or run Python code comes before the mutex. */
    qsbrc_safe_point(self->state->queue);
    qsbrc_room *room = qsbrc_reserve(self->state->queue, 1);
    if (room == NULL)
        return -1;
    pthread_mutex_lock(&self->mutex);
    node_link *link = place(self, key);
    node *old = atomic_load_explicit(link, memory_order_relaxed);
    node *next = old;
    if (old != NULL && old->key == key)
        next = atomic_load_explicit(&old->next, memory_order_relaxed);
    else
        old = NULL;
    if (fresh != NULL)
        atomic_store_explicit(&fresh->next, next, memory_order_relaxed);
    /* release: a reader that finds the node finds what is in it. */
    atomic_store_explicit(link, fresh != NULL ? fresh : next, memory_order_release);
#ifndef CHAIN_FREES_AT_ONCE
    if (old != NULL)
        qsbrc_retire(room, node_free_item, qsbrc_word(old), sizeof *old);
#endif
    pthread_mutex_unlock(&self->mutex);
    qsbrc_commit(room);
#ifdef CHAIN_FREES_AT_ONCE
    if (old != NULL)
        node_free_item(qsbrc_word(old));
#endif
    return old != NULL;
}

static PyObject *
chain_set(PyObject *op, PyObject *args)
{
    long key;
    PyObject *value;
    if (!PyArg_ParseTuple(args, "lO", &key, &value))
        return NULL;
    node *fresh = node_new(key, value);
    int replaced = fresh == NULL ? -1 : replace((chain *)op, key, fresh);
    if (replaced >= 0)
        return PyBool_FromLong(replaced);
    if (fresh != NULL)
        node_free(fresh);
    return NULL;
}

static PyObject *
chain_remove(PyObject *op, PyObject *arg)
{
    long key = PyLong_AsLong(arg);
    if (key == -1 && PyErr_Occurred())
        return NULL;
    int removed = replace((chain *)op, key, NULL);
    return removed < 0 ? NULL : PyBool_FromLong(removed);
}

/* ---- the type ---- */

static PyObject *
chain_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    chain *self = (chain *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    pthread_mutex_init(&self->mutex, NULL);
    self->state = (chain_state *)PyType_GetModuleState(type);
    self->hits = qsbrc_dict_new();
    if (self->hits == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int
chain_traverse(PyObject *op, visitproc visit, void *arg)
{
    chain *self = (chain *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->hits);
    for (node *n = atomic_load(&self->first); n != NULL; n = atomic_load(&n->next))
        Py_VISIT(n->value);
    return 0;
}

/* Nobody can read it any more: no delay. */
static int
chain_clear(PyObject *op)
{
    chain *self = (chain *)op;
    node *n = atomic_exchange(&self->first, (node *)NULL);
    while (n != NULL) {
        node *next = atomic_load(&n->next);
        node_free(n);
        n = next;
    }
    Py_CLEAR(self->hits);
    return 0;
}

static void
chain_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    chain_clear(op);
    pthread_mutex_destroy(&((chain *)op)->mutex);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
chain_hits(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    return qsbrc_dict_snapshot(((chain *)op)->hits);
}

static PyMethodDef chain_methods[] = {
    {"get", chain_get, METH_O, NULL},        {"set", chain_set, METH_VARARGS, NULL},
    {"remove", chain_remove, METH_O, NULL},  {"walk", chain_walk, METH_O, NULL},
    {"hits", chain_hits, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL},
};

static PyType_Slot chain_slots[] = {
    {Py_tp_new, (void *)chain_new},         {Py_tp_traverse, (void *)chain_traverse},
    {Py_tp_clear, (void *)chain_clear},     {Py_tp_dealloc, (void *)chain_dealloc},
    {Py_tp_methods, (void *)chain_methods}, {0, NULL},
};

static PyType_Spec chain_spec = {
    "chain.Chain", (int)sizeof(chain), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, chain_slots,
};

/* ---- the module ---- */

static PyObject *
collect(PyObject *module, PyObject *ignored)
{
    (void)ignored;
    Py_ssize_t n = qsbrc_collect(((chain_state *)PyModule_GetState(module))->queue);
    return n < 0 ? NULL : PyLong_FromSsize_t(n);
}

static PyObject *
held(PyObject *module, PyObject *ignored)
{
    uint64_t bytes, items;
    (void)ignored;
    qsbrc_queue_held(((chain_state *)PyModule_GetState(module))->queue, &bytes, &items);
    return Py_BuildValue("KK", (unsigned long long)bytes, (unsigned long long)items);
}

static PyObject *
live(PyObject *module, PyObject *ignored)
{
    (void)module;
    (void)ignored;
    return PyLong_FromLong(atomic_load(&live_nodes));
}

static PyMethodDef functions[] = {
    {"collect", collect, METH_NOARGS, NULL},
    {"held", held, METH_NOARGS, NULL},
    {"live", live, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    chain_state *state = (chain_state *)PyModule_GetState(module);
    if (qsbrcontainers_import() < 0)
        return -1;
    state->domain = qsbrc_domain_new();
    state->queue = state->domain == NULL ? NULL : qsbrc_queue_new(state->domain);
    if (state->queue == NULL)
        return -1;
    PyObject *type = PyType_FromModuleAndSpec(module, &chain_spec, NULL);
    int status = type == NULL ? -1 : PyModule_AddObjectRef(module, "Chain", type);
    Py_XDECREF(type);
    return status;
}

/* Comes after the last Chain: each keeps its type, which keeps the module. */
static void
module_free(void *module)
{
    chain_state *state = (chain_state *)PyModule_GetState((PyObject *)module);
    if (state->queue != NULL)
        qsbrc_queue_free(state->queue);
    if (state->domain != NULL)
        qsbrc_domain_release(state->domain);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT, "chain", NULL, sizeof(chain_state), functions,
    module_slots,          NULL,    NULL, module_free,
};

PyMODINIT_FUNC
PyInit_chain(void)
{
    return PyModuleDef_Init(&module_def);
}
