/* Finding a key: what the files that read, assign and change have in common.
 *
 * The loop is the key table's, inline with the match; what may run Python code is
 * a call that leaves the section or the lock first. */
#ifndef PY_DICT_PROBE_H
#define PY_DICT_PROBE_H

#include "py/py_dict.h"

/* What a lookup compares with, and what it has to let go of to call __eq__. */
typedef struct {
    PyObject *key;
    dict_object *d;
    qsbr_record *rec;
    bool locked; /* holds map.lock; otherwise it is in a section */
} probe_ctx;

/* A comparison that may run Python code (tuples of numbers and str, and subclasses that
 * inherit their __eq__, need none): on a strong reference, outside the section and the
 * lock.  CHANGED if what was compared with is not there any more: start over, as dict
 * does.  (The context comes by value: its address taken, it could not stay in registers
 * on the path that never comes here.) */
keytable_result dict_match_by_eq(probe_ctx by_value, keytable *t, PyObject *theirs, uint32_t slot);

QC_INLINE keytable_result
match_str(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    probe_ctx *p = ctx;
    PyObject *theirs = word_to_pointer(e->key);
    if (theirs == p->key)
        return KEYTABLE_HIT;
    if (qc_likely(PyUnicode_CheckExact(theirs)))
        return refs_str_equal(theirs, p->key) ? KEYTABLE_HIT : KEYTABLE_MISS;
    return dict_match_by_eq(*p, t, theirs, slot);
}

QC_INLINE keytable_result
match_any(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    probe_ctx *p = ctx;
    PyObject *theirs = word_to_pointer(e->key);
    if (theirs == p->key)
        return KEYTABLE_HIT;
    if (PyLong_CheckExact(p->key) && PyLong_CheckExact(theirs))
        return refs_int_equal(theirs, p->key) ? KEYTABLE_HIT : KEYTABLE_MISS;
    if (PyUnicode_CheckExact(p->key) && PyUnicode_CheckExact(theirs))
        return refs_str_equal(theirs, p->key) ? KEYTABLE_HIT : KEYTABLE_MISS;
    return dict_match_by_eq(*p, t, theirs, slot);
}

/* Those that never call, with the key itself as their context; CHANGED: a key of another
 * kind has the same hash.  ASCII with ASCII only. */
QC_INLINE keytable_result
match_ascii(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    PyObject *theirs = word_to_pointer(e->key);
    (void)t;
    (void)slot;
    if (theirs == ctx)
        return KEYTABLE_HIT;
    if (qc_unlikely(!refs_is_ascii(theirs)))
        return KEYTABLE_CHANGED;
    return refs_ascii_equal(theirs, ctx) ? KEYTABLE_HIT : KEYTABLE_MISS;
}

#ifdef REFS_SMALL_INTS
/* Int with int of 30 bits only. */
QC_INLINE keytable_result
match_small_int(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    PyObject *theirs = word_to_pointer(e->key);
    (void)t;
    (void)slot;
    if (theirs == ctx)
        return KEYTABLE_HIT;
    if (qc_unlikely(!PyLong_CheckExact(theirs) || !refs_int_is_small(theirs)))
        return KEYTABLE_CHANGED;
    return refs_small_int(theirs) == refs_small_int(ctx) ? KEYTABLE_HIT : KEYTABLE_MISS;
}
#endif

/* K8, in the section in which `word` was found in `e`: a reference to its object. */
QC_INLINE refs_got
dict_hold(const keytable_entry *e, qc_word word)
{
    if (!refs_try(word_to_pointer(word)))
        return REFS_GONE;
    return !REFS_LOOK_AGAIN || qc_likely(keytable_is_still(e, word)) ? REFS_HELD : REFS_LATE;
}

/* The same of any word: a number is had as it is. */
QC_INLINE refs_got
dict_hold_word(const keytable_entry *e, qc_word word)
{
    return refs_word_is_object(word) ? dict_hold(e, word) : REFS_HELD;
}

/* In a section, from the current table on, until nothing changes under the
 * comparisons. */
QC_INLINE keytable_result
find_in_section(probe_ctx *p, uint64_t hash, keytable_match match, keytable_pos *pos)
{
    keytable_result r;
    do {
        keytable *t = keytable_in_section(&p->d->map, p->rec);
        r = keytable_find(t, hash, match, p, pos);
    } while (qc_unlikely(r == KEYTABLE_CHANGED));
    return r;
}

/* The beginning of every change.  False with an exception. */
static inline bool
begin_change(probe_ctx *p, dict_object *d, PyObject *key, retire_local **local)
{
    *p = (probe_ctx){.key = key, .d = d};
    p->rec = threads_begin_write((PyObject *)d, d->state, &d->sharing, &d->map.lock);
    *local = p->rec != NULL ? threads_local(d->state) : NULL;
    return *local != NULL;
}

/* A look that did not find the key, before the lock was taken or while it was released; for
 * keytable_place. */
typedef struct {
    uint64_t table_id; /* 0: of no table */
    uint32_t used;     /* entries of that table that the look has compared with */
    bool missed;       /* there was such a look */
} dict_miss;

#define DICT_NO_MISS ((dict_miss){0})

/* For a look that begins now.  Only a look that may call __eq__ records `used`.  For the others
 * a second comparison is cheaper than a load of the line that every insertion writes. */
static inline dict_miss
miss_from_here(keytable *t)
{
    return (dict_miss){.table_id = t->id, .used = keytable_used(t), .missed = true};
}

/* ---- K2 (py_dict_replace.c) ---- */

typedef enum {
    REPLACED,
    NOT_REPLACED, /* another word than the expected one, or the key is gone */
    USE_LOCK,     /* absent, or frozen */
    USE_EQ,       /* the key must be found by its __eq__ first */
    REPLACE_FAILED
} replace_result;

/* Assigns to a key that is there, without the lock; with `expected`, only if that
 * is the word there. For shared dicts.  REPLACED (the dict has the word's reference,
 * and what was replaced is dropped), NOT_REPLACED, USE_LOCK, or REPLACE_FAILED with an
 * exception.  After USE_LOCK *miss tells whether a look has missed the key. */
replace_result dict_replace_unlocked(probe_ctx *p, uint64_t hash, const qc_word *expected,
                                     qc_word word, dict_miss *miss);

#endif
