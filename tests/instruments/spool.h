/* spool.h - an append-only file of messages, written by the sink and the load generator, read by spool.py
 *
 * A record is the line "message ID KIND ENVELOPE-BYTES CONTENT-BYTES", the envelope, the content and a line end. The
 * envelope has a line per address, as it was on the wire after the colon: "FROM <a@b> SIZE=5", "TO <c@d>".
 * The content has dots removed.
 */
#ifndef INSTRUMENTS_SPOOL_H
#define INSTRUMENTS_SPOOL_H

#include <stdint.h>

#include "common/buf.h"

/* Open for appending, NULL: nothing is kept. Ends the process when that fails. */
int spool_open(const char *path);
/* Written when this returns. kind: "accepted", "unanswered", "sent". */
void spool_write(int fd, uint64_t id, const char *kind, const struct buf *envelope, const struct buf *content);

#endif
