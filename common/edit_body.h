/* edit_body.h - a body in the words of a milter, made fit to stand in a message
 *
 * Chunks may split lines and line ends anywhere. LF and CRLF are line ends, a CR within a line becomes a space, the last
 * line gets its end when it has none or half of one; so there is no bare CR or LF whatever comes.
 */
#ifndef MILTERD_EDIT_BODY_H
#define MILTERD_EDIT_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/msgbuf.h"

/* A zeroed struct edit_body is valid: nothing was replaced. */
struct edit_body {
	struct msgbuf *buffer;	/* NULL: not replaced; of length 0: by nothing */
	bool held_cr;		/* the last byte was a CR, and what it becomes depends on the next one */
	bool ended;		/* the line end at the end is not the milter's: more of the line would come before it */
};

/* Append a chunk. 0, or -1 with *why in words (static) on a NUL, above limit bytes, or without memory. */
int edit_body_add(struct edit_body *, struct msgbuf_pool *, size_t limit, const uint8_t *data, size_t len,
	const char **why);
/* Hand the buffer over; NULL when the body was not replaced. */
struct msgbuf *edit_body_finish(struct edit_body *);
/* Give the buffer back to the pool. */
void edit_body_drop(struct edit_body *, struct msgbuf_pool *);

#endif
