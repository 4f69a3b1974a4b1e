#include "config.h"

#include "session/smtp_steps.h"

#include <stdlib.h>
#include <string.h>

#include "common/child.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/smtp_path.h"
#include "common/smtp_reply.h"
#include "common/verdict.h"
#include "session/message_log.h"
#include "session/next_hop_known.h"
#include "session/session_macros.h"
#include "session/smtp_content.h"
#include "session/smtp_delivery.h"
#include "session/smtp_verdict.h"

#define VERDICT_LIMIT_MS (10 * 60 * 1000)	/* the milters' own deadlines come first: this one is for a stuck worker */

static const struct conf *conf;

void smtp_step_refuse(struct smtp_session *s, int code, const char *enhanced, const char *why)
{
	s->errors++;
	smtp_session_say(s, code, enhanced, why);
}

void smtp_step_hang_up(struct smtp_session *s, int code, const char *enhanced, const char *why)
{
	smtp_session_say(s, code, enhanced, arena_printf(&s->tx_arena, "%s %s", s->hostname, why));
	smtp_tx_reset(s, true);
	smtp_session_close(s);
}

static bool is_refusal(enum verdict verdict)
{
	return verdict == VERDICT_REJECT || verdict == VERDICT_TEMPFAIL || verdict == VERDICT_SHUTDOWN;
}

/* Tell the client what a milter has against it. True: that was the end of the session. */
static bool answer_refusal(struct smtp_session *s, const struct ipc_verdict *v, const char *stage)
{
	const char *reply = smtp_verdict_reply(&s->tx_arena, v, s->hostname);

	message_log_refused(s, conf, stage, v->milter < conf->milter_count ? v->milter : IPC_NOBODY, reply);
	smtp_session_reply(s, reply);
	s->errors++;
	if (smtp_reply_code(reply) != 421)
		return false;
	smtp_tx_reset(s, true);
	smtp_session_close(s);
	return true;
}

/* Ask the milters. True: the answer comes later, to on_answer. */
static bool ask(struct smtp_session *s, enum ipc_event_kind kind, const char **arg, size_t arg_count,
	smtp_verdict_fn *on_answer)
{
	struct milter_macro macro[IPC_MACROS_MAX];
	struct ipc_event event = { .kind = (uint8_t)kind, .arg = arg, .arg_count = arg_count, .macro = macro };

	event.macro_count = session_macros(s, kind, macro);
	if (!dispatch_event(s->dispatch, &event, NULL))
		return false;
	s->on_verdict = on_answer;
	smtp_session_wait(s, VERDICT_LIMIT_MS);
	return true;
}

/* ---- connection and HELO ---- */

static void greet(struct smtp_session *s)
{
	s->state = SMTP_STATE_GREETED;
	smtp_session_say(s, 220, NULL, arena_printf(&s->tx_arena, "%s ESMTP", s->hostname));
}

static void on_connect_verdict(struct smtp_session *s, const struct ipc_verdict *v)
{
	if (!is_refusal((enum verdict)v->verdict)) {
		greet(s);
		return;
	}
	s->state = SMTP_STATE_REFUSED;
	/* RFC 5321 3.1: a server that wants nothing of a client greets with 554. */
	struct ipc_verdict greeting = *v;

	if (v->verdict == VERDICT_REJECT && !(v->reply && smtp_reply_code(v->reply) == 554))
		greeting.reply = smtp_reply_make(&s->tx_arena, 554, "5.7.1", "No SMTP service here for you");
	if (v->verdict == VERDICT_TEMPFAIL)
		greeting.verdict = VERDICT_SHUTDOWN;
	answer_refusal(s, &greeting, "connect");
}

static void welcome(struct smtp_session *s)
{
	s->state = SMTP_STATE_READY;
	if (!s->esmtp) {
		smtp_session_say(s, 250, NULL, s->hostname);
		return;
	}
	smtp_session_reply(s, arena_printf(&s->tx_arena, "250-%s\r\n250-PIPELINING\r\n250-SIZE %llu\r\n%s%s%s"
					   "250 ENHANCEDSTATUSCODES\r\n", s->hostname, (unsigned long long)s->size_offered,
					   s->extensions & SMTP_EXTENSION_8BITMIME ? "250-8BITMIME\r\n" : "",
					   s->extensions & SMTP_EXTENSION_DSN ? "250-DSN\r\n" : "",
					   s->extensions & SMTP_EXTENSION_SMTPUTF8 ? "250-SMTPUTF8\r\n" : ""));
}

/* What the next hop takes, less what is added on the way to it. */
static void choose_offers(struct smtp_session *s)
{
	struct smtp_offers hop = next_hop_known_offers(s->listener);

	s->extensions = s->esmtp ? hop.extensions : 0;
	s->size_offered = (uint64_t)s->listener->max_message_size;
	if (hop.size_limit > SMTP_OFFERS_ADDED_MAX)
		hop.size_limit -= SMTP_OFFERS_ADDED_MAX;
	if (hop.size_limit && hop.size_limit < s->size_offered)
		s->size_offered = hop.size_limit;
}

static void on_helo_verdict(struct smtp_session *s, const struct ipc_verdict *v)
{
	if (!is_refusal((enum verdict)v->verdict))
		welcome(s);
	else if (!answer_refusal(s, v, "helo"))
		s->state = v->verdict == VERDICT_REJECT ? SMTP_STATE_REFUSED : SMTP_STATE_DEFERRED;
}

void smtp_step_helo(struct smtp_session *s, const struct smtp_command *c)
{
	const char *arg[1];

	s->esmtp = c->verb == SMTP_EHLO;
	free(s->helo);
	s->helo = mem_strdup(c->domain);
	arg[0] = s->helo;
	smtp_tx_reset(s, true);
	choose_offers(s);
	if (!ask(s, IPC_HELO, arg, 1, on_helo_verdict))
		welcome(s);
}

/* ---- MAIL and RCPT ---- */

/* Commands live for a moment, the envelope as long as its transaction. */
static struct envelope_path keep_path(struct smtp_session *s, const struct smtp_command *c)
{
	const char **param = arena_alloc(&s->tx_arena, (c->param_count + 1) * sizeof(*param));

	for (size_t i = 0; i < c->param_count; i++)
		param[i] = arena_strdup(&s->tx_arena, c->param[i]);
	return (struct envelope_path){ arena_strdup(&s->tx_arena, c->address), param, c->param_count };
}

/* Path with brackets and parameters, as milters want them. */
static size_t envelope_args(struct arena *a, const struct envelope_path *path, const char **arg)
{
	arg[0] = arena_printf(a, "<%s>", path->address);
	for (size_t i = 0; i < path->param_count; i++)
		arg[1 + i] = path->param[i];
	return 1 + path->param_count;
}

static void accept_mail(struct smtp_session *s)
{
	s->state = SMTP_STATE_MAIL;
	smtp_session_say(s, 250, "2.1.0", "Ok");
}

static void on_mail_verdict(struct smtp_session *s, const struct ipc_verdict *v)
{
	if (is_refusal((enum verdict)v->verdict)) {
		if (!answer_refusal(s, v, "mail"))
			smtp_tx_reset(s, false);
		return;
	}
	if (v->verdict == VERDICT_DISCARD)
		s->tx.discard = true;
	accept_mail(s);
}

static bool declared_too_big(const struct smtp_session *s, const struct smtp_command *c)
{
	const char *size = smtp_params_find(c->param, c->param_count, "SIZE");

	return size && strtoull(size, NULL, 10) > s->size_offered;
}

void smtp_step_mail(struct smtp_session *s, const struct smtp_command *c)
{
	const char *arg[SMTP_PARAMS_MAX + 1];

	if (declared_too_big(s, c)) {
		smtp_step_refuse(s, 552, "5.3.4", "Message size exceeds limit");
		return;
	}
	queue_id_make(s->tx.queue_id, child_slot());
	s->tx.began_ms = clock_now_ms();
	s->tx.sender = keep_path(s, c);
	s->tx.utf8 = smtp_params_find(c->param, c->param_count, "SMTPUTF8");
	if (!ask(s, IPC_MAIL, arg, envelope_args(&s->tx_arena, &s->tx.sender, arg), on_mail_verdict))
		accept_mail(s);
}

static void accept_rcpt(struct smtp_session *s, const char *reply)
{
	struct smtp_tx *tx = &s->tx;

	if (tx->rcpt_count == tx->rcpt_room) {
		size_t room = tx->rcpt_room ? tx->rcpt_room * 2 : 4;
		struct envelope_path *more = arena_alloc(&s->tx_arena, room * sizeof(*more));

		if (tx->rcpt_count)
			memcpy(more, tx->rcpt, tx->rcpt_count * sizeof(*more));
		tx->rcpt = more;
		tx->rcpt_room = room;
	}
	tx->rcpt[tx->rcpt_count++] = tx->asked;
	tx->asked = (struct envelope_path){ 0 };
	s->state = SMTP_STATE_RCPT;
	smtp_session_reply(s, reply);
}

static const char *rcpt_ok(struct smtp_session *s)
{
	return smtp_reply_make(&s->tx_arena, 250, "2.1.5", "Ok");
}

static void on_rcpt_verdict(struct smtp_session *s, const struct ipc_verdict *v)
{
	if (is_refusal((enum verdict)v->verdict)) {
		dispatch_forget_rcpt(s->dispatch);
		s->tx.refused++;
		if (!answer_refusal(s, v, "rcpt"))
			s->tx.asked = (struct envelope_path){ 0 };
		return;
	}
	if (v->verdict == VERDICT_DISCARD) {
		s->tx.discard = true;
		dispatch_abort(s->dispatch);
	}
	accept_rcpt(s, s->tx.hop_reply);
}

/* The next hop knows the recipient, or does not. */
static void on_hop_rcpt(void *ctx, const char *reply)
{
	struct smtp_session *s = ctx;
	const char *arg[SMTP_PARAMS_MAX + 1];

	if (s->ended || s->closing)
		return;
	s->busy = false;
	if (smtp_reply_code(reply) >= 300) {
		message_log_refused(s, conf, "rcpt", IPC_NOBODY, reply);
		s->errors++;
		s->tx.refused++;
		s->tx.asked = (struct envelope_path){ 0 };
		smtp_session_reply(s, reply);
	} else {
		s->tx.hop_reply = arena_strdup(&s->tx_arena, reply);
		if (ask(s, IPC_RCPT, arg, envelope_args(&s->tx_arena, &s->tx.asked, arg), on_rcpt_verdict))
			return;
		accept_rcpt(s, s->tx.hop_reply);
	}
	smtp_session_resume(s);
}

static bool on_hop_gate(void *ctx)
{
	return smtp_delivery_on_gate(ctx);
}

static void on_hop_done(void *ctx, bool committed, bool in_doubt, const char *reply)
{
	smtp_delivery_on_done(ctx, committed, in_doubt, reply);
}

void smtp_step_rcpt(struct smtp_session *s, const struct smtp_command *c)
{
	static const struct next_hop_ops ops = {
		.on_rcpt = on_hop_rcpt, .on_gate = on_hop_gate, .on_done = on_hop_done,
	};

	if (s->tx.rcpt_count >= (size_t)s->listener->max_recipients) {
		smtp_step_refuse(s, 452, "4.5.3", "Too many recipients");
		return;
	}
	s->tx.asked = keep_path(s, c);
	if (s->tx.discard) {
		accept_rcpt(s, rcpt_ok(s));
		return;
	}
	if (!s->next_hop)
		s->next_hop = next_hop_new(s->listener, s->hostname, s->id, &ops, s);
	smtp_session_wait(s, 0);
	next_hop_rcpt(s->next_hop, &s->tx.sender, &s->tx.asked);
}

/* ---- DATA ---- */

static void accept_data(struct smtp_session *s)
{
	/* Content before our 354: whoever sends that speaks to a server it has made up. */
	if (buf_len(&s->in)) {
		smtp_step_hang_up(s, 554, "5.5.0", "Error: SMTP protocol synchronization");
		return;
	}
	if (!smtp_content_begin(s)) {
		log_write(LOG_LEVEL_WARNING, s->id, "%s event=no-memory cause=\"buffer-memory is used up\"", s->tx.queue_id);
		smtp_session_say(s, 452, "4.3.1", "Insufficient system storage, try again later");
		smtp_tx_reset(s, true);
		return;
	}
	s->state = SMTP_STATE_CONTENT;
	smtp_session_say(s, 354, NULL, "End data with <CR><LF>.<CR><LF>");
}

static void on_data_verdict(struct smtp_session *s, const struct ipc_verdict *v)
{
	if (is_refusal((enum verdict)v->verdict)) {
		if (!answer_refusal(s, v, "data"))
			smtp_tx_reset(s, false);
		return;
	}
	if (v->verdict == VERDICT_DISCARD)
		s->tx.discard = true;
	accept_data(s);
}

void smtp_step_data(struct smtp_session *s)
{
	if (s->tx.discard || !ask(s, IPC_DATA, NULL, 0, on_data_verdict))
		accept_data(s);
}

/* ---- anything else, and the begin ---- */

static void on_unknown_verdict(struct smtp_session *s, const struct ipc_verdict *v)
{
	if (is_refusal((enum verdict)v->verdict))
		answer_refusal(s, v, "unknown");
	else
		smtp_step_refuse(s, 500, "5.5.2", "Error: command not recognized");
}

void smtp_step_unknown(struct smtp_session *s, const struct smtp_command *c)
{
	const char *arg[] = { c->text };

	if (!ask(s, IPC_UNKNOWN, arg, 1, on_unknown_verdict))
		smtp_step_refuse(s, 500, "5.5.2", "Error: command not recognized");
}

static int on_verdict(void *ctx, const struct ipc_verdict *v, struct wire *rest)
{
	struct smtp_session *s = ctx;

	if (s->ended || s->closing)
		return 0;
	if (s->state == SMTP_STATE_DELIVERY)
		return smtp_delivery_on_verdict(s, v, rest);
	s->busy = false;
	s->on_verdict(s, v);
	smtp_session_resume(s);
	return 0;
}

static void introduce(struct smtp_session *s)
{
	const char *arg[4], *name = smtp_session_client_name(s);
	bool local = !s->client_address[0];

	/* A client without a verified name is shown to milters by its address in brackets. */
	arg[0] = local ? "localhost" : name ? name : arena_printf(&s->tx_arena, "[%s]", s->client_address);
	arg[1] = local ? "U" : strchr(s->client_address, ':') ? "6" : "4";
	arg[2] = arena_printf(&s->tx_arena, "%u", s->client_port);
	arg[3] = s->client_address;
	if (!ask(s, IPC_CONNECT, arg, 4, on_connect_verdict))
		greet(s);
}

static void on_client_name(void *ctx, enum client_name_result result, const char *ptr)
{
	struct smtp_session *s = ctx;

	s->name_query = NULL;
	if (s->ended || s->closing)
		return;
	s->client_resolve = result;
	s->client_ptr = ptr ? mem_strdup(ptr) : NULL;
	if (result == CLIENT_NAME_TEMP || result == CLIENT_NAME_FORGED)
		log_write(LOG_LEVEL_INFO, s->id, "event=client-name client=%s name=%s resolve=%s", s->client_address,
			  ptr ? ptr : "", client_name_result_text(result));
	s->busy = false;
	introduce(s);
	if (!s->busy)
		smtp_session_resume(s);
}

void smtp_step_connect(struct smtp_session *s, const struct conf *c)
{
	static const struct dispatch_ops ops = { .on_verdict = on_verdict };

	conf = c;
	s->dispatch = dispatch_open(s->listener_number, s->id, &ops, s);
	if (!s->listener->resolve || !s->client_address[0]) {
		introduce(s);
		return;
	}
	smtp_session_wait(s, 0);
	s->name_query = client_name_start(s->client_address, on_client_name, s);
}
