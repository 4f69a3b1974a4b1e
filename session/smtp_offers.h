/* smtp_offers.h - what a next hop offers in its answer to EHLO, and the commands that are made to fit it */
#ifndef MILTERD_SMTP_OFFERS_H
#define MILTERD_SMTP_OFFERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/envelope.h"

/* All false: what follows after HELO. */
struct smtp_offers {
	bool pipelining;	/* RFC 2920 */
	bool eightbitmime;	/* RFC 6152 */
	bool size;		/* RFC 1870 */
	bool dsn;		/* RFC 3461 */
	uint64_t size_limit;	/* bytes of a message; 0: none told */
};

/* The 250 reply to EHLO, in the form of smtp_reply.h. */
void smtp_offers_read(struct smtp_offers *, const char *reply);

/* A whole command with CRLF. Parameters that are not offered are left out. size: bytes of the message as it will be
 * sent, or 0 when that is not known yet: then a SIZE that the sender has is raised, for fields that will be added. */
void smtp_offers_put_mail(struct buf *, const struct smtp_offers *, const struct envelope_path *sender, uint64_t size);
void smtp_offers_put_rcpt(struct buf *, const struct smtp_offers *, const struct envelope_path *rcpt);

#endif
