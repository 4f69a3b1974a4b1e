/* replayer.c - sends the bytes of an ideal milter client: the limit that a real one is measured against
 *
 * Everything is encoded before the clock starts. A connection is negotiated once and says CONNECT and HELO; a message is
 * one write of all its commands, and is done when the filter has answered each of them that owes a reply.
 */
#include "config.h"

#include <arpa/inet.h>
#include <err.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/clock.h"
#include "common/mem.h"
#include "tests/instruments/load_message.h"
#include "tests/instruments/reactor.h"

#define CONNECTIONS_MAX 256
#define BODY_CHUNK	65535u
#define REPLY_MAX	65536u

/* The protocol bits of mfdef.h: do not send this command, do not wait for its answer. */
static const struct {
	uint8_t command;
	uint32_t unwanted, no_reply;
} steps[] = {
	{ 'C', 0x01, 0x1000 }, { 'H', 0x02, 0x2000 }, { 'M', 0x04, 0x4000 }, { 'R', 0x08, 0x8000 }, { 'T', 0x200, 0x10000 },
	{ 'L', 0x20, 0x80 }, { 'N', 0x40, 0x40000 }, { 'B', 0x10, 0x80000 }, { 'E', 0, 0 },
};

/* Commands ready to be written, and how many replies they owe. */
struct script {
	struct buf bytes;
	unsigned replies;
};

struct connection {
	struct stream stream;	/* first: callbacks get this */
	bool negotiated;
	unsigned owed;		/* replies */
	unsigned served;	/* messages of this connection */
	bool in_message;
};

static struct {
	const char *to;
	unsigned long messages;
	unsigned connections, per_session;
	struct load_plan plan;
} options = { .messages = 10000, .connections = 16, .plan = { .size_min = 4096, .size_max = 4096, .rcpts_max = 1 } };

static uint32_t protocol;	/* as the filter has negotiated */
static bool scripts_made;
static struct script greeting, message;
static unsigned long begun, done;

static void put_head(struct buf *b, uint8_t command, size_t len)
{
	uint32_t size = htonl((uint32_t)len + 1);

	buf_append(b, &size, 4);
	buf_append(b, &command, 1);
}

/* Append a command unless the filter does not want it. */
static void add(struct script *script, uint8_t command, const void *data, size_t len)
{
	size_t i;

	for (i = 0; steps[i].command != command; i++)
		;
	if (protocol & steps[i].unwanted)
		return;
	put_head(&script->bytes, command, len);
	buf_append(&script->bytes, data, len);
	script->replies += !(protocol & steps[i].no_reply);
}

/* Macros for a command: names and values, each with its NUL. */
static void add_macros(struct script *script, const char *data, size_t len)
{
	put_head(&script->bytes, 'D', len);
	buf_append(&script->bytes, data, len);
}

#define ADD(script, command, literal)	add(script, command, literal, sizeof(literal))
#define ADD_MACROS(script, literal)	add_macros(script, literal, sizeof(literal))

static void add_headers(struct script *script, const char **at)
{
	while (strncmp(*at, "\r\n", 2) != 0) {
		struct buf field = { 0 };
		const char *colon = strchr(*at, ':'), *c;

		buf_append(&field, *at, (size_t)(colon - *at));
		buf_append(&field, "", 1);
		for (c = colon + 2; c[0] != '\r' || c[2] == ' ' || c[2] == '\t'; c++)
			if (*c != '\r')
				buf_append(&field, c, 1);
		buf_append(&field, "", 1);
		add(script, 'L', buf_head(&field), buf_len(&field));
		buf_fini(&field);
		*at = c + 2;
	}
	*at += 2;
}

static void make_scripts(void)
{
	struct buf content = { 0 };
	const char *at, *end;

	ADD_MACROS(&greeting, "Cj\0mx.load.example\0{daemon_name}\0bench\0{client_addr}\000192.0.2.1");
	ADD(&greeting, 'C', "client.load.example\0004\0\031192.0.2.1");
	ADD(&greeting, 'H', "client.load.example");
	ADD_MACROS(&message, "Mi\0004Zx0qV1c2pz\0{mail_addr}\0sender@load.example");
	ADD(&message, 'M', "<sender@load.example>\0SIZE=4096");
	ADD_MACROS(&message, "R{rcpt_addr}\0rcpt@load.example");
	ADD(&message, 'R', "<rcpt@load.example>");
	add(&message, 'T', NULL, 0);
	load_message_content(&options.plan, 1, &content);
	buf_append(&content, "", 1);
	at = (const char *)buf_head(&content);
	end = at + buf_len(&content) - 1;
	add_headers(&message, &at);
	add(&message, 'N', NULL, 0);
	for (; at < end; at += BODY_CHUNK)
		add(&message, 'B', at, (size_t)(end - at) < BODY_CHUNK ? (size_t)(end - at) : BODY_CHUNK);
	ADD_MACROS(&message, "Ei\0004Zx0qV1c2pz");
	add(&message, 'E', NULL, 0);
	buf_fini(&content);
	scripts_made = true;
}

static void write_script(struct connection *c, const struct script *script)
{
	buf_append(&c->stream.out, buf_head(&script->bytes), buf_len(&script->bytes));
	c->owed += script->replies;
}

static void begin_message(struct connection *c)
{
	if (begun == options.messages || (options.per_session && c->served == options.per_session)) {
		put_head(&c->stream.out, 'Q', 0);
		c->stream.hang_up = true;
		return;
	}
	begun++;
	c->served++;
	c->in_message = true;
	write_script(c, &message);
}

static void take_reply(struct connection *c, uint8_t reply, const uint8_t *data, size_t len)
{
	if (!c->negotiated) {
		if (reply != 'O' || len < 12)
			errx(1, "this is no milter");
		memcpy(&protocol, data + 8, 4);
		protocol = ntohl(protocol);
		if (!scripts_made)
			make_scripts();
		c->negotiated = true;
		write_script(c, &greeting);
	} else if (c->owed == 0 || reply != 'c') {
		errx(1, "reply %c where %u times continue is due", reply, c->owed);
	} else {
		c->owed--;
	}
	if (c->owed > 0)
		return;
	if (c->in_message && ++done == options.messages)
		reactor_stop();
	begin_message(c);
}

static void on_event(struct stream *s)
{
	struct connection *c = (struct connection *)s;
	uint32_t size;

	while (!s->hang_up && buf_len(&s->in) >= 5) {
		memcpy(&size, buf_head(&s->in), 4);
		size = ntohl(size);
		if (size == 0 || size > REPLY_MAX)
			errx(1, "a reply of %u bytes", size);
		if (buf_len(&s->in) < 4 + size)
			break;
		take_reply(c, buf_head(&s->in)[4], buf_head(&s->in) + 5, size - 1);
		buf_consume(&s->in, 4 + size);
	}
	if (s->ended && !s->hang_up)
		errx(1, "the filter has closed the connection");
}

static void open_connection(struct connection *c)
{
	static const uint8_t offer[12] = { 0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff };

	c->negotiated = c->in_message = false;
	c->owed = c->served = 0;
	if (stream_connect(&c->stream, options.to) < 0)
		err(1, "%s", options.to);
	put_head(&c->stream.out, 'O', sizeof(offer));
	buf_append(&c->stream.out, offer, sizeof(offer));
}

static void on_closed(struct stream *s)
{
	if (begun < options.messages)
		open_connection((struct connection *)s);
}

static void usage(void)
{
	fputs("usage: replayer --to ENDPOINT [--messages N] [--connections N] [--per-session N] [--size BYTES]\n", stderr);
	exit(64);
}

static double cpu_us(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
		(double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{ "to", 1, NULL, 't' }, { "messages", 1, NULL, 'n' }, { "connections", 1, NULL, 'c' },
		{ "per-session", 1, NULL, 'm' }, { "size", 1, NULL, 'z' }, { NULL, 0, NULL, 0 },
	};
	struct connection *connections;
	double seconds, cpu;
	int64_t start;
	unsigned i;
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 't': options.to = optarg; break;
		case 'n': options.messages = strtoul(optarg, NULL, 10); break;
		case 'c': options.connections = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'm': options.per_session = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'z': options.plan.size_min = options.plan.size_max = strtoull(optarg, NULL, 10); break;
		default: usage();
		}
	}
	if (!options.to || optind != argc || options.messages == 0 || options.connections == 0 ||
	    options.connections > CONNECTIONS_MAX)
		usage();
	reactor_init();
	connections = mem_array(options.connections, sizeof(*connections));
	cpu = cpu_us();
	start = clock_now_us();
	for (i = 0; i < options.connections; i++) {
		connections[i].stream.on_event = on_event;
		connections[i].stream.on_closed = on_closed;
		stream_init(&connections[i].stream, -1);
		open_connection(&connections[i]);
	}
	reactor_run();
	seconds = (double)(clock_now_us() - start) / 1e6;
	cpu = cpu_us() - cpu;
	for (i = 0; i < options.connections; i++)
		stream_fini(&connections[i].stream);
	free(connections);
	buf_fini(&greeting.bytes);
	buf_fini(&message.bytes);
	printf("messages=%lu seconds=%.3f rate=%.1f cpu-us=%.1f\n", done, seconds, (double)done / seconds,
		cpu / (double)done);
	return done == options.messages ? 0 : 1;
}
