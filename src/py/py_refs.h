/* References and words: the one place that knows how a Python object becomes a
 * word, how a reader gets a reference, and how builds differ in that.
 *
 * Numbers by value (free-threaded builds; QC_NUMBERS_BY_VALUE forces either):
 * an exact int of 51 bits or an exact float that is no NaN lives in the word, and
 * a reader makes a fresh object of it: no reference count is shared.  Everything
 * else is a pointer to an object of which the container has one reference.  How a
 * reader takes another is in py_try.h (K8).
 */
#ifndef PY_REFS_H
#define PY_REFS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/qc_atomic.h"
#include "base/qc_debug.h"
#include "containers/word.h"
#include "py/py_try.h"

#ifndef QC_NUMBERS_BY_VALUE
#ifdef Py_GIL_DISABLED
#define QC_NUMBERS_BY_VALUE 1
#else
#define QC_NUMBERS_BY_VALUE 0
#endif
#endif

/* Exact ints of one digit (30 bits), where the interpreter lets us see them. */
#if PY_VERSION_HEX >= 0x030C0000
#define REFS_SMALL_INTS 1

QC_INLINE bool
refs_int_is_small(PyObject *op)
{
    return PyUnstable_Long_IsCompact((const PyLongObject *)op);
}

QC_INLINE Py_ssize_t
refs_small_int(PyObject *op)
{
    return PyUnstable_Long_CompactValue((const PyLongObject *)op);
}

/* As documented for numeric types: the value itself, but -1 is an error's. */
QC_INLINE Py_hash_t
refs_small_int_hash(PyObject *op)
{
    Py_ssize_t value = refs_small_int(op);
    return qc_likely(value != -1) ? value : -2;
}
#endif

/* Whether `value` is a number that a word holds; then *word is it. */
static inline bool
refs_number_word(PyObject *value, qc_word *word)
{
#if QC_NUMBERS_BY_VALUE
    if (PyLong_CheckExact(value)) {
#ifdef REFS_SMALL_INTS
        /* Without a call.  The interpreter decides how large a small int can be, so the
         * range is checked. */
        if (qc_likely(refs_int_is_small(value) && word_int_fits(refs_small_int(value)))) {
            *word = word_from_int(refs_small_int(value));
            return true;
        }
#endif
        int overflow;
        long long v = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow == 0 && word_int_fits(v)) {
            *word = word_from_int(v);
            return true;
        }
    }
    else if (PyFloat_CheckExact(value)) {
        double d = PyFloat_AS_DOUBLE(value);
        if (d == d) {
            *word = word_from_double(d);
            return true;
        }
    }
#else
    (void)value;
    (void)word;
#endif
    return false;
}

/* The same without a call: false if it takes one to tell (an int of more than 30 bits). */
QC_INLINE bool
refs_word_at_once(PyObject *value, qc_word *word)
{
#if QC_NUMBERS_BY_VALUE
    if (PyLong_CheckExact(value)) {
#ifdef REFS_SMALL_INTS
        if (qc_likely(refs_int_is_small(value) && word_int_fits(refs_small_int(value)))) {
            *word = word_from_int(refs_small_int(value));
            return true;
        }
#endif
        return false;
    }
    if (PyFloat_CheckExact(value)) {
        double d = PyFloat_AS_DOUBLE(value);
        *word = d == d ? word_from_double(d) : word_from_pointer(value);
        return true;
    }
#endif
    *word = word_from_pointer(value);
    return true;
}

/* A word for `value`; where that is a pointer it owns a new reference, and readers may
 * find it.  Cannot fail, runs no Python code. */
static inline qc_word
refs_new_word(PyObject *value)
{
    qc_word word;
    if (refs_number_word(value, &word))
        return word;
    Py_INCREF(value);
    refs_enable(value);
    return word_from_pointer(value);
}

/* The same, taking over the caller's reference. */
static inline qc_word
refs_given_word(PyObject *value)
{
    qc_word word;
    if (refs_number_word(value, &word)) {
        Py_DECREF(value); /* an exact int or float: runs no Python code */
        return word;
    }
    refs_enable(value);
    return word_from_pointer(value);
}

/* Only the word for `value`, to compare with others. */
static inline qc_word
refs_borrowed_word(PyObject *value)
{
    qc_word word;
    return refs_number_word(value, &word) ? word : word_from_pointer(value);
}

static inline bool
refs_word_is_object(qc_word word)
{
    return !QC_NUMBERS_BY_VALUE || word_is_pointer(word);
}

/* Another reference, the caller's own, to what cannot be dropped meanwhile: the caller has
 * one, or the container's lock and nobody assigns without it, or it is a key's word. */
QC_INLINE void
refs_retain(qc_word word)
{
    if (refs_word_is_object(word))
        Py_INCREF((PyObject *)word_to_pointer(word));
}

/* Neither under a lock nor in a section: may run Python code. */
static inline void
refs_release(qc_word word)
{
    if (refs_word_is_object(word))
        Py_DECREF((PyObject *)word_to_pointer(word));
}

/* The object for a retained word: takes over its reference.  NULL with
 * MemoryError. Not in a section: allocates. */
QC_INLINE PyObject *
refs_object(qc_word word)
{
    if (qc_likely(refs_word_is_object(word)))
        return (PyObject *)word_to_pointer(word);
    if (word_is_int(word))
        return PyLong_FromLongLong(word_to_int(word));
    return PyFloat_FromDouble(word_to_double(word));
}

/* retire_fn: the container's reference to a key (K8). */
static inline void
refs_release_item(uint64_t word)
{
    refs_release(word);
}

/* T3: what a key takes, or about that: of other types than these it is not known. */
#define REFS_FLAT_BYTES ((size_t)64)

static inline size_t
refs_key_bytes(qc_word word)
{
    PyObject *key = word_to_pointer(word);
    if (PyBytes_CheckExact(key))
        return sizeof(PyBytesObject) + (size_t)PyBytes_GET_SIZE(key);
    if (!PyUnicode_CheckExact(key))
        return REFS_FLAT_BYTES;
    size_t length = (size_t)PyUnicode_GET_LENGTH(key) + 1;
    return PyUnicode_IS_COMPACT_ASCII(key)
               ? sizeof(PyASCIIObject) + length
               : sizeof(PyCompactUnicodeObject) + length * PyUnicode_KIND(key);
}

/* The hash of a key.  An exact str keeps it in PyASCIIObject.hash, which has no
 * public accessor: -1 means not computed yet.  relaxed: any thread that computes
 * it stores the same value. */
QC_INLINE Py_hash_t
refs_known_hash(PyObject *str)
{
    return qc_load_relaxed_plain(&((PyASCIIObject *)str)->hash);
}

QC_INLINE Py_hash_t
refs_hash(PyObject *key)
{
    if (qc_likely(PyUnicode_CheckExact(key))) {
        Py_hash_t hash = refs_known_hash(key);
        if (qc_likely(hash != -1))
            return hash;
    }
    return PyObject_Hash(key);
}

QC_INLINE bool
refs_8_bytes_equal(const char *a, const char *b)
{
    uint64_t x, y;
    memcpy(&x, a, 8);
    memcpy(&y, b, 8);
    return x == y;
}

/* Are the n bytes the same?  Keys are short, and a call would cost the probe loop
 * its registers: by loads of 8 bytes, the last of which may overlap. */
QC_INLINE bool
refs_bytes_equal(const char *a, const char *b, size_t n)
{
    if (qc_likely(n >= 8)) { /* to 16 without a loop */
        size_t last = n - 8;
        if (!refs_8_bytes_equal(a, b))
            return false;
        for (size_t i = 8; i < last; i += 8)
            if (!refs_8_bytes_equal(a + i, b + i))
                return false;
        return refs_8_bytes_equal(a + last, b + last);
    }
    if (n >= 4) {
        uint32_t x[2], y[2];
        memcpy(&x[0], a, 4);
        memcpy(&y[0], b, 4);
        memcpy(&x[1], a + n - 4, 4);
        memcpy(&y[1], b + n - 4, 4);
        return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
    }
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

/* Whether it is an exact str of ASCII, whose characters stand behind PyASCIIObject.  From
 * 3.12 on all exact str of ASCII are like that; before, old functions of the C API made
 * others, and those of subclasses are others always. */
QC_INLINE bool
refs_is_ascii(PyObject *op)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyUnicode_CheckExact(op) && PyUnicode_IS_ASCII(op);
#else
    return PyUnicode_CheckExact(op) && PyUnicode_IS_COMPACT_ASCII(op);
#endif
}

/* Two compact ASCII str. */
QC_INLINE bool
refs_ascii_equal(PyObject *a, PyObject *b)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(a);
    return length == PyUnicode_GET_LENGTH(b) &&
           refs_bytes_equal((const char *)((PyASCIIObject *)a + 1),
                            (const char *)((PyASCIIObject *)b + 1), (size_t)length);
}

/* Two str, of subclasses too: same contents?  No reference count, no Python code. */
QC_INLINE bool
refs_str_equal(PyObject *a, PyObject *b)
{
    if (qc_likely(PyUnicode_IS_COMPACT_ASCII(a) && PyUnicode_IS_COMPACT_ASCII(b)))
        return refs_ascii_equal(a, b);
    Py_ssize_t length = PyUnicode_GET_LENGTH(a);
    return length == PyUnicode_GET_LENGTH(b) && PyUnicode_KIND(a) == PyUnicode_KIND(b) &&
           memcmp(PyUnicode_DATA(a), PyUnicode_DATA(b), (size_t)length * PyUnicode_KIND(a)) == 0;
}

/* Two exact int.  Those of a word are told apart inline where the interpreter lets us
 * see them; else by int's own comparison, which is C and refers to nothing but the two
 * (and returns one of the immortal or static bools).  Only large ones can share a hash
 * with many others, and converting these first would cost more than comparing them. */
QC_INLINE bool
refs_int_equal(PyObject *a, PyObject *b)
{
#ifdef REFS_SMALL_INTS
    if (refs_int_is_small(a) && refs_int_is_small(b))
        return refs_small_int(a) == refs_small_int(b);
#endif
    PyObject *result = PyLong_Type.tp_richcompare(a, b, Py_EQ);
    bool equal = result == Py_True;
    Py_XDECREF(result);
    return equal;
}

/* What two keys are to each other, as far as it takes no Python code to tell. */
typedef enum { REFS_EQUAL, REFS_DIFFERENT, REFS_UNKNOWN } refs_comparison;

/* By the function that compares, which subclasses inherit if they have no __eq__ of
 * their own: of the builtin types it is known what it does. */
QC_INLINE bool
refs_both_compare_as(PyObject *a, PyObject *b, PyTypeObject *type)
{
    return Py_TYPE(a)->tp_richcompare == type->tp_richcompare &&
           Py_TYPE(b)->tp_richcompare == type->tp_richcompare;
}

/* Two items of tuples, in a section or under a lock. */
static inline refs_comparison
refs_compare_items(PyObject *a, PyObject *b)
{
    bool equal = a == b;
    if (equal)
        return REFS_EQUAL;
    if (refs_both_compare_as(a, b, &PyUnicode_Type))
        equal = refs_str_equal(a, b);
    else if (refs_both_compare_as(a, b, &PyLong_Type))
        equal = refs_int_equal(a, b);
    else if (refs_both_compare_as(a, b, &PyFloat_Type))
        equal = PyFloat_AS_DOUBLE(a) == PyFloat_AS_DOUBLE(b);
    else
        return REFS_UNKNOWN;
    return equal ? REFS_EQUAL : REFS_DIFFERENT;
}

/* Tuples of up to so many are compared without their __eq__ (Q2). */
#define REFS_TUPLE_ITEMS 16

/* Two keys, in a section or under a lock. */
static inline refs_comparison
refs_compare(PyObject *a, PyObject *b)
{
    if (!refs_both_compare_as(a, b, &PyTuple_Type))
        return refs_compare_items(a, b);
    Py_ssize_t n = PyTuple_GET_SIZE(a);
    if (n != PyTuple_GET_SIZE(b) || n > REFS_TUPLE_ITEMS)
        return REFS_UNKNOWN;
    for (Py_ssize_t i = 0; i < n; i++) {
        refs_comparison r = refs_compare_items(PyTuple_GET_ITEM(a, i), PyTuple_GET_ITEM(b, i));
        if (r != REFS_EQUAL)
            return r;
    }
    return REFS_EQUAL;
}

/* A list of somebody else's stays as it is from BEGIN to END, which are in one block;
 * in between no Python code runs, or it would not. */
#if PY_VERSION_HEX >= 0x030D0000
#define REFS_BEGIN_LIST(op) Py_BEGIN_CRITICAL_SECTION(op)
#define REFS_END_LIST() Py_END_CRITICAL_SECTION()
#else
#define REFS_BEGIN_LIST(op) {
#define REFS_END_LIST() }
#endif

/* Deferred reference counting, where the interpreter has it (3.14+, free
 * threaded).  Only the collector frees such an object: true if it is one now.
 *
 * Not of an object whose two counts have been merged into one (the lowest two bits of
 * ob_ref_shared are set; no public function tells): garbage that the collector is finalizing is such a one,
 * its finalizers may come here, and the large number that deferral adds to the count makes
 * the collector take garbage for something immortal, which it and all below it then are.
 * No collector can merge between the look and the call: it stops the threads first, and
 * this one does not stop in between. */
static inline bool
refs_enable_deferred(PyObject *op)
{
#ifdef Py_GIL_DISABLED
    Py_ssize_t count = qc_load_relaxed_plain(&op->ob_ref_shared);
    bool merged = (count & 3) == 3;
    return !merged && PyObject_GC_IsTracked(op) && PyUnstable_Object_EnableDeferredRefcount(op);
#else
    (void)op;
    return false;
#endif
}

#endif
