/* For test_musl.py: loads the engine as a shared library, as an interpreter does an extension, and
 * runs sections and polls on two threads. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(cond)                                                                                \
    ((cond) ? (void)0                                                                              \
            : (fprintf(stderr, "%s:%d: CHECK failed: %s\n", __FILE__, __LINE__, #cond), exit(1)))

static int (*enter_and_exit)(void);
static int (*poll_once)(void);

static void *
read_often(void *arg)
{
    for (int i = 0; i < 100000; i++)
        CHECK(enter_and_exit());
    return arg;
}

int
main(int argc, char **argv)
{
    CHECK(argc == 2);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    int (*begin)(void) = (int (*)(void))dlsym(library, "musl_begin");
    enter_and_exit = (int (*)(void))dlsym(library, "musl_section");
    poll_once = (int (*)(void))dlsym(library, "musl_poll");
    CHECK(begin != NULL && enter_and_exit != NULL && poll_once != NULL);
    CHECK(begin());
    pthread_t readers[2];
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&readers[i], NULL, read_often, NULL) == 0);
    int reached = 0;
    for (int i = 0; i < 1000; i++)
        reached += poll_once();
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(readers[i], NULL) == 0);
    CHECK(poll_once() && reached > 0);
    puts("over");
    return 0;
}
