/* load_message.h - the messages of the load generator: nothing but a function of seed, number and sizes */
#ifndef INSTRUMENTS_LOAD_MESSAGE_H
#define INSTRUMENTS_LOAD_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

struct load_plan {
	uint64_t seed;
	size_t size_min, size_max;	/* bytes of content, about; small ones are more frequent */
	unsigned rcpts_max;
};

/* How many recipients message number has, 1 to rcpts_max. */
unsigned load_message_rcpts(const struct load_plan *, uint64_t number);
/* Append the sender ("<...>") and recipient k. */
void load_message_sender(struct buf *, uint64_t number);
void load_message_rcpt(struct buf *, uint64_t number, unsigned k);
/* Append the content, CRLF line ends, dots not doubled. X-Load-Id and every second body line name the message; among
 * the lines are empty ones, dots at the start, 8-bit bytes, folded fields and 998 bytes without a break. */
void load_message_content(const struct load_plan *, uint64_t number, struct buf *);
/* Append it with dots doubled and the final dot. */
void load_message_encode(struct buf *to, const struct buf *content);

#endif
