/* Assigning to a key that is there, without the lock (K2). */
#include "py/py_dict_probe.h"
#include "py/py_numbers.h"

/* Matches that never leave the section, by the fast kinds of keys: CHANGED stands for
 * "not without __eq__". */
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

typedef struct {
    uint64_t hash;
    const qc_word *expected; /* or NULL: whatever is there */
    qc_word word;
} replacement;

/* In a section: the look at `frozen` and the CAS.  REPLACED: what was there is in pos->word,
 * the caller's to drop after the section. */
QC_INLINE replace_result
replace_at(dict_object *d, keytable_pos *pos, const replacement *what)
{
    qc_word seen = pos->word;
    for (;;) {
        if (qc_unlikely(keytable_is_frozen(&d->map))) {
            keytable_forget_freezes(&d->map);
            return USE_LOCK;
        }
        if (what->expected != NULL && seen != *what->expected)
            return NOT_REPLACED;
        if (keytable_assign(pos->entry, &seen, what->word))
            break;
        if (!word_is_live(seen))
            return USE_LOCK; /* deleted or moved meanwhile */
    }
    pos->word = seen;
    return REPLACED;
}

/* After a look in a section: assigns to what was found, leaves the section, and drops what
 * was there (K8). */
QC_INLINE replace_result
replace_found(probe_ctx *p, keytable_result r, keytable_pos *pos, const replacement *what)
{
    replace_result result = r == KEYTABLE_HIT ? replace_at(p->d, pos, what) : USE_LOCK;
    qsbr_exit(p->rec);
    if (qc_likely(result == REPLACED))
        refs_release(pos->word);
    return result;
}

/* Without Python code, until what was replaced is dropped. */
QC_INLINE replace_result
replace_by(probe_ctx *p, keytable_match match, const replacement *what, dict_miss *miss)
{
    keytable_pos pos = {0}; /* gcc 12 cannot see that a HIT fills it */
    qsbr_enter(p->rec);
    keytable *t = keytable_in_section(&p->d->map, p->rec);
    keytable_result r = keytable_find(t, what->hash, match, p->key, &pos);
    miss->missed = r == KEYTABLE_MISS;
    replace_result result = replace_found(p, r, &pos, what);
    return r == KEYTABLE_CHANGED ? USE_EQ : result;
}

/* By whatever comparison it takes. */
static QC_NOINLINE replace_result
replace_by_any(probe_ctx *p, const replacement *what, dict_miss *miss)
{
    keytable_pos pos = {0};
    keytable_result r;
    qsbr_enter(p->rec);
    do {
        keytable *t = keytable_in_section(&p->d->map, p->rec);
        *miss = miss_from_here(t);
        r = keytable_find(t, what->hash, match_any, p, &pos);
    } while (qc_unlikely(r == KEYTABLE_CHANGED));
    if (r != KEYTABLE_MISS || pos.table->id != miss->table_id)
        *miss = DICT_NO_MISS;
    replace_result result = replace_found(p, r, &pos, what);
    return r == KEYTABLE_ERROR ? REPLACE_FAILED : result;
}

QC_WORDS_ONLY replace_result
dict_replace_unlocked(probe_ctx *p, uint64_t hash, const qc_word *expected, qc_word word,
                      dict_miss *miss)
{
    const replacement what = {.hash = hash, .expected = expected, .word = word};
    replace_result result = USE_EQ;
    *miss = DICT_NO_MISS;
    if (qc_likely(PyUnicode_CheckExact(p->key)))
        result = replace_by(p, match_plain_str, &what, miss);
    else if (PyLong_CheckExact(p->key))
        result = replace_by(p, match_plain_int, &what, miss);
    return qc_likely(result != USE_EQ) ? result : replace_by_any(p, &what, miss);
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
