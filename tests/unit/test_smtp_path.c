#include "config.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/smtp_path.h"

#define A64  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define A248 A64 A64 A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static struct arena arena;

static void release(void)
{
	arena_fini(&arena);
}

TestSuite(smtp_path, .fini = release);

Test(smtp_path, nothing_that_could_end_or_split_a_command_is_an_address)
{
	static const char *const hostile[] = {
		"", "a@b.example", "<", "<a", "<a@", "<a@b", "<a@b.example", "<@b.example>", "<a b@c.example>",
		"<a@b.example\r\nRCPT TO:<x@y.example>>", "<\r\n>", "<a\n@b.example>",
		"<a@b\r.example>", "<a@b.example >", "< a@b.example>", "<a<@b.example>", "<a@b@c.example>",
		"<\"a@b.example>", "<\"a\"b@c.example>", "<\"a\r\n\"@b.example>", "<\"a\\\n\"@b.example>",
		"<\"a\x7f\"@b.example>", "<\"a\x01\"@b.example>", "<a\\@b.example>", "<a@b..example>",
		"<a@.b.example>", "<a@b.example.>", "<a@b/c.example>", "<a@[1.2.3]>", "<a@[1.2.3.4>", "<a@[]>",
		"<a@[1.2.3.4]x>", "<a@[IPv6:1.2.3.4]>", "<a@[IPv6:::1]\r\n>", "<a@[x-:y]>", "<a@[tag:]>",
		"<a@[tag:x\\]]>", "<a@[tag:x y]>", "<a@[:y]>", "<@a.example>", "<@a.example:>", "<@a.example,:b@c.example>",
		"<@a.example b@c.example>", "<a(comment)@b.example>", "<a,b@c.example>", "<postmasters>", "<@a.example:postmaster>", "<root>",
		"<\x80\x81", "<a@\xc3\xa9", "<\"\\\xc3\xa9\"@b.example>", "<a@b.example\x7f>",
	};
	const char *why;
	size_t used;

	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		why = NULL;
		cr_expect_null(smtp_path_parse(&arena, SMTP_PATH_FORWARD, hostile[i], strlen(hostile[i]), &used, &why),
			"%s was taken", hostile[i]);
		cr_expect_not_null(why, "no reason for refusing %s", hostile[i]);
		cr_expect_null(smtp_path_parse(&arena, SMTP_PATH_REVERSE, hostile[i], strlen(hostile[i]), &used, &why),
			"%s was taken", hostile[i]);
	}
}

Test(smtp_path, a_nul_ends_no_address)
{
	const char *why;
	size_t used;

	cr_assert_null(smtp_path_parse(&arena, SMTP_PATH_FORWARD, "<a\0@b.example>", 14, &used, &why));
	cr_assert_null(smtp_path_parse(&arena, SMTP_PATH_FORWARD, "<a@b\0.example>", 14, &used, &why));
	cr_assert_null(smtp_path_parse(&arena, SMTP_PATH_FORWARD, "<\"a\0\"@b.example>", 16, &used, &why));
	cr_assert_null(smtp_path_parse(&arena, SMTP_PATH_FORWARD, "<a@[x:\0]>", 10, &used, &why));
}

Test(smtp_path, every_kind_of_address_is_kept_as_it_is)
{
	static const struct {
		const char *text, *address;
	} cases[] = {
		{ "<a@b.example>", "a@b.example" },
		{ "<a@b.example> SIZE=1", "a@b.example" },
		{ "<A.b+c=d@B_c-.example>", "A.b+c=d@B_c-.example" },
		{ "<a..b.@c.example>", "a..b.@c.example" },
		{ "<!#$%&'*+-/=?^_`{|}~@b>", "!#$%&'*+-/=?^_`{|}~@b" },
		{ "<\"a b\\\"@>\\\\\"@c.example>", "\"a b\\\"@>\\\\\"@c.example" },
		{ "<\"\"@b.example>", "\"\"@b.example" },
		{ "<a@[192.0.2.1]>", "a@[192.0.2.1]" },
		{ "<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]" },
		{ "<a@[x-tag:what>ever]>", "a@[x-tag:what>ever]" },
		{ "<\xc3\xa9@\xc3\xa9.example>", "\xc3\xa9@\xc3\xa9.example" },
		{ "<@a.example:b@c.example>", "b@c.example" },
		{ "<@a.example,@[192.0.2.1]:b@c.example>", "b@c.example" },
	};
	static const enum smtp_path_kind kinds[] = { SMTP_PATH_REVERSE, SMTP_PATH_FORWARD };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (size_t k = 0; k < 2; k++) {
			const char *why, *address;
			size_t used = 0;

			address = smtp_path_parse(&arena, kinds[k], cases[i].text, strlen(cases[i].text), &used, &why);
			cr_assert_not_null(address, "%s: %s", cases[i].text, why);
			cr_expect_str_eq(address, cases[i].address);
			cr_expect_eq(cases[i].text[used - 1], '>');
		}
	}
}

Test(smtp_path, only_a_sender_may_be_null_and_only_postmaster_has_no_domain)
{
	const char *why;
	size_t used;

	cr_expect_str_eq(smtp_path_parse(&arena, SMTP_PATH_REVERSE, "<> SIZE=1", 9, &used, &why), "");
	cr_expect_eq(used, 2);
	cr_expect_null(smtp_path_parse(&arena, SMTP_PATH_FORWARD, "<>", 2, &used, &why));
	cr_expect_null(smtp_path_parse(&arena, SMTP_PATH_REVERSE, "<@a.example:>", 13, &used, &why));
	cr_expect_str_eq(smtp_path_parse(&arena, SMTP_PATH_FORWARD, "<PostMaster>", 12, &used, &why), "PostMaster");
	cr_expect_null(smtp_path_parse(&arena, SMTP_PATH_REVERSE, "<postmaster>", 12, &used, &why));
}

Test(smtp_path, the_limit_is_exact_with_and_without_brackets)
{
	const char *why;
	size_t used;

	cr_expect_eq(strlen("<" A248 "@b.com>"), SMTP_PATH_MAX);
	cr_expect_not_null(smtp_path_parse(&arena, SMTP_PATH_FORWARD, "<" A248 "@b.com>x", 257, &used, &why));
	cr_expect_eq(used, SMTP_PATH_MAX);
	cr_expect_null(smtp_path_parse(&arena, SMTP_PATH_FORWARD, "<" A248 "@b.comm>", 257, &used, &why));
	cr_expect_str_eq(why, "the address is too long");
	cr_expect_null(smtp_path_parse(&arena, SMTP_PATH_FORWARD, "<" A248 A248 "@b.com>", 504, &used, &why));
	cr_expect_str_eq(why, "the address is too long");
	cr_expect_not_null(smtp_path_from_milter(&arena, SMTP_PATH_FORWARD, A248 "@b.com", &why));
	cr_expect_null(smtp_path_from_milter(&arena, SMTP_PATH_FORWARD, A248 "@b.comm", &why));
	cr_expect_not_null(smtp_path_from_milter(&arena, SMTP_PATH_FORWARD, "<" A248 "@b.com>", &why));
	cr_expect_null(smtp_path_from_milter(&arena, SMTP_PATH_FORWARD, "<" A248 "@b.comm>", &why));
}

Test(smtp_path, an_address_of_a_milter_is_the_whole_text_and_needs_no_brackets)
{
	static const struct {
		enum smtp_path_kind kind;
		const char *text, *address;	/* NULL: refused */
	} cases[] = {
		{ SMTP_PATH_FORWARD, "<a@b.example>\r\nRCPT TO:<x@y.example>", NULL },
		{ SMTP_PATH_FORWARD, "a@b.example>\r\nRCPT TO:<x@y.example", NULL },
		{ SMTP_PATH_FORWARD, "a@b.example> NOTIFY=NEVER", NULL },
		{ SMTP_PATH_FORWARD, "a@b.example NOTIFY=NEVER", NULL },
		{ SMTP_PATH_FORWARD, "<a@b.example>x", NULL },
		{ SMTP_PATH_FORWARD, "a@b.example>", NULL },
		{ SMTP_PATH_FORWARD, "<a@b.example", NULL },
		{ SMTP_PATH_FORWARD, "<<a@b.example>>", NULL },
		{ SMTP_PATH_FORWARD, " a@b.example", NULL },
		{ SMTP_PATH_FORWARD, "a@b.example\n", NULL },
		{ SMTP_PATH_FORWARD, "", NULL },
		{ SMTP_PATH_FORWARD, "<>", NULL },
		{ SMTP_PATH_REVERSE, ">", NULL },
		{ SMTP_PATH_REVERSE, "<>x", NULL },
		{ SMTP_PATH_REVERSE, "<>", "" },
		{ SMTP_PATH_REVERSE, "", "" },
		{ SMTP_PATH_FORWARD, "a@b.example", "a@b.example" },
		{ SMTP_PATH_FORWARD, "<a@b.example>", "a@b.example" },
		{ SMTP_PATH_FORWARD, "@x.example:a@b.example", "a@b.example" },
		{ SMTP_PATH_FORWARD, "\"a b\"@c.example", "\"a b\"@c.example" },
		{ SMTP_PATH_FORWARD, "postmaster", "postmaster" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *why = NULL, *address = smtp_path_from_milter(&arena, cases[i].kind, cases[i].text, &why);

		if (!cases[i].address) {
			cr_expect_null(address, "%s was taken", cases[i].text);
			cr_expect_not_null(why);
		} else {
			cr_assert_not_null(address, "%s: %s", cases[i].text, why);
			cr_expect_str_eq(address, cases[i].address);
		}
	}
}

Test(smtp_path, equal_means_the_same_mailbox)
{
	static const struct {
		const char *one, *other;
		bool equal;
	} cases[] = {
		{ "a@b.example", "A@b.example", false },
		{ "a@b.example", "a@c.example", false },
		{ "a@b.example", "a@b.exampl", false },
		{ "a@b.example", "aa@b.example", false },
		{ "\"a\"@b.example", "\"aa\"@b.example", false },
		{ "\"a\\\\\"@b.example", "\"a\"@b.example", false },
		{ "\"a@b.example\"@c.example", "a@b.example", false },
		{ "", "a@b.example", false },
		{ "postmaster", "postmaster@b.example", false },
		{ "a@b.example", "a@B.EXAMPLE", true },
		{ "\"a\"@b.example", "a@b.example", true },
		{ "\"a b\"@c.example", "\"a\\ b\"@c.example", true },
		{ "\"\\\"@\"@c.example", "\"\\\"\\@\"@c.example", true },
		{ "a@[IPv6:2001:DB8::1]", "a@[ipv6:2001:db8::1]", true },
		{ "", "", true },
		{ "postmaster", "postmaster", true },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_expect_eq(smtp_path_equal(cases[i].one, cases[i].other), cases[i].equal, "%s and %s", cases[i].one,
			cases[i].other);
		cr_expect_eq(smtp_path_equal(cases[i].other, cases[i].one), cases[i].equal, "%s and %s", cases[i].other,
			cases[i].one);
	}
}

Test(smtp_path, a_malformed_parameter_spoils_them_all)
{
	static const char *const hostile[] = {
		"SIZE=", "=1", "SIZE=1=2", "-A=1", "A_B", "A=\x01", "A=\x7f", "A=1\r\n", "A\rB", "A B=\n", "A,B", "A=b\t=",
	};
	const char *why;
	size_t count;

	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		why = NULL;
		cr_expect_null(smtp_params_parse(&arena, hostile[i], strlen(hostile[i]), 8, &count, &why), "%s was taken",
			hostile[i]);
		cr_expect_not_null(why);
	}
	cr_expect_null(smtp_params_parse(&arena, "A=\0", 3, 8, &count, &why));
}

Test(smtp_path, parameters_are_split_at_blanks_up_to_the_limit)
{
	const char *why, **params;
	size_t count;

	params = smtp_params_parse(&arena, "", 0, 0, &count, &why);
	cr_assert_not_null(params);
	cr_expect_eq(count, 0);
	params = smtp_params_parse(&arena, " SIZE=12 \t8bit AUTH=<> x=\xc3\xa9 ", 28, 4, &count, &why);
	cr_assert_not_null(params);
	cr_assert_eq(count, 4);
	cr_expect_str_eq(params[0], "SIZE=12");
	cr_expect_str_eq(params[1], "8bit");
	cr_expect_str_eq(params[2], "AUTH=<>");
	cr_expect_str_eq(smtp_params_find(params, count, "size"), "12");
	cr_expect_str_eq(smtp_params_find(params, count, "8BIT"), "");
	cr_expect_null(smtp_params_find(params, count, "8BITMIME"));
	cr_expect_null(smtp_params_find(params, count, "SIZ"));
	cr_expect_null(smtp_params_parse(&arena, "A B C", 5, 2, &count, &why));
	cr_expect_str_eq(why, "too many parameters");
}
