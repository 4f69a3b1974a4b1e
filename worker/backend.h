/* backend.h - one connection to a milter: what it was told, what it owes, what it may say (mfdef.h, version 6)
 *
 * Commands are told one event at a time, the content of a message as a whole. Answers come back in the order of the
 * commands that take one; backend_rules.h says which answer is legal to which command. Whatever is not, or comes
 * unasked, or late, ends the connection: on_lost. Every wait has a deadline; SMFIR_PROGRESS restarts the step, never the limit
 * that backend_set_limit() has set.
 */
#ifndef MILTERD_WORKER_BACKEND_H
#define MILTERD_WORKER_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/ipc.h"
#include "common/milter_codec.h"
#include "worker/backend_rules.h"
#include "worker/backend_send.h"
#include "worker/macros.h"

struct backend;

enum backend_loss {
	BACKEND_CLOSED,		/* the connection is gone: the milter may be told again on another */
	BACKEND_TIMED_OUT,	/* it may still be at work */
	BACKEND_BROKEN,		/* it does not speak the protocol, or cannot be shown this message */
};

struct backend_answer {
	uint8_t reply;		/* final SMFIR_*: CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, REPLYCODE, SHUTDOWN, SKIP */
	const char *text;	/* of REPLYCODE, unchecked; valid during the call */
};

struct backend_ops {
	void (*on_negotiated)(void *ctx);
	/* The answer to backend_tell(), or the one that ends backend_send_message(). */
	void (*on_answer)(void *ctx, const struct backend_answer *);
	/* A modification, at the end of a message. 0, or -1 with *why when it is not legal. */
	int (*on_edit)(void *ctx, const struct milter_reply *, const char **why);
	/* Now the end of the message is going to be written. */
	void (*on_eom)(void *ctx);
	/* Called once; nothing else is called after it, and only backend_free() is left to do. why: valid during the
	 * call. */
	void (*on_lost)(void *ctx, enum backend_loss, const char *why);
};

/* What is said on the connection, for those who want to see it. */
struct backend_tracer {
	void (*on_macros)(void *ctx, uint8_t command, const struct milter_macro *, size_t count);
	/* A command packet; subject: its first argument, or "". */
	void (*on_told)(void *ctx, uint8_t command, const char *subject, bool answered);
	/* A final answer; before the owner hears of it. */
	void (*on_reply)(void *ctx, uint8_t command, const struct backend_answer *);
};

/* Takes a connected non-blocking socket. macros: names per stage where the milter does not ask for its own; they
 * and conf must live as long as the backend. */
struct backend *backend_new(int fd, const struct conf_milter *, const char *const macros[MILTER_STAGE_COUNT],
	const struct backend_ops *, void *ctx);
/* Without a word to the milter. Allowed inside every callback. NULL is fine. */
void backend_free(struct backend *);
/* With SMFIC_QUIT where that can be written at once, and SMFIC_ABORT before it in a message. NULL is fine. */
void backend_quit(struct backend *);

/* Send OPTNEG: on_negotiated or on_lost within timeout_ms. Once. */
void backend_negotiate(struct backend *, int64_t timeout_ms);
const struct backend_options *backend_options(const struct backend *);
/* Hand it to another owner: negotiated, nothing owed. */
void backend_set_owner(struct backend *, const struct backend_ops *, void *ctx);
/* Until the next owner. */
void backend_set_tracer(struct backend *, const struct backend_tracer *, void *ctx);
/* No wait for an answer lasts beyond this time (loop_now_ms()); 0: no limit but the timeouts of each step. */
void backend_set_limit(struct backend *, int64_t deadline);
/* Content is written ahead of the answers; otherwise packet by packet. */
void backend_set_write_ahead(struct backend *, bool);

/* Tell an event other than IPC_EOM; the order is that of protocol 2.1 (libmilter ignores what is out of order without
 * an answer, so that is our bug). True: an answer is owed and comes by on_answer, and nothing else may be told until
 * then. False: it is not sent or not answered; it goes out with what comes next. */
bool backend_tell(struct backend *, const struct ipc_event *, const struct macros_scope *);
/* The content and end of the message that MAIL began: on_answer comes once, at its end or when the milter ends it
 * before. scope must live until then. */
void backend_send_message(struct backend *, const struct backend_content *, const struct macros_scope *);
/* End the message, if one is open. Nothing may be owed. */
void backend_abort(struct backend *);

/* It was told MAIL and not yet the end of that message. */
bool backend_in_message(const struct backend *);
/* It could be told RCPT in this message, or does not want it: DATA and content are legal. */
bool backend_saw_recipient(const struct backend *);
/* Nothing is owed and the last message did not end with packets on their way, which would be answered or not: it can
 * be told more. Otherwise only backend_free() is left to do. */
bool backend_reusable(const struct backend *);
/* There is nothing to be read from it, no end of file either: what every unused connection must be. */
bool backend_is_silent(const struct backend *);
/* The milter has said anything since it was handed to its owner. */
bool backend_has_answered(const struct backend *);

#endif
