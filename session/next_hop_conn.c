#include "config.h"

#include "session/next_hop_conn.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/dial.h"
#include "common/fd.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/smtp_reply.h"

#define READ_SIZE   4096u
#define OUT_OF_TURN "it speaks out of turn"

enum state { CONNECTING, GREETING, EHLO, HELO, READY, LOST };

struct next_hop_conn {
	const struct next_hop_conn_ops *ops;
	void *ctx;
	const char *helo_name;
	enum state state;
	int fd;
	bool want_write;
	bool unasked;		/* more came than was owed: nothing is sent any more that it could seem to answer */
	bool calling;		/* inside an event: freed at its end */
	bool freed;
	unsigned owed;
	int64_t reply_ms;	/* from one owed reply to the next */
	struct smtp_offers offers;
	struct dial *dial;
	struct io io;
	struct timer limit;	/* until READY: of all that; then: of the next owed reply */
	struct buf in, out;
	struct arena arena;	/* the reply that is being handed out */
};

static void destroy(struct next_hop_conn *c)
{
	buf_fini(&c->in);
	buf_fini(&c->out);
	arena_fini(&c->arena);
	free(c);
}

static void close_all(struct next_hop_conn *c)
{
	dial_cancel(c->dial);
	c->dial = NULL;
	io_fini(&c->io);
	timer_fini(&c->limit);
	fd_close(&c->fd);
	c->state = LOST;
}

void next_hop_conn_free(struct next_hop_conn *c)
{
	if (!c)
		return;
	close_all(c);
	c->freed = true;
	if (!c->calling)
		destroy(c);
}

/* Every event of the loop lies between these two, so that a callback may free the connection. */
static void begin_event(struct next_hop_conn *c)
{
	assert(!c->calling);
	c->calling = true;
}

static void end_event(struct next_hop_conn *c)
{
	c->calling = false;
	if (c->freed)
		destroy(c);
}

static void lose(struct next_hop_conn *c, const char *why)
{
	if (c->state == LOST)
		return;
	close_all(c);
	c->ops->on_lost(c->ctx, why);
}

/* The handshake was answered with something that ends it. */
static void lose_with_reply(struct next_hop_conn *c, const char *step, const char *reply)
{
	struct buf why = { 0 };

	buf_printf(&why, "%s: ", step);
	smtp_reply_print(&why, reply);
	buf_append(&why, "", 1);
	lose(c, (const char *)buf_head(&why));
	buf_fini(&why);
}

static void set_events(struct next_hop_conn *c)
{
	if (c->state != LOST)
		io_want(&c->io, IO_READ | (buf_len(&c->out) || c->want_write ? IO_WRITE : 0));
}

/* Errors of writing are left to reading, which may find a last reply first. */
static void flush(struct next_hop_conn *c)
{
	while (buf_len(&c->out)) {
		ssize_t n = send(c->fd, buf_head(&c->out), buf_len(&c->out), MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			buf_clear(&c->out);
		if (n < 0)
			break;
		buf_consume(&c->out, (size_t)n);
	}
	set_events(c);
}

static void send_helo(struct next_hop_conn *c, enum state state)
{
	c->state = state;
	c->owed = 1;
	buf_printf(&c->out, "%s %s\r\n", state == EHLO ? "EHLO" : "HELO", c->helo_name);
	flush(c);
}

static void become_ready(struct next_hop_conn *c)
{
	c->state = READY;
	timer_clear(&c->limit);
	c->ops->on_ready(c->ctx);
}

/* More in the buffer than the reply in hand, which was the last one owed. */
static bool speaks_unasked(const struct next_hop_conn *c)
{
	return !c->owed && buf_len(&c->in);
}

/* Greeting, EHLO, and HELO for those who do not know EHLO: RFC 5321 3.2. */
static void take_handshake(struct next_hop_conn *c, int code, const char *reply)
{
	if (speaks_unasked(c)) {
		lose(c, OUT_OF_TURN);
	} else if (c->state == GREETING && code == 220) {
		send_helo(c, EHLO);
	} else if (c->state == GREETING) {
		lose_with_reply(c, "greeting", reply);
	} else if (code == 250) {
		if (c->state == EHLO)
			smtp_offers_read(&c->offers, reply);
		become_ready(c);
	} else if (c->state == EHLO && code >= 500) {
		send_helo(c, HELO);
	} else {
		lose_with_reply(c, c->state == EHLO ? "EHLO" : "HELO", reply);
	}
}

static void take_reply(struct next_hop_conn *c, int code, const char *reply)
{
	bool owed = c->owed > 0;

	if (owed)
		c->owed--;
	c->unasked = speaks_unasked(c);
	if (c->state != READY) {
		take_handshake(c, code, reply);
		return;
	}
	if (owed && c->owed)
		timer_set(&c->limit, c->reply_ms);
	else
		timer_clear(&c->limit);
	c->ops->on_reply(c->ctx, code, reply, owed);
}

static void take_replies(struct next_hop_conn *c)
{
	const char *reply, *why;
	int code, result;

	while (c->state != LOST && buf_len(&c->in)) {
		result = smtp_reply_read(&c->in, &c->arena, &code, &reply, &why);
		if (result == 0)
			break;
		if (result < 0)
			lose(c, why);
		else
			take_reply(c, code, reply);
		arena_reset(&c->arena);
	}
	if (c->unasked)
		lose(c, OUT_OF_TURN);
}

static void receive(struct next_hop_conn *c)
{
	ssize_t n = recv(c->fd, buf_reserve(&c->in, READ_SIZE), READ_SIZE, 0);

	if (n > 0) {
		buf_commit(&c->in, (size_t)n);
		take_replies(c);
	} else if (n == 0) {
		lose(c, "it closed the connection");
	} else if (errno != EAGAIN && errno != EINTR) {
		lose(c, strerror(errno));
	}
}

static void on_io(struct io *io, int events)
{
	struct next_hop_conn *c = io->ctx;

	begin_event(c);
	if (events & IO_READ)
		receive(c);
	if ((events & IO_WRITE) && c->state != LOST) {
		flush(c);
		if (c->want_write && !buf_len(&c->out))
			c->ops->on_writable(c->ctx);
	}
	end_event(c);
}

static void on_limit(struct timer *t)
{
	struct next_hop_conn *c = t->ctx;

	begin_event(c);
	lose(c, c->state == CONNECTING ? "no connection in time" : "no answer in time");
	end_event(c);
}

static void on_dialled(void *ctx, int fd, const char *why)
{
	struct next_hop_conn *c = ctx;

	begin_event(c);
	c->dial = NULL;
	if (fd < 0) {
		lose(c, why);
	} else {
		c->fd = fd;
		c->state = GREETING;
		c->owed = 1;
		io_init(&c->io, fd, on_io, c);
		set_events(c);
	}
	end_event(c);
}

struct next_hop_conn *next_hop_conn_open(const struct addr *addr, const char *helo_name, int64_t timeout_ms,
	const struct next_hop_conn_ops *ops, void *ctx)
{
	struct next_hop_conn *c = mem_alloc(sizeof(*c));

	c->ops = ops;
	c->ctx = ctx;
	c->helo_name = helo_name;
	c->fd = -1;
	timer_init(&c->limit, on_limit, c);
	timer_set(&c->limit, timeout_ms);
	c->dial = dial_start(addr, timeout_ms, on_dialled, c);
	return c;
}

bool next_hop_conn_is_ready(const struct next_hop_conn *c)
{
	return c->state == READY;
}

const struct smtp_offers *next_hop_conn_offers(const struct next_hop_conn *c)
{
	return &c->offers;
}

void next_hop_conn_send(struct next_hop_conn *c, const void *commands, size_t len, unsigned owed, int64_t timeout_ms)
{
	assert(c->state == READY);
	if (c->unasked)
		return;
	buf_append(&c->out, commands, len);
	c->owed += owed;
	c->reply_ms = timeout_ms;
	timer_set(&c->limit, timeout_ms);
	flush(c);
}

ssize_t next_hop_conn_write(struct next_hop_conn *c, const struct iovec *vectors, size_t count)
{
	struct msghdr message = { .msg_iov = (struct iovec *)vectors, .msg_iovlen = count };
	ssize_t n;

	assert(c->state == READY && !buf_len(&c->out));
	do
		n = sendmsg(c->fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 && errno == EAGAIN ? 0 : n;
}

void next_hop_conn_expect(struct next_hop_conn *c, int64_t timeout_ms)
{
	c->owed++;
	c->reply_ms = timeout_ms;
	timer_set(&c->limit, timeout_ms);
}

void next_hop_conn_want_write(struct next_hop_conn *c, bool want)
{
	c->want_write = want;
	set_events(c);
}

bool next_hop_conn_is_quiet(const struct next_hop_conn *c)
{
	char byte;

	return !buf_len(&c->in) && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}
