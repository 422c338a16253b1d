/* One key of a ConcurrentDict: find, set, insert, delete. */
#include "py/py_dict.h"

/* ---- comparing keys ---- */

/* What a lookup compares with, and what it has to let go of to call __eq__. */
typedef struct {
    PyObject *key;
    dict_object *d;
    qsbr_record *rec;
    bool locked; /* holds map.lock; otherwise it is in a section */
} probe_ctx;

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

/* A comparison that may run Python code: on a strong reference, outside the
 * section and the lock.  CHANGED if what was compared with is not there any
 * more: start over, as dict does.  (The context comes by value: its address
 * taken, it could not stay in registers on the path that never comes here.) */
static QC_NOINLINE keytable_result
match_by_eq(const probe_ctx by_value, keytable *t, PyObject *theirs, uint32_t slot)
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

QC_INLINE keytable_result
match_str(void *ctx, keytable *t, keytable_entry *e, uint32_t slot)
{
    probe_ctx *p = ctx;
    PyObject *theirs = word_to_pointer(e->key);
    if (theirs == p->key)
        return KEYTABLE_HIT;
    if (qc_likely(PyUnicode_CheckExact(theirs)))
        return refs_str_equal(theirs, p->key) ? KEYTABLE_HIT : KEYTABLE_MISS;
    return match_by_eq(*p, t, theirs, slot);
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
    return match_by_eq(*p, t, theirs, slot);
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

static keytable_result
find_locked(probe_ctx *p, uint64_t hash, keytable_pos *pos)
{
    keytable_result r;
    do {
        keytable *t = keytable_locked(&p->d->map);
        if (PyUnicode_CheckExact(p->key))
            r = keytable_probe(t, hash, match_str, p, pos);
        else
            r = keytable_probe(t, hash, match_any, p, pos);
    } while (r == KEYTABLE_CHANGED);
    return r;
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

/* ---- assigning without the lock (K2) ---- */

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

typedef enum {
    REPLACED,
    NOT_REPLACED, /* another word than the expected one, or the key is gone */
    USE_LOCK,     /* absent, or frozen */
    USE_EQ,       /* the key must be found by find_in_section first */
    NEEDS_ROOM,   /* an object would be retired and nothing is reserved */
    REPLACE_FAILED
} replace_result;

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
    keytable_pos pos;
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
    keytable_pos pos;
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

static replace_result
replace_unlocked(probe_ctx *p, retire_local *local, uint64_t hash, const qc_word *expected,
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

/* ---- changes under the lock ---- */

/* retire_fn: the map's reference to a table that was replaced. */
static void
unref_table_item(uint64_t arg)
{
    keytable_unref(word_to_pointer(arg));
}

/* What a change under the lock unlinked, to be dropped after unlocking (unshared),
 * or in the queue already (shared). */
typedef struct {
    retire_local *local;
    bool shared, reserved;
    keytable *table;
    qc_word refs[2];
    int n_refs;
} unlinked;

/* Under the lock, before anything changes.  Sharing is settled under the lock
 * (T1); reserving is the part that can fail (T2). */
static bool
prepare(dict_object *d, unlinked *u, retire_local *local)
{
    *u = (unlinked){.local = local, .shared = sharing_is_shared(&d->sharing)};
    if (u->shared)
        u->reserved = retire_reserve(local, 3);
    return !u->shared || u->reserved;
}

static void
unlink_ref(unlinked *u, qc_word word)
{
    if (!refs_word_is_object(word))
        return;
    if (u->shared)
        retire_ref(u->local, refs_release_item, word);
    else
        u->refs[u->n_refs++] = word;
}

static void
unlink_table(unlinked *u, keytable *t)
{
    if (u->shared)
        retire_block(u->local, unref_table_item, word_from_pointer(t), t->bytes);
    else
        u->table = t;
}

/* After unlocking; may run Python code. */
static void
drop_unlinked(unlinked *u)
{
    if (u->reserved)
        retire_commit(u->local);
    if (u->table != NULL)
        keytable_unref(u->table);
    for (int i = 0; i < u->n_refs; i++)
        refs_release(u->refs[i]);
}

/* Under the lock, at a MISS.  False: no memory. */
static bool
insert_locked(dict_object *d, keytable_pos *pos, PyObject *key, uint64_t hash, qc_word word,
              unlinked *u)
{
    keytable *old;
    if (!keytable_make_room(&d->map, u->shared, &old))
        return false;
    if (old != NULL)
        unlink_table(u, old);
    Py_INCREF(key);
    keytable_insert(&d->map, hash, word_from_pointer(key), word,
                    old != NULL ? KEYTABLE_EMPTY : pos->slot);
    return true;
}

/* With the lock: assigns `word` (only_insert: unless the key is there), taking over
 * its reference.  ABSENT: inserted.  FOUND: the key was there; with only_insert
 * *current is its word, retained, otherwise the word was replaced. */
static dict_result
put_locked(probe_ctx *p, retire_local *local, uint64_t hash, qc_word word, bool only_insert,
           qc_word *current)
{
    dict_object *d = p->d;
    keytable_pos pos;
    unlinked u;
    dict_result result = DICT_FAILED;
    qc_lock_acquire(&d->map.lock);
    keytable_result r = find_locked(p, hash, &pos);
    if (r == KEYTABLE_ERROR) {
        qc_lock_release(&d->map.lock);
        return DICT_FAILED;
    }
    if (r == KEYTABLE_HIT && only_insert) {
        /* The lock does not hold off K2's assignments, a section holds off the
         * drop of what they replace: the word is loaded again in one.  (Nobody
         * deletes or moves it: that takes the lock.) */
        qsbr_enter(p->rec);
        *current = qc_load_acquire(&pos.entry->value);
        refs_retain(*current);
        qsbr_exit(p->rec);
        qc_lock_release(&d->map.lock);
        return DICT_FOUND;
    }
    bool ok = prepare(d, &u, local);
    if (ok && r == KEYTABLE_HIT) {
        unlink_ref(&u, keytable_exchange(pos.entry, word));
        result = DICT_FOUND;
    }
    else if (ok && insert_locked(d, &pos, p->key, hash, word, &u)) {
        result = DICT_ABSENT;
    }
    qc_lock_release(&d->map.lock);
    drop_unlinked(&u);
    if (result == DICT_FAILED)
        PyErr_NoMemory();
    return result;
}

static dict_result
remove_locked(dict_object *d, retire_local *local, keytable_pos *pos, qc_word *value, qc_word *key)
{
    unlinked u;
    if (!prepare(d, &u, local)) {
        qc_lock_release(&d->map.lock);
        PyErr_NoMemory();
        return DICT_FAILED;
    }
    *key = pos->entry->key;
    *value = keytable_delete(&d->map, pos);
    /* Where the references can be dropped at once they become the caller's;
     * otherwise readers may hold the table's, and the caller gets others. */
    if (u.shared) {
        refs_retain(*value);
        Py_INCREF((PyObject *)word_to_pointer(*key));
        unlink_ref(&u, *value);
        unlink_ref(&u, *key);
    }
    qc_lock_release(&d->map.lock);
    drop_unlinked(&u);
    return DICT_FOUND;
}

/* ---- operations ---- */

/* The beginning of every change.  False with MemoryError. */
static bool
begin_change(probe_ctx *p, dict_object *d, PyObject *key, retire_local **local)
{
    *p = (probe_ctx){.key = key, .d = d};
    p->rec = threads_begin((PyObject *)d, d->state, &d->sharing, &d->map.lock);
    *local = p->rec != NULL ? threads_local(d->state) : NULL;
    return *local != NULL;
}

static bool
looks_shared(dict_object *d)
{
    return sharing_is_shared(&d->sharing); /* without the lock: a hint */
}

int
dict_set(dict_object *d, PyObject *key, Py_hash_t hash, PyObject *value)
{
    probe_ctx p;
    retire_local *local;
    if (!begin_change(&p, d, key, &local))
        return -1;
    qc_word word = refs_new_word(value);
    if (looks_shared(d)) {
        replace_result r = replace_unlocked(&p, local, (uint64_t)hash, NULL, word);
        if (r == REPLACED)
            return 0;
        if (r == REPLACE_FAILED) {
            refs_release(word);
            return -1;
        }
    }
    p.locked = true;
    if (put_locked(&p, local, (uint64_t)hash, word, false, NULL) == DICT_FAILED) {
        refs_release(word);
        return -1;
    }
    return 0;
}

dict_result
dict_insert(dict_object *d, PyObject *key, Py_hash_t hash, PyObject *value, PyObject **current)
{
    dict_result r = dict_lookup(d, key, hash, current);
    if (r != DICT_ABSENT)
        return r;
    probe_ctx p;
    retire_local *local;
    if (!begin_change(&p, d, key, &local))
        return DICT_FAILED;
    qc_word found, word = refs_new_word(value);
    p.locked = true;
    r = put_locked(&p, local, (uint64_t)hash, word, true, &found);
    if (r != DICT_ABSENT)
        refs_release(word);
    if (r == DICT_FOUND && (*current = refs_object(found)) == NULL)
        return DICT_FAILED;
    return r;
}

dict_result
dict_remove(dict_object *d, PyObject *key, Py_hash_t hash, PyObject **value)
{
    probe_ctx p;
    retire_local *local;
    keytable_pos pos;
    qc_word word, stored;
    if (!begin_change(&p, d, key, &local))
        return DICT_FAILED;
    p.locked = true;
    qc_lock_acquire(&d->map.lock);
    keytable_result r = find_locked(&p, (uint64_t)hash, &pos);
    if (r != KEYTABLE_HIT) {
        qc_lock_release(&d->map.lock);
        return r == KEYTABLE_MISS ? DICT_ABSENT : DICT_FAILED;
    }
    dict_result result = remove_locked(d, local, &pos, &word, &stored);
    if (result != DICT_FOUND)
        return result;
    refs_release(stored);
    if (value == NULL)
        refs_release(word);
    else if ((*value = refs_object(word)) == NULL)
        return DICT_FAILED;
    return DICT_FOUND;
}

PyObject *
dict_remove_last(dict_object *d)
{
    probe_ctx p;
    retire_local *local;
    keytable_pos pos;
    qc_word word, key;
    if (!begin_change(&p, d, NULL, &local))
        return NULL;
    qc_lock_acquire(&d->map.lock);
    if (!keytable_find_last(&d->map, &pos)) {
        qc_lock_release(&d->map.lock);
        return NULL;
    }
    if (remove_locked(d, local, &pos, &word, &key) != DICT_FOUND)
        return NULL;
    PyObject *value = refs_object(word);
    PyObject *pair = value == NULL ? NULL : PyTuple_Pack(2, word_to_pointer(key), value);
    Py_XDECREF(value);
    refs_release(key);
    return pair;
}

/* Under the lock, for a key that K2's way could not reach: frozen, or not found
 * without it. */
static dict_result
replace_locked(probe_ctx *p, retire_local *local, uint64_t hash, qc_word expected, qc_word word)
{
    dict_object *d = p->d;
    keytable_pos pos;
    unlinked u;
    dict_result result = DICT_ABSENT;
    qc_lock_acquire(&d->map.lock);
    keytable_result r = find_locked(p, hash, &pos);
    if (r != KEYTABLE_HIT) {
        qc_lock_release(&d->map.lock);
        return r == KEYTABLE_MISS ? DICT_ABSENT : DICT_FAILED;
    }
    if (!prepare(d, &u, local)) {
        qc_lock_release(&d->map.lock);
        PyErr_NoMemory();
        return DICT_FAILED;
    }
    /* A CAS here too: assignments without the lock go on beside it. */
    qc_word seen = expected;
    if (keytable_assign(pos.entry, &seen, word)) {
        unlink_ref(&u, expected);
        result = DICT_FOUND;
    }
    qc_lock_release(&d->map.lock);
    drop_unlinked(&u);
    return result;
}

dict_result
dict_replace_word(dict_object *d, PyObject *key, Py_hash_t hash, qc_word expected, qc_word word)
{
    probe_ctx p;
    retire_local *local;
    if (!begin_change(&p, d, key, &local))
        return DICT_FAILED;
    if (looks_shared(d)) {
        replace_result r = replace_unlocked(&p, local, (uint64_t)hash, &expected, word);
        if (r == REPLACED)
            return DICT_FOUND;
        if (r == NOT_REPLACED)
            return DICT_ABSENT;
        if (r == REPLACE_FAILED)
            return DICT_FAILED;
    }
    p.locked = true;
    return replace_locked(&p, local, (uint64_t)hash, expected, word);
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
        qc_word seen = pos.word;
        while (word_is_live(seen) && !refs_word_is_object(seen) && word_is_int(seen)) {
            *result = word_to_int(seen) + delta; /* 51 bits and 51 bits: no overflow */
            if (!word_int_fits(*result))
                break;
#ifdef QC_BREAK_INCR_NOT_CAS
            qc_store_release(&pos.entry->value, word_from_int(*result));
            done = DICT_FOUND;
            break;
#endif
            if (keytable_assign(pos.entry, &seen, word_from_int(*result))) {
                done = DICT_FOUND;
                break;
            }
        }
    }
    qsbr_exit(p.rec);
    return r == KEYTABLE_ERROR ? DICT_FAILED : done;
}
