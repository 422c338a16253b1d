/* The module _failing, a part of the extension's debug build: one call of a function in which
 * the n-th allocation fails, or all from there on. Whose allocations: the interpreter's, those
 * of our heap, or those that we ask libc for. They are the calling thread's, but for the heap's,
 * which are everybody's.  And threads that sleep at one of the yield hook's places. */
#include "failing.h"
#undef malloc
#undef calloc
#undef posix_memalign

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <limits.h>
#include <string.h>
#include <time.h>

#include "base/qc_debug.h"
#include "heap/heap.h"

typedef struct {
    unsigned long long fail_in; /* 0: off */
    unsigned long long failed;
    int forever;
} counter;

static _Thread_local counter python, libc;

static int
fails(counter *c)
{
    if (c->fail_in == 0 || (c->fail_in > 1 && c->fail_in--))
        return 0;
    if (!c->forever)
        c->fail_in = 0;
    c->failed++;
    return 1;
}

/* ---- libc's ---- */

void *
failing_malloc(size_t size)
{
    return fails(&libc) ? NULL : malloc(size);
}

void *
failing_calloc(size_t n, size_t size)
{
    return fails(&libc) ? NULL : calloc(n, size);
}

int
failing_memalign(void **memory, size_t alignment, size_t size)
{
    return fails(&libc) ? ENOMEM : posix_memalign(memory, alignment, size);
}

/* ---- the interpreter's ---- */

static PyMemAllocatorEx original[3];

static void *
python_malloc(void *context, size_t size)
{
    PyMemAllocatorEx *a = context;
    return fails(&python) ? NULL : a->malloc(a->ctx, size);
}

static void *
python_calloc(void *context, size_t n, size_t size)
{
    PyMemAllocatorEx *a = context;
    return fails(&python) ? NULL : a->calloc(a->ctx, n, size);
}

static void *
python_realloc(void *context, void *block, size_t size)
{
    PyMemAllocatorEx *a = context;
    return fails(&python) ? NULL : a->realloc(a->ctx, block, size);
}

static void
python_free(void *context, void *block)
{
    PyMemAllocatorEx *a = context;
    a->free(a->ctx, block);
}

/* ---- sleeping ---- */

typedef struct {
    char place[32];
    struct timespec how_long;
    _Atomic long times; /* left; who comes later goes through */
} place_to_sleep;

static place_to_sleep places[2];
static _Atomic unsigned long slept;

static void
sleep_there(const char *place)
{
    for (int i = 0; i < 2; i++) {
        place_to_sleep *s = &places[i];
        if (strcmp(place, s->place) != 0 || s->times-- <= 0)
            continue;
        slept++;
        nanosleep(&s->how_long, NULL);
    }
}

/* sleep_at(place, milliseconds, times, which): from now on, who comes there, with all that
 * it holds. By default all do; there can be two such places, 0 and 1. */
static PyObject *
sleep_at(PyObject *module, PyObject *args)
{
    const char *place;
    long ms, times = LONG_MAX;
    unsigned which = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "sl|lI", &place, &ms, &times, &which))
        return NULL;
    place_to_sleep *s = &places[which % 2];
    s->times = 0;
    snprintf(s->place, sizeof s->place, "%s", place);
    s->how_long.tv_nsec = ms * 1000000;
    s->times = times;
    qc_yield_hook = sleep_there;
    Py_RETURN_NONE;
}

/* How many have come there. */
static PyObject *
how_many_slept(PyObject *module, PyObject *ignored)
{
    (void)module;
    (void)ignored;
    return PyLong_FromUnsignedLong(slept);
}

/* ---- the module ---- */

/* call(whose, n, forever, function) -> (how many failed, result); raises what it raises. */
static PyObject *
call(PyObject *module, PyObject *args)
{
    const char *whose;
    unsigned long long n, failed;
    int forever;
    PyObject *function;
    (void)module;
    if (!PyArg_ParseTuple(args, "sKpO", &whose, &n, &forever, &function))
        return NULL;
    counter c = {n, 0, forever};
    if (whose[0] == 'h')
        heap_fail_at(n, forever);
    else
        *(whose[0] == 'p' ? &python : &libc) = c;
    PyObject *result = PyObject_CallNoArgs(function);
    if (whose[0] == 'h') {
        failed = heap_fail_at(0, false) == 0; /* how many is not known */
    }
    else {
        counter *then = whose[0] == 'p' ? &python : &libc;
        failed = then->failed;
        then->fail_in = 0;
    }
    return result == NULL ? NULL : Py_BuildValue("KN", failed, result);
}

static PyMethodDef methods[] = {
    {"call", call, METH_VARARGS, NULL},
    {"sleep_at", sleep_at, METH_VARARGS, NULL},
    {"slept", how_many_slept, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int
execute(PyObject *module)
{
    static const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM,
                                                   PYMEM_DOMAIN_OBJ};
    (void)module;
    for (int i = 0; i < 3; i++) {
        PyMemAllocatorEx a = {&original[i], python_malloc, python_calloc, python_realloc,
                              python_free};
        PyMem_GetAllocator(domains[i], &original[i]);
        PyMem_SetAllocator(domains[i], &a);
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_failing",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__failing(void)
{
    return PyModuleDef_Init(&module_def);
}
