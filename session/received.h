/* received.h - our own Received field, RFC 5321 4.4 */
#ifndef MILTERD_RECEIVED_H
#define MILTERD_RECEIVED_H

#include <stdbool.h>
#include <stddef.h>

#include "common/mem.h"

struct received {
	const char *helo;		/* as the client gave it */
	const char *client_name;	/* "unknown" */
	const char *client_address;	/* "" on a UNIX socket */
	const char *hostname;		/* ours */
	const char *queue_id;
	bool esmtp;
	const char *only_rcpt;		/* shown when it is the only one; NULL otherwise */
};

/* The field with its last CRLF, in the arena. now: seconds since the epoch. What a client or DNS said is reduced to
 * printable ASCII without parentheses, so that it cannot end a comment. */
const char *received_make(struct arena *, const struct received *, long long now, size_t *len);

#endif
