#define _GNU_SOURCE
#include "py/py_limits.h"

#include <errno.h>

#include "py/py_threads.h"
#include "py/py_wait.h"

/* ---- limits ---- */

static size_t dead_bytes = LIMITS_DEAD_BYTES;

/* In the variable's own units, from 1 to what does not overflow. */
static bool
number_from(const char *name, uint64_t *value)
{
    /* At import; only what changes the environment just then could hurt. */
    const char *text = getenv(name); /* NOLINT(concurrency-mt-unsafe) */
    if (text == NULL || text[0] == '\0')
        return true;
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || text[0] < '0' || text[0] > '9' || n == 0 || n > INT64_MAX / 4)
        return false;
    *value = n;
    return true;
}

const char *
limits_from_environment(void)
{
#ifdef QC_DEBUG
    /* At the dangerous edge: everything often. */
    retire_limit.batch_blocks = 5;
    retire_limit.batch_bytes = 4096;
    retire_limit.queue_bytes = 64 << 10;
    dead_bytes = 1 << 20;
#endif
    uint64_t blocks = retire_limit.batch_blocks, batch = retire_limit.batch_bytes;
    uint64_t queue = retire_limit.queue_bytes, hard = retire_limit.hard_bytes;
    uint64_t quiet_ms = retire_limit.quiet_ns / 1000000, wait_ms = retire_limit.wait_ns / 1000000;
    uint64_t page = heap_page_limit, dead = dead_bytes;
    const struct {
        const char *name;
        uint64_t *value, most;
    } all[] = {
        {"QSBRCONTAINERS_BATCH_BLOCKS", &blocks, UINT32_MAX},
        {"QSBRCONTAINERS_BATCH_BYTES", &batch, SIZE_MAX / 4},
        {"QSBRCONTAINERS_QUEUE_BYTES", &queue, SIZE_MAX / 4},
        {"QSBRCONTAINERS_HARD_BYTES", &hard, SIZE_MAX / 4},
        {"QSBRCONTAINERS_QUIET_MS", &quiet_ms, 1000000},
        {"QSBRCONTAINERS_WAIT_MS", &wait_ms, 1000000},
        {"QSBRCONTAINERS_PAGE_BYTES", &page, SIZE_MAX / 4},
        {"QSBRCONTAINERS_DEAD_BYTES", &dead, SIZE_MAX / 4},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!number_from(all[i].name, all[i].value) || *all[i].value > all[i].most)
            return all[i].name;
    retire_limit.batch_blocks = (uint32_t)blocks;
    retire_limit.batch_bytes = batch;
    retire_limit.queue_bytes = queue < hard / 2 ? queue : hard / 2;
    retire_limit.hard_bytes = hard;
    retire_limit.quiet_ns = quiet_ms * 1000000;
    retire_limit.wait_ns = wait_ms * 1000000;
    heap_page_limit = page;
    heap_waiting_limit = hard;
    dead_bytes = dead;
    return NULL;
}

/* ---- a writer over the hard limit (T7) ---- */

int
limits_wait_in(retire_local *local, heap *pages)
{
    retire_queue *queue = local->queue;
    uint64_t began = retire_now_ns();
    long step = WAIT_FIRST_STEP_NS;
    for (bool waited = false; !threads_make_room(local, pages); waited = true) {
        if (qsbr_state_of(local->rec) == QSBR_SHUTTING_DOWN)
            return 0;
        if (!waited)
            qc_add_relaxed(&queue->waits, 1u);
        if (retire_now_ns() - began >= retire_limit.wait_ns) {
            qc_add_relaxed(&queue->waits_in_vain, 1u);
            retire_go_on(queue);
            return 0;
        }
        if (wait_step(&step) < 0)
            return -1;
    }
    return 0;
}

int
limits_wait_for_room(qc_state *state)
{
    retire_local *local = threads_local(state);
    return local == NULL ? -1 : limits_wait_in(local, state->heap);
}

/* ---- dead containers (T7) ---- */

/* Deallocation says nothing here (the state may be gone by then), so what counts is
 * how much was added since the collector last came, against all that was live when
 * it had been there. */

void
limits_collect_dead(qc_state *state)
{
    uint64_t grown = qc_load_relaxed(&state->deferred_grown);
    int64_t since = (int64_t)(grown - qc_load_relaxed(&state->deferred_seen));
    if (qc_likely(since <= (int64_t)dead_bytes))
        return;
    if ((uint64_t)since <= qc_load_relaxed(&state->live_then))
        return;
    /* Before it runs, so that nobody else comes for the same reason. */
    qc_store_relaxed(&state->deferred_seen, grown);
    PyGC_Collect(); /* does nothing where gc is disabled */
    qc_store_relaxed(&state->live_then, heap_live_bytes(state->heap));
    qc_add_relaxed(&state->collections, 1u);
}
