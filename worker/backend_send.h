/* backend_send.h - the content of a message as the packets one milter gets: HEADER, EOH, BODY, BODYEOB
 *
 * What comes next, and whether it may go out before the answers to what went before have come. Steps the milter opted
 * out of are not there.
 */
#ifndef MILTERD_WORKER_BACKEND_SEND_H
#define MILTERD_WORKER_BACKEND_SEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/edit.h"
#include "worker/outbox.h"
#include "worker/owed.h"

/* A message as this milter sees it. Everything must live until the milter's verdict. */
struct backend_content {
	struct edit_message *message;	/* the header fields */
	struct spooled body;
};

enum backend_send_part { BACKEND_SEND_HEADERS, BACKEND_SEND_EOH, BACKEND_SEND_BODY, BACKEND_SEND_EOM, BACKEND_SEND_END };

struct backend_send {
	struct backend_content content;
	uint32_t protocol;		/* SMFIP_* */
	enum backend_send_part part;	/* what comes next */
	size_t position;		/* next header field */
	size_t offset;			/* next byte of the body */
};

void backend_send_begin(struct backend_send *, const struct backend_content *, uint32_t protocol);
/* The command of the next packet; 0 at the end. */
uint8_t backend_send_peek(const struct backend_send *);
/* There is a next packet, and it may be queued now. The end of the message waits for every answer, so that a stray
 * CONTINUE never passes for its verdict; what comes before it may be written ahead, within limits. */
bool backend_send_may(const struct backend_send *, const struct owed *, const struct outbox *, bool write_ahead);
/* Queue that packet. 0, or -1 with *why in words (static) when it is larger than a milter reads, or its bytes cannot be
 * read: then this message cannot be shown to it. */
int backend_send_next(struct backend_send *, struct outbox *, const char **why);
/* The milter wants no more packets of this command. */
void backend_send_skip(struct backend_send *, uint8_t command);

#endif
