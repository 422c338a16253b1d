/* MISSING and DELETE: arguments and results of the compound operations, and never
 * stored, neither as values nor as keys.  Two objects of one type, an interpreter's
 * own; pickle and copy know them by their names. */
#include "py/state.h"

typedef struct {
    PyObject_HEAD
    const char *name;
} sentinel_object;

static PyObject *
sentinel_repr(PyObject *self)
{
    return PyUnicode_FromFormat("qsbrcontainers.%s", ((sentinel_object *)self)->name);
}

/* A string: the name of a global in the type's module. */
static PyObject *
sentinel_reduce(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return PyUnicode_FromString(((sentinel_object *)self)->name);
}

/* The collector has to see that it holds its type, and with it the module, which holds
 * it: else the module and all it has would outlive their interpreter (Q11). */
static int
sentinel_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void
sentinel_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMethodDef sentinel_methods[] = {
    {"__reduce__", sentinel_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(sentinel_doc, "The type of MISSING and DELETE, for annotations; it makes no others.");

static PyType_Slot sentinel_slots[] = {
    {Py_tp_doc, (void *)sentinel_doc}, {Py_tp_repr, sentinel_repr},
    {Py_tp_dealloc, sentinel_dealloc}, {Py_tp_traverse, sentinel_traverse},
    {Py_tp_methods, sentinel_methods}, {0, NULL},
};

static PyType_Spec sentinel_spec = {
    .name = "qsbrcontainers.Sentinel",
    .basicsize = sizeof(sentinel_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = sentinel_slots,
};

static PyObject *
sentinel_new(PyObject *module, PyTypeObject *type, const char *name)
{
    sentinel_object *s = PyObject_GC_New(sentinel_object, type);
    if (s == NULL)
        return NULL;
    s->name = name;
    PyObject_GC_Track(s);
    if (PyModule_AddObjectRef(module, name, (PyObject *)s) == 0)
        return (PyObject *)s;
    Py_DECREF(s);
    return NULL;
}

int
qc_sentinels_register(PyObject *module, qc_state *state)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &sentinel_spec, NULL);
    if (type == NULL)
        return -1;
    state->missing = sentinel_new(module, (PyTypeObject *)type, "MISSING");
    if (state->missing != NULL)
        state->delete_ = sentinel_new(module, (PyTypeObject *)type, "DELETE");
    int status = state->delete_ == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return status;
}

bool
state_refuse(PyObject *sentinel)
{
    PyErr_Format(PyExc_ValueError, "%R cannot be stored", sentinel);
    return false;
}
