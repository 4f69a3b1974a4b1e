#include "config.h"

#include "session/dispatch.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/loop.h"
#include "common/smtp_reply.h"
#include "tests/unit/script_worker.h"

#define WAIT_MS	  5000
#define LIMIT	  (1024u * 1024)
#define HEADER	  "Subject: x\r\n"
#define MESSAGE	  HEADER "\r\nbody\r\n"
#define WITH	  0u	/* the listener with a milter */
#define WITHOUT	  1u

/* A session of a process with up to two scripted workers. */
struct client {
	struct dispatch *dispatch;
	unsigned answers;
	enum verdict verdict;
	char reply[80];
	size_t segments;	/* of the result at EOM */
	bool refuse_result;
};

static struct conf_listener listeners[] = { [WITH] = { .chain_count = 1 }, [WITHOUT] = { .chain_count = 0 } };
static struct conf conf = { .listener = listeners, .listener_count = 2, .milter_count = 1 };
static struct script_worker worker[2];
static struct arena arena;
static struct timer turn_over;

static void on_turn_over(struct timer *t)
{
	(void)t;
	loop_stop();
}

static void turn(void)
{
	timer_set(&turn_over, 1);
	loop_run();
}

#define WAIT_FOR(condition)                                                                   \
	do {                                                                                  \
		int64_t end_ms = clock_now_ms() + WAIT_MS;                                    \
		while (!(condition)) {                                                        \
			cr_assert(clock_now_ms() < end_ms, "waited for %s", #condition);      \
			turn();                                                               \
		}                                                                             \
	} while (0)

static int on_verdict(void *ctx, const struct ipc_verdict *v, struct wire *rest)
{
	struct client *c = ctx;
	struct edit_result result;

	c->answers++;
	c->verdict = (enum verdict)v->verdict;
	snprintf(c->reply, sizeof(c->reply), "%s", v->reply ? v->reply : "");
	c->segments = 0;
	if (wire_finished(rest))
		return 0;
	edit_result_take(rest, &arena, (const uint8_t *)HEADER, strlen(HEADER), &result);
	c->segments = result.segment_count;
	return c->refuse_result || !wire_finished(rest) ? -1 : 0;
}

static void begin(unsigned workers)
{
	loop_init();
	timer_init(&turn_over, on_turn_over, NULL);
	dispatch_init(&conf, LIMIT, 8 * LIMIT);
	for (unsigned i = 0; i < workers; i++)
		dispatch_worker(i, script_worker_start(&worker[i]));
}

static void open_client(struct client *c, unsigned listener)
{
	static const struct dispatch_ops ops = { .on_verdict = on_verdict };
	static uint64_t last_id;

	*c = (struct client){ .dispatch = dispatch_open(listener, ++last_id, &ops, c) };
}

static void end(void)
{
	for (unsigned i = 0; i < 2; i++)
		script_worker_fini(&worker[i]);
	dispatch_fini();
	timer_fini(&turn_over);
	loop_fini();
	arena_fini(&arena);
}

static bool tell(struct client *c, enum ipc_event_kind kind)
{
	static const char *args[] = { "mail.test", "4", "25", "192.0.2.1" };
	static const char *path[] = { "<a@example.com>" };
	struct ipc_event event = { .kind = (uint8_t)kind };

	event.arg = kind == IPC_CONNECT || kind == IPC_HELO ? args : path;
	event.arg_count = kind == IPC_CONNECT ? 4 : kind == IPC_DATA ? 0 : 1;
	return dispatch_event(c->dispatch, &event, NULL);
}

static struct msgbuf *tell_eom(struct client *c)
{
	struct msgbuf *content = msgbuf_get(dispatch_content());
	struct ipc_event event = { .kind = IPC_EOM };

	cr_assert_eq(msgbuf_append(dispatch_content(), content, MESSAGE, strlen(MESSAGE)), 0);
	cr_assert(dispatch_event(c->dispatch, &event, content));
	return content;
}

/* Which worker has a wanted event that it has not answered. */
static struct script_worker *asked(void)
{
	for (unsigned i = 0; i < 2; i++)
		if (worker[i].chan && worker[i].wanted)
			return &worker[i];
	return NULL;
}

static void answer(struct script_worker *w, struct client *c, enum verdict verdict, const char *reply)
{
	unsigned before = c->answers;

	script_worker_say(w, verdict, reply);
	w->wanted = 0;
	WAIT_FOR(c->answers > before);
}

/* Tell an event that somebody wants, and have it answered with CONTINUE. */
static void pass(struct client *c, enum ipc_event_kind kind)
{
	cr_assert(tell(c, kind));
	WAIT_FOR(asked());
	answer(asked(), c, VERDICT_CONTINUE, NULL);
	cr_assert_eq(c->verdict, VERDICT_CONTINUE);
}

static void pass_until(struct client *c, enum ipc_event_kind last)
{
	for (unsigned kind = IPC_CONNECT; kind <= (unsigned)last; kind++)
		pass(c, (enum ipc_event_kind)kind);
}

static struct script_worker *other(const struct script_worker *w)
{
	return &worker[w == &worker[0]];
}

/* At which event the worker dies, what the next one is told, whether that is possible at all. */
static const struct loss {
	enum ipc_event_kind at;
	const char *replay;
} losses[] = {
	{ IPC_CONNECT, "open(0) connect:1!" },
	{ IPC_HELO, "open(0) connect:1~ helo:2!" },
	{ IPC_MAIL, "open(0) connect:1~ helo:2~ mail:3!" },
	{ IPC_RCPT, "open(0) connect:1~ helo:2~ mail:3~ rcpt:4!" },
	{ IPC_DATA, "open(0) connect:1~ helo:2~ mail:3~ rcpt:4~ data:5!" },
	{ IPC_EOM, "open(0) connect:1~ helo:2~ mail:3~ rcpt:4~ data:5~ buffer eom:6!" },
};

/* The session at the event, asked but not answered. Returns the content when there is one. */
static struct msgbuf *lose_at(struct client *c, enum ipc_event_kind at)
{
	struct msgbuf *content = NULL;

	open_client(c, WITH);
	for (unsigned kind = IPC_CONNECT; kind < at; kind++)
		pass(c, (enum ipc_event_kind)kind);
	if (at == IPC_EOM)
		content = tell_eom(c);
	else
		cr_assert(tell(c, at));
	WAIT_FOR(asked());
	return content;
}

Test(dispatch, an_illegal_record_costs_the_worker_and_nobody_else)
{
	static const struct {
		const char *what;
		struct ipc_verdict v;
	} bad[] = {
		{ "another number", { .number = 2, .origin = 2 } },
		{ "an origin after the event", { .number = 1, .origin = 2 } },
		{ "no number", { .number = 0, .origin = 0 } },
		{ "an unknown verdict", { .number = 1, .origin = 1, .verdict = VERDICT_COUNT } },
		{ "no origin", { .number = 1, .origin = 0 } },
	};

	begin(1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct client c;
		struct buf record = { 0 };

		open_client(&c, WITH);
		cr_assert(tell(&c, IPC_CONNECT));
		WAIT_FOR(asked());
		wire_put_u32(&record, bad[i].v.number);
		wire_put_u32(&record, bad[i].v.origin);
		wire_put_u8(&record, bad[i].v.verdict);
		wire_put_u8(&record, 0);
		for (int k = 0; k < 3; k++)
			wire_put_u32(&record, 0);
		script_worker_send(&worker[0], IPC_VERDICT, buf_head(&record), buf_len(&record));
		WAIT_FOR(!worker[0].chan);
		cr_expect_eq(c.answers, 0, "%s", bad[i].what);
		buf_fini(&record);
		script_worker_fini(&worker[0]);
		dispatch_worker(0, script_worker_start(&worker[0]));
		WAIT_FOR(asked());
		cr_expect_str_eq(script_worker_seen(&worker[0]), "open(0) connect:1!", "%s", bad[i].what);
		answer(&worker[0], &c, VERDICT_CONTINUE, NULL);
		dispatch_close(c.dispatch);
	}
	end();
}

Test(dispatch, records_a_worker_must_never_send_close_its_channel)
{
	static const uint8_t zeros[16];
	static const struct {
		const char *what;
		enum ipc_type type;
		size_t len;
	} bad[] = {
		{ "a verdict that is cut short", IPC_VERDICT, 5 },
		{ "an event", IPC_EVENT, 0 },
		{ "an end of message that is cut short", IPC_EOM_BEGUN, 3 },
		{ "a buffer without a descriptor", IPC_BUFFER, 8 },
		{ "a release of what it has not got", IPC_RELEASE, 8 },
		{ "a drop of what it has not lent", IPC_BUFFER_DROP, 8 },
		{ "a listener", IPC_LISTENER, 8 },
		{ "what is none", (enum ipc_type)99, 0 },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct client c;

		begin(1);
		open_client(&c, WITH);
		cr_assert(tell(&c, IPC_CONNECT));
		WAIT_FOR(asked());
		script_worker_send(&worker[0], bad[i].type, zeros, bad[i].len);
		WAIT_FOR(!worker[0].chan);
		cr_expect_eq(c.answers, 0, "%s", bad[i].what);
		dispatch_close(c.dispatch);
		end();
	}
}

Test(dispatch, only_a_refusal_can_belong_to_an_earlier_event)
{
	struct client c;
	const struct ipc_verdict v = { .number = 4, .origin = 3, .verdict = VERDICT_ACCEPT, .milter = IPC_NOBODY };

	begin(1);
	(void)lose_at(&c, IPC_RCPT);
	script_worker_verdict(&worker[0], &v);
	WAIT_FOR(!worker[0].chan);
	cr_expect_eq(c.answers, 3);
	dispatch_close(c.dispatch);
	end();
}

Test(dispatch, a_result_that_is_refused_costs_the_worker)
{
	struct client c;

	begin(1);
	open_client(&c, WITH);
	pass_until(&c, IPC_DATA);
	struct msgbuf *content = tell_eom(&c);

	c.refuse_result = true;
	WAIT_FOR(asked());
	script_worker_pass(&worker[0], strlen(HEADER));
	WAIT_FOR(!worker[0].chan);
	cr_expect_eq(c.answers, 6, "it was shown once");
	msgbuf_put(dispatch_content(), content);
	dispatch_close(c.dispatch);
	end();
}

Test(dispatch, a_listener_without_milters_needs_no_worker)
{
	struct client c;

	begin(0);
	open_client(&c, WITHOUT);
	for (unsigned kind = IPC_CONNECT; kind <= IPC_DATA; kind++)
		cr_expect_not(tell(&c, (enum ipc_event_kind)kind));
	dispatch_abort(c.dispatch);
	dispatch_close(c.dispatch);
	end();
}

Test(dispatch, what_nobody_wants_goes_with_the_next_wanted_event)
{
	struct client c;
	struct ipc_verdict v = {
		.number = 1, .origin = 1, .milter = IPC_NOBODY, .interest = IPC_INTEREST(IPC_DATA) | IPC_INTEREST(IPC_EOM),
	};

	begin(1);
	open_client(&c, WITH);
	cr_assert(tell(&c, IPC_CONNECT));
	WAIT_FOR(asked());
	script_worker_verdict(&worker[0], &v);
	WAIT_FOR(c.answers == 1);
	worker[0].wanted = 0;
	for (int i = 0; i < 3; i++)
		cr_expect_not(tell(&c, IPC_HELO));
	cr_expect_not(tell(&c, IPC_UNKNOWN));
	cr_expect_not(tell(&c, IPC_MAIL));
	cr_expect_not(tell(&c, IPC_RCPT));
	turn();
	cr_expect_str_eq(script_worker_seen(&worker[0]), "open(0) connect:1!");
	cr_assert(tell(&c, IPC_DATA));
	WAIT_FOR(asked());
	cr_expect_str_eq(script_worker_seen(&worker[0]), "helo:4 mail:5 rcpt:6 data:7!", "only the last HELO");

	/* What it says of an earlier event now is its own word, in its own words. */
	v = (struct ipc_verdict){
		.number = 7, .origin = 5, .verdict = VERDICT_REJECT, .reply = "550 5.7.1 not this sender\r\n",
		.milter = 0, .interest = IPC_INTEREST_ALL,
	};
	script_worker_verdict(&worker[0], &v);
	WAIT_FOR(c.answers == 2);
	cr_expect_eq(c.verdict, VERDICT_REJECT);
	cr_expect_str_eq(c.reply, "550 5.7.1 not this sender\r\n");
	dispatch_close(c.dispatch);
	end();
}

Test(dispatch, a_session_goes_to_the_worker_with_the_fewest)
{
	struct client c[6];

	begin(2);
	for (unsigned i = 0; i < 6; i++) {
		open_client(&c[i], WITH);
		cr_assert(tell(&c[i], IPC_CONNECT));
	}
	WAIT_FOR(worker[0].opened + worker[1].opened == 6);
	cr_expect_eq(worker[0].opened, 3);
	for (unsigned i = 0; i < 6; i += 2)
		dispatch_close(c[i].dispatch);
	for (unsigned i = 0; i < 2; i++) {
		open_client(&c[i * 2], WITH);
		cr_assert(tell(&c[i * 2], IPC_CONNECT));
	}
	WAIT_FOR(worker[0].opened + worker[1].opened == 8);
	cr_expect_eq(worker[0].opened, 5, "those that were closed were all its own");
	for (unsigned i = 0; i < 4; i++)
		dispatch_close(c[i].dispatch);
	dispatch_close(c[5].dispatch);
	end();
}

Test(dispatch, the_death_of_a_worker_is_not_noticed_by_a_client)
{
	for (size_t i = 0; i < sizeof(losses) / sizeof(*losses); i++) {
		struct client c;

		begin(2);
		struct msgbuf *content = lose_at(&c, losses[i].at);
		struct script_worker *first = asked(), *second = other(first);

		cr_expect_str_eq(script_worker_seen(second), "");
		script_worker_die(first);
		WAIT_FOR(asked() == second);
		cr_expect_str_eq(script_worker_seen(second), losses[i].replay);
		cr_expect_eq(c.answers, (unsigned)losses[i].at, "nothing was answered meanwhile");
		if (content)
			script_worker_pass(second, strlen(HEADER));
		else
			script_worker_say(second, VERDICT_CONTINUE, NULL);
		WAIT_FOR(c.answers == (unsigned)losses[i].at + 1);
		cr_expect_eq(c.verdict, content ? VERDICT_ACCEPT : VERDICT_CONTINUE);
		cr_expect_eq(c.segments, content ? 2u : 0u);
		msgbuf_put(dispatch_content(), content);
		dispatch_close(c.dispatch);
		end();
	}
}

Test(dispatch, a_worker_that_is_replaced_or_comes_later_takes_the_session_over)
{
	struct client c;

	begin(1);
	(void)lose_at(&c, IPC_RCPT);
	script_worker_fini(&worker[0]);
	dispatch_worker(0, script_worker_start(&worker[0]));
	WAIT_FOR(asked());
	cr_expect_str_eq(script_worker_seen(&worker[0]), losses[IPC_RCPT].replay);
	answer(&worker[0], &c, VERDICT_CONTINUE, NULL);

	/* While nothing is asked: what is next goes with everything before it. */
	script_worker_die(&worker[0]);
	turn();
	turn();
	cr_assert(tell(&c, IPC_DATA));
	dispatch_worker(1, script_worker_start(&worker[1]));
	WAIT_FOR(asked());
	cr_expect_str_eq(script_worker_seen(&worker[1]), losses[IPC_DATA].replay);
	dispatch_close(c.dispatch);
	end();
}

Test(dispatch, what_was_accepted_and_is_refused_at_the_replay_is_a_451)
{
	static const enum verdict refusals[] = { VERDICT_REJECT, VERDICT_DISCARD, VERDICT_TEMPFAIL };

	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		struct client c;
		struct ipc_verdict v = {
			.number = 5, .origin = 4, .verdict = (uint8_t)refusals[i], .milter = 0, .interest = IPC_INTEREST_ALL,
		};

		begin(2);
		(void)lose_at(&c, IPC_DATA);
		script_worker_die(asked());
		WAIT_FOR(asked());
		script_worker_verdict(asked(), &v);
		WAIT_FOR(c.answers == 5);
		cr_expect_eq(c.verdict, VERDICT_TEMPFAIL);
		cr_expect_eq(smtp_reply_code(c.reply), 451, "%s", c.reply);

		/* The next transaction owes nothing to this one. */
		asked()->wanted = 0;
		pass(&c, IPC_MAIL);
		dispatch_close(c.dispatch);
		end();
	}
}

Test(dispatch, a_message_that_costs_two_workers_is_deferred)
{
	struct client c;

	begin(2);
	struct msgbuf *content = lose_at(&c, IPC_EOM);
	struct script_worker *first = asked(), *second = other(first);

	script_worker_die(first);
	WAIT_FOR(asked() == second);
	script_worker_die(second);
	script_worker_fini(first);
	dispatch_worker((unsigned)(first - worker), script_worker_start(first));
	WAIT_FOR(c.answers == 6);
	cr_expect_eq(c.verdict, VERDICT_TEMPFAIL);
	cr_expect_eq(smtp_reply_code(c.reply), 451);
	msgbuf_put(dispatch_content(), content);

	/* The next message is another one. */
	pass(&c, IPC_MAIL);
	cr_expect_str_eq(script_worker_seen(first), "open(0) connect:1~ helo:2~ mail:7!");
	dispatch_close(c.dispatch);
	end();
}

Test(dispatch, a_milter_that_may_have_acted_is_not_asked_again)
{
	static const uint8_t milter[4];
	struct client c;

	begin(2);
	struct msgbuf *content = lose_at(&c, IPC_EOM);
	struct script_worker *first = asked();

	script_worker_send(first, IPC_EOM_BEGUN, milter, sizeof(milter));
	chan_flush(first->chan);
	script_worker_die(first);
	WAIT_FOR(c.answers == 6);
	cr_expect_eq(c.verdict, VERDICT_TEMPFAIL);
	cr_expect_eq(smtp_reply_code(c.reply), 451);
	cr_expect_str_eq(script_worker_seen(other(first)), "");
	msgbuf_put(dispatch_content(), content);
	dispatch_close(c.dispatch);
	end();
}

Test(dispatch, a_refused_recipient_is_not_replayed)
{
	struct client c;

	begin(2);
	(void)lose_at(&c, IPC_RCPT);
	answer(asked(), &c, VERDICT_REJECT, "550 5.7.1 no\r\n");
	dispatch_forget_rcpt(c.dispatch);
	pass(&c, IPC_RCPT);
	cr_assert(tell(&c, IPC_DATA));
	WAIT_FOR(asked());
	struct script_worker *second = other(asked());

	script_worker_die(asked());
	WAIT_FOR(asked());
	cr_expect_str_eq(script_worker_seen(second), "open(0) connect:1~ helo:2~ mail:3~ rcpt:5~ data:6!");
	dispatch_close(c.dispatch);
	end();
}

Test(dispatch, a_verdict_that_crosses_an_abort_is_nobodys)
{
	struct client c;

	begin(1);
	open_client(&c, WITH);
	pass_until(&c, IPC_HELO);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert(tell(&c, IPC_MAIL));
		WAIT_FOR(asked());
		dispatch_abort(c.dispatch);
		script_worker_say(&worker[0], VERDICT_CONTINUE, NULL);
		worker[0].wanted = 0;
	}

	/* Two of them at once. */
	cr_assert(tell(&c, IPC_MAIL));
	dispatch_abort(c.dispatch);
	cr_assert(tell(&c, IPC_MAIL));
	dispatch_abort(c.dispatch);
	WAIT_FOR(worker[0].wanted == 7);
	for (worker[0].wanted = 6; worker[0].wanted <= 7; worker[0].wanted++)
		script_worker_say(&worker[0], VERDICT_REJECT, NULL);
	worker[0].wanted = 0;
	pass(&c, IPC_MAIL);
	cr_assert_not_null(worker[0].chan);
	cr_expect_eq(c.answers, 3);
	dispatch_close(c.dispatch);
	turn();
	cr_expect_str_eq(script_worker_seen(&worker[0]), "open(0) connect:1! helo:2! mail:3! abort mail:4! abort mail:5! "
							 "abort mail:6! abort mail:7! abort mail:8! close");
	end();
}

Test(dispatch, content_is_lent_again_and_again_and_recycled_when_it_is_back)
{
	struct client c;
	const char *expected = "buffer eom:6!";

	begin(1);
	open_client(&c, WITH);
	pass_until(&c, IPC_HELO);
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned kind = IPC_MAIL; kind <= IPC_DATA; kind++)
			pass(&c, (enum ipc_event_kind)kind);
		script_worker_seen(&worker[0]);
		struct msgbuf *content = tell_eom(&c);
		unsigned before = c.answers;
		char eom[32];

		WAIT_FOR(asked());
		snprintf(eom, sizeof(eom), "eom:%u!", worker[0].wanted);
		cr_expect_str_eq(script_worker_seen(&worker[0]), i ? eom : expected, "the descriptor is passed once");
		cr_expect_eq(worker[0].content.length, strlen(MESSAGE));
		const uint8_t *data = msgbuf_views_map(worker[0].views, worker[0].content.buffer, strlen(MESSAGE));

		cr_assert(data && memcmp(data, MESSAGE, strlen(MESSAGE)) == 0);
		script_worker_pass(&worker[0], strlen(HEADER));
		script_worker_release(&worker[0]);
		worker[0].wanted = 0;
		WAIT_FOR(c.answers > before);
		msgbuf_put(dispatch_content(), content);
		turn();
		cr_expect_eq(msgbuf_pool_count(dispatch_content()), 1);
	}
	dispatch_close(c.dispatch);
	end();
}

Test(dispatch, a_replaced_body_stays_readable_when_its_worker_dies)
{
	struct msgbuf_pool *bodies = msgbuf_pool_new(LIMIT, LIMIT);
	struct msgbuf *body = msgbuf_get(bodies);
	struct client c;
	struct buf record = { 0 };

	begin(1);
	struct msgbuf *content = lose_at(&c, IPC_EOM);

	cr_assert_eq(msgbuf_append(bodies, body, "new\r\n", 5), 0);
	ipc_buffer_put(&record, &(struct ipc_buffer){ .id = body->id, .generation = body->generation });
	chan_send(worker[0].chan, IPC_BUFFER, 0, buf_head(&record), buf_len(&record), msgbuf_lend(bodies, body, 0));
	script_worker_pass(&worker[0], strlen(HEADER));
	WAIT_FOR(c.answers == 6);
	struct edit_result result = { .body_replaced = true, .body_id = body->id + 1, .body_memory = 5, .body_length = 5 };
	struct spooled bytes;

	cr_expect_eq(dispatch_body(c.dispatch, &result, &bytes), -1, "not lent");
	result.body_id = body->id;
	result.body_generation = body->generation;
	result.body_memory = result.body_length = LIMIT;
	cr_expect_eq(dispatch_body(c.dispatch, &result, &bytes), -1, "not that long");
	result.body_memory = 5;
	result.body_length = 6;
	cr_expect_eq(dispatch_body(c.dispatch, &result, &bytes), -1, "no file");
	result.body_length = 5;
	cr_assert_eq(dispatch_body(c.dispatch, &result, &bytes), 0);
	script_worker_die(&worker[0]);
	turn();
	turn();
	cr_expect(memcmp(bytes.data, "new\r\n", 5) == 0);
	dispatch_release_body(c.dispatch);
	dispatch_release_body(c.dispatch);
	msgbuf_put(dispatch_content(), content);
	dispatch_close(c.dispatch);
	buf_fini(&record);
	msgbuf_peer_gone(bodies, 0);
	msgbuf_put(bodies, body);
	msgbuf_pool_free(bodies);
	end();
}

static unsigned traces;

static void on_trace(void *ctx, const struct ipc_trace *t)
{
	(void)ctx;
	cr_expect_eq(t->kind, IPC_TRACE_TROUBLE);
	cr_expect_str_eq(t->text, "why");
	traces++;
}

static void send_trace(uint32_t milter)
{
	const struct ipc_trace t = { .kind = IPC_TRACE_TROUBLE, .milter = milter, .subject = "", .text = "why" };
	struct buf b = { 0 };

	ipc_trace_put(&b, &t);
	script_worker_send(&worker[0], IPC_TRACE, buf_head(&b), buf_len(&b));
	buf_fini(&b);
}

Test(dispatch, only_a_session_that_asked_for_traces_may_get_them)
{
	static const struct dispatch_ops ops = { .on_verdict = on_verdict, .on_trace = on_trace };
	struct client c = { 0 };

	begin(1);
	c.dispatch = dispatch_open(WITH, 77, &ops, &c);
	cr_assert(tell(&c, IPC_CONNECT));
	WAIT_FOR(worker[0].wanted == 1);
	cr_expect_str_eq(script_worker_seen(&worker[0]), "open(0,traced) connect:1!");
	send_trace(0);
	WAIT_FOR(traces == 1);
	send_trace(1);
	WAIT_FOR(!worker[0].chan);
	cr_expect_eq(traces, 1, "there is no second milter");
	dispatch_close(c.dispatch);
	end();
}

Test(dispatch, a_trace_that_nobody_asked_for_ends_the_worker)
{
	struct client c;

	begin(1);
	open_client(&c, WITH);
	cr_assert(tell(&c, IPC_CONNECT));
	WAIT_FOR(worker[0].wanted == 1);
	send_trace(0);
	WAIT_FOR(!worker[0].chan);
	dispatch_close(c.dispatch);
	end();
}

Test(dispatch, a_client_that_costs_two_workers_before_mail_is_given_up_too)
{
	for (int at = IPC_CONNECT; at <= IPC_HELO; at++) {
		struct client c;

		begin(2);
		(void)lose_at(&c, (enum ipc_event_kind)at);
		struct script_worker *first = asked(), *second = other(first);

		script_worker_die(first);
		WAIT_FOR(asked() == second);
		script_worker_die(second);
		script_worker_fini(first);
		dispatch_worker((unsigned)(first - worker), script_worker_start(first));
		WAIT_FOR(c.answers == (unsigned)at + 1);
		cr_expect_eq(c.verdict, VERDICT_TEMPFAIL);
		cr_expect_eq(smtp_reply_code(c.reply), 451);
		dispatch_close(c.dispatch);
		end();
	}
}
