#include "probe.h"

#include <stdlib.h>

const qsbrc_api *probe_api;

/* ---- one domain with one queue, driven by hand from Python ---- */

typedef struct {
    PyObject_HEAD
    qsbrc_domain *domain;
    qsbrc_queue *queue;
    qsbrc_room *room;
    qsbrc_deferred deferred;
} probe;

#define probe_of(op) ((probe *)(op))

static PyObject *
probe_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static const qsbrc_deferred none = QSBRC_DEFERRED;
    (void)args;
    (void)kwargs;
    probe *self = (probe *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->deferred = none;
    self->domain = qsbrc_domain_new();
    self->queue = self->domain == NULL ? NULL : qsbrc_queue_new(self->domain);
    if (self->queue == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

/* The domain before the queue: the queue keeps it. */
static PyObject *
release(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    if (probe_of(self)->domain != NULL)
        qsbrc_domain_release(probe_of(self)->domain);
    probe_of(self)->domain = NULL;
    qsbrc_queue_free(probe_of(self)->queue);
    probe_of(self)->queue = NULL;
    Py_RETURN_NONE;
}

static void
probe_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(release(self, NULL));
    type->tp_free(self);
    Py_DECREF(type);
}

/* The calling thread's. */
static qsbrc_record *
record(PyObject *self)
{
    return qsbrc_register(probe_of(self)->domain);
}

static PyObject *
register_thread(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    qsbrc_record *rec = record(self);
    return rec == NULL ? NULL : PyLong_FromVoidPtr(rec);
}

static PyObject *
register_detached(PyObject *self, PyObject *ignored)
{
    qsbrc_record *rec;
    (void)ignored;
    Py_BEGIN_ALLOW_THREADS
    rec = qsbrc_register_detached(probe_of(self)->domain);
    Py_END_ALLOW_THREADS
    return rec == NULL ? PyErr_NoMemory() : PyLong_FromVoidPtr(rec);
}

static PyObject *
unregister_thread(PyObject *self, PyObject *ignored)
{
    qsbrc_record *rec = record(self);
    (void)ignored;
    if (rec == NULL || qsbrc_unregister(rec) < 0)
        return NULL;
    Py_RETURN_NONE;
}

#define WITH_RECORD(name, call)                                                                    \
    static PyObject *name(PyObject *self, PyObject *ignored)                                       \
    {                                                                                              \
        qsbrc_record *rec = record(self);                                                          \
        (void)ignored;                                                                             \
        if (rec == NULL)                                                                           \
            return NULL;                                                                           \
        call;                                                                                      \
        Py_RETURN_NONE;                                                                            \
    }
WITH_RECORD(enter, qsbrc_enter(rec))
WITH_RECORD(section_exit, qsbrc_exit(rec))
WITH_RECORD(detach, qsbrc_detach(rec))
WITH_RECORD(quiescent_state, qsbrc_quiescent_state(rec))

static PyObject *
attach(PyObject *self, PyObject *ignored)
{
    qsbrc_record *rec = record(self);
    (void)ignored;
    return rec == NULL ? NULL : PyBool_FromLong(qsbrc_attach(rec));
}

/* n times enter and exit: what they cost. */
static PyObject *
sections(PyObject *self, PyObject *arg)
{
    qsbrc_record *rec = record(self);
    long n = PyLong_AsLong(arg);
    if (rec == NULL || PyErr_Occurred())
        return NULL;
    for (long i = 0; i < n; i++) {
        qsbrc_enter(rec);
        qsbrc_exit(rec);
    }
    Py_RETURN_NONE;
}

/* ---- grace periods ---- */

static PyObject *
advance(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return PyLong_FromUnsignedLongLong(qsbrc_advance(probe_of(self)->domain));
}

static PyObject *
advance_deferred(PyObject *self, PyObject *arg)
{
    size_t bytes = PyLong_AsSize_t(arg);
    if (PyErr_Occurred())
        return NULL;
    return PyLong_FromUnsignedLongLong(
        qsbrc_advance_deferred(probe_of(self)->domain, &probe_of(self)->deferred, bytes));
}

static PyObject *
advance_now(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return PyLong_FromUnsignedLongLong(
        qsbrc_advance_now(probe_of(self)->domain, &probe_of(self)->deferred));
}

static PyObject *
goal_reached(PyObject *self, PyObject *goal)
{
    return PyBool_FromLong(
        qsbrc_goal_reached(probe_of(self)->domain, PyLong_AsUnsignedLongLong(goal)));
}

static PyObject *
poll_goal(PyObject *self, PyObject *goal)
{
    return PyBool_FromLong(qsbrc_poll(probe_of(self)->domain, PyLong_AsUnsignedLongLong(goal)));
}

static PyObject *
wait_goal(PyObject *self, PyObject *goal)
{
    if (qsbrc_wait(probe_of(self)->domain, PyLong_AsUnsignedLongLong(goal)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- the queue: retired callables are called ---- */

static void
call_and_drop(uint64_t word)
{
    PyObject *function = (PyObject *)qsbrc_pointer(word);
    Py_XDECREF(PyObject_CallNoArgs(function)); /* an exception is left for the queue */
    Py_DECREF(function);
}

static PyObject *
reserve(PyObject *self, PyObject *arg)
{
    qsbrc_room *room = qsbrc_reserve(probe_of(self)->queue, (unsigned)PyLong_AsLong(arg));
    if (room == NULL)
        return NULL;
    probe_of(self)->room = room;
    Py_RETURN_NONE;
}

static PyObject *
retire(PyObject *self, PyObject *args)
{
    PyObject *function;
    Py_ssize_t bytes;
    if (!PyArg_ParseTuple(args, "On", &function, &bytes))
        return NULL;
    Py_INCREF(function);
    qsbrc_retire(probe_of(self)->room, call_and_drop, qsbrc_word(function), (size_t)bytes);
    Py_RETURN_NONE;
}

static PyObject *
commit(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    qsbrc_commit(probe_of(self)->room);
    Py_RETURN_NONE;
}

/* All three, as an operation of an extension does them. */
static PyObject *
retire_one(PyObject *self, PyObject *args)
{
    PyObject *function;
    Py_ssize_t bytes;
    if (!PyArg_ParseTuple(args, "On", &function, &bytes))
        return NULL;
    qsbrc_room *room = qsbrc_reserve(probe_of(self)->queue, 1);
    if (room == NULL)
        return NULL;
    Py_INCREF(function);
    qsbrc_retire(room, call_and_drop, qsbrc_word(function), (size_t)bytes);
    qsbrc_commit(room);
    Py_RETURN_NONE;
}

/* ---- the pointer to nothing, and no function ---- */

static void
count_null(uint64_t word)
{
    if (qsbrc_pointer(word) != NULL)
        Py_FatalError("the word of NULL came back as another");
    PyObject *run = PyImport_AddModule("probe_nulls"); /* borrowed */
    PyObject *one = run == NULL ? NULL : PyUnicode_FromString("null");
    PyObject *list = one == NULL ? NULL : PyObject_GetAttrString(run, "freed");
    if (list == NULL || PyList_Append(list, one) < 0)
        PyErr_WriteUnraisable(run);
    Py_XDECREF(list);
    Py_XDECREF(one);
}

/* retire_null(bytes, has_function) */
static PyObject *
retire_null(PyObject *self, PyObject *args)
{
    Py_ssize_t bytes;
    int has_function;
    if (!PyArg_ParseTuple(args, "np", &bytes, &has_function))
        return NULL;
    qsbrc_room *room = qsbrc_reserve(probe_of(self)->queue, 1);
    if (room == NULL)
        return NULL;
    qsbrc_retire(room, has_function ? count_null : NULL, qsbrc_word(NULL), (size_t)bytes);
    qsbrc_commit(room);
    Py_RETURN_NONE;
}

/* With an exception set, if one is given: it has to be there afterwards. */
static PyObject *
safe_point(PyObject *self, PyObject *args)
{
    PyObject *error = NULL;
    if (!PyArg_UnpackTuple(args, "safe_point", 0, 1, &error))
        return NULL;
    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    qsbrc_safe_point(probe_of(self)->queue);
    return error != NULL ? NULL : Py_NewRef(Py_None);
}

static PyObject *
collect(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    Py_ssize_t n = qsbrc_collect(probe_of(self)->queue);
    return n < 0 ? NULL : PyLong_FromSsize_t(n);
}

static PyObject *
held(PyObject *self, PyObject *ignored)
{
    uint64_t bytes, items;
    (void)ignored;
    qsbrc_queue_held(probe_of(self)->queue, &bytes, &items);
    return Py_BuildValue("KK", (unsigned long long)bytes, (unsigned long long)items);
}

static PyMethodDef methods[] = {
    {"release", release, METH_NOARGS, NULL},
    {"register", register_thread, METH_NOARGS, NULL},
    {"register_detached", register_detached, METH_NOARGS, NULL},
    {"unregister", unregister_thread, METH_NOARGS, NULL},
    {"enter", enter, METH_NOARGS, NULL},
    {"exit", section_exit, METH_NOARGS, NULL},
    {"sections", sections, METH_O, NULL},
    {"attach", attach, METH_NOARGS, NULL},
    {"detach", detach, METH_NOARGS, NULL},
    {"quiescent_state", quiescent_state, METH_NOARGS, NULL},
    {"advance", advance, METH_NOARGS, NULL},
    {"advance_deferred", advance_deferred, METH_O, NULL},
    {"advance_now", advance_now, METH_NOARGS, NULL},
    {"goal_reached", goal_reached, METH_O, NULL},
    {"poll", poll_goal, METH_O, NULL},
    {"wait", wait_goal, METH_O, NULL},
    {"reserve", reserve, METH_O, NULL},
    {"retire", retire, METH_VARARGS, NULL},
    {"commit", commit, METH_NOARGS, NULL},
    {"retire_one", retire_one, METH_VARARGS, NULL},
    {"retire_null", retire_null, METH_VARARGS, NULL},
    {"safe_point", safe_point, METH_VARARGS, NULL},
    {"collect", collect, METH_NOARGS, NULL},
    {"held", held, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, (void *)probe_new},
    {Py_tp_dealloc, (void *)probe_dealloc},
    {Py_tp_methods, (void *)methods},
    {0, NULL},
};

static PyType_Spec spec = {"probe.Probe", (int)sizeof(probe), 0, Py_TPFLAGS_DEFAULT, slots};

static int
module_exec(PyObject *module)
{
    if (qsbrcontainers_import() < 0 || probe_add_containers(module) < 0)
        return -1;
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int status = type == NULL ? -1 : PyModule_AddObjectRef(module, "Probe", type);
    Py_XDECREF(type);
    return status;
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
    PyModuleDef_HEAD_INIT, "probe", NULL, 0, NULL, module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit_probe(void)
{
    return PyModuleDef_Init(&module_def);
}
