/* ConcurrentList: the operations that list does not have.
 *
 * Those on one element have the shape that ConcurrentDict's have: look the word up,
 * decide with no lock held and in no section (an __eq__, a callback), then install the
 * result under the lock, only if the word at the index is still the very one that was
 * seen, else begin anew (A4).  A word that is an object is held by a reference from the
 * look to the end, so that its address cannot have become another object's meanwhile
 * (ABA); a number by value is its own identity.
 *
 * An index is one of the moment at which the operation takes effect, so it is looked up
 * again under the lock: l[-1] is the last element then, whatever came or went since the
 * look, and what has moved to the index in between counts as a change like any other. */
#include "py/py_list_write.h"
#include "py/py_methods.h"
#include "py/py_numbers.h"

/* ---- the shape ---- */

typedef struct {
    list_object *l;
    Py_ssize_t index;
    qc_word word; /* what is there, held */
} seen;

/* The arguments, the first of which is the index.  False with an exception. */
static bool
begin(seen *s, PyObject *self, const char *function, const char *const *names, Py_ssize_t min,
      Py_ssize_t max, PyObject *const *args, Py_ssize_t n, PyObject *kwnames, PyObject **a)
{
    s->l = list_of(self);
    if (!methods_parse_args(function, names, min, max, args, n, kwnames, a))
        return false;
    s->index = PyNumber_AsSsize_t(a[0], PyExc_IndexError);
    return s->index != -1 || !PyErr_Occurred();
}

/* False with an exception: IndexError if nothing is there. */
static bool
look(seen *s)
{
    qsbr_record *rec = list_begin(s->l);
    if (rec != NULL && list_look(s->l, rec, s->index, &s->word))
        return true;
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_IndexError, "list index out of range");
    return false;
}

/* What was seen as an object, a new reference; NULL with MemoryError: it is a number then,
 * of which nothing is held. */
static PyObject *
seen_object(seen *s)
{
    refs_retain(s->word);
    return refs_object(s->word);
}

/* Installs `word`, whose reference it takes over, if what was seen is still so: 1, or 0
 * and one has to look again, or -1 with an exception.  Ends with what was seen. */
static int
install(seen *s, qc_word word)
{
    int done = -1;
    list_writing w;
    ptrarray *a = list_write_begin(&w, s->l);
    if (a != NULL) {
        size_t size = ptrarray_size(a);
        size_t i = (size_t)s->index + (s->index < 0 ? size : 0);
        done = i < size && ptrarray_word(a, i) == s->word;
#ifdef QC_BREAK_LIST_INSTALL_BLIND
        done = i < size;
#endif
        if (done)
            w.word = ptrarray_set(&s->l->array, i, word);
        list_write_end(&w);
    }
    refs_release(s->word);
    if (done <= 0)
        refs_release(word);
    return done;
}

/* ---- one element ---- */

PyDoc_STRVAR(swap_doc,
             "swap($self, index, new)\n--\n\n"
             "Assign new to the element at index and return what was there. Atomic: each element\n"
             "is returned once. Takes the list's lock for a moment. IndexError if there is no\n"
             "such element; a negative index counts from the end as it is when the elements are\n"
             "exchanged. (Java's AtomicReferenceArray.getAndSet.)");

static PyObject *
swap(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    static const char *const names[] = {"index", "new"};
    PyObject *a[2] = {NULL};
    seen s;
    if (!begin(&s, self, "swap", names, 2, 2, args, n, kwnames, a) ||
        !state_may_store(s.l->state, a[1]))
        return NULL;
    for (;;) {
        PyObject *old = look(&s) ? seen_object(&s) : NULL;
        if (old == NULL)
            return NULL;
        int done = install(&s, refs_new_word(a[1]));
        if (done > 0)
            return old;
        Py_DECREF(old);
        if (done < 0)
            return NULL;
    }
}

PyDoc_STRVAR(
    compare_and_set_doc,
    "compare_and_set($self, index, expected, new)\n--\n\n"
    "Assign new if the element at index is expected, by identity or ==: True if it was.\n"
    "Atomic: the two are compared with no lock held, then new goes in place of the very\n"
    "element compared, under the list's lock; if another one is at index by then, that is\n"
    "compared. IndexError if there is none, also by then; a negative index counts from the\n"
    "end as it is when new is assigned. (Java's AtomicReferenceArray.compareAndSet.)");

static PyObject *
compare_and_set(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    static const char *const names[] = {"index", "expected", "new"};
    PyObject *a[3] = {NULL};
    seen s;
    if (!begin(&s, self, "compare_and_set", names, 3, 3, args, n, kwnames, a) ||
        !state_may_store(s.l->state, a[2]))
        return NULL;
    for (;;) {
        if (!look(&s))
            return NULL;
        int done = 1;
        if (s.word != refs_borrowed_word(a[1])) {
            PyObject *old = seen_object(&s);
            if (old == NULL)
                return NULL;
            done = PyObject_RichCompareBool(old, a[1], Py_EQ);
            Py_DECREF(old);
            if (done <= 0) {
                refs_release(s.word);
                return done < 0 ? NULL : Py_NewRef(Py_False);
            }
        }
        done = install(&s, refs_new_word(a[2]));
        if (done != 0)
            return done < 0 ? NULL : Py_NewRef(Py_True);
    }
}

PyDoc_STRVAR(compute_doc,
             "compute($self, index, func)\n--\n\n"
             "Assign func(old), where old is the element at index, and return it. func is called\n"
             "with no lock held, and again for each time that another element was at index when\n"
             "it came back: its last result alone goes in, atomically, in place of the very\n"
             "element it was given. If it raises nothing is changed. IndexError if there is no\n"
             "such element, also by then; a negative index counts from the end as it is when\n"
             "the result is assigned. No element is removed: ValueError for DELETE, as for\n"
             "MISSING. (Java's AtomicReferenceArray.updateAndGet.)");

static PyObject *
compute(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    static const char *const names[] = {"index", "func"};
    PyObject *a[2] = {NULL};
    seen s;
    if (!begin(&s, self, "compute", names, 2, 2, args, n, kwnames, a))
        return NULL;
    for (;;) {
        PyObject *old = look(&s) ? seen_object(&s) : NULL;
        if (old == NULL)
            return NULL;
        PyObject *new = PyObject_CallOneArg(a[1], old);
        Py_DECREF(old);
        if (new == NULL || !state_may_store(s.l->state, new)) {
            Py_XDECREF(new);
            refs_release(s.word);
            return NULL;
        }
        int done = install(&s, refs_new_word(new));
        if (done > 0)
            return new;
        Py_DECREF(new);
        if (done < 0)
            return NULL;
    }
}

PyDoc_STRVAR(incr_doc,
             "incr($self, index, delta=1)\n--\n\n"
             "Add delta to the number at index; returns the new value. Applied exactly once,\n"
             "whatever other threads do. Takes the list's lock for a moment. An int that outgrows\n"
             "51 bits goes on as an int object. TypeError if the element or delta is no int or\n"
             "float, IndexError if there is no such element; a negative index counts from the end\n"
             "as it is when the sum is assigned. (Java's AtomicLongArray.addAndGet.)");

/* The sum of what was seen and `delta`, which *by is if `small`.  NULL with an exception. */
static PyObject *
sum_of(seen *s, PyObject *delta, bool small, int64_t by)
{
    qc_word sum;
    if (small && numbers_add_int(s->word, by, &sum))
        return numbers_object(s->l->state, sum);
    PyObject *old = seen_object(s);
    if (old == NULL)
        return NULL;
    PyObject *result = NULL;
    delta = delta == NULL ? PyLong_FromLong(1) : Py_NewRef(delta);
    if (delta != NULL)
        result = numbers_add(old, delta);
    Py_DECREF(old);
    Py_XDECREF(delta);
    if (result == NULL)
        refs_release(s->word);
    return result;
}

static PyObject *
incr(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    static const char *const names[] = {"index", "delta"};
    PyObject *a[2] = {NULL};
    seen s;
    if (!begin(&s, self, "incr", names, 1, 2, args, n, kwnames, a))
        return NULL;
    int64_t by;
    bool small = numbers_delta_fits(a[1], &by);
    for (;;) {
        PyObject *sum = look(&s) ? sum_of(&s, a[1], small, by) : NULL;
        if (sum == NULL)
            return NULL;
        int done = install(&s, refs_new_word(sum));
        if (done > 0)
            return sum;
        Py_DECREF(sum);
        if (done < 0)
            return NULL;
    }
}

/* ---- the end of the list ---- */

PyDoc_STRVAR(append_index_doc,
             "append_index($self, value, /)\n--\n\n"
             "Append value and return the index that it got. Atomic: takes the list's lock, and\n"
             "no two threads get the same index while nobody removes elements. (Rust's\n"
             "boxcar::Vec.push.)");

/* Indices that a value may get, with an object for each: what can fail comes before the
 * change (T2). */
#define INDICES_AHEAD 8

typedef struct {
    size_t first;
    PyObject *objects[INDICES_AHEAD];
    unsigned n;
} indices;

/* `n` from the list's length on.  False with an exception. */
static bool
indices_make(indices *i, list_object *l, unsigned n)
{
    Py_ssize_t first = list_length((PyObject *)l);
    i->first = (size_t)first;
    for (i->n = 0; first >= 0 && i->n < n; i->n++)
        if ((i->objects[i->n] = PyLong_FromSsize_t(first + (Py_ssize_t)i->n)) == NULL)
            break;
    return first >= 0 && i->n == n;
}

/* All but the one at `kept`, if there is one. */
static void
indices_drop(indices *i, size_t kept)
{
    while (i->n > 0)
        if (--i->n != kept)
            Py_DECREF(i->objects[i->n]);
}

/* Appends if the index is one of those: 1, or 0 and one has to look again, or -1 with an
 * exception. */
static int
append_at(list_object *l, qc_word word, const indices *indices, size_t *at)
{
    list_writing w;
    ptrarray *none = NULL, *a = list_write_begin(&w, l);
    if (a == NULL)
        return -1;
    *at = ptrarray_size(a) - indices->first;
#ifdef QC_BREAK_LIST_INDEX_EARLY
    *at = 0;
#endif
    bool known = *at < indices->n, done = known && list_add_locked(&w, a, &none, word);
    list_write_end(&w);
    if (known && !done)
        PyErr_NoMemory();
    return done ? 1 : known ? -1 : 0;
}

static PyObject *
append_index(PyObject *self, PyObject *value)
{
    list_object *l = list_of(self);
    if (!state_may_store(l->state, value))
        return NULL;
    indices may_be;
    PyObject *index = NULL;
    int done = 0;
    /* Where others append as well, it is one of the next. */
    qc_word word = refs_new_word(value);
    for (unsigned n = 1; done == 0; n = INDICES_AHEAD) {
        size_t at = INDICES_AHEAD;
        done = indices_make(&may_be, l, n) ? append_at(l, word, &may_be, &at) : -1;
        if (done > 0)
            index = may_be.objects[at];
        indices_drop(&may_be, done > 0 ? at : INDICES_AHEAD);
    }
    if (done < 0)
        refs_release(word);
    return index;
}

/* ---- all elements ---- */

PyDoc_STRVAR(drain_doc,
             "drain($self, /)\n--\n\n"
             "Remove all elements and return them as a list. Atomic: readers see all of them or\n"
             "none, and of what others append each element is in one thread's result or still\n"
             "in the list. Takes the list's lock for a moment, however long the list is. (Java's\n"
             "BlockingQueue.drainTo; Rust's Vec.drain.)");

/* What fill has put into `result` is the array's still. */
static void
unfill(PyObject *result, ptrarray *a)
{
    for (Py_ssize_t i = 0, n = PyList_GET_SIZE(result); i < n; i++)
        if (refs_word_is_object(ptrarray_word(a, (size_t)i)))
            PyList_SET_ITEM(result, i, NULL);
}

/* Fills `result`, which has the room, with the array's references.  False with MemoryError,
 * and nothing has been taken. */
static bool
fill(PyObject *result, ptrarray *a)
{
    for (size_t i = 0, n = ptrarray_size(a); i < n; i++) {
        PyObject *item = refs_object(ptrarray_word(a, i));
        if (item == NULL) {
            unfill(result, a);
            return false;
        }
        PyList_SET_ITEM(result, (Py_ssize_t)i, item);
        Py_SET_SIZE(result, (Py_ssize_t)i + 1);
    }
    return true;
}

/* What was taken out comes back, in front of what was appended since; the list is
 * unlocked.  False: there is no memory for both. */
static bool
put_back(list_writing *w, ptrarray *taken)
{
    list_object *l = w->list;
    list_lock(l);
    w->shared = sharing_is_shared(&l->sharing);
    ptrarray *now = ptrarray_locked(&l->array), *both = taken;
    if (ptrarray_size(now) != 0)
        both = ptrarray_new(l->state->heap, ptrarray_size(taken) + ptrarray_size(now));
    if (both != NULL && both != taken) {
        ptrarray_append_all(both, taken);
        ptrarray_append_all(both, now);
        /* Somebody has appended: it is shared by now. */
        list_write_free(w, taken);
    }
    /* Without memory: where there is room, though a reader that still has this array may
     * count them before the others do. */
    if (both == NULL && ptrarray_append_all(taken, now))
        both = taken;
    if (both != NULL)
        list_write_array(w, both, WORDS_MOVED);
    list_unlock(l);
    return both != NULL;
}

/* Takes the list's array out: `taken`, the caller's now, and ptrarray_none if it was empty;
 * NULL if `room` is too small for it or, with an exception, nothing could be done.  The list
 * is unlocked again; list_write_finish is still to come, unless NULL. */
static ptrarray *
take_out(list_writing *w, list_object *l, size_t room)
{
    ptrarray *taken = list_write_begin(w, l);
    if (taken == NULL)
        return NULL;
    bool fits = ptrarray_size(taken) <= room;
    if (fits && ptrarray_size(taken) != 0) {
        w->reserved = retire_reserve(w->local, 2); /* this one, and in put_back another */
        if (w->reserved) {
            ptrarray_publish(&l->array, &ptrarray_none);
            sharing_resized(l->state, &l->sharing, ptrarray_bytes(&ptrarray_none));
        }
    }
    else if (fits) {
        taken = &ptrarray_none;
    }
    list_unlock(l);
    if (fits && (w->reserved || taken == &ptrarray_none))
        return taken;
    if (fits)
        PyErr_NoMemory();
    list_write_finish(w);
    return NULL;
}

/* The array is neither copied nor counted under the lock: from the moment it is no longer
 * the list's it is this thread's, and its references are the result's (K8).  Until it is
 * retired no Python code may run: numbers are made, no more. */
static PyObject *
drain(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    list_writing w;
    ptrarray *taken;
    PyObject *result;
#ifdef QC_BREAK_LIST_DRAIN_IN_TWO
    result = list_snapshot(list_of(self));
    Py_XDECREF(list_clear(self, NULL));
    return result;
#endif
    for (Py_ssize_t n, slack = 0;; slack = n / 8 + 64) {
        n = list_length(self);
        result = n < 0 ? NULL : PyList_New(n + slack);
        if (result == NULL)
            return NULL;
        Py_SET_SIZE(result, 0); /* nobody sees the places that are empty */
        taken = take_out(&w, list_of(self), (size_t)(n + slack));
        if (taken != NULL)
            break;
        Py_DECREF(result);
        if (PyErr_Occurred())
            return NULL;
    }
    bool filled = fill(result, taken);
    if (!filled)
        Py_CLEAR(result); /* drops numbers alone, the rest is in `taken`: memory for put_back */
    if (filled && taken != &ptrarray_none)
        list_write_free(&w, taken);
    else if (!filled && !put_back(&w, taken))
        w.whole = taken;
    list_write_finish(&w);
    return result;
}

/* ---- the methods ---- */

static PyMethodDef atomic_methods[] = {
    METHODS_ENTRY(swap),
    METHODS_ENTRY(compare_and_set),
    METHODS_ENTRY(compute),
    METHODS_ENTRY(incr),
    {"append_index", append_index, METH_O, append_index_doc},
    {"drain", drain, METH_NOARGS, drain_doc},
    {NULL, NULL, 0, NULL},
};

int
list_atomic_register(PyTypeObject *type)
{
    return methods_add(type, atomic_methods);
}
