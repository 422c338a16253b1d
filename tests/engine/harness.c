#define _GNU_SOURCE
#include "harness.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HANG_SECONDS 60 /* times the scale */

static const char *current = "(start)";
static double scale = 1;
static bool sleepy; /* at so many published stores that the same rounds take minutes */
static uint64_t seed;
static _Atomic uint64_t seeds_given;

_Noreturn void
harness_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s: CHECK failed: %s\n", file, line, current, what);
    fflush(NULL);
    _exit(1);
}

_Noreturn void
harness_fail_eq(const char *file, int line, const char *what, uint64_t a, uint64_t b)
{
    fprintf(stderr, "%s:%d: %s: CHECK failed: %s: %lld, %lld\n", file, line, current, what,
            (long long)a, (long long)b);
    fflush(NULL);
    _exit(1);
}

static void
hangs(int signal)
{
    (void)signal;
    static const char text[] = ": hangs\n";
    /* Nothing to do if it cannot be written. */
    if (write(2, current, strlen(current)) < 0 || write(2, text, sizeof text - 1) < 0)
        _exit(3);
    _exit(2);
}

void
harness_init(bool engine)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *text = getenv("QC_TORTURE_SCALE");
    if (text != NULL && text[0] != '\0')
        scale = strtod(text, NULL);
    CHECK(scale > 0);
    text = getenv("QC_SEED");
    seed = text != NULL && text[0] != '\0' ? strtoull(text, NULL, 10) : now_ns();
    printf("QC_SEED=%llu\n", (unsigned long long)seed);
#ifdef QC_DEBUG
    text = getenv("QSBRCONTAINERS_YIELD"); /* as in the extension */
    unsigned one_in = text != NULL ? (unsigned)strtoul(text, NULL, 10) : 0;
    qc_yield_at_random(one_in);
    sleepy = one_in != 0 && one_in < 100;
#endif
    signal(SIGALRM, hangs);
    if (!engine)
        return;
    const char *wanted = getenv("QSBRCONTAINERS_BARRIER");
    if (!barrier_init(wanted)) {
        printf("the barrier \"%s\" is not to be had here\n", wanted);
        exit(HARNESS_CANNOT);
    }
    CHECK(qsbr_init());
}

void
harness_run(const char *name, void (*test)(void))
{
    current = name;
    alarm((unsigned)(HANG_SECONDS * (scale > 1 ? scale : 1)));
    uint64_t began = now_ns();
    test();
    alarm(0);
    printf("%-64s ok %6.2f s\n", name, (double)(now_ns() - began) / 1e9);
}

uint64_t
scaled(uint64_t n)
{
    double m = (double)n * scale / (HARNESS_SANITIZED ? 4 : 1) / (sleepy ? 4 : 1);
    return m < 1 ? 1 : (uint64_t)m;
}

uint64_t
a_seed(void)
{
    uint64_t x = seed + qc_add_relaxed(&seeds_given, 1u) * UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    return (x ^ x >> 27) | 1;
}

uint64_t
now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void
sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* ---- near misses ---- */

void
report(const char *how, const char *name, uint64_t n)
{
    printf("    counter %s %s: %llu\n", how, name, (unsigned long long)n);
}

/* Without a lock: a fork in the middle would leave it held in the child. */
void
span_put_together(spans *all, const span *more)
{
    if (more->n == 0)
        return;
    uint64_t inverted = qc_load_relaxed(&all->inverted_least), most = qc_load_relaxed(&all->most);
    while (inverted < ~more->least &&
           !qc_cas_relaxed(&all->inverted_least, &inverted, ~more->least))
        ;
    while (most < more->most && !qc_cas_relaxed(&all->most, &most, more->most))
        ;
}

void
span_report(spans *all, const char *name)
{
    char text[80];
    uint64_t inverted = qc_exchange_acq_rel(&all->inverted_least, 0u);
    uint64_t most = qc_exchange_acq_rel(&all->most, 0u);
    if (inverted == 0)
        return;
    snprintf(text, sizeof text, "%s, ns", name);
    report("least", text, ~inverted);
    report("most", text, most);
}

unsigned
sections_before(qsbr_domain *domain, uint64_t goal)
{
    unsigned n = 0;
    for (struct qsbr_chunk *c = qc_load_acquire(&domain->chunks); c != NULL; c = c->next) {
        for (int i = 0; i < QSBR_CHUNK_RECORDS && n < 2; i++) {
            uint64_t s = qc_load_relaxed(&c->records[i].seq);
            n += s != QSBR_OFFLINE && qsbr_before(s, goal);
        }
    }
    return n;
}

/* ---- threads ---- */

pthread_t
thread_start(void *(*body)(void *), void *arg)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, arg) == 0);
    return thread;
}

void
thread_join(pthread_t thread)
{
    CHECK(pthread_join(thread, NULL) == 0);
}

typedef struct {
    void (*body)(void *arg, unsigned i);
    void *arg;
    unsigned i, n;
    _Atomic unsigned *waiting;
} one_of_many;

static void *
run_one(void *arg)
{
    one_of_many *one = arg;
    qc_add_acq_rel(one->waiting, 1u);
    /* Spinning: they leave it within nanoseconds of each other, if there are CPUs;
     * yielding where there are not. */
    for (unsigned spins = 0; qc_load_acquire(one->waiting) < one->n; spins++)
        if (spins > 1000)
            sleep_ms(0);
    one->body(one->arg, one->i);
    return NULL;
}

void
run_threads(unsigned n, void (*body)(void *arg, unsigned i), void *arg)
{
    _Atomic unsigned waiting = 0;
    one_of_many *all = calloc(n, sizeof *all);
    pthread_t *threads = calloc(n, sizeof *threads);
    CHECK(all != NULL && threads != NULL);
    for (unsigned i = 0; i < n; i++) {
        all[i] = (one_of_many){body, arg, i, n, &waiting};
        threads[i] = thread_start(run_one, &all[i]);
    }
    for (unsigned i = 0; i < n; i++)
        thread_join(threads[i]);
    free(threads);
    free(all);
}

static _Atomic bool over;

bool
time_is_over(void)
{
    return qc_load_relaxed(&over);
}

static void *
let_time_pass(void *arg)
{
    uint64_t end = now_ns() + (uint64_t)(*(unsigned *)arg * 1e6 * scale);
    while (now_ns() < end)
        sleep_ms(5);
    qc_store_relaxed(&over, true);
    return NULL;
}

void
run_threads_for(unsigned ms, unsigned n, void (*body)(void *arg, unsigned i), void *arg)
{
    qc_store_relaxed(&over, false);
    pthread_t timer = thread_start(let_time_pass, &ms);
    run_threads(n, body, arg);
    thread_join(timer);
}

struct stepper {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    void (*fn)(void *); /* what to do; NULL: nothing, or done */
    void *arg;
    bool over;
    qsbr_domain *domain;
    qsbr_record *rec;
};

static void *
stepper_main(void *arg)
{
    stepper *s = arg;
    pthread_mutex_lock(&s->mutex);
    for (;;) {
        while (s->fn == NULL && !s->over)
            pthread_cond_wait(&s->changed, &s->mutex);
        if (s->fn == NULL)
            break;
        pthread_mutex_unlock(&s->mutex);
        s->fn(s->arg);
        pthread_mutex_lock(&s->mutex);
        s->fn = NULL;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

stepper *
stepper_new(void)
{
    stepper *s = calloc(1, sizeof *s);
    CHECK(s != NULL);
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->changed, NULL);
    s->thread = thread_start(stepper_main, s);
    return s;
}

void
stepper_start(stepper *s, void (*fn)(void *), void *arg)
{
    pthread_mutex_lock(&s->mutex);
    CHECK(s->fn == NULL);
    s->fn = fn;
    s->arg = arg;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mutex);
}

void
stepper_wait(stepper *s)
{
    pthread_mutex_lock(&s->mutex);
    while (s->fn != NULL)
        pthread_cond_wait(&s->changed, &s->mutex);
    pthread_mutex_unlock(&s->mutex);
}

bool
stepper_busy(stepper *s)
{
    pthread_mutex_lock(&s->mutex);
    bool busy = s->fn != NULL;
    pthread_mutex_unlock(&s->mutex);
    return busy;
}

void
stepper_run(stepper *s, void (*fn)(void *), void *arg)
{
    stepper_start(s, fn, arg);
    stepper_wait(s);
}

void
stepper_end(stepper *s)
{
    stepper_wait(s);
    pthread_mutex_lock(&s->mutex);
    s->over = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mutex);
    thread_join(s->thread);
    pthread_mutex_destroy(&s->mutex);
    pthread_cond_destroy(&s->changed);
    free(s);
}

static void
do_register(void *arg)
{
    stepper *s = arg;
    s->rec = s->domain == &qsbr_process ? qsbr_register_process() : qsbr_register(s->domain);
    CHECK(s->rec != NULL);
}

static void
do_enter(void *arg)
{
    qsbr_enter(((stepper *)arg)->rec);
}

static void
do_exit(void *arg)
{
    qsbr_exit(((stepper *)arg)->rec);
}

stepper *
reader_new(qsbr_domain *domain)
{
    stepper *s = stepper_new();
    s->domain = domain;
    stepper_run(s, do_register, s);
    return s;
}

qsbr_record *
reader_record(stepper *s)
{
    return s->rec;
}

void
reader_enter(stepper *s)
{
    stepper_run(s, do_enter, s);
}

void
reader_exit(stepper *s)
{
    stepper_run(s, do_exit, s);
}

/* ---- processes ---- */

static int
child_status(void (*fn)(void *), void *arg, bool dies)
{
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(20); /* not inherited: a child that hangs is ended too */
        if (dies) {
            /* An expected death leaves neither a core nor a sanitizer's report. */
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            signal(SIGABRT, SIG_DFL);
            if (freopen("/dev/null", "w", stderr) == NULL)
                _exit(3);
        }
        fn(arg);
        fflush(NULL);
        _exit(0);
    }
    int status;
    while (waitpid(pid, &status, 0) != pid)
        ;
    return status;
}

void
in_child(void (*fn)(void *), void *arg)
{
    int status = child_status(fn, arg, false);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
}

void
in_child_that_dies(void (*fn)(void *), void *arg, int signal)
{
    int status = child_status(fn, arg, true);
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), signal);
}

/* ---- libc allocations that fail ---- */

#ifdef HARNESS_MALLOC
static _Atomic uint64_t fail_in;

void
harness_fail_malloc(uint64_t n)
{
    qc_store_relaxed(&fail_in, n);
}

static bool
fails(void)
{
    uint64_t n = qc_load_relaxed(&fail_in);
    while (n != 0)
        if (qc_cas_relaxed(&fail_in, &n, n - 1))
            return n == 1;
    return false;
}

/* The sources are compiled with their calls named like this. */
void *harness_malloc(size_t size);
void *harness_calloc(size_t n, size_t size);
int harness_posix_memalign(void **p, size_t alignment, size_t size);

void *
harness_malloc(size_t size)
{
    return fails() ? NULL : malloc(size);
}

void *
harness_calloc(size_t n, size_t size)
{
    return fails() ? NULL : calloc(n, size);
}

int
harness_posix_memalign(void **p, size_t alignment, size_t size)
{
    return fails() ? 12 /* ENOMEM */ : posix_memalign(p, alignment, size);
}

static _Atomic bool specific_fails;

void
harness_fail_setspecific(void)
{
    qc_store_relaxed(&specific_fails, true);
}

int harness_setspecific(pthread_key_t key, const void *value);

int
harness_setspecific(pthread_key_t key, const void *value)
{
    bool now = qc_exchange_acq_rel(&specific_fails, false);
    return now ? 12 /* ENOMEM */ : pthread_setspecific(key, value);
}
#endif
