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
#include "common/edit_result.h"
#include "common/header.h"
#include "common/milter_codec.h"
#include "common/msgbuf.h"

#define EDIT_HEADER_BYTES_MAX (1024u * 1024)	/* bytes of the fields all milters of one message write */

/* After a delete: SHIFT (Postfix): the next field of the name takes its number. STABLE (Sendmail): numbers stay. */
enum edit_index { EDIT_INDEX_SHIFT, EDIT_INDEX_STABLE };

struct edit_message;
struct edits;

/* original: the header block's bytes in private memory, valid as long as the message. pool: where replaced bodies go.
 * body_limit: bytes of a replaced body at most. */
struct edit_message *edit_message_new(const struct header_block *, const uint8_t *original, struct msgbuf_pool *,
	size_t body_limit);
/* Gives a committed body back to the pool unless edit_message_take_body() has it. All edits must have been committed or
 * dropped. NULL is fine. */
void edit_message_free(struct edit_message *);

/* The fields as the next milter sees them: position 0 to count - 1. The value is without the colon; lines of a fold
 * are joined by LF alone; without leadspc one space after the colon is removed. Valid until the message changes. */
size_t edit_header_count(const struct edit_message *);
void edit_header_get(struct edit_message *, size_t position, bool leadspc, const char **name, size_t *name_len,
	const char **value, size_t *value_len);
/* The body as the next milter sees it when a milter has replaced it; NULL: the original one. */
const struct msgbuf *edit_message_body(const struct edit_message *);

/* One milter's changes. leadspc: it sends values with the space after the colon; otherwise one is added. Several may be
 * open at the same time, but when one is committed the others can only be dropped. */
struct edits *edits_begin(struct edit_message *, enum edit_index, bool leadspc);
/* Stage one modification reply (ADDHEADER, INSHEADER, CHGHEADER, REPLBODY, CHGFROM, ADDRCPT, ADDRCPT_PAR, DELRCPT,
 * QUARANTINE). 0, or -1 with *why in words (static) when it is not legal or above a limit; then drop them all. */
int edits_stage(struct edits *, const struct milter_reply *, const char **why);
/* How many modifications are staged. */
size_t edits_count(const struct edits *);
/* Both end the edits; NULL is fine for drop. A body that a commit supersedes and one that is dropped go back to the pool
 * at once: nobody may be reading them any more. */
void edits_commit(struct edits *);
void edits_drop(struct edits *);

/* The result of all committed edits; body_id and so on are those of edit_message_body(). */
void edit_result_put(struct buf *, const struct edit_message *);
/* The committed body, which the caller must lend and later put; NULL when it was not replaced. Nothing may be committed
 * afterwards. */
struct msgbuf *edit_message_take_body(struct edit_message *);

#endif
