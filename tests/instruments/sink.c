/* sink.c - an SMTP server (RFC 5321) that takes every message into a spool, strictly, and errs only when told to
 *
 * A message is in the spool before it is answered with 250. What a proxy must never send is refused, counted and
 * complained about on standard error: CR or LF alone, NUL, commands before their time. At SIGTERM one line of totals
 * goes to standard output; the exit status is 3 when there was anything to complain about.
 */
#include "config.h"

#include <err.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/clock.h"
#include "common/mem.h"
#include "tests/instruments/reactor.h"
#include "tests/instruments/sink_fault.h"
#include "tests/instruments/spool.h"

#define CLIENTS_MAX  2048
#define COMMAND_MAX  4096u
#define MESSAGE_MAX  (256u * 1024 * 1024)
#define ENVELOPE_MAX (1024u * 1024)
#define OFFERS_MAX   8
#define REFUSALS_MAX 8
#define FLOOD_LINES  100000

enum state { GREETING, COMMAND, CONTENT, AT_DOT, AT_REPLY };

struct client {
	struct stream stream;	/* first: callbacks get this */
	uint64_t session;
	enum state state;
	bool has_mail;
	unsigned rcpts;
	bool delayed;		/* until stream.wake_ms; what was being taken is still in the input */
	bool delay_over;	/* the next stage is the delayed one, its fault has been committed */
	bool content_begun, content_bad, content_too_big, recorded;
	size_t scanned;		/* bytes of the input that hold no LF */
	struct buf envelope, content;
	uint64_t id;
};

struct refusal {
	const char *text, *reply;
};

static struct {
	bool pipelining, eightbit;
	const char *offer[OFFERS_MAX];	/* more lines of the answer to EHLO */
	unsigned offer_count;
	size_t size_limit;
	struct sink_fault fault[SINK_FAULTS_MAX];
	unsigned fault_count;
	struct refusal refusal[REFUSALS_MAX];
	unsigned refusal_count;
} options = { .pipelining = true, .eightbit = true, .size_limit = 64 * 1024 * 1024 };

static struct {
	uint64_t sessions, accepted, unanswered, refused, bytes, bare, early;
} totals;

static int spool = -1;
static unsigned clients;

static void say(struct client *c, const char *reply)
{
	buf_puts(&c->stream.out, reply);
	buf_puts(&c->stream.out, "\r\n");
}

static void complain(struct client *c, uint64_t *counter, const char *what)
{
	++*counter;
	fprintf(stderr, "sink: session %" PRIu64 ": %s\n", c->session, what);
}

/* Whether a fault takes the place of what is usual at this stage, or delays it. */
static bool faulted(struct client *c, enum sink_stage stage)
{
	const struct sink_fault *fault;
	unsigned i;

	if (c->delay_over) {
		c->delay_over = false;
		return false;
	}
	fault = sink_fault_due(options.fault, options.fault_count, stage);
	if (!fault)
		return false;
	switch (fault->action) {
	case SINK_CLOSE:
		c->stream.hang_up = true;
		break;
	case SINK_RESET:
		stream_reset(&c->stream);
		break;
	case SINK_SILENT:
		c->stream.frozen = true;
		break;
	case SINK_DELAY:
		c->delayed = true;
		c->delay_over = true;
		c->stream.wake_ms = clock_now_ms() + strtol(fault->value, NULL, 10) + 1;
		break;
	case SINK_SAY:
		say(c, fault->value);
		break;
	case SINK_GARBAGE:
		buf_append(&c->stream.out, "\0\377 no reply \r250\n2.0.0\r\n\r\n", 26);
		break;
	case SINK_FLOOD:
		for (i = 0; i < FLOOD_LINES; i++)
			say(c, "250-on and on");
		say(c, "250 end");
		break;
	case SINK_NOTHING:
		break;
	}
	return true;
}

static void end_transaction(struct client *c)
{
	c->state = COMMAND;
	c->has_mail = c->content_begun = c->content_bad = c->content_too_big = c->recorded = false;
	c->rcpts = 0;
	buf_clear(&c->envelope);
	buf_clear(&c->content);
}

static void take_ehlo(struct client *c, bool extended)
{
	end_transaction(c);
	if (faulted(c, SINK_EHLO))
		return;
	if (!extended) {
		say(c, "250 sink");
		return;
	}
	say(c, "250-sink");
	if (options.pipelining)
		say(c, "250-PIPELINING");
	if (options.eightbit)
		say(c, "250-8BITMIME");
	buf_printf(&c->stream.out, "250-SIZE %zu\r\n", options.size_limit);
	for (unsigned i = 0; i < options.offer_count; i++)
		buf_printf(&c->stream.out, "250-%s\r\n", options.offer[i]);
	say(c, "250 ENHANCEDSTATUSCODES");
}

static void take_mail(struct client *c, const char *path)
{
	const char *size = strcasestr(path, " SIZE=");

	if (c->has_mail) {
		say(c, "503 5.5.1 One sender is enough");
	} else if (*path != '<') {
		say(c, "501 5.5.4 No path in brackets");
	} else if (!faulted(c, SINK_MAIL)) {
		if (size && strtoull(size + 6, NULL, 10) > options.size_limit) {
			say(c, "552 5.3.4 Too big");
			return;
		}
		c->has_mail = true;
		buf_printf(&c->envelope, "FROM %s\n", path);
		say(c, "250 2.1.0 Ok");
	}
}

static void take_rcpt(struct client *c, const char *path)
{
	unsigned i;

	if (!c->has_mail) {
		say(c, "503 5.5.1 MAIL first");
		return;
	}
	if (*path != '<') {
		say(c, "501 5.5.4 No path in brackets");
		return;
	}
	if (faulted(c, SINK_RCPT))
		return;
	for (i = 0; i < options.refusal_count; i++) {
		if (strstr(path, options.refusal[i].text)) {
			say(c, options.refusal[i].reply);
			return;
		}
	}
	if (buf_len(&c->envelope) > ENVELOPE_MAX) {
		say(c, "452 4.5.3 Too many recipients");
		return;
	}
	c->rcpts++;
	buf_printf(&c->envelope, "TO %s\n", path);
	say(c, "250 2.1.5 Ok");
}

static void take_data(struct client *c)
{
	if (!c->has_mail || c->rcpts == 0) {
		say(c, "503 5.5.1 No recipient");
	} else if (!faulted(c, SINK_DATA)) {
		c->state = CONTENT;
		c->scanned = 0;
		say(c, "354 Go on");
	}
}

static bool is_command(const char *line, const char *verb)
{
	return strncasecmp(line, verb, strlen(verb)) == 0;
}

/* One command line without its CRLF; more bytes are in the input behind it. */
static void take_command(struct client *c, const char *line, bool followed)
{
	bool last_of_group = is_command(line, "DATA") || is_command(line, "EHLO") || is_command(line, "HELO");

	if (followed && !c->delay_over && (last_of_group || !options.pipelining))
		complain(c, &totals.early, "commands before the reply to the last one");
	if (is_command(line, "EHLO ") || is_command(line, "HELO ")) {
		take_ehlo(c, is_command(line, "EHLO"));
	} else if (is_command(line, "MAIL FROM:")) {
		take_mail(c, line + 10);
	} else if (is_command(line, "RCPT TO:")) {
		take_rcpt(c, line + 8);
	} else if (strcasecmp(line, "DATA") == 0) {
		take_data(c);
	} else if (strcasecmp(line, "RSET") == 0) {
		end_transaction(c);
		say(c, "250 2.0.0 Ok");
	} else if (strcasecmp(line, "NOOP") == 0) {
		say(c, "250 2.0.0 Ok");
	} else if (strcasecmp(line, "QUIT") == 0) {
		if (faulted(c, SINK_QUIT))
			return;
		say(c, "221 2.0.0 Bye");
		c->stream.hang_up = true;
	} else {
		complain(c, &totals.early, "an unknown command");
		say(c, "500 5.5.2 What?");
	}
}

/* One line of the input: its text without the line end, the bytes it takes with it, and whether it is not clean. */
struct line {
	const uint8_t *text;
	size_t len, size;
	bool bare;
};

static bool next_line(struct client *c, struct line *line)
{
	struct buf *in = &c->stream.in;
	const uint8_t *end = NULL;

	if (buf_len(in) > c->scanned)
		end = memchr(buf_head(in) + c->scanned, '\n', buf_len(in) - c->scanned);
	if (!end) {
		c->scanned = buf_len(in);
		return false;
	}
	line->text = buf_head(in);
	line->len = (size_t)(end - line->text);
	line->size = line->len + 1;
	line->bare = line->len == 0 || line->text[line->len - 1] != '\r';
	if (!line->bare)
		line->len--;
	line->bare |= memchr(line->text, '\r', line->len) || memchr(line->text, '\0', line->len);
	return true;
}

static void consume_line(struct client *c, const struct line *line)
{
	buf_consume(&c->stream.in, line->size);
	c->scanned = 0;
}

static bool step_command(struct client *c)
{
	char text[COMMAND_MAX + 1];
	struct line line;

	if (!next_line(c, &line)) {
		if (buf_len(&c->stream.in) > COMMAND_MAX)
			c->stream.hang_up = true;
		return false;
	}
	if (line.bare || line.len > COMMAND_MAX) {
		complain(c, &totals.bare, "a command with a bare CR, LF or NUL, or too long");
		say(c, "500 5.5.2 Bad line");
		c->stream.hang_up = true;
		return false;
	}
	memcpy(text, line.text, line.len);
	text[line.len] = '\0';
	take_command(c, text, buf_len(&c->stream.in) > line.size);
	if (c->delayed)
		return false;
	consume_line(c, &line);
	return true;
}

static bool step_content(struct client *c)
{
	struct line line;

	if (!c->content_begun && buf_len(&c->stream.in) > 0) {
		if (faulted(c, SINK_CONTENT) && (c->delayed || c->stream.hang_up || c->stream.frozen))
			return false;
		c->content_begun = true;
	}
	if (!next_line(c, &line))
		return false;
	if (line.len == 1 && *line.text == '.' && !line.bare) {
		consume_line(c, &line);
		c->state = AT_DOT;
		return true;
	}
	c->content_bad |= line.bare;
	if (buf_len(&c->content) + line.len > options.size_limit) {
		c->content_too_big = true;
	} else {
		if (line.len > 0 && *line.text == '.')
			buf_append(&c->content, line.text + 1, line.len - 1);
		else
			buf_append(&c->content, line.text, line.len);
		buf_append(&c->content, "\r\n", 2);
	}
	consume_line(c, &line);
	return true;
}

static bool step_dot(struct client *c)
{
	const char *refusal = NULL;

	if (faulted(c, SINK_DOT)) {
		if (!c->delayed) {
			totals.refused++;
			end_transaction(c);
		}
		return !c->delayed;
	}
	if (c->content_bad) {
		complain(c, &totals.bare, "content with a bare CR, LF or NUL");
		refusal = "550 5.6.0 Bare CR, LF or NUL";
	} else if (c->content_too_big) {
		refusal = "552 5.3.4 Too big";
	}
	if (refusal) {
		totals.refused++;
		say(c, refusal);
		end_transaction(c);
	} else {
		c->state = AT_REPLY;
	}
	return true;
}

static void record(struct client *c, const char *kind)
{
	if (c->recorded)
		return;
	c->recorded = true;
	c->id = totals.accepted + totals.unanswered;
	totals.bytes += buf_len(&c->content);
	spool_write(spool, c->id, kind, &c->envelope, &c->content);
}

static bool step_reply(struct client *c)
{
	bool fault = faulted(c, SINK_REPLY);

	if (fault && !c->delayed) {
		totals.unanswered++;
		record(c, "unanswered");
		end_transaction(c);
		return true;
	}
	if (!c->recorded) {
		totals.accepted++;
		record(c, "accepted");
	}
	if (c->delayed)
		return false;
	buf_printf(&c->stream.out, "250 2.0.0 Ok: queued as %" PRIu64 "\r\n", c->id);
	end_transaction(c);
	return true;
}

static bool step(struct client *c)
{
	switch (c->state) {
	case GREETING:
		if (!c->delay_over && buf_len(&c->stream.in) > 0)
			complain(c, &totals.early, "commands before the greeting");
		if (!faulted(c, SINK_BANNER))
			say(c, "220 sink ESMTP");
		if (!c->delayed)
			c->state = COMMAND;
		return true;
	case COMMAND:
		return step_command(c);
	case CONTENT:
		return step_content(c);
	case AT_DOT:
		return step_dot(c);
	case AT_REPLY:
		return step_reply(c);
	}
	return false;
}

static void on_event(struct stream *s)
{
	struct client *c = (struct client *)s;

	if (c->delayed && s->wake_ms == 0)
		c->delayed = false;
	while (!s->hang_up && !s->frozen && !c->delayed && step(c))
		;
	if (s->ended && !c->delayed)
		s->hang_up = true;
}

static void on_closed(struct stream *s)
{
	struct client *c = (struct client *)s;

	clients--;
	stream_fini(s);
	buf_fini(&c->envelope);
	buf_fini(&c->content);
	free(c);
}

static void on_accept(int fd)
{
	struct client *c = mem_alloc(sizeof(*c));

	clients++;
	c->session = ++totals.sessions;
	c->stream.on_event = on_event;
	c->stream.on_closed = on_closed;
	c->stream.in_limit = MESSAGE_MAX;
	c->stream.hang_up = clients > CLIENTS_MAX;
	stream_init(&c->stream, fd);
}

static void usage(void)
{
	fputs("usage: sink --listen ENDPOINT [--spool FILE] [--fault [N/]STAGE:ACTION[=VALUE]]...\n"
	      "            [--refuse-rcpt TEXT=REPLY]... [--size BYTES] [--no-pipelining] [--no-8bitmime] [--offer LINE]...\n", stderr);
	exit(64);
}

static void add_refusal(char *text)
{
	char *reply = strchr(text, '=');

	if (!reply || options.refusal_count == REFUSALS_MAX)
		usage();
	*reply++ = '\0';
	options.refusal[options.refusal_count++] = (struct refusal){ text, reply };
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{ "listen", required_argument, NULL, 'l' }, { "spool", required_argument, NULL, 's' },
		{ "fault", required_argument, NULL, 'f' }, { "refuse-rcpt", required_argument, NULL, 'r' },
		{ "size", required_argument, NULL, 'z' }, { "no-pipelining", no_argument, NULL, 'p' },
		{ "no-8bitmime", no_argument, NULL, '8' }, { "offer", required_argument, NULL, 'o' }, { NULL, 0, NULL, 0 },
	};
	bool listening = false;
	int option;

	reactor_init();
	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'l':
			reactor_listen(optarg, on_accept);
			listening = true;
			break;
		case 's':
			spool = spool_open(optarg);
			break;
		case 'f':
			if (options.fault_count == SINK_FAULTS_MAX)
				usage();
			sink_fault_parse(&options.fault[options.fault_count++], optarg);
			break;
		case 'r':
			add_refusal(optarg);
			break;
		case 'z':
			options.size_limit = strtoull(optarg, NULL, 10);
			break;
		case 'p':
			options.pipelining = false;
			break;
		case '8':
			options.eightbit = false;
			break;
		case 'o':
			if (options.offer_count == OFFERS_MAX)
				usage();
			options.offer[options.offer_count++] = optarg;
			break;
		default:
			usage();
		}
	}
	if (!listening || optind != argc || options.size_limit > MESSAGE_MAX)
		usage();
	reactor_run();
	printf("sessions=%" PRIu64 " accepted=%" PRIu64 " unanswered=%" PRIu64 " refused=%" PRIu64 " bytes=%" PRIu64
	       " bare=%" PRIu64 " early=%" PRIu64 "\n", totals.sessions, totals.accepted, totals.unanswered,
	       totals.refused, totals.bytes, totals.bare, totals.early);
	return totals.bare || totals.early ? 3 : 0;
}
