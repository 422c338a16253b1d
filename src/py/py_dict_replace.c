/* Assigning to a key that is there, without the lock (K2). */
#include "py/py_dict_probe.h"
#include "py/py_numbers.h"

/* Matches that never leave the section, for use while something is reserved (no
 * Python code may run then).  By the fast kinds of keys: CHANGED stands for "not
 * without __eq__". */
QC_INLINE keytable_result
match_plain_str(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    PyObject *theirs = word_to_pointer(e->key);
    (void)t;
    (void)slot;
    if (theirs == ctx)
        return KEYTABLE_HIT;
    if (qc_unlikely(!PyUnicode_CheckExact(theirs)))
        return KEYTABLE_CHANGED;
    return refs_str_equal(theirs, ctx) ? KEYTABLE_HIT : KEYTABLE_MISS;
}

QC_INLINE keytable_result
match_plain_int(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    PyObject *theirs = word_to_pointer(e->key);
    (void)t;
    (void)slot;
    if (theirs == ctx)
        return KEYTABLE_HIT;
    if (!PyLong_CheckExact(theirs))
        return KEYTABLE_CHANGED;
    return refs_int_equal(theirs, ctx) ? KEYTABLE_HIT : KEYTABLE_MISS;
}

/* By identity with a key that the table was seen to have. */
QC_INLINE keytable_result
match_identity(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    (void)t;
    (void)slot;
    return word_to_pointer(e->key) == ctx ? KEYTABLE_HIT : KEYTABLE_MISS;
}

typedef struct {
    uint64_t hash;
    const qc_word *expected; /* or NULL: whatever is there */
    qc_word word;
} replacement;

/* In a section: the look at `frozen` and the CAS.  `local` is reserved, or NULL: then
 * only a word that is no object can be replaced. */
QC_INLINE replace_result
replace_at(dict_object *d, keytable_pos *pos, const replacement *what, retire_local *local)
{
    qc_word seen = pos->word;
    for (;;) {
        if (qc_unlikely(keytable_is_frozen(&d->map))) {
            keytable_forget_freezes(&d->map);
            return USE_LOCK;
        }
        if (what->expected != NULL && seen != *what->expected)
            return NOT_REPLACED;
        if (local == NULL && refs_word_is_object(seen))
            return NEEDS_ROOM;
        if (keytable_assign(pos->entry, &seen, what->word))
            break;
        if (!word_is_live(seen))
            return USE_LOCK; /* deleted or moved meanwhile */
    }
    if (refs_word_is_object(seen))
        retire_ref(local, refs_release_item, seen); /* K8 */
    return REPLACED;
}

/* Without Python code; with `local`, after reserving room for one reference. */
QC_INLINE replace_result
replace_by(probe_ctx *p, retire_local *local, keytable_match match, const replacement *what,
           dict_miss *miss)
{
    keytable_pos pos = {0}; /* gcc 12 cannot see that a HIT fills it */
    replace_result result;
    if (local != NULL && qc_unlikely(!retire_reserve(local, 1))) {
        PyErr_NoMemory();
        return REPLACE_FAILED;
    }
    qsbr_enter(p->rec);
    keytable *t = keytable_in_section(&p->d->map, p->rec);
    keytable_result r = keytable_find(t, what->hash, match, p->key, &pos);
    if (r == KEYTABLE_HIT)
        result = replace_at(p->d, &pos, what, local);
    else
        result = r == KEYTABLE_MISS ? USE_LOCK : USE_EQ;
    miss->missed = r == KEYTABLE_MISS;
    qsbr_exit(p->rec);
    if (local != NULL)
        retire_commit(local);
    return result;
}

/* `local`: NULL as long as nothing is reserved. */
QC_INLINE replace_result
replace_plain(probe_ctx *p, retire_local *local, const replacement *what, dict_miss *miss)
{
    if (qc_likely(PyUnicode_CheckExact(p->key)))
        return replace_by(p, local, match_plain_str, what, miss);
    if (PyLong_CheckExact(p->key))
        return replace_by(p, local, match_plain_int, what, miss);
    return USE_EQ;
}

/* A number that replaces an object. */
static QC_NOINLINE replace_result
replace_with_room(probe_ctx *p, retire_local *local, const replacement *what, dict_miss *miss)
{
    return replace_plain(p, local, what, miss);
}

/* Finds by whatever comparison it takes; if an object has to be retired for it,
 * finds the entry again, by the identity of its key, with room for that. */
static QC_NOINLINE replace_result
replace_by_any(probe_ctx *p, retire_local *local, const replacement *what, dict_miss *miss)
{
    keytable_pos pos = {0};
    PyObject *stored = NULL;
    replace_result result = USE_LOCK;
    keytable_result r;
    qsbr_enter(p->rec);
    do {
        keytable *t = keytable_in_section(&p->d->map, p->rec);
        *miss = miss_from_here(t);
        r = keytable_find(t, what->hash, match_any, p, &pos);
    } while (qc_unlikely(r == KEYTABLE_CHANGED));
    if (r == KEYTABLE_HIT) {
        result = replace_at(p->d, &pos, what, NULL);
        if (result == NEEDS_ROOM) {
            stored = word_to_pointer(pos.entry->key);
            Py_INCREF(stored); /* its address stays its own */
        }
    }
    if (r != KEYTABLE_MISS || pos.table->id != miss->table_id)
        *miss = DICT_NO_MISS;
    qsbr_exit(p->rec);
    if (r == KEYTABLE_ERROR)
        return REPLACE_FAILED;
    if (stored != NULL) {
        probe_ctx same = {.key = stored, .d = p->d, .rec = p->rec, .locked = false};
        result = replace_by(&same, local, match_identity, what, miss);
        *miss = DICT_NO_MISS; /* that key may be gone and an equal one inserted */
        Py_DECREF(stored);
    }
    return result;
}

QC_WORDS_ONLY replace_result
dict_replace_unlocked(probe_ctx *p, retire_local *local, uint64_t hash, const qc_word *expected,
                      qc_word word, dict_miss *miss)
{
    const replacement what = {.hash = hash, .expected = expected, .word = word};
    *miss = DICT_NO_MISS;
    /* An object most often replaces an object, a number a number. */
    bool object = refs_word_is_object(expected != NULL ? *expected : word);
    replace_result result =
        object ? replace_with_room(p, local, &what, miss) : replace_plain(p, NULL, &what, miss);
    if (qc_unlikely(result == NEEDS_ROOM))
        result = replace_with_room(p, local, &what, miss);
    if (qc_unlikely(result == USE_EQ))
        result = replace_by_any(p, local, &what, miss);
    return result;
}

dict_result
dict_add_int(dict_object *d, PyObject *key, Py_hash_t hash, int64_t delta, int64_t *result)
{
    probe_ctx p = {.key = key, .d = d};
    keytable_pos pos;
    dict_result done = DICT_ABSENT;
    p.rec = threads_begin((PyObject *)d, d->state, &d->sharing, &d->map.lock);
    if (p.rec == NULL)
        return DICT_FAILED;
    qsbr_enter(p.rec);
    keytable_result r;
    if (qc_likely(PyUnicode_CheckExact(key)))
        r = find_in_section(&p, (uint64_t)hash, match_str, &pos);
    else
        r = find_in_section(&p, (uint64_t)hash, match_any, &pos);
    if (r == KEYTABLE_HIT && !keytable_is_frozen(&d->map)) {
        qc_word seen = pos.word, sum;
        while (word_is_live(seen) && numbers_add_int(seen, delta, &sum)) {
            *result = word_to_int(sum);
#ifdef QC_BREAK_INCR_NOT_CAS
            qc_store_release(&pos.entry->value, sum);
            done = DICT_FOUND;
            break;
#endif
            if (keytable_assign(pos.entry, &seen, sum)) {
                done = DICT_FOUND;
                break;
            }
        }
    }
    qsbr_exit(p.rec);
    return r == KEYTABLE_ERROR ? DICT_FAILED : done;
}
