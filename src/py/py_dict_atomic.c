/* ConcurrentDict: the compound operations that dict does not have. */
#include "py/py_dict.h"

#include "py/py_methods.h"
#include "py/py_numbers.h"

/* ---- incr ---- */

/* One try for a key that is there: DICT_ABSENT if somebody else changed it. */
static dict_result
incr_word(dict_object *d, PyObject *key, Py_hash_t hash, qc_word seen, PyObject *delta,
          PyObject **result)
{
    /* By value there is nothing to hold; an object is held until it is replaced,
     * so that its address cannot become another's (ABA). */
    PyObject *old = refs_object(seen);
    PyObject *sum = old == NULL ? NULL : numbers_add(old, delta);
    if (sum == NULL) {
        Py_XDECREF(old);
        return DICT_FAILED;
    }
    qc_word word = refs_new_word(sum);
    dict_result r = dict_replace_word(d, key, hash, seen, word);
    Py_DECREF(old);
    if (r == DICT_FOUND) {
        *result = sum;
        return r;
    }
    refs_release(word);
    Py_DECREF(sum);
    return r;
}

static PyObject *
incr(dict_object *d, PyObject *key, Py_hash_t hash, PyObject *delta, PyObject *initial)
{
    for (;;) {
        qc_word seen;
        PyObject *result, *current;
        dict_result r = dict_lookup_word(d, key, hash, &seen);
        if (r == DICT_FOUND) {
            r = incr_word(d, key, hash, seen, delta, &result);
            if (r == DICT_FOUND)
                return result;
        }
        else if (r == DICT_ABSENT) {
            result = numbers_add(initial, delta);
            if (result == NULL)
                return NULL;
            r = dict_insert(d, key, hash, result, &current);
            if (r == DICT_ABSENT)
                return result;
            Py_DECREF(result);
            if (r == DICT_FOUND)
                Py_DECREF(current);
        }
        if (r == DICT_FAILED)
            return NULL;
    }
}

const char dict_incr_doc[] =
    "incr($self, key, delta=1, default=0)\n--\n\n"
    "Add delta to the number at key, or set default + delta if it is absent; returns\n"
    "the new value. Applied exactly once, whatever other threads do: by compare and\n"
    "swap, without a lock if the key is there. An int that outgrows 51 bits goes on\n"
    "as an int object. TypeError if the value or delta is no int or float. MemoryError\n"
    "may mean that the sum is there, and not its object. (As in Django's cache, but\n"
    "creating.)";

PyObject *
dict_incr_any(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    static const char *const names[] = {"key", "delta", "default"};
    PyObject *a[3] = {NULL};
    if (!methods_parse_args("incr", names, 1, 3, args, n, kwnames, a))
        return NULL;
    Py_hash_t hash = dict_hash(a[0]);
    if (hash == -1)
        return NULL;
    int64_t by;
    if (numbers_delta_fits(a[1], &by)) {
        int64_t sum;
        dict_result r = dict_add_int(dict_of(self), a[0], hash, by, &sum);
        if (r == DICT_FOUND)
            return numbers_int_late(dict_of(self)->state, sum);
        if (r == DICT_FAILED)
            return NULL;
    }
    PyObject *one = PyLong_FromLong(1), *zero = PyLong_FromLong(0), *result = NULL;
    if (one != NULL && zero != NULL)
        result =
            incr(dict_of(self), a[0], hash, a[1] != NULL ? a[1] : one, a[2] != NULL ? a[2] : zero);
    Py_XDECREF(one);
    Py_XDECREF(zero);
    return result;
}

/* ---- get_or_create (K10) ---- */

/* Who runs the factory of a key: the value in the private dict of creators. */
typedef struct {
    PyObject_HEAD
    PyThread_type_lock over_lock; /* held by the creator until it is over */
    unsigned long thread;
    qsbr_record *rec; /* that thread's */
    uint64_t tenure;  /* and no other thread's that gets the record later */
    _Atomic uint32_t storing, over;
    PyObject *value; /* written before `over`: what was stored, for those who wait */
} creator_object;

/* A thread that waits for a creator; on that thread's stack. */
struct creation_wait {
    unsigned long thread;
    uint32_t generation; /* of forks: those of another one are of threads that are gone */
    creator_object *for_creator;
    struct creation_wait *next, *prev;
};

static void
creator_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (((creator_object *)self)->over_lock != NULL)
        PyThread_free_lock(((creator_object *)self)->over_lock);
    Py_XDECREF(((creator_object *)self)->value);
    type->tp_free(self);
    Py_DECREF(type);
}

static creator_object *
creator_new(qc_state *state)
{
    creator_object *c = PyObject_New(creator_object, state->creator_type);
    if (c == NULL)
        return NULL;
    c->thread = PyThread_get_thread_ident();
    c->rec = qsbr_self; /* there is one: the key was looked up */
    c->tenure = qc_load_relaxed(&c->rec->tenure);
    qc_store_relaxed(&c->over, 0u);
    qc_store_relaxed(&c->storing, 0u);
    c->value = NULL;
    c->over_lock = PyThread_allocate_lock();
    if (c->over_lock == NULL) {
        Py_DECREF(c);
        PyErr_NoMemory();
        return NULL;
    }
    PyThread_acquire_lock(c->over_lock, WAIT_LOCK); /* new: at once */
    return c;
}

static void
creator_finish(creator_object *c)
{
    /* release: partner is the load in creator_is_over; who finds it over finds
     * what was stored. */
    qc_store_release(&c->over, 1u);
    PyThread_release_lock(c->over_lock);
}

/* Done, or of a thread that a fork left behind: its record is nobody's (Q5), or has
 * gone to another thread.  A factory may fork itself: that creator is not gone. */
static bool
creator_is_over(creator_object *c)
{
    return qc_load_acquire(&c->over) != 0 || qc_load_relaxed(&c->rec->refs) == 0 ||
           qc_load_relaxed(&c->rec->tenure) != c->tenure;
}

/* The threads that wait.  Those of another generation are gone, with the stacks that
 * their entries are on. */
static void
waits_lock(qc_state *state)
{
    qc_lock_acquire(&state->waits_lock);
    if (qc_unlikely(state->waits_generation != qc_fork_generation)) {
        state->waits = NULL;
        state->waits_generation = qc_fork_generation;
    }
}

/* Notes that this thread waits for `c`, unless that would close a ring of
 * threads that wait for each other. */
static bool
wait_begin(qc_state *state, struct creation_wait *w, creator_object *c)
{
    *w = (struct creation_wait){
        .thread = PyThread_get_thread_ident(), .generation = qc_fork_generation, .for_creator = c};
    bool ring = false;
    waits_lock(state);
    /* Nobody closes a ring, so following the chain ends.  Who is still listed as waiting for
     * what is over by now has only yet to wake up. */
    for (creator_object *next = c; next != NULL && !ring && !creator_is_over(next);) {
        ring = next->thread == w->thread;
        struct creation_wait *other = state->waits;
        while (other != NULL && other->thread != next->thread)
            other = other->next;
        next = other != NULL && !ring ? other->for_creator : NULL;
    }
    if (!ring) {
        w->next = state->waits;
        if (w->next != NULL)
            w->next->prev = w;
        state->waits = w;
    }
    qc_lock_release(&state->waits_lock);
    return !ring;
}

static void
wait_end(qc_state *state, struct creation_wait *w)
{
    waits_lock(state);
    if (w->generation == qc_fork_generation) { /* a signal's handler may have forked */
        if (w->next != NULL)
            w->next->prev = w->prev;
        if (w->prev != NULL)
            w->prev->next = w->next;
        else
            state->waits = w->next;
    }
    qc_lock_release(&state->waits_lock);
}

static bool
is_finalizing(qc_state *state)
{
#if PY_VERSION_HEX >= 0x030D0000
    (void)state;
    return Py_IsFinalizing();
#else
    if (state->is_finalizing == NULL)
        return true; /* the module is being taken apart */
    PyObject *result = PyObject_CallNoArgs(state->is_finalizing);
    bool yes = result == Py_True;
    Py_XDECREF(result);
    PyErr_Clear();
    return yes;
#endif
}

/* How long a waiter sleeps before it looks at signals and the interpreter's end. */
#define WAIT_STEP_US 50000

/* Until `c` is over: 0, or -1 with an exception.  Detached while it sleeps, and
 * owns nothing then. */
static int
wait_for_creator(qc_state *state, creator_object *c)
{
    struct creation_wait w;
    int status = 0;
    /* First: threads that ended while they waited have left their stacks in `waits`. */
    if (is_finalizing(state)) {
        PyErr_SetString(PyExc_RuntimeError, "get_or_create(): the interpreter is finalizing");
        return -1;
    }
    if (!wait_begin(state, &w, c)) {
        PyErr_SetString(PyExc_RuntimeError,
                        c->thread == PyThread_get_thread_ident()
                            ? "get_or_create(): the factory asks for the key that it creates"
                            : "get_or_create(): threads wait for each other's keys");
        return -1;
    }
    while (status == 0 && !creator_is_over(c)) {
        PyLockStatus got;
        Py_BEGIN_ALLOW_THREADS
        got = PyThread_acquire_lock_timed(c->over_lock, WAIT_STEP_US, 1);
        if (got == PY_LOCK_ACQUIRED)
            PyThread_release_lock(c->over_lock); /* the next waiter's turn */
        Py_END_ALLOW_THREADS
        status = PyErr_CheckSignals();
        if (status == 0 && got == PY_LOCK_FAILURE && is_finalizing(state)) {
            PyErr_SetString(PyExc_RuntimeError, "get_or_create(): the interpreter is finalizing");
            status = -1;
        }
    }
    wait_end(state, &w);
    return status;
}

static dict_object *
creators_of(dict_object *d)
{
    PyObject *creators = qc_load_acquire(&d->creators);
    if (creators == NULL) {
        PyObject *made = dict_new_empty(d->state->dict_type, d->state, 0);
        if (made == NULL)
            return NULL;
        if (qc_cas_acq_rel(&d->creators, &creators, made))
            creators = made;
        else
            Py_DECREF(made);
    }
    return dict_of(creators);
}

/* Tries to become the key's creator.  FOUND: `mine` is registered.  ABSENT:
 * another one was; waited for it.  *value is then a new reference to what it stored,
 * if that happened after we came: the key may be gone again, and who looked for it
 * anew could wait for one creator after the other for ever. */
static dict_result
become_creator(dict_object *d, PyObject *key, Py_hash_t hash, creator_object *mine,
               PyObject **value)
{
    dict_object *creators = creators_of(d);
    PyObject *other;
    if (creators == NULL)
        return DICT_FAILED;
    dict_result r = dict_insert(creators, key, hash, (PyObject *)mine, &other);
    if (r != DICT_FOUND)
        return r == DICT_ABSENT ? DICT_FOUND : DICT_FAILED;
    if (creator_is_over((creator_object *)other)) {
        /* It could not unregister (its key's __eq__ raised), or is gone. */
        qc_word word = refs_new_word((PyObject *)mine);
        r = dict_replace_word(creators, key, hash, word_from_pointer(other), word);
        if (r != DICT_FOUND)
            refs_release(word);
    }
    else {
        creator_object *c = (creator_object *)other;
        bool in_time = qc_load_acquire(&c->storing) == 0;
        r = wait_for_creator(d->state, c) < 0 ? DICT_FAILED : DICT_ABSENT;
        if (r == DICT_ABSENT && in_time && qc_load_acquire(&c->over) != 0)
            *value = Py_XNewRef(c->value);
    }
    Py_DECREF(other);
    return r;
}

/* The registered creator's work: looks again, creates, stores, and only then
 * unregisters: who registers next finds the value. */
static PyObject *
create(dict_object *d, PyObject *key, Py_hash_t hash, PyObject *factory, creator_object *mine)
{
    PyObject *value = NULL, *current;
#ifdef QC_BREAK_NO_RELOOK
    dict_result r = DICT_ABSENT;
#else
    dict_result r = dict_lookup(d, key, hash, &value);
#endif
    if (r == DICT_FOUND)
        return value;
    value = r == DICT_FAILED ? NULL : PyObject_CallNoArgs(factory);
    if (value == NULL)
        return NULL;
    /* Who finds it not set came before the value is stored. */
    qc_store_release(&mine->storing, 1u);
    r = dict_insert(d, key, hash, value, &current);
    if (r == DICT_FOUND)
        Py_SETREF(value, current); /* assigned by somebody meanwhile: theirs stays */
    else if (r == DICT_FAILED)
        Py_CLEAR(value);
    mine->value = Py_XNewRef(value);
    return value;
}

/* The key's __eq__ may raise, or a signal's handler: false, with that exception, unless the
 * factory's is set, which stays.  The entry stays too; become_creator finds it over. */
static bool
unregister(dict_object *d, PyObject *key, Py_hash_t hash, creator_object *mine)
{
    threads_exception set = threads_put_aside();
    bool done = dict_remove(creators_of(d), key, hash, NULL) != DICT_FAILED;
    if (!done)
        Py_CLEAR(mine->value);
    if (done || set.type != NULL || set.value != NULL)
        threads_put_back(set);
    return done;
}

const char dict_get_or_create_doc[] =
    "get_or_create($self, key, factory)\n--\n\n"
    "The value for key; if it is absent, factory() is called and its result stored.\n"
    "One running factory a key: other threads that ask for the key wait (detached)\n"
    "and get the same value. If the factory raises, its caller gets the exception and\n"
    "one of those waiting tries its own. No lock is held while it runs. Lock-free if\n"
    "the key is there. RuntimeError if the factory asks for its own key, or if threads\n"
    "would wait for each other's keys in a ring. A value assigned to the key while the\n"
    "factory runs stays, and is returned. (After Java's computeIfAbsent, without its\n"
    "lock.)";

PyObject *
dict_get_or_create(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    static const char *const names[] = {"key", "factory"};
    dict_object *d = dict_of(self);
    PyObject *a[2] = {NULL}, *value;
    if (!methods_parse_args("get_or_create", names, 2, 2, args, n, kwnames, a))
        return NULL;
    Py_hash_t hash = dict_hash(a[0]);
    if (hash == -1)
        return NULL;
    creator_object *mine = NULL;
    for (;;) {
        dict_result r = dict_lookup(d, a[0], hash, &value);
        if (r == DICT_FOUND)
            break;
        value = NULL;
        if (r == DICT_FAILED || (mine == NULL && (mine = creator_new(d->state)) == NULL))
            break;
        r = become_creator(d, a[0], hash, mine, &value);
        if (r == DICT_FAILED || value != NULL)
            break;
        if (r == DICT_FOUND) {
            value = create(d, a[0], hash, a[1], mine);
            if (!unregister(d, a[0], hash, mine))
                Py_CLEAR(value); /* it is stored: this is as if interrupted right after */
            creator_finish(mine);
            Py_DECREF(mine);
            return value;
        }
    }
    if (mine != NULL) {
        PyThread_release_lock(mine->over_lock);
        Py_DECREF(mine);
    }
    return value;
}

static PyType_Slot creator_slots[] = {
    {Py_tp_dealloc, creator_dealloc},
    {0, NULL},
};

static PyType_Spec creator_spec = {
    .name = "qsbrcontainers._native.Creator",
    .basicsize = sizeof(creator_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = creator_slots,
};

int
qc_dict_atomic_register(PyObject *module, qc_state *state)
{
    state->creator_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &creator_spec, NULL);
    state->is_finalizing = PySys_GetObject("is_finalizing"); /* borrowed */
    Py_XINCREF(state->is_finalizing);
    return state->creator_type == NULL ? -1 : 0;
}
