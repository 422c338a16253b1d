/* All of a ConcurrentDict at one moment (K7), and its end. */
#include "py/py_dict_probe.h"

#include <stdlib.h>

/* ---- dropping a whole table ---- */

/* Drops keys, values and table, which no reader reads any more: of a table that is not
 * shared, or a moment.  An iterator may still pin the memory; it uses addresses only, since
 * the table is not current. */
static void
drop_table(keytable *t)
{
    keytable_entry *entries = keytable_entries(t);
    uint32_t used = qc_load_relaxed(&keytable_counts(t)->used);
    for (uint32_t i = 0; i < used; i++) {
        qc_word word = qc_load_relaxed(&entries[i].value);
        if (!word_is_live(word))
            continue;
        refs_release(word);
        refs_release(entries[i].key);
    }
    keytable_unref(t);
}

static void
release_key(void *ctx, qc_word key)
{
    (void)ctx;
    refs_release(key);
}

/* retire_fn: the keys of a cleared table, and the map's reference to it. */
static void
drop_keys_item(uint64_t arg)
{
    keytable *t = word_to_pointer(arg);
    keytable_each_key(t, release_key, NULL);
    keytable_unref(t);
}

static void
add_key_bytes(void *ctx, qc_word key)
{
    *(size_t *)ctx += refs_key_bytes(key);
}

/* K8, after unlocking, with a reference to a table that was cleared: each value dies here,
 * once readers that still have the table find DELETED in its place. */
static void
drop_values(keytable *t)
{
    uint32_t used = qc_load_relaxed(&keytable_counts(t)->used);
    for (uint32_t i = 0; i < used; i++) {
#ifdef QC_BREAK_VALUE_DROPPED_FIRST
        qc_word word = qc_load_relaxed(&keytable_entries(t)[i].value);
#else
        qc_word word = keytable_take_word(t, i);
#endif
        if (word_is_live(word))
            refs_release(word);
    }
    keytable_unref(t);
}

/* After unlocking, and the end of what was reserved: a table that was cleared while others
 * may read it.  What waits for them is the table with its keys, and while this thread
 * drops the values it has a reference of its own. */
static void
drop_shared(retire_local *local, keytable *t)
{
    size_t bytes = t->bytes;
    keytable_each_key(t, add_key_bytes, &bytes);
    keytable_hold(t);
    retire_block(local, drop_keys_item, word_from_pointer(t), bytes);
    retire_commit(local);
    drop_values(t);
}

/* No other thread has the dict, so if its lock is held, then by a thread that a fork left
 * behind (Q10). */
static void
mend_alone(dict_object *d)
{
    if (qc_unlikely(qc_lock_is_held(&d->map.lock))) {
        (void)qc_lock_acquire(&d->map.lock);
        keytable *old = keytable_mend(&d->map);
        dict_unlock(d);
        if (old != NULL)
            keytable_unref(old);
    }
}

void
dict_drop_table(dict_object *d)
{
    keytable *t = keytable_exclusive(&d->map);
    if (t != NULL) {
        mend_alone(d);
        t = keytable_exclusive(&d->map);
    }
    if (t != NULL) {
        qc_store_relaxed(&d->map.table.published, NULL);
        drop_table(t);
    }
}

/* For the collector.  Only finalizers can reach the dict any more, and they may insert pairs.
 * So each pair is taken out before it is dropped, and no more pairs than there were. */
int
dict_tp_clear(PyObject *self)
{
    dict_object *d = dict_of(self);
    if (keytable_exclusive(&d->map) == NULL)
        return 0;
    mend_alone(d);
    for (uint64_t n = qc_load_relaxed(&d->map.live); n > 0; n--) {
        keytable_pos pos;
        qc_word word = WORD_EMPTY;
        dict_lock(d);
        bool found = keytable_find_last(&d->map, &pos);
        qc_word key = found ? pos.entry->key : WORD_EMPTY;
        if (found)
            word = keytable_delete(&d->map, &pos);
        dict_unlock(d);
        if (!found)
            break;
        refs_release(word);
        refs_release(key);
    }
    Py_XDECREF(qc_exchange_acq_rel(&d->creators, NULL));
    return 0;
}

/* ---- one moment ---- */

static qsbr_record *
begin(dict_object *d, retire_local **local)
{
    qsbr_record *rec = threads_begin((PyObject *)d, d->state, &d->sharing, &d->map.lock);
    *local = rec != NULL ? threads_local(d->state) : NULL;
    return *local != NULL ? rec : NULL;
}

int
dict_clear_all(dict_object *d)
{
    retire_local *local;
    if (begin(d, &local) == NULL || limits_room(d->state) < 0)
        return -1;
    keytable *old = NULL, *empty = keytable_new_empty(d->state->heap);
    if (empty == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    dict_frozen f;
    if (dict_lock_frozen(d, &f) < 0) {
        keytable_unref(empty);
        return -1;
    }
    bool possible = !f.shared || retire_reserve(local, 1);
    if (possible) {
        old = keytable_swap(&d->map, empty);
        sharing_resized(d->state, &d->sharing, empty->bytes);
    }
    dict_unlock_frozen(d, &f);
    if (possible && f.shared)
        drop_shared(local, old);
    else if (possible)
        drop_table(old);
    if (possible)
        return 0;
    keytable_unref(empty);
    PyErr_NoMemory();
    return -1;
}

int
dict_fill_empty(dict_object *d, keytable *t)
{
    retire_local *local;
    if (begin(d, &local) == NULL || limits_room(d->state) < 0)
        return -1;
    keytable *old = NULL;
    dict_lock(d);
    bool shared = sharing_is_shared(&d->sharing);
    bool reserved = shared && retire_reserve(local, 1);
    if ((reserved || !shared) && qc_load_relaxed(&d->map.live) == 0) {
        old = keytable_swap(&d->map, t);
        sharing_resized(d->state, &d->sharing, t->bytes);
        if (shared)
            retire_block(local, drop_keys_item, word_from_pointer(old), old->bytes); /* none */
    }
    dict_unlock(d);
    if (reserved)
        retire_commit(local);
    if (old != NULL && !shared)
        drop_table(old);
    return old != NULL;
}

/* With the lock, frozen if shared.  The references can be taken because the container holds
 * one to each object and drops none before the lock is released. */
static keytable *
copy_live(dict_object *d)
{
    keytable *copy = keytable_copy(&d->map);
    if (copy == NULL)
        return NULL;
    keytable_entry *entries = keytable_entries(copy);
    uint32_t used = qc_load_relaxed(&keytable_counts(copy)->used);
    for (uint32_t i = 0; i < used; i++) {
        refs_retain(qc_load_relaxed(&entries[i].value));
        refs_retain(entries[i].key);
    }
    qc_assert(used == qc_load_relaxed(&d->map.live));
    return copy;
}

keytable *
dict_moment(dict_object *d)
{
    retire_local *local;
    dict_frozen f;
    if (begin(d, &local) == NULL || dict_lock_frozen(d, &f) < 0)
        return NULL;
    keytable *copy = copy_live(d);
    dict_unlock_frozen(d, &f);
    if (copy == NULL)
        PyErr_NoMemory();
    return copy;
}

void
dict_moment_drop(keytable *t)
{
    drop_table(t);
}

/* ---- what it holds (T7) ---- */

/* Of every so many entries one, each in a section of its own (Q2). */
size_t
dict_held_bytes(PyObject *op, qsbr_record *rec)
{
    dict_object *d = dict_of(op);
    size_t bytes = 0, step = 1;
    for (unsigned n = 0; n < SHARING_SAMPLE; n++) {
        qc_word word = WORD_EMPTY;
        refs_got got = REFS_GONE;
        qsbr_enter(rec);
        keytable *t = keytable_in_section(&d->map, rec);
        uint32_t used = qc_load_acquire(&keytable_counts(t)->used);
        if (n == 0)
            step = used / SHARING_SAMPLE + 1;
        if (n * step < used) {
            keytable_entry *e = &keytable_entries(t)[n * step];
            word = qc_load_acquire(&e->value);
            if (word_is_live(word) && refs_word_is_object(word))
                got = dict_hold(e, word);
        }
        qsbr_exit(rec);
        if (got == REFS_HELD)
            bytes += threads_value_bytes(word_to_pointer(word));
        if (got != REFS_GONE)
            refs_release(word);
    }
    return bytes * step;
}
