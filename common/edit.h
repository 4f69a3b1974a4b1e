/* edit.h - what milters change in a message: staged, all or nothing, and handed to whoever writes the message
 *
 * A message between two milters is a list of header fields with identities. One milter's changes are staged on a copy
 * of that list, in the order they come and each seeing those before it, and committed at its final reply or dropped
 * with it. Indexes follow Postfix: counted from 1 per name; ADDHEADER at the end of the block; INSHEADER position 0
 * above our own Received, 1 right below it. Our own Received is never shown, counted or changed. Header values come
 * and go with LF as line end inside a fold; here they become CRLF.
 */
#ifndef MILTERD_EDIT_H
#define MILTERD_EDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/envelope.h"
#include "common/header.h"
#include "common/mem.h"
#include "common/milter_codec.h"
#include "common/msgbuf.h"
#include "common/wire.h"

#define EDIT_HEADERS_MAX 1000u		/* header changes of all milters of one message */

/* After a delete: SHIFT (Postfix): the next field of the name takes its number. STABLE (Sendmail): numbers stay. */
enum edit_index { EDIT_INDEX_SHIFT, EDIT_INDEX_STABLE };

struct edit_message;
struct edits;

/* original: the header block's bytes in private memory, valid as long as the message. pool: where replaced bodies go.
 * body_limit: bytes of a replaced body at most. */
struct edit_message *edit_message_new(const struct header_block *, const uint8_t *original, struct msgbuf_pool *,
	size_t body_limit);
/* Gives a committed body back to the pool unless edit_message_take_body() has it. NULL is fine. */
void edit_message_free(struct edit_message *);

/* The fields as the next milter sees them: position 0 to count - 1. The value is without the colon; lines of a fold
 * are joined by LF alone; without leadspc one blank after the colon is removed. Valid until the message changes. */
size_t edit_header_count(const struct edit_message *);
void edit_header_get(struct edit_message *, size_t position, bool leadspc, const char **name, size_t *name_len,
	const char **value, size_t *value_len);
/* The body as the next milter sees it when a milter has replaced it; NULL: the original one. */
const struct msgbuf *edit_message_body(const struct edit_message *);

/* One milter's changes. leadspc: it sends values with the blank after the colon; otherwise one is added. */
struct edits *edits_begin(struct edit_message *, enum edit_index, bool leadspc);
/* Stage one modification reply (ADDHEADER, INSHEADER, CHGHEADER, REPLBODY, CHGFROM, ADDRCPT, ADDRCPT_PAR, DELRCPT,
 * QUARANTINE). 0, or -1 with *why in words (static) when it is not legal or above a limit; then drop them all. */
int edits_stage(struct edits *, const struct milter_reply *, const char **why);
/* How many modifications are staged. */
size_t edits_count(const struct edits *);
/* Both free the edits; NULL is fine for drop. */
void edits_commit(struct edits *);
void edits_drop(struct edits *);

/* How the finished message is put together, for the process that writes it. */
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
	size_t body_length;
	struct envelope_op *op;		/* in order */
	size_t op_count;
	const char *quarantine;		/* the reason, or NULL */
	size_t edits;			/* number of modifications committed */
};

/* The result of all committed edits; body_id and so on are those of edit_message_body(). */
void edit_result_put(struct buf *, const struct edit_message *);
/* The committed body, which the caller must lend and later put; NULL when it was not replaced. */
struct msgbuf *edit_message_take_body(struct edit_message *);
/* Read what a worker says; memory from the arena. header_length: of the original block; sets the reader's error when a
 * segment lies outside it, a literal is no sequence of CRLF-ended lines without other CR, LF or NUL, or RECEIVED is not
 * there once. */
void edit_result_take(struct wire *, struct arena *, size_t header_length, struct edit_result *);
/* The result when no milter changed anything. */
void edit_result_unchanged(struct arena *, size_t header_length, struct edit_result *);

#endif
