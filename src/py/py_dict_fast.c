/* ConcurrentDict: d[k] = v, del d[k] and incr(k) of most programs, where nothing is in the way:
 * the key is an exact str of ASCII, no safe point is due, the dict is this thread's or
 * settled (T1).  Where something is in the way nothing has been done, and the
 * general functions begin anew.
 *
 *   a number for a number     one section, one CAS (K2)
 *   an object, in a shared dict   the same, and what it replaced is dropped after it
 *   a new key, and deletion   look in a section, then with the lock whether that still holds
 *   an object                 with the lock, in a dict that is not shared
 *
 * The look comes before the lock, so that the thread makes only a few stores while other
 * threads wait for it.  A new key is looked for again with the lock, by its hash alone
 * (keytable_place).  An entry that was found is still the key's if the table has the same id
 * and the word is live, since entries are never reused (K1); then its slot is its own, too.
 *
 * Under the lock: no Python code, no decref, no allocation but retire_reserve's. */
#include "py/py_dict_probe.h"

#include "py/py_numbers.h"

/* In a leaf. */
QC_INLINE keytable_result
look(dict_object *d, qsbr_record *rec, PyObject *key, Py_hash_t hash, keytable_pos *pos)
{
    keytable *t = keytable_in_section(&d->map, rec);
    return keytable_probe_once(t, (uint64_t)hash, match_ascii, key, pos);
}

/* ---- d[k] = v ---- */

/* A key that was not there a moment ago. */
static QC_NOINLINE int
insert_new(dict_object *d, PyObject *key, Py_hash_t hash, PyObject *value)
{
    Py_INCREF(key);
    qc_word word = refs_new_word(value);
    dict_lock(d);
    uint32_t slot = keytable_place(keytable_locked(&d->map), (uint64_t)hash, 0);
    if (qc_likely(slot != KEYTABLE_NO_SLOT && keytable_has_room(&d->map))) {
        keytable_insert(&d->map, (uint64_t)hash, word_from_pointer(key), word, slot);
        dict_unlock(d);
        return 0;
    }
    dict_unlock(d);
    refs_release(word); /* neither was the last reference */
    Py_DECREF(key);
    return dict_set(d, key, hash, value);
}

/* An object, or in place of one: at once where the old one can be dropped at once. */
static QC_NOINLINE int
assign_own(dict_object *d, PyObject *key, Py_hash_t hash, PyObject *value)
{
    keytable_pos pos;
    keytable_result r = KEYTABLE_CHANGED;
    qc_word word = refs_new_word(value);
    dict_lock(d);
    if (qc_likely(!sharing_is_shared(&d->sharing)))
        r = keytable_probe_place(keytable_locked(&d->map), (uint64_t)hash, match_ascii, key, &pos);
    if (qc_likely(r == KEYTABLE_HIT)) {
        qc_word old = keytable_exchange(pos.entry, word);
        dict_unlock(d);
        refs_release(old);
        return 0;
    }
    if (r == KEYTABLE_MISS && qc_likely(keytable_has_room(&d->map))) {
        Py_INCREF(key);
        keytable_insert(&d->map, (uint64_t)hash, word_from_pointer(key), word, pos.slot);
        dict_unlock(d);
        return 0;
    }
    dict_unlock(d);
    refs_release(word); /* as above */
    return dict_set(d, key, hash, value);
}

/* An object, or in place of one, in a dict that is shared (K2). */
static QC_NOINLINE int
assign_shared(dict_object *d, PyObject *key, Py_hash_t hash, PyObject *value)
{
    keytable_pos pos;
    qsbr_record *rec = qsbr_self;
    if (!qsbr_enter_leaf(rec))
        return dict_set(d, key, hash, value);
    qc_word word = refs_new_word(value);
    keytable_result r = look(d, rec, key, hash, &pos);
    bool done = false;
    while (r == KEYTABLE_HIT && word_is_live(pos.word) && !keytable_is_frozen(&d->map) && !done)
        done = keytable_assign(pos.entry, &pos.word, word);
    qsbr_exit_leaf(rec);
    refs_release(done ? pos.word : word); /* K8; the second is not the last reference */
    if (qc_likely(done))
        return 0;
    if (r != KEYTABLE_MISS)
        return dict_set(d, key, hash, value);
    return insert_new(d, key, hash, value);
}

/* Not a number for a number. */
static QC_NOINLINE int
assign_object(dict_object *d, PyObject *key, Py_hash_t hash, PyObject *value)
{
    /* Without the lock: a hint. */
    return sharing_is_shared(&d->sharing) ? assign_shared(d, key, hash, value)
                                          : assign_own(d, key, hash, value);
}

/* For an exact str without a cached hash.  Hashing a str raises no TypeError, so dict_hash is
 * not needed. */
static QC_NOINLINE int
hash_and_assign(PyObject *self, PyObject *key, PyObject *value)
{
    return PyObject_Hash(key) == -1 ? -1 : dict_ass_subscript(self, key, value);
}

static int delete_key(dict_object *d, PyObject *key, Py_hash_t hash);

QC_WORDS_ONLY int
dict_ass_subscript(PyObject *self, PyObject *key, PyObject *value)
{
    dict_object *d = dict_of(self);
    qc_word word;
    qsbr_record *rec;
    if (qc_unlikely(!refs_is_ascii(key)))
        return dict_ass_subscript_any(self, key, value);
    Py_hash_t hash = refs_known_hash(key);
    if (qc_unlikely(hash == -1))
        return hash_and_assign(self, key, value);
    if (value == NULL)
        return delete_key(d, key, hash);
    if (qc_unlikely(state_is_sentinel(d->state, value)) || !refs_word_at_once(value, &word) ||
        (rec = threads_begin_fast(&d->sharing)) == NULL)
        return dict_ass_subscript_any(self, key, value);
    if (refs_word_is_object(word) || !qsbr_enter_leaf(rec))
        return assign_object(d, key, hash, value);
    keytable_pos pos;
    keytable_result r = look(d, rec, key, hash, &pos);
    bool done = r == KEYTABLE_HIT && !refs_word_is_object(pos.word) &&
                !keytable_is_frozen(&d->map) && keytable_assign(pos.entry, &pos.word, word);
    qsbr_exit_leaf(rec);
    if (qc_likely(done))
        return 0;
    if (r != KEYTABLE_MISS)
        return assign_object(d, key, hash, value);
    return insert_new(d, key, hash, value);
}

/* ---- del d[k] ---- */

/* A key that was there a moment ago; its entry is good with the lock, in the same table. */
static QC_NOINLINE int
delete_at(dict_object *d, PyObject *key, keytable_pos *pos, uint64_t table_id)
{
    retire_local *local = threads_cached.local;
    dict_lock(d);
    keytable *t = keytable_locked(&d->map);
#ifdef QC_BREAK_DELETE_BLIND
    bool same = t->id == table_id;
#else
    bool same = t->id == table_id && word_is_live(qc_load_relaxed(&pos->entry->value));
#endif
    bool shared = sharing_is_shared(&d->sharing); /* T1: settled under the lock */
    if (qc_unlikely(!same || (shared && !retire_reserve(local, 1)))) {
        dict_unlock(d);
        return dict_ass_subscript_any((PyObject *)d, key, NULL);
    }
    qc_word stored = pos->entry->key, word = keytable_delete(&d->map, pos);
    if (shared)
        retire_block(local, refs_release_item, stored, refs_key_bytes(stored)); /* K8 */
    dict_unlock(d);
    if (shared)
        retire_commit(local);
    else
        refs_release(stored);
    refs_release(word);
    return 0;
}

static QC_NOINLINE int
no_such_key(PyObject *key)
{
    dict_raise_key_error(key);
    return -1;
}

QC_WORDS_ONLY static QC_NOINLINE int
delete_key(dict_object *d, PyObject *key, Py_hash_t hash)
{
    qsbr_record *rec;
    keytable_pos pos;
    /* T7: what is deleted may be retired. */
    if (threads_cached.queue_id != d->state->queue_id || retire_must_wait(d->state->queue) ||
        (rec = threads_begin_fast(&d->sharing)) == NULL || !qsbr_enter_leaf(rec))
        return dict_ass_subscript_any((PyObject *)d, key, NULL);
    keytable_result r = look(d, rec, key, hash, &pos);
    uint64_t table_id = pos.table->id;
    qsbr_exit_leaf(rec);
    if (qc_likely(r == KEYTABLE_HIT))
        return delete_at(d, key, &pos, table_id);
    return r == KEYTABLE_MISS ? no_such_key(key) : dict_ass_subscript_any((PyObject *)d, key, NULL);
}

/* ---- incr ---- */

/* In a leaf: whether the int by value at `key` became *sum, `by` more. */
QC_INLINE bool
add_at_once(dict_object *d, qsbr_record *rec, PyObject *key, Py_hash_t hash, int64_t by,
            qc_word *sum)
{
    keytable_pos pos;
    if (look(d, rec, key, hash, &pos) != KEYTABLE_HIT || keytable_is_frozen(&d->map))
        return false;
    while (word_is_live(pos.word) && numbers_add_int(pos.word, by, sum)) {
#ifdef QC_BREAK_INCR_NOT_CAS
        qc_store_release(&pos.entry->value, *sum);
        return true;
#endif
        if (keytable_assign(pos.entry, &pos.word, *sum))
            return true;
    }
    return false;
}

QC_WORDS_ONLY PyObject *
dict_incr(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    dict_object *d = dict_of(self);
    qsbr_record *rec;
    qc_word sum = WORD_EMPTY;
    if (!QC_NUMBERS_BY_VALUE || n != 1 || kwnames != NULL || !refs_is_ascii(args[0]))
        return dict_incr_any(self, args, n, kwnames);
    Py_hash_t hash = refs_hash(args[0]); /* an exact str's: cannot fail */
    if ((rec = threads_begin_fast(&d->sharing)) == NULL || !qsbr_enter_leaf(rec))
        return dict_incr_any(self, args, n, kwnames);
    bool done = add_at_once(d, rec, args[0], hash, 1, &sum);
    qsbr_exit_leaf(rec);
    if (qc_unlikely(!done))
        return dict_incr_any(self, args, n, kwnames);
    PyObject *kept = numbers_kept(d->state, sum);
    return qc_likely(kept != NULL) ? kept : numbers_int_late(d->state, word_to_int(sum));
}
