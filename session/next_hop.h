/* next_hop.h - the SMTP client side of one session: connection, transaction, commit (RFC 5321; the final dot is gated)
 *
 * One next_hop belongs to one client session and serves its transactions one after another on one connection. Every
 * request is answered by exactly one call of its callback, later and never from inside the request; a lost connection
 * answers what is open with a 4xx reply of our own. Replies are in the form of smtp_reply.h and valid during the call.
 * The order is: rcpt, rcpt, ... then deliver, or reset at any time that no request is open.
 */
#ifndef MILTERD_NEXT_HOP_H
#define MILTERD_NEXT_HOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/envelope.h"
#include "session/output.h"

struct next_hop;

struct next_hop_ops {
	/* The answer to next_hop_rcpt(): 2xx, or the refusal to hand to the client. */
	void (*on_rcpt)(void *ctx, const char *reply);
	/* All content is written and the final dot is the next thing: true to write it. False: the connection is closed
	 * without it, on_done gets 451. The next hop's own early reply has been looked for before. It must not call this
	 * module; the other callbacks may do anything. */
	bool (*on_gate)(void *ctx);
	/* The end of next_hop_deliver(). committed: the next hop has taken the message. Otherwise reply says why not;
	 * in_doubt: the dot was written and no answer came (the reply is a 451). */
	void (*on_done)(void *ctx, bool committed, bool in_doubt, const char *reply);
};

/* Nothing is connected yet. session: for log lines. The listener's next hops are tried in order at each connection. */
struct next_hop *next_hop_new(const struct conf_listener *, const char *helo_name, uint64_t session,
	const struct next_hop_ops *, void *ctx);
/* Any open request is forgotten: no callback. A connection in the middle of content is closed without a dot, an idle
 * one gets QUIT. NULL is fine. */
void next_hop_free(struct next_hop *);

/* Ask for one more recipient of this transaction. The first call connects and sends EHLO and MAIL; a refused MAIL
 * answers the recipient with the refusal. An extension that a parameter needs and this next hop does not have: 451. The sender is the same in all calls of a transaction. Strings are copied. */
void next_hop_rcpt(struct next_hop *, const struct envelope_path *sender, const struct envelope_path *rcpt);

/* Send the message to the final envelope: when it is not the one that was asked for recipient by recipient, RSET and
 * the final one first (any refusal there: on_done with 451, or with 552 5.3.4 when the message has become too big for
 * the next hop's SIZE). deadline: clock_now_ms() at which it gives up before the dot. Pieces and envelope must live
 * until on_done. */
void next_hop_deliver(struct next_hop *, const struct envelope *final, const struct output_piece *, size_t count,
	int64_t deadline);

/* The transaction is over without delivery. The connection stays for the next one. */
void next_hop_reset(struct next_hop *);

/* For the log: the endpoint in use or tried last, or "". Valid until the next request. */
const char *next_hop_name(const struct next_hop *);

#endif
