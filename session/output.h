/* output.h - a message on its way out: pieces in memory become dot-stuffed SMTP content without being copied
 *
 * Whatever the pieces are, what comes out are lines that end in CRLF (a last line without one gets it), a line that
 * starts with a dot gets another, and there is no CRLF.CRLF: the final dot is the caller's, and a write of its own.
 */
#ifndef MILTERD_OUTPUT_H
#define MILTERD_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct output_piece {
	const uint8_t *data;
	size_t len;
};

struct output {
	const struct output_piece *piece;	/* the caller's; must live until the end */
	size_t count;
	size_t at, offset;	/* next byte to be put out; behind the last piece: bytes of the added line end */
	uint8_t state;
	bool broken;		/* a bare CR or LF or a NUL: nothing more comes out, the message must not be sent */
	uint64_t bytes;		/* of the pieces put out, without stuffing */
};

void output_init(struct output *, const struct output_piece *, size_t count);
/* Up to max vectors of what comes next, at most about limit bytes (not 0); 0 at the end or when broken. */
size_t output_next(struct output *, struct iovec *, size_t max, size_t limit);
/* len bytes of those vectors were written. */
void output_sent(struct output *, size_t len);
bool output_finished(const struct output *);
/* Bytes with stuffing and added line end that the pieces will be; for SIZE and for the check that everything was sent.
 * Of a message that is broken, those before the first bad line. */
uint64_t output_size(const struct output_piece *, size_t count);

#endif
