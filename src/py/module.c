/* The extension module qsbrcontainers._native. */
#include "py/py_dict.h"
#include "py/state.h"

#include "py/py_capi.h"
#include "py/py_refs.h"
#include "py/py_threads.h"
#include "py/py_wait.h"

static qc_state *
state_of(PyObject *module)
{
    return (qc_state *)PyModule_GetState(module);
}

/* ---- functions ---- */

PyDoc_STRVAR(collect_doc,
             "collect()\n--\n\n"
             "Free what the containers have retired, of all threads, after one grace period;\n"
             "returns the number of items. Finalizers run here. Safe in any thread at any time.\n"
             "While another thread is stopped in the middle of a read, collect() waits for it\n"
             "and lets signals and the cyclic collector in; a signal handler's exception ends\n"
             "the wait.");

static PyObject *
collect(PyObject *module, PyObject *ignored)
{
    (void)ignored;
    retire_local *local = threads_local(state_of(module));
    if (local == NULL)
        return NULL;
    size_t n = retire_collect(local);
    if (n == RETIRE_NO_WAIT)
        return NULL;
    heap_collect(state_of(module)->heap, wait_for_heap);
    return PyErr_Occurred() ? NULL : PyLong_FromSize_t(n);
}

/* At exit, before the interpreter takes its modules apart (T8). */
static PyObject *
drain(PyObject *module, PyObject *ignored)
{
    (void)ignored;
    bool main = PyInterpreterState_Get() == PyInterpreterState_Main();
    threads_shut_down();
    if (!main) /* the main interpreter may be ending, and this one with it */
        threads_stay_attached();
    retire_local *local = threads_local(state_of(module));
    if (local != NULL && !PyErr_Occurred())
        retire_drain(local); /* a signal handler's exception ends its wait */
    if (local != NULL && !PyErr_Occurred())
        qc_capi_drain();
    threads_stay_attached();
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

/* For the tests of T7: the calling thread is a reader that stays in its section, from
 * _section(True) to _section(False), and does nothing else with containers. */
static PyObject *
section(PyObject *module, PyObject *enter)
{
    (void)module;
    qsbr_record *rec = qsbr_self != NULL ? qsbr_self : threads_register();
    if (rec == NULL)
        return NULL;
    if (PyObject_IsTrue(enter))
        qsbr_enter(rec);
    else if (qsbr_in_section(rec))
        qsbr_exit(rec);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(share_doc,
             "share(obj, /)\n--\n\n"
             "Turn on deferred reference counting for an object that all threads go through (an\n"
             "application, a service instance), so that obj.cache[key] scales as well; returns\n"
             "obj. Call it where obj is made. From then on only the cyclic collector frees the\n"
             "object. Does nothing where the interpreter cannot (GIL builds, 3.13), obj is not\n"
             "tracked by the collector, or its thread has given up all its references to it.");

static PyObject *
share(PyObject *module, PyObject *obj)
{
    (void)module;
    refs_enable_deferred(obj);
    return Py_NewRef(obj);
}

/* Takes over `value`.  Not PyDict_SetItemString: from 3.12 on that interns the name for
 * good, under one lock of the process, whose owner may hang for ever when the interpreter
 * ends (Q7). */
static int
set_item(PyObject *dict, const char *name, PyObject *value)
{
    PyObject *key = PyUnicode_FromString(name);
    int status = key == NULL || value == NULL ? -1 : PyDict_SetItem(dict, key, value);
    Py_XDECREF(key);
    Py_XDECREF(value);
    return status;
}

static int
set_number(PyObject *dict, const char *name, uint64_t value)
{
    return set_item(dict, name, PyLong_FromUnsignedLongLong(value));
}

static int
set_text(PyObject *dict, const char *name, const char *value)
{
    return set_item(dict, name, PyUnicode_FromString(value));
}

PyDoc_STRVAR(stats_doc,
             "stats()\n--\n\n"
             "Counters as a dict, all of them numbers but the last three.\n\n"
             "Of this interpreter's queue: bytes_held and items_held (retired, not yet freed),\n"
             "bytes_held_peak, bytes_limit (the bound on it and on waiting pages),\n"
             "bytes_freed, items_freed, batches, waits (of writers that were over the hard\n"
             "limit), waits_in_vain (that went on after a second).\n\n"
             "Of its memory: heap_bytes (tables and arrays in use, and large ones that are held),\n"
             "heap_bytes_kept (of freed ones up to 256 KiB, for the next), pages (of 64 KiB, for\n"
             "those up to 8 KiB), pages_waiting (with nothing in use and not yet free),\n"
             "pages_reused, page_bytes_held (retired into pages), collections (of the cyclic\n"
             "collector, asked for since dead containers held much).\n\n"
             "Of the process: advances, polls, heavy_barriers, quarantined (barriers that failed:\n"
             "nothing is freed any more), records (threads), barrier ('membarrier' or 'fence'),\n"
             "numbers ('value' or 'object': how ints and floats are stored), frees ('at once' or\n"
             "'later': what is replaced; with a GIL nobody can be looking at it).\n\n"
             "Safe at any time. The numbers are of slightly different moments while other threads\n"
             "run; counting the pages takes the heap's lock for a moment.");

static PyObject *
stats(PyObject *module, PyObject *ignored)
{
    (void)ignored;
    qc_state *state = state_of(module);
    retire_queue *q = state->queue;
    uint64_t bytes, items;
    heap_figures pages;
    retire_held(q, &bytes, &items);
    heap_stats(state->heap, &pages);
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"bytes_held", bytes},
        {"bytes_held_peak", qc_load_relaxed(&q->bytes_peak)},
        {"bytes_limit", retire_bound_now(q)},
        {"bytes_freed", qc_load_relaxed(&q->bytes_run)},
        {"items_held", items},
        {"items_freed", qc_load_relaxed(&q->items_run)},
        {"batches", qc_load_relaxed(&q->batches)},
        {"waits", qc_load_relaxed(&q->waits)},
        {"waits_in_vain", qc_load_relaxed(&q->waits_in_vain)},
        {"collections", qc_load_relaxed(&state->collections)},
        {"heap_bytes", pages.live_bytes},
        {"heap_bytes_kept", pages.kept_bytes},
        {"pages", pages.pages},
        {"pages_waiting", pages.pages_waiting},
        {"pages_reused", pages.pages_reused + pages.pages_back},
        {"page_bytes_held", pages.retired_bytes},
        {"advances", qc_load_relaxed(&qsbr_process.advances)},
        {"polls", qc_load_relaxed(&qsbr_process.polls)},
        {"heavy_barriers", qc_load_relaxed(&qsbr_process.heavy_barriers)},
        {"quarantined", qc_load_relaxed(&qsbr_process.broken)},
        {"records", qc_load_relaxed(&qsbr_process.registered)},
    };
    PyObject *dict = PyDict_New();
    if (dict == NULL)
        return NULL;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (set_number(dict, numbers[i].name, numbers[i].value) < 0)
            goto error;
    if (set_text(dict, "barrier", barrier_chosen == BARRIER_MEMBARRIER ? "membarrier" : "fence") <
            0 ||
        set_text(dict, "numbers", QC_NUMBERS_BY_VALUE ? "value" : "object") < 0 ||
        set_text(dict, "frees", QC_FREES_AT_ONCE ? "at once" : "later") < 0)
        goto error;
    return dict;
error:
    Py_DECREF(dict);
    return NULL;
}

/* The types have all they get (_dict.py, _list.py): from now on their attributes cannot be
 * set, as dict's cannot.  Also for speed: only of a type that cannot change does the
 * interpreter keep an instance that it found as a class attribute, and does without
 * looking for it, which would count a reference to it each time, by all threads. */
static PyObject *
seal(PyObject *module, PyObject *unused)
{
    qc_state *state = PyModule_GetState(module);
    (void)unused;
    state->dict_type->tp_flags |= Py_TPFLAGS_IMMUTABLETYPE;
    state->list_type->tp_flags |= Py_TPFLAGS_IMMUTABLETYPE;
    for (int i = 0; i < 3; i++)
        state->dict_view_types[i]->tp_flags |= Py_TPFLAGS_IMMUTABLETYPE;
    Py_RETURN_NONE;
}

/* A ConcurrentDict with the pairs of `d` at one moment.  `d` may be an instance of a subclass;
 * its methods are not called. */
static PyObject *
moment(PyObject *module, PyObject *d)
{
    (void)module;
    return dict_check(d) ? dict_exact_copy(dict_of(d)) : PyErr_Format(PyExc_TypeError, "%R", d);
}

static PyMethodDef functions[] = {
    {"collect", collect, METH_NOARGS, collect_doc},
    {"share", share, METH_O, share_doc},
    {"stats", stats, METH_NOARGS, stats_doc},
    {"_drain", drain, METH_NOARGS, NULL},
    {"_moment", moment, METH_O, NULL},
    {"_seal", seal, METH_NOARGS, NULL},
    {"_section", section, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

/* ---- the module ---- */

/* atexit comes before daemon threads stop and before m_free, which does not run
 * at all while there are any. */
static int
register_drain(PyObject *module)
{
    PyObject *atexit = PyImport_ImportModule("atexit");
    PyObject *function = atexit == NULL ? NULL : PyObject_GetAttrString(module, "_drain");
    PyObject *result = NULL;
    if (function != NULL)
        result = PyObject_CallMethod(atexit, "register", "O", function);
    Py_XDECREF(atexit);
    Py_XDECREF(function);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
add_all(PyObject *module, qc_state *state)
{
    if (threads_init_process() < 0 || threads_init_state(state) < 0)
        return -1;
    if (qc_sentinels_register(module, state) < 0 || qc_dict_register(module, state) < 0 ||
        qc_dict_views_register(module, state) < 0 || qc_dict_atomic_register(module, state) < 0 ||
        qc_list_register(module, state) < 0)
        return -1;
    if (qc_capi_register(module, state) < 0)
        return -1;
    return register_drain(module);
}

static int
module_exec(PyObject *module)
{
    int status = add_all(module, state_of(module));
    /* Without memory for a type's name PyType_FromModuleAndSpec() says nothing. */
    if (status < 0 && !PyErr_Occurred())
        PyErr_NoMemory();
    return status;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    qc_state *state = state_of(module);
    Py_VISIT(state->dict_type);
    for (int i = 0; i < 3; i++)
        Py_VISIT(state->dict_view_types[i]);
    Py_VISIT(state->dict_iter_type);
    Py_VISIT(state->dict_reversed_type);
    Py_VISIT(state->list_type);
    Py_VISIT(state->list_iter_type);
    Py_VISIT(state->list_reversed_type);
    Py_VISIT(state->creator_type);
    Py_VISIT(state->is_finalizing);
    Py_VISIT(state->missing);
    Py_VISIT(state->delete_);
    return 0;
}

static int
module_clear(PyObject *module)
{
    qc_state *state = state_of(module);
    Py_CLEAR(state->dict_type);
    for (int i = 0; i < 3; i++)
        Py_CLEAR(state->dict_view_types[i]);
    Py_CLEAR(state->dict_iter_type);
    Py_CLEAR(state->dict_reversed_type);
    Py_CLEAR(state->list_type);
    Py_CLEAR(state->list_iter_type);
    Py_CLEAR(state->list_reversed_type);
    Py_CLEAR(state->creator_type);
    Py_CLEAR(state->is_finalizing);
    Py_CLEAR(state->missing);
    Py_CLEAR(state->delete_);
    return 0;
}

static void
module_free(void *module)
{
    qc_capi_unregister(state_of((PyObject *)module));
    module_clear((PyObject *)module);
    threads_fini_state(state_of((PyObject *)module));
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

struct PyModuleDef qc_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "qsbrcontainers._native",
    .m_doc = "The C core of qsbrcontainers.",
    .m_size = sizeof(qc_state),
    .m_methods = functions,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&qc_module);
}
