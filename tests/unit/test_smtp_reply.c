#include "config.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/smtp_reply.h"

Test(smtp_reply, what_is_no_reply_of_a_next_hop_is_refused)
{
	static const char *const bad[] = {
		"hello\r\n", "25\r\n", "25x ok\r\n", "150 ok\r\n", "650 ok\r\n", "250ok\r\n", "\r\n", "250-a\r\n251 b\r\n",
		"250-a\r\nb\r\n", "-250 a\r\n", "250\tx\r\n",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct arena a = { 0 };
		struct buf b = { 0 };
		const char *text, *why = NULL;
		int code;

		buf_puts(&b, bad[i]);
		cr_expect_eq(smtp_reply_read(&b, &a, &code, &text, &why), -1, "%s", bad[i]);
		cr_expect_not_null(why);
		buf_fini(&b);
		arena_fini(&a);
	}
}

Test(smtp_reply, a_reply_without_end_is_given_up_at_the_limit)
{
	struct arena a = { 0 };
	struct buf b = { 0 };
	const char *text, *why;
	int code, lines = 0;

	for (int i = 0; i < 2049; i++)
		buf_puts(&b, "2");
	cr_expect_eq(smtp_reply_read(&b, &a, &code, &text, &why), -1);
	buf_clear(&b);
	while (smtp_reply_read(&b, &a, &code, &text, &why) == 0 && lines < 1000) {
		buf_puts(&b, "250-more\r\n");
		lines++;
	}
	cr_expect_eq(lines, SMTP_REPLY_LINES_MAX);
	buf_fini(&b);
	arena_fini(&a);
}

Test(smtp_reply, a_reply_is_taken_byte_by_byte_and_the_next_one_stays)
{
	static const char whole[] = "250-mx.example.org\r\n250-SIZE 100\r\n250 8BITMIME\r\n", next[] = "220 x\r\n";
	struct arena a = { 0 };
	struct buf b = { 0 };
	const char *text, *why;
	int code;

	for (size_t i = 0; i < sizeof(whole) - 2; i++) {
		buf_append(&b, whole + i, 1);
		cr_assert_eq(smtp_reply_read(&b, &a, &code, &text, &why), 0);
	}
	buf_puts(&b, "\n");
	buf_puts(&b, next);
	cr_assert_eq(smtp_reply_read(&b, &a, &code, &text, &why), 1);
	cr_assert_eq(code, 250);
	cr_assert_str_eq(text, whole);
	cr_assert_eq(smtp_reply_read(&b, &a, &code, &text, &why), 1);
	cr_assert_str_eq(text, next);
	cr_assert_eq(buf_len(&b), 0);
	buf_fini(&b);
	arena_fini(&a);
}

Test(smtp_reply, text_of_a_peer_is_made_safe)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "550 a\x1b[31m\tb\x7f\r\n", "550 a?[31m?b?\r\n" },
		{ "550 gr\xc3\xbc\xc3\x9f" "e\r\n", "550 gr\xc3\xbc\xc3\x9f" "e\r\n" },
		{ "550 \xc3\r\n", "550 ?\r\n" }, { "550 \xc0\xaf \xed\xa0\x80 \xf5\x80\x80\x80\r\n", "550 ?? ??? ????\r\n" },
		{ "550 \xc2\x9b" "2J\r\n", "550 ??2J\r\n" },
		{ "250\r\n", "250 Ok\r\n" }, { "250 \n", "250 Ok\r\n" }, { "250 a\rb\r\n", "250 a?b\r\n" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct arena a = { 0 };
		struct buf b = { 0 };
		const char *text, *why;
		int code;

		buf_puts(&b, rows[i].in);
		cr_assert_eq(smtp_reply_read(&b, &a, &code, &text, &why), 1, "case %zu", i);
		cr_expect_str_eq(text, rows[i].out, "case %zu: %s", i, text);
		buf_fini(&b);
		arena_fini(&a);
	}
}

Test(smtp_reply, a_reply_of_a_milter_is_checked_line_by_line)
{
	static const struct {
		const char *in, *out;	/* NULL: refused */
	} rows[] = {
		{ "550 5.7.1 no", "550 5.7.1 no\r\n" },
		{ "451 later", "451 later\r\n" },
		{ "550", "550 Refused\r\n" },
		{ "550-5.7.1 one\r\n550 5.7.1 two", "550-5.7.1 one\r\n550 5.7.1 two\r\n" },
		{ "550-5.7.1 one\n550 5.7.1 two\n", "550-5.7.1 one\r\n550 5.7.1 two\r\n" },
		{ "550 100%% spam", "550 100% spam\r\n" }, { "550 5%", "550 5\r\n" }, { "550 %s%n", "550 sn\r\n" },
		{ "550 a\x01", "550 a?\r\n" },
		{ "", NULL }, { "5", NULL }, { "55", NULL }, { "250 ok", NULL }, { "354 go", NULL }, { "950 x", NULL },
		{ "550x", NULL }, { "550-only", NULL }, { "550 a\r\n550 b", NULL }, { "550-a\r\n451 b", NULL },
		{ "550 4.7.1 class", NULL }, { "451 5.7.1 class", NULL }, { "550-5.1.1 a\r\n550 4.1.1 b", NULL },
		{ "550 a\rb", NULL }, { "550-a\r\n", NULL }, { "550 a\r\nMAIL FROM:<x>", NULL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct arena a = { 0 };
		const char *why = NULL, *out = smtp_reply_from_milter(&a, rows[i].in, &why);

		if (rows[i].out)
			cr_expect_str_eq(out ? out : "(refused)", rows[i].out, "case %zu", i);
		else
			cr_expect(!out && why, "case %zu: %s", i, out);
		arena_fini(&a);
	}
}

Test(smtp_reply, a_huge_reply_of_a_milter_is_refused)
{
	struct arena a = { 0 };
	char big[70000];
	const char *why;

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	memcpy(big, "550 ", 4);
	cr_assert_null(smtp_reply_from_milter(&a, big, &why));
	big[SMTP_REPLY_MILTER_MAX - 2] = '\0';
	cr_assert_not_null(smtp_reply_from_milter(&a, big, &why));
	arena_fini(&a);
}

Test(smtp_reply, a_line_may_be_as_long_with_either_line_end)
{
	static const char *const ends[] = { "\n", "\r\n" };
	char line[2048];

	memset(line, 'x', sizeof(line));
	memcpy(line, "250 ", 4);
	for (size_t i = 0; i < 4; i++) {
		struct arena a = { 0 };
		struct buf b = { 0 };
		const char *text, *why;
		int code;

		buf_append(&b, line, sizeof(line));
		if (i >= 2)
			buf_puts(&b, "x");
		buf_puts(&b, ends[i % 2]);
		cr_expect_eq(smtp_reply_read(&b, &a, &code, &text, &why), i < 2 ? 1 : -1, "case %zu", i);
		buf_fini(&b);
		arena_fini(&a);
	}
}

Test(smtp_reply, a_milter_may_not_say_more_lines_than_a_next_hop)
{
	struct arena a = { 0 };
	struct buf b = { 0 };
	const char *why = NULL;

	for (unsigned i = 0; i < SMTP_REPLY_LINES_MAX; i++)
		buf_puts(&b, "550-\n");
	buf_append(&b, "550 ", 5);
	cr_expect_null(smtp_reply_from_milter(&a, (char *)buf_head(&b), &why));
	cr_expect_not_null(why);
	cr_expect_not_null(smtp_reply_from_milter(&a, (char *)buf_head(&b) + 5, &why));
	buf_fini(&b);
	arena_fini(&a);
}

Test(smtp_reply, our_own_replies_cannot_hold_a_second_line)
{
	struct arena a = { 0 };
	struct buf b = { 0 };

	cr_assert_str_eq(smtp_reply_make(&a, 451, "4.3.0", "a\r\nb"), "451 4.3.0 a??b\r\n");
	cr_assert_str_eq(smtp_reply_make(&a, 250, NULL, "x"), "250 x\r\n");
	cr_assert_eq(smtp_reply_code("451 4.3.0 a\r\n"), 451);
	smtp_reply_print(&b, "550-5.7.1 one\r\n550 5.7.1 two\r\n");
	cr_assert_eq(memcmp(buf_head(&b), "550-5.7.1 one / 5.7.1 two", buf_len(&b)), 0);
	buf_fini(&b);
	arena_fini(&a);
}
