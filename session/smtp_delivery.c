#include "config.h"

#include "session/smtp_delivery.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/child.h"
#include "common/clock.h"
#include "common/edit.h"
#include "common/log.h"
#include "common/smtp_reply.h"
#include "common/verdict.h"
#include "session/assembly.h"
#include "session/message_log.h"
#include "session/smtp_content.h"
#include "session/smtp_verdict.h"

#define VERDICT_SPARE_MS 10000	/* a worker's own deadlines come first */

static const struct conf *conf;

static enum stats_outcome outcome(const char *verdict, int code)
{
	if (strcmp(verdict, "quarantine") == 0)
		return STATS_QUARANTINED;
	if (strcmp(verdict, "discard") == 0)
		return STATS_DISCARDED;
	return code < 300 ? STATS_ACCEPTED : code < 500 ? STATS_DEFERRED : STATS_REJECTED;
}

/* The transaction is over: log it, answer, go on. abort: the milters have not heard the end of it. */
static void finish(struct smtp_session *s, const char *verdict, const char *reply, bool abort)
{
	int code = smtp_reply_code(reply);
	bool shutdown = code == 421;

	child_worked();
	stats_add(&child_stats()->session.message[outcome(verdict, code)], 1);
	message_log_finished(s, conf, verdict, reply);
	smtp_session_reply(s, reply);
	smtp_tx_reset(s, abort);
	if (shutdown)
		smtp_session_close(s);
	else if (s->busy)
		smtp_session_resume(s);
}

static void finish_discarded(struct smtp_session *s, bool abort)
{
	const char *reply = smtp_reply_make(&s->tx_arena, 250, "2.0.0",
					    arena_printf(&s->tx_arena, "Ok: queued as %s", s->tx.queue_id));

	finish(s, "discard", reply, abort);
}

/* ---- the message as it leaves ---- */

static void quarantine(struct smtp_session *s, const char *reason)
{
	log_write(LOG_LEVEL_WARNING, s->id, "%s event=quarantine reason=\"%s\" action=tempfail "
		  "cause=\"there is no quarantine to put the message in\"", s->tx.queue_id, reason);
	finish(s, "quarantine", smtp_reply_make(&s->tx_arena, 451, "4.7.1", "Message deferred by a mail filter"), false);
}

static void deliver(struct smtp_session *s, const struct edit_result *result)
{
	struct envelope before = { .sender = s->tx.sender, .rcpt = s->tx.rcpt, .rcpt_count = s->tx.rcpt_count };
	const struct output_piece *piece;
	size_t count;

	s->tx.edits = result->edits;
	if (result->quarantine) {
		quarantine(s, result->quarantine);
		return;
	}
	envelope_apply(&s->tx_arena, &before, result->op, result->op_count, &s->tx.final);
	if (!s->tx.final.rcpt_count) {
		finish_discarded(s, false);
		return;
	}
	piece = assembly_make(s, result, &count);
	if (!piece) {
		finish(s, "tempfail", smtp_reply_make(&s->tx_arena, 451, "4.3.0", "Internal error, try again later"), false);
		return;
	}
	if (!s->busy)
		smtp_session_wait(s, 0);
	next_hop_deliver(s->next_hop, &s->tx.final, piece, count, s->tx.ended_ms + s->listener->commit_deadline);
}

/* ---- milters ---- */

/* 0, or -1 when the worker's record is no legal result. */
static int take_result(struct smtp_session *s, struct wire *rest)
{
	struct edit_result result = { 0 };

	edit_result_take(rest, &s->tx_arena, s->tx.header_bytes, s->tx.header.length, &result);
	if (!wire_finished(rest))
		return -1;
	deliver(s, &result);
	return 0;
}

static void keep_said(struct smtp_session *s, const struct ipc_verdict *v)
{
	struct ipc_said *said = arena_alloc(&s->tx_arena, (v->said_count + 1) * sizeof(*said));

	for (size_t i = 0; i < v->said_count; i++)
		if (v->said[i].milter < conf->milter_count)
			said[s->tx.said_count++] = v->said[i];
	s->tx.said = said;
}

int smtp_delivery_on_verdict(struct smtp_session *s, const struct ipc_verdict *v, struct wire *rest)
{
	enum verdict verdict = (enum verdict)v->verdict;

	keep_said(s, v);
	switch (verdict) {
	case VERDICT_CONTINUE:
	case VERDICT_ACCEPT:
		timer_clear(&s->timer);
		if (take_result(s, rest) == 0)
			return 0;
		log_write(LOG_LEVEL_ERROR, s->id, "%s event=bug cause=\"illegal result of a worker\"", s->tx.queue_id);
		finish(s, "tempfail", smtp_reply_make(&s->tx_arena, 451, "4.3.0", "Internal error, try again later"), false);
		return -1;
	case VERDICT_DISCARD:
		finish_discarded(s, false);
		return 0;
	default:
		finish(s, verdict_name(verdict), smtp_verdict_reply(&s->tx_arena, v, s->hostname), false);
		return 0;
	}
}

void smtp_delivery_begin(struct smtp_session *s, const struct conf *c)
{
	struct ipc_event event = { .kind = IPC_EOM };
	struct edit_result unchanged;
	const char *refusal;

	conf = c;
	s->state = SMTP_STATE_DELIVERY;
	s->tx.ended_ms = clock_now_ms();
	if (!s->tx.failure)
		s->tx.size = s->tx.content->len;
	refusal = smtp_content_refusal(s);
	if (refusal) {
		finish(s, "refused", refusal, true);
		return;
	}
	if (s->tx.discard) {
		finish_discarded(s, true);
		return;
	}
	if (dispatch_event(s->dispatch, &event, s->tx.content)) {
		smtp_session_wait(s, s->listener->commit_deadline + VERDICT_SPARE_MS);
		return;
	}
	edit_result_unchanged(&s->tx_arena, s->tx.header.length, &unchanged);
	deliver(s, &unchanged);
}

/* ---- the next hop ---- */

bool smtp_delivery_on_gate(struct smtp_session *s)
{
	uint8_t byte;
	ssize_t n;

	if (s->ended || s->eof)
		return false;
	n = recv(s->io.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

void smtp_delivery_on_done(struct smtp_session *s, bool committed, bool in_doubt, const char *reply)
{
	const char *verdict = committed ? "accept" : in_doubt ? "in-doubt" : smtp_reply_code(reply) >= 500 ? "rejected-by-next-hop"
											 : "deferred-by-next-hop";

	if (in_doubt)
		log_write(LOG_LEVEL_WARNING, s->id, "%s event=in-doubt next-hop=%s cause=\"no answer to the final dot\"",
			  s->tx.queue_id, next_hop_name(s->next_hop));
	/* A client that delivers mail is a client with errors, not an error with a client. */
	if (committed)
		s->errors = 0;
	finish(s, verdict, arena_strdup(&s->tx_arena, reply), false);
}
