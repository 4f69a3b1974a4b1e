#include "config.h"

#include "worker/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/resolve.h"

#define ADDRESSES_MAX	8u
#define BACKLOG_WAIT_MS 10	/* a UNIX socket whose backlog is full says so and nothing else */

struct dial {
	dial_fn *fn;
	void *ctx;
	struct resolve *resolve;
	struct addr_socket address[ADDRESSES_MAX];
	size_t count, at;
	int fd;
	struct io io;
	struct timer limit, again;
	struct deferred begin;
	char why[160];
};

static void try_next(struct dial *);

static void destroy(struct dial *d)
{
	io_fini(&d->io);
	fd_close(&d->fd);
	timer_fini(&d->limit);
	timer_fini(&d->again);
	deferred_cancel(&d->begin);
	resolve_cancel(d->resolve);
	free(d);
}

static void finish(struct dial *d)
{
	dial_fn *fn = d->fn;
	void *ctx = d->ctx;
	int fd = d->fd;
	char why[sizeof(d->why)];

	memcpy(why, d->why, sizeof(why));
	io_fini(&d->io);
	d->fd = -1;
	destroy(d);
	fn(ctx, fd, why);
}

static void fail(struct dial *d, const char *why)
{
	io_fini(&d->io);
	fd_close(&d->fd);
	snprintf(d->why, sizeof(d->why), "%s", why);
	finish(d);
}

static void refused(struct dial *d, int error)
{
	io_fini(&d->io);
	fd_close(&d->fd);
	snprintf(d->why, sizeof(d->why), "connect: %s", strerror(error));
	d->at++;
	try_next(d);
}

static void on_connected(struct io *io, int events)
{
	struct dial *d = io->ctx;
	int error = 0;
	socklen_t len = sizeof(error);

	(void)events;
	if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error)
		refused(d, error);
	else
		finish(d);
}

static void try_next(struct dial *d)
{
	static const int on = 1;

	if (d->at == d->count) {
		finish(d);
		return;
	}
	const struct addr_socket *to = &d->address[d->at];
	int family = to->storage.ss_family;

	d->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (d->fd < 0) {
		refused(d, errno);
		return;
	}
	if (family != AF_UNIX)
		setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(d->fd, (const struct sockaddr *)&to->storage, to->len) == 0) {
		finish(d);
	} else if (errno == EINPROGRESS || errno == EINTR) {
		io_init(&d->io, d->fd, on_connected, d);
		io_want(&d->io, IO_WRITE);
	} else if (errno == EAGAIN && family == AF_UNIX) {
		fd_close(&d->fd);
		timer_set(&d->again, BACKLOG_WAIT_MS);
	} else {
		refused(d, errno);
	}
}

static void on_resolved(void *ctx, const struct addr_socket *addresses, size_t count, const char *why)
{
	struct dial *d = ctx;

	d->resolve = NULL;
	d->count = count < ADDRESSES_MAX ? count : ADDRESSES_MAX;
	memcpy(d->address, addresses, d->count * sizeof(*addresses));
	if (d->count)
		try_next(d);
	else
		fail(d, why ? why : "no address");
}

static void on_again(struct timer *t)
{
	try_next(t->ctx);
}

static void on_limit(struct timer *t)
{
	fail(t->ctx, "connect: no answer in time");
}

static void on_begin(struct deferred *later)
{
	try_next(later->ctx);
}

struct dial *dial_start(const struct addr *addr, int64_t timeout_ms, dial_fn *fn, void *ctx)
{
	struct dial *d = mem_alloc(sizeof(*d));

	d->fn = fn;
	d->ctx = ctx;
	d->fd = -1;
	timer_init(&d->limit, on_limit, d);
	timer_init(&d->again, on_again, d);
	deferred_init(&d->begin, on_begin, d);
	timer_set(&d->limit, timeout_ms);
	if (addr_numeric(addr, &d->address[0])) {
		d->count = 1;
		deferred_run(&d->begin);
	} else {
		d->resolve = resolve_start(addr, on_resolved, d);
	}
	return d;
}

void dial_cancel(struct dial *d)
{
	if (d)
		destroy(d);
}
