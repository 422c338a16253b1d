/* What an interpreter has one of: the module's state. */
#ifndef PY_STATE_H
#define PY_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "base/qc_lock.h"
#include "heap/heap.h"
#include "qsbr/retire.h"

typedef struct qc_state {
    retire_queue *queue;
    uint64_t queue_id; /* its id, one load nearer */
    heap *heap;
    /* T7, of containers that only the collector frees: the bytes by which their tables and
     * what these hold have grown in all, and the tables alone; the first when the collector
     * last came for them, what lived after that, and how often it came. */
    _Atomic uint64_t deferred_grown, deferred_tables, deferred_seen, live_then, collections;
    PyTypeObject *dict_type;
    PyTypeObject *dict_view_types[3]; /* keys, values, items */
    PyTypeObject *dict_iter_type, *dict_reversed_type;
    PyTypeObject *list_type;
    PyTypeObject *list_iter_type, *list_reversed_type;
    PyTypeObject *creator_type;
    PyObject *missing, *delete_; /* the sentinels */
    qc_lock waits_lock;          /* of who waits for whom in get_or_create (K10) */
    struct creation_wait *waits; /* (waits_lock) */
    uint32_t waits_generation;   /* (waits_lock) the fork generation that they are of */
    PyObject *is_finalizing;     /* sys's function: a finalizer may run when sys is empty */
} qc_state;

extern struct PyModuleDef qc_module;

/* The state of the module that `type`, one of ours or a subclass, comes from. */
static inline qc_state *
qc_state_of_type(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &qc_module);
    return module == NULL ? NULL : (qc_state *)PyModule_GetState(module);
}

/* Whether `value` is none of the sentinels; false with ValueError. */
bool state_refuse(PyObject *sentinel);
static inline bool
state_is_sentinel(qc_state *state, PyObject *value)
{
    return value == state->missing || value == state->delete_;
}
static inline bool
state_may_store(qc_state *state, PyObject *value)
{
    return !state_is_sentinel(state, value) || state_refuse(value);
}

/* Each adds its types to the module: 0, or -1 with an exception. */
int qc_sentinels_register(PyObject *module, qc_state *state);
int qc_dict_register(PyObject *module, qc_state *state);
int qc_dict_views_register(PyObject *module, qc_state *state);
int qc_dict_atomic_register(PyObject *module, qc_state *state);
int qc_list_register(PyObject *module, qc_state *state);

#endif
