/* What can be told of two words without Python code: whether their values are equal.
 *
 * Identity, exact str, numbers, and objects without an __eq__ of their own (None is one),
 * which is what most containers hold.  No reference count is touched and no memory asked
 * for, so it may be asked under a container's lock; who holds none asks __eq__ about the
 * rest. */
#ifndef PY_WORDS_H
#define PY_WORDS_H

#include "py/py_refs.h"

#include <float.h>

typedef enum { MATCH_NO, MATCH_YES, MATCH_ASK } word_match;

typedef enum {
    KIND_ODD, /* may have any __eq__, or is too large to look at under a lock */
    KIND_STR,
    KIND_INT,
    KIND_FLOAT,
    KIND_IDENTITY, /* equal to itself, to nothing else here */
} word_kind;

/* A word, looked at. */
typedef struct {
    qc_word word;
    word_kind kind;
    int64_t as_int;  /* KIND_INT */
    double as_float; /* KIND_FLOAT */
} word_value;

/* Longer ones are odd. */
#define WORDS_STR_MAX 4096

QC_INLINE word_kind
words_kind(qc_word word, int64_t *as_int, double *as_float)
{
    if (!refs_word_is_object(word)) {
        if (word_is_int(word)) {
            *as_int = word_to_int(word);
            return KIND_INT;
        }
        *as_float = word_to_double(word);
        return KIND_FLOAT;
    }
    PyObject *op = word_to_pointer(word);
#if PY_VERSION_HEX < 0x030C0000
    /* One of the old kind, whose characters are still in wchar_t: __eq__ converts it. */
    if (PyUnicode_CheckExact(op) && qc_unlikely(!PyUnicode_IS_READY(op)))
        return KIND_ODD;
#endif
    if (PyUnicode_CheckExact(op))
        return PyUnicode_GET_LENGTH(op) <= WORDS_STR_MAX ? KIND_STR : KIND_ODD;
    if (PyLong_CheckExact(op) || PyBool_Check(op)) {
        int overflow;
        *as_int = PyLong_AsLongLongAndOverflow(op, &overflow);
        return overflow == 0 ? KIND_INT : KIND_ODD;
    }
    if (PyFloat_CheckExact(op)) {
        *as_float = PyFloat_AS_DOUBLE(op);
        return KIND_FLOAT;
    }
    richcmpfunc compare = Py_TYPE(op)->tp_richcompare;
    if (compare == NULL || compare == PyBaseObject_Type.tp_richcompare)
        return KIND_IDENTITY;
    return KIND_ODD;
}

/* Of a live word whose object, if it is one, somebody has a reference to. */
static inline word_value
word_value_of(qc_word word)
{
    word_value v = {.word = word};
    v.kind = words_kind(word, &v.as_int, &v.as_float);
    return v;
}

static inline word_match
words_int_is_float(int64_t i, double d)
{
    const int64_t exact = (int64_t)1 << DBL_MANT_DIG;
    return i < -exact || i > exact ? MATCH_ASK : (double)i == d ? MATCH_YES : MATCH_NO;
}

/* Words that are not the same. */
static inline word_match
words_compare(const word_value *a, qc_word word)
{
    int64_t as_int = 0;
    double as_float = 0;
    word_kind kind = words_kind(word, &as_int, &as_float);
    if (kind == KIND_ODD || a->kind == KIND_ODD)
        return MATCH_ASK;
    if (kind == KIND_INT && a->kind == KIND_FLOAT)
        return words_int_is_float(as_int, a->as_float);
    if (kind == KIND_FLOAT && a->kind == KIND_INT)
        return words_int_is_float(a->as_int, as_float);
    if (kind != a->kind)
        return MATCH_NO;
    bool same = kind == KIND_INT     ? as_int == a->as_int
                : kind == KIND_FLOAT ? as_float == a->as_float
                : kind == KIND_STR ? refs_str_equal(word_to_pointer(word), word_to_pointer(a->word))
                                   : false;
    return same ? MATCH_YES : MATCH_NO;
}

/* Identity first, as everywhere; and most containers are of one kind. */
QC_INLINE word_match
words_match(const word_value *a, qc_word word)
{
    if (word == a->word)
        return MATCH_YES;
    if (a->kind == KIND_INT && !refs_word_is_object(word) && word_is_int(word) &&
        !refs_word_is_object(a->word))
        return MATCH_NO;
    return words_compare(a, word);
}

/* The rest: the object of `word`, whose reference is the caller's, == value.  1, 0, or -1
 * with an exception. */
static inline int
words_equal(qc_word word, PyObject *value)
{
    if (refs_word_is_object(word))
        return PyObject_RichCompareBool(word_to_pointer(word), value, Py_EQ);
    PyObject *item = refs_object(word);
    int equal = item == NULL ? -1 : PyObject_RichCompareBool(item, value, Py_EQ);
    Py_XDECREF(item);
    return equal;
}

#endif
