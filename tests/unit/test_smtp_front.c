#include "config.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/log.h"
#include "session/smtp_verbs.h"
#include "tests/unit/script_client.h"

#define DISCARD	 "next-hop = discard:\n"
#define EHLO_OK	 "250-mx.test\r\n250-PIPELINING\r\n250-SIZE *\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
#define MAIL	 "MAIL FROM:<a@example.com>\r\n"
#define RCPT	 "RCPT TO:<b@example.net>\r\n"
#define MAIL_OK	 "250 2.1.0 *\r\n"
#define RCPT_OK	 "250 2.1.5 *\r\n"
#define DATA_OK	 "354 *\r\n"
#define ENVELOPE MAIL RCPT "DATA\r\n"
#define GO_AHEAD MAIL_OK RCPT_OK DATA_OK
#define QUEUED	 "250 2.0.0 *\r\n"
#define BODY	 "Subject: x\r\n\r\nbody\r\n.\r\n"

static void quiet(void)
{
	log_set_level(LOG_LEVEL_ERROR);
}

TestSuite(smtp_front, .init = quiet, .timeout = 60);

Test(smtp_front, the_matrix_is_that_of_rfc_5321_4_1_4)
{
	static const char expected[] =
		"greeted: HELO=ok EHLO=ok MAIL=503 RCPT=503 DATA=503 RSET=ok NOOP=ok QUIT=ok VRFY=ok HELP=ok other=ok foreign=ok\n"
		"ready: HELO=ok EHLO=ok MAIL=ok RCPT=503 DATA=503 RSET=ok NOOP=ok QUIT=ok VRFY=ok HELP=ok other=ok foreign=ok\n"
		"mail: HELO=ok EHLO=ok MAIL=503 RCPT=ok DATA=554 RSET=ok NOOP=ok QUIT=ok VRFY=ok HELP=ok other=ok foreign=ok\n"
		"rcpt: HELO=ok EHLO=ok MAIL=503 RCPT=ok DATA=ok RSET=ok NOOP=ok QUIT=ok VRFY=ok HELP=ok other=ok foreign=ok\n"
		"refused: HELO=503 EHLO=503 MAIL=503 RCPT=503 DATA=503 RSET=503 NOOP=503 QUIT=ok VRFY=503 HELP=503 other=503 "
		"foreign=ok\n"
		"deferred: HELO=450 EHLO=450 MAIL=450 RCPT=450 DATA=450 RSET=450 NOOP=450 QUIT=ok VRFY=450 HELP=450 other=450 "
		"foreign=ok\n";
	struct buf b = { 0 };

	smtp_verbs_print_matrix(&b);
	buf_append(&b, "", 1);
	cr_expect_str_eq((const char *)buf_head(&b), expected);
	buf_fini(&b);
}

/* What a client says after EHLO, as one write, and every byte it hears. */
static const struct conversation {
	const char *rule, *says, *hears;
	bool ends;		/* the connection, afterwards */
} conversations[] = {
	{ "content before the 354 is a client that speaks to somebody else",
	  ENVELOPE "Subject: x\r\n", MAIL_OK RCPT_OK "554 5.5.0 *\r\n", true },
	{ "nothing may follow EHLO in its group", "EHLO again.test\r\n" MAIL, "554 5.5.0 *\r\n", true },
	{ "HTTP", "GET / HTTP/1.1\r\nHost: mx\r\n\r\n", "221 2.7.0 *\r\n", true },
	{ "a header field is no command", "Host: mx\r\n" MAIL, "221 2.7.0 *\r\n", true },
	{ "BDAT, whose payload would be read as commands", MAIL RCPT "BDAT 5 LAST\r\nQUIT\r", MAIL_OK RCPT_OK "521 *\r\n", true },
	{ "a bare LF makes a line no line, and no two", "MAIL FROM:<a@example.com>\nRCPT TO:<b@example.net>\r\nRSET\r\n",
	  "500 5.5.2 *\r\n250 2.0.0 *\r\n", false },
	{ "a bare CR", "NOOP\rRSET\r\n", "500 5.5.2 *\r\n", false },
	{ "order", RCPT "DATA\r\n", "503 5.5.1 *\r\n503 5.5.1 *\r\n", false },
	{ "one MAIL at a time, and RSET ends it", MAIL MAIL "RSET\r\n" MAIL, MAIL_OK "503 5.5.1 *\r\n250 2.0.0 *\r\n" MAIL_OK,
	  false },
	{ "DATA needs a recipient", MAIL "DATA\r\n", MAIL_OK "554 5.5.1 *\r\n", false },
	{ "RSET forgets recipients", MAIL RCPT "RSET\r\n" MAIL "DATA\r\n",
	  MAIL_OK RCPT_OK "250 2.0.0 *\r\n" MAIL_OK "554 5.5.1 *\r\n", false },
	{ "a message without recipients left is no way around DATA", MAIL "RCPT TO:<>\r\nDATA\r\n",
	  MAIL_OK "501 5.1.3 *\r\n554 5.5.1 *\r\n", false },
	{ "the declared size", "MAIL FROM:<a@example.com> SIZE=20000\r\nMAIL FROM:<a@example.com> SIZE=99999999999999999999\r\n"
	  "MAIL FROM:<a@example.com> SIZE=16384\r\n", "552 5.3.4 *\r\n552 5.3.4 *\r\n" MAIL_OK, false },
	{ "the number of recipients", MAIL RCPT RCPT RCPT, MAIL_OK RCPT_OK RCPT_OK "452 4.5.3 *\r\n", false },
	{ "unknown parameters", "MAIL FROM:<a@example.com> AUTH=<>\r\n" MAIL "RCPT TO:<b@example.net> RET=FULL\r\n",
	  "555 5.5.4 *\r\n" MAIL_OK "555 5.5.4 *\r\n", false },
	{ "an address that is not ASCII needs SMTPUTF8 in its own transaction", "MAIL FROM:<\xc3\xa9@example.com>\r\n"
	  "MAIL FROM:<\xc3\xa9@example.com> SMTPUTF8\r\nRSET\r\n" MAIL "RCPT TO:<\xc3\xa9@example.net>\r\nRSET\r\n"
	  "MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<\xc3\xa9@example.net>\r\nRCPT TO:<\xe9@example.net>\r\n",
	  "553 5.6.7 *\r\n" MAIL_OK "250 2.0.0 *\r\n" MAIL_OK "553 5.6.7 *\r\n250 2.0.0 *\r\n" MAIL_OK RCPT_OK
	  "500 5.5.2 *\r\n", false },
	{ "HELO offers nothing", "HELO client.test\r\n", "250 mx.test\r\n", false },
	{ "errors are counted", "A\r\nB\r\nC\r\nD\r\nE\r\nF\r\nG\r\n",
	  "500 5.5.2 *\r\n500 5.5.2 *\r\n500 5.5.2 *\r\n500 5.5.2 *\r\n500 5.5.2 *\r\n421 4.7.0 *\r\n", true },
	{ "commands that change nothing", "NOOP\r\nnoop x\r\nVRFY bob\r\nHELP\r\nEXPN list\r\nSTARTTLS\r\nAUTH PLAIN AAAA\r\n",
	  "250 *\r\n250 *\r\n252 *\r\n214 *\r\n500 5.5.2 *\r\n500 5.5.2 *\r\n500 5.5.2 *\r\n", false },
	{ "QUIT", "QUIT\r\nNOOP\r\n", "221 2.0.0 *\r\n", true },
};

Test(smtp_front, hears_what_is_owed_and_no_more)
{
	for (size_t i = 0; i < sizeof(conversations) / sizeof(*conversations); i++) {
		const struct conversation *t = &conversations[i];
		struct script_client c;

		/* Without a worker, and with one that nobody in the answers may notice. */
		for (unsigned workers = 0; workers <= 1; workers++) {
			script_session_begin(DISCARD "max-errors = 4\nmax-message-size = 16K\nmax-recipients = 2\n", workers);
			script_client_greet(&c);
			script_client_say(&c, t->says, t->hears);
			if (t->ends)
				script_client_expect_end(&c);
			else
				script_client_say(&c, "NOOP\r\n", "250 2.0.0 *\r\n");
			script_client_close(&c);
			script_session_end();
		}
	}
}

/* The same for content: the client has got its 354. */
static const struct conversation contents[] = {
	{ "a bare LF never ends a message", "x\n.\n" ENVELOPE "evil\r\n.\r\n", "550 5.5.2 *\r\n", false },
	{ "nor half of one", "x\r\n.\n" ENVELOPE "x\n.\r\n" ENVELOPE "\r\n.\r\n", "550 5.5.2 *\r\n", false },
	{ "nor a bare CR", "x\r.\r" ENVELOPE "\r\n.\r\n", "550 5.5.2 *\r\n", false },
	{ "nor CR CR LF", "x\r\n.\r\r\n" ENVELOPE "\r\n.\r\n", "550 5.5.2 *\r\n", false },
	{ "an empty message", ".\r\n", QUEUED, false },
	{ "a group may follow the end", BODY ENVELOPE, QUEUED GO_AHEAD, true },
	{ "a header field that no milter could be shown", NULL, "554 5.6.0 *\r\n", false },
};

Test(smtp_front, content_ends_where_it_ends)
{
	char *field = malloc(70000);

	memset(field, 'x', 69999);
	memcpy(field, "X: ", 3);
	strcpy(field + 69000, "\r\n\r\n.\r\n");
	script_session_begin(DISCARD "max-errors = 100\n", 0);
	for (size_t i = 0; i < sizeof(contents) / sizeof(*contents); i++) {
		const struct conversation *t = &contents[i];
		struct script_client c;

		script_client_greet(&c);
		script_client_say(&c, ENVELOPE, GO_AHEAD);
		script_client_say(&c, t->says ? t->says : field, t->hears);
		if (t->ends)
			script_client_say(&c, BODY, QUEUED);
		script_client_say(&c, ENVELOPE, GO_AHEAD);
		script_client_say(&c, BODY, QUEUED);
		script_client_close(&c);
	}
	script_session_end();
	free(field);
}

static void send_many(struct script_client *c, const char *line, size_t count)
{
	struct buf b = { 0 };

	for (size_t i = 0; i < count; i++)
		buf_puts(&b, line);
	script_client_send_bytes(c, buf_head(&b), buf_len(&b));
	buf_fini(&b);
}

Test(smtp_front, the_size_limit_is_exact_and_the_session_goes_on)
{
	struct script_client c;

	script_session_begin(DISCARD "max-message-size = 16K\n", 0);
	script_client_greet(&c);
	for (unsigned lines = 1024; lines <= 1025; lines++) {
		script_client_say(&c, ENVELOPE, GO_AHEAD);
		send_many(&c, "0123456789abcd\r\n", lines);
		/* What is refused anyway holds no memory. */
		SCRIPT_WAIT_FOR(lines == 1024 || !c.session->tx.content);
		script_client_say(&c, ".\r\n", lines == 1024 ? QUEUED : "552 5.3.4 *\r\n");
	}
	/* Above half as much again nobody reads on. */
	script_client_say(&c, ENVELOPE, GO_AHEAD);
	send_many(&c, "0123456789abcd\r\n", 1024 * 20);
	script_client_expect(&c, "421 4.3.4 *\r\n");
	script_client_expect_end(&c);
	script_client_close(&c);
	script_session_end();
}

Test(smtp_front, a_message_that_goes_in_circles_is_stopped)
{
	struct script_client c;

	script_session_begin(DISCARD, 0);
	script_client_greet(&c);
	for (unsigned hops = 100; hops <= 101; hops++) {
		script_client_say(&c, ENVELOPE, GO_AHEAD);
		send_many(&c, "Received: from x by y; now\r\n", hops);
		script_client_say(&c, "\r\n.\r\n", hops == 100 ? QUEUED : "554 5.4.6 *\r\n");
	}
	script_client_close(&c);
	script_session_end();
}

Test(smtp_front, a_line_without_end_is_not_kept)
{
	struct script_client c;

	script_session_begin(DISCARD, 0);
	script_client_greet(&c);
	send_many(&c, "0123456789abcdef", 1000);
	script_client_say(&c, "\r\nNOOP\r\n", "500 5.5.2 *\r\n250 2.0.0 *\r\n");
	send_many(&c, "0123456789abcdef", 10000);
	script_client_expect(&c, "421 4.7.0 *\r\n");
	script_client_expect_end(&c);
	script_client_close(&c);
	script_session_end();
}

/* Says NOOP until nothing more is taken; how often. */
static size_t flood(struct script_client *c)
{
	static const char line[] = "NOOP\r\n";
	size_t said = 0, sent = 0;
	unsigned idle = 0;

	while (idle < 20) {
		ssize_t n = send(c->fd, line + sent, sizeof(line) - 1 - sent, MSG_NOSIGNAL);

		if (n < 0) {
			idle++;
			script_turn();
			continue;
		}
		idle = 0;
		sent = (sent + (size_t)n) % (sizeof(line) - 1);
		said += sent == 0;
	}
	cr_assert_eq(sent, 0, "half a line was sent");
	return said;
}

Test(smtp_front, a_client_that_reads_no_replies_is_not_read_either)
{
	struct script_client c;
	size_t said;

	script_session_begin(DISCARD, 0);
	script_client_greet(&c);
	said = flood(&c);
	cr_assert(buf_len(&c.session->out) < 128 * 1024, "%zu bytes of replies wait", buf_len(&c.session->out));
	cr_assert(buf_len(&c.session->in) < 128 * 1024, "%zu bytes of commands wait", buf_len(&c.session->in));
	for (size_t i = 0; i < said; i++)
		script_client_expect(&c, "250 2.0.0 *\r\n");
	script_client_say(&c, "QUIT\r\n", "221 2.0.0 *\r\n");
	script_client_expect_end(&c);
	script_client_close(&c);
	script_session_end();
}

Test(smtp_front, commands_in_a_transaction_leave_nothing_in_its_memory)
{
	struct script_client c;
	size_t before;

	script_session_begin(DISCARD "max-errors = 100\n", 1);
	script_client_greet(&c);
	script_client_say(&c, MAIL RCPT, MAIL_OK RCPT_OK);
	before = c.session->tx_arena.total;
	for (unsigned i = 0; i < 500; i++)
		script_client_say(&c, "NOOP abcdefgh\r\nVRFY abcdefgh\r\nHELP\r\n", "250 *\r\n252 *\r\n214 *\r\n");
	cr_expect_eq(c.session->tx_arena.total, before);
	script_client_say(&c, "DATA\r\n", DATA_OK);
	script_client_say(&c, BODY, QUEUED);
	script_client_close(&c);
	script_session_end();
}

Test(smtp_front, a_command_in_drips_is_not_waited_for_any_longer)
{
	struct script_client c;
	int64_t began, ms;

	script_session_begin(DISCARD "timeout.command = 100ms\ntimeout.data = 100ms\n", 0);
	script_client_greet(&c);
	began = clock_now_ms();
	while (!c.closed && clock_now_ms() - began < 3000) {
		script_client_send(&c, "N");
		script_turn();
		if (recv(c.fd, &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
			break;
	}
	ms = clock_now_ms() - began;
	cr_expect(ms >= 90 && ms < 1000, "%lld ms", (long long)ms);
	script_client_expect(&c, "421 4.4.2 *\r\n");
	script_client_expect_end(&c);
	script_client_close(&c);

	script_client_greet(&c);
	script_client_say(&c, ENVELOPE "", GO_AHEAD);
	script_client_say(&c, "Subject: x\r\n", "421 4.4.2 *\r\n");
	script_client_expect_end(&c);
	script_client_close(&c);
	script_session_end();
}

Test(smtp_front, a_client_may_leave_at_any_time)
{
	static const char all[] = ENVELOPE;
	static const char content[] = BODY;

	for (unsigned workers = 0; workers <= 1; workers++) {
		script_session_begin(DISCARD, workers);
		for (size_t at = 0; at <= sizeof(all) + sizeof(content) - 2; at++) {
			struct script_client c;

			script_client_greet(&c);
			if (at < sizeof(all) - 1) {
				script_client_send_bytes(&c, all, at);
			} else {
				script_client_say(&c, all, GO_AHEAD);
				script_client_send_bytes(&c, content, at - (sizeof(all) - 1));
			}
			script_turn();
			script_client_close(&c);
		}
		script_session_end();
	}
}

Test(smtp_front, a_draining_process_ends_idle_sessions_at_once_and_messages_when_they_are_done)
{
	struct script_client idle, in_mail, in_content;

	script_session_begin(DISCARD, 1);
	script_client_greet(&idle);
	script_client_greet(&in_mail);
	script_client_greet(&in_content);
	script_client_say(&in_mail, MAIL, MAIL_OK);
	script_client_say(&in_content, ENVELOPE, GO_AHEAD);
	smtp_verbs_drain();
	smtp_verbs_drain_idle(idle.session);
	smtp_verbs_drain_idle(in_content.session);
	script_client_expect(&idle, "421 4.3.2 *\r\n");
	script_client_expect_end(&idle);
	script_client_say(&in_mail, RCPT, "421 4.3.2 *\r\n");
	script_client_expect_end(&in_mail);
	script_client_say(&in_content, BODY, QUEUED "421 4.3.2 *\r\n");
	script_client_expect_end(&in_content);
	script_client_close(&idle);
	script_client_close(&in_mail);
	script_client_close(&in_content);
	script_session_end();
}

Test(smtp_front, commands_that_waited_are_taken_as_soon_as_there_is_room_for_replies)
{
	struct script_client c;
	struct script_worker *w = &script_workers[0];
	size_t said;

	script_session_begin(DISCARD, 1);
	script_client_greet(&c);
	script_answers.silent = 1u << IPC_MAIL;
	script_client_send(&c, MAIL);
	SCRIPT_WAIT_FOR(w->wanted && w->wanted_kind == IPC_MAIL);
	/* More answers than a session keeps, fewer than the connection takes at once. */
	said = 9000;
	for (size_t i = 0; i < said; i++)
		script_client_send(&c, "NOOP\r\n");
	SCRIPT_WAIT_FOR(buf_len(&c.session->in) >= 6 * said);
	script_answers.silent = 0;
	script_worker_say(w, VERDICT_CONTINUE, NULL);
	w->wanted = 0;
	script_client_expect(&c, MAIL_OK);
	for (size_t i = 0; i < said; i++)
		script_client_expect(&c, "250 2.0.0 *\r\n");
	script_client_close(&c);
	script_session_end();
}

Test(smtp_front, who_was_put_off_at_helo_hears_nothing_permanent_afterwards)
{
	static const struct {
		enum verdict verdict;
		const char *helo, *after;
	} rows[] = {
		{ VERDICT_TEMPFAIL, "451 *\r\n", "450 4.7.1 *\r\n" },
		{ VERDICT_REJECT, "550 *\r\n", "503 5.7.1 *\r\n" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct script_client c;

		script_session_begin(DISCARD, 1);
		script_client_open(&c);
		script_client_expect(&c, "220 *\r\n");
		script_answers.verdict[IPC_HELO] = rows[i].verdict;
		script_client_say(&c, "EHLO client.test\r\n", rows[i].helo);
		script_client_say(&c, MAIL, rows[i].after);
		script_client_say(&c, "QUIT\r\n", "221 *\r\n");
		script_client_expect_end(&c);
		script_client_close(&c);
		script_session_end();
	}
}
