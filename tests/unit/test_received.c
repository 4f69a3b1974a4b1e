#include "config.h"

#include "session/received.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/header.h"

#define NOW 1700000000	/* Tue, 14 Nov 2023 22:13:20 UTC */

static struct arena arena;

static const struct received plain = {
	.helo = "client.example.com", .client_name = "unknown", .client_address = "192.0.2.1",
	.hostname = "mx.example.org", .queue_id = "ABC", .esmtp = true,
};

static const char *make(const struct received *r)
{
	size_t len;
	const char *field = received_make(&arena, r, NOW, &len);

	cr_assert_eq(len, strlen(field));
	return field;
}

Test(received, nothing_a_client_says_ends_a_comment_or_the_field)
{
	static const char *const bad[] = {
		"a)b", "(a", "a\\", "a\"b", "a;b", "a\r\nX-Injected: 1", "a\nb", "<a>", "a b", "\xff\xfe", "\x7f", "",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct received r = plain;

		r.helo = r.client_name = bad[i];
		r.only_rcpt = "\"a) (b\"@example.net";
		const char *field = make(&r), *by = strstr(field, "\r\n\tby ");

		cr_assert(header_is_fields((const uint8_t *)field, strlen(field)), "%s", field);
		cr_assert_not_null(by, "%s", field);
		cr_expect_eq(strcspn(field, "("), strcspn(field, "()"), "%s", field);
		cr_expect_eq(strchr(field, ')'), by - 1, "one comment, and it ends the line: %s", field);
		cr_expect_eq(strchr(field, '('), strrchr(field, '('), "%s", field);
		cr_expect_null(strstr(field, "for <"), "%s", field);
		for (const char *p = field; *p; p++)
			cr_expect((unsigned char)*p < 0x7f, "%s", field);
	}
	arena_fini(&arena);
}

Test(received, it_is_the_field_of_rfc_5321_4_4)
{
	struct received r = plain;

	cr_expect_str_eq(make(&r), "Received: from client.example.com (unknown [192.0.2.1])\r\n"
				   "\tby mx.example.org with ESMTP id ABC;\r\n"
				   "\tTue, 14 Nov 2023 22:13:20 +0000\r\n");
	r.client_address = "2001:db8::1";
	r.esmtp = false;
	r.only_rcpt = "bob@example.net";
	cr_expect_str_eq(make(&r), "Received: from client.example.com (unknown [IPv6:2001:db8::1])\r\n"
				   "\tby mx.example.org with SMTP id ABC\r\n\tfor <bob@example.net>;\r\n"
				   "\tTue, 14 Nov 2023 22:13:20 +0000\r\n");
	r.client_address = "";
	r.only_rcpt = NULL;
	cr_expect_str_eq(make(&r), "Received: from client.example.com (local)\r\n"
				   "\tby mx.example.org with SMTP id ABC;\r\n"
				   "\tTue, 14 Nov 2023 22:13:20 +0000\r\n");
	arena_fini(&arena);
}
