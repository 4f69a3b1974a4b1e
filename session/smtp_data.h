/* smtp_data.h - the content of a message as it comes after DATA: end at CRLF.CRLF only, RFC 5321 4.5.2
 *
 * Bytes are read straight into the message's buffer and cleaned there, so that the usual message is never moved.
 * A bare CR, a bare LF or a NUL makes the message bad, never the end: it is read to its real end and refused.
 */
#ifndef MILTERD_SMTP_DATA_H
#define MILTERD_SMTP_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct smtp_data {
	uint8_t state;
	bool bare;		/* a bare CR or LF was seen */
	bool nul;		/* a NUL was seen */
	bool long_line;		/* a line above SMTP_TEXT_LINE_MAX was seen */
	size_t line;		/* bytes of the current line */
};

#define SMTP_TEXT_LINE_MAX (1024u * 1024)

void smtp_data_init(struct smtp_data *);
/* Clean len new bytes in place, removing the dots of dot-stuffing and the final dot. *kept: bytes that belong to the
 * message, now at the start of data. True when the end was found: the bytes after it, *rest of them at data + len -
 * *rest, are the client's next commands. A CR or a dot that cannot be judged yet is held in the state and given out in
 * front of later bytes: therefore data must have two bytes of room before it when this is not the first call of a
 * message, and *kept_at (data, data - 1 or data - 2) says where the kept bytes begin. */
bool smtp_data_take(struct smtp_data *, uint8_t *data, size_t len, uint8_t **kept_at, size_t *kept, size_t *rest);

#endif
