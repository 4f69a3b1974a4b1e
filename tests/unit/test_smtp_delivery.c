#include "config.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "tests/unit/script_client.h"
#include "tests/unit/script_hop.h"

#define MAIL	 "MAIL FROM:<a@example.com>\r\n"
#define RCPT	 "RCPT TO:<b@example.net>\r\n"
#define ENVELOPE MAIL RCPT "DATA\r\n"
#define GO_AHEAD "250 2.1.0 *\r\n250 2.1.5 *\r\n354 *\r\n"
#define HEADER	 "Subject: x\r\nTo: b\r\n"
#define MESSAGE	 HEADER "\r\nbody\r\n"
#define QUEUED	 "250 2.0.0 queued\r\n"

/* What the next hop is told when all is well, up to its 354. */
#define HOP_BEGIN { NULL, "220 hop.test ESMTP\r\n" }, { "EHLO mx.test\r\n", "250 hop.test\r\n" }
#define HOP_MAIL  { MAIL, "250 2.1.0 Ok\r\n" }
#define HOP_RCPT  { RCPT, "250 2.1.5 Ok\r\n" }
#define HOP_DATA  { "DATA\r\n", "354 Go\r\n" }
#define HOP_DOT	  { ".\r\n", QUEUED }

static char folder[] = "/tmp/smtp-delivery-XXXXXX";
static struct script_hop hop;

static void set_up(void)
{
	log_set_level(LOG_LEVEL_ERROR);
	cr_assert_not_null(mkdtemp(folder));
}

static void tear_down(void)
{
	rmdir(folder);
}

TestSuite(smtp_delivery, .init = set_up, .fini = tear_down, .timeout = 60);

static void begin(unsigned workers, const struct exchange *const script[SCRIPT_CONNECTIONS])
{
	struct buf options = { 0 };

	buf_printf(&options, "received = no\nmax-errors = 1000\nnext-hop = smtp:unix:%s/hop\n", folder);
	buf_append(&options, "", 1);
	script_session_begin((const char *)buf_head(&options), workers);
	buf_fini(&options);
	script_hop_open(&hop, folder, "hop", script);
}

static void end(void)
{
	for (unsigned i = 0; i < hop.connections; i++)
		cr_expect_null(hop.peer[i].wrong, "the next hop waited for %s", hop.peer[i].wrong);
	script_hop_close(&hop);
	script_session_end();
}

/* Every row of the connection's table has been played. */
static bool hop_is_through(unsigned connection)
{
	const struct hop_peer *p = &hop.peer[connection];

	return hop.connections > connection && (p->wrong || (!p->at->expect && !p->at->send));
}

Test(smtp_delivery, a_message_is_passed_on_byte_for_byte_and_answered_in_the_next_hops_words)
{
	static const struct exchange all[] = {
		HOP_BEGIN, HOP_MAIL, HOP_RCPT, HOP_DATA, { HEADER "\r\n..dot\r\n", NULL }, HOP_DOT,
		HOP_MAIL, HOP_RCPT, HOP_DATA, { "\r\n", NULL }, { ".\r\n", "550 5.7.1 no thanks\r\n" }, { NULL, NULL },
	};

	for (unsigned workers = 0; workers <= 1; workers++) {
		struct script_client c;

		begin(workers, (const struct exchange *const[SCRIPT_CONNECTIONS]){ all });
		script_client_greet(&c);
		script_client_say(&c, ENVELOPE, GO_AHEAD);
		script_client_say(&c, HEADER "\r\n..dot\r\n.\r\n" ENVELOPE, QUEUED GO_AHEAD);
		script_client_say(&c, "\r\n.\r\n", "550 5.7.1 no thanks\r\n");
		script_client_say(&c, "QUIT\r\n", "221 *\r\n");
		script_client_close(&c);
		end();
	}
}

/* A refusal of the milters at each stage: what the client hears at that stage, and then to NOOP. */
static const struct refusal {
	enum ipc_event_kind at;
	enum verdict verdict;
	const char *reply;	/* of the milter */
	const char *hears;
	bool ends;
} refusals[] = {
	{ IPC_CONNECT, VERDICT_REJECT, "550 5.7.1 not you\r\n", "554 5.7.1 *\r\n", false },
	{ IPC_CONNECT, VERDICT_TEMPFAIL, NULL, "421 *\r\n", true },
	{ IPC_CONNECT, VERDICT_SHUTDOWN, "421 4.7.0 bye\r\n", "421 4.7.0 bye\r\n", true },
	{ IPC_HELO, VERDICT_REJECT, "550-5.7.1 two\r\n550 5.7.1 lines\r\n", "550-5.7.1 two\r\n550 5.7.1 lines\r\n", false },
	{ IPC_HELO, VERDICT_TEMPFAIL, NULL, "451 4.7.1 *\r\n", false },
	{ IPC_MAIL, VERDICT_REJECT, NULL, "550 5.7.1 *\r\n", false },
	{ IPC_MAIL, VERDICT_TEMPFAIL, "450 4.1.8 later\r\n", "450 4.1.8 later\r\n", false },
	{ IPC_MAIL, VERDICT_SHUTDOWN, NULL, "421 4.7.0 *\r\n", true },
	{ IPC_RCPT, VERDICT_REJECT, "550 5.7.1 no\r\n", "550 5.7.1 no\r\n", false },
	{ IPC_RCPT, VERDICT_TEMPFAIL, NULL, "451 4.7.1 *\r\n", false },
	{ IPC_RCPT, VERDICT_SHUTDOWN, NULL, "421 4.7.0 *\r\n", true },
	{ IPC_DATA, VERDICT_REJECT, "554 5.7.1 no\r\n", "554 5.7.1 no\r\n", false },
	{ IPC_DATA, VERDICT_TEMPFAIL, "421 4.3.2 busy\r\n", "421 4.3.2 busy\r\n", true },
	{ IPC_EOM, VERDICT_REJECT, "550 5.7.1 spam\r\n", "550 5.7.1 spam\r\n", false },
	{ IPC_EOM, VERDICT_TEMPFAIL, NULL, "451 4.7.1 *\r\n", false },
	{ IPC_EOM, VERDICT_SHUTDOWN, NULL, "421 4.7.0 *\r\n", true },
};

/* What is said and heard at each stage when nothing is refused. */
static const struct {
	const char *says, *hears;
} stages[] = {
	[IPC_CONNECT] = { "", "220 *\r\n" },
	[IPC_HELO] = { "HELO client.test\r\n", "250 *\r\n" },
	[IPC_MAIL] = { MAIL, "250 *\r\n" },
	[IPC_RCPT] = { RCPT, "250 *\r\n" },
	[IPC_DATA] = { "DATA\r\n", "354 *\r\n" },
	[IPC_EOM] = { MESSAGE ".\r\n", "250 *\r\n" },
};

static void say_stages(struct script_client *c, unsigned first, unsigned last)
{
	for (unsigned kind = first; kind <= last; kind++)
		script_client_say(c, stages[kind].says, stages[kind].hears);
}

Test(smtp_delivery, a_refusal_reaches_the_client_and_nothing_the_next_hop)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		const struct refusal *t = &refusals[i];
		struct script_client c;

		script_session_begin("next-hop = discard:\nmax-errors = 1000\n", 1);
		script_answers.verdict[t->at] = t->verdict;
		script_answers.reply[t->at] = t->reply;
		script_client_open(&c);
		for (unsigned kind = 0; kind < t->at; kind++)
			say_stages(&c, kind, kind);
		script_client_say(&c, stages[t->at].says, t->hears);
		if (t->ends) {
			script_client_expect_end(&c);
		} else if (t->at <= IPC_HELO) {
			bool for_good = t->hears[0] == '5';

			/* The session is refused, whatever the client tries; in the same class. */
			script_client_say(&c, "HELO again\r\n" MAIL "RSET\r\n",
					  for_good ? "503 5.7.1 *\r\n503 5.7.1 *\r\n503 5.7.1 *\r\n" :
						     "450 4.7.1 *\r\n450 4.7.1 *\r\n450 4.7.1 *\r\n");
			script_client_say(&c, "QUIT\r\n", "221 *\r\n");
		} else {
			/* The next message is another one. */
			script_answers.verdict[t->at] = VERDICT_CONTINUE;
			script_answers.reply[t->at] = NULL;
			script_client_say(&c, "RSET\r\n", "250 *\r\n");
			say_stages(&c, IPC_MAIL, IPC_EOM);
		}
		script_client_close(&c);
		script_session_end();
	}
}

Test(smtp_delivery, a_discard_is_a_yes_to_everything_and_delivers_nothing)
{
	static const struct exchange no_content[] = {
		HOP_BEGIN, HOP_MAIL, HOP_RCPT, { "QUIT\r\n", "221 bye\r\n" }, { NULL, NULL },
	};

	for (unsigned kind = IPC_MAIL; kind <= IPC_EOM; kind++) {
		struct script_client c;

		begin(1, (const struct exchange *const[SCRIPT_CONNECTIONS]){ no_content });
		script_answers.verdict[kind] = VERDICT_DISCARD;
		script_client_greet(&c);
		say_stages(&c, IPC_MAIL, IPC_EOM);
		script_client_close(&c);
		SCRIPT_WAIT_FOR(kind == IPC_MAIL || hop_is_through(0));
		cr_expect_eq(hop.connections, kind > IPC_MAIL ? 1u : 0u);
		end();
	}
}

Test(smtp_delivery, a_recipient_refused_by_a_milter_is_taken_back_at_the_next_hop)
{
	static const struct exchange taken_back[] = {
		HOP_BEGIN, HOP_MAIL, HOP_RCPT, { "RCPT TO:<c@example.net>\r\n", "250 2.1.5 Ok\r\n" },
		{ "RSET\r\n", "250 2.0.0 Ok\r\n" }, HOP_MAIL, HOP_RCPT, HOP_DATA, { MESSAGE, NULL }, HOP_DOT, { NULL, NULL },
	};
	struct script_client c;

	begin(1, (const struct exchange *const[SCRIPT_CONNECTIONS]){ taken_back });
	script_client_greet(&c);
	script_client_say(&c, MAIL RCPT, "250 *\r\n250 *\r\n");
	script_answers.verdict[IPC_RCPT] = VERDICT_REJECT;
	script_client_say(&c, "RCPT TO:<c@example.net>\r\n", "550 5.7.1 *\r\n");
	script_client_say(&c, "DATA\r\n", "354 *\r\n");
	script_client_say(&c, MESSAGE ".\r\n", QUEUED);
	cr_expect(hop_is_through(0));
	script_client_close(&c);
	end();
}

Test(smtp_delivery, edits_are_applied_while_the_message_goes_out)
{
	static const struct exchange edited[] = {
		HOP_BEGIN, HOP_MAIL, HOP_RCPT, { "RSET\r\n", "250 2.0.0 Ok\r\n" },
		{ "MAIL FROM:<other@example.com>\r\n", "250 2.1.0 Ok\r\n" }, HOP_RCPT,
		{ "RCPT TO:<new@example.net>\r\n", "250 2.1.5 Ok\r\n" }, HOP_DATA,
		{ "X-New: 1\r\nTo: b\r\n\r\nbody\r\n", NULL }, HOP_DOT, { NULL, NULL },
	};
	struct edit_segment segment[] = {
		{ .source = EDIT_RECEIVED },
		{ .source = EDIT_LITERAL, .literal = (const uint8_t *)"X-New: 1\r\n", .length = 10 },
		{ .source = EDIT_ORIGINAL, .offset = 12, .length = 7 },
	};
	struct envelope_op op[] = {
		{ .change = ENVELOPE_SENDER, .path.address = "other@example.com" },
		{ .change = ENVELOPE_ADD, .path.address = "new@example.net" },
	};
	const struct edit_result result = { .segment = segment, .segment_count = 3, .op = op, .op_count = 2, .edits = 4 };
	struct script_client c;

	begin(1, (const struct exchange *const[SCRIPT_CONNECTIONS]){ edited });
	script_answers.result = &result;
	script_client_greet(&c);
	say_stages(&c, IPC_MAIL, IPC_DATA);
	script_client_say(&c, MESSAGE ".\r\n", QUEUED);
	cr_expect(hop_is_through(0));
	script_client_close(&c);
	end();
}

/* Results that must not be delivered. */
static const struct {
	const char *what;
	struct edit_segment segment[3];
	size_t count;
	bool body_replaced;
	const char *quarantine;
	bool costs_the_worker;
} bad_results[] = {
	{ "a piece that begins inside a field", { { .source = EDIT_RECEIVED }, { .source = EDIT_ORIGINAL, .offset = 3, .length = 9 } },
	  2, false, NULL, true },
	{ "a piece behind the end", { { .source = EDIT_RECEIVED }, { .source = EDIT_ORIGINAL, .offset = 0, .length = 1000 } },
	  2, false, NULL, true },
	{ "no Received", { { .source = EDIT_ORIGINAL, .offset = 0, .length = 12 } }, 1, false, NULL, true },
	{ "a field that ends the message",
	  { { .source = EDIT_RECEIVED }, { .source = EDIT_LITERAL, .literal = (const uint8_t *)"A: b\r\n.\r\n", .length = 9 } },
	  2, false, NULL, true },
	{ "a body that was never lent", { { .source = EDIT_RECEIVED } }, 1, true, NULL, false },
	{ "a quarantine, which there is not", { { .source = EDIT_RECEIVED } }, 1, false, "looks bad", false },
};

Test(smtp_delivery, what_a_worker_may_not_make_of_a_message_is_deferred)
{
	static const struct exchange no_content[] = { HOP_BEGIN, HOP_MAIL, HOP_RCPT, { "QUIT\r\n", "221 bye\r\n" }, { NULL, NULL } };

	for (size_t i = 0; i < sizeof(bad_results) / sizeof(*bad_results); i++) {
		struct edit_segment segment[3];
		struct edit_result result = {
			.segment = segment, .segment_count = bad_results[i].count, .body_replaced = bad_results[i].body_replaced,
			.body_id = 7, .body_generation = 1, .body_length = 5, .quarantine = bad_results[i].quarantine,
		};
		struct script_client c;

		memcpy(segment, bad_results[i].segment, sizeof(segment));
		begin(1, (const struct exchange *const[SCRIPT_CONNECTIONS]){ no_content });
		script_answers.result = &result;
		script_client_greet(&c);
		say_stages(&c, IPC_MAIL, IPC_DATA);
		script_client_say(&c, MESSAGE ".\r\n", "451 4.*\r\n");
		script_turn();
		cr_expect_eq(script_workers[0].chan == NULL, bad_results[i].costs_the_worker, "%s", bad_results[i].what);
		script_client_close(&c);
		SCRIPT_WAIT_FOR(hop_is_through(0));
		end();
	}
}

Test(smtp_delivery, nobody_left_is_a_discard)
{
	static const struct exchange no_content[] = { HOP_BEGIN, HOP_MAIL, HOP_RCPT, { "QUIT\r\n", "221 bye\r\n" }, { NULL, NULL } };
	struct edit_segment segment[] = { { .source = EDIT_RECEIVED }, { .source = EDIT_ORIGINAL, .length = 19 } };
	struct envelope_op op[] = { { .change = ENVELOPE_DELETE, .path.address = "b@example.net" } };
	const struct edit_result result = { .segment = segment, .segment_count = 2, .op = op, .op_count = 1, .edits = 1 };
	struct script_client c;

	begin(1, (const struct exchange *const[SCRIPT_CONNECTIONS]){ no_content });
	script_answers.result = &result;
	script_client_greet(&c);
	say_stages(&c, IPC_MAIL, IPC_EOM);
	script_client_close(&c);
	SCRIPT_WAIT_FOR(hop_is_through(0));
	end();
}

Test(smtp_delivery, a_client_that_has_gone_gets_nothing_delivered)
{
	static const struct exchange no_dot[] = {
		HOP_BEGIN, HOP_MAIL, HOP_RCPT, HOP_DATA, { MESSAGE, NULL }, { NULL, NULL },
	};
	struct script_client c;

	begin(1, (const struct exchange *const[SCRIPT_CONNECTIONS]){ no_dot });
	script_answers.silent = IPC_INTEREST(IPC_EOM);
	script_client_greet(&c);
	say_stages(&c, IPC_MAIL, IPC_DATA);
	script_client_send(&c, MESSAGE ".\r\n");
	SCRIPT_WAIT_FOR(script_workers[0].wanted_kind == IPC_EOM);
	close(c.fd);
	c.fd = -1;
	script_turn();
	script_answers.silent = 0;
	script_client_close(&c);
	SCRIPT_WAIT_FOR(!hop.open);
	cr_expect(hop_is_through(0));
	cr_expect_eq(buf_len(&hop.peer[0].in), 0, "no dot");
	end();
}

Test(smtp_delivery, a_worker_that_dies_at_the_end_costs_no_message)
{
	static const struct exchange once[] = {
		HOP_BEGIN, HOP_MAIL, HOP_RCPT, HOP_DATA, { MESSAGE, NULL }, HOP_DOT, { NULL, NULL },
	};
	struct script_client c;

	begin(2, (const struct exchange *const[SCRIPT_CONNECTIONS]){ once });
	script_client_greet(&c);
	say_stages(&c, IPC_MAIL, IPC_DATA);
	struct script_worker *first = &script_workers[script_workers[1].opened];

	script_answers.silent = IPC_INTEREST(IPC_EOM);
	script_client_send(&c, MESSAGE ".\r\n");
	SCRIPT_WAIT_FOR(first->wanted_kind == IPC_EOM);
	script_worker_die(first);
	script_answers.silent = 0;
	script_client_expect(&c, QUEUED);
	cr_expect(hop_is_through(0));
	script_client_close(&c);
	end();
}

Test(smtp_delivery, buffers_come_back)
{
	struct script_client c;

	script_session_begin("next-hop = discard:\nmax-message-size = 16K\n", 1);
	script_client_greet(&c);
	for (unsigned i = 0; i < 20; i++) {
		script_answers.verdict[IPC_EOM] = i % 2 ? VERDICT_REJECT : VERDICT_CONTINUE;
		say_stages(&c, IPC_MAIL, IPC_DATA);
		script_client_say(&c, MESSAGE ".\r\n", i % 2 ? "550 *\r\n" : "250 *\r\n");
		say_stages(&c, IPC_MAIL, IPC_DATA);
		script_client_say(&c, "bare\n.\r\n\r\n.\r\n", "550 *\r\n");
		say_stages(&c, IPC_MAIL, IPC_RCPT);
		script_client_say(&c, "RSET\r\n", "250 *\r\n");
	}
	script_turn();
	cr_expect_eq(msgbuf_pool_count(dispatch_content()), 1);
	script_client_close(&c);
	script_session_end();
}
