/* ConcurrentDict: what its files share.
 *
 *   py_dict.c         the type and the methods that dict has
 *   py_dict_read.c    one key: reading, without the lock
 *   py_dict_many.c    many keys: get_many
 *   py_dict_fast.c    one key: d[k] = v, del d[k] and incr, where nothing is in the way
 *   py_dict_replace.c one key: assigning without the lock (K2)
 *   py_dict_change.c  one key: with the lock
 *   py_dict_whole.c   all keys at one moment: clear, and making a moment (K7)
 *   py_dict_moment.c  all keys: snapshot, copy, repr and ==, from a moment
 *   py_dict_fill.c    construction, update and fromkeys
 *   py_dict_freeze.c  the lock, with no word that changes (K7)
 *   py_dict_atomic.c  what dict does not have: incr, get_or_create
 *   py_dict_views.c   views and iterators
 *
 *  K8  A value's reference is dropped by the operation that replaced or removed it, after
 *      unlocking and outside sections, so that its finalizer may come back into the dict.
 *      A reader takes its reference in two steps (py_try.h, dict_hold).  `clear` says
 *      DELETED into each word of the table that it took out before it drops what was there.
 *      A key's reference is dropped when no reader can be comparing with it: it is retired
 *      with its size, those of a cleared table with the table; or dropped at once, after
 *      unlocking, where the dict is not shared (T1).
 *  K10 get_or_create looks again after it has registered as the one that creates,
 *      and stores before it unregisters; a ring of threads that wait for each
 *      other's keys raises RuntimeError; a fork's child does not wait for a
 *      creator that is gone, and finalization ends the wait.
 *
 * Every function below begins with a safe point (threads_begin) unless it says
 * otherwise, so no caller may hold a lock or be in a section.
 */
#ifndef PY_DICT_H
#define PY_DICT_H

#include "py/state.h"

#include "containers/keytable_values.h"
#include "py/py_lock.h"
#include "py/py_refs.h"
#include "py/py_threads.h"

/* All reads look at the type, the table and the owner, and at nothing that stands behind
 * KEYMAP_APART bytes of the map. */
typedef struct {
    PyObject_HEAD
    union {
        keymap map;
        struct {
            keytable_ref of_map;
            qc_sharing sharing;
            qc_state *state;              /* the type keeps the module, and with it this, alive */
            _Atomic(PyObject *) creators; /* set once: a private dict, key -> creator (K10) */
            PyObject *weakrefs;
        };
    };
} dict_object;

_Static_assert(offsetof(dict_object, weakrefs) + sizeof(PyObject *) <=
                   offsetof(dict_object, map.frozen),
               "what is between the map's parts");

typedef enum { DICT_FOUND, DICT_ABSENT, DICT_FAILED } dict_result;

/* A key's hash; -1 with an exception.  From 3.14 on dict replaces a TypeError of __hash__ by
 * one that names the key's type, and so does this. */
QC_NOINLINE void dict_unhashable(PyObject *key);
static inline Py_hash_t
dict_hash(PyObject *key)
{
    Py_hash_t hash = refs_hash(key);
#if PY_VERSION_HEX >= 0x030E0000
    if (qc_unlikely(hash == -1))
        dict_unhashable(key);
#endif
    return hash;
}

/* Q10: of a lock whose holder was left behind by a fork; the dict is right afterwards,
 * and the lock held. */
QC_NOINLINE void dict_mend(dict_object *d);

/* Nothing is reserved when it is called (dict_mend retires). */
QC_INLINE void
dict_lock(dict_object *d)
{
    if (qc_unlikely(lock_acquire(&d->map.lock) == QC_LOCK_ORPHANED))
        dict_mend(d);
}

static inline void
dict_unlock(dict_object *d)
{
    lock_release(&d->map.lock);
}

/* K7: takes the lock.  From dict_lock_frozen to dict_unlock_frozen no word of `d` changes, but
 * for those that the caller changes.  0, or -1 with an exception and without the lock.  May
 * detach and run Python code (py_wait.h) before it holds the lock for good, so the caller has
 * nothing reserved. */
typedef struct {
    keytable_freezing freezing;
    bool shared;
} dict_frozen;
int dict_lock_frozen(dict_object *d, dict_frozen *f);
void dict_unlock_frozen(dict_object *d, const dict_frozen *f);

/* Lock-free: a new reference in *value if FOUND.  An exception if FAILED. */
dict_result dict_lookup(dict_object *d, PyObject *key, Py_hash_t hash, PyObject **value);
dict_result dict_contains_key(dict_object *d, PyObject *key, Py_hash_t hash);

/* Assigns or inserts: 0, or -1 with an exception and the dict as it was. */
int dict_set(dict_object *d, PyObject *key, Py_hash_t hash, PyObject *value);

/* Inserts unless it is there, atomically.  FOUND: *current is a new reference to
 * what is there; ABSENT: `value` was inserted. */
dict_result dict_insert(dict_object *d, PyObject *key, Py_hash_t hash, PyObject *value,
                        PyObject **current);

/* Deletes; FOUND: *value, if asked for, is a new reference to what was there. */
dict_result dict_remove(dict_object *d, PyObject *key, Py_hash_t hash, PyObject **value);

/* The last pair, as a new tuple; NULL without an exception if empty. */
PyObject *dict_remove_last(dict_object *d);

/* Replaces `expected`, a word seen at `key` and retained by the caller, by
 * `word`, whose reference the dict takes over if it succeeds: FOUND: done,
 * ABSENT: the key has another word or none now. */
dict_result dict_replace_word(dict_object *d, PyObject *key, Py_hash_t hash, qc_word expected,
                              qc_word word);
/* Deletes the key if it has `expected`, as above: FOUND: done, ABSENT: the key has
 * another word or none now. */
dict_result dict_remove_word(dict_object *d, PyObject *key, Py_hash_t hash, qc_word expected);
/* The word at `key`, retained. */
dict_result dict_lookup_word(dict_object *d, PyObject *key, Py_hash_t hash, qc_word *word);

/* FOUND: the int by value at `key` became *result, `delta` more, in one lock-free
 * step.  ABSENT: not to be had that way (absent, an object, too large, frozen). */
dict_result dict_add_int(dict_object *d, PyObject *key, Py_hash_t hash, int64_t delta,
                         int64_t *result);

/* K7: a moment, all pairs of `d` with references of its own, in a table that is the caller's;
 * NULL with an exception.  Dropping a moment may run Python code. */
keytable *dict_moment(dict_object *d);
void dict_moment_drop(keytable *t);
static inline uint32_t
dict_moment_size(keytable *t)
{
    return qc_load_relaxed(&keytable_counts(t)->used); /* all live */
}
/* These give a moment to a dict, as its table: to a new one of `type`, without a call of the
 * type, or to an empty one.  dict_fill_empty: 1, or 0 if the dict is not empty, or -1 with an
 * exception.  After 0 and -1 the dict is unchanged and the moment still the caller's. */
PyObject *dict_new_with(PyTypeObject *type, qc_state *state, keytable *t);
int dict_fill_empty(dict_object *d, keytable *t);
/* A copy that is a ConcurrentDict; no method of a subclass is called. */
PyObject *dict_exact_copy(dict_object *d);

/* Construction and update: dict_fill with the call's arguments, dict_merge with one mapping
 * or iterable.  0, or -1 with an exception. */
int dict_fill(dict_object *d, const char *name, PyObject *args, PyObject *kwargs);
int dict_merge(dict_object *d, PyObject *source);

PyObject *dict_snapshot(dict_object *d);
Py_ssize_t dict_length(PyObject *self);
int dict_clear_all(dict_object *d);
/* Deallocation and tp_clear: no other thread reads. */
void dict_drop_table(dict_object *d);
int dict_tp_clear(PyObject *self);

/* A ConcurrentDict or an instance of a subclass, of any interpreter.  No safe point. */
bool dict_check(PyObject *op);
/* A new empty dict of `type`. */
PyObject *dict_new_empty(PyTypeObject *type, qc_state *state, uint64_t entries);

/* KeyError(key), and the argument counts of METH_FASTCALL with dict's messages. */
void dict_raise_key_error(PyObject *key);
/* MemoryError; with `limit` it names the limit of keys (K9). */
void dict_raise_no_room(bool limit);

/* What these do, where py_dict_fast.c did not. */
int dict_ass_subscript_any(PyObject *self, PyObject *key, PyObject *value);
PyObject *dict_incr_any(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames);

/* Slots and methods from the other files. */
PyObject *dict_subscript(PyObject *self, PyObject *key);
int dict_contains(PyObject *self, PyObject *key);
PyObject *dict_get(PyObject *self, PyObject *const *args, Py_ssize_t n);
int dict_ass_subscript(PyObject *self, PyObject *key, PyObject *value);
PyObject *dict_incr(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames);
PyObject *dict_get_or_create(PyObject *self, PyObject *const *args, Py_ssize_t n,
                             PyObject *kwnames);
PyObject *dict_get_many(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames);
extern const char dict_incr_doc[], dict_get_or_create_doc[], dict_get_many_doc[];
int dict_compare_register(PyTypeObject *type); /* adds its methods */
PyObject *dict_iter_keys(PyObject *self);
PyObject *dict_reversed(PyObject *self, PyObject *ignored);
PyObject *dict_copy(PyObject *self, PyObject *ignored);
PyObject *dict_repr(PyObject *self);
PyObject *dict_richcompare(PyObject *self, PyObject *other, int op);
PyObject *dict_fromkeys(PyObject *cls, PyObject *const *args, Py_ssize_t n);
extern const char dict_reversed_doc[], dict_fromkeys_doc[];
PyObject *dict_view_keys(PyObject *self, PyObject *ignored);
PyObject *dict_view_values(PyObject *self, PyObject *ignored);
PyObject *dict_view_items(PyObject *self, PyObject *ignored);

#define dict_of(op) ((dict_object *)(op))

/* For a ConcurrentDict.  If a subclass has an __iter__ of its own, operations that take all
 * pairs use its keys() and [], as dict's do for subclasses of dict. */
static inline bool
dict_iter_is_inherited(PyObject *op)
{
    return Py_TYPE(op)->tp_iter == dict_iter_keys;
}

#endif
