#include "config.h"

#include "tests/unit/script_client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/header.h"
#include "common/loop.h"
#include "common/resolve.h"
#include "session/dispatch.h"
#include "session/next_hop_known.h"
#include "session/smtp_verbs.h"

#define CONTENT_LIMIT (8u * 1024 * 1024)
#define FIELDS_MAX    2000u
#define HEADER_MAX    (256u * 1024)
#define READ_SIZE     65536u
#define TURN_MS	      1

struct script_answers script_answers;
struct script_worker script_workers[2];
const struct conf *script_conf;

static struct conf *conf;
static struct timer turn_over;
static struct script_client *clients[8];	/* whose sessions have not ended */

static void on_turn_over(struct timer *t)
{
	(void)t;
	loop_stop();
}

void script_session_begin(const char *options, unsigned workers)
{
	struct buf text = { 0 }, problems = { 0 };

	buf_printf(&text, "[milterd]\nhostname = mx.test\n[listener smtp]\nbind = unix:/nowhere\n%smilters = %s\n", options,
		   workers ? "m" : "none");
	buf_puts(&text, "[milter m]\nsocket = unix:/nowhere/m\n");
	conf = conf_parse("test", (const char *)buf_head(&text), buf_len(&text), &problems);
	buf_append(&problems, "", 1);
	cr_assert(conf, "%s", (const char *)buf_head(&problems));
	buf_fini(&text);
	buf_fini(&problems);
	script_conf = conf;
	script_answers = (struct script_answers){ 0 };
	loop_init();
	resolve_init();
	timer_init(&turn_over, on_turn_over, NULL);
	dispatch_init(conf, CONTENT_LIMIT, 2 * CONTENT_LIMIT);
	for (unsigned i = 0; i < workers; i++)
		dispatch_worker(i, script_worker_start(&script_workers[i]));
}

void script_session_end(void)
{
	script_turn();
	for (unsigned i = 0; i < 2; i++)
		script_worker_fini(&script_workers[i]);
	dispatch_fini();
	timer_fini(&turn_over);
	resolve_fini();
	loop_fini();
	next_hop_known_fini();
	conf_free(conf);
}

static size_t header_length(struct script_worker *w)
{
	const uint8_t *data = msgbuf_views_map(w->views, w->content.buffer, (size_t)w->content.length);
	struct header_block block;
	const char *why;

	cr_assert(data, "the content was not lent");
	cr_assert_eq(header_parse(&w->arena, data, (size_t)w->content.length, FIELDS_MAX, HEADER_MAX, &block, &why), 0);
	return block.length;
}

static void answer(struct script_worker *w)
{
	enum ipc_event_kind kind = w->wanted_kind;
	enum verdict verdict = script_answers.verdict[kind];

	if (!w->chan || !w->wanted || script_answers.silent & IPC_INTEREST(kind))
		return;
	if (kind == IPC_EOM && verdict == VERDICT_CONTINUE && script_answers.result)
		script_worker_result(w, script_answers.result);
	else if (kind == IPC_EOM && verdict == VERDICT_CONTINUE)
		script_worker_pass(w, header_length(w));
	else
		script_worker_say(w, verdict, script_answers.reply[kind]);
	if (kind == IPC_EOM)
		script_worker_release(w);
	w->wanted = 0;
}

static void read_all(struct script_client *c)
{
	ssize_t n = 1;

	while (n > 0 && !c->closed) {
		n = recv(c->fd, buf_reserve(&c->in, READ_SIZE), READ_SIZE, MSG_DONTWAIT);
		if (n > 0)
			buf_commit(&c->in, (size_t)n);
		else if (n == 0 || errno != EAGAIN)
			c->closed = true;
	}
}

void script_turn(void)
{
	timer_set(&turn_over, TURN_MS);
	loop_run();
	for (unsigned i = 0; i < 2; i++)
		answer(&script_workers[i]);
}

static void on_end(struct smtp_session *s)
{
	for (size_t i = 0; i < sizeof(clients) / sizeof(*clients); i++) {
		if (clients[i] && clients[i]->session == s) {
			clients[i]->session = NULL;
			clients[i] = NULL;
		}
	}
}

void script_client_open(struct script_client *c)
{
	static uint64_t last_id;
	int pair[2];
	size_t i = 0;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	*c = (struct script_client){ .fd = pair[0] };
	c->session = smtp_session_new(conf, 0, ++last_id, "mx.test", pair[1]);
	c->session->on_end = on_end;
	while (clients[i])
		i++;
	clients[i] = c;
	smtp_verbs_begin(c->session, conf);
}

void script_client_close(struct script_client *c)
{
	fd_close(&c->fd);
	SCRIPT_WAIT_FOR(!c->session);
	buf_fini(&c->in);
}

void script_client_send_bytes(struct script_client *c, const void *data, size_t len)
{
	for (const uint8_t *at = data; len;) {
		ssize_t n = send(c->fd, at, len, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return;
		if (n < 0) {
			script_turn();
			continue;
		}
		at += n;
		len -= (size_t)n;
	}
}

void script_client_send(struct script_client *c, const char *text)
{
	script_client_send_bytes(c, text, strlen(text));
}

/* Bytes of what has come that are the expected ones; 0: more are needed; -1: they differ. */
static ssize_t match(const struct buf *in, const char *expected)
{
	const uint8_t *start = buf_head(in), *at = start, *end = start + buf_len(in);

	for (; *expected; expected++) {
		if (*expected == '*') {
			at = memchr(at, '\r', (size_t)(end - at));
			if (!at)
				return 0;
			continue;
		}
		if (at == end)
			return 0;
		if (*at++ != (uint8_t)*expected)
			return -1;
	}
	return at - start;
}

void script_client_expect(struct script_client *c, const char *expected)
{
	int64_t end_ms = clock_now_ms() + 5000;
	ssize_t n = 0;

	for (;;) {
		read_all(c);
		n = buf_len(&c->in) ? match(&c->in, expected) : 0;
		if (n || c->closed || clock_now_ms() > end_ms)
			break;
		script_turn();
	}
	cr_assert(n > 0, "expected \"%s\", got \"%.*s\"%s", expected, (int)buf_len(&c->in),
		  buf_len(&c->in) ? (const char *)buf_head(&c->in) : "", c->closed ? " and the end" : "");
	buf_consume(&c->in, (size_t)n);
}

void script_client_say(struct script_client *c, const char *text, const char *expected)
{
	script_client_send(c, text);
	script_client_expect(c, expected);
}

void script_client_expect_end(struct script_client *c)
{
	int64_t end_ms = clock_now_ms() + 5000;

	while (!c->closed && clock_now_ms() < end_ms) {
		script_turn();
		read_all(c);
	}
	cr_assert(c->closed, "the connection is still there");
	cr_assert_eq(buf_len(&c->in), 0, "there is more: %.*s", (int)buf_len(&c->in), (const char *)buf_head(&c->in));
}

void script_client_greet(struct script_client *c)
{
	script_client_open(c);
	script_client_expect(c, "220 mx.test ESMTP\r\n");
	script_client_say(c, "EHLO client.test\r\n", "250-mx.test\r\n250-PIPELINING\r\n250-SIZE *\r\n250-8BITMIME\r\n");
	if (conf->listener[0].next_hop.item[0].scheme == CONF_SCHEME_DISCARD)
		script_client_expect(c, "250-DSN\r\n250-SMTPUTF8\r\n");
	script_client_expect(c, "250 ENHANCEDSTATUSCODES\r\n");
}
