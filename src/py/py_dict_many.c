/* ConcurrentDict.get_many: a section for many keys, and one look at whose dict it is, where
 * single reads have as many of both.  What takes a call (a number that this thread keeps no
 * object of, a key that is not simple) is left until the section is over. */
#include "py/py_dict_probe.h"
#include "py/py_methods.h"
#include "py/py_numbers.h"

/* A section is so many probes long at most (Q2). */
#define MANY 32

/* What a section has left to be done: a bit for each key, the first one's is the lowest. */
typedef struct {
    uint32_t numbers; /* there, a number, of which this thread keeps no object */
    uint32_t absent;
    uint32_t alone;      /* to be looked up by itself */
    uint32_t late;       /* of those: what was held too late is to be let go of (K8) */
    qc_word words[MANY]; /* of numbers, and what is late */
} many_left;

/* In a section: the object's word, with a reference (K8).  WORD_MOVED: it is gone;
 * WORD_DELETED: the reference to *late came too late. */
QC_INLINE qc_word
hold_one(const keytable_entry *e, qc_word word, qc_word *late)
{
    refs_got got = dict_hold(e, word);
    if (qc_likely(got == REFS_HELD))
        return word;
    if (got == REFS_GONE)
        return WORD_MOVED;
    *late = word;
    return WORD_DELETED;
}

/* In a section: the live word, retained if it is to be looked at again, WORD_EMPTY if the key
 * is not there, WORD_MOVED if this is not the way to tell, WORD_DELETED as above. */
QC_INLINE qc_word
look_up_one_by(keytable *t, PyObject *key, qc_word *late)
{
    if (qc_unlikely(!refs_is_ascii(key)))
        return WORD_MOVED;
    Py_hash_t hash = refs_known_hash(key);
    if (qc_unlikely(hash == -1))
        return WORD_MOVED;
    keytable_pos pos;
    keytable_result r = keytable_probe_once(t, (uint64_t)hash, match_ascii, key, &pos);
    if (REFS_LOOK_AGAIN && qc_likely(r == KEYTABLE_HIT) && refs_word_is_object(pos.word))
        return hold_one(pos.entry, pos.word, late);
    return qc_likely(r == KEYTABLE_HIT) ? pos.word : r == KEYTABLE_MISS ? WORD_EMPTY : WORD_MOVED;
}

/* Calls: the loop below has its own use for the registers. */
QC_WORDS_ONLY static QC_NOINLINE qc_word
look_up_one(keytable *t, PyObject *key)
{
    return look_up_one_by(t, key, NULL);
}

QC_WORDS_ONLY static QC_NOINLINE qc_word
look_up_and_hold(keytable *t, PyObject *key, qc_word *late)
{
    return look_up_one_by(t, key, late);
}

/* The keys of one section: exact str of ASCII whose hash is known.  A new reference in
 * items[i] for each that is there and whose object takes no memory and no call. */
QC_WORDS_ONLY static void
look_up_many(dict_object *d, qsbr_record *rec, PyObject **keys, Py_ssize_t n, PyObject **items,
             many_left *left)
{
    numbers *kept = numbers_cache(d->state);
    left->numbers = left->absent = left->alone = left->late = 0;
    qsbr_enter(rec);
    keytable *t = keytable_in_section(&d->map, rec);
    for (Py_ssize_t i = 0; i < n; i++) {
        qc_word word = REFS_LOOK_AGAIN ? look_up_and_hold(t, keys[i], &left->words[i])
                                       : look_up_one(t, keys[i]);
        if (qc_likely(word_is_live(word))) {
            if (!REFS_LOOK_AGAIN)
                refs_retain(word);
            items[i] = numbers_object_kept(kept, word);
            if (qc_likely(items[i] != NULL))
                continue;
            left->words[i] = word;
            left->numbers |= (uint32_t)1 << i;
        }
        else if (word == WORD_EMPTY) {
            left->absent |= (uint32_t)1 << i;
        }
        else {
            left->alone |= (uint32_t)1 << i;
            if (word == WORD_DELETED)
                left->late |= (uint32_t)1 << i;
        }
    }
    qsbr_exit(rec);
}

/* What is left to be done for keys[0..n): 0, or -1 with an exception. */
static QC_NOINLINE int
get_rest(dict_object *d, PyObject **keys, Py_ssize_t n, PyObject *fallback, PyObject **items,
         const many_left *left)
{
    for (Py_ssize_t i = 0; left->late != 0 && i < n; i++)
        if (left->late & ((uint32_t)1 << i))
            refs_release(left->words[i]);
    for (Py_ssize_t i = 0; i < n; i++) {
        uint32_t bit = (uint32_t)1 << i;
        dict_result r = DICT_FOUND;
        if (left->numbers & bit) {
            items[i] = numbers_object(d->state, left->words[i]);
            if (items[i] == NULL)
                return -1;
        }
        else if (left->alone & bit) {
            Py_hash_t hash = dict_hash(keys[i]);
            PyObject *value = NULL;
            r = hash == -1 ? DICT_FAILED : dict_lookup(d, keys[i], hash, &value);
            if (r == DICT_FAILED)
                return -1;
            items[i] = value;
        }
        if (r == DICT_ABSENT || (left->absent & bit))
            items[i] = Py_NewRef(fallback);
    }
    return 0;
}

/* The results for keys[0..n) go into items[0..n), which are NULL: 0, or -1 with an
 * exception. */
static int
get_some(dict_object *d, PyObject **keys, Py_ssize_t n, PyObject *fallback, PyObject **items)
{
    many_left left;
    qsbr_record *rec = threads_begin((PyObject *)d, d->state, &d->sharing, &d->map.lock);
    if (rec == NULL)
        return -1;
    look_up_many(d, rec, keys, n, items, &left);
    if (qc_likely((left.numbers | left.absent | left.alone) == 0))
        return 0;
    return get_rest(d, keys, n, fallback, items, &left);
}

const char dict_get_many_doc[] =
    "get_many($self, keys, default=None)\n--\n\n"
    "A list with the value for each of keys, or default. Each value is read as by get,\n"
    "without a lock; the whole is not a snapshot. Cheaper than so many calls.";

PyObject *
dict_get_many(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    static const char *const names[] = {"keys", "default"};
    PyObject *a[2] = {NULL, Py_None};
    if (!methods_parse_args("get_many", names, 1, 2, args, n, kwnames, a))
        return NULL;
    /* A tuple stays as it is, whatever the keys' __eq__ does to their list. */
    PyObject *keys = PySequence_Tuple(a[0]);
    if (keys == NULL)
        return NULL;
    Py_ssize_t size = PyTuple_GET_SIZE(keys);
    PyObject *list = PyList_New(size);
    if (list != NULL)
        PyObject_GC_UnTrack(list); /* an __eq__ that asks the collector must not see its holes */
    for (Py_ssize_t at = 0; list != NULL && at < size; at += MANY) {
        Py_ssize_t some = size - at < MANY ? size - at : MANY;
        if (get_some(dict_of(self), &PyTuple_GET_ITEM(keys, at), some, a[1],
                     PySequence_Fast_ITEMS(list) + at) < 0)
            Py_CLEAR(list);
    }
    Py_DECREF(keys);
    if (list != NULL)
        PyObject_GC_Track(list);
    return list;
}
