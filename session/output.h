/* output.h - a message on its way out: pieces become dot-stuffed SMTP content, those in memory without being copied
 *
 * Of a piece in a file one window is in memory, which all messages share: vectors must be written before anything else
 * here is called. A file that is too short breaks the message.
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
	const uint8_t *data;	/* NULL: in a file */
	size_t len;
	int file;		/* the caller's */
	size_t file_at;		/* where in it the piece begins */
};

struct output {
	const struct output_piece *piece;	/* the caller's; must live until the end */
	size_t count;
	uint64_t number;	/* whose window it is */
	size_t at, offset;	/* next byte to be put out; behind the last piece: bytes of the added line end */
	uint8_t state;
	bool broken;		/* a bare CR or LF, a NUL, or bytes that cannot be read: nothing more comes out, the message must not be sent */
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
