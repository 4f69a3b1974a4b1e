/* access.h - why a UNIX socket may not be connected to, and what would help */
#ifndef MILTERD_WORKER_ACCESS_H
#define MILTERD_WORKER_ACCESS_H

#include <stdbool.h>

#include "common/buf.h"

/* Append who we are, what stands in the way (the socket or a folder above it) with owner, group and mode, and which group
 * to join. False, and nothing appended: permissions are not what is missing. */
bool access_explain(struct buf *, const char *path);

#endif
