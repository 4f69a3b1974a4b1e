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

#define SMTP_TEXT_LINE_MAX (1024u * 1024)

enum smtp_data_state {
	SMTP_DATA_LINE_START,
	SMTP_DATA_TEXT,		/* inside a line */
	SMTP_DATA_CR,		/* after a CR, which is held */
	SMTP_DATA_DOT,		/* after a dot at the start of a line, which is swallowed */
	SMTP_DATA_DOT_CR,	/* after a CR behind that dot, which is held */
	SMTP_DATA_END
};

struct smtp_data {
	uint8_t state;
	bool bare;		/* a bare CR or LF was seen */
	bool nul;		/* a NUL was seen */
	bool long_line;		/* a line above SMTP_TEXT_LINE_MAX was seen */
	size_t line;		/* bytes of the current line */
};

void smtp_data_init(struct smtp_data *);

/* Bytes (0 or 1) that were taken but cannot be judged yet. Whoever reads on this far behind the end of the message has
 * kept_at exactly at that end, and nothing needs to be moved. */
static inline size_t smtp_data_held(const struct smtp_data *d)
{
	return d->state == SMTP_DATA_CR || d->state == SMTP_DATA_DOT_CR;
}

/* Clean len new bytes in place, removing the dots of dot-stuffing and the final dot. *kept: bytes that belong to the
 * message, now at *kept_at, which is smtp_data_held() bytes (as it was before the call) in front of data: there must be
 * that room. True when the end was found: the bytes after it, *rest of them at data + len - *rest, are the client's
 * next commands. Must not be called again after the end. */
bool smtp_data_take(struct smtp_data *, uint8_t *data, size_t len, uint8_t **kept_at, size_t *kept, size_t *rest);

#endif
