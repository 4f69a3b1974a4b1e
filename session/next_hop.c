/* A request becomes a row of steps, as many as the state of the connection makes necessary. The connection is soft
 * state: one that was left over from an earlier request and turns out to be dead is replaced, and the steps begin
 * again, as long as no content was sent. All answers to the owner are given from one deferred call, so the owner may do
 * anything in it. */
#include "config.h"

#include "session/next_hop.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/smtp_reply.h"
#include "session/next_hop_conn.h"
#include "session/next_hop_delivery.h"
#include "session/next_hop_known.h"
#include "session/next_hop_steps.h"

#define REPLY_UNREACHABLE  "451 4.4.1 The next hop cannot be reached\r\n"
#define REPLY_LOST	   "451 4.4.2 The connection to the next hop was lost\r\n"
#define REPLY_LATE	   "451 4.4.1 The next hop did not take the message in time\r\n"
#define REPLY_ENVELOPE	   "451 4.3.0 The next hop does not take this sender and these recipients any more\r\n"
#define REPLY_NO_COMMIT	   "451 4.3.0 The message was not committed\r\n"
#define REPLY_MISSING	   "451 4.3.0 The next hop does not offer what this message needs any more\r\n"
#define REPLY_TOO_BIG	   "552 5.3.4 The message has become too big for the next hop\r\n"
#define REPLY_DISCARD_RCPT "250 2.1.5 Ok\r\n"
#define REPLY_DISCARDED	   "250 2.0.0 Ok: discarded\r\n"
#define QUIT		   "QUIT\r\n"
#define COMMANDS_KEEP	   4096u	/* bytes of memory between requests */

enum request { NONE, RCPT, DELIVER };

enum stage {
	IDLE,		/* no request is open; a connection, if there is one, is ready */
	CONNECTING,
	COMMANDS,	/* the steps */
	DELIVERING,	/* behind the 354 */
	DISCARDING,	/* instead of all that, when the next hop is discard: */
	ANSWERED,	/* the answer is about to be given */
};

struct next_hop {
	const struct conf_listener *listener;
	char *helo_name;
	uint64_t session;
	const struct next_hop_ops *ops;
	void *ctx;
	enum request request;
	enum stage stage;

	struct next_hop_conn *conn;
	size_t hop;			/* number of the next hop that is tried or in use */
	struct buf name;		/* its endpoint as text, with a NUL */
	bool opened_now;		/* it was connected for the request that is open */
	bool transaction_open;		/* it has been sent a MAIL since its greeting or the last end of a message */
	bool mail_accepted;		/* in its present transaction */

	/* The owner's transaction, and the recipients that are accepted in the connection's present one. */
	struct arena arena;
	bool has_sender;
	struct envelope accepted;
	size_t accepted_room;
	unsigned needed;		/* SMTP_EXTENSION_... by what the client said */
	char *mail_refusal;		/* the answer for every recipient, once MAIL was refused */

	/* The envelope of the open request, and what is sent of it. */
	const struct envelope *plan;
	struct envelope_path asked;	/* RCPT: the recipient */
	struct envelope question;	/* RCPT: the plan */
	struct next_hop_steps steps;
	struct buf commands;

	const struct output_piece *piece;
	size_t piece_count;
	uint64_t size;			/* output_size() of the pieces */
	int64_t deadline;		/* clock_now_ms() */
	struct timer limit;		/* of DELIVER, until its content begins */
	struct next_hop_delivery delivery;

	struct deferred answer;
	bool committed, in_doubt;
	char *reply;
};

static const struct next_hop_conn_ops conn_ops;

static void set_text(char **text, const char *value)
{
	free(*text);
	*text = value ? mem_strdup(value) : NULL;
}

static bool discards(const struct next_hop *h)
{
	return h->listener->next_hop.item[0].scheme == CONF_SCHEME_DISCARD;
}

/* The request has its answer; the owner gets it from the loop. */
static void answer(struct next_hop *h, bool committed, bool in_doubt, const char *reply)
{
	assert(h->request != NONE && h->stage != ANSWERED);
	timer_clear(&h->limit);
	h->stage = ANSWERED;
	h->committed = committed;
	h->in_doubt = in_doubt;
	set_text(&h->reply, reply);
	deferred_run(&h->answer);
}

static void end_transaction(struct next_hop *h)
{
	h->transaction_open = false;
	h->mail_accepted = false;
	h->accepted.rcpt_count = 0;
}

static void drop_connection(struct next_hop *h)
{
	next_hop_conn_free(h->conn);
	h->conn = NULL;
	end_transaction(h);
}

static void forget_transaction(struct next_hop *h)
{
	h->has_sender = false;
	h->needed = 0;
	h->mail_accepted = false;
	h->accepted.rcpt_count = 0;
	set_text(&h->mail_refusal, NULL);
	arena_reset(&h->arena);
}

static void connect_to_hop(struct next_hop *h)
{
	const struct conf_next_hop *hop = &h->listener->next_hop.item[h->hop];

	h->stage = CONNECTING;
	h->opened_now = true;
	buf_clear(&h->name);
	addr_print(&h->name, &hop->addr);
	buf_append(&h->name, "", 1);
	h->conn = next_hop_conn_open(&hop->addr, h->helo_name, h->listener->timeout_next_hop, &conn_ops, h);
}

static void connect_to_next(struct next_hop *h)
{
	if (++h->hop < h->listener->next_hop.count)
		connect_to_hop(h);
	else
		answer(h, false, false, REPLY_UNREACHABLE);
}

static void log_loss(const struct next_hop *h, const char *why)
{
	/* That a connection which was not used for a while is closed is what next hops do. */
	bool usual = h->request == NONE || (h->stage == COMMANDS && !h->opened_now);
	enum log_level level = usual ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING;

	log_write(level, h->session, "event=next-hop-lost next-hop=%s reason=\"%s\"", next_hop_name(h), why);
}

/* The connection is of no use any more: closed, silent, or not understood. */
static void lose(struct next_hop *h, const char *why)
{
	enum stage stage = h->stage;
	bool mail_accepted = h->mail_accepted;

	log_loss(h, why);
	if (stage == DELIVERING)
		next_hop_delivery_lost(&h->delivery);
	drop_connection(h);
	if (stage == CONNECTING) {
		connect_to_next(h);
	} else if (stage == COMMANDS && !h->opened_now) {
		h->hop = 0;
		connect_to_hop(h);
	} else if (stage == COMMANDS && !mail_accepted) {
		connect_to_next(h);
	} else if (stage == COMMANDS) {
		answer(h, false, false, REPLY_LOST);
	}
}

static void send_steps(struct next_hop *h)
{
	unsigned owed = next_hop_steps_put(&h->steps, &h->commands, next_hop_conn_offers(h->conn),
					   h->request == DELIVER ? h->size : 0);

	h->transaction_open = true;
	next_hop_conn_send(h->conn, buf_head(&h->commands), buf_len(&h->commands), owed, h->listener->timeout_next_hop);
	buf_clear(&h->commands);
	buf_shrink(&h->commands, COMMANDS_KEEP);
}

/* The client was offered it, and this connection does not have it. What a milter has added is not missed: its
 * parameters are left out, but an address cannot be. */
static bool lacks_extension(const struct next_hop *h)
{
	unsigned offered = next_hop_conn_offers(h->conn)->extensions;
	bool utf8 = h->request == DELIVER && smtp_offers_needs_utf8(h->plan);

	return (h->needed | (utf8 ? SMTP_EXTENSION_SMTPUTF8 : 0)) & ~offered;
}

/* The connection is ready: begin with the first step that it needs. */
static void start_steps(struct next_hop *h)
{
	uint64_t size_limit = next_hop_conn_offers(h->conn)->size_limit;
	size_t first;

	h->stage = COMMANDS;
	if (lacks_extension(h)) {
		log_write(LOG_LEVEL_NOTICE, h->session, "event=extension-missing next-hop=%s", next_hop_name(h));
		answer(h, false, false, REPLY_MISSING);
		return;
	}
	if (h->request == DELIVER && size_limit && h->size > size_limit) {
		answer(h, false, false, REPLY_TOO_BIG);
		return;
	}
	if (h->request == RCPT && h->mail_accepted) {
		first = NEXT_HOP_RCPT;
	} else if (h->request == DELIVER && h->mail_accepted && envelope_equal(&h->accepted, h->plan)) {
		first = NEXT_HOP_RCPT + h->plan->rcpt_count;
	} else {
		first = h->transaction_open ? NEXT_HOP_RSET : NEXT_HOP_MAIL;
		h->mail_accepted = false;
		h->accepted.rcpt_count = 0;
	}
	next_hop_steps_start(&h->steps, h->plan, h->request == DELIVER, first);
	send_steps(h);
}

static void keep_accepted(struct next_hop *h)
{
	if (h->accepted.rcpt_count == h->accepted_room) {
		h->accepted_room = h->accepted_room ? 2 * h->accepted_room : 4;
		h->accepted.rcpt = mem_realloc(h->accepted.rcpt, h->accepted_room * sizeof(*h->accepted.rcpt));
	}
	h->accepted.rcpt[h->accepted.rcpt_count++] = h->asked;
}

static void begin_delivery(struct next_hop *h)
{
	timer_clear(&h->limit);
	h->stage = DELIVERING;
	h->delivery.conn = h->conn;
	h->delivery.deadline = h->deadline;
	next_hop_delivery_begin(&h->delivery, h->piece, h->piece_count, h->size);
}

/* What was accepted recipient by recipient and is refused now cannot be told to the client in these words. */
static void answer_refused(struct next_hop *h)
{
	struct buf text = { 0 };

	if (h->request == RCPT || h->steps.refused == next_hop_data_step(&h->steps)) {
		answer(h, false, false, h->steps.refusal);
		return;
	}
	smtp_reply_print(&text, h->steps.refusal);
	log_write(LOG_LEVEL_INFO, h->session, "event=envelope-refused next-hop=%s reply=\"%.*s\"", next_hop_name(h),
		  (int)buf_len(&text), (const char *)buf_head(&text));
	buf_fini(&text);
	answer(h, false, false, REPLY_ENVELOPE);
}

static void take_reply(struct next_hop *h, int code, const char *reply)
{
	bool to_mail = h->steps.to_answer == NEXT_HOP_MAIL;
	enum next_hop_result result = next_hop_steps_take(&h->steps, code, reply);

	if (to_mail && result != NEXT_HOP_NONSENSE) {
		h->mail_accepted = code < 300;
		if (code >= 300 && h->request == RCPT)
			set_text(&h->mail_refusal, reply);
	}
	switch (result) {
	case NEXT_HOP_WAIT:
		break;
	case NEXT_HOP_SEND:
		send_steps(h);
		break;
	case NEXT_HOP_REFUSED:
		answer_refused(h);
		break;
	case NEXT_HOP_NONSENSE:
		lose(h, code == 421 ? "it closes the connection" : "a reply that makes no sense");
		break;
	case NEXT_HOP_ACCEPTED:
		if (h->request == DELIVER) {
			begin_delivery(h);
		} else {
			keep_accepted(h);
			answer(h, false, false, reply);
		}
		break;
	}
}

static void on_reply(void *ctx, int code, const char *reply, bool owed)
{
	struct next_hop *h = ctx;

	if (h->stage == DELIVERING)
		next_hop_delivery_reply(&h->delivery, code, reply, owed);
	else if (h->stage == COMMANDS && owed)
		take_reply(h, code, reply);
	else
		lose(h, "it speaks out of turn");
}

static void on_ready(void *ctx)
{
	struct next_hop *h = ctx;

	next_hop_known_set(h->listener, h->hop, next_hop_conn_offers(h->conn));
	start_steps(h);
}

static void on_writable(void *ctx)
{
	struct next_hop *h = ctx;

	assert(h->stage == DELIVERING);
	next_hop_delivery_writable(&h->delivery);
}

static void on_lost(void *ctx, const char *why)
{
	lose(ctx, why);
}

static const struct next_hop_conn_ops conn_ops = {
	.on_ready = on_ready,
	.on_reply = on_reply,
	.on_writable = on_writable,
	.on_lost = on_lost,
};

static bool may_commit(void *ctx)
{
	struct next_hop *h = ctx;

	return h->ops->on_gate(h->ctx);
}

static void on_delivery_end(void *ctx, bool committed, bool in_doubt, bool in_step, const char *reply)
{
	struct next_hop *h = ctx;

	if (in_doubt)
		log_write(LOG_LEVEL_WARNING, h->session, "event=in-doubt next-hop=%s", next_hop_name(h));
	if (in_step)
		end_transaction(h);
	else
		drop_connection(h);
	answer(h, committed, in_doubt, reply);
}

static const struct next_hop_delivery_ops delivery_ops = {
	.may_commit = may_commit,
	.on_end = on_delivery_end,
};

static void on_limit(struct timer *t)
{
	struct next_hop *h = t->ctx;

	drop_connection(h);
	answer(h, false, false, REPLY_LATE);
}

static void on_answer(struct deferred *later)
{
	struct next_hop *h = later->ctx;
	bool rcpt = h->request == RCPT;
	char *reply = h->reply;

	if (h->stage == DISCARDING) {
		bool go = h->ops->on_gate(h->ctx);

		answer(h, go, false, go ? REPLY_DISCARDED : REPLY_NO_COMMIT);
		return;
	}
	h->reply = NULL;
	h->request = NONE;
	h->stage = IDLE;
	if (rcpt) {
		h->ops->on_rcpt(h->ctx, reply);
	} else {
		forget_transaction(h);
		h->ops->on_done(h->ctx, h->committed, h->in_doubt, reply);
	}
	free(reply);
}

struct next_hop *next_hop_new(const struct conf_listener *listener, const char *helo_name, uint64_t session,
	const struct next_hop_ops *ops, void *ctx)
{
	struct next_hop *h = mem_alloc(sizeof(*h));

	assert(listener->next_hop.count > 0);
	h->listener = listener;
	h->helo_name = mem_strdup(helo_name);
	h->session = session;
	h->ops = ops;
	h->ctx = ctx;
	h->delivery.ops = &delivery_ops;
	h->delivery.ctx = h;
	h->delivery.session = session;
	h->delivery.write_ms = listener->timeout_next_hop;
	timer_init(&h->limit, on_limit, h);
	deferred_init(&h->answer, on_answer, h);
	return h;
}

void next_hop_free(struct next_hop *h)
{
	if (!h)
		return;
	if (h->conn && (h->stage == IDLE || h->stage == ANSWERED))
		next_hop_conn_send(h->conn, QUIT, strlen(QUIT), 0, h->listener->timeout_next_hop);
	next_hop_delivery_fini(&h->delivery);
	next_hop_steps_fini(&h->steps);
	drop_connection(h);
	forget_transaction(h);
	timer_fini(&h->limit);
	deferred_cancel(&h->answer);
	arena_fini(&h->arena);
	buf_fini(&h->name);
	buf_fini(&h->commands);
	free(h->accepted.rcpt);
	free(h->reply);
	free(h->helo_name);
	free(h);
}

static void copy_path(struct arena *arena, struct envelope_path *to, const struct envelope_path *from)
{
	const char **param = arena_alloc(arena, from->param_count * sizeof(*param));

	for (size_t i = 0; i < from->param_count; i++)
		param[i] = arena_strdup(arena, from->param[i]);
	*to = (struct envelope_path){ arena_strdup(arena, from->address), param, from->param_count };
}

static void begin(struct next_hop *h, enum request request, const struct envelope *plan)
{
	assert(h->request == NONE);
	h->request = request;
	h->plan = plan;
	h->opened_now = false;
	if (request == RCPT && discards(h)) {
		answer(h, false, false, REPLY_DISCARD_RCPT);
	} else if (discards(h)) {
		h->stage = DISCARDING;
		deferred_run(&h->answer);
	} else if (request == RCPT && h->mail_refusal) {
		answer(h, false, false, h->mail_refusal);
	} else if (h->conn) {
		start_steps(h);
	} else {
		h->hop = 0;
		connect_to_hop(h);
	}
}

void next_hop_rcpt(struct next_hop *h, const struct envelope_path *sender, const struct envelope_path *rcpt)
{
	if (!h->has_sender)
		copy_path(&h->arena, &h->accepted.sender, sender);
	h->has_sender = true;
	copy_path(&h->arena, &h->asked, rcpt);
	h->needed |= smtp_offers_needed(sender) | smtp_offers_needed(rcpt);
	h->question = (struct envelope){ .sender = h->accepted.sender, .rcpt = &h->asked, .rcpt_count = 1 };
	begin(h, RCPT, &h->question);
}

void next_hop_deliver(struct next_hop *h, const struct envelope *final, const struct output_piece *piece, size_t count,
	int64_t deadline)
{
	assert(final->rcpt_count > 0);
	h->piece = piece;
	h->piece_count = count;
	h->size = output_size(piece, count);
	h->deadline = deadline;
	timer_set(&h->limit, deadline - clock_now_ms());
	begin(h, DELIVER, final);
}

void next_hop_reset(struct next_hop *h)
{
	assert(h->request == NONE);
	forget_transaction(h);
}

const char *next_hop_name(const struct next_hop *h)
{
	if (discards(h))
		return "discard:";
	return buf_len(&h->name) ? (const char *)buf_head(&h->name) : "";
}
