/* How a reader takes a reference to a value that others may be replacing.
 *
 * K8 A value dies when dict's would.  The operation that replaces or removes a value
 *    drops the container's reference itself, after unlocking and outside any section.
 *    So a reader may hold the address of an object that is gone, and takes its reference
 *    in two steps:
 *
 *      reader (in a section)               writer
 *      w = load word
 *      refs_try(w): the count, or fail     word = another     (1)
 *      look again: is w still there?       Py_DECREF(w)       (2)
 *
 *    Why what it gets is right.  Both steps of the writer are ordered, and refs_try and
 *    (2) change the same counter.  If the reader's step comes later than (2), it has seen
 *    (2) and with it (1), and the second look finds another word: the reader lets go and
 *    starts over.  If it comes earlier, the object lives, and the reader has a reference;
 *    whether the second look finds w or not, no freed memory is used.  If the object had
 *    been freed and another lives at its address, refs_try took a reference to that one;
 *    it is returned only if the second look finds its address in the container, and an
 *    object that is held has its address to itself: then that very object is in the
 *    container.  The second look is where the read takes effect.
 *
 *    An object that the reader's own thread owns is counted without an atomic operation:
 *    only its owner frees it, and the owner is in this section.  It cannot have freed it
 *    before the section either.  An address that this thread has been given since by the
 *    allocator was unlinked before it was freed, and freed before it was given; so a
 *    section that begins later does not find it in that place any more.
 *
 *    Partners of the second look are all stores that unlink a word, and each comes before
 *    the drop: dict, the next word, DELETED, or MOVED where the table was replaced
 *    (keytable.h); list, the next word, the lower size, or the next array, so that the
 *    second look at a list is at all three (ptrarray.h).  With a drop first, a reader
 *    could take a reference to whatever has got the address, and find the old word.
 *
 *    Why the counters of an object that is gone may be looked at.  The builtin dict and
 *    list do the same: objects come from the interpreter's own heap, which gives a page
 *    with objects to nothing but objects of that layout while a thread is attached in the
 *    middle of an operation, so the two counters are counters, of the object that was
 *    there or of the next.  (A type whose memory comes from elsewhere is as wrong in a
 *    builtin dict that threads share.)
 *
 *    Even an immortal object needs the second look: its address may have been that of an
 *    object that died, and was in the container when the word was loaded.
 *
 *    Both functions are the interpreter's, called as they are.  To look at the counters
 *    first, inline, was tried: it is 1 % cheaper for None, 1 to 5 % dearer for what a thread
 *    owns, and only adds to what it does not.  Against a plain Py_INCREF a read executes
 *    7 % more instructions (d[k], get), 9 to 10 % (l[i], get_many, values()), and 15 % where
 *    there is least beside it (the step of a list's iterator); numbers have no such steps.
 *
 *    refs_try fails for an object that its owner alone has counted so far, unless it was
 *    enabled (PyUnstable_EnableTryIncRef).  All that a word is made of is, when the word is
 *    made: refs_new_word, refs_given_word and py_list_fast.c's enable_and_set and
 *    enable_and_append make those that are stored.  Measured on 3.15t: 30 instructions for a
 *    new object, its deallocation included (3 % of d[k] = object(), 4 % of l[0] = object()),
 *    and 18 for one that is enabled already.  To enable all values when a container becomes
 *    shared instead is 18 ms for a million of them, in one read, under the lock, and every
 *    store has to know which it is.
 *
 *    With a GIL a reader is alone from the load of the word to Py_INCREF, and with a
 *    container's lock the words do not change but by K2: what is read there is plain.
 *
 *    Keys are compared without a count, so they wait for readers, as tables and arrays do;
 *    in a section or under a lock a plain Py_INCREF of a key is right.
 */
#ifndef PY_TRY_H
#define PY_TRY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/qc_atomic.h"
#include "base/qc_debug.h"

#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX < 0x030E0000
#error "Free-threaded CPython before 3.14 has no PyUnstable_TryIncRef: use 3.14t or newer."
#endif

/* Before readers can find `value`.  Runs no Python code. */
QC_INLINE void
refs_enable(PyObject *value)
{
#if defined(Py_GIL_DISABLED) && !defined(QC_BREAK_VALUE_NOT_ENABLED)
    PyUnstable_EnableTryIncRef(value);
#else
    (void)value;
#endif
}

typedef enum {
    REFS_HELD, /* the reference is the caller's */
    REFS_GONE, /* none was taken: start over */
    REFS_LATE, /* it was taken too late: refs_release outside the section, and start over */
} refs_got;

/* The first step, in a section: a reference to what is at an address that was a value's.
 * The caller looks again whether it still is. */
QC_INLINE bool
refs_try(PyObject *value)
{
    qc_yield("value: found");
#ifdef Py_GIL_DISABLED
    bool got = PyUnstable_TryIncRef(value);
#else
    bool got = true;
    Py_INCREF(value);
#endif
    qc_yield("value: tried");
    return got;
}

/* Whether a reader needs the two steps.  With a GIL nothing comes in between. */
#ifdef Py_GIL_DISABLED
#define REFS_LOOK_AGAIN 1
#else
#define REFS_LOOK_AGAIN 0
#endif

#endif
