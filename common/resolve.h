/* resolve.h - host names to addresses without blocking the loop (c-ares: /etc/hosts first, then DNS) */
#ifndef MILTERD_RESOLVE_H
#define MILTERD_RESOLVE_H

#include <stddef.h>

#include "common/addr.h"

#define RESOLVE_ADDRESSES_MAX 16u	/* of one name; more are not used */

struct resolve;

/* addresses: valid during the call only; count 0 and *why in words when there are none. */
typedef void resolve_fn(void *ctx, const struct addr_socket *addresses, size_t count, const char *why);

/* Once per process, after loop_init(). */
void resolve_init(void);
/* When every look-up has been answered or cancelled. Before loop_fini(). */
void resolve_fini(void);
/* Look up; fn is called exactly once, later (never from inside this call), unless cancelled. Numeric and unix
 * endpoints work too. At most 10 s. Answers are kept for as long as their TTL says, at least 1 s, at most 60 s. */
struct resolve *resolve_start(const struct addr *, resolve_fn *, void *ctx);
/* fn will not be called. NULL is fine. Not needed, and not allowed, after fn was called. */
void resolve_cancel(struct resolve *);

#endif
