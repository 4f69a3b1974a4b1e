#include "config.h"

#include "master/ctl_test.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/mem.h"
#include "master/ctl_test_report.h"
#include "master/ctl_test_run.h"

#define FILE_MAX (1024u * 1024 * 1024)

static const char usage[] =
	"Usage: milterctl -f CONFIG [--json] test [OPTIONS] FILE\n"
	"  --listener NAME       whose milters, instead of the first listener\n"
	"  --client ADDR[:PORT]  address of the client, instead of 127.0.0.1; [ADDR]:PORT for IPv6\n"
	"  --client-name NAME    its name in DNS\n"
	"  --helo NAME           what it says in HELO\n"
	"  --from ADDRESS        sender, instead of that in the header; <> for none\n"
	"  --rcpt ADDRESS        recipient, instead of those in the header; may be repeated\n"
	"  --auth USER           the client has authenticated as this user\n"
	"  --macro NAME=VALUE    a macro; may be repeated\n"
	"  --output FILE         write the message as it would be delivered\n"
	"FILE - is standard input. Nothing is delivered. Exit status: 0 accepted, 10 rejected, 11 tempfailed, 12 discarded,\n"
	"13 quarantined, 1 failure, 64 wrong usage.\n";

struct test_options {
	struct message_test_request request;
	struct arena arena;
	const char *output;
	bool from_given;
	struct buf assumed;
};

static int wrong_usage(const char *what)
{
	fprintf(stderr, "milterctl: %s\n%s", what, usage);
	return EX_USAGE;
}

static const char *without_brackets(struct arena *a, const char *text)
{
	size_t len = strlen(text);

	return len >= 2 && text[0] == '<' && text[len - 1] == '>' ? arena_strndup(a, text + 1, len - 2) : text;
}

static void add_rcpt(struct test_options *o, const char *address)
{
	struct message_test_request *r = &o->request;

	r->rcpt = mem_realloc(r->rcpt, (r->rcpt_count + 1) * sizeof(*r->rcpt));
	r->rcpt[r->rcpt_count++] = without_brackets(&o->arena, address);
}

/* "ADDR", "ADDR:PORT" or "[ADDR]:PORT". -1: the port is none. */
static int set_client(struct test_options *o, const char *text)
{
	const char *close = strchr(text, ']'), *colon = strrchr(text, ':');
	bool has_port = close ? close[1] == ':' : colon && strchr(text, ':') == colon;
	size_t start = text[0] == '[', len = close ? (size_t)(close - text) - start : has_port ? (size_t)(colon - text) : strlen(text);
	unsigned long port = 0;
	char *end = "";

	if (has_port)
		port = strtoul(colon + 1, &end, 10);
	o->request.client_address = arena_strndup(&o->arena, text + start, len);
	o->request.client_port = (uint16_t)port;
	return *end || port > 65535 ? -1 : 0;
}

static int add_macro(struct test_options *o, const char *name, size_t name_len, const char *value)
{
	struct message_test_request *r = &o->request;
	bool bare = name_len == 1 || name[0] == '{';

	if (!name_len || r->macro_count == MESSAGE_TEST_MACROS_MAX)
		return -1;
	r->macro[r->macro_count++] = (struct milter_macro){
		arena_printf(&o->arena, bare ? "%.*s" : "{%.*s}", (int)name_len, name), value,
	};
	return 0;
}

static int take_option(struct test_options *o, int which, const char *value)
{
	const char *equals;

	switch (which) {
	case 'l':
		o->request.listener = value;
		return 0;
	case 'c':
		return set_client(o, value);
	case 'n':
		o->request.client_name = value;
		return 0;
	case 'e':
		o->request.helo = value;
		return 0;
	case 'r':
		o->request.sender = without_brackets(&o->arena, value);
		o->from_given = true;
		return 0;
	case 't':
		add_rcpt(o, value);
		return 0;
	case 'a':
		return add_macro(o, "auth_authen", 11, value) < 0 ? -1 : add_macro(o, "auth_type", 9, "PLAIN");
	case 'm':
		equals = strchr(value, '=');
		return equals ? add_macro(o, value, (size_t)(equals - value), equals + 1) : -1;
	case 'o':
		o->output = value;
		return 0;
	default:
		return -1;
	}
}

/* ---- the message ---- */

/* The file with CRLF as the end of every line. -1 with errno. */
static int read_message(const char *path, struct buf *b)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
	int c, last = '\n';

	if (!f)
		return -1;
	errno = 0;
	while ((c = getc(f)) != EOF && buf_len(b) < FILE_MAX) {
		const uint8_t byte = (uint8_t)c;

		if (c == '\n' && last != '\r')
			buf_append(b, "\r", 1);
		buf_append(b, &byte, 1);
		last = c;
	}
	if (last != '\n')
		buf_puts(b, "\r\n");
	if (c != EOF)
		errno = EFBIG;

	int failed = ferror(f) || c != EOF ? -1 : 0;

	if (f != stdin)
		fclose(f);
	return failed;
}

/* The addresses in angle brackets, or the first word with an at sign, of a header field; for what was not given. */
static void find_addresses(struct test_options *o, const struct buf *message, const char *name, bool is_sender)
{
	const char *at = (const char *)buf_head(message), *end = at + buf_len(message);
	size_t len = strlen(name);
	bool inside = false;

	while (at < end && *at != '\r') {
		const char *eol = memchr(at, '\n', (size_t)(end - at));
		const char *stop = eol ? eol : end;

		if (*at != ' ' && *at != '\t') {
			inside = (size_t)(stop - at) > len && strncasecmp(at, name, len) == 0 && at[len] == ':';
			at += inside ? len + 1 : 0;
		}
		while (inside && at < stop) {
			size_t skip = strspn(at, " \t\r\n,;<>"), word;

			at += skip;
			if (at >= stop)
				break;
			word = strcspn(at, " \t\r\n,;<>");
			if (memchr(at, '@', word) && *at != '"') {
				const char *address = arena_strndup(&o->arena, at, word);

				if (!is_sender)
					add_rcpt(o, address);
				else if (!*o->request.sender)
					o->request.sender = address;
			}
			at += word;
		}
		at = stop + (eol != NULL);
	}
}

static void assume(struct test_options *o, const struct buf *message)
{
	if (!o->from_given) {
		find_addresses(o, message, "From", true);
		buf_printf(&o->assumed, "sender <%s> from the header", o->request.sender);
	}
	if (!o->request.rcpt_count) {
		find_addresses(o, message, "To", false);
		find_addresses(o, message, "Cc", false);
		if (!o->request.rcpt_count)
			add_rcpt(o, "postmaster");
		buf_printf(&o->assumed, "%s%zu recipients from the header", buf_len(&o->assumed) ? ", " : "",
			   o->request.rcpt_count);
	}
	buf_append(&o->assumed, "", 1);
}

static int write_output(const char *path, const struct buf *message)
{
	FILE *f = fopen(path, "w");

	if (!f || (buf_len(message) && fwrite(buf_head(message), 1, buf_len(message), f) != buf_len(message)) ||
	    fflush(f) != 0) {
		fprintf(stderr, "milterctl: %s: %s\n", path, strerror(errno));
		if (f)
			fclose(f);
		return -1;
	}
	return fclose(f);
}

/* ---- all of it ---- */

static int carry_out(const struct ctl_options *options, struct test_options *o, const struct buf *message)
{
	static const int status[] = {
		[MESSAGE_TEST_ACCEPTED] = 0, [MESSAGE_TEST_REJECTED] = 10, [MESSAGE_TEST_TEMPFAILED] = 11,
		[MESSAGE_TEST_DISCARDED] = 12, [MESSAGE_TEST_QUARANTINED] = 13,
	};
	struct ctl_test_report report = {
		.request = &o->request, .before = message, .assumed = (const char *)buf_head(&o->assumed),
	};
	struct ctl_test_run run;
	int result = EXIT_FAILURE;

	if (ctl_test_run_start(&run, options->config) == 0 &&
	    ctl_test_run_exchange(&run, &o->request, message, &report.answer) == 0 && ctl_test_report_read(&report) == 0) {
		result = status[report.result.outcome];
		if (options->json)
			ctl_test_report_print_json(&report);
		else
			ctl_test_report_print(&report, isatty(STDOUT_FILENO));
		if (o->output && report.envelope && write_output(o->output, &report.after) < 0)
			result = EXIT_FAILURE;
	}
	ctl_test_run_stop(&run);
	ctl_test_report_fini(&report);
	return result;
}

static int run(const struct ctl_options *options, struct test_options *o, const char *path)
{
	struct buf message = { 0 };
	int result = EXIT_FAILURE;

	if (read_message(path, &message) < 0 || !buf_len(&message)) {
		fprintf(stderr, "milterctl: %s: %s\n", path, errno ? strerror(errno) : "it is empty");
	} else {
		assume(o, &message);
		result = carry_out(options, o, &message);
	}
	buf_fini(&message);
	return result;
}

int ctl_test(const struct ctl_options *options, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "listener", required_argument, NULL, 'l' }, { "client", required_argument, NULL, 'c' },
		{ "client-name", required_argument, NULL, 'n' }, { "helo", required_argument, NULL, 'e' },
		{ "from", required_argument, NULL, 'r' }, { "rcpt", required_argument, NULL, 't' },
		{ "auth", required_argument, NULL, 'a' }, { "macro", required_argument, NULL, 'm' },
		{ "output", required_argument, NULL, 'o' }, { "help", no_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' }, { NULL, 0, NULL, 0 },
	};
	struct milter_macro macro[MESSAGE_TEST_MACROS_MAX];
	struct test_options o = { .request = {
		.listener = "", .client_address = "127.0.0.1", .client_name = "", .helo = "localhost", .sender = "",
		.macro = macro,
	} };
	struct ctl_options mine = *options;
	int letter, result = -1;

	while (result < 0 && (letter = getopt_long(argc, argv, "f:", longs, NULL)) != -1) {
		if (letter == 'h') {
			fputs(usage, stdout);
			result = EXIT_SUCCESS;
		} else if (letter == 'f') {
			mine.config = optarg;
			mine.config_given = true;
		} else if (letter == 'j') {
			mine.json = true;
		} else if (take_option(&o, letter, optarg) < 0) {
			result = wrong_usage("an option of test is wrong");
		}
	}
	if (result < 0 && optind != argc - 1)
		result = wrong_usage("test wants one FILE");
	if (result < 0 && options->socket)
		result = wrong_usage("test works alone: -f CONFIG instead of -s SOCKET");
	if (result < 0)
		result = run(&mine, &o, argv[optind]);
	free(o.request.rcpt);
	arena_fini(&o.arena);
	buf_fini(&o.assumed);
	return result;
}
