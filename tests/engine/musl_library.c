/* For test_musl.py: the functions that the program calls in the library with the engine.  The map
 * makes it use every layer. */
#include "containers/keytable.h"
#include "qsbr/retire.h"

static keymap map;
static heap *memory;

int musl_begin(void);
int musl_section(void);
int musl_poll(void);

__attribute__((visibility("default"))) int
musl_begin(void)
{
    if (!barrier_init(NULL) || !qsbr_init() || qsbr_register_process() == NULL)
        return 0;
    memory = heap_new(&qsbr_process);
    return memory != NULL && keytable_init(&map, memory, 10);
}

__attribute__((visibility("default"))) int
musl_section(void)
{
    qsbr_record *rec = qsbr_register_process();
    if (rec == NULL)
        return 0;
    qsbr_enter(rec);
    keytable *t = keytable_in_section(&map, rec);
    qsbr_exit(rec);
    return t != NULL;
}

__attribute__((visibility("default"))) int
musl_poll(void)
{
    return qsbr_poll(&qsbr_process, qsbr_advance(&qsbr_process));
}
