/* smtp_offers.h - what a next hop offers in its answer to EHLO, and the commands that are made to fit it */
#ifndef MILTERD_SMTP_OFFERS_H
#define MILTERD_SMTP_OFFERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/envelope.h"
#include "session/smtp_extension.h"

#define SMTP_OFFERS_ADDED_MAX (64u * 1024)	/* bytes that we and milters are expected to add to a message */

/* All false: what follows after HELO. */
struct smtp_offers {
	bool pipelining;	/* RFC 2920 */
	bool size;		/* RFC 1870 */
	unsigned extensions;	/* SMTP_EXTENSION_... */
	uint64_t size_limit;	/* bytes of a message; 0: none told */
};

/* The 250 reply to EHLO, in the form of smtp_reply.h. */
void smtp_offers_read(struct smtp_offers *, const char *reply);

/* The SMTP_EXTENSION_... without which this path cannot be handed on as it is. */
unsigned smtp_offers_needed(const struct envelope_path *);
/* A sender or recipient is not ASCII: the message can only be sent with SMTPUTF8, whether the client said so or a milter
 * made it so. */
bool smtp_offers_needs_utf8(const struct envelope *);

/* A whole command with CRLF. Parameters that are not offered are left out. size: bytes of the message as it will be
 * sent, or 0 when that is not known yet: then a SIZE that the sender has is raised, for fields that will be added.
 * utf8: SMTPUTF8 is needed, and added when the sender does not have it. */
void smtp_offers_put_mail(struct buf *, const struct smtp_offers *, const struct envelope_path *sender, uint64_t size,
	bool utf8);
void smtp_offers_put_rcpt(struct buf *, const struct smtp_offers *, const struct envelope_path *rcpt);

#endif
