/* Preloaded: malloc fails for what is as large as a retire batch, when told to. */
#include <stddef.h>

int no_memory_now;

void *__libc_malloc(size_t size);

void *
malloc(size_t size)
{
    if (no_memory_now && size > 16 * 1000 && size < 18 * 1000)
        return NULL;
    return __libc_malloc(size);
}
