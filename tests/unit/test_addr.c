#include "config.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include "common/addr.h"

#define PATH_107 "/run/" \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define LABEL_63 "lllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll"

Test(addr, what_is_no_endpoint_is_refused_with_a_reason)
{
	static const struct { const char *text, *why; } bad[] = {
		{ "", "no port" }, { "25", "no port" }, { ":25", "no host" }, { "inet:", "no port" },
		{ "inet:25", "no port" }, { "localhost", "no port" }, { "localhost:", "valid port" },
		{ "localhost:0", "1 to 65535" }, { "localhost:65536", "1 to 65535" },
		{ "localhost:99999999999999999999999", "1 to 65535" }, { "localhost:+25", "valid port" },
		{ "localhost:-1", "valid port" }, { "localhost:25x", "valid port" }, { "localhost: 25", "valid port" },
		{ "inet:25@localhost", "PORT@HOST" }, { "inet:::1:25", "inet6:[ADDR]" }, { "::1:25", "inet6:[ADDR]" },
		{ "inet6:::1:25", "inet6:[ADDR]" }, { "inet6:[::1]", "no port" }, { "inet6:[::1", "bracket" },
		{ "inet6:[::1]25", "no port" }, { "inet6:[localhost]:25", "IPv6" }, { "inet6:[]:25", "IPv6" },
		{ "inet6:[192.0.2.1]:25", "IPv6" }, { "inet6:192.0.2.1:25", "inet:ADDR" },
		{ "inet6:[fe80::1%lo]:25", "IPv6" }, { "inet6:[::1]]:25", "port" }, { "inet:[::1]:25", "inet6:[ADDR]" },
		{ "192.0.2.256:25", "IPv4" }, { "192.0.2:25", "IPv4" }, { "1.2.3.4.5:25", "IPv4" },
		{ "a..b:25", "host name" }, { ".a:25", "host name" }, { "-a:25", "host name" }, { "a b:25", "host name" },
		{ "a/b:25", "host name" }, { "\xff:25", "host name" }, { "**:25", "host name" },
		{ LABEL_63 "l:25", "host name" },
		{ LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_63 ":25", "host name" },
		{ "unix:", "absolute" }, { "unix:run/x", "absolute" }, { "unix:" PATH_107 "b", "107" },
		{ "local:/run/x", "unix:/PATH" }, { "/run/x", "unix:/PATH" }, { "INET:localhost:25", "inet6:[ADDR]" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct addr a;
		const char *why = NULL;

		cr_expect_eq(addr_parse(&a, bad[i].text, &why), -1, "%s", bad[i].text);
		cr_expect(why && strstr(why, bad[i].why), "%s: %s", bad[i].text, why);
		cr_expect_null(a.host, "%s", bad[i].text);
		cr_expect_null(a.path, "%s", bad[i].text);
	}
}

Test(addr, what_is_printed_is_what_was_read)
{
	static const struct { const char *text, *host; enum addr_family family; uint16_t port; bool numeric; } good[] = {
		{ "localhost:25", "localhost", ADDR_ANY, 25, false },
		{ "inet:mx.example.org:65535", "mx.example.org", ADDR_INET, 65535, false },
		{ "inet6:mx_1.example.org.:1", "mx_1.example.org.", ADDR_INET6, 1, false },
		{ "inet:*:25", "*", ADDR_INET, 25, true }, { "inet6:*:25", "*", ADDR_INET6, 25, true },
		{ "*:25", "*", ADDR_ANY, 25, true }, { "192.0.2.7:10025", "192.0.2.7", ADDR_ANY, 10025, true },
		{ "inet:192.0.2.7:10025", "192.0.2.7", ADDR_INET, 10025, true },
		{ "inet6:[2001:db8::7]:10025", "2001:db8::7", ADDR_INET6, 10025, true },
		{ "[2001:DB8::0007]:10025", "2001:DB8::0007", ADDR_ANY, 10025, true },
		{ LABEL_63 "." LABEL_63 "." LABEL_63 ":2", LABEL_63 "." LABEL_63 "." LABEL_63, ADDR_ANY, 2, false },
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct addr a, copy;
		struct addr_socket s;
		struct buf b = { 0 };
		const char *why;

		cr_assert_eq(addr_parse(&a, good[i].text, &why), 0, "%s: %s", good[i].text, why);
		cr_expect_str_eq(a.host, good[i].host);
		cr_expect_eq(a.family, good[i].family, "%s", good[i].text);
		cr_expect_eq(a.port, good[i].port, "%s", good[i].text);
		cr_expect_eq(addr_numeric(&a, &s), good[i].numeric, "%s", good[i].text);
		addr_copy(&copy, &a);
		addr_fini(&a);
		addr_print(&b, &copy);
		cr_expect(buf_len(&b) == strlen(good[i].text) && !memcmp(buf_head(&b), good[i].text, buf_len(&b)), "%s",
			good[i].text);
		addr_fini(&copy);
		buf_fini(&b);
	}
}

Test(addr, the_longest_unix_path_fits_its_socket_address)
{
	struct addr a;
	struct addr_socket s;
	const char *why;
	char text[ADDR_TEXT_SIZE] = "x";
	uint16_t port = 1;

	cr_assert_eq(strlen(PATH_107), 107);
	cr_assert_eq(addr_parse(&a, "unix:" PATH_107, &why), 0);
	cr_assert(addr_numeric(&a, &s));
	cr_assert_str_eq(((struct sockaddr_un *)&s.storage)->sun_path, PATH_107);
	cr_assert_eq(s.len, offsetof(struct sockaddr_un, sun_path) + 108);
	addr_socket_text(&s, text, &port);
	cr_assert_str_eq(text, "");
	cr_assert_eq(port, 0);
	addr_fini(&a);
}

Test(addr, a_socket_address_becomes_text_without_zone_and_v4_mapping)
{
	static const struct { const char *text, *shown; } cases[] = {
		{ "inet:192.0.2.1:25", "192.0.2.1" }, { "inet6:[2001:db8:0::1]:25", "2001:db8::1" },
		{ "inet6:[::ffff:192.0.2.1]:25", "192.0.2.1" }, { "inet:*:25", "0.0.0.0" }, { "*:25", "::" },
		{ "[2001:db8:1111:2222:3333:4444:255.255.255.255]:25", "2001:db8:1111:2222:3333:4444:ffff:ffff" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct addr a;
		struct addr_socket s;
		const char *why;
		char text[ADDR_TEXT_SIZE];
		uint16_t port;

		cr_assert_eq(addr_parse(&a, cases[i].text, &why), 0, "%s: %s", cases[i].text, why);
		cr_assert(addr_numeric(&a, &s));
		if (s.storage.ss_family == AF_INET6)
			((struct sockaddr_in6 *)&s.storage)->sin6_scope_id = 1;
		addr_socket_text(&s, text, &port);
		cr_expect_str_eq(text, cases[i].shown);
		cr_expect_eq(port, 25);
		addr_fini(&a);
	}
}

Test(addr, two_spellings_of_one_endpoint_are_the_same)
{
	static const struct { const char *one, *other; bool same; } cases[] = {
		{ "inet:192.0.2.1:25", "192.0.2.1:25", true }, { "inet:192.0.2.1:25", "192.0.2.1:26", false },
		{ "inet6:[2001:DB8::1]:25", "[2001:db8:0::1]:25", true }, { "inet:*:25", "inet6:*:25", false },
		{ "inet:MX:25", "inet:mx:25", true }, { "inet:mx:25", "mx:25", false }, { "mx:25", "mx:26", false },
		{ "unix:/a", "unix:/a", true }, { "unix:/a", "unix:/A", false }, { "unix:/a", "unix:/ab", false },
		{ "unix:/a", "mx:25", false }, { "mx:25", "unix:/a", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct addr one, other;
		const char *why;

		cr_assert_eq(addr_parse(&one, cases[i].one, &why), 0);
		cr_assert_eq(addr_parse(&other, cases[i].other, &why), 0);
		cr_expect_eq(addr_same(&one, &other), cases[i].same, "%s %s", cases[i].one, cases[i].other);
		addr_fini(&one);
		addr_fini(&other);
	}
}
