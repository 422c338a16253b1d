/* Containers that do nothing, for benchmarks/contenders.py: whatever is asked, the answer is None.
 * What they take is what the interpreter takes to come to an extension type and back, so no
 * container of any kind is faster, but for the builtins, for which it has shortcuts. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

typedef struct {
    PyObject_HEAD
    Py_ssize_t length;
} limit_object;

typedef struct {
    PyObject_HEAD
    Py_ssize_t left;
} limit_iterator;

static PyTypeObject *iterator_type;

static Py_ssize_t
length(PyObject *self)
{
    return ((limit_object *)self)->length;
}

static PyObject *
subscript(PyObject *self, PyObject *key)
{
    (void)self;
    (void)key;
    Py_RETURN_NONE;
}

static int
assign(PyObject *self, PyObject *key, PyObject *value)
{
    (void)self;
    (void)key;
    (void)value;
    return 0;
}

static int
contains(PyObject *self, PyObject *key)
{
    (void)self;
    (void)key;
    return 1;
}

static PyObject *
no_arguments(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    Py_RETURN_NONE;
}

static PyObject *
some_arguments(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    (void)args;
    (void)n;
    Py_RETURN_NONE;
}

/* So many elements it says that it has. */
static PyObject *
extend(PyObject *self, PyObject *elements)
{
    Py_ssize_t more = PyObject_Length(elements);
    if (more < 0)
        return NULL;
    ((limit_object *)self)->length += more;
    Py_RETURN_NONE;
}

static PyObject *
iterate(PyObject *self)
{
    limit_iterator *it = PyObject_New(limit_iterator, iterator_type);
    if (it != NULL)
        it->left = length(self);
    return (PyObject *)it;
}

static PyObject *
next(PyObject *self)
{
    if (((limit_iterator *)self)->left-- <= 0)
        return NULL;
    Py_RETURN_NONE;
}

static void
dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"get", (PyCFunction)(void (*)(void))some_arguments, METH_FASTCALL, NULL},
    {"insert", (PyCFunction)(void (*)(void))some_arguments, METH_FASTCALL, NULL},
    {"append", no_arguments, METH_O, NULL},
    {"pop", (PyCFunction)(void (*)(void))some_arguments, METH_FASTCALL, NULL},
    {"extend", extend, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc},   {Py_tp_methods, methods},
    {Py_tp_iter, iterate},      {Py_mp_subscript, subscript},
    {Py_mp_length, length},     {Py_mp_ass_subscript, assign},
    {Py_sq_contains, contains}, {0, NULL},
};

static PyType_Slot iterator_slots[] = {
    {Py_tp_dealloc, dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, next},
    {0, NULL},
};

static PyType_Spec spec = {"qc_limit.Nothing", sizeof(limit_object), 0, Py_TPFLAGS_DEFAULT, slots};
static PyType_Spec iterator_spec = {"qc_limit.iterator", sizeof(limit_iterator), 0,
                                    Py_TPFLAGS_DEFAULT, iterator_slots};

static int
fill(PyObject *module)
{
    iterator_type = (PyTypeObject *)PyType_FromSpec(&iterator_spec);
    PyObject *type = PyType_FromSpec(&spec);
    int done = -1;
    if (iterator_type != NULL && type != NULL)
        done = PyModule_AddObjectRef(module, "Nothing", type);
    Py_XDECREF(type);
    return done;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, fill},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "qc_limit",
                                 .m_slots = module_slots};

PyMODINIT_FUNC
PyInit_qc_limit(void)
{
    return PyModuleDef_Init(&definition);
}
