/* Reading a ConcurrentDict: no lock (K1). */
#include "py/py_dict_probe.h"
#include "py/py_methods.h"
#include "py/py_numbers.h"

/* ---- __eq__ ---- */

static void
leave(const probe_ctx *p)
{
    if (p->locked)
        dict_unlock(p->d);
    else
        qsbr_exit(p->rec);
}

static keytable *
come_back(const probe_ctx *p)
{
    if (p->locked) {
        dict_lock(p->d);
        return keytable_locked(&p->d->map);
    }
    qsbr_enter(p->rec);
    return keytable_in_section(&p->d->map, p->rec);
}

keytable_result
dict_match_by_eq(probe_ctx by_value, keytable *t, PyObject *theirs, uint32_t slot)
{
    const probe_ctx *p = &by_value;
    refs_comparison known = refs_compare(theirs, p->key);
    if (known != REFS_UNKNOWN)
        return known == REFS_EQUAL ? KEYTABLE_HIT : KEYTABLE_MISS;
    uint64_t id = t->id;
    uint32_t slot_value = qc_load_relaxed(&t->index[slot]);
    Py_INCREF(theirs); /* plain: the table's reference waits for our section */
    leave(p);
    PyObject *result = PyObject_RichCompare(theirs, p->key, Py_EQ);
    int equal = result == NULL ? -1 : result == Py_False ? 0 : PyObject_IsTrue(result);
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

/* K1: the whole read path.  The reference is taken inside the section, and let go of
 * outside if it came too late (K8); what needs an allocation (a number's object) is the
 * caller's, outside. */
QC_INLINE dict_result
lookup_by(dict_object *d, PyObject *key, Py_hash_t hash, keytable_match match, bool retain,
          qc_word *word)
{
    qsbr_record *rec = threads_begin((PyObject *)d, d->state, &d->sharing, &d->map.lock);
    if (qc_unlikely(rec == NULL))
        return DICT_FAILED;
    probe_ctx p = {.key = key, .d = d, .rec = rec, .locked = false};
    keytable_pos pos;
    keytable_result r;
    for (;;) {
        refs_got got = REFS_HELD;
        qsbr_enter(rec);
        r = find_in_section(&p, (uint64_t)hash, match, &pos);
        if (qc_likely(r == KEYTABLE_HIT)) {
            *word = pos.word;
            if (retain)
                got = dict_hold_word(pos.entry, pos.word);
        }
        qsbr_exit(rec);
        if (qc_likely(got == REFS_HELD))
            break;
        if (got == REFS_LATE)
            refs_release(pos.word);
    }
    return qc_likely(r == KEYTABLE_HIT) ? DICT_FOUND
           : r == KEYTABLE_MISS         ? DICT_ABSENT
                                        : DICT_FAILED;
}

static QC_NOINLINE dict_result
lookup_any(dict_object *d, PyObject *key, Py_hash_t hash, bool retain, qc_word *word)
{
    return lookup_by(d, key, hash, match_any, retain, word);
}

/* A read where nothing is in the way: no call from beginning to end, and no store but the
 * section's two (with a GIL: none, T1) and the countdown to the next safe point, so that it
 * needs no frame.
 * FAST_FOUND: an object, and the thread is still in the leaf.  Functions of their own end it
 * with finish_leaf, since a reference takes a call: those which find numbers have nothing to
 * keep for one.
 * NOT_FAST: something else turned up (a safe point is due, a thread's first access, a
 * growing table, a hash shared with a key of another type), and nothing has been done;
 * lookup_any begins anew. */
typedef enum { FAST_HIT, FAST_FOUND, FAST_MISS, NOT_FAST } fast_result;

typedef struct {
    keytable_entry *entry;
    qc_word word;
    qsbr_record *rec;
} fast_found;

/* FAST_FOUND becomes FAST_HIT, or NOT_FAST. */
QC_INLINE fast_result
finish_leaf(const fast_found *f)
{
    refs_got got = dict_hold(f->entry, f->word);
    threads_exit_leaf(f->rec);
    if (qc_likely(got == REFS_HELD))
        return FAST_HIT;
    if (got == REFS_LATE)
        refs_release(f->word);
    return NOT_FAST;
}

QC_INLINE fast_result
lookup_fast(dict_object *d, PyObject *key, Py_hash_t hash, keytable_match match, bool retain,
            fast_found *f)
{
    qsbr_record *rec = threads_begin_fast(&d->sharing);
    if (qc_unlikely(rec == NULL) || !threads_enter_leaf(rec))
        return NOT_FAST;
    keytable_pos pos;
    keytable *t = keytable_in_section(&d->map, rec);
    keytable_result r = keytable_probe_once(t, (uint64_t)hash, match, key, &pos);
    if (qc_likely(r == KEYTABLE_HIT)) {
        f->word = pos.word;
        if (!REFS_LOOK_AGAIN && retain)
            refs_retain(pos.word);
        if (REFS_LOOK_AGAIN && retain && refs_word_is_object(pos.word)) {
            f->entry = pos.entry;
            f->rec = rec;
            return FAST_FOUND;
        }
        threads_exit_leaf(rec);
        return FAST_HIT;
    }
    threads_exit_leaf(rec);
    return r == KEYTABLE_MISS ? FAST_MISS : NOT_FAST;
}

QC_INLINE fast_result
lookup_str(PyObject *self, PyObject *key, bool retain, fast_found *f)
{
    if (qc_unlikely(!refs_is_ascii(key)))
        return NOT_FAST;
    Py_hash_t hash = refs_known_hash(key);
    if (qc_unlikely(hash == -1))
        return NOT_FAST;
    return lookup_fast(dict_of(self), key, hash, match_ascii, retain, f);
}

QC_INLINE fast_result
lookup_int(PyObject *self, PyObject *key, bool retain, fast_found *f)
{
#ifdef REFS_SMALL_INTS
    if (PyLong_CheckExact(key) && qc_likely(refs_int_is_small(key)))
        return lookup_fast(dict_of(self), key, refs_small_int_hash(key), match_small_int, retain,
                           f);
#else
    (void)self;
    (void)key;
    (void)retain;
    (void)f;
#endif
    return NOT_FAST;
}

QC_INLINE dict_result
lookup_word(dict_object *d, PyObject *key, Py_hash_t hash, bool retain, qc_word *word)
{
    fast_found f;
    fast_result r = lookup_str((PyObject *)d, key, retain, &f);
    if (r == FAST_FOUND)
        r = finish_leaf(&f);
    if (qc_likely(r == FAST_HIT))
        *word = f.word;
    return r == FAST_HIT    ? DICT_FOUND
           : r == FAST_MISS ? DICT_ABSENT
                            : lookup_any(d, key, hash, retain, word);
}

dict_result
dict_lookup_word(dict_object *d, PyObject *key, Py_hash_t hash, qc_word *word)
{
    return lookup_word(d, key, hash, true, word);
}

QC_INLINE dict_result
lookup(dict_object *d, PyObject *key, Py_hash_t hash, PyObject **value)
{
    qc_word word;
    dict_result r = lookup_word(d, key, hash, true, &word);
    if (qc_likely(r == DICT_FOUND)) {
        *value = numbers_object(d->state, word);
        if (qc_unlikely(*value == NULL))
            return DICT_FAILED;
    }
    return r;
}

dict_result
dict_lookup(dict_object *d, PyObject *key, Py_hash_t hash, PyObject **value)
{
    return lookup(d, key, hash, value);
}

QC_WORDS_ONLY dict_result
dict_contains_key(dict_object *d, PyObject *key, Py_hash_t hash)
{
    qc_word word; /* nobody's: no reference count is touched */
    return lookup_word(d, key, hash, false, &word);
}

/* ---- what reads, as Python calls it ---- */

void
dict_raise_key_error(PyObject *key)
{
    /* Not PyErr_SetObject(KeyError, key): a tuple would become its arguments. */
    PyObject *error = PyObject_CallOneArg(PyExc_KeyError, key);
    if (error != NULL) {
        PyErr_SetObject(PyExc_KeyError, error);
        Py_DECREF(error);
    }
}

/* What `name` is in the namespace of one class: a new reference, or NULL, with an
 * exception or without. */
static PyObject *
of_class(PyObject *class, PyObject *name)
{
    if (!PyType_Check(class))
        return NULL;
    PyTypeObject *type = (PyTypeObject *)class;
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *names = PyType_GetDict(type), *found; /* tp_dict may be NULL there */
#else
    PyObject *names = Py_NewRef(type->tp_dict), *found;
#endif
#if PY_VERSION_HEX >= 0x030D0000
    (void)PyDict_GetItemRef(names, name, &found);
#else
    found = Py_XNewRef(PyDict_GetItemWithError(names, name));
#endif
    Py_DECREF(names);
    return found;
}

/* The method that a class defines, bound to self: as the interpreter finds special
 * methods, neither among the instance's attributes nor those of the class's class.
 * NULL, with an exception or without. */
static PyObject *
special_method(PyObject *self, const char *name)
{
    PyObject *method = NULL, *type = (PyObject *)Py_TYPE(self);
    PyObject *classes = PyObject_GetAttrString(type, "__mro__");
    PyObject *string = classes == NULL ? NULL : PyUnicode_InternFromString(name);
    /* A metaclass may make anything of __mro__. */
    Py_ssize_t n = string != NULL && PyTuple_Check(classes) ? PyTuple_GET_SIZE(classes) : 0;
    for (Py_ssize_t i = 0; i < n && method == NULL && !PyErr_Occurred(); i++)
        method = of_class(PyTuple_GET_ITEM(classes, i), string);
    Py_XDECREF(string);
    Py_XDECREF(classes);
    if (method != NULL && Py_TYPE(method)->tp_descr_get != NULL)
        Py_SETREF(method, Py_TYPE(method)->tp_descr_get(method, self, type));
    return method;
}

/* KeyError, or what a subclass has to say. */
static QC_NOINLINE PyObject *
missing(PyObject *self, PyObject *key)
{
    PyObject *method = NULL;
    if (Py_TYPE(self) != dict_of(self)->state->dict_type)
        method = special_method(self, "__missing__");
    if (method != NULL) {
        PyObject *value = PyObject_CallOneArg(method, key);
        Py_DECREF(method);
        return value;
    }
    if (!PyErr_Occurred())
        dict_raise_key_error(key);
    return NULL;
}

/* Each in three steps, each of which has only its own locals to keep: a str's read, an
 * int's read, and what may call. */

static QC_NOINLINE PyObject *
subscript_any(PyObject *self, PyObject *key)
{
    PyObject *value;
    Py_hash_t hash = dict_hash(key);
    if (hash == -1)
        return NULL;
    dict_result r = lookup(dict_of(self), key, hash, &value);
    if (r == DICT_FOUND)
        return value;
    return r == DICT_ABSENT ? missing(self, key) : NULL;
}

/* In the leaf in which the word of an object was found. */
QC_WORDS_ONLY static QC_NOINLINE PyObject *
subscript_object(PyObject *self, PyObject *key, keytable_entry *entry, qc_word word,
                 qsbr_record *rec)
{
    const fast_found f = {entry, word, rec};
    if (qc_likely(finish_leaf(&f) == FAST_HIT))
        return word_to_pointer(word);
    return subscript_any(self, key);
}

QC_WORDS_ONLY static QC_NOINLINE PyObject *
subscript_other(PyObject *self, PyObject *key)
{
    fast_found f;
    fast_result r = lookup_int(self, key, true, &f);
    if (qc_likely(r == FAST_HIT))
        return numbers_object(dict_of(self)->state, f.word);
    if (r == FAST_FOUND)
        return subscript_object(self, key, f.entry, f.word, f.rec);
    return subscript_any(self, key);
}

QC_WORDS_ONLY PyObject *
dict_subscript(PyObject *self, PyObject *key)
{
    fast_found f;
    fast_result r = lookup_str(self, key, true, &f);
    if (qc_likely(r == FAST_HIT))
        return numbers_object(dict_of(self)->state, f.word);
    if (qc_likely(r == FAST_FOUND))
        return subscript_object(self, key, f.entry, f.word, f.rec);
    return subscript_other(self, key);
}

static QC_NOINLINE int
contains_any(PyObject *self, PyObject *key)
{
    Py_hash_t hash = dict_hash(key);
    if (hash == -1)
        return -1;
    dict_result r = dict_contains_key(dict_of(self), key, hash);
    return r == DICT_FAILED ? -1 : r == DICT_FOUND;
}

QC_WORDS_ONLY static QC_NOINLINE int
contains_other(PyObject *self, PyObject *key)
{
    fast_found f;
    fast_result r = lookup_int(self, key, false, &f);
    return qc_likely(r != NOT_FAST) ? r == FAST_HIT : contains_any(self, key);
}

QC_WORDS_ONLY int
dict_contains(PyObject *self, PyObject *key)
{
    fast_found f; /* nobody's: no reference count is touched */
    fast_result r = lookup_str(self, key, false, &f);
    return qc_likely(r != NOT_FAST) ? r == FAST_HIT : contains_other(self, key);
}

static QC_NOINLINE PyObject *
get_any(PyObject *self, PyObject *key, PyObject *fallback)
{
    PyObject *value;
    Py_hash_t hash = dict_hash(key);
    if (hash == -1)
        return NULL;
    dict_result r = lookup(dict_of(self), key, hash, &value);
    if (r == DICT_FOUND)
        return value;
    return r == DICT_FAILED ? NULL : Py_NewRef(fallback);
}

QC_WORDS_ONLY static QC_NOINLINE PyObject *
get_object(PyObject *self, PyObject *key, PyObject *fallback, keytable_entry *entry, qc_word word,
           qsbr_record *rec)
{
    const fast_found f = {entry, word, rec};
    if (qc_likely(finish_leaf(&f) == FAST_HIT))
        return word_to_pointer(word);
    return get_any(self, key, fallback);
}

QC_WORDS_ONLY static QC_NOINLINE PyObject *
get_other(PyObject *self, PyObject *key, PyObject *fallback)
{
    fast_found f;
    fast_result r = lookup_int(self, key, true, &f);
    if (qc_likely(r == FAST_HIT))
        return numbers_object(dict_of(self)->state, f.word);
    if (r == FAST_FOUND)
        return get_object(self, key, fallback, f.entry, f.word, f.rec);
    return r == FAST_MISS ? Py_NewRef(fallback) : get_any(self, key, fallback);
}

QC_WORDS_ONLY PyObject *
dict_get(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    fast_found f;
    if (!methods_count_args("get", n, 1, 2))
        return NULL;
    PyObject *key = args[0], *fallback = n == 2 ? args[1] : Py_None;
    fast_result r = lookup_str(self, key, true, &f);
    if (qc_likely(r == FAST_HIT))
        return numbers_object(dict_of(self)->state, f.word);
    if (qc_likely(r == FAST_FOUND))
        return get_object(self, key, fallback, f.entry, f.word, f.rec);
    return r == FAST_MISS ? Py_NewRef(fallback) : get_other(self, key, fallback);
}
