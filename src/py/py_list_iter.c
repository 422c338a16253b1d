/* The iterators of ConcurrentList: a list and an index, that goes up, or down.
 *
 * The index moves after the element was read, by a store while only one thread
 * steps, by a CAS afterwards (py_turns.h): so threads that share an iterator
 * get each index once, and none that is past the end is used up.  An
 * iterator that has seen the end stays there (DONE; one below 0, as it happens).  It
 * keeps its reference to the list all the same: other threads may be in the middle of
 * a step.  All accesses of the index are relaxed: it is a number, nothing hangs on it.
 */
#include "py/py_list.h"

#include "py/py_numbers.h"
#include "py/py_turns.h"

#include <stddef.h>

#define DONE SIZE_MAX

typedef struct {
    PyObject_HEAD
    list_object *list; /* NULL after tp_clear */
    _Atomic size_t index;
    turns turns;
} list_iter_object;

#define iter_of(op) ((list_iter_object *)(op))

static PyObject *
iter_new(PyTypeObject *type, PyObject *list, size_t index)
{
    list_iter_object *it = PyObject_GC_New(list_iter_object, type);
    if (it == NULL)
        return NULL;
    it->list = (list_object *)Py_NewRef(list);
    qc_store_relaxed(&it->index, index);
    turns_init(&it->turns);
    PyObject_GC_Track(it);
    return (PyObject *)it;
}

PyObject *
list_iter(PyObject *self)
{
    return iter_new(list_of(self)->state->list_iter_type, self, 0);
}

const char list_reversed_doc[] =
    "__reversed__($self, /)\n--\n\n"
    "Return a reverse iterator over the list.\n\n"
    "It is live: it begins at what is the last index now, and sees what others write\n"
    "below. Where the list has become shorter than its index it ends for good.";

PyObject *
list_reversed(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_ssize_t n = list_length(self);
    return n < 0 ? NULL : iter_new(list_of(self)->state->list_reversed_type, self, (size_t)n - 1);
}

/* In a section: moves the index from `i` to `to`, if it is still there. */
QC_INLINE bool
move(list_iter_object *it, turn turn, size_t i, size_t to)
{
    if (turn == TURN_ANYBODYS)
        return qc_cas_relaxed(&it->index, &i, to);
    qc_store_relaxed(&it->index, to);
    return true;
}

/* A step of the owner's where nothing is in the way, without a call (py_list_fast.c).
 * NONE: there is, or it is the end, and nothing has been done.  FOUND, as in
 * list_look_fast: step_object takes the step. */
QC_INLINE list_fast
step_fast(list_iter_object *it, size_t step, ptrarray_place *place, qc_word *word)
{
    list_object *l = it->list;
    qsbr_record *rec = qc_likely(l != NULL) ? threads_begin_fast(&l->sharing) : NULL;
    if (qc_unlikely(rec == NULL) || !threads_enter_leaf(rec))
        return LIST_NONE;
    bool hit = turns_is_mine(&it->turns, rec);
    if (qc_likely(hit)) {
        size_t i = qc_load_relaxed(&it->index); /* DONE is in no list */
        hit = list_find(l, rec, i, place, word) == PTRARRAY_HIT;
        if (REFS_LOOK_AGAIN && hit && refs_word_is_object(*word))
            return LIST_FOUND;
        if (qc_likely(hit)) {
            qc_store_relaxed(&it->index, i + step);
            if (!REFS_LOOK_AGAIN)
                refs_retain(*word);
        }
    }
    threads_exit_leaf(rec);
    return hit ? LIST_HIT : LIST_NONE;
}

static QC_NOINLINE PyObject *
step_any(list_iter_object *it, size_t step)
{
    list_object *l = it->list;
    if (l == NULL || qc_load_relaxed(&it->index) == DONE)
        return NULL;
    qsbr_record *rec = list_begin(l);
    if (rec == NULL)
        return NULL;
    qc_word word = WORD_EMPTY;
    ptrarray_result result = PTRARRAY_OUT;
    bool moved = false;
    do {
        ptrarray_place place;
        refs_got got = REFS_GONE;
        /* One try a section, so that it is a short one (Q2). */
        qsbr_enter(rec);
        turn turn = turns_whose(&it->turns, rec);
        if (turn != TURN_LATER) {
            size_t i = qc_load_relaxed(&it->index);
            result = i == DONE ? PTRARRAY_OUT : list_find(l, rec, i, &place, &word);
            /* First the reference: an index is not used up for what cannot be had. */
            if (result == PTRARRAY_HIT)
                got = list_hold_word(l, &place, word);
            if (result != PTRARRAY_HIT || got == REFS_HELD)
                moved = move(it, turn, i, result == PTRARRAY_HIT ? i + step : DONE);
        }
        qsbr_exit(rec);
        if (qc_unlikely(got == REFS_LATE || (got == REFS_HELD && !moved)))
            refs_release(word);
        if (turn == TURN_LATER && !turns_share(&it->turns))
            return NULL;
    } while (qc_unlikely(!moved));
    return result == PTRARRAY_HIT ? numbers_object(l->state, word) : NULL;
}

/* In the leaf in which the word of an object was found at the iterator's index, which only
 * this thread moves: list_hold, with as little as can be that is kept over the call. */
QC_INLINE PyObject *
step_object(list_iter_object *it, size_t step, ptrarray *array, qc_word word)
{
    bool tried = refs_try(word_to_pointer(word)), held = false;
    if (qc_likely(tried)) {
        const ptrarray_place place = {.array = array, .index = qc_load_relaxed(&it->index)};
        held = ptrarray_is_still(&it->list->array, &place, word);
        if (qc_likely(held))
            qc_store_relaxed(&it->index, place.index + step);
    }
    threads_exit_leaf(qsbr_self);
    if (qc_likely(held))
        return word_to_pointer(word);
    if (tried)
        refs_release(word);
    return step_any(it, step);
}

QC_WORDS_ONLY static QC_NOINLINE PyObject *
next_object(list_iter_object *it, ptrarray *array, qc_word word)
{
    return step_object(it, 1, array, word);
}

QC_WORDS_ONLY static QC_NOINLINE PyObject *
previous_object(list_iter_object *it, ptrarray *array, qc_word word)
{
    return step_object(it, (size_t)-1, array, word);
}

QC_INLINE PyObject *
iter_step(PyObject *self, size_t step)
{
    list_iter_object *it = iter_of(self);
    qc_word word;
    ptrarray_place place;
    list_fast r = step_fast(it, step, &place, &word);
    if (qc_likely(r == LIST_HIT))
        return numbers_object(it->list->state, word);
    if (qc_likely(r == LIST_FOUND))
        return step == 1 ? next_object(it, place.array, word)
                         : previous_object(it, place.array, word);
    return step_any(it, step);
}

QC_WORDS_ONLY static PyObject *
iter_next(PyObject *self)
{
    return iter_step(self, 1);
}

QC_WORDS_ONLY static PyObject *
reversed_next(PyObject *self)
{
    return iter_step(self, (size_t)-1);
}

static bool
is_reversed(list_iter_object *it)
{
    return Py_TYPE(it)->tp_iternext == reversed_next;
}

PyDoc_STRVAR(iter_length_hint_doc, "__length_hint__($self, /)\n--\n\n"
                                   "How many elements are left now; others may change that.");

static PyObject *
iter_length_hint(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    list_iter_object *it = iter_of(self);
    size_t i = qc_load_relaxed(&it->index);
    if (it->list == NULL || i == DONE)
        return PyLong_FromLong(0);
    Py_ssize_t size = list_length((PyObject *)it->list);
    if (size < 0)
        return NULL;
    size_t left = i < (size_t)size ? is_reversed(it) ? i + 1 : (size_t)size - i : 0;
    return PyLong_FromSize_t(left);
}

PyDoc_STRVAR(iter_reduce_doc, "Return state information for pickling.");

static PyObject *
iter_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    list_iter_object *it = iter_of(self);
    /* First: an import may run Python code, and that may move the iterator. */
    PyObject *builtins = PyImport_ImportModule("builtins");
    if (builtins == NULL)
        return NULL;
    PyObject *make = PyObject_GetAttrString(builtins, is_reversed(it) ? "reversed" : "iter");
    Py_DECREF(builtins);
    if (make == NULL)
        return NULL;
    size_t i = qc_load_relaxed(&it->index);
    if (it->list == NULL || i == DONE)
        return Py_BuildValue("N([])", make);
    return Py_BuildValue("N(O)n", make, (PyObject *)it->list, (Py_ssize_t)i);
}

PyDoc_STRVAR(iter_setstate_doc, "Set state information for unpickling.");

static PyObject *
iter_setstate(PyObject *self, PyObject *state)
{
    list_iter_object *it = iter_of(self);
    Py_ssize_t index = PyLong_AsSsize_t(state);
    if (index == -1 && PyErr_Occurred())
        return NULL;
    if (it->list == NULL)
        Py_RETURN_NONE;
    Py_ssize_t size = list_length((PyObject *)it->list);
    if (size < 0)
        return NULL;
    bool down = is_reversed(it);
    size_t new = index < 0 ? down ? DONE : 0 : index >= size ? (size_t)size - down : (size_t)index;
    qsbr_record *rec = qsbr_self; /* the length's */
    bool done = false;
    while (!done) {
        qsbr_enter(rec);
        turn turn = turns_whose(&it->turns, rec);
        size_t old = qc_load_relaxed(&it->index);
        done = turn != TURN_LATER && (old == DONE || move(it, turn, old, new));
        qsbr_exit(rec);
        if (turn == TURN_LATER && !turns_share(&it->turns))
            return NULL;
    }
    Py_RETURN_NONE;
}

static int
iter_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(iter_of(self)->list);
    return 0;
}

static int
iter_clear(PyObject *self)
{
    Py_CLEAR(iter_of(self)->list);
    return 0;
}

static void
iter_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(iter_of(self)->list);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef iter_methods[] = {
    {"__length_hint__", iter_length_hint, METH_NOARGS, iter_length_hint_doc},
    {"__reduce__", iter_reduce, METH_NOARGS, iter_reduce_doc},
    {"__setstate__", iter_setstate, METH_O, iter_setstate_doc},
    {NULL, NULL, 0, NULL},
};

#define ITER_FLAGS                                                                                 \
    (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |                 \
     Py_TPFLAGS_IMMUTABLETYPE)

static PyType_Slot iter_slots[] = {
    {Py_tp_iter, PyObject_SelfIter}, {Py_tp_iternext, iter_next},
    {Py_tp_methods, iter_methods},   {Py_tp_traverse, iter_traverse},
    {Py_tp_clear, iter_clear},       {Py_tp_dealloc, iter_dealloc},
    {Py_tp_free, PyObject_GC_Del},   {0, NULL},
};

PyType_Spec list_iter_spec = {
    .name = "qsbrcontainers.concurrentlist_iterator",
    .basicsize = sizeof(list_iter_object),
    .flags = ITER_FLAGS,
    .slots = iter_slots,
};

static PyType_Slot reversed_slots[] = {
    {Py_tp_iter, PyObject_SelfIter}, {Py_tp_iternext, reversed_next},
    {Py_tp_methods, iter_methods},   {Py_tp_traverse, iter_traverse},
    {Py_tp_clear, iter_clear},       {Py_tp_dealloc, iter_dealloc},
    {Py_tp_free, PyObject_GC_Del},   {0, NULL},
};

PyType_Spec list_reversed_spec = {
    .name = "qsbrcontainers.concurrentlist_reverseiterator",
    .basicsize = sizeof(list_iter_object),
    .flags = ITER_FLAGS,
    .slots = reversed_slots,
};
