#include "probe.h"

/* (status, value): the value is what came back through the pointer, or None. */
static PyObject *
with_value(int status, PyObject *value)
{
    if (status < 0) {
        if (value != NULL)
            Py_FatalError("a value beside an error");
        return NULL;
    }
    return Py_BuildValue("iN", status, value != NULL ? value : Py_NewRef(Py_None));
}

static PyObject *
number(Py_ssize_t status)
{
    return status < 0 ? NULL : PyLong_FromSsize_t(status);
}

/* Ellipsis stands for NULL, as an argument that is left out does. */
static PyObject *
given(PyObject *op)
{
    return op == Py_Ellipsis ? NULL : op;
}

/* d[key] = NULL, as after a call that has raised. */
static int
set_after_error(PyObject *d, PyObject *key)
{
    PyErr_SetString(PyExc_ZeroDivisionError, "of the call that made the value");
    return qsbrc_dict_set(d, key, NULL);
}

/* `expression` makes the result of a Python function of up to four arguments. */
#define FUNCTION(name, expression)                                                                 \
    static PyObject *name(PyObject *module, PyObject *args)                                        \
    {                                                                                              \
        PyObject *o = NULL, *a = NULL, *b = NULL, *c = NULL;                                       \
        (void)module;                                                                              \
        if (!PyArg_UnpackTuple(args, #name, 0, 4, &o, &a, &b, &c))                                 \
            return NULL;                                                                           \
        o = given(o);                                                                              \
        return expression;                                                                         \
    }
/* The same for what gives a value through a pointer, which holds something before. */
#define FUNCTION_WITH_VALUE(name, call)                                                            \
    static PyObject *name(PyObject *module, PyObject *args)                                        \
    {                                                                                              \
        PyObject *o = NULL, *a = NULL, *b = NULL, *value = module;                                 \
        if (!PyArg_UnpackTuple(args, #name, 0, 3, &o, &a, &b))                                     \
            return NULL;                                                                           \
        o = given(o);                                                                              \
        int status = call;                                                                         \
        return with_value(status, value);                                                          \
    }

FUNCTION(dict_type, qsbrc_dict_type())
FUNCTION(dict_check, number(qsbrc_dict_check(o)))
FUNCTION(dict_check_exact, number(qsbrc_dict_check_exact(o)))
FUNCTION(dict_new, qsbrc_dict_new())
FUNCTION(dict_size, number(qsbrc_dict_size(o)))
FUNCTION(dict_contains, number(qsbrc_dict_contains(o, a)))
FUNCTION_WITH_VALUE(dict_get_ref, qsbrc_dict_get_ref(o, a, &value))
FUNCTION(dict_set, number(qsbrc_dict_set(o, a, b)))
FUNCTION_WITH_VALUE(dict_set_default_ref, qsbrc_dict_set_default_ref(o, a, b, &value))
FUNCTION(dict_set_default, number(qsbrc_dict_set_default_ref(o, a, b, NULL)))
FUNCTION(dict_del, number(qsbrc_dict_del(o, a)))
FUNCTION_WITH_VALUE(dict_pop, qsbrc_dict_pop(o, a, &value))
FUNCTION(dict_discard, number(qsbrc_dict_pop(o, a, NULL)))
FUNCTION(dict_incr, qsbrc_dict_incr(o, a, b, c))
FUNCTION(dict_clear, number(qsbrc_dict_clear(o)))
FUNCTION(dict_snapshot, qsbrc_dict_snapshot(o))
FUNCTION(dict_find, number(qsbrc_dict_get_ref(o, a, NULL)))
FUNCTION(dict_set_after_error, number(set_after_error(o, a)))
FUNCTION(list_find, number(qsbrc_list_get_ref(o, PyLong_AsSsize_t(a), NULL)))
FUNCTION(list_drop, number(qsbrc_list_pop(o, NULL)))
FUNCTION(list_type, qsbrc_list_type())
FUNCTION(list_check, number(qsbrc_list_check(o)))
FUNCTION(list_check_exact, number(qsbrc_list_check_exact(o)))
FUNCTION(list_new, qsbrc_list_new())
FUNCTION(list_size, number(qsbrc_list_size(o)))
FUNCTION_WITH_VALUE(list_get_ref, qsbrc_list_get_ref(o, PyLong_AsSsize_t(a), &value))
FUNCTION(list_set, number(qsbrc_list_set(o, PyLong_AsSsize_t(a), b)))
FUNCTION(list_append, number(qsbrc_list_append(o, a)))
FUNCTION(list_extend, number(qsbrc_list_extend(o, a)))
FUNCTION_WITH_VALUE(list_pop, qsbrc_list_pop(o, &value))
FUNCTION(list_clear, number(qsbrc_list_clear(o)))
FUNCTION(list_snapshot, qsbrc_list_snapshot(o))

#define METHOD(name)                                                                               \
    {                                                                                              \
#name, name, METH_VARARGS, NULL                                                            \
    }

static PyMethodDef functions[] = {
    METHOD(dict_type),        METHOD(dict_check), METHOD(dict_check_exact),
    METHOD(dict_new),         METHOD(dict_size),  METHOD(dict_contains),
    METHOD(dict_get_ref),     METHOD(dict_set),   METHOD(dict_set_default_ref),
    METHOD(dict_set_default), METHOD(dict_del),   METHOD(dict_pop),
    METHOD(dict_discard),     METHOD(dict_incr),  METHOD(dict_clear),
    METHOD(dict_snapshot),    METHOD(list_type),  METHOD(list_check),
    METHOD(list_check_exact), METHOD(list_new),   METHOD(list_size),
    METHOD(list_get_ref),     METHOD(list_set),   METHOD(list_append),
    METHOD(list_extend),      METHOD(list_pop),   METHOD(list_clear),
    METHOD(list_snapshot),    METHOD(dict_find),  METHOD(dict_set_after_error),
    METHOD(list_find),        METHOD(list_drop),  {NULL, NULL, 0, NULL},
};

int
probe_add_containers(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
