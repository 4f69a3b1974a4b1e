/* smtp_reply.h - SMTP replies (RFC 5321 4.2) from next hops and from milters, checked and made safe
 *
 * A reply is kept as it goes to a client: one or more lines "550-5.7.1 text CRLF", the last with a blank after
 * its code, printable ASCII and UTF-8 only. So whatever holds a reply text can be sent as it is.
 */
#ifndef MILTERD_SMTP_REPLY_H
#define MILTERD_SMTP_REPLY_H

#include <stddef.h>

#include "common/buf.h"
#include "common/mem.h"

#define SMTP_REPLY_LINES_MAX	100u
#define SMTP_REPLY_LENGTH_MAX	(16u * 1024)	/* bytes of a next hop's whole reply */
#define SMTP_REPLY_MILTER_MAX	2048u		/* bytes of a milter's whole reply */

/* Take one whole reply of a peer from the buffer. 1: *code is set and *text is in the arena; 0: more bytes needed;
 * -1: not SMTP (no code, codes differ, a line above 2048 bytes, more than the limits), *why in words (static).
 * Unprintable bytes become '?'; a reply without text gets one. */
int smtp_reply_read(struct buf *, struct arena *, int *code, const char **text, const char **why);

/* The text of SMFIR_REPLYCODE: "[45]dd[ -]text" in lines separated by LF or CRLF, "%%" for "%". NULL when the code is
 * no 4xx or 5xx, lines disagree, the class of the enhanced status code differs from the code's, or there is more than
 * SMTP_REPLY_LINES_MAX lines or SMTP_REPLY_MILTER_MAX bytes (*why in words); a missing enhanced status code is not added. */
const char *smtp_reply_from_milter(struct arena *, const char *text, const char **why);

/* One reply of our own: code, enhanced status ("4.3.0", or NULL) and text, which is made safe; CRLF is added. */
const char *smtp_reply_make(struct arena *, int code, const char *enhanced, const char *text);

/* The number at the start of a kept reply. */
int smtp_reply_code(const char *reply);
/* "550 5.7.1 text / next line", without CRLF, for the log. */
void smtp_reply_print(struct buf *, const char *reply);

#endif
