#include "config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "session/smtp_command.h"

static struct arena arena;

static struct smtp_command parse_on(unsigned extensions, bool utf8, const char *line)
{
	const struct smtp_terms terms = { .extensions = extensions, .utf8 = utf8 };
	struct smtp_command c;

	smtp_command_parse(&arena, &terms, line, strlen(line), &c);
	return c;
}

static struct smtp_command parse(const char *line)
{
	return parse_on(SMTP_EXTENSION_8BITMIME, false, line);
}

static enum smtp_line next(struct smtp_line_reader *r, struct buf *b, char *text)
{
	const char *line;
	size_t len, size;
	enum smtp_line result = smtp_line_next(r, b, &line, &len, &size);

	*text = '\0';
	if (result == SMTP_LINE_OK) {
		memcpy(text, line, len);
		text[len] = '\0';
	}
	if (result == SMTP_LINE_OK || result == SMTP_LINE_LONG || result == SMTP_LINE_BARE)
		buf_consume(b, size);
	return result;
}

Test(smtp_command, only_crlf_ends_a_line_and_anything_like_it_spoils_it)
{
	static const char *const bare[] = {
		"NOOP\nQUIT\r\n", "NOOP\rQUIT\r\n", "NOOP\r\r\n", "\nNOOP\r\n", "\rNOOP\r\n", "\n\r\n", "NOOP\n\r\n",
	};
	char text[SMTP_LINE_MAX];

	for (size_t i = 0; i < sizeof(bare) / sizeof(*bare); i++) {
		struct smtp_line_reader r = { 0 };
		struct buf b = { 0 };

		buf_puts(&b, bare[i]);
		buf_puts(&b, "RSET\r\nNO");
		cr_expect_eq(next(&r, &b, text), SMTP_LINE_BARE, "line %zu", i);
		cr_expect_eq(next(&r, &b, text), SMTP_LINE_OK);
		cr_expect_str_eq(text, "RSET");
		cr_expect_eq(next(&r, &b, text), SMTP_LINE_MORE);
		buf_fini(&b);
	}
	struct smtp_line_reader r = { 0 };
	struct buf b = { 0 };

	buf_append(&b, "NO\0OP\r\n", 7);
	cr_expect_eq(next(&r, &b, text), SMTP_LINE_BARE);
	cr_expect_eq(next(&r, &b, text), SMTP_LINE_MORE);
	buf_fini(&b);
}

static enum smtp_line feed(struct smtp_line_reader *r, struct buf *b, char byte, size_t count)
{
	char text[SMTP_LINE_MAX];
	enum smtp_line result = SMTP_LINE_MORE;

	for (size_t i = 0; i < count && result == SMTP_LINE_MORE; i++) {
		buf_append(b, &byte, 1);
		if (i % 61 == 0 || i + 1 == count)
			result = next(r, b, text);
	}
	cr_expect_lt(buf_len(b), SMTP_LINE_MAX + 64);
	return result;
}

Test(smtp_command, a_line_that_is_too_long_is_skipped_whole_and_told_once)
{
	struct smtp_line_reader r = { 0 };
	struct buf b = { 0 };
	char text[SMTP_LINE_MAX];

	cr_expect_eq(feed(&r, &b, 'a', SMTP_LINE_MAX - 2), SMTP_LINE_MORE);
	buf_puts(&b, "\r\n");
	cr_expect_eq(next(&r, &b, text), SMTP_LINE_OK, "the limit itself is legal");

	cr_expect_eq(feed(&r, &b, 'a', SMTP_LINE_MAX - 1), SMTP_LINE_MORE);
	buf_puts(&b, "\r\n");
	cr_expect_eq(next(&r, &b, text), SMTP_LINE_LONG);

	cr_expect_eq(feed(&r, &b, 'a', 3 * SMTP_LINE_MAX), SMTP_LINE_MORE);
	cr_expect_eq(feed(&r, &b, '\r', 1), SMTP_LINE_MORE);
	buf_puts(&b, "\nNOOP\r\n");
	cr_expect_eq(next(&r, &b, text), SMTP_LINE_LONG);
	cr_expect_eq(next(&r, &b, text), SMTP_LINE_OK);
	cr_expect_str_eq(text, "NOOP");

	cr_expect_eq(feed(&r, &b, 'a', SMTP_LINE_SKIP_MAX + SMTP_LINE_MAX), SMTP_LINE_ENDLESS);
	buf_fini(&b);
}

Test(smtp_command, another_protocol_is_known_by_its_first_line)
{
	static const char *const foreign[] = {
		"GET / HTTP/1.1", "POST /x HTTP/1.0", "CONNECT a:25 HTTP/1.1", "PRI * HTTP/2.0", "Host: mx.example",
		"Subject: hello", "X-A:b", "SSH-2.0-OpenSSH_9.2", "\x16\x03\x01\x02", "\x16\x03",
	};
	static const char *const ours[] = { "NOOP GET / HTTP/1.1", "get", "GETX /", ":", " GET /", "XCLIENT NAME=a" };

	for (size_t i = 0; i < sizeof(foreign) / sizeof(*foreign); i++)
		cr_expect_eq(parse(foreign[i]).verb, SMTP_FOREIGN, "%s", foreign[i]);
	for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++)
		cr_expect_neq(parse(ours[i]).verb, SMTP_FOREIGN, "%s", ours[i]);

	struct smtp_line_reader r = { 0 };
	struct buf b = { 0 };
	char text[SMTP_LINE_MAX];

	buf_append(&b, "\x16\x03\x01\0\xff\n\x01", 7);
	cr_expect_eq(next(&r, &b, text), SMTP_LINE_OK, "a handshake has no line end to wait for");
	buf_fini(&b);
	arena_fini(&arena);
}

Test(smtp_command, every_mistake_has_its_reply)
{
	static const struct {
		const char *line;
		int code;
		const char *enhanced;
	} cases[] = {
		{ "", 500, "5.5.2" },
		{ " NOOP", 500, "5.5.2" },
		{ "NOOP\ta", 500, "5.5.2" },
		{ "MAIL FROM:<a\x01@example.org>", 500, "5.5.2" },
		{ "RCPT TO:<a\x7f@example.org>", 500, "5.5.2" },
		{ "HELO", 501, "5.5.4" },
		{ "EHLO  ", 501, "5.5.4" },
		{ "EHLO two names", 501, "5.5.4" },
		{ "EHLO b\xc3\xbc" "cher.example", 501, "5.5.4" },
		{ "MAIL", 501, "5.5.4" },
		{ "MAIL <a@example.org>", 501, "5.5.4" },
		{ "MAIL FROM <a@example.org>", 501, "5.5.4" },
		{ "MAIL FROM:", 501, "5.1.7" },
		{ "MAIL FROM:a@example.org", 501, "5.1.7" },
		{ "MAIL FROM:<a@example.org", 501, "5.1.7" },
		{ "MAIL FROM:<a@>", 501, "5.1.7" },
		{ "MAIL FROM:<a@example.org>x", 501, "5.5.4" },
		{ "MAIL FROM:<a@example.org>>", 501, "5.5.4" },
		{ "MAIL FROM:<a@example.org> SIZE", 501, "5.5.4" },
		{ "MAIL FROM:<a@example.org> SIZE=", 501, "5.5.4" },
		{ "MAIL FROM:<a@example.org> SIZE=-1", 501, "5.5.4" },
		{ "MAIL FROM:<a@example.org> SIZE=1x", 501, "5.5.4" },
		{ "MAIL FROM:<a@example.org> SIZE=123456789012345678901", 501, "5.5.4" },
		{ "MAIL FROM:<a@example.org> SIZE=1 size=1", 501, "5.5.4" },
		{ "MAIL FROM:<a@example.org> BODY=BINARYMIME", 555, "5.5.4" },
		{ "MAIL FROM:<a@example.org> AUTH=<>", 555, "5.5.4" },
		{ "MAIL FROM:<a@example.org> SIZES=1", 555, "5.5.4" },
		{ "MAIL FROM:<a@example.org> RET=HDRS", 555, "5.5.4" },
		{ "MAIL FROM:<\xc3\xbc@example.org>", 553, "5.6.7" },
		{ "RCPT TO:<a@b\xc3\xbc.example>", 553, "5.6.7" },
		{ "RCPT TO:<>", 501, "5.1.3" },
		{ "RCPT TO:<a>", 501, "5.1.3" },
		{ "RCPT FROM:<a@example.org>", 501, "5.5.4" },
		{ "RCPT TO:<a@example.org> NOTIFY=NEVER", 555, "5.5.4" },
		{ "RCPT TO:<a@example.org> ,<b@example.org>", 501, "5.5.4" },
		{ "DATA now", 501, "5.5.4" },
		{ "RSET x", 501, "5.5.4" },
		{ "QUIT now", 501, "5.5.4" },
		{ "VRFY", 501, "5.5.4" },
		{ "BDAT 10 LAST", 521, "5.5.1" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct smtp_command c = parse(cases[i].line);

		cr_expect_eq(c.code, cases[i].code, "%s: %d", cases[i].line, c.code);
		cr_expect(c.enhanced && strcmp(c.enhanced, cases[i].enhanced) == 0, "%s", cases[i].line);
		cr_expect(c.why && *c.why, "%s", cases[i].line);
	}
	arena_fini(&arena);
}

Test(smtp_command, an_extension_is_legal_when_it_was_offered_and_right)
{
	enum { M = SMTP_EXTENSION_8BITMIME, D = SMTP_EXTENSION_DSN, U = SMTP_EXTENSION_SMTPUTF8 };
	static const struct {
		unsigned offered;
		bool utf8;
		const char *line;
		int code;
	} cases[] = {
		{ D | U, false, "MAIL FROM:<a@x.example> BODY=8BITMIME", 555 },
		{ M, false, "MAIL FROM:<a@x.example> BODY=7BIT", 0 },
		{ M | U, false, "MAIL FROM:<a@x.example> RET=FULL", 555 },
		{ M | U, false, "RCPT TO:<a@x.example> NOTIFY=NEVER", 555 },
		{ M | U, false, "RCPT TO:<a@x.example> ORCPT=rfc822;a@x.example", 555 },
		{ D, false, "MAIL FROM:<a@x.example> ret=full ENVID=a+2Bb", 0 },
		{ D, false, "MAIL FROM:<a@x.example> RET=HDRS RET=FULL", 501 },
		{ D, false, "MAIL FROM:<a@x.example> RET=BODY", 501 },
		{ D, false, "MAIL FROM:<a@x.example> RET", 501 },
		{ D, false, "MAIL FROM:<a@x.example> NOTIFY=NEVER", 555 },
		{ D, false, "MAIL FROM:<a@x.example> ENVID=a+00b", 501 },
		{ D, false, "MAIL FROM:<a@x.example> ENVID=a+0", 501 },
		{ D, false, "MAIL FROM:<a@x.example> ENVID=a+2b", 501 },
		{ D, false, "RCPT TO:<a@x.example> NOTIFY=SUCCESS,failure,DELAY ORCPT=rfc822;a+40x.example", 0 },
		{ D, false, "RCPT TO:<a@x.example> NOTIFY=NEVER,DELAY", 501 },
		{ D, false, "RCPT TO:<a@x.example> NOTIFY=", 501 },
		{ D, false, "RCPT TO:<a@x.example> NOTIFY=SUCCESS,", 501 },
		{ D, false, "RCPT TO:<a@x.example> NOTIFY=DELAY NOTIFY=DELAY", 501 },
		{ D, false, "RCPT TO:<a@x.example> RET=FULL", 555 },
		{ D, false, "RCPT TO:<a@x.example> ORCPT=rfc822;a+00@x.example", 501 },
		{ D, false, "RCPT TO:<a@x.example> ORCPT=rfc822;a\\x{41}", 0 },
		{ D, false, "RCPT TO:<a@x.example> ORCPT=a@x.example", 501 },
		{ D, false, "RCPT TO:<a@x.example> ORCPT=;a@x.example", 501 },
		{ D, false, "RCPT TO:<a@x.example> ORCPT=utf-8;a\\x{E9}@x.example", 0 },
		{ D, false, "RCPT TO:<a@x.example> ORCPT=utf-8;a\\x{0}@x.example", 501 },
		{ D, false, "RCPT TO:<a@x.example> ORCPT=utf-8;a\\x{000000}", 501 },
		{ D, false, "RCPT TO:<a@x.example> ORCPT=utf-8;a\\x{}", 501 },
		{ D, false, "RCPT TO:<a@x.example> ORCPT=utf-8;a\\n", 501 },
		{ D | U, false, "RCPT TO:<a@x.example> ORCPT=utf-8;\xc3\xa9@x.example", 553 },
		{ D | U, true, "RCPT TO:<a@x.example> ORCPT=utf-8;\xc3\xa9@x.example", 0 },
		{ D | U, true, "RCPT TO:<a@x.example> ORCPT=rfc822;\xc3\xa9@x.example", 501 },
		{ M | D, false, "MAIL FROM:<a@x.example> SMTPUTF8", 555 },
		{ M | D, false, "MAIL FROM:<\xc3\xa9@x.example> SMTPUTF8", 555 },
		{ U, false, "MAIL FROM:<a@x.example> SMTPUTF8", 0 },
		{ U, false, "MAIL FROM:<a@x.example> SMTPUTF8=yes", 501 },
		{ U, false, "MAIL FROM:<\xc3\xa9@x.example> SMTPUTF8", 0 },
		{ U, false, "MAIL FROM:<\xc3\xa9@x.example>", 553 },
		{ U, true, "MAIL FROM:<\xc3\xa9@x.example>", 553 },
		{ U, false, "MAIL FROM:<\xc3(@x.example> SMTPUTF8", 501 },
		{ U, false, "MAIL FROM:<\xe9@x.example> SMTPUTF8", 500 },
		{ U, false, "RCPT TO:<\xc3\xa9@x.example>", 553 },
		{ U, true, "RCPT TO:<\xc3\xa9@x.example>", 0 },
		{ U, true, "RCPT TO:<a@\xc3\xa9.example>", 0 },
		{ U, true, "RCPT TO:<\xc0\x80@x.example>", 500 },
		{ U, true, "RCPT TO:<a@x.example> SMTPUTF8", 555 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct smtp_command c = parse_on(cases[i].offered, cases[i].utf8, cases[i].line);

		cr_expect_eq(c.code, cases[i].code, "%s: %d %s", cases[i].line, c.code, c.code ? c.why : "");
	}
	arena_fini(&arena);
}

Test(smtp_command, lengths_are_limited)
{
	char line[1024];

	snprintf(line, sizeof(line), "EHLO %0*d", (int)SMTP_DOMAIN_MAX, 0);
	cr_expect_eq(parse(line).code, 0);
	snprintf(line, sizeof(line), "EHLO %0*d", (int)SMTP_DOMAIN_MAX + 1, 0);
	cr_expect_eq(parse(line).code, 501);
	/* RFC 5321 4.5.3.1.3: 256 bytes with the brackets. */
	snprintf(line, sizeof(line), "MAIL FROM:<%0242d@example.org>", 0);
	cr_expect_eq(parse(line).code, 0);
	snprintf(line, sizeof(line), "MAIL FROM:<%0243d@example.org>", 0);
	cr_expect_eq(parse(line).code, 501);
	snprintf(line, sizeof(line), "MAIL FROM:<a@example.org> %s", "A=1 B=1 C=1 D=1 E=1 F=1 G=1 H=1 I=1 J=1 K=1 L=1 "
		 "M=1 N=1 O=1 P=1 Q=1");
	cr_expect_eq(parse(line).code, 501);
	arena_fini(&arena);
}

Test(smtp_command, what_is_right_is_taken_apart)
{
	static const struct {
		const char *line;
		enum smtp_verb verb;
		const char *domain, *address, *param;
	} cases[] = {
		{ "helo mx.example.org", SMTP_HELO, "mx.example.org", NULL, NULL },
		{ "EHLO [192.0.2.1] ", SMTP_EHLO, "[192.0.2.1]", NULL, NULL },
		{ "ehlo under_score", SMTP_EHLO, "under_score", NULL, NULL },
		{ "MAIL FROM:<>", SMTP_MAIL, NULL, "", NULL },
		{ "mail from: <a@example.org> ", SMTP_MAIL, NULL, "a@example.org", NULL },
		{ "MAIL FROM:<@r.example:a@example.org> body=8bitmime", SMTP_MAIL, NULL, "a@example.org", "body=8bitmime" },
		{ "MAIL FROM:<\"a b\"@example.org> SIZE=1000", SMTP_MAIL, NULL, "\"a b\"@example.org", "SIZE=1000" },
		{ "RCPT TO:<Postmaster>", SMTP_RCPT, NULL, "Postmaster", NULL },
		{ "RcPt To:<a@[IPv6:2001:db8::1]>", SMTP_RCPT, NULL, "a@[IPv6:2001:db8::1]", NULL },
		{ "DATA ", SMTP_DATA, NULL, NULL, NULL },
		{ "rset", SMTP_RSET, NULL, NULL, NULL },
		{ "NOOP b\xc3\xbc", SMTP_NOOP, NULL, NULL, NULL },
		{ "QUIT", SMTP_QUIT, NULL, NULL, NULL },
		{ "VRFY a b", SMTP_VRFY, NULL, NULL, NULL },
		{ "HELP me", SMTP_HELP, NULL, NULL, NULL },
		{ "STARTTLS", SMTP_OTHER, NULL, NULL, NULL },
		{ "MAILX FROM:<>", SMTP_OTHER, NULL, NULL, NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct smtp_command c = parse(cases[i].line);

		cr_expect_eq(c.code, 0, "%s: %s", cases[i].line, c.why);
		cr_expect_eq(c.verb, cases[i].verb, "%s", cases[i].line);
		cr_expect(cases[i].domain ? c.domain && strcmp(c.domain, cases[i].domain) == 0 : !c.domain);
		cr_expect(cases[i].address ? c.address && strcmp(c.address, cases[i].address) == 0 : !c.address);
		cr_expect_eq(c.param_count, cases[i].param != NULL, "%s", cases[i].line);
		if (c.param_count)
			cr_expect_str_eq(c.param[0], cases[i].param);
	}
	cr_expect_str_eq(parse("X\x01" "b\xc3\xbc\x7f").text, "X?b???");
	arena_fini(&arena);
}
