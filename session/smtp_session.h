/* smtp_session.h - one client connection: its bytes, replies, timers and end, and what its modules share
 *
 * smtp_verbs reads commands, smtp_content takes the message, smtp_delivery takes it through milters to the next hop;
 * they meet here. A session is ended from anywhere with smtp_session_end(); its memory goes at the end of the turn of
 * the loop, so callers only have to look at ->ended before they go on.
 */
#ifndef MILTERD_SMTP_SESSION_H
#define MILTERD_SMTP_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/buf.h"
#include "common/conf.h"
#include "common/envelope.h"
#include "common/header.h"
#include "common/ipc.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/msgbuf.h"
#include "session/client_name.h"
#include "session/dispatch.h"
#include "session/next_hop.h"
#include "session/queue_id.h"
#include "session/smtp_command.h"
#include "session/smtp_data.h"

enum smtp_state {
	SMTP_STATE_CONNECT,	/* before our greeting */
	SMTP_STATE_GREETED,	/* before HELO */
	SMTP_STATE_READY,	/* no transaction */
	SMTP_STATE_MAIL,	/* MAIL was accepted, no recipient yet */
	SMTP_STATE_RCPT,	/* at least one recipient */
	SMTP_STATE_CONTENT,	/* after our 354 */
	SMTP_STATE_DELIVERY,	/* the end of the message was seen, its answer is due */
	SMTP_STATE_REFUSED,	/* a milter wants nothing of this client: only QUIT is left */
	SMTP_STATE_DEFERRED,	/* the same, but the client may try again on another connection */
	SMTP_STATE_COUNT
};

/* One transaction. Zeroed as a whole by smtp_tx_reset(), the only way out of one. */
struct smtp_tx {
	char queue_id[QUEUE_ID_SIZE];	/* "": no transaction */
	struct envelope_path sender;
	struct envelope_path *rcpt;	/* accepted ones */
	size_t rcpt_count, rcpt_room;
	struct envelope_path asked;	/* the recipient in question */
	const char *hop_reply;		/* to it */
	size_t refused;			/* recipients */
	bool utf8;			/* MAIL had SMTPUTF8 */
	bool discard;			/* a milter wants it thrown away: say yes to everything */

	struct smtp_data data;
	struct msgbuf *content;		/* NULL after a failure */
	const uint8_t *header_bytes;	/* the header block and more, once the content was judged */
	struct header_block header;	/* of the content */
	uint64_t size;			/* bytes received, also those that were thrown away */
	int failure;			/* errno of the buffer: the content is read to its end and refused */

	int64_t began_ms, ended_ms;	/* MAIL, end of the content */
	struct envelope final;
	const struct ipc_said *said;	/* what the milters said, for the log */
	size_t said_count, edits;
};

struct smtp_session;
typedef void smtp_verdict_fn(struct smtp_session *, const struct ipc_verdict *);

struct smtp_session {
	uint64_t id;
	unsigned listener_number;
	const struct conf_listener *listener;
	const char *hostname;		/* ours */
	char client_address[46];	/* "" on a UNIX socket */
	uint16_t client_port;
	struct client_name_query *name_query;
	enum client_name_result client_resolve;
	char *client_ptr;		/* the name its address points to, owned; NULL: none */
	char local_address[46];
	uint16_t local_port;

	struct io io;
	struct timer timer;		/* the client's, or that of the verdict when busy */
	struct deferred gone;		/* frees the session */
	struct buf in, out;
	struct smtp_line_reader lines;
	bool eof;			/* the client sends nothing more */
	bool busy;			/* an answer from elsewhere is due: no command is taken */
	bool closing;			/* nothing more is read; ends when the output is written */
	bool ended;

	enum smtp_state state;
	unsigned errors;
	bool esmtp;
	unsigned extensions;		/* SMTP_EXTENSION_... that EHLO was answered with */
	uint64_t size_offered;		/* bytes of a message */
	char *helo;			/* owned; NULL before HELO */
	struct arena tx_arena;		/* the transaction's */
	struct smtp_tx tx;
	struct dispatch *dispatch;
	struct next_hop *next_hop;	/* NULL until the first recipient */

	smtp_verdict_fn *on_verdict;	/* who asked the milters, except for the content */
	/* New input, or the end of being busy. Set by smtp_verbs. */
	void (*on_input)(struct smtp_session *);
	/* Called at the end, for who counts sessions. */
	void (*on_end)(struct smtp_session *);
	struct smtp_session *prev, *next;
};

/* The verified name of the client, or NULL. */
static inline const char *smtp_session_client_name(const struct smtp_session *s)
{
	return s->client_resolve == CLIENT_NAME_OK ? s->client_ptr : NULL;
}

/* Takes the descriptor of an accepted connection; reads nothing yet. */
struct smtp_session *smtp_session_new(const struct conf *, unsigned listener, uint64_t id, const char *hostname, int fd);
/* The connection is gone, or should be. What is in the output is lost. */
void smtp_session_end(struct smtp_session *);
/* No more input is taken; ends when the output is written and the client has closed, at most 2 s later. */
void smtp_session_close(struct smtp_session *);

/* Replies are gathered and written by smtp_session_flush(). */
void smtp_session_reply(struct smtp_session *, const char *reply);	/* in the form of smtp_reply.h */
void smtp_session_say(struct smtp_session *, int code, const char *enhanced, const char *text);
void smtp_session_flush(struct smtp_session *);
/* The client does not read what we write: no command is taken until it does. */
bool smtp_session_is_full(const struct smtp_session *);

/* An answer from elsewhere is due, within this time (0: whoever owes it has a deadline of its own); until
 * smtp_session_resume() no input is looked at. */
void smtp_session_wait(struct smtp_session *, int64_t limit_ms);
void smtp_session_resume(struct smtp_session *);
/* The client is due within this time. */
void smtp_session_expect(struct smtp_session *, int64_t limit_ms);

/* End the transaction in every part of the session. abort: no verdict has ended it for the milters. */
void smtp_tx_reset(struct smtp_session *, bool abort);

#endif
