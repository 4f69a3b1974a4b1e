/* control_request.h - what milterctl and the master say to each other on the control socket
 *
 * A connection carries one request and one answer. Request: u32 length, then the words of the command line, each with
 * its NUL. Answer: u32 exit status for milterctl, u32 length, then one JSON object; the connection ends behind it. Integers
 * are big endian.
 */
#ifndef MILTERD_CONTROL_REQUEST_H
#define MILTERD_CONTROL_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

#define CONTROL_REQUEST_MAX 4096u			/* bytes of a request behind its length */
#define CONTROL_WORDS_MAX   16u
#define CONTROL_ANSWER_MAX  (16u * 1024 * 1024)		/* bytes of an answer's object */

struct control_request {
	const char *word[CONTROL_WORDS_MAX];	/* in the buffer, valid as long as it does not change */
	size_t count;				/* at least 1 */
};

/* 0, or -1 when the words are none, too many or too long; then nothing is appended. */
int control_request_put(struct buf *, const char *const *word, size_t count);
/* The request that is all of the buffer. 1: there; 0: more bytes are needed; -1: it can never be one. */
int control_request_take(const struct buf *, struct control_request *);

struct control_answer {
	uint32_t status;
	const char *json;			/* as the words above; not NUL-terminated */
	size_t len;
};

void control_answer_put(struct buf *, uint32_t status, const char *json, size_t len);
/* As control_request_take(). */
int control_answer_take(const struct buf *, struct control_answer *);

#endif
