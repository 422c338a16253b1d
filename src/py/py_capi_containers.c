/* The C API: ConcurrentDict and ConcurrentList.
 *
 * What other extensions hand over is checked here; everything else is what the methods
 * do, so that they promise the same. */
#include "py/py_capi.h"

#include "py/py_dict.h"
#include "py/py_list.h"

/* False if an object is NULL: with the exception that is already set, most likely by the call
 * that returned NULL, or else with TypeError. */
static bool
none_is_null(PyObject *const *objects, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (qc_likely(objects[i] != NULL))
            continue;
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "expected an object, not NULL");
        return false;
    }
    return true;
}

#define GIVEN(...)                                                                                 \
    none_is_null((PyObject *const[]){__VA_ARGS__},                                                 \
                 sizeof((PyObject *const[]){__VA_ARGS__}) / sizeof(PyObject *))

/* False with TypeError. */
static bool
expect(bool (*check)(PyObject *), const char *name, PyObject *op)
{
    if (!GIVEN(op))
        return false;
    if (qc_likely(check(op)))
        return true;
    PyErr_Format(PyExc_TypeError, "expected a %s, not '%.200s'", name, Py_TYPE(op)->tp_name);
    return false;
}

/* Gives a new reference, or NULL, to the caller, or drops it if the caller does not want it. */
static void
hand_over(PyObject **to, PyObject *value)
{
    if (to != NULL)
        *to = value;
    else
        Py_XDECREF(value);
}

/* What the public functions return for it; an absent value is NULL. */
static int
found(dict_result r)
{
    return r == DICT_FOUND ? 1 : r == DICT_ABSENT ? 0 : -1;
}

/* None of ours: 0, or -1 with an exception. */
static int
done(PyObject *none)
{
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

/* ---- ConcurrentDict ---- */

static bool
is_dict(PyObject *d)
{
    return expect(dict_check, "ConcurrentDict", d);
}

static PyObject *
capi_dict_type(void)
{
    qc_state *state = capi_state();
    return state == NULL ? NULL : Py_NewRef((PyObject *)state->dict_type);
}

static int
capi_dict_check(PyObject *op)
{
    return op != NULL && dict_check(op);
}

static int
capi_dict_check_exact(PyObject *op)
{
    return op != NULL && dict_check(op) && Py_IS_TYPE(op, dict_of(op)->state->dict_type);
}

static PyObject *
capi_dict_new(void)
{
    qc_state *state = capi_state();
    return state == NULL ? NULL : dict_new_empty(state->dict_type, state, 0);
}

static Py_ssize_t
capi_dict_size(PyObject *d)
{
    return is_dict(d) ? dict_length(d) : -1;
}

static int
capi_dict_contains(PyObject *d, PyObject *key)
{
    return is_dict(d) && GIVEN(key) ? dict_contains(d, key) : -1;
}

static int
capi_dict_get_ref(PyObject *d, PyObject *key, PyObject **value)
{
    PyObject *there = NULL;
    Py_hash_t hash = is_dict(d) && GIVEN(key) ? dict_hash(key) : -1;
    int status = hash == -1 ? -1 : found(dict_lookup(dict_of(d), key, hash, &there));
    hand_over(value, there);
    return status;
}

static int
capi_dict_set(PyObject *d, PyObject *key, PyObject *value)
{
    Py_hash_t hash = is_dict(d) && GIVEN(key, value) ? dict_hash(key) : -1;
    return hash == -1 ? -1 : dict_set(dict_of(d), key, hash, value);
}

static int
capi_dict_set_default_ref(PyObject *d, PyObject *key, PyObject *initial, PyObject **value)
{
    PyObject *current = NULL;
    if (value != NULL)
        *value = NULL;
    Py_hash_t hash = is_dict(d) && GIVEN(key, initial) ? dict_hash(key) : -1;
    if (hash == -1)
        return -1;
    dict_result r = dict_insert(dict_of(d), key, hash, initial, &current);
    if (r == DICT_ABSENT)
        current = Py_NewRef(initial);
    if (r != DICT_FAILED)
        hand_over(value, current);
    return found(r);
}

static int
capi_dict_del(PyObject *d, PyObject *key)
{
    Py_hash_t hash = is_dict(d) && GIVEN(key) ? dict_hash(key) : -1;
    if (hash == -1)
        return -1;
    dict_result r = dict_remove(dict_of(d), key, hash, NULL);
    if (r == DICT_ABSENT)
        dict_raise_key_error(key);
    return r == DICT_FOUND ? 0 : -1;
}

static int
capi_dict_pop(PyObject *d, PyObject *key, PyObject **value)
{
    if (value != NULL)
        *value = NULL;
    Py_hash_t hash = is_dict(d) && GIVEN(key) ? dict_hash(key) : -1;
    return hash == -1 ? -1 : found(dict_remove(dict_of(d), key, hash, value));
}

static PyObject *
capi_dict_incr(PyObject *d, PyObject *key, PyObject *delta, PyObject *initial)
{
    PyObject *const args[] = {key, delta, initial};
    return is_dict(d) && GIVEN(key, delta, initial) ? dict_incr(d, args, 3, NULL) : NULL;
}

static int
capi_dict_clear(PyObject *d)
{
    return is_dict(d) ? dict_clear_all(dict_of(d)) : -1;
}

static PyObject *
capi_dict_snapshot(PyObject *d)
{
    return is_dict(d) ? dict_snapshot(dict_of(d)) : NULL;
}

/* ---- ConcurrentList ---- */

static bool
is_list(PyObject *l)
{
    return expect(list_check, "ConcurrentList", l);
}

static PyObject *
capi_list_type(void)
{
    qc_state *state = capi_state();
    return state == NULL ? NULL : Py_NewRef((PyObject *)state->list_type);
}

static int
capi_list_check(PyObject *op)
{
    return op != NULL && list_check(op);
}

static int
capi_list_check_exact(PyObject *op)
{
    return op != NULL && list_check(op) && Py_IS_TYPE(op, list_of(op)->state->list_type);
}

static PyObject *
capi_list_new(void)
{
    qc_state *state = capi_state();
    return state == NULL ? NULL : PyObject_CallNoArgs((PyObject *)state->list_type);
}

static Py_ssize_t
capi_list_size(PyObject *l)
{
    return is_list(l) ? list_length(l) : -1;
}

static int
capi_list_get_ref(PyObject *l, Py_ssize_t index, PyObject **value)
{
    bool valid = is_list(l);
    PyObject *there = valid ? list_get_or_null(list_of(l), index) : NULL;
    int status = there != NULL ? 1 : !valid || PyErr_Occurred() ? -1 : 0;
    hand_over(value, there);
    return status;
}

static int
capi_list_set(PyObject *l, Py_ssize_t index, PyObject *value)
{
    return is_list(l) && GIVEN(value) ? list_set(list_of(l), index, value) : -1;
}

static int
capi_list_append(PyObject *l, PyObject *value)
{
    return is_list(l) && GIVEN(value) ? done(list_append(l, value)) : -1;
}

static int
capi_list_extend(PyObject *l, PyObject *iterable)
{
    return is_list(l) && GIVEN(iterable) ? done(list_extend(l, iterable)) : -1;
}

static int
capi_list_pop(PyObject *l, PyObject **value)
{
    bool valid = is_list(l);
    PyObject *last = valid ? list_pop(l, NULL, 0) : NULL;
    bool popped = last != NULL;
    hand_over(value, last); /* a drop may run Python code */
    if (popped)
        return 1;
    if (!valid || !PyErr_ExceptionMatches(PyExc_IndexError))
        return -1;
    PyErr_Clear();
    return 0;
}

static int
capi_list_clear(PyObject *l)
{
    return is_list(l) ? done(list_clear(l, NULL)) : -1;
}

static PyObject *
capi_list_snapshot(PyObject *l)
{
    return is_list(l) ? list_snapshot(list_of(l)) : NULL;
}

void
capi_fill_containers(qsbrc_api *api)
{
    api->dict_type = capi_dict_type;
    api->dict_check = capi_dict_check;
    api->dict_check_exact = capi_dict_check_exact;
    api->dict_new = capi_dict_new;
    api->dict_size = capi_dict_size;
    api->dict_contains = capi_dict_contains;
    api->dict_get_ref = capi_dict_get_ref;
    api->dict_set = capi_dict_set;
    api->dict_set_default_ref = capi_dict_set_default_ref;
    api->dict_del = capi_dict_del;
    api->dict_pop = capi_dict_pop;
    api->dict_incr = capi_dict_incr;
    api->dict_clear = capi_dict_clear;
    api->dict_snapshot = capi_dict_snapshot;
    api->list_type = capi_list_type;
    api->list_check = capi_list_check;
    api->list_check_exact = capi_list_check_exact;
    api->list_new = capi_list_new;
    api->list_size = capi_list_size;
    api->list_get_ref = capi_list_get_ref;
    api->list_set = capi_list_set;
    api->list_append = capi_list_append;
    api->list_extend = capi_list_extend;
    api->list_pop = capi_list_pop;
    api->list_clear = capi_list_clear;
    api->list_snapshot = capi_list_snapshot;
}
