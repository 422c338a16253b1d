/* ConcurrentList: what shifts elements.
 *
 * Readers see such a change at once (A3): a list that several threads have gets a new
 * array, one that only this thread has is changed in place (list_splice).  What was
 * taken out is dropped after unlocking (K8).
 *
 * Indices are looked at twice, as list does: __index__ and iterators run before the
 * lock is taken, and what they come to is fitted to the size that the list has then. */
#include "py/py_list_write.h"
#include "py/py_methods.h"

#include "py/py_numbers.h"

/* ---- one change, in the cheapest way that readers see at once ---- */

bool
list_splice(list_writing *w, ptrarray *a, size_t at, size_t out, const qc_word *in, size_t n)
{
    list_object *l = w->list;
    size_t size = ptrarray_size(a), left = size - out;
    bool fits = n <= a->capacity - left && !ptrarray_is_too_large(a, left + n);
    bool cut = at == left && n == 0; /* off the end */
    if (out == 0 && n == 0)
        return true;
    if (!fits) {
        ptrarray *fresh = ptrarray_spliced(l->state->heap, a, at, out, in, n);
        if (fresh != NULL)
            list_write_array(w, fresh, WORDS_MOVED);
        /* Without memory for a smaller array, the one that is there will do. */
        if (fresh != NULL || !cut)
            return fresh != NULL;
    }
    if (cut) {
        ptrarray_set_size(a, at);
    }
    else if (at == size) {
        ptrarray_append_some(a, in, n);
    }
    else if (list_write_in_place(w)) {
        ptrarray_splice(&l->array, qsbr_self, at, out, in, n);
    }
    else {
        ptrarray *fresh = ptrarray_spliced(l->state->heap, a, at, out, in, n);
        if (fresh == NULL)
            return false;
        list_write_array(w, fresh, WORDS_MOVED);
    }
    return true;
}

/* What is taken out of an array that the caller has locked, before the change.  False: no
 * memory. */
static bool
take(list_writing *w, ptrarray *a, size_t start, ptrdiff_t step, size_t count)
{
    size_t i = 0;
    while (i < count && !refs_word_is_object(ptrarray_word(a, start + i * (size_t)step)))
        i++;
    if (i == count)
        return true; /* numbers: nobody's references */
    if (count == 1)
        w->word = ptrarray_word(a, start);
    else
        w->words = ptrarray_picked(w->list->state->heap, a, start, step, count);
    return count == 1 || w->words != NULL;
}

/* The change did not come to be: the words stay where they are. */
static bool
not_taken(list_writing *w)
{
    w->word = WORD_EMPTY;
    if (w->words != NULL)
        ptrarray_free(w->words);
    w->words = NULL;
    return false;
}

/* list_splice, with what is taken out. */
static bool
splice(list_writing *w, ptrarray *a, size_t at, size_t out, const qc_word *in, size_t n)
{
    if (!list_write_may_take(w) || !take(w, a, at, 1, out))
        return false;
    return list_splice(w, a, at, out, in, n) || not_taken(w);
}

bool
list_cut_one(list_writing *w, ptrarray *a, size_t at)
{
    return splice(w, a, at, 1, NULL, 0);
}

/* ---- one element ---- */

/* As operator.index(), OverflowError where it is no size.  False with an exception. */
static bool
size_argument(PyObject *op, Py_ssize_t *index)
{
    PyObject *number = PyNumber_Index(op);
    if (number == NULL)
        return false;
    *index = PyLong_AsSsize_t(number);
    Py_DECREF(number);
    return *index != -1 || !PyErr_Occurred();
}

const char list_insert_doc[] =
    "insert($self, index, value, /)\n--\n\n"
    "Insert value before index.\n\n"
    "Atomic: takes the list's lock; readers see the list with it or without.";

PyObject *
list_insert(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    list_object *l = list_of(self);
    Py_ssize_t index;
    list_writing w;
    if (!methods_count_args("insert", n, 2, 2) || !size_argument(args[0], &index) ||
        !state_may_store(l->state, args[1]))
        return NULL;
    ptrarray *a = list_write_begin(&w, l);
    if (a == NULL)
        return NULL;
    qc_word word = refs_new_word(args[1]);
    size_t at = list_clamped(index, ptrarray_size(a));
    bool done = list_write_may_take(&w) && list_splice(&w, a, at, 0, &word, 1);
    if (!done)
        w.word = word;
    list_write_end(&w);
    if (!done)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

/* The word at `index` as it was at some moment, without a reference: to look at its bits
 * only.  `rec` is from list_begin. */
static qc_word
peek(list_object *l, qsbr_record *rec, Py_ssize_t index)
{
    qc_word word = WORD_EMPTY;
    ptrarray_result result;
    qsbr_enter(rec);
    if (index >= 0)
        result = ptrarray_get(&l->array, rec, (size_t)index, &word);
    else
        result = ptrarray_get_from_end(&l->array, rec, (size_t)0 - (size_t)index, &word);
    qsbr_exit(rec);
    return result == PTRARRAY_HIT ? word : WORD_EMPTY;
}

typedef enum { POP_DONE, POP_OUT, POP_EMPTY, POP_NO_MEMORY, POP_OTHER } pop_result;

/* Takes out the element at `index` with a reference for the caller: *word.  A number is
 * taken only if it is one of the `n` that are `ready`, which the caller has objects for. */
static pop_result
pop_word(list_object *l, Py_ssize_t index, const qc_word *ready, unsigned n, qc_word *word)
{
    list_writing w;
    ptrarray *a = list_write_begin(&w, l);
    if (a == NULL)
        return POP_NO_MEMORY; /* the exception is set */
    size_t size = ptrarray_size(a), i = (size_t)index + (index < 0 ? size : 0);
    pop_result result = size == 0 ? POP_EMPTY : i >= size ? POP_OUT : POP_DONE;
    if (result == POP_DONE) {
        *word = ptrarray_word(a, i);
        bool object = refs_word_is_object(*word);
        unsigned k = 0;
        while (!object && k < n && ready[k] != *word)
            k++;
        /* Off the end of an array that stays nothing is left behind that would wait. */
        bool takes = i != size - 1 || ptrarray_is_too_large(a, i);
        if (!object && k == n)
            result = POP_OTHER;
        else if ((takes && !list_write_may_take(&w)) || !list_splice(&w, a, i, 1, NULL, 0))
            result = POP_NO_MEMORY;
        /* The list's reference is the caller's (K8). */
    }
    list_write_end(&w);
    return result;
}

/* The exception for it. */
static PyObject *
pop_failed(pop_result result)
{
    if (result != POP_NO_MEMORY)
        PyErr_SetString(PyExc_IndexError,
                        result == POP_EMPTY ? "pop from empty list" : "pop index out of range");
    else if (!PyErr_Occurred())
        PyErr_NoMemory();
    return NULL;
}

/* Where others pop as well, objects are made for the next numbers that may be there. */
#define POP_AHEAD 8

static QC_NOINLINE PyObject *
pop_beside_others(list_object *l, qsbr_record *rec, Py_ssize_t index)
{
    PyObject *objects[POP_AHEAD] = {NULL}, *popped = NULL;
    qc_word ready[POP_AHEAD], word = WORD_EMPTY;
    pop_result result;
    do {
        unsigned n = 0;
        for (Py_ssize_t at = index; n < POP_AHEAD; n++, at += index < 0 ? -1 : 1) {
            ready[n] = peek(l, rec, at);
            if (refs_word_is_object(ready[n]))
                continue; /* or nothing is there */
            objects[n] = numbers_object(l->state, ready[n]);
            if (objects[n] == NULL)
                break;
        }
        result = n == POP_AHEAD ? pop_word(l, index, ready, n, &word) : POP_NO_MEMORY;
        for (unsigned i = 0; i < n; i++) {
            if (result == POP_DONE && popped == NULL && ready[i] == word)
                popped = Py_XNewRef(objects[i]);
            Py_CLEAR(objects[i]); /* an exact number: runs no Python code */
        }
    } while (result == POP_OTHER);
    if (result != POP_DONE)
        return pop_failed(result);
    return popped != NULL ? popped : (PyObject *)word_to_pointer(word);
}

QC_WORDS_ONLY PyObject *
list_pop_any(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    list_object *l = list_of(self);
    Py_ssize_t index = -1;
    if (!methods_count_args("pop", n, 0, 1) || (n > 0 && !size_argument(args[0], &index)))
        return NULL;
    qsbr_record *rec = list_begin(l);
    if (rec == NULL)
        return NULL;
    /* What can fail comes before the change (T2), so a number's object does. */
    PyObject *object = NULL;
    qc_word ready = QC_NUMBERS_BY_VALUE ? peek(l, rec, index) : WORD_EMPTY, word = WORD_EMPTY;
    bool number = ready != WORD_EMPTY && !refs_word_is_object(ready);
    if (number && (object = numbers_object(l->state, ready)) == NULL)
        return NULL;
    pop_result result = pop_word(l, index, &ready, number, &word);
    if (result == POP_DONE && number && word == ready)
        return object;
    Py_XDECREF(object);
    if (result == POP_DONE)
        return (PyObject *)word_to_pointer(word);
    return result == POP_OTHER ? pop_beside_others(l, rec, index) : pop_failed(result);
}

int
list_delete(list_object *l, Py_ssize_t index)
{
    list_writing w;
    ptrarray *a = list_write_begin(&w, l);
    if (a == NULL)
        return -1;
    size_t size = ptrarray_size(a), i = (size_t)index + (index < 0 ? size : 0);
    bool inside = i < size, done = inside && list_cut_one(&w, a, i);
    list_write_end(&w);
    if (!inside)
        PyErr_SetString(PyExc_IndexError, "list assignment index out of range");
    else if (!done)
        PyErr_NoMemory();
    return done ? 0 : -1;
}

/* ---- slices ---- */

/* Publishes `fresh`, if there is one; else what was to be taken out stays. */
static bool
replaced(list_writing *w, ptrarray *fresh)
{
    if (fresh == NULL)
        return not_taken(w);
    list_write_array(w, fresh, WORDS_MOVED);
    return true;
}

/* del l[start::step], `count` elements, that are not one beside the other. */
static bool
delete_extended(list_writing *w, ptrarray *a, size_t start, size_t step, size_t count)
{
    if (!list_write_may_take(w) || !take(w, a, start, (ptrdiff_t)step, count))
        return false;
    if (list_write_in_place(w) && !ptrarray_is_too_large(a, ptrarray_size(a) - count)) {
        ptrarray_cut(&w->list->array, qsbr_self, start, step, count);
    }
    else {
        ptrarray *fresh = ptrarray_without(w->list->state->heap, a, start, step, count);
        return replaced(w, fresh);
    }
    return true;
}

/* l[start::step] = in, of the same length; or the same number of elements in a row. */
static bool
assign_extended(list_writing *w, ptrarray *a, size_t start, ptrdiff_t step, ptrarray *in)
{
    size_t count = ptrarray_size(in);
    if (!list_write_may_take(w) || !take(w, a, start, step, count))
        return false;
    if (count == 1) {
        ptrarray_set(&w->list->array, start, ptrarray_word(in, 0));
    }
    else if (list_write_in_place(w)) {
        ptrarray_replace(&w->list->array, qsbr_self, start, step, in);
    }
    else {
        ptrarray *fresh = ptrarray_with(w->list->state->heap, a, start, step, in);
        return replaced(w, fresh);
    }
    return true;
}

/* What list says on this interpreter where no iterable is assigned. */
static const char *
not_an_iterable(Py_ssize_t step)
{
    const bool one_message = (PY_VERSION_HEX >= 0x030D0000);
    return !one_message && step == 1 ? "can only assign an iterable"
                                     : "must assign iterable to extended slice";
}

typedef enum { SLICE_DONE, SLICE_NO_MEMORY, SLICE_OTHER_SIZE } slice_result;

static slice_result
change_slice(list_writing *w, ptrarray *a, Py_ssize_t start, Py_ssize_t step, size_t count,
             ptrarray *in)
{
    size_t n = in == NULL ? 0 : ptrarray_size(in);
    if (in != NULL && step != 1 && n != count)
        return SLICE_OTHER_SIZE;
    if (count == 0 && n == 0)
        return SLICE_DONE;
    bool done;
    if (in == NULL && step < 0) {
        start += (Py_ssize_t)(count - 1) * step;
        step = -step;
    }
    if (in != NULL && n == count)
        done = assign_extended(w, a, (size_t)start, step, in);
    else if (step == 1)
        done = splice(w, a, (size_t)start, count, in == NULL ? NULL : ptrarray_words(in), n);
    else
        done = delete_extended(w, a, (size_t)start, (size_t)step, count);
    return done ? SLICE_DONE : SLICE_NO_MEMORY;
}

int
list_assign_slice(list_object *l, PyObject *slice, PyObject *value)
{
    Py_ssize_t start, stop, step, count = 0;
    if (PySlice_Unpack(slice, &start, &stop, &step) < 0)
        return -1;
    ptrarray *in = value == NULL ? NULL : list_words_from(l, value, not_an_iterable(step));
    if (value != NULL && in == NULL)
        return -1;
    list_writing w;
    ptrarray *a = list_write_begin(&w, l);
    slice_result result = SLICE_DONE;
    if (a != NULL) {
        count = PySlice_AdjustIndices((Py_ssize_t)ptrarray_size(a), &start, &stop, step);
        result = change_slice(&w, a, start, step, (size_t)count, in);
        list_write_end(&w);
    }
    if (a != NULL && result == SLICE_DONE) {
        if (in != NULL)
            ptrarray_free(in);
        return 0;
    }
    if (result == SLICE_NO_MEMORY)
        PyErr_NoMemory();
    else if (result == SLICE_OTHER_SIZE)
        PyErr_Format(PyExc_ValueError,
                     "attempt to assign sequence of size %zd to extended slice of size %zd",
                     (Py_ssize_t)ptrarray_size(in), count);
    if (in != NULL)
        ptrarray_drop(in, 0, refs_release);
    return -1;
}

/* ---- all elements ---- */

PyObject *
list_imul(PyObject *self, Py_ssize_t times)
{
    list_object *l = list_of(self);
    list_writing w;
    if (times <= 0)
        return list_replace(l, &ptrarray_none) < 0 ? NULL : Py_NewRef(self);
    ptrarray *a = list_write_begin(&w, l);
    if (a == NULL)
        return NULL;
    size_t size = ptrarray_size(a);
    bool done = size == 0 || times == 1;
    if (!done && list_write_may_take(&w)) {
        ptrarray *fresh = ptrarray_repeated(l->state->heap, a, (size_t)times);
        if (fresh != NULL) {
            ptrarray_retain(fresh, size, refs_retain);
            list_write_array(&w, fresh, WORDS_MOVED);
            done = true;
        }
    }
    list_write_end(&w);
    return done ? Py_NewRef(self) : PyErr_NoMemory();
}
