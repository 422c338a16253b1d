/* A type whose hash is -1, which means an exception, and there is none. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static Py_hash_t
hash_is_minus_one(PyObject *self)
{
    (void)self;
    return -1;
}

static PyType_Slot slots[] = {
    {Py_tp_hash, hash_is_minus_one},
    {Py_tp_new, PyType_GenericNew},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "minus_one.MinusOne",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

static int
execute(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&spec);
    int done = type == NULL ? -1 : PyModule_AddObjectRef(module, "MinusOne", type);
    Py_XDECREF(type);
    return done;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, execute},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "minus_one",
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit_minus_one(void)
{
    return PyModuleDef_Init(&module);
}
