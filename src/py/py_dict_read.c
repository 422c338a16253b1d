/* Reading a ConcurrentDict: no lock (K1). */
#include "py/py_dict_probe.h"

/* ---- __eq__ ---- */

static void
leave(const probe_ctx *p)
{
    if (p->locked)
        qc_lock_release(&p->d->map.lock);
    else
        qsbr_exit(p->rec);
}

static keytable *
come_back(const probe_ctx *p)
{
    if (p->locked) {
        qc_lock_acquire(&p->d->map.lock);
        return keytable_locked(&p->d->map);
    }
    qsbr_enter(p->rec);
    return keytable_in_section(&p->d->map, p->rec);
}

keytable_result
dict_match_by_eq(probe_ctx by_value, keytable *t, PyObject *theirs, uint32_t slot)
{
    const probe_ctx *p = &by_value;
    uint64_t id = t->id;
    uint32_t slot_value = qc_load_relaxed(&t->index[slot]);
    Py_INCREF(theirs); /* plain: the table's reference waits for our section */
    leave(p);
    PyObject *result = PyObject_RichCompare(theirs, p->key, Py_EQ);
    int equal = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    Py_DECREF(theirs);
    keytable *now = come_back(p);
    if (equal < 0)
        return KEYTABLE_ERROR;
    if (!keytable_unchanged(now, id, slot, slot_value))
        return KEYTABLE_CHANGED;
    return equal ? KEYTABLE_HIT : KEYTABLE_MISS;
}

/* ---- reading ---- */

/* K1: the whole read path.  The reference is taken inside the section; what needs
 * an allocation (a number's object) is the caller's, outside. */
QC_INLINE dict_result
lookup_word(dict_object *d, PyObject *key, Py_hash_t hash, keytable_match match, qc_word *word)
{
    qsbr_record *rec = threads_begin((PyObject *)d, d->state, &d->sharing, &d->map.lock);
    if (qc_unlikely(rec == NULL))
        return DICT_FAILED;
    probe_ctx p = {.key = key, .d = d, .rec = rec, .locked = false};
    keytable_pos pos;
    qsbr_enter(rec);
    keytable_result r = find_in_section(&p, (uint64_t)hash, match, &pos);
    if (qc_likely(r == KEYTABLE_HIT)) {
        *word = pos.word;
        refs_retain(pos.word);
    }
    qsbr_exit(rec);
    return qc_likely(r == KEYTABLE_HIT) ? DICT_FOUND
           : r == KEYTABLE_MISS         ? DICT_ABSENT
                                        : DICT_FAILED;
}

dict_result
dict_lookup_word(dict_object *d, PyObject *key, Py_hash_t hash, qc_word *word)
{
    if (qc_likely(PyUnicode_CheckExact(key)))
        return lookup_word(d, key, hash, match_str, word);
    return lookup_word(d, key, hash, match_any, word);
}

dict_result
dict_lookup(dict_object *d, PyObject *key, Py_hash_t hash, PyObject **value)
{
    qc_word word;
    dict_result r = dict_lookup_word(d, key, hash, &word);
    if (qc_likely(r == DICT_FOUND)) {
        *value = refs_object(word);
        if (qc_unlikely(*value == NULL))
            return DICT_FAILED;
    }
    return r;
}

dict_result
dict_contains_key(dict_object *d, PyObject *key, Py_hash_t hash)
{
    qc_word word;
    dict_result r = dict_lookup_word(d, key, hash, &word);
    if (r == DICT_FOUND)
        refs_release(word);
    return r;
}
