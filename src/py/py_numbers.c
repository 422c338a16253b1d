#include "py/py_numbers.h"

#include <stdlib.h>

static void
forget(numbers *n)
{
    for (size_t i = 0; i < NUMBERS_KEPT; i++) {
        n->kept[i].value = (int64_t)(i ^ 1); /* of another residue: never found */
        Py_CLEAR(n->kept[i].object);         /* an exact int: runs no Python code */
    }
}

void
numbers_drop(retire_local *local)
{
    numbers *n = local->kept_above;
    local->kept_above = NULL;
    if (n != NULL)
        numbers_free(n);
}

void
numbers_free(void *kept)
{
    forget(kept);
    free(kept);
}

void
numbers_keep(retire_local *local)
{
    numbers *n = local->kept_above;
    uint64_t tenure = qc_load_relaxed(&local->rec->tenure);
    if (n != NULL && n->tenure != tenure) {
        numbers_drop(local);
        n = NULL;
    }
    if (n == NULL && QC_NUMBERS_BY_VALUE && (n = calloc(1, sizeof *n)) != NULL) {
        n->tenure = tenure;
        forget(n);
        local->kept_above = n;
    }
    threads_cached.numbers = n;
}

static void
keep(numbers *n, int64_t value, PyObject *object)
{
    size_t i = (uint64_t)value % NUMBERS_KEPT;
    PyObject *old = n->kept[i].object;
    n->kept[i].object = Py_NewRef(object);
    n->kept[i].value = value;
    Py_XDECREF(old); /* an exact int: runs no Python code */
}

PyObject *
numbers_int_miss(numbers *n, int64_t value)
{
    PyObject *object = PyLong_FromLongLong(value);
    if (object != NULL)
        keep(n, value, object);
    return object;
}

PyObject *
numbers_int_late(qc_state *state, int64_t value)
{
    PyObject *object = PyLong_FromLongLong(value);
    numbers *n = numbers_cache(state);
    if (n == NULL)
        return object;
    if (qc_unlikely(object == NULL)) {
        forget(n);
        PyErr_Clear();
        object = PyLong_FromLongLong(value);
    }
    if (qc_likely(object != NULL))
        keep(n, value, object); /* counts that go up together are the same for a while */
    return object;
}

PyObject *
numbers_add(PyObject *a, PyObject *b)
{
    if (PyLong_Check(a) && PyLong_Check(b))
        return PyLong_Type.tp_as_number->nb_add(a, b);
    if ((PyLong_Check(a) || PyFloat_Check(a)) && (PyLong_Check(b) || PyFloat_Check(b)))
        return PyFloat_Type.tp_as_number->nb_add(a, b);
    PyErr_Format(PyExc_TypeError, "incr() needs an int or a float, not '%.200s' and '%.200s'",
                 Py_TYPE(a)->tp_name, Py_TYPE(b)->tp_name);
    return NULL;
}
