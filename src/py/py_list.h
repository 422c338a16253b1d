/* ConcurrentList: what its files share.
 *
 *   py_list.c        the type, and what reads one element
 *   py_list_whole.c  what sees several elements: slices, copy, +, *, comparisons
 *   py_list_find.c   what compares elements with a value: in, index, count, remove
 *   py_list_write.c  what writes: the machinery, one element, the end, all elements
 *   py_list_fast.c   l[i], l[i] = x, append and pop(), where nothing is in the way
 *   py_list_shift.c  what shifts elements: insert, pop, del, slice assignment, *=
 *   py_list_sort.c   sort and reverse
 *   py_list_atomic.c what list does not have: swap, compare_and_set, incr, drain
 *   py_list_iter.c   the iterators
 *
 * Every function below begins with a safe point (list_begin) unless it says otherwise,
 * so no caller may hold a lock or be in a section.
 */
#ifndef PY_LIST_H
#define PY_LIST_H

#include "py/state.h"

#include "containers/ptrarray_read.h"
#include "py/py_lock.h"
#include "py/py_refs.h"
#include "py/py_threads.h"

typedef struct {
    PyObject_HEAD
    ptrarray_root array;
    qc_sharing sharing;
    qc_state *state; /* the type keeps the module, and with it this, alive */
    PyObject *weakrefs;
} list_object;

#define list_of(op) ((list_object *)(op))

/* The start of every operation of the list, its iterators' steps too. */
QC_INLINE qsbr_record *
list_begin(list_object *l)
{
    return threads_begin((PyObject *)l, l->state, &l->sharing, &l->array.lock);
}

/* The same for what writes (T7). */
QC_INLINE qsbr_record *
list_begin_write(list_object *l)
{
    return threads_begin_write((PyObject *)l, l->state, &l->sharing, &l->array.lock);
}

/* The word at `index`, in a section; with a GIL that is none, and nobody writes meanwhile.  An
 * object's is not looked at again before it is held. */
QC_INLINE ptrarray_result
list_find(list_object *l, qsbr_record *rec, size_t index, ptrarray_place *place, qc_word *word)
{
    if (QC_FREES_AT_ONCE)
        return ptrarray_get_alone(&l->array, index, word);
    ptrarray_result result = ptrarray_find(&l->array, rec, index, place, word);
    /* Of an object there is more to be looked at, once it is held. */
    if (qc_unlikely(result != PTRARRAY_HIT) || (REFS_LOOK_AGAIN && refs_word_is_object(*word)))
        return result;
    return ptrarray_is_covered(place);
}

/* K8, in the section in which `word` was found at `place`: a reference to its object. */
QC_INLINE refs_got
list_hold(list_object *l, const ptrarray_place *place, qc_word word)
{
    if (!refs_try(word_to_pointer(word)))
        return REFS_GONE;
    return !REFS_LOOK_AGAIN || qc_likely(ptrarray_is_still(&l->array, place, word)) ? REFS_HELD
                                                                                    : REFS_LATE;
}

/* The same of any word: a number is had as it is. */
QC_INLINE refs_got
list_hold_word(list_object *l, const ptrarray_place *place, qc_word word)
{
    return refs_word_is_object(word) ? list_hold(l, place, word) : REFS_HELD;
}

/* The element at `index`, where nothing is in the way: no call, and no store but the
 * section's two and the countdown to the next safe point (as in py_dict_read.c).  NONE:
 * something is, or it is out of range, and nothing has been done.  FOUND: an object, and
 * the thread is still in the leaf, to be ended after list_hold in a function of its own:
 * that takes a call, and who finds numbers has nothing to keep for one. */
typedef enum { LIST_NONE, LIST_HIT, LIST_FOUND } list_fast;

QC_INLINE list_fast
list_look_fast(list_object *l, Py_ssize_t index, ptrarray_place *place, qc_word *word)
{
    qsbr_record *rec = threads_begin_fast(&l->sharing);
    if (qc_unlikely(rec == NULL) || !threads_enter_leaf(rec))
        return LIST_NONE;
    /* A negative index is out of any range as a size. */
    bool hit = list_find(l, rec, (size_t)index, place, word) == PTRARRAY_HIT;
    if (REFS_LOOK_AGAIN && hit && refs_word_is_object(*word))
        return LIST_FOUND;
    if (!REFS_LOOK_AGAIN && qc_likely(hit))
        refs_retain(*word);
    threads_exit_leaf(rec);
    return hit ? LIST_HIT : LIST_NONE;
}

/* The word at `index`, retained; false if out of range.  No safe point: `rec` is from
 * list_begin. */
QC_INLINE bool
list_look(list_object *l, qsbr_record *rec, Py_ssize_t index, qc_word *word)
{
    for (;;) {
        ptrarray_result result;
        ptrarray_place place;
        refs_got got = REFS_HELD;
        qsbr_enter(rec);
        if (qc_likely(index >= 0))
            result = list_find(l, rec, (size_t)index, &place, word);
        else
            result =
                ptrarray_find_from_end(&l->array, rec, (size_t)0 - (size_t)index, &place, word);
        if (qc_likely(result == PTRARRAY_HIT))
            got = list_hold_word(l, &place, *word);
        qsbr_exit(rec);
        if (qc_unlikely(got == REFS_LATE))
            refs_release(*word);
        if (qc_likely(result != PTRARRAY_CHANGED && got == REFS_HELD))
            return result == PTRARRAY_HIT;
    }
}

/* An empty list of `type`, which is of this module or a subclass of it. */
PyObject *list_make(PyTypeObject *type, qc_state *state);

/* A ConcurrentList or of a subclass, whatever interpreter's.  No safe point. */
bool list_check(PyObject *op);

/* What the operators take: a list, or one of ours.  No safe point. */
static inline bool
list_is_list(list_object *l, PyObject *op)
{
    return PyList_Check(op) || PyObject_TypeCheck(op, l->state->list_type);
}

/* l[index], lock-free: a new reference; NULL without an exception if out of range. */
PyObject *list_get_or_null(list_object *l, Py_ssize_t index);

/* list(l) of one moment. */
PyObject *list_snapshot(list_object *l);

/* Q10: with a lock whose holder was left behind by a fork. */
QC_NOINLINE void list_mend(list_object *l);

QC_INLINE void
list_lock(list_object *l)
{
    if (qc_unlikely(lock_acquire(&l->array.lock) == QC_LOCK_ORPHANED))
        list_mend(l);
}

/* The same without a call: true if qc_lock_wake is to be called next. */
QC_INLINE bool
list_let_go(list_object *l)
{
    return lock_let_go(&l->array.lock);
}

/* The lock where nothing is in the way: no safe point is due, nobody has it.  False:
 * something is, and nothing is held. */
QC_INLINE bool
list_lock_fast(list_object *l)
{
    return threads_begin_fast(&l->sharing) != NULL && lock_try(&l->array.lock);
}

QC_INLINE void
list_unlock(list_object *l)
{
    lock_release(&l->array.lock);
}

/* len(l), lock-free; -1 with MemoryError. */
Py_ssize_t list_length(PyObject *self);

/* A5: the list's words, retained, the caller's own.  NULL with MemoryError. */
ptrarray *list_moment(list_object *l);

/* An index of a slice, or insert's, as list takes it: from the end if negative, and never
 * out of bounds. */
static inline size_t
list_clamped(Py_ssize_t index, size_t size)
{
    if (index >= 0)
        return (size_t)index < size ? (size_t)index : size;
    size_t back = (size_t)0 - (size_t)index;
    return back < size ? size - back : 0;
}

/* The list of these words, which are taken over.  NULL with an exception. */
PyObject *list_from_moment(ptrarray *moment);

/* The words of what list() would make of `iterable`, retained, the caller's own.
 * NULL with an exception: also where there is something that no container may hold, and
 * TypeError(if_not), unless that is NULL, where `iterable` is none. */
ptrarray *list_words_from(list_object *l, PyObject *iterable, const char *if_not);

/* The same of the items of a list or tuple, with `any` also those that no container may
 * hold: to be compared.  No safe point. */
ptrarray *list_words_of(list_object *l, PyObject *items, bool any);

/* Replaces all elements by `fresh`, at once, and takes it over: 0, or -1 with
 * MemoryError and the list as it was. */
int list_replace(list_object *l, ptrarray *fresh);

/* l[index] = value, del l[index]: 0, or -1 with an exception. */
int list_set(list_object *l, Py_ssize_t index, PyObject *value);
int list_delete(list_object *l, Py_ssize_t index);

/* What the operators do, and list_pop, where py_list_fast.c did not. */
PyObject *list_subscript_any(PyObject *self, PyObject *key);
int list_ass_subscript_any(PyObject *self, PyObject *key, PyObject *value);
PyObject *list_append_any(PyObject *self, PyObject *value);
PyObject *list_pop_any(PyObject *self, PyObject *const *args, Py_ssize_t n);

/* l[slice] = value, or del l[slice] if that is NULL. */
int list_assign_slice(list_object *l, PyObject *slice, PyObject *value);

/* Methods with their docstrings, and slots. */
PyObject *list_subscript(PyObject *self, PyObject *key);
int list_ass_subscript(PyObject *self, PyObject *key, PyObject *value);
PyObject *list_append(PyObject *self, PyObject *value);
PyObject *list_extend(PyObject *self, PyObject *iterable);
PyObject *list_iadd(PyObject *self, PyObject *iterable);
PyObject *list_clear(PyObject *self, PyObject *ignored);
extern const char list_append_doc[], list_extend_doc[], list_clear_doc[];

PyObject *list_insert(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *list_pop(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *list_imul(PyObject *self, Py_ssize_t times);
extern const char list_insert_doc[], list_pop_doc[];

PyObject *list_slice(PyObject *self, PyObject *slice);
PyObject *list_copy(PyObject *self, PyObject *ignored);
PyObject *list_snapshot_method(PyObject *self, PyObject *ignored);
PyObject *list_concat(PyObject *self, PyObject *other);
PyObject *list_repeat(PyObject *self, Py_ssize_t times);
PyObject *list_richcompare(PyObject *self, PyObject *other, int op);
extern const char list_copy_doc[], list_snapshot_doc[];

int list_contains(PyObject *self, PyObject *value);
PyObject *list_count(PyObject *self, PyObject *value);
PyObject *list_index(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *list_remove(PyObject *self, PyObject *value);
extern const char list_count_doc[], list_index_doc[], list_remove_doc[];

PyObject *list_sort(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames);
PyObject *list_reverse(PyObject *self, PyObject *ignored);
extern const char list_sort_doc[], list_reverse_doc[];

/* Adds the methods of py_list_atomic.c: 0, or -1 with an exception. */
int list_atomic_register(PyTypeObject *type);

/* iter(l), reversed(l). */
PyObject *list_iter(PyObject *self);
PyObject *list_reversed(PyObject *self, PyObject *ignored);
extern const char list_reversed_doc[];
extern PyType_Spec list_iter_spec, list_reversed_spec;

#endif
