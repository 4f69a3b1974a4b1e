/* script_hop.h - a next hop on a UNIX socket in this process that does what a table says */
#ifndef TESTS_SCRIPT_HOP_H
#define TESTS_SCRIPT_HOP_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/loop.h"

#define SCRIPT_CONNECTIONS 4

/* Special things to send. */
#define HOP_CLOSES     ((const char *)1)
#define HOP_IS_DEAF    ((const char *)2)	/* reads nothing any more, and does not see the end */
#define HOP_STOPS_LOOP ((const char *)3)

/* Wait for exactly these bytes (NULL: for nothing), then send those (NULL: nothing). Bytes that come with what is
 * answered, but behind it, are an error: the client did not wait. A row of two NULLs ends the table: after that
 * everything is read and kept. */
struct exchange {
	const char *expect, *send;
};

struct hop_peer {
	struct script_hop *hop;
	int fd;
	struct io io;
	struct buf in;		/* what no row has used */
	const struct exchange *at;
	bool deaf;
	const char *wrong;	/* what came instead of what the row expects */
};

struct script_hop {
	char path[108];
	int fd;
	struct io io;
	const struct exchange *const *script;	/* one table a connection */
	struct hop_peer peer[SCRIPT_CONNECTIONS];
	unsigned connections;
	unsigned open;		/* connections whose end is still to be seen */
};

void script_hop_open(struct script_hop *, const char *directory, const char *name,
	const struct exchange *const script[SCRIPT_CONNECTIONS]);
void script_hop_close(struct script_hop *);

#endif
