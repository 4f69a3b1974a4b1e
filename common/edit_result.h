/* edit_result.h - how a message is put together after its milters, for the process that writes it
 *
 * The header block is a list of segments: pieces of the original one and fields that milters have written. Between
 * header and body stands the original separator; when the original had none and there is a body, the writer adds one.
 */
#ifndef MILTERD_EDIT_RESULT_H
#define MILTERD_EDIT_RESULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/envelope.h"
#include "common/mem.h"
#include "common/wire.h"

#define EDIT_HEADERS_MAX 1000u		/* header changes of all milters of one message */
#define EDIT_REASON_MAX	 512u		/* bytes of a quarantine reason */

enum edit_source { EDIT_ORIGINAL, EDIT_LITERAL, EDIT_RECEIVED };

struct edit_segment {
	enum edit_source source;
	size_t offset, length;		/* ORIGINAL: bytes of the original message, whole fields */
	const uint8_t *literal;		/* LITERAL: length bytes, whole fields with CRLF */
};

struct edit_result {
	struct edit_segment *segment;	/* the header block in order; RECEIVED exactly once: our own, if it is written */
	size_t segment_count;
	bool body_replaced;		/* in buffer body_id of the worker, else the original body */
	uint32_t body_id, body_generation;
	size_t body_memory, body_length;	/* bytes of it in the buffer, the others are in its file; all of them */
	struct envelope_op *op;		/* in order */
	size_t op_count;
	const char *quarantine;		/* the reason, or NULL */
	size_t edits;			/* number of modifications committed */
};

/* What edit_result_take() reads. */
void edit_result_write(struct buf *, const struct edit_result *);
/* Read what a worker says; memory from the arena. header: the original block, header_length bytes as header_parse()
 * says. Sets the reader's error when an ORIGINAL segment is not whole fields of it or they are not in their order, when
 * a LITERAL is not whole fields, when RECEIVED is not there once, or a number or text is out of its bounds. */
void edit_result_take(struct wire *, struct arena *, const uint8_t *header, size_t header_length,
	struct edit_result *);
/* The result when no milter changed anything. */
void edit_result_unchanged(struct arena *, size_t header_length, struct edit_result *);

#endif
