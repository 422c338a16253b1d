#define _GNU_SOURCE /* syscall() */
#include "qsbr/barrier.h"

#include <string.h>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__linux__) && defined(SYS_membarrier)
/* The values are the kernel's ABI; <linux/membarrier.h> may be older. */
#define CMD_PRIVATE_EXPEDITED (1 << 3)
#define CMD_REGISTER_PRIVATE_EXPEDITED (1 << 4)

static bool
membarrier(int command)
{
    return syscall(SYS_membarrier, command, 0, 0) == 0;
}

static bool
membarrier_works(void)
{
    return membarrier(CMD_REGISTER_PRIVATE_EXPEDITED) && membarrier(CMD_PRIVATE_EXPEDITED);
}
#else
#define CMD_PRIVATE_EXPEDITED 0

static bool
membarrier(int command)
{
    (void)command;
    return false;
}

static bool
membarrier_works(void)
{
    return false;
}
#endif

barrier_mode barrier_chosen = BARRIER_FENCE;

bool
barrier_init(const char *wanted)
{
    static bool done = false; /* (the caller's import lock) */
    bool fence = wanted != NULL && strcmp(wanted, "fence") == 0;
    bool memb = wanted != NULL && strcmp(wanted, "membarrier") == 0;
    if (wanted != NULL && !fence && !memb)
        return false;
    if (done)
        return true;
    bool works = !fence && membarrier_works();
    if (memb && !works)
        return false;
    barrier_chosen = works ? BARRIER_MEMBARRIER : BARRIER_FENCE;
    done = true;
    return true;
}

bool
barrier_heavy(void)
{
    if (barrier_chosen == BARRIER_MEMBARRIER)
        return membarrier(CMD_PRIVATE_EXPEDITED);
    qc_fence_seq_cst();
    return true;
}
