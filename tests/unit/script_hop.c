#include "config.h"

#include "tests/unit/script_hop.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"

#define READ_SIZE 65536

static void close_peer(struct hop_peer *p)
{
	if (p->fd < 0)
		return;
	io_fini(&p->io);
	fd_close(&p->fd);
	p->hop->open -= !p->deaf;
}

static void send_text(struct hop_peer *p, const char *text)
{
	if (text == HOP_CLOSES) {
		close_peer(p);
	} else if (text == HOP_IS_DEAF) {
		io_want(&p->io, 0);
		p->deaf = true;
		p->hop->open--;
	} else if (text == HOP_STOPS_LOOP) {
		loop_stop();
	} else if (text) {
		send(p->fd, text, strlen(text), MSG_NOSIGNAL);
	}
}

/* All rows that can be played now. */
static void play(struct hop_peer *p)
{
	while (p->fd >= 0 && !p->wrong && (p->at->expect || p->at->send)) {
		size_t len = p->at->expect ? strlen(p->at->expect) : 0, have = buf_len(&p->in);
		const struct exchange *row = p->at;

		if (memcmp(have ? buf_head(&p->in) : (const uint8_t *)"", len ? row->expect : "", len < have ? len : have) != 0)
			p->wrong = row->expect;
		if (p->wrong || have < len)
			return;
		buf_consume(&p->in, len);
		if (row->send && row->send != HOP_IS_DEAF && buf_len(&p->in))
			p->wrong = row->expect;
		p->at++;
		send_text(p, row->send);
	}
}

static void on_peer(struct io *io, int events)
{
	struct hop_peer *p = io->ctx;
	ssize_t n = recv(p->fd, buf_reserve(&p->in, READ_SIZE), READ_SIZE, 0);

	(void)events;
	if (n > 0) {
		buf_commit(&p->in, (size_t)n);
		play(p);
	} else if (n == 0 || errno != EAGAIN) {
		close_peer(p);
	}
}

static void on_connection(struct io *io, int events)
{
	static const struct exchange nothing[1];
	struct script_hop *hop = io->ctx;
	int fd = accept4(hop->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd < 0)
		return;
	assert(hop->connections < SCRIPT_CONNECTIONS);

	struct hop_peer *p = &hop->peer[hop->connections];

	*p = (struct hop_peer){ .hop = hop, .fd = fd, .at = hop->script[hop->connections] };
	if (!p->at)
		p->at = nothing;
	hop->connections++;
	hop->open++;
	io_init(&p->io, fd, on_peer, p);
	io_want(&p->io, IO_READ);
	play(p);
}

void script_hop_open(struct script_hop *hop, const char *directory, const char *name,
	const struct exchange *const script[SCRIPT_CONNECTIONS])
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	*hop = (struct script_hop){ .script = script };
	snprintf(hop->path, sizeof(hop->path), "%s/%s", directory, name);
	memcpy(at.sun_path, hop->path, sizeof(at.sun_path));
	hop->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (bind(hop->fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(hop->fd, SCRIPT_CONNECTIONS) < 0)
		assert(!"a socket to listen on");
	io_init(&hop->io, hop->fd, on_connection, hop);
	io_want(&hop->io, IO_READ);
}

void script_hop_close(struct script_hop *hop)
{
	for (unsigned i = 0; i < hop->connections; i++) {
		close_peer(&hop->peer[i]);
		buf_fini(&hop->peer[i].in);
	}
	io_fini(&hop->io);
	fd_close(&hop->fd);
	unlink(hop->path);
}
