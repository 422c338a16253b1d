/* ConcurrentList: sort and reverse.
 *
 * sort() calls Python code, for as long as it likes, so it works on a plain list of one
 * moment, without the lock, and with list.sort itself: stable, and every exception is
 * list's.  Then the sorted words are published in one step, unless anything has changed
 * since that moment (ptrarray_version): what others wrote is not undone, and readers see
 * the list before or after, never in between (A3).
 *
 * The sorted array has the same words as the one it replaces, so it takes over that
 * one's references, and only memory is left to be freed. */
#include "py/py_list_write.h"

/* The list of this moment, its version, and the room it has.  NULL with an exception. */
static PyObject *
moment_to_sort(list_object *l, uint64_t *version, size_t *capacity)
{
    if (list_begin_write(l) == NULL)
        return NULL;
    list_lock(l);
    *version = ptrarray_version(&l->array);
    *capacity = ptrarray_locked(&l->array)->capacity;
    ptrarray *moment = ptrarray_moment(l->state->heap, &l->array, refs_retain);
    list_unlock(l);
    if (moment == NULL)
        return PyErr_NoMemory();
    PyObject *items = list_from_moment(moment);
    /* Nobody else is to find it: what it holds in the end is what the list will hold. */
    if (items != NULL)
        PyObject_GC_UnTrack(items);
    return items;
}

/* list.sort(items, *args, **kwargs): false with its exception. */
static bool
sort_items(PyObject *items, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    PyObject *sort = PyObject_GetAttrString(items, "sort");
    PyObject *none = sort == NULL ? NULL : PyObject_Vectorcall(sort, args, (size_t)n, kwnames);
    Py_XDECREF(sort);
    Py_XDECREF(none);
    return none != NULL;
}

/* Publishes the items, which are those of the list when it had this version. */
static int
publish_sorted(list_object *l, PyObject *items, uint64_t version, size_t capacity)
{
    Py_ssize_t n = PyList_GET_SIZE(items);
    ptrarray *fresh = ptrarray_new(l->state->heap, capacity);
    if (fresh == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        ptrarray_put(fresh, (size_t)i, refs_borrowed_word(PyList_GET_ITEM(items, i)));
    ptrarray_filled(fresh, (size_t)n);
    list_writing w;
    ptrarray *a = list_write_begin(&w, l);
    bool same = false, done = false;
    if (a != NULL) {
        same = ptrarray_version(&l->array) == version;
#ifdef QC_BREAK_LIST_SORT_BLIND
        same = true;
#endif
        done = same && (a == &ptrarray_none || list_write_may_take(&w));
        if (done)
            list_write_array(&w, fresh, WORDS_MOVED);
        list_write_end(&w);
        if (!same)
            PyErr_SetString(PyExc_ValueError, "list modified during sort");
        else if (!done)
            PyErr_NoMemory();
    }
    if (!done)
        ptrarray_free(fresh);
    return done ? 0 : -1;
}

const char list_sort_doc[] =
    "sort($self, /, *, key=None, reverse=False)\n--\n\n"
    "Sort the list in ascending order and return None; stable, as list.sort().\n\n"
    "Works on a copy of one moment, without a lock, and appears at once: readers see the\n"
    "list as it was, or sorted. If anything has changed the list meanwhile (a thread, the\n"
    "key function, __lt__) it raises ValueError and leaves the list as the others made it.\n"
    "If a comparison raises, the list is unchanged.";

PyObject *
list_sort(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    list_object *l = list_of(self);
    uint64_t version;
    size_t capacity;
    PyObject *items = moment_to_sort(l, &version, &capacity);
    if (items == NULL)
        return NULL;
    bool done =
        sort_items(items, args, n, kwnames) && publish_sorted(l, items, version, capacity) == 0;
    Py_DECREF(items);
    if (!done)
        return NULL;
    Py_RETURN_NONE;
}

const char list_reverse_doc[] =
    "reverse($self, /)\n--\n\n"
    "Reverse the list.\n\n"
    "Atomic: takes the list's lock; readers see the list as it was, or reversed.";

PyObject *
list_reverse(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    list_object *l = list_of(self);
    list_writing w;
    ptrarray *a = list_write_begin(&w, l);
    if (a == NULL)
        return NULL;
    size_t size = ptrarray_size(a);
    bool done = size < 2;
    if (!done && list_write_in_place(&w)) {
        ptrarray_reverse(&l->array, qsbr_self);
        done = true;
    }
    else if (!done && list_write_may_take(&w)) {
        ptrarray *fresh = ptrarray_picked(l->state->heap, a, size - 1, -1, size);
        done = fresh != NULL;
        if (done)
            list_write_array(&w, fresh, WORDS_MOVED);
    }
    list_write_end(&w);
    if (!done)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}
