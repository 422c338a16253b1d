/* An extension of two files that share one import of the C API: each of its functions
 * as a Python function of the same name, for the tests to call. */
#ifndef PROBE_H
#define PROBE_H

#define QSBRC_API_VARIABLE probe_api
#include <qsbrcontainers.h>

int probe_add_containers(PyObject *module);

#endif
