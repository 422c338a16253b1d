/* Changing a ConcurrentDict: one key, under the lock. */
#include "py/py_dict_probe.h"

QC_INLINE keytable_result
probe_locked(probe_ctx *p, uint64_t hash, keytable *t, keytable_pos *pos)
{
    if (PyUnicode_CheckExact(p->key))
        return keytable_probe(t, hash, match_str, p, pos);
    return keytable_probe(t, hash, match_any, p, pos);
}

static keytable_result
find_locked(probe_ctx *p, uint64_t hash, keytable_pos *pos)
{
    keytable_result r;
    do
        r = probe_locked(p, hash, keytable_locked(&p->d->map), pos);
    while (r == KEYTABLE_CHANGED);
    return r;
}

/* With the lock, for an insertion: after a MISS pos->slot is where the key goes.  A comparison
 * may release the lock.  So a look that may have compared is followed by keytable_place,
 * which compares only hashes (K1), and so is a look before the lock was taken. */
static keytable_result
find_or_place(probe_ctx *p, uint64_t hash, dict_miss miss, keytable_pos *pos)
{
    for (;;) {
        keytable *t = keytable_locked(&p->d->map);
        if (qc_likely(miss.missed)) {
            pos->table = t;
            pos->slot = keytable_place(t, hash, miss.table_id == t->id ? miss.used : 0);
            if (qc_likely(pos->slot != KEYTABLE_NO_SLOT))
                return KEYTABLE_MISS;
        }
        miss = miss_from_here(t);
        keytable_result r = probe_locked(p, hash, t, pos);
        if (r == KEYTABLE_HIT || r == KEYTABLE_ERROR)
            return r;
        miss.missed = r == KEYTABLE_MISS; /* after CHANGED: start over */
    }
}

/* retire_fn: the map's reference to a table that was replaced. */
static void
unref_table_item(uint64_t arg)
{
    keytable_unref(word_to_pointer(arg));
}

void
dict_mend(dict_object *d)
{
    keytable *old = keytable_mend(&d->map);
    bool shared = sharing_is_shared(&d->sharing);
    sharing_resized(d->state, &d->sharing, keytable_locked(&d->map)->bytes);
    dict_unlock(d); /* as after any change: retiring comes later, and may ask */
    retire_local *local =
        threads_cached.queue_id == d->state->queue_id ? threads_cached.local : NULL;
    if (old != NULL && !shared) {
        keytable_unref(old);
    }
    else if (old != NULL && local != NULL && retire_reserve(local, 1)) {
        retire_block(local, unref_table_item, word_from_pointer(old), old->bytes);
        retire_commit(local);
    } /* else no memory: the old table leaks, and nothing that it refers to */
    (void)qc_lock_acquire(&d->map.lock); /* no orphan: it was put right */
}

/* What a change under the lock unlinked: a value, to be dropped after unlocking, and a key
 * and a table, which are as well (unshared), or in the queue already (shared). */
typedef struct {
    retire_local *local;
    bool shared, reserved;
    keytable *table;
    qc_word value, key; /* or WORD_EMPTY */
} unlinked;

/* Under the lock, before anything changes.  Sharing is settled under the lock
 * (T1); reserving is the part that can fail (T2). */
static bool
prepare(dict_object *d, unlinked *u, retire_local *local)
{
    *u = (unlinked){.local = local, .shared = sharing_is_shared(&d->sharing)};
    if (u->shared)
        u->reserved = retire_reserve(local, 2);
    return !u->shared || u->reserved;
}

/* `keep`: the caller gets a reference.  That is the dict's where it could be dropped at
 * once; otherwise readers may compare with the key, and the caller gets another. */
QC_INLINE void
unlink_key(unlinked *u, qc_word key, bool keep)
{
    if (u->shared) {
        if (keep)
            refs_retain(key);
        retire_block(u->local, refs_release_item, key, refs_key_bytes(key));
    }
    else if (!keep) {
        u->key = key;
    }
}

static void
unlink_table(unlinked *u, keytable *t)
{
    if (!u->shared)
        u->table = t;
    else if (!keytable_retire(t))
        retire_block(u->local, unref_table_item, word_from_pointer(t), t->bytes);
}

/* After unlocking; may run Python code. */
static void
drop_unlinked(unlinked *u)
{
    if (u->reserved)
        retire_commit(u->local);
    if (u->table != NULL)
        keytable_unref(u->table);
    if (u->key != WORD_EMPTY)
        refs_release(u->key);
    if (u->value != WORD_EMPTY)
        refs_release(u->value); /* K8: its word has another, or is DELETED */
}

/* Under the lock, at a MISS without room.  False: no memory. */
static bool
insert_locked(probe_ctx *p, uint64_t hash, qc_word word, unlinked *u)
{
    dict_object *d = p->d;
    keytable *old = NULL;
    if (u->shared || !keytable_compact(&d->map, p->rec)) {
        if (!keytable_make_room(&d->map, u->shared, &old))
            return false;
        sharing_resized(d->state, &d->sharing, keytable_locked(&d->map)->bytes);
        unlink_table(u, old);
    }
    Py_INCREF(p->key);
    keytable_insert(&d->map, hash, word_from_pointer(p->key), word, KEYTABLE_NO_SLOT);
    return true;
}

/* With the lock: assigns `word` (only_insert: unless the key is there), taking over
 * its reference.  ABSENT: inserted.  FOUND: the key was there; with only_insert nothing
 * was done (what is there is read without the lock: others assign without it), otherwise
 * the word was replaced. */
QC_WORDS_ONLY static dict_result
put_locked(probe_ctx *p, retire_local *local, uint64_t hash, dict_miss miss, qc_word word,
           bool only_insert)
{
    dict_object *d = p->d;
    keytable_pos pos;
    unlinked u;
    dict_result result = DICT_FAILED;
    dict_lock(d);
    keytable_result r = find_or_place(p, hash, miss, &pos);
    if (qc_likely(r == KEYTABLE_MISS && keytable_has_room(&d->map))) {
        Py_INCREF(p->key); /* nothing is unlinked */
        keytable_insert(&d->map, hash, word_from_pointer(p->key), word, pos.slot);
        dict_unlock(d);
        return DICT_ABSENT;
    }
    if (r == KEYTABLE_ERROR) {
        dict_unlock(d);
        return DICT_FAILED;
    }
    if (r == KEYTABLE_HIT) {
        qc_word old = only_insert ? WORD_EMPTY : keytable_exchange(pos.entry, word);
        dict_unlock(d);
        if (!only_insert)
            refs_release(old); /* K8 */
        return DICT_FOUND;
    }
    bool ok = prepare(d, &u, local);
    if (ok && insert_locked(p, hash, word, &u))
        result = DICT_ABSENT;
    bool full = qc_load_relaxed(&d->map.live) >= KEYTABLE_MAX_KEYS;
    dict_unlock(d);
    drop_unlinked(&u);
    if (result == DICT_FAILED)
        dict_raise_no_room(ok && full);
    return result;
}

/* Which word a removal takes. */
typedef enum {
    TAKE_ANY,
    TAKE_GIVEN, /* only the given one */
    TAKE_READY  /* any object; of the numbers only the given one, of which the caller has the
                 * object: without memory for it nothing is changed (T2) */
} taking;

/* Under the lock: false if the word is not the one wanted.  *word: what was there. */
static bool
take_word(dict_object *d, keytable_pos *pos, taking how, qc_word given, qc_word *word)
{
    if (how == TAKE_ANY) {
        *word = keytable_delete(&d->map, pos);
        return true;
    }
    do {
        *word = qc_load_acquire(&pos->entry->value); /* K2's assignments go on */
        if (*word != given && (how == TAKE_GIVEN || !refs_word_is_object(*word)))
            return false;
    } while (!keytable_delete_if(&d->map, pos, *word));
    return true;
}

/* With the lock, which it releases: deletes what is at `pos` (ABSENT: it is not the word
 * wanted).  *value: what was there; FOUND: with `keep` the reference is the caller's, and
 * that of *key where it is asked for. */
QC_INLINE dict_result
remove_locked(dict_object *d, retire_local *local, keytable_pos *pos, taking how, qc_word given,
              bool keep, qc_word *value, qc_word *key)
{
    unlinked u;
    if (!prepare(d, &u, local)) {
        dict_unlock(d);
        PyErr_NoMemory();
        return DICT_FAILED;
    }
    qc_word stored = pos->entry->key;
    if (!take_word(d, pos, how, given, value)) {
        dict_unlock(d);
        drop_unlinked(&u);
        return DICT_ABSENT;
    }
    if (key != NULL)
        *key = stored;
    unlink_key(&u, stored, key != NULL);
    if (!keep)
        u.value = *value;
    dict_unlock(d);
    drop_unlinked(&u);
    return DICT_FOUND;
}

/* ---- operations ---- */

QC_INLINE bool
looks_shared(dict_object *d)
{
    return sharing_is_shared(&d->sharing); /* without the lock: a hint */
}

QC_WORDS_ONLY int
dict_set(dict_object *d, PyObject *key, Py_hash_t hash, PyObject *value)
{
    probe_ctx p;
    retire_local *local;
    if (!state_may_store(d->state, value) || !state_may_store(d->state, key) ||
        !begin_change(&p, d, key, &local))
        return -1;
    qc_word word = refs_new_word(value);
    dict_miss miss = DICT_NO_MISS;
    if (looks_shared(d)) {
        replace_result r = dict_replace_unlocked(&p, (uint64_t)hash, NULL, word, &miss);
        if (r == REPLACED)
            return 0;
        if (r == REPLACE_FAILED) {
            refs_release(word);
            return -1;
        }
    }
    p.locked = true;
    if (put_locked(&p, local, (uint64_t)hash, miss, word, false) == DICT_FAILED) {
        refs_release(word);
        return -1;
    }
    return 0;
}

dict_result
dict_insert(dict_object *d, PyObject *key, Py_hash_t hash, PyObject *value, PyObject **current)
{
    if (!state_may_store(d->state, value)) /* whether or not the key is there */
        return DICT_FAILED;
    for (;;) {
        dict_result r = dict_lookup(d, key, hash, current);
        if (r != DICT_ABSENT)
            return r;
        probe_ctx p;
        retire_local *local;
        if (!state_may_store(d->state, key) || !begin_change(&p, d, key, &local))
            return DICT_FAILED;
        qc_word word = refs_new_word(value);
        p.locked = true;
        r = put_locked(&p, local, (uint64_t)hash, DICT_NO_MISS, word, true);
        if (r == DICT_ABSENT)
            return r;
        refs_release(word);
        if (r == DICT_FAILED)
            return r;
    }
}

static dict_result
remove_word(dict_object *d, PyObject *key, Py_hash_t hash, taking how, qc_word given, bool keep,
            qc_word *word)
{
    probe_ctx p;
    retire_local *local;
    keytable_pos pos;
    if (!begin_change(&p, d, key, &local))
        return DICT_FAILED;
    p.locked = true;
    dict_lock(d);
    keytable_result r = find_locked(&p, (uint64_t)hash, &pos);
    if (r != KEYTABLE_HIT) {
        dict_unlock(d);
        return r == KEYTABLE_MISS ? DICT_ABSENT : DICT_FAILED;
    }
    return remove_locked(d, local, &pos, how, given, keep, word, NULL);
}

QC_WORDS_ONLY dict_result
dict_remove(dict_object *d, PyObject *key, Py_hash_t hash, PyObject **value)
{
    qc_word word = WORD_EMPTY, ready;
    dict_result result;
    if (value == NULL)
        return remove_word(d, key, hash, TAKE_ANY, WORD_EMPTY, false, &word);
    PyObject *number = NULL;
    for (;;) {
        ready = word;
        result = remove_word(d, key, hash, TAKE_READY, ready, true, &word);
        if (result != DICT_ABSENT || word == ready)
            break;
        Py_XDECREF(number);
        number = refs_object(word);
        if (number == NULL)
            return DICT_FAILED;
    }
    if (result == DICT_FOUND && !refs_word_is_object(word)) {
        *value = number;
        return result;
    }
    Py_XDECREF(number);
    if (result == DICT_FOUND)
        *value = word_to_pointer(word);
    return result;
}

dict_result
dict_remove_word(dict_object *d, PyObject *key, Py_hash_t hash, qc_word expected)
{
    qc_word word;
    return remove_word(d, key, hash, TAKE_GIVEN, expected, false, &word);
}

/* Removes the last pair, if its value is an object or the number `ready`, as above. */
static dict_result
remove_last(dict_object *d, qc_word ready, qc_word *word, qc_word *key)
{
    probe_ctx p;
    retire_local *local;
    keytable_pos pos;
    if (!begin_change(&p, d, NULL, &local))
        return DICT_FAILED;
    dict_lock(d);
    if (!keytable_find_last(&d->map, &pos)) {
        dict_unlock(d);
        *word = WORD_EMPTY;
        return DICT_ABSENT;
    }
    return remove_locked(d, local, &pos, TAKE_READY, ready, true, word, key);
}

PyObject *
dict_remove_last(dict_object *d)
{
    qc_word word = WORD_EMPTY, key, ready;
    PyObject *number = NULL, *pair = PyTuple_New(2);
    dict_result result = DICT_FAILED;
    if (pair == NULL)
        return NULL;
    PyObject_GC_UnTrack(pair); /* while it has holes */
    do {
        ready = word;
        result = remove_last(d, ready, &word, &key);
        if (result != DICT_ABSENT || word == WORD_EMPTY)
            break;
        Py_XDECREF(number);
        number = refs_object(word);
    } while (number != NULL);
    if (result != DICT_FOUND) {
        Py_XDECREF(number);
        Py_DECREF(pair);
        return NULL;
    }
    if (refs_word_is_object(word))
        Py_XSETREF(number, word_to_pointer(word));
    PyTuple_SET_ITEM(pair, 0, word_to_pointer(key));
    PyTuple_SET_ITEM(pair, 1, number);
    PyObject_GC_Track(pair);
    return pair;
}

/* Under the lock, for a key that K2's way could not reach: frozen, or not found
 * without it. */
static dict_result
replace_locked(probe_ctx *p, uint64_t hash, qc_word expected, qc_word word)
{
    dict_object *d = p->d;
    keytable_pos pos;
    dict_lock(d);
    keytable_result r = find_locked(p, hash, &pos);
    if (r != KEYTABLE_HIT) {
        dict_unlock(d);
        return r == KEYTABLE_MISS ? DICT_ABSENT : DICT_FAILED;
    }
    /* A CAS here too: assignments without the lock go on beside it. */
    qc_word seen = expected;
    bool done = keytable_assign(pos.entry, &seen, word);
    dict_unlock(d);
    if (!done)
        return DICT_ABSENT;
    refs_release(expected); /* K8 */
    return DICT_FOUND;
}

dict_result
dict_replace_word(dict_object *d, PyObject *key, Py_hash_t hash, qc_word expected, qc_word word)
{
    probe_ctx p;
    retire_local *local;
    if (!begin_change(&p, d, key, &local))
        return DICT_FAILED;
    if (looks_shared(d)) {
        dict_miss miss;
        replace_result r = dict_replace_unlocked(&p, (uint64_t)hash, &expected, word, &miss);
        if (r == REPLACED)
            return DICT_FOUND;
        if (r == NOT_REPLACED)
            return DICT_ABSENT;
        if (r == REPLACE_FAILED)
            return DICT_FAILED;
    }
    p.locked = true;
    return replace_locked(&p, (uint64_t)hash, expected, word);
}
