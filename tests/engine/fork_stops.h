/* Stops a thread at one place of an operation while another thread forks, at each yield of
 * the sources in turn.  The yields between qsbr_hold_forks and qsbr_let_forks ("held: ...")
 * are left out, since the fork would wait there.
 */
#ifndef ENGINE_FORK_STOPS_H
#define ENGINE_FORK_STOPS_H

#include "harness.h"

#include <string.h>

typedef enum { STOP_NOT_YET, STOP_THERE, STOP_GO_ON } stop_stage;

static _Thread_local bool stop_here; /* in the thread to be stopped */
static unsigned stop_at, stop_passed;
static pthread_mutex_t stop_mutex;
static pthread_cond_t stop_changed; /* nobody is awake while children run */
static stop_stage stop_now;         /* (mutex) */
static bool stop_through;           /* (mutex) */
static char stop_place[32];

static inline void
stop_hook(const char *place)
{
    if (!stop_here || strncmp(place, "held: ", 6) == 0 || stop_passed++ != stop_at)
        return;
    snprintf(stop_place, sizeof stop_place, "%s", place);
    pthread_mutex_lock(&stop_mutex);
    stop_now = STOP_THERE;
    pthread_cond_broadcast(&stop_changed);
    while (stop_now != STOP_GO_ON)
        pthread_cond_wait(&stop_changed, &stop_mutex);
    pthread_mutex_unlock(&stop_mutex);
}

typedef struct {
    void (*fn)(void *);
    void *arg;
} stop_job;

static inline void
stop_run(void *arg)
{
    stop_job *job = arg;
    stop_here = true;
    job->fn(job->arg);
    stop_here = false;
    pthread_mutex_lock(&stop_mutex);
    stop_through = true;
    pthread_cond_broadcast(&stop_changed);
    pthread_mutex_unlock(&stop_mutex);
}

/* fn(arg) in the stepper's thread, stopped at its n-th yield; there, `child` in a forked
 * process.  False: fn has fewer yields.  Returns when fn is through. */
static inline bool
fork_at(stepper *s, void (*fn)(void *), void *arg, unsigned n, void (*child)(void *))
{
    static bool tell;
    tell = getenv("QC_TELL") != NULL;
    stop_job job = {fn, arg};
    stop_at = n;
    stop_passed = 0;
    stop_now = STOP_NOT_YET;
    stop_through = false;
    pthread_mutex_init(&stop_mutex, NULL); /* in a child others may have waited before */
    pthread_cond_init(&stop_changed, NULL);
#ifdef QC_DEBUG
    qc_yield_hook = stop_hook;
#endif
    stepper_start(s, stop_run, &job);
    pthread_mutex_lock(&stop_mutex);
    while (stop_now != STOP_THERE && !stop_through)
        pthread_cond_wait(&stop_changed, &stop_mutex);
    bool stopped = stop_now == STOP_THERE;
    pthread_mutex_unlock(&stop_mutex);
    if (stopped) {
        if (tell)
            printf("  %u: %s\n", n, stop_place);
        in_child(child, arg);
        pthread_mutex_lock(&stop_mutex);
        stop_now = STOP_GO_ON;
        pthread_cond_broadcast(&stop_changed);
        pthread_mutex_unlock(&stop_mutex);
    }
    stepper_wait(s);
    pthread_cond_destroy(&stop_changed);
    pthread_mutex_destroy(&stop_mutex);
#ifdef QC_DEBUG
    qc_yield_hook = NULL;
#endif
    return stopped;
}

#endif
