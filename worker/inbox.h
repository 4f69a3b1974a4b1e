/* inbox.h - bytes that came from a milter, and the packets they are
 *
 * Nothing is sized by what a packet claims before that has been compared with what its type may have.
 */
#ifndef MILTERD_WORKER_INBOX_H
#define MILTERD_WORKER_INBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/milter_codec.h"

#define INBOX_REPLY_MAX	   (64u * 1024)		/* bytes of data of one packet */
#define INBOX_REPLBODY_MAX (1024u * 1024)	/* of a REPLBODY */

/* A zeroed struct inbox is a valid empty one. */
struct inbox {
	struct buf bytes;
	size_t taking;		/* bytes of the packet that is being taken */
};

/* Read once. 1: bytes came, and there may be more; 0: all there is now has been read; -1: the connection is over, errno
 * is 0 at end of file. */
int inbox_read(struct inbox *, int fd);
/* The next packet, which is being taken until inbox_taken(). 1: there; 0: not yet; -1: these bytes are no packet. */
int inbox_next(struct inbox *, struct milter_packet *);
void inbox_taken(struct inbox *);
/* There are bytes behind the packet that is being taken. */
bool inbox_has_more(const struct inbox *);
/* The first bytes as a string, for a log that escapes. */
void inbox_show(const struct inbox *, char *text, size_t size);
/* Give memory back that replies of the usual size do not need. */
void inbox_shrink(struct inbox *);
void inbox_fini(struct inbox *);

#endif
