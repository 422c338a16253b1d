/* Assigning to a key that is there, without the lock (K2). */
#include "py/py_dict_probe.h"
#include "py/py_numbers.h"

/* Matches that never leave the section, for use while something is reserved (no
 * Python code may run then).  By the fast kinds of keys: CHANGED stands for "not
 * without __eq__". */
QC_INLINE keytable_result
match_plain(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    probe_ctx *p = ctx;
    PyObject *theirs = word_to_pointer(e->key);
    (void)t;
    (void)slot;
    if (theirs == p->key)
        return KEYTABLE_HIT;
    if (PyUnicode_CheckExact(theirs) && PyUnicode_CheckExact(p->key))
        return refs_str_equal(theirs, p->key) ? KEYTABLE_HIT : KEYTABLE_MISS;
    if (PyLong_CheckExact(theirs) && PyLong_CheckExact(p->key))
        return refs_int_equal(theirs, p->key) ? KEYTABLE_HIT : KEYTABLE_MISS;
    return KEYTABLE_CHANGED;
}

/* By identity with a key that the table was seen to have. */
QC_INLINE keytable_result
match_identity(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    (void)t;
    (void)slot;
    return word_to_pointer(e->key) == ((probe_ctx *)ctx)->key ? KEYTABLE_HIT : KEYTABLE_MISS;
}

/* In a section: the look at `frozen` and the CAS.  With `expected` only that word
 * is replaced, otherwise any.  `local` is reserved, or NULL: then only a word
 * that is no object can be replaced. */
static replace_result
replace_at(dict_object *d, keytable_pos *pos, const qc_word *expected, qc_word word,
           retire_local *local)
{
    qc_word seen = pos->word;
    for (;;) {
        if (keytable_is_frozen(&d->map))
            return USE_LOCK;
        if (expected != NULL && seen != *expected)
            return NOT_REPLACED;
        if (local == NULL && refs_word_is_object(seen))
            return NEEDS_ROOM;
        if (keytable_assign(pos->entry, &seen, word))
            break;
        if (!word_is_live(seen))
            return USE_LOCK; /* deleted or moved meanwhile */
    }
    if (refs_word_is_object(seen))
        retire_ref(local, refs_release_item, seen); /* K8 */
    return REPLACED;
}

/* With room for one retired reference, no Python code. */
static replace_result
replace_reserved(probe_ctx *p, retire_local *local, uint64_t hash, bool by_identity,
                 const qc_word *expected, qc_word word)
{
    keytable_pos pos = {0}; /* gcc 12 cannot see that a HIT fills it */
    keytable_result r;
    replace_result result;
    if (!retire_reserve(local, 1)) {
        PyErr_NoMemory();
        return REPLACE_FAILED;
    }
    qsbr_enter(p->rec);
    keytable *t = keytable_in_section(&p->d->map, p->rec);
    if (by_identity)
        r = keytable_find(t, hash, match_identity, p, &pos);
    else
        r = keytable_find(t, hash, match_plain, p, &pos);
    if (r == KEYTABLE_HIT)
        result = replace_at(p->d, &pos, expected, word, local);
    else
        result = r == KEYTABLE_MISS ? USE_LOCK : USE_EQ;
    qsbr_exit(p->rec);
    retire_commit(local);
    return result;
}

/* Finds by whatever comparison it takes; if an object has to be retired for it,
 * finds the entry again, by the identity of its key, with room for that. */
static replace_result
replace_by_any(probe_ctx *p, retire_local *local, uint64_t hash, const qc_word *expected,
               qc_word word)
{
    keytable_pos pos = {0};
    PyObject *stored = NULL;
    replace_result result = USE_LOCK;
    qsbr_enter(p->rec);
    keytable_result r = find_in_section(p, hash, match_any, &pos);
    if (r == KEYTABLE_HIT) {
        result = replace_at(p->d, &pos, expected, word, NULL);
        if (result == NEEDS_ROOM) {
            stored = word_to_pointer(pos.entry->key);
            Py_INCREF(stored); /* its address stays its own */
        }
    }
    qsbr_exit(p->rec);
    if (r == KEYTABLE_ERROR)
        return REPLACE_FAILED;
    if (stored != NULL) {
        probe_ctx same = {.key = stored, .d = p->d, .rec = p->rec, .locked = false};
        result = replace_reserved(&same, local, hash, true, expected, word);
        Py_DECREF(stored);
    }
    return result;
}

QC_WORDS_ONLY replace_result
dict_replace_unlocked(probe_ctx *p, retire_local *local, uint64_t hash, const qc_word *expected,
                      qc_word word)
{
    /* An object most often replaces an object, a number a number. */
    if (refs_word_is_object(expected != NULL ? *expected : word) &&
        (PyUnicode_CheckExact(p->key) || PyLong_CheckExact(p->key))) {
        replace_result result = replace_reserved(p, local, hash, false, expected, word);
        if (result != USE_EQ)
            return result;
    }
    return replace_by_any(p, local, hash, expected, word);
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
