/* dial.h - a connection to one endpoint without blocking: resolve, then each address in turn */
#ifndef MILTERD_DIAL_H
#define MILTERD_DIAL_H

#include <stdint.h>

#include "common/addr.h"

struct dial;

/* fd: a connected, non-blocking socket, the receiver's from now on; or -1 and why in words, valid during the call. */
typedef void dial_fn(void *ctx, int fd, const char *why);

/* fn is called exactly once, later (never from inside this call), unless cancelled. Every address gets an equal share
 * of what is left of the time, so that a dead one does not use up that of the next. */
struct dial *dial_start(const struct addr *, int64_t timeout_ms, dial_fn *, void *ctx);
/* fn will not be called. NULL is fine. Not needed, and not allowed, after fn was called. */
void dial_cancel(struct dial *);

#endif
