#include "base/qc_debug.h"

#ifdef QC_DEBUG
void (*qc_yield_hook)(const char *place) = NULL;
#else
/* ISO C wants a translation unit to declare something. */
typedef int qc_debug_is_off;
#endif
