/* listener.h - the listening sockets: bound once by the master, handed to every session process
 *
 * The file of a UNIX socket is replaced when nobody listens on it any more, and removed at the end if it is still ours.
 */
#ifndef MILTERD_LISTENER_H
#define MILTERD_LISTENER_H

#include <stddef.h>

#include "common/buf.h"
#include "common/conf.h"

struct listeners;

/* Bind and listen on every endpoint of every listener; names are looked up, which may take a while. NULL when one
 * failed: then none is left, and problems has a line "FILE:LINE: [listener NAME] bind: ENDPOINT: cause" for each that did. */
struct listeners *listeners_open(const struct conf *, struct buf *problems);
/* Look up the owners and groups of UNIX sockets. 0, or -1 with a line in problems for each that is missing. */
int listeners_find_owners(const struct conf *, struct buf *problems);
size_t listeners_count(const struct listeners *);
/* The socket stays here. *listener: number in the configuration, *endpoint: which of its endpoints. */
int listeners_get(const struct listeners *, size_t which, unsigned *listener, unsigned *endpoint);
/* Also removes the files of UNIX sockets. NULL is fine. */
void listeners_close(struct listeners *);

#endif
