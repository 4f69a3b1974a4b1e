#include "config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/resolve.h"
#include "common/smtp_reply.h"
#include "session/next_hop.h"
#include "tests/unit/script_hop.h"

#define DEADLINE_MS 5000
#define RCPT_MAX    4

#define GREETING { NULL, "220 mx.example ESMTP\r\n" }
#define EHLO	 "EHLO proxy.example\r\n"
#define PLAIN	 { EHLO, "250 mx.example\r\n" }
#define MAIL_A	 "MAIL FROM:<a@example.org>\r\n"
#define RCPT_B	 "RCPT TO:<b@example.net>\r\n"
#define RCPT_C	 "RCPT TO:<c@example.net>\r\n"
#define OK	 "250 2.0.0 Ok\r\n"
#define GO	 "354 Go ahead\r\n"
#define CONTENT	 "Subject: x\r\n\r\n..dot\r\n"
#define DOT	 ".\r\n"
#define QUIT	 { "QUIT\r\n", HOP_CLOSES }
#define ENVELOPE { MAIL_A, OK }, { RCPT_B, OK }
#define MESSAGE	 { "DATA\r\n", GO }, { CONTENT, NULL }

static char directory[] = "/tmp/next-hop-XXXXXX";
static struct timer deadline;
static const char *playing = "";

static void on_deadline(struct timer *t)
{
	(void)t;
	cr_expect(false, "%s: nothing happened in time", playing);
	loop_stop();
}

static void set_up(void)
{
	loop_init();
	resolve_init();
	log_set_level(LOG_LEVEL_ERROR);
	cr_assert_not_null(mkdtemp(directory));
	timer_init(&deadline, on_deadline, NULL);
}

static void tear_down(void)
{
	timer_fini(&deadline);
	resolve_fini();
	loop_fini();
	rmdir(directory);
}

TestSuite(next_hop, .init = set_up, .fini = tear_down, .timeout = 60);

/* What the owner does, and what it should be told. Names are one letter each: "bc" is two recipients. */
struct scenario {
	const char *name;
	const struct exchange *const script[SCRIPT_CONNECTIONS];
	const char *rcpts;	/* asked for one after another */
	const char *final;	/* delivered to them; NULL: to rcpts; "": no delivery, the transaction is reset */
	const char *expected;	/* all that came back, and what the next hop got that it did not expect */
	const char *content;	/* NULL: CONTENT before stuffing */
	const char *const *param;
	size_t param_count;
	int64_t timeout_ms;	/* 0: long */
	bool closed_gate;
	unsigned missing;	/* endpoints in front of the right one that do not exist */
	unsigned messages;	/* 0: one */
};

struct owner {
	const struct scenario *scenario;
	struct next_hop *hop;
	struct script_hop server;
	struct buf told;	/* "rcpt 250, gate, committed 250" */
	size_t rcpt;		/* the one that is asked for */
	unsigned messages;
	struct envelope_path sender;
	struct envelope_path path[RCPT_MAX];
	char address[RCPT_MAX][16];
	struct envelope final;
	struct output_piece piece;
	struct deferred again;
	bool ended;
};

static void tell(struct owner *o, const char *what, const char *reply)
{
	buf_printf(&o->told, "%s%s", buf_len(&o->told) ? ", " : "", what);
	if (reply)
		buf_printf(&o->told, " %d", smtp_reply_code(reply));
}

static void set_path(struct owner *o, size_t i, char letter)
{
	cr_assert_lt(i, RCPT_MAX);
	snprintf(o->address[i], sizeof(o->address[i]), "%c@example.net", letter);
	o->path[i] = (struct envelope_path){ .address = o->address[i] };
}

static void end_message(struct owner *o)
{
	if (++o->messages < (o->scenario->messages ? o->scenario->messages : 1)) {
		o->rcpt = 0;
		deferred_run(&o->again);
	} else {
		o->ended = true;
		loop_stop();
	}
}

static void deliver(struct owner *o)
{
	const char *final = o->scenario->final ? o->scenario->final : o->scenario->rcpts;
	const char *content = o->scenario->content ? o->scenario->content : "Subject: x\r\n\r\n.dot\r\n";
	int64_t timeout_ms = o->scenario->timeout_ms ? o->scenario->timeout_ms : DEADLINE_MS;

	if (!*final) {
		next_hop_reset(o->hop);
		end_message(o);
		return;
	}
	o->final = (struct envelope){ .sender = o->sender, .rcpt = o->path, .rcpt_count = strlen(final) };
	for (size_t i = 0; final[i]; i++)
		set_path(o, i, final[i]);
	o->piece = (struct output_piece){ .data = (const uint8_t *)content, .len = strlen(content) };
	next_hop_deliver(o->hop, &o->final, &o->piece, 1, clock_now_ms() + timeout_ms);
}

static void ask_or_deliver(struct owner *o)
{
	if (!o->scenario->rcpts[o->rcpt]) {
		deliver(o);
		return;
	}
	set_path(o, 0, o->scenario->rcpts[o->rcpt]);
	next_hop_rcpt(o->hop, &o->sender, &o->path[0]);
}

static void on_rcpt(void *ctx, const char *reply)
{
	struct owner *o = ctx;

	tell(o, "rcpt", reply);
	o->rcpt++;
	deferred_run(&o->again);
}

static bool on_gate(void *ctx)
{
	struct owner *o = ctx;

	tell(o, "gate", NULL);
	return !o->scenario->closed_gate;
}

static void on_done(void *ctx, bool committed, bool in_doubt, const char *reply)
{
	struct owner *o = ctx;

	cr_expect(!committed || !in_doubt);
	cr_expect_eq(committed, smtp_reply_code(reply) < 300);
	tell(o, committed ? "committed" : in_doubt ? "in doubt" : "not sent", reply);
	end_message(o);
}

static void on_again(struct deferred *later)
{
	ask_or_deliver(later->ctx);
}

static void on_turn(struct timer *t)
{
	struct owner *o = t->ctx;

	if (!o->server.open)
		loop_stop();
	else
		timer_set(t, 1);
}

static void run_loop(void)
{
	timer_set(&deadline, DEADLINE_MS);
	loop_run();
	timer_clear(&deadline);
}

/* Until the next hop has seen the end of every connection, so that it has all that was ever written to it. */
static void run_until_closed(struct owner *o)
{
	struct timer turn;

	timer_init(&turn, on_turn, o);
	timer_set(&turn, 0);
	run_loop();
	timer_fini(&turn);
}

static void tell_surprises(struct owner *o)
{
	for (unsigned i = 0; i < o->server.connections; i++) {
		struct hop_peer *p = &o->server.peer[i];

		if (p->deaf)
			continue;
		if (p->wrong)
			buf_printf(&o->told, ", instead of \"%s\"", p->wrong);
		if (p->wrong || (!p->at->expect && !p->at->send))
			buf_printf(&o->told, "%s%.*s", buf_len(&p->in) ? ", also " : "", (int)buf_len(&p->in),
				   (const char *)(buf_len(&p->in) ? buf_head(&p->in) : NULL));
	}
	buf_append(&o->told, "", 1);
}

static void play(const struct scenario *s)
{
	static const struct next_hop_ops ops = { .on_rcpt = on_rcpt, .on_gate = on_gate, .on_done = on_done };
	struct owner o = { .scenario = s };
	struct conf_next_hop hops[3] = { { .scheme = CONF_SCHEME_SMTP } };
	struct conf_listener listener = {
		.next_hop = { hops, s->missing + 1 },
		.timeout_next_hop = s->timeout_ms ? s->timeout_ms : DEADLINE_MS,
	};

	playing = s->name;
	script_hop_open(&o.server, directory, "hop", s->script);
	for (unsigned i = 0; i < s->missing; i++)
		hops[i].addr = (struct addr){ .family = ADDR_UNIX, .path = (char *)"/nonexistent/hop" };
	hops[s->missing].addr = (struct addr){ .family = ADDR_UNIX, .path = o.server.path };
	o.sender = (struct envelope_path){ "a@example.org", s->param, s->param_count };
	deferred_init(&o.again, on_again, &o);
	o.hop = next_hop_new(&listener, "proxy.example", 1, &ops, &o);
	ask_or_deliver(&o);
	run_loop();
	cr_expect(o.ended, "%s: it did not end", s->name);
	next_hop_free(o.hop);
	deferred_cancel(&o.again);
	run_until_closed(&o);
	tell_surprises(&o);
	cr_expect_str_eq((const char *)buf_head(&o.told), s->expected, "%s: %s\n    expected: %s", s->name,
			 (const char *)buf_head(&o.told), s->expected);
	script_hop_close(&o.server);
	buf_fini(&o.told);
}

static void play_all(const struct scenario *scenario, size_t count)
{
	for (size_t i = 0; i < count; i++)
		play(&scenario[i]);
}

#define PLAY_ALL(scenarios) play_all(scenarios, sizeof(scenarios) / sizeof(*(scenarios)))
#define SCRIPT(...)	    (const struct exchange[]){ __VA_ARGS__, { NULL, NULL } }

Test(next_hop, an_early_or_unasked_answer_is_never_taken_for_that_to_the_dot)
{
	const struct scenario scenarios[] = {
		{ .name = "yes together with the 354", .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", GO OK }) },
		  .rcpts = "b", .expected = "rcpt 250, not sent 451" },
		{ .name = "no together with the 354", .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", GO "552 5.3.4 Big\r\n" }) },
		  .rcpts = "b", .expected = "rcpt 250, not sent 552" },
		{ .name = "goodbye together with the 354", .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", GO "421 Bye\r\n" }) },
		  .rcpts = "b", .expected = "rcpt 250, not sent 451" },
		{ .name = "half an answer together with the 354", .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", GO "250 " }) },
		  .rcpts = "b", .expected = "rcpt 250, not sent 451" },
		{ .name = "yes before the 354",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", OK GO }),
			      SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", OK GO }) },
		  .rcpts = "b", .expected = "rcpt 250, not sent 451" },
		{ .name = "two answers to RCPT: the connection is given up and the envelope sent again",
		  .script = { SCRIPT(GREETING, PLAIN, { MAIL_A, OK }, { RCPT_B, OK GO }),
		    SCRIPT(GREETING, PLAIN, ENVELOPE, MESSAGE, { DOT, OK }, QUIT) },
		  .rcpts = "b", .expected = "rcpt 250, gate, committed 250" },
		{ .name = "two greetings", .script = { SCRIPT({ NULL, "220 a\r\n220 b\r\n" }) }, .rcpts = "b", .final = "", .expected = "rcpt 451" },
		{ .name = "yes, and then goodbye", .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, MESSAGE, { DOT, OK "421 Bye\r\n" }) },
		  .rcpts = "b", .expected = "rcpt 250, gate, committed 250" },
		{ .name = "no, to the dot", .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, MESSAGE, { DOT, "554 5.7.1 Spam\r\n" }, QUIT) },
		  .rcpts = "b", .expected = "rcpt 250, gate, not sent 554" },
		{ .name = "goodbye, to the dot", .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, MESSAGE, { DOT, "421 4.3.2 Bye\r\n" }) },
		  .rcpts = "b", .expected = "rcpt 250, gate, not sent 451" },
		{ .name = "354 to the dot", .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, MESSAGE, { DOT, GO }) },
		  .rcpts = "b", .expected = "rcpt 250, gate, in doubt 451" },
		{ .name = "garbage to the dot", .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, MESSAGE, { DOT, "thanks\r\n" }) },
		  .rcpts = "b", .expected = "rcpt 250, gate, in doubt 451" },
	};

	PLAY_ALL(scenarios);
}

/* More than a socket holds: the next hop answers in the middle. */
Test(next_hop, an_answer_in_the_middle_of_the_content_ends_it)
{
	static const char line[] = "a line that is not the only one, but one of very many\r\n";
	size_t lines = 50000;
	char *content = mem_alloc(lines * strlen(line) + 1);

	for (size_t i = 0; i < lines; i++)
		memcpy(content + i * strlen(line), line, strlen(line));

	const struct scenario scenarios[] = {
		{ .name = "no", .rcpts = "b", .content = content, .expected = "rcpt 250, not sent 552",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", GO }, { "a", HOP_IS_DEAF },
				     { NULL, "552 5.3.4 Too big\r\n" }) } },
		{ .name = "yes", .rcpts = "b", .content = content, .expected = "rcpt 250, not sent 451",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", GO }, { "a", HOP_IS_DEAF }, { NULL, OK }) } },
		{ .name = "the end", .rcpts = "b", .content = content, .expected = "rcpt 250, not sent 451",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", GO }, { "a", HOP_IS_DEAF },
				     { NULL, HOP_CLOSES }) } },
		{ .name = "silence", .rcpts = "b", .content = content, .expected = "rcpt 250, not sent 451",
		  .timeout_ms = 50,
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", GO }, { "a", HOP_IS_DEAF }) } },
	};

	PLAY_ALL(scenarios);
	free(content);
}

static const struct exchange happy[] = {
	GREETING, PLAIN, { MAIL_A, OK }, { RCPT_B, OK }, { "DATA\r\n", GO }, { CONTENT, NULL }, { DOT, OK },
};
#define HAPPY_STEPS (sizeof(happy) / sizeof(*happy))

/* After its first steps answers, the next hop sends this instead of the next one. */
static void break_at(size_t step, const char *send, int64_t timeout_ms, const char *expected)
{
	struct exchange script[HAPPY_STEPS + 1] = { { NULL, NULL } };
	char name[32];

	memcpy(script, happy, (step + 1) * sizeof(*happy));
	script[step].send = send;
	snprintf(name, sizeof(name), "step %zu", step);
	play(&(struct scenario){ .name = name, .script = { script, script }, .rcpts = "b", .expected = expected,
				 .timeout_ms = timeout_ms, .final = strchr(expected, ',') ? NULL : "" });
}

Test(next_hop, an_end_at_any_step_is_told_and_in_doubt_only_behind_the_dot)
{
	static const char *const expected[HAPPY_STEPS] = {
		"rcpt 451", "rcpt 451", "rcpt 451", "rcpt 451", "rcpt 250, not sent 451",
		NULL, "rcpt 250, gate, in doubt 451",
	};

	for (size_t step = 0; step < HAPPY_STEPS; step++) {
		if (expected[step])
			break_at(step, HOP_CLOSES, 0, expected[step]);
	}
}

Test(next_hop, silence_at_any_step_is_not_waited_for_for_ever)
{
	static const char *const expected[] = { "rcpt 451", "rcpt 451", "rcpt 451", "rcpt 451", "rcpt 250, not sent 451" };

	for (size_t step = 0; step < sizeof(expected) / sizeof(*expected); step++)
		break_at(step, NULL, 40, expected[step]);
}

Test(next_hop, what_is_no_smtp_is_never_passed_on)
{
	static const char *const garbage[] = { "hello\r\n", "\xff\x01\x02\n", "2500 Ok\r\n", "250-a\r\n251 b\r\n", "199 x\r\n" };
	static char line[8192];
	struct buf many = { 0 };

	for (size_t i = 0; i < sizeof(garbage) / sizeof(*garbage); i++)
		break_at(3, garbage[i], 0, "rcpt 451");
	memset(line, '2', sizeof(line) - 1);
	break_at(3, line, 0, "rcpt 451");
	for (unsigned i = 0; i < 5000; i++)
		buf_puts(&many, "250-more\r\n");
	buf_append(&many, "", 1);
	break_at(3, (const char *)buf_head(&many), 0, "rcpt 451");
	buf_fini(&many);
	/* A yes where none is due, and no where it makes no sense. */
	break_at(3, GO, 0, "rcpt 451");
	break_at(4, OK, 0, "rcpt 250, not sent 451");
}

Test(next_hop, nothing_is_committed_without_the_gate_a_clean_message_and_time)
{
	const struct scenario scenarios[] = {
		{ .name = "closed gate", .rcpts = "b", .closed_gate = true, .expected = "rcpt 250, gate, not sent 451",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, MESSAGE) } },
		{ .name = "bare LF", .rcpts = "b", .content = "a\r\n\n.\r\n", .expected = "rcpt 250, not sent 451",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", GO }) } },
		{ .name = "empty content is one", .rcpts = "b", .content = "", .expected = "rcpt 250, gate, committed 250",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", GO }, { DOT, OK }, QUIT) } },
		{ .name = "a line end is added", .rcpts = "b", .content = "a", .expected = "rcpt 250, gate, committed 250",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", GO }, { "a\r\n", NULL }, { DOT, OK }, QUIT) } },
	};

	PLAY_ALL(scenarios);
}

Test(next_hop, refusals_are_handed_on_in_the_words_of_the_next_hop)
{
	const struct scenario scenarios[] = {
		{ .name = "one recipient",
		  .script = { SCRIPT(GREETING, PLAIN, { MAIL_A, OK }, { RCPT_B, "550 5.1.1 No\r\n" }, { RCPT_C, OK }, MESSAGE, { DOT, OK },
			   QUIT) },
		  .rcpts = "bc", .final = "c", .expected = "rcpt 550, rcpt 250, gate, committed 250" },
		{ .name = "the sender, asked for once", .script = { SCRIPT(GREETING, PLAIN, { MAIL_A, "550 5.7.1 No\r\n" }, QUIT) },
		  .rcpts = "bc", .final = "", .expected = "rcpt 550, rcpt 550" },
		{ .name = "DATA", .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", "554 5.7.1 No\r\n" }, QUIT) },
		  .rcpts = "b", .expected = "rcpt 250, not sent 554" },
	};

	PLAY_ALL(scenarios);
}

#define OFFERS(...) { EHLO, "250-mx.example\r\n" __VA_ARGS__ "250 HELP\r\n" }

Test(next_hop, only_what_is_offered_is_used)
{
	static const char *const param[] = { "SIZE=1000", "BODY=8BITMIME", "RET=HDRS" };
	const struct scenario scenarios[] = {
		{ .name = "PIPELINING", .rcpts = "b", .expected = "rcpt 250, gate, committed 250",
		  .script = { SCRIPT(GREETING, OFFERS("250-pipelining\r\n"), { MAIL_A RCPT_B, OK OK }, MESSAGE, { DOT, OK },
				     QUIT) } },
		{ .name = "PIPELINING, and the sender is refused", .rcpts = "bc", .final = "", .expected = "rcpt 450, rcpt 450",
		  .script = { SCRIPT(GREETING, OFFERS("250-PIPELINING\r\n"),
				     { MAIL_A RCPT_B, "450 4.7.1 Later\r\n503 5.5.1 No\r\n" }, QUIT) } },
		{ .name = "all parameters", .rcpts = "b", .param = param, .param_count = 3,
		  .expected = "rcpt 250, gate, committed 250",
		  .script = { SCRIPT(GREETING, OFFERS("250-SIZE 70000\r\n250-8BITMIME\r\n250-DSN\r\n"),
				     { "MAIL FROM:<a@example.org> SIZE=66536 BODY=8BITMIME RET=HDRS\r\n", OK }, { RCPT_B, OK },
				     MESSAGE, { DOT, OK }, QUIT) } },
		{ .name = "what the client was offered, and this one does not have", .rcpts = "b", .param = param, .param_count = 2,
		  .final = "", .expected = "rcpt 451", .script = { SCRIPT(GREETING, OFFERS("250-DSN\r\n"), QUIT) } },
		{ .name = "the same of DSN", .rcpts = "b", .param = param + 2, .param_count = 1,
		  .final = "", .expected = "rcpt 451", .script = { SCRIPT(GREETING, OFFERS("250-8BITMIME\r\n"), QUIT) } },
		{ .name = "no parameters", .rcpts = "b", .param = param, .param_count = 1,
		  .expected = "rcpt 250, gate, committed 250",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, MESSAGE, { DOT, OK }, QUIT) } },
		{ .name = "the raised size is not raised above the limit", .rcpts = "b", .param = param, .param_count = 1,
		  .expected = "rcpt 250, gate, committed 250",
		  .script = { SCRIPT(GREETING, OFFERS("250-SIZE 1500\r\n"), { "MAIL FROM:<a@example.org> SIZE=1500\r\n", OK },
				     { RCPT_B, OK }, MESSAGE, { DOT, OK }, QUIT) } },
		{ .name = "too big", .rcpts = "b", .expected = "rcpt 250, not sent 552",
		  .script = { SCRIPT(GREETING, OFFERS("250-SIZE 10\r\n"), ENVELOPE, QUIT) } },
		{ .name = "HELO", .rcpts = "b", .expected = "rcpt 250, gate, committed 250",
		  .script = { SCRIPT(GREETING, { EHLO, "502 5.5.1 What?\r\n" }, { "HELO proxy.example\r\n", "250 mx\r\n" },
				     ENVELOPE, MESSAGE, { DOT, OK }, QUIT) } },
	};

	PLAY_ALL(scenarios);
}

Test(next_hop, another_envelope_is_sent_again_and_taken_whole_or_not_at_all)
{
	const struct scenario scenarios[] = {
		{ .name = "one recipient less",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { RCPT_C, OK }, { "RSET\r\n", OK }, { MAIL_A, OK }, { RCPT_C, OK }, MESSAGE,
			   { DOT, OK }, QUIT) },
		  .rcpts = "bc", .final = "c", .expected = "rcpt 250, rcpt 250, gate, committed 250" },
		{ .name = "one recipient more, all at once",
		  .script = { SCRIPT(GREETING, OFFERS("250-PIPELINING\r\n250-SIZE\r\n"), { MAIL_A RCPT_B, OK OK },
			   { "RSET\r\nMAIL FROM:<a@example.org> SIZE=21\r\n" RCPT_B RCPT_C, OK OK OK OK }, MESSAGE, { DOT, OK },
			   QUIT) },
		  .rcpts = "b", .final = "bc", .expected = "rcpt 250, gate, committed 250" },
		{ .name = "nobody was asked for",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, MESSAGE, { DOT, OK }, QUIT) },
		  .rcpts = "", .final = "b", .expected = "gate, committed 250" },
		{ .name = "a recipient is refused the second time",
		  .script = { SCRIPT(GREETING, OFFERS("250-PIPELINING\r\n"), { MAIL_A RCPT_B, OK OK },
			   { "RSET\r\n" MAIL_A RCPT_B RCPT_C, OK OK "550 5.1.1 No\r\n" OK }, QUIT) },
		  .rcpts = "b", .final = "bc", .expected = "rcpt 250, not sent 451" },
		{ .name = "a sender is refused the second time",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "RSET\r\n", OK }, { MAIL_A, "550 5.7.1 No\r\n" }, QUIT) },
		  .rcpts = "b", .final = "bc", .expected = "rcpt 250, not sent 451" },
	};

	PLAY_ALL(scenarios);
}

Test(next_hop, a_connection_that_was_left_over_is_replaced)
{
	const struct scenario scenarios[] = {
		{ .name = "closed while nobody asked",
		  .script = { SCRIPT(GREETING, PLAIN, { MAIL_A, OK }, { RCPT_B, OK "421 4.4.2 Bye\r\n" }),
		    SCRIPT(GREETING, PLAIN, { MAIL_A, OK }, { RCPT_C, OK }, { "RSET\r\n", OK }, ENVELOPE, { RCPT_C, OK }, MESSAGE,
			   { DOT, OK }, QUIT) },
		  .rcpts = "bc", .expected = "rcpt 250, rcpt 250, gate, committed 250" },
		{ .name = "goodbye instead of 354",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", "421 4.4.2 Bye\r\n" }),
		    SCRIPT(GREETING, PLAIN, ENVELOPE, MESSAGE, { DOT, OK }, QUIT) },
		  .rcpts = "b", .expected = "rcpt 250, gate, committed 250" },
		{ .name = "closed instead of 354",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", HOP_CLOSES }),
		    SCRIPT(GREETING, PLAIN, ENVELOPE, MESSAGE, { DOT, OK }, QUIT) },
		  .rcpts = "b", .expected = "rcpt 250, gate, committed 250" },
		{ .name = "but only once",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", HOP_CLOSES }),
		    SCRIPT(GREETING, PLAIN, ENVELOPE, { "DATA\r\n", HOP_CLOSES }) },
		  .rcpts = "b", .expected = "rcpt 250, not sent 451" },
	};

	PLAY_ALL(scenarios);
}

Test(next_hop, the_next_one_of_the_list_is_tried_until_a_sender_was_accepted)
{
	const struct scenario scenarios[] = {
		{ .name = "two are not there", .rcpts = "b", .missing = 2, .expected = "rcpt 250, gate, committed 250",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, MESSAGE, { DOT, OK }, QUIT) } },
		{ .name = "the last one does not want us", .rcpts = "b", .final = "", .missing = 1, .expected = "rcpt 451",
		  .script = { SCRIPT({ NULL, "554 5.7.1 Go away\r\n" }) } },
	};

	PLAY_ALL(scenarios);
}

Test(next_hop, one_connection_serves_many_messages)
{
	const struct scenario scenarios[] = {
		{ .name = "delivered", .rcpts = "b", .messages = 2,
		  .expected = "rcpt 250, gate, committed 250, rcpt 250, gate, committed 250",
		  .script = { SCRIPT(GREETING, PLAIN, ENVELOPE, MESSAGE, { DOT, OK }, ENVELOPE, MESSAGE, { DOT, OK }, QUIT) } },
		{ .name = "reset", .rcpts = "b", .final = "", .messages = 2, .expected = "rcpt 250, rcpt 250",
		  .script = { SCRIPT(GREETING, OFFERS("250-PIPELINING\r\n"), { MAIL_A RCPT_B, OK OK },
				     { "RSET\r\n" MAIL_A RCPT_B, OK OK OK }, QUIT) } },
		{ .name = "a refused sender is forgotten", .rcpts = "b", .final = "", .messages = 2,
		  .expected = "rcpt 450, rcpt 250",
		  .script = { SCRIPT(GREETING, PLAIN, { MAIL_A, "450 4.7.1 Later\r\n" }, { "RSET\r\n", OK }, ENVELOPE, QUIT) } },
	};

	PLAY_ALL(scenarios);
}

static void play_discard(bool closed_gate, const char *expected)
{
	static const struct next_hop_ops ops = { .on_rcpt = on_rcpt, .on_gate = on_gate, .on_done = on_done };
	struct scenario s = { .name = "discard", .rcpts = "bc", .closed_gate = closed_gate };
	struct owner o = { .scenario = &s, .sender = { .address = "" } };
	struct conf_next_hop hop = { .scheme = CONF_SCHEME_DISCARD };
	struct conf_listener listener = { .next_hop = { &hop, 1 }, .timeout_next_hop = DEADLINE_MS };

	deferred_init(&o.again, on_again, &o);
	o.hop = next_hop_new(&listener, "proxy.example", 1, &ops, &o);
	cr_expect_str_eq(next_hop_name(o.hop), "discard:");
	ask_or_deliver(&o);
	cr_expect_eq(buf_len(&o.told), 0, "never from inside the request");
	run_loop();
	next_hop_free(o.hop);
	buf_append(&o.told, "", 1);
	cr_expect_str_eq((const char *)buf_head(&o.told), expected);
	buf_fini(&o.told);
}

Test(next_hop, discard_accepts_everything_behind_the_gate)
{
	play_discard(false, "rcpt 250, rcpt 250, gate, committed 250");
	play_discard(true, "rcpt 250, rcpt 250, gate, not sent 451");
}

/* The owner leaves when the next hop has what it expects at a step, and has not answered. */
static void leave_at(size_t step)
{
	static const struct next_hop_ops ops = { .on_rcpt = on_rcpt, .on_gate = on_gate, .on_done = on_done };
	struct exchange script[HAPPY_STEPS + 1] = { { NULL, NULL } };
	const struct exchange *const scripts[SCRIPT_CONNECTIONS] = { script };
	struct scenario s = { .name = "leave", .rcpts = "b" };
	struct owner o = { .scenario = &s, .sender = { .address = "a@example.org" } };
	struct conf_next_hop hop = { .scheme = CONF_SCHEME_SMTP };
	struct conf_listener listener = { .next_hop = { &hop, 1 }, .timeout_next_hop = DEADLINE_MS };

	memcpy(script, happy, (step + 1) * sizeof(*happy));
	script[step].send = HOP_STOPS_LOOP;
	script_hop_open(&o.server, directory, "hop", scripts);
	hop.addr = (struct addr){ .family = ADDR_UNIX, .path = o.server.path };
	deferred_init(&o.again, on_again, &o);
	o.hop = next_hop_new(&listener, "proxy.example", 1, &ops, &o);
	ask_or_deliver(&o);
	run_loop();
	next_hop_free(o.hop);
	buf_clear(&o.told);
	run_until_closed(&o);
	deferred_cancel(&o.again);
	tell_surprises(&o);
	cr_expect_str_eq((const char *)buf_head(&o.told), "", "step %zu", step);
	script_hop_close(&o.server);
	buf_fini(&o.told);
}

Test(next_hop, nothing_is_told_or_sent_to_anybody_after_free)
{
	for (size_t step = 0; step <= 4; step++)
		leave_at(step);
	next_hop_free(NULL);
}
