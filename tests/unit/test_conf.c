#include "config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/mem.h"
#include "common/nearest.h"

#define LISTENER "[listener in]\nbind = unix:/in\nnext-hop = discard:\n"
#define COUNT(array) (sizeof(array) / sizeof(array[0]))

static struct conf *parse(const char *text, char **problems)
{
	struct buf b = { 0 };
	struct conf *conf = conf_parse("t", text, strlen(text), &b);

	*problems = buf_len(&b) ? mem_strndup(buf_head(&b), buf_len(&b)) : mem_strdup("");
	buf_fini(&b);
	return conf;
}

/* The configuration of a text that must be valid. */
static struct conf *good(const char *text)
{
	char *problems;
	struct conf *conf = parse(text, &problems);

	cr_assert_not_null(conf, "%s", problems);
	free(problems);
	return conf;
}

static char *printed(const struct conf *conf)
{
	struct buf b = { 0 };

	conf_print(&b, conf);
	char *text = mem_strndup(buf_head(&b), buf_len(&b));

	buf_fini(&b);
	return text;
}

/* len times the byte, in static memory; four may be in use. */
static const char *run(char byte, size_t len)
{
	static char text[4][10000];
	static unsigned next;
	char *start = text[next++ % 4];

	memset(start, byte, len);
	start[len] = '\0';
	return start;
}

/* Lines that inih alone would cut, join, drop or misread. */
Test(conf, what_inih_would_mangle_is_refused_with_its_line)
{
	static const struct { const char *text, *problem; } bad[] = {
		{ LISTENER "milters = none\n unix:/b\n", "t:5: [listener in]: the line begins with a blank" },
		{ LISTENER "milters = none\n\tmode = 0600\n", "t:5: [listener in]: the line begins with a blank" },
		{ " [listener in]\n", "t:1: the line begins with a blank" },
		{ LISTENER "mode\n", "t:4: [listener in]: this is neither a [section] nor \"key = value\"" },
		{ LISTENER "mode ; = 0600\n", "t:4: [listener in]: this is neither" },
		{ LISTENER "= 1\n", "t:4: [listener in]: there is no key before the '='" },
		{ LISTENER "owner = a\x01\n", "t:4: [listener in]: there is a control character, 0x01, at column 10" },
		{ LISTENER "owner = a\rb\n", "t:4: [listener in]: there is a control character, 0x0d" },
		{ LISTENER "; \x7f\n", "t:4: [listener in]: there is a control character, 0x7f" },
		{ LISTENER "owner = a;b\n", "t:4: [listener in] owner: the value has a ';' in it" },
		{ LISTENER "owner =;b\n", "t:4: [listener in] owner: the value has a ';' in it" },
		{ LISTENER "milters = a,;b\n", "t:4: [listener in] milters: the value has a ';' in it" },
		{ LISTENER "owner = a # b\n", "t:4: [listener in] owner: the value has a '#' in it" },
		{ LISTENER "owner = \"a\"\n", "t:4: [listener in] owner: the value is in quotes" },
		{ LISTENER "mode =\xc2\xa0" "0600\n", "t:4: [listener in]: there is a no-break space at column 7" },
		{ LISTENER "\xef\xbb\xbfmode = 0600\n", "t:4: [listener in]: there is a byte order mark at column 1" },
		{ "\xff\xfe[", "t:1: the file is in UTF-16" },
		{ "[listener in\nbind = a\n", "t:1: the section has no closing bracket" },
		{ "[listener a]b]\n", "t:1: there is something behind the closing bracket" },
		{ "a = b\n", "t:1: \"a\" is in no section" },
	};
	char *problems;

	for (size_t i = 0; i < COUNT(bad); i++) {
		cr_expect_null(parse(bad[i].text, &problems));
		cr_expect(!strncmp(problems, bad[i].problem, strlen(bad[i].problem)), "%s gives %s", bad[i].text,
			problems);
		free(problems);
	}
	struct buf b = { 0 };

	cr_assert_null(conf_parse("t", LISTENER "a\0b", sizeof(LISTENER) + 2, &b));
	cr_assert(!strncmp((char *)buf_head(&b), "t:4: [listener in]: there is a control character, 0x00", 50));
	buf_fini(&b);
}

Test(conf, a_line_is_read_whole_or_refused)
{
	char text[20000];
	char *problems;
	const struct { size_t line; bool fits; } cases[] = {
		{ 190, true }, { 210, true }, { 4096, true }, { CONF_LINE_MAX, true }, { CONF_LINE_MAX + 1, false },
		{ CONF_LINE_MAX * 2, false },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		/* A comment of that length, and a list with a last word that a cut would lose. */
		snprintf(text, sizeof(text), LISTENER "#%s\n", run('=', cases[i].line - 1));
		struct conf *conf = parse(text, &problems);

		cr_expect_eq(conf != NULL, cases[i].fits, "%zu: %s", cases[i].line, problems);
		cr_expect(cases[i].fits || strstr(problems, "t:4: [listener in]: the line has"), "%s", problems);
		conf_free(conf);
		free(problems);
	}
	snprintf(text, sizeof(text), LISTENER "%s", "[milter m]\nhostname = localhost\nmacros.eom = ");
	while (strlen(text) < 400)
		snprintf(text + strlen(text), 100, "{macro_number_%zu} ", strlen(text));
	strcat(text, "{last}");
	struct conf *conf = good(text);
	const struct conf_words *macros = conf_milter_macros(&conf->milter[0], MILTER_STAGE_EOM);

	cr_assert_str_eq(macros->item[macros->count - 1], "{last}");
	conf_free(conf);

	snprintf(text, sizeof(text), LISTENER "owner = %s\n", run('a', CONF_VALUE_MAX + 1));
	cr_assert_null(parse(text, &problems));
	cr_assert(strstr(problems, "t:4: [listener in] owner: the value has more than 8128 bytes"), "%s", problems);
	free(problems);
}

Test(conf, the_name_of_a_section_is_never_cut)
{
	char text[1000];
	char *problems;

	snprintf(text, sizeof(text), "[listener %s]\nbind = unix:/a\nnext-hop = discard:\nmilters = none\n"
		"[listener %sb]\nbind = unix:/b\nnext-hop = discard:\nmilters = none\n", run('a', 99), run('a', 99));
	struct conf *conf = good(text);

	cr_assert_str_eq(conf->listener[0].name, run('a', 99));
	cr_assert_eq(strlen(conf->listener[1].name), CONF_NAME_MAX);
	conf_free(conf);
	snprintf(text, sizeof(text), "[listener %s]\nbind = unix:/a\nnext-hop = discard:\n", run('a', 101));
	cr_assert_null(parse(text, &problems));
	cr_assert(strstr(problems, "t:1: [listener NAME]: \"aaaa") && strstr(problems, "has more than 100 bytes"), "%s",
		problems);
	free(problems);
}

Test(conf, every_problem_says_what_is_wrong_and_what_is_allowed)
{
	static const struct { const char *text, *problem; } bad[] = {
		{ "", "t:1: there is no [listener NAME]: at least one is needed\n" },
		{ "[listner in]\nbind = x\n", "t:1: unknown section \"listner in\"; did you mean \"listener\"? allowed: "
			"[milterd], [listener NAME], [milter NAME]\n" },
		{ "[quite different]\nx = y\n" LISTENER "milters = none\n",
			"t:1: unknown section \"quite different\"; allowed: [milterd], [listener NAME], [milter NAME]\n" },
		{ "[milterd x]\n" LISTENER "milters = none\n", "t:1: [milterd] takes no name, but has \"x\"\n" },
		{ "[listener]\nbind = unix:/a\nnext-hop = discard:\nmilters = none\n",
			"t:1: [listener] needs a name: [listener NAME]\n" },
		{ LISTENER "milters = none\n[milter none]\nhostname = a\n",
			"t:5: [milter NAME]: \"none\" is no name: it stands for \"no milter\"\n" },
		{ LISTENER "milters = none\n[milter a/b]\nhostname = a\n", "t:5: [milter NAME]: \"a/b\" is no name: "
			"letters and digits, and behind the first of them '-', '_' and '.'\n" },
		{ "[milterd]\n" LISTENER "milters = none\n[milterd]\nworkers = 0\n",
			"t:6: [milterd]: is there twice; first at t:1\n"
			"t:7: [milterd] workers: \"0\" is out of range; allowed: auto or a number, from 1 to 64\n" },
		{ LISTENER "milters = none\n[listener in]\n", "t:5: [listener in]: is there twice; first at t:1\n" },
		{ LISTENER "milters = none\nmode = 0600\nmode = 0600\n",
			"t:6: [listener in] mode: is given twice; first at t:5\n" },
		{ LISTENER "milters = none\nmax-recipient = 5\n",
			"t:5: [listener in] max-recipient: unknown option; did you mean \"max-recipients\"?\n" },
		{ LISTENER "milters = none\nworkers = 5\n",
			"t:5: [listener in] workers: is an option of [milterd], not of this section\n" },
		{ LISTENER "milters = none\nunheard-of = 5\n",
			"t:5: [listener in] unheard-of: unknown option; see milterd.conf(5)\n" },
		{ LISTENER "milters = none\ntimeout.command = 30\n", "t:5: [listener in] timeout.command: \"30\" has no unit; "
			"allowed: a number with its unit, as in 500ms, 30s, 5m or 1h, from 1ms to 1h\n" },
		{ LISTENER "milters = none\ntimeout.command = 61m\n", "t:5: [listener in] timeout.command: \"61m\" is out of "
			"range; allowed: a number with its unit, as in 500ms, 30s, 5m or 1h, from 1ms to 1h\n" },
		{ LISTENER "milters = none\nmax-message-size = 50MB\n", "t:5: [listener in] max-message-size: \"50MB\" has an "
			"unknown unit \"MB\"; allowed: bytes, or a number with its unit, as in 64K, 50M or 1G, from 1K to 1G\n" },
		{ LISTENER "milters = none\nmax-errors = many\n",
			"t:5: [listener in] max-errors: \"many\" is not a number; allowed: a number, from 1 to 100000\n" },
		{ LISTENER "milters = none\nmax-errors =\n",
			"t:5: [listener in] max-errors: has no value; allowed: a number, from 1 to 100000\n" },
		{ LISTENER "milters = none\nreceived = maybe\n", "t:5: [listener in] received: \"maybe\" is neither yes nor "
			"no; allowed: yes, true, on, no, false or off\n" },
		{ LISTENER "milters = none\nmode = 0888\n",
			"t:5: [listener in] mode: \"0888\" is not an octal number; allowed: an octal number, as in 0660, from "
			"0000 to 0777\n" },
		{ "[milterd]\nlog = file\nbuffer-memory = 1023K\n" LISTENER "milters = none\n",
			"t:2: [milterd] log: \"file\" is not known here; allowed: auto, stderr, syslog or journal\n"
			"t:3: [milterd] buffer-memory: \"1023K\" is out of range; allowed: bytes, or a number with its unit, as "
			"in 64K, 50M or 1G, at least 1M\n" },
		{ "[milterd]\ninclude = x\n" LISTENER "milters = none\n",
			"t:2: [milterd] include: only a file can include others\n" },
		/* between options */
		{ "[listener in]\nmilters = none\n", "t:1: [listener in] bind: is missing: endpoints to listen on\n"
			"t:1: [listener in] next-hop: is missing: where accepted messages go: smtp:ENDPOINT, or discard:\n" },
		{ "[listener in]\nbind =\nnext-hop = discard:\nmilters = none\n",
			"t:2: [listener in] bind: is missing: endpoints to listen on\n" },
		{ LISTENER "milters = none\n[listener b]\nbind = *:25 unix:/in\nmilters = none\nnext-hop = discard:\n",
			"t:6: [listener b] bind: \"unix:/in\" is taken by \"unix:/in\" of [listener in], at t:2\n" },
		{ "[listener in]\nbind = *:25\nnext-hop = smtp:127.0.0.1:25\nmilters = none\n",
			"t:3: [listener in] next-hop: \"smtp:127.0.0.1:25\" is this listener itself: mail would go round for "
			"ever\n" },
		{ "[listener in]\nbind = inet:*:25 127.0.0.1:25\nnext-hop = discard:\nmilters = none\n",
			"t:2: [listener in] bind: \"127.0.0.1:25\" is taken by \"inet:*:25\" of [listener in], at t:2\n" },
		{ LISTENER "milters = rspamb\n[milter rspamd]\nhostname = a\n",
			"t:4: [listener in] milters: there is no [milter rspamb]; did you mean \"rspamd\"?\n" },
		{ LISTENER "milters = a none\n[milter a]\nhostname = a\n",
			"t:4: [listener in] milters: \"none\" stands alone; here are names beside it\n" },
		{ LISTENER "milters = a a\n[milter a]\nhostname = a\n",
			"t:4: [listener in] milters: \"a\" is there twice; allowed: names of milters, or none\n" },
		{ LISTENER "[milter a]\nport = 1\n", "t:4: [milter a]: neither hostname nor socket is given\n" },
		{ LISTENER "[milter a]\nhostname = h\nsocket = h:1\n",
			"t:6: [milter a] socket: hostname is given too, at t:5; allowed: one of them\n" },
		{ LISTENER "[milter a]\nsocket = h:1\nport = 1\n",
			"t:6: [milter a] port: belongs to hostname; with socket the port is part of the endpoint\n" },
		{ LISTENER "[milter a]\nsocket = *:1\n",
			"t:5: [milter a] socket: has no host to connect to: '*' is for bind\n" },
		{ LISTENER "[milter a]\nhostname = h\npool.max = 8\npool.min = 9\n",
			"t:7: [milter a] pool.min: 9 is more than pool.max, which is 8\n" },
		{ LISTENER "[milter a]\nhostname = [::1]\n", "t:5: [milter a] hostname: \"[::1]\" is not a valid IPv6 "
			"address; allowed: a host name or an IP address without brackets\n" },
	};
	char *problems;

	for (size_t i = 0; i < COUNT(bad); i++) {
		cr_expect_null(parse(bad[i].text, &problems), "%s", bad[i].text);
		cr_expect_str_eq(problems, bad[i].problem, "\n%s\nwanted\n%s", problems, bad[i].problem);
		free(problems);
	}
}

Test(conf, values_that_are_not_of_their_type_are_refused)
{
	static const struct { const char *key, *bad[16]; } milterd[] = {
		{ "workers", { "-1", "+1", "1.5", "65", "0x41", "auto 1", "18446744073709551617", "1 2", NULL } },
		{ "buffer-memory", { "9223372036854775808", "9007199254740993K", "1E9", "256 M", "256m", "M", NULL } },
		{ "drain-timeout", { "-1s", "5 m", "5M", "1h30m", "1d", "99999999999999999999h", "s", "", NULL } },
		{ "user", { "-x", "a b", "a:b", "a/b", "a,b", "", "\xc3\xa4", NULL } },
		{ "hostname", { "192.0.2.1", "::1", "a b", "a..b", "[192.0.2.256]", "[IPv6:]", "[::1]", "[IPv6:192.0.2.1]",
			"[", "[]", "Auto", "", NULL } },
		{ "log-level", { "verbose", "", "infos", NULL } },
	}, milter[] = {
		{ "macros.data", { "client_addr", "{}", "{a b}", "{a{b}", "-", "i i", "{a", NULL } },
		{ "socket", { "unix:", "a", "a:1 a:1", "inet:1@a", NULL } },
		{ "port", { "0", "65536", "a", NULL } },
	};
	char *problems, text[500];

	for (size_t i = 0; i < COUNT(milterd); i++)
		for (const char *const *value = milterd[i].bad; *value; value++) {
			snprintf(text, sizeof(text), LISTENER "milters = none\n[milterd]\n%s = %s\n", milterd[i].key, *value);
			cr_expect_null(parse(text, &problems), "%s", text);
			cr_expect(!strncmp(problems, "t:6: [milterd] ", 15) && strstr(problems, "; allowed: "), "%s", problems);
			free(problems);
		}
	for (size_t i = 0; i < COUNT(milter); i++)
		for (const char *const *value = milter[i].bad; *value; value++) {
			snprintf(text, sizeof(text), LISTENER "[milter m]\n%s = %s\n%s", milter[i].key, *value,
				strcmp(milter[i].key, "socket") ? "hostname = h\n" : "");
			cr_expect_null(parse(text, &problems), "%s", text);
			cr_expect(!strncmp(problems, "t:5: [milter m] ", 16) && strstr(problems, "; allowed: "), "%s", problems);
			free(problems);
		}
}

Test(conf, endpoints_that_exclude_each_other_are_told_from_those_that_do_not)
{
	static const struct { const char *one, *other; bool good; } cases[] = {
		{ "*:25", "inet:*:25", false }, { "*:25", "inet6:*:25", false }, { "*:25", "localhost:25", false },
		{ "inet:0.0.0.0:25", "*:25", false }, { "inet6:[::]:25", "[::1]:25", false },
		{ "inet:*:25", "inet:mx:25", false }, { "mx:25", "MX:25", false },
		{ "inet:*:25", "inet6:*:25", true }, { "inet:*:25", "inet6:[::]:25", true }, { "*:25", "*:26", true },
		{ "inet:*:25", "[::1]:25", true }, { "inet:*:25", "mx:25", true }, { "127.0.0.1:25", "127.0.0.2:25", true },
		{ "unix:/a", "unix:/b", true }, { "unix:/25", "*:25", true },
	};
	char *problems, text[300];

	for (size_t i = 0; i < 2 * COUNT(cases); i++) {
		const char *one = cases[i / 2].one, *other = cases[i / 2].other;

		snprintf(text, sizeof(text), "[listener in]\nmilters = none\nnext-hop = discard:\nbind = %s %s\n",
			i % 2 ? one : other, i % 2 ? other : one);
		struct conf *conf = parse(text, &problems);

		/* "is there twice" or "is taken by" */
		cr_expect_eq(conf != NULL, cases[i / 2].good, "%s%s", text, problems);
		conf_free(conf);
		free(problems);
	}
}

Test(conf, mail_that_would_come_back_is_refused)
{
	static const char text[] = "[listener a]\nbind = *:25\nnext-hop = smtp:%s\nmilters = none\n"
		"[listener b]\nbind = 127.0.0.1:26\nnext-hop = smtp:%s\nmilters = none\n";
	static const struct { const char *a, *b, *problem; } cases[] = {
		{ "127.0.0.1:26", "127.0.0.1:25", "t:3: [listener a] next-hop: \"smtp:127.0.0.1:26\" is [listener b] of this "
			"file, which leads back here: mail would go round for ever\nt:7: [listener b] next-hop: " },
		{ "127.0.0.1:26", "inet6:[::1]:25", "t:3: [listener a] next-hop" },
		{ "127.0.0.1:26", "127.0.0.1:26", "t:7: [listener b] next-hop: \"smtp:127.0.0.1:26\" is this listener" },
		{ "127.0.0.1:26", "127.0.0.1:27", NULL }, { "192.0.2.1:25", "192.0.2.2:26", NULL },
		{ "127.0.0.2:26", "127.0.0.1:25", NULL },
	};
	char *problems, filled[400];

	for (size_t i = 0; i < COUNT(cases); i++) {
		snprintf(filled, sizeof(filled), text, cases[i].a, cases[i].b);
		struct conf *conf = parse(filled, &problems);

		cr_expect_eq(conf != NULL, !cases[i].problem, "%s%s", filled, problems);
		cr_expect(!cases[i].problem || !strncmp(problems, cases[i].problem, strlen(cases[i].problem)), "%s", problems);
		conf_free(conf);
		free(problems);
	}
}

Test(conf, next_hops_say_how_they_are_reached)
{
	static const char *const bad[] = {
		"127.0.0.1:25", "lmtp:127.0.0.1:25", "smtp:", "smtp:25", "smtp:*:25", "discard", "discard:x",
		"discard: smtp:a:25", "smtp:a:25 discard:", "discard: discard:",
	};
	char *problems, text[200];

	for (size_t i = 0; i < COUNT(bad); i++) {
		snprintf(text, sizeof(text), "[listener in]\nbind = unix:/in\nmilters = none\nnext-hop = %s\n", bad[i]);
		cr_expect_null(parse(text, &problems), "%s", bad[i]);
		cr_expect(!strncmp(problems, "t:4: [listener in] next-hop: \"", 30), "%s", problems);
		free(problems);
	}
}

Test(conf, warnings_do_not_stop_the_start)
{
	static const struct { const char *text, *problem; } cases[] = {
		{ LISTENER, "t:1: warning: [listener in] milters: no milter is defined, so mail passes unfiltered; \"milters = "
			"none\" says that this is meant\n" },
		{ LISTENER "milters = none\n[milter a]\nhostname = a\n",
			"t:5: warning: [milter a]: no listener uses this milter\n" },
		{ LISTENER "max-message-size = 100M\n[milter a]\nhostname = a\n",
			"t:5: warning: [milter a] options.max-response-size: a milter that replaces the body of a message as large as "
			"max-message-size of [listener in] allows would fail; better: that and 1M more\n" },
		{ LISTENER "max-message-size = 100M\n[milter a]\nhostname = a\noptions.max-response-size = 0x6500000\n", "" },
		{ LISTENER "max-message-size = 50M\n[milter a]\nhostname = a\n", "" },
	};
	char *problems;

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct conf *conf = parse(cases[i].text, &problems);

		cr_expect_not_null(conf, "%s", cases[i].text);
		cr_expect_str_eq(problems, cases[i].problem, "%s", problems);
		conf_free(conf);
		free(problems);
	}
}

Test(conf, chains_are_in_the_order_of_the_listener_or_else_of_the_file)
{
	struct conf *conf = good("[listener all]\nbind = unix:/1\nnext-hop = discard:\n"
		"[milter a]\nhostname = ::1\nport = 0x10\n"
		"[listener some]\nbind = unix:/2\nnext-hop = discard:\nmilters = c,, a\n"
		"[milter b]\nsocket = unix:/b b:2\n"
		"[listener no]\nbind = unix:/3\nnext-hop = discard:\nmilters = none\n"
		"[milter c]\nhostname = c\n");
	struct buf b = { 0 };

	cr_assert_eq(conf->listener_count, 3);
	cr_assert_eq(conf->milter_count, 3);
	cr_assert_eq(conf->listener[0].chain_count, 3);
	cr_assert(conf->listener[0].chain[0] == 0 && conf->listener[0].chain[1] == 1 && conf->listener[0].chain[2] == 2);
	cr_assert_eq(conf->listener[1].chain_count, 2);
	cr_assert(conf->listener[1].chain[0] == 2 && conf->listener[1].chain[1] == 0);
	cr_assert_eq(conf->listener[2].chain_count, 0);
	cr_assert_str_eq(conf->milter[2].name, "c");
	cr_assert_eq(conf->milter[1].endpoints.count, 2);
	cr_assert_eq(conf->milter[0].endpoints.count, 1);
	addr_print(&b, &conf->milter[0].endpoints.item[0]);
	cr_assert(buf_len(&b) == 8 && !memcmp(buf_head(&b), "[::1]:16", 8));
	buf_fini(&b);
	conf_free(conf);
}

Test(conf, what_is_printed_reads_back_the_same)
{
	static const char *const texts[] = {
		LISTENER "milters = none\n",
		"\xef\xbb\xbf[milterd]\r\nuser = 1000 ; a comment\r\nworkers=0x10\r\ndrain-timeout: 0ms\r\n\r\n" LISTENER,
		"[milterd]\nuser = milter@example.org\ngroup = g\nsession-user = s\nworker-user = w\nworkers = 64\n"
		"sessions = AUTO\nbuffer-memory = 9223372036854775807\nhostname = [IPv6:2001:db8::1]\nlog = SYSLOG\n"
		"log-level = debug\ndrain-timeout = 3600000ms\n"
		"[ listener \t in.1 ] ; a comment\nprotocol = smtp\nbind = inet:*:25, inet6:[::]:465,\t[::1]:26 localhost:1 unix:/a=b\n"
		"mode = 0\nowner = o\ngroup = 0\nmilters = m-2\nnext-hop = smtp:unix:/lmtp smtp:inet6:[::1]:25, smtp:mx:25\n"
		"max-message-size = 1025\nmax-recipients = 0x7\nreceived = OFF\ntimeout.command = 1ms\ntimeout.data = 90000ms\n"
		"[milter m-2]\nhostname = \nsocket = unix:/run/x,h:1\nport = 11332\noptions.tempfail-on-error = false\n"
		"pool.min = 0\npool.wait = 0s\nheader-index = stable\npipeline = no\nmacros.connect =\n"
		"macros.eom = i,{x.y-z_0}\n",
	};

	for (size_t i = 0; i < COUNT(texts); i++) {
		struct conf *conf = good(texts[i]);
		char *problems;
		char *once = printed(conf);
		struct conf *again = parse(once, &problems);

		cr_assert_not_null(again, "%s", problems);
		char *twice = printed(again);

		cr_expect_str_eq(once, twice);
		cr_expect_eq(conf->listener[0].chain_count, again->listener[0].chain_count);
		free(problems);
		free(twice);
		free(once);
		conf_free(again);
		conf_free(conf);
	}
}

Test(conf, odd_values_mean_what_they_say)
{
	struct conf *conf = good("[milterd]\nworkers = 0x10\nsessions = auto\ndrain-timeout = 0ms\nbuffer-memory = 0x100000\n"
		LISTENER "mode = 640\nreceived = Off\nmax-message-size = 1G\nmilters = none\ntimeout.data = 1500ms\n");
	char *text = printed(conf);

	cr_assert_eq(conf->milterd.workers, 16);
	cr_assert_eq(conf->milterd.sessions, 0);
	cr_assert_eq(conf->milterd.drain_timeout, 0);
	cr_assert_eq(conf->milterd.buffer_memory, 1 << 20);
	cr_assert_eq(conf->listener[0].mode, 0640);
	cr_assert_eq(conf->listener[0].received, false);
	cr_assert_eq(conf->listener[0].max_message_size, 1 << 30);
	cr_assert_eq(conf->listener[0].timeout_data, 1500);
	cr_assert(strstr(text, "\ndrain-timeout = 0s\n") && strstr(text, "\nbuffer-memory = 1M\n") &&
		strstr(text, "\nmode = 0640\n") && strstr(text, "\ntimeout.data = 1500ms\n") &&
		strstr(text, "\ncommit-deadline = 4m\n") && strstr(text, "\nowner =\n") && !strstr(text, "include"), "%s", text);
	free(text);
	conf_free(conf);
}

/* inih as most build it takes lines of up to 197 bytes; nobody should need more to read what we print by default. */
Test(conf, no_default_makes_a_long_line)
{
	struct conf *conf = good(LISTENER "[milter m]\nhostname = h\n");
	char *text = printed(conf);

	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		cr_expect_leq(strlen(line), 197, "%s", line);
	free(text);
	conf_free(conf);
}

Test(conf, too_many_sections_are_refused_once)
{
	struct buf text = { 0 }, problems = { 0 };

	buf_puts(&text, LISTENER);
	for (unsigned i = 0; i < CONF_SECTIONS_MAX + 2; i++)
		buf_printf(&text, "[milter m%u]\nhostname = h\n", i);
	cr_assert_null(conf_parse("t", (char *)buf_head(&text), buf_len(&text), &problems));
	buf_append(&problems, "", 1);
	cr_assert_str_eq((char *)buf_head(&problems), "t:2002: there are more than 1000 sections\n");
	buf_fini(&text);
	buf_fini(&problems);
}

/* Includes */

static char folder[200];

static void make_folder(void)
{
	snprintf(folder, sizeof(folder), "/tmp/milterd-test-[conf]-XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
}

static void remove_folder(void)
{
	char command[300];

	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	cr_assert_eq(system(command), 0);
}

static void put(const char *name, const char *text)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *f = fopen(path, "w");

	cr_assert_not_null(f);
	fputs(text, f);
	fclose(f);
}

/* Load main in the folder; problems with the folder's name removed wherever it stands. */
static struct conf *load(char **problems)
{
	char path[300];
	struct buf b = { 0 };

	snprintf(path, sizeof(path), "%s/main", folder);
	struct conf *conf = conf_load(path, &b);

	buf_append(&b, "", 1);
	*problems = mem_strdup((char *)buf_head(&b));
	for (char *at; (at = strstr(*problems, folder));)
		memmove(at, at + strlen(folder), strlen(at + strlen(folder)) + 1);
	buf_fini(&b);
	return conf;
}

Test(conf, a_file_that_cannot_be_read_is_the_only_problem, .init = make_folder, .fini = remove_folder)
{
	char *problems;

	cr_assert_null(load(&problems));
	cr_assert_str_eq(problems, "/main: No such file or directory\n");
	free(problems);
}

Test(conf, includes_are_refused_where_they_would_hide_something, .init = make_folder, .fini = remove_folder)
{
	char *problems, big[300];

	put("main", "[milterd]\ninclude = absent, ./main, d, twice.conf t*.conf *.none absent/*.conf big\n" LISTENER
		"milters = none\n");
	put("twice.conf", "[milterd]\ninclude = main\n[listener in]\nbind = unix:/x\n[milter m]\nhostname = a b\n");
	snprintf(big, sizeof(big), "%s/d", folder);
	cr_assert_eq(mkdir(big, 0700), 0);
	put("big", "");
	snprintf(big, sizeof(big), "%s/big", folder);
	cr_assert_eq(truncate(big, CONF_TEXT_MAX), 0);
	cr_assert_null(load(&problems));
	cr_expect_str_eq(problems,
		"/main:2: [milterd] include: \"/absent\": No such file or directory\n"
		"/main:2: [milterd] include: \"/./main\": it is read already: a file can be included once, and never itself\n"
		"/main:2: [milterd] include: \"/d\": it is a directory\n"
		"/main:2: [milterd] include: \"/twice.conf\": it is read already: a file can be included once, and never itself\n"
		"/main:2: [milterd] include: \"/big\": too large: all files together may have 4M\n"
		"/twice.conf:1: [milterd]: is there twice; first at /main:1\n"
		"/twice.conf:2: [milterd] include: an included file cannot include others\n"
		"/twice.conf:3: [listener in]: is there twice; first at /main:3\n"
		"/twice.conf:6: [milter m] hostname: \"a b\" is not a valid host name: letters, digits, '-', '_' and dots "
		"between them; allowed: a host name or an IP address without brackets\n", "%s", problems);
	free(problems);
}

Test(conf, included_files_follow_in_order_and_become_part_of_the_whole, .init = make_folder, .fini = remove_folder)
{
	char *problems, path[300];

	put("main", "[milterd]\ninclude = last, m.d/*.conf m.d/*.none\n" LISTENER);
	put("last", "[milter last]\nhostname = a");
	snprintf(path, sizeof(path), "%s/m.d", folder);
	cr_assert_eq(mkdir(path, 0700), 0);
	put("m.d/20.conf", "[milter twenty]\nhostname = a\n");
	put("m.d/10.conf", "[milter ten]\nhostname = a\n");
	put("m.d/10.conf~", "[milter ignored]\nhostname = a\n");
	put("m.d/30.conf", "");
	struct conf *conf = load(&problems);

	cr_assert_not_null(conf, "%s", problems);
	cr_assert_str_eq(problems, "");
	cr_assert_eq(conf->milter_count, 3);
	cr_assert_str_eq(conf->milter[0].name, "last");
	cr_assert_str_eq(conf->milter[1].name, "ten");
	cr_assert_str_eq(conf->milter[2].name, "twenty");
	char *text = printed(conf);

	conf_free(conf);
	conf = good(text);
	cr_assert_eq(conf->milter_count, 3);
	conf_free(conf);
	free(text);
	free(problems);
}

Test(nearest, only_what_is_near_is_suggested)
{
	static const struct { const char *word, *best; } cases[] = {
		{ "milter", "milters" }, { "milters", "milters" }, { "bnid", "bind" }, { "max-recipient", "max-recipients" },
		{ "tls", NULL }, { "", NULL }, { "x", NULL }, { "completely-else", NULL },
		{ "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm", NULL },
	};
	static const char *const candidates[] = { "bind", "milters", "max-recipients", "mode" };

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct nearest n = { .word = cases[i].word };

		for (size_t j = 0; j < COUNT(candidates); j++)
			nearest_offer(&n, candidates[j]);
		if (cases[i].best)
			cr_expect_str_eq(n.best ? n.best : "nothing", cases[i].best);
		else
			cr_expect_null(n.best, "%s: %s", cases[i].word, n.best);
	}
}
