/* next_hop_conn.h - one SMTP connection to one next hop: greeting, EHLO, then commands and replies, counted
 *
 * It knows nothing of mail. A connection is made once and never again: what is lost is freed, and another one opened.
 * Callbacks come from the loop only, and may free the connection.
 */
#ifndef MILTERD_NEXT_HOP_CONN_H
#define MILTERD_NEXT_HOP_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "common/addr.h"
#include "session/smtp_offers.h"

struct next_hop_conn;

struct next_hop_conn_ops {
	/* The next hop has greeted and answered EHLO (or HELO). */
	void (*on_ready)(void *ctx);
	/* A whole reply; owed: to a command that was sent, false: unasked. Not called before on_ready. */
	void (*on_reply)(void *ctx, int code, const char *reply, bool owed);
	/* Called as long as next_hop_conn_want_write() says so and all commands are written. */
	void (*on_writable)(void *ctx);
	/* It could not be made, was closed by the next hop, sent garbage or answered too late: free it. Called once. */
	void (*on_lost)(void *ctx, const char *why);
};

/* timeout_ms: for connecting, greeting and EHLO together. The strings must live as long as the connection, the address
 * needs not. */
struct next_hop_conn *next_hop_conn_open(const struct addr *, const char *helo_name, int64_t timeout_ms,
	const struct next_hop_conn_ops *, void *ctx);
/* No callback any more. Nothing is written: send QUIT before, if that is possible. NULL is fine. */
void next_hop_conn_free(struct next_hop_conn *);

bool next_hop_conn_is_ready(const struct next_hop_conn *);
const struct smtp_offers *next_hop_conn_offers(const struct next_hop_conn *);

/* Send whole commands, to which owed replies will come, each within timeout_ms of the one before. Nothing is sent to a
 * next hop that has spoken out of turn: on_reply or on_lost is about to say so. */
void next_hop_conn_send(struct next_hop_conn *, const void *, size_t len, unsigned owed, int64_t timeout_ms);
/* Write content as far as it goes now: bytes written, 0 when there is no room, -1 with errno when the connection is
 * gone (on_lost is not called). All commands must have been written. */
ssize_t next_hop_conn_write(struct next_hop_conn *, const struct iovec *, size_t count);
/* What was just written will be answered by one reply within timeout_ms. */
void next_hop_conn_expect(struct next_hop_conn *, int64_t timeout_ms);
void next_hop_conn_want_write(struct next_hop_conn *, bool);
/* The next hop has sent nothing that was not looked at, and has not closed the connection. */
bool next_hop_conn_is_quiet(const struct next_hop_conn *);

#endif
