#define _GNU_SOURCE
#include "base/qc_debug.h"

#ifdef QC_DEBUG
#include <stdint.h>
#include <time.h>

void (*qc_yield_hook)(const char *place) = NULL;

static uint32_t one_in;

static void
sleep_now_and_then(const char *place)
{
    static _Thread_local uint32_t random; /* xorshift; each thread its own start */
    (void)place;
    if (random == 0)
        random = (uint32_t)(uintptr_t)&random | 1u;
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    if (random % one_in == 0)
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

void
qc_yield_at_random(unsigned n)
{
    one_in = n;
    qc_yield_hook = n == 0 ? NULL : sleep_now_and_then;
}
#else
/* ISO C wants a translation unit to declare something. */
typedef int qc_debug_is_off;
#endif
