/* edit_milter.c - a fast milter (protocol version 6) that adds one header field to every message
 *
 * Answers every command unless --no-replies makes it negotiate that only the end of message is answered. Counts the
 * sessions, messages and protocol errors of the MTA side; totals at SIGTERM, exit status 3 when there were errors.
 */
#include "config.h"

#include <arpa/inet.h>
#include <err.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "tests/instruments/reactor.h"

#define PACKET_MAX   (64u * 1024)	/* what libmilter reads at most */
#define ADD_HEADERS  0x001u
#define NO_REPLIES   0x000ff080u	/* every SMFIP_NR_* */
#define FIELD_VALUE  "seen"

struct connection {
	struct stream stream;	/* first: callbacks get this */
	uint8_t last;		/* command that decides what may follow */
	bool delayed;		/* the end of message at the head of the input waits until stream.wake_ms */
};

static struct {
	const char *field;	/* NULL: nothing is added */
	uint32_t protocol;
	long delay_ms;		/* before the answer to the end of message */
} options;

static struct {
	uint64_t connections, sessions, messages, errors;
} totals;

static void put_u32(struct buf *b, uint32_t value)
{
	value = htonl(value);
	buf_append(b, &value, 4);
}

static void put_packet(struct buf *b, uint8_t command, const void *data, size_t len)
{
	put_u32(b, (uint32_t)len + 1);
	buf_append(b, &command, 1);
	buf_append(b, data, len);
}

static void answer_negotiation(struct buf *out)
{
	put_u32(out, 13);
	buf_append(out, "O", 1);
	put_u32(out, 6);
	put_u32(out, options.field ? ADD_HEADERS : 0);
	put_u32(out, options.protocol);
}

static void answer_end_of_message(struct buf *out)
{
	char data[256];
	size_t len;

	totals.messages++;
	if (options.field) {
		len = (size_t)snprintf(data, sizeof(data), "%s%c%s", options.field, '\0', FIELD_VALUE);
		put_packet(out, 'h', data, len + 1);
	}
	put_packet(out, 'c', NULL, 0);
}

/* The commands that this one may come after, as libmilter's table has it; "": any. */
static const char *legal_before(uint8_t command)
{
	switch (command) {
	case 'C': return "OK";
	case 'H': return "CHEA";
	case 'M': return "CHEARM";	/* a new MAIL ends a message that has not got far */
	case 'R': return "MR";
	case 'T': return "R";
	case 'L': return "RTL";
	case 'N': return "RTL";
	case 'B': return "NB";
	case 'E': return "NB";
	default: return "";
	}
}

static void take_packet(struct connection *c, uint8_t command, size_t len)
{
	struct buf *out = &c->stream.out;
	const char *before = legal_before(command);

	if (command == 'D')
		return;
	if (*before && (c->last == 0 || !strchr(before, c->last))) {
		fprintf(stderr, "edit_milter: %c after %c\n", command, c->last ? c->last : '-');
		totals.errors++;
		c->stream.hang_up = true;
		return;
	}
	if (command != 'U')
		c->last = command;
	switch (command) {
	case 'O':
		totals.errors += len != 12;
		answer_negotiation(out);
		break;
	case 'C':
		totals.sessions++;
		if (!options.protocol)
			put_packet(out, 'c', NULL, 0);
		break;
	case 'H': case 'M': case 'R': case 'T': case 'L': case 'N': case 'B': case 'U':
		if (!options.protocol)
			put_packet(out, 'c', NULL, 0);
		break;
	case 'E':
		answer_end_of_message(out);
		break;
	case 'A': case 'K':
		break;
	case 'Q':
		c->stream.hang_up = true;
		break;
	default:
		fprintf(stderr, "edit_milter: unknown command %u\n", command);
		totals.errors++;
		c->stream.hang_up = true;
	}
}

static void on_event(struct stream *s)
{
	struct connection *c = (struct connection *)s;
	struct buf *in = &s->in;
	uint32_t size;

	while (!s->hang_up && s->wake_ms == 0 && buf_len(in) >= 5) {
		memcpy(&size, buf_head(in), 4);
		size = ntohl(size);
		if (size == 0 || size > PACKET_MAX) {
			fprintf(stderr, "edit_milter: a packet of %" PRIu32 " bytes\n", size);
			totals.errors++;
			s->hang_up = true;
			return;
		}
		if (buf_len(in) < 4 + size)
			break;
		if (options.delay_ms && buf_head(in)[4] == 'E' && !c->delayed) {
			c->delayed = true;
			s->wake_ms = clock_now_ms() + options.delay_ms;
			return;
		}
		c->delayed = false;
		take_packet(c, buf_head(in)[4], size - 1);
		buf_consume(in, 4 + size);
	}
	if (s->ended)
		s->hang_up = true;
}

static void on_closed(struct stream *s)
{
	stream_fini(s);
	free(s);
}

static void on_accept(int fd)
{
	struct connection *c = mem_alloc(sizeof(*c));

	totals.connections++;
	c->stream.on_event = on_event;
	c->stream.on_closed = on_closed;
	stream_init(&c->stream, fd);
}

static void usage(void)
{
	fputs("usage: edit_milter --listen ENDPOINT [--add-field NAME] [--no-replies] [--delay-ms MS]\n", stderr);
	exit(64);
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{ "listen", 1, NULL, 'l' }, { "add-field", 1, NULL, 'f' }, { "no-replies", 0, NULL, 'n' },
		{ "delay-ms", 1, NULL, 'd' }, { NULL, 0, NULL, 0 },
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
		case 'f':
			options.field = optarg;
			break;
		case 'n':
			options.protocol = NO_REPLIES;
			break;
		case 'd':
			options.delay_ms = strtol(optarg, NULL, 10);
			break;
		default:
			usage();
		}
	}
	if (!listening || optind != argc || (options.field && strlen(options.field) > 100))
		usage();
	reactor_run();
	printf("connections=%" PRIu64 " sessions=%" PRIu64 " messages=%" PRIu64 " errors=%" PRIu64 "\n", totals.connections,
		totals.sessions, totals.messages, totals.errors);
	return totals.errors ? 3 : 0;
}
