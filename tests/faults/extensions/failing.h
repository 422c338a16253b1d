/* Before every source of the extension's debug build: libc's allocations are counted, and
 * fail when failing.c says so. */
#ifndef FAILING_H
#define FAILING_H

#define _GNU_SOURCE /* as the sources that need it do: the headers come here already */
#include <stdlib.h>

void *failing_malloc(size_t size);
void *failing_calloc(size_t n, size_t size);
int failing_memalign(void **memory, size_t alignment, size_t size);

#define malloc(size) failing_malloc(size)
#define calloc(n, size) failing_calloc(n, size)
#define posix_memalign(memory, alignment, size) failing_memalign(memory, alignment, size)

#endif
