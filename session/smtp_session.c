#include "config.h"

#include "session/smtp_session.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/smtp_reply.h"

#define READ_SIZE    (16u * 1024)
#define INPUT_MAX    (64u * 1024)	/* bytes of commands that wait; above it we stop reading */
#define OUTPUT_MAX   (64u * 1024)	/* bytes of replies that wait; the same */
#define LINGER_MS    2000
#define LINGER_BYTES (256u * 1024)

static void on_io(struct io *, int events);
static void on_timer(struct timer *);
static void on_gone(struct deferred *);

static void name_ends(struct smtp_session *s, int fd)
{
	struct addr_socket addr = { .len = sizeof(addr.storage) };

	if (getpeername(fd, (struct sockaddr *)&addr.storage, &addr.len) == 0)
		addr_socket_text(&addr, s->client_address, &s->client_port);
	addr = (struct addr_socket){ .len = sizeof(addr.storage) };
	if (getsockname(fd, (struct sockaddr *)&addr.storage, &addr.len) == 0)
		addr_socket_text(&addr, s->local_address, &s->local_port);
}

struct smtp_session *smtp_session_new(const struct conf *conf, unsigned listener, uint64_t id, const char *hostname, int fd)
{
	struct smtp_session *s = mem_alloc(sizeof(*s));
	int on = 1;

	s->id = id;
	s->listener_number = listener;
	s->listener = &conf->listener[listener];
	s->hostname = hostname;
	name_ends(s, fd);
	/* Fails on a UNIX socket, where it is not needed. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	io_init(&s->io, fd, on_io, s);
	timer_init(&s->timer, on_timer, s);
	deferred_init(&s->gone, on_gone, s);
	return s;
}

void smtp_tx_reset(struct smtp_session *s, bool abort)
{
	if (abort)
		dispatch_abort(s->dispatch);
	if (s->next_hop)
		next_hop_reset(s->next_hop);
	dispatch_release_body(s->dispatch);
	msgbuf_put(dispatch_content(), s->tx.content);
	s->tx = (struct smtp_tx){ 0 };
	arena_reset(&s->tx_arena);
	if (s->state == SMTP_STATE_MAIL || s->state == SMTP_STATE_RCPT || s->state == SMTP_STATE_CONTENT ||
	    s->state == SMTP_STATE_DELIVERY)
		s->state = SMTP_STATE_READY;
}

static void on_gone(struct deferred *d)
{
	struct smtp_session *s = d->ctx;

	client_name_cancel(s->name_query);
	next_hop_free(s->next_hop);
	s->next_hop = NULL;
	if (s->dispatch) {
		smtp_tx_reset(s, true);
		dispatch_close(s->dispatch);
	}
	if (s->on_end)
		s->on_end(s);
	timer_fini(&s->timer);
	buf_fini(&s->in);
	buf_fini(&s->out);
	arena_fini(&s->tx_arena);
	free(s->helo);
	free(s->client_ptr);
	free(s);
}

void smtp_session_end(struct smtp_session *s)
{
	int fd = s->io.fd;

	if (s->ended)
		return;
	s->ended = true;
	io_fini(&s->io);
	fd_close(&fd);
	timer_clear(&s->timer);
	deferred_run(&s->gone);
}

/* ---- output ---- */

bool smtp_session_is_full(const struct smtp_session *s)
{
	return buf_len(&s->out) > OUTPUT_MAX;
}

static void watch(struct smtp_session *s)
{
	int events = 0;

	if (s->ended)
		return;
	if (!s->eof && buf_len(&s->in) < INPUT_MAX && !smtp_session_is_full(s))
		events |= IO_READ;
	if (buf_len(&s->out))
		events |= IO_WRITE;
	io_want(&s->io, events);
}

/* So that the last reply is not lost to a reset for input we have not read. */
static void linger(struct smtp_session *s)
{
	if (s->eof) {
		smtp_session_end(s);
		return;
	}
	shutdown(s->io.fd, SHUT_WR);
	timer_set(&s->timer, LINGER_MS);
}

void smtp_session_flush(struct smtp_session *s)
{
	bool was_full = buf_len(&s->out);

	while (!s->ended && buf_len(&s->out)) {
		ssize_t n = send(s->io.fd, buf_head(&s->out), buf_len(&s->out), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			/* While a message is under way its end is still of interest: for the log. */
			buf_clear(&s->out);
			if (s->state == SMTP_STATE_DELIVERY && s->busy)
				s->eof = true;
			else
				smtp_session_end(s);
			break;
		}
		buf_consume(&s->out, (size_t)n);
	}
	if (s->ended)
		return;
	buf_shrink(&s->out, 0);
	if (s->closing && was_full && !buf_len(&s->out))
		linger(s);
	watch(s);
}

void smtp_session_reply(struct smtp_session *s, const char *reply)
{
	buf_puts(&s->out, reply);
}

void smtp_session_say(struct smtp_session *s, int code, const char *enhanced, const char *text)
{
	static struct arena scratch;

	smtp_session_reply(s, smtp_reply_make(&scratch, code, enhanced, text));
	arena_reset(&scratch);
}

void smtp_session_close(struct smtp_session *s)
{
	if (s->closing || s->ended)
		return;
	s->closing = true;
	s->busy = false;
	buf_clear(&s->in);
	timer_set(&s->timer, s->listener->timeout_command < LINGER_MS * 5 ? s->listener->timeout_command : LINGER_MS * 5);
	if (buf_len(&s->out))
		smtp_session_flush(s);
	else
		linger(s);
}

/* ---- waiting ---- */

void smtp_session_wait(struct smtp_session *s, int64_t limit_ms)
{
	assert(!s->busy);
	s->busy = true;
	if (limit_ms)
		timer_set(&s->timer, limit_ms);
	else
		timer_clear(&s->timer);
}

void smtp_session_resume(struct smtp_session *s)
{
	if (s->ended || s->closing)
		return;
	s->busy = false;
	timer_clear(&s->timer);
	s->on_input(s);
}

void smtp_session_expect(struct smtp_session *s, int64_t limit_ms)
{
	timer_set(&s->timer, limit_ms);
}

static void on_timer(struct timer *t)
{
	struct smtp_session *s = t->ctx;

	if (s->closing) {
		smtp_session_end(s);
		return;
	}
	if (s->busy)
		log_write(LOG_LEVEL_WARNING, s->id, "event=stuck cause=\"the worker does not answer\"");
	if (!buf_len(&s->out))
		smtp_session_say(s, 421, "4.4.2", arena_printf(&s->tx_arena, "%s Error: timeout exceeded", s->hostname));
	smtp_tx_reset(s, true);
	smtp_session_close(s);
}

/* ---- input ---- */

static void drain_input(struct smtp_session *s)
{
	static uint8_t scrap[READ_SIZE];
	ssize_t n;

	for (size_t total = 0; total < LINGER_BYTES; total += (size_t)n) {
		n = recv(s->io.fd, scrap, sizeof(scrap), MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0)
			break;
	}
	s->eof = true;
	if (buf_len(&s->out))
		watch(s);
	else
		smtp_session_end(s);
}

static void read_commands(struct smtp_session *s)
{
	static uint8_t bytes[READ_SIZE];	/* so that a session's own memory is for what has come, not for what could come */
	ssize_t n = recv(s->io.fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0 && !s->busy) {
		smtp_session_end(s);
		return;
	}
	if (n > 0)
		buf_append(&s->in, bytes, (size_t)n);
	else
		s->eof = true;
}

/* A client that waits may do so for minutes, and there may be thousands of them. */
static void give_memory_back(struct smtp_session *s)
{
	buf_shrink(&s->in, 0);
	if (!s->busy && !s->tx.queue_id[0])
		arena_fini(&s->tx_arena);
}

static void on_io(struct io *io, int events)
{
	struct smtp_session *s = io->ctx;
	bool was_full = smtp_session_is_full(s);

	if (events & IO_WRITE)
		smtp_session_flush(s);
	if (s->ended || !(events & IO_READ)) {
		if (was_full && !s->ended && !s->closing && !s->busy)
			s->on_input(s);
		return;
	}
	if (s->closing) {
		drain_input(s);
		return;
	}
	/* Content is read by those who knows where it belongs. */
	if (s->state != SMTP_STATE_CONTENT || s->busy)
		read_commands(s);
	if (!s->ended && !s->busy)
		s->on_input(s);
	if (!s->ended) {
		give_memory_back(s);
		watch(s);
	}
}
