/* client_name.h - the name of a client: what its address points to, and whether that name points back (RFC 1912 2.1)
 *
 * Asked at the begin of a session, answered within CLIENT_NAME_MS. What DNS says is used only when it is a host name.
 */
#ifndef MILTERD_CLIENT_NAME_H
#define MILTERD_CLIENT_NAME_H

#include "common/addr.h"

#define CLIENT_NAME_MS 2000

/* The values of {client_resolve}. */
enum client_name_result {
	CLIENT_NAME_UNASKED,
	CLIENT_NAME_OK,		/* the name points back to the address */
	CLIENT_NAME_FAIL,	/* the address has no name */
	CLIENT_NAME_FORGED,	/* the name does not point back */
	CLIENT_NAME_TEMP,	/* DNS did not answer, or failed */
};

/* "OK", "FAIL", "FORGED", "TEMP"; "" when it was not asked. */
const char *client_name_result_text(enum client_name_result);

struct client_name_query;

/* ptr: the name the address points to, with OK and FORGED, otherwise NULL. Valid during the call. */
typedef void client_name_fn(void *ctx, enum client_name_result, const char *ptr);

/* Once per process, after loop_init(). servers: as in resolver.h. */
void client_name_init(const char *servers);
/* No query may be open. */
void client_name_fini(void);
/* fn is called exactly once, later, unless cancelled. address: "192.0.2.1" or "2001:db8::1". */
struct client_name_query *client_name_start(const char *address, client_name_fn *, void *ctx);
/* NULL is fine. Not needed, and not allowed, after fn was called. */
void client_name_cancel(struct client_name_query *);

#endif
