/* outbox.h - bytes on their way to a milter: small packets are copied here, body chunks are only referred to
 *
 * Everything queued goes out in as few writes as the socket takes, in the order it was put in.
 */
#ifndef MILTERD_WORKER_OUTBOX_H
#define MILTERD_WORKER_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

#define OUTBOX_PIECES 16u	/* referred pieces waiting at most */

/* A zeroed struct outbox is a valid empty one. */
struct outbox {
	struct buf bytes;		/* append packets here */
	uint64_t bytes_sent;		/* of bytes, since the beginning */
	struct outbox_piece {
		uint64_t after;		/* goes out when this many of bytes have */
		const uint8_t *data;
		size_t len;
	} piece[OUTBOX_PIECES];		/* a ring */
	unsigned first, count;
	size_t piece_bytes;		/* left of all pieces */
};

static inline bool outbox_has_room(const struct outbox *o)
{
	return o->count < OUTBOX_PIECES;
}

static inline size_t outbox_pending(const struct outbox *o)
{
	return buf_len(&o->bytes) + o->piece_bytes;
}

/* Queue len bytes (not 0) that stay where they are; only when there is room. They must live until they are written or
 * the outbox is cleared: outbox_refers() says whether any still wait. */
void outbox_refer(struct outbox *, const uint8_t *, size_t len);

static inline bool outbox_refers(const struct outbox *o)
{
	return o->count > 0;
}

/* Write to a non-blocking socket. 1: all is out; 0: the rest later; -1 with errno. *written counts bytes in any case. */
int outbox_flush(struct outbox *, int fd, size_t *written);
void outbox_clear(struct outbox *);
void outbox_fini(struct outbox *);

#endif
