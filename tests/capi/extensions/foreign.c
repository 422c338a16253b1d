/* Threads that Python did not start, and that come to it now and then: each of their calls has
 * a thread state of its own, made and ended by it, while the OS thread stays the same. */
#include <Python.h>
#include <pthread.h>
#include <stdlib.h>

typedef struct {
    PyObject *function; /* borrowed from the caller, who waits */
    pthread_t thread;
    int me, calls, failed;
} job;

static void *
work(void *argument)
{
    job *j = (job *)argument;
    for (int i = 0; i < j->calls; i++) {
        PyGILState_STATE state = PyGILState_Ensure();
        PyObject *result = PyObject_CallFunction(j->function, "ii", j->me, i);
        if (result == NULL) {
            PyErr_WriteUnraisable(j->function);
            j->failed++;
        }
        Py_XDECREF(result);
        PyGILState_Release(state);
    }
    return NULL;
}

/* in_threads(function, threads, calls): function(thread, call), in new threads, which are over
 * when this returns how many calls have raised. */
static PyObject *
in_threads(PyObject *module, PyObject *args)
{
    PyObject *function;
    int n, calls, started = 0, failed = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "Oii", &function, &n, &calls))
        return NULL;
    job *jobs = (job *)calloc((size_t)n, sizeof *jobs);
    if (jobs == NULL)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    for (; started < n; started++) {
        jobs[started].function = function;
        jobs[started].me = started;
        jobs[started].calls = calls;
        if (pthread_create(&jobs[started].thread, NULL, work, &jobs[started]) != 0)
            break;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(jobs[i].thread, NULL);
        failed += jobs[i].failed;
    }
    Py_END_ALLOW_THREADS
    free(jobs);
    if (started < n) {
        PyErr_SetString(PyExc_RuntimeError, "can't start a thread");
        return NULL;
    }
    return PyLong_FromLong(failed);
}

static PyMethodDef methods[] = {
    {"in_threads", in_threads, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT, "foreign", NULL, 0, methods, module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit_foreign(void)
{
    return PyModuleDef_Init(&module_def);
}
