/* The state of a page is one word.  This file lists its legal values and the lists that go
 * with each (H4: a page that waits is on its local's lists).
 *
 * The lists of a local are under its lock.  By its links IN_CLASS a page is on one of
 *    its class's   (READY) it seems to have blocks to serve; the first page that has serves
 *    PAGE_SPENT    of all classes: no block to serve; retired blocks wait to get a goal
 *    PAGE_AGING    of all classes: no block to serve; retired blocks have a goal, and the
 *                  pages stand in the order in which they got it
 * or on none, if all its blocks are in use.  By its links IN_WAIT it is on the list of
 * waiting pages without a goal, on the list of waiting pages with one, or on neither.  The
 * flags name the lists and change with the links, under the lock.  The exceptions are
 * TAKEN and TAGGED, which the CAS of an allocation clears without the lock.
 *
 * The legal states; * is 0 or not.  No other state is ever stored (page_cas), and lists
 * and flags agree whenever the lock is free (page_check_place).
 *
 *    name           tag    flags                      live  links
 *    PAGE_NOBODYS   0      -                          0     the pool's, or a thread has it in
 *                                                           hand; no foreign blocks
 *    PAGE_OFF       local  -                          *     none.  Full; or blocks came back,
 *                                                           and a thread is about to settle it
 *    PAGE_LISTED    local  LISTED                     *     IN_CLASS.  0: a thread is about to
 *                                                           settle it
 *    PAGE_UNTAGGED  local  LISTED UNTAGGED            *     both.  0: it waits.  Not 0: it is
 *                                                           in use again
 *    PAGE_TAKEN     local  LISTED UNTAGGED TAKEN      0     both.  The next advance is for it
 *    PAGE_TAGGED    local  LISTED QUEUED TAGGED       0     both.  `goal` is valid
 *    PAGE_UNTIED    local  LISTED QUEUED              *     both.  It was in use since it was
 *                                                           tagged
 *    READY may accompany LISTED.  LAST may accompany any state.
 *
 * A page that waits, or has waited and is still linked, is LISTED: a thread that takes it
 * away removes it from two lists, and it must be on both.  (Once a page that was filled up
 * left its class's list and kept UNTAGGED.  When all its blocks came back before a thread
 * settled it, it was tagged, taken, and removed a second time from a list that it was not
 * on.  That list lost other pages, and a request was served from another thread's page:
 * QC_BREAK_UNLISTED_WAITS.)  So unlist and hand_over, which take a page off its local's
 * lists, clear all flags in one CAS and remove the page from all lists under the same lock.
 * tests/model/page.pml checks all orders of events.
 */
#ifndef HEAP_PAGE_STATE_H
#define HEAP_PAGE_STATE_H

#include <stdbool.h>
#include <stdint.h>

#define STATE_LIVE ((uint64_t)0xFFFF) /* blocks in use */
#define STATE_FOREIGN_SHIFT 16        /* the newest block retired by others, in grains */
#define STATE_FOREIGN (STATE_LIVE << STATE_FOREIGN_SHIFT)
#define STATE_TAG_SHIFT 32 /* of the local that has it; 0: no local has */
#define STATE_TAG ((uint64_t)0xFFFFFF << STATE_TAG_SHIFT)
#define STATE_LISTED ((uint64_t)1 << 56)   /* on one of its local's lists (page_which) */
#define STATE_UNTAGGED ((uint64_t)1 << 57) /* on the list of waiting pages without a goal */
#define STATE_QUEUED ((uint64_t)1 << 58)   /* on the list of those with one */
#define STATE_TAKEN ((uint64_t)1 << 59)    /* to be tagged with the advance to come */
#define STATE_TAGGED ((uint64_t)1 << 60)   /* `goal` is valid: no block was live since */
#define STATE_LAST ((uint64_t)1 << 61)     /* the heap was deleted: 0 drops a reference */
#define STATE_READY ((uint64_t)1 << 62)    /* on the list of its class: it seems to have blocks */
#define STATE_PHASE (STATE_TAKEN | STATE_TAGGED)
#define STATE_WAITS (STATE_UNTAGGED | STATE_QUEUED)
#define STATE_FLAGS (STATE_LISTED | STATE_READY | STATE_WAITS | STATE_PHASE)

#define state_live(s) ((s)&STATE_LIVE)
#define state_foreign(s) (((s)&STATE_FOREIGN) >> STATE_FOREIGN_SHIFT)

/* The legal states by name; the table is at the head of this file. */
typedef enum {
    PAGE_NOBODYS,
    PAGE_OFF,
    PAGE_LISTED,
    PAGE_UNTAGGED,
    PAGE_TAKEN,
    PAGE_TAGGED,
    PAGE_UNTIED,
    PAGE_ILLEGAL
} page_state;

static inline page_state
page_state_of(uint64_t s)
{
    bool live = state_live(s) != 0;
    if ((s & STATE_TAG) == 0)
        return (s & ~STATE_LAST) == 0 ? PAGE_NOBODYS : PAGE_ILLEGAL;
    switch (s & (STATE_FLAGS & ~STATE_READY)) {
    case 0:
        return (s & STATE_READY) == 0 ? PAGE_OFF : PAGE_ILLEGAL;
    case STATE_LISTED:
        return PAGE_LISTED;
    case STATE_LISTED | STATE_UNTAGGED:
        return PAGE_UNTAGGED;
    case STATE_LISTED | STATE_UNTAGGED | STATE_TAKEN:
        return live ? PAGE_ILLEGAL : PAGE_TAKEN;
    case STATE_LISTED | STATE_QUEUED | STATE_TAGGED:
        return live ? PAGE_ILLEGAL : PAGE_TAGGED;
    case STATE_LISTED | STATE_QUEUED:
        return PAGE_UNTIED;
    default:
        return PAGE_ILLEGAL;
    }
}

/* A page is on at most one list of each kind.  IN_CLASS: also the pool's. */
typedef enum { IN_CLASS, IN_WAIT } page_links;

#define PAGE_CLASSES 32

/* The lists by the links IN_CLASS: numbers below PAGE_CLASSES are the classes' own lists, the
 * others are described at the head of this file. */
typedef enum { PAGE_SPENT = PAGE_CLASSES, PAGE_AGING, PAGE_LISTS, PAGE_NOWHERE } page_which;
typedef enum { NOT_WAITING, WAITS_UNTAGGED, WAITS_QUEUED } page_wait_list;

#endif
