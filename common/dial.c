#include "config.h"

#include "common/dial.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fd.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/resolve.h"

#define BACKLOG_WAIT_MS 10	/* a UNIX socket with a full backlog says EAGAIN, and nothing when there is room again */

struct dial {
	dial_fn *fn;
	void *ctx;
	struct resolve *resolve;
	struct addr_socket address[RESOLVE_ADDRESSES_MAX];
	size_t count, at;
	int fd;
	int64_t deadline;	/* loop_now_ms() */
	struct io io;
	struct timer limit;	/* of one address, or of the name */
	struct timer again;
	char why[160];
};

static void try_address(struct dial *);

static void destroy(struct dial *d)
{
	io_fini(&d->io);
	fd_close(&d->fd);
	timer_fini(&d->limit);
	timer_fini(&d->again);
	resolve_cancel(d->resolve);
	free(d);
}

/* The end, with d->fd or, when that is -1, with d->why. */
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
	fn(ctx, fd, fd < 0 ? why : NULL);
}

static void try_next(struct dial *d, const char *step, const char *why)
{
	snprintf(d->why, sizeof(d->why), "%s: %s", step, why);
	io_fini(&d->io);
	fd_close(&d->fd);
	timer_clear(&d->again);
	d->at++;
	if (d->at >= d->count)
		finish(d);
	else
		try_address(d);
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
		try_next(d, "connect", strerror(error));
	else
		finish(d);
}

/* One try; the time of the address is already running. */
static void connect_now(struct dial *d)
{
	static const int on = 1;
	const struct addr_socket *to = &d->address[d->at];
	int family = to->storage.ss_family;

	d->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (d->fd < 0) {
		try_next(d, "connect", strerror(errno));
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
		try_next(d, "connect", strerror(errno));
	}
}

static void try_address(struct dial *d)
{
	int64_t left = d->deadline - loop_now_ms();

	timer_set(&d->limit, left / (int64_t)(d->count - d->at));
	connect_now(d);
}

static void on_again(struct timer *t)
{
	connect_now(t->ctx);
}

static void on_limit(struct timer *t)
{
	struct dial *d = t->ctx;

	if (d->resolve) {
		resolve_cancel(d->resolve);
		d->resolve = NULL;
		try_next(d, "resolve", "no answer from a name server in time");
	} else {
		try_next(d, "connect", "no answer in time");
	}
}

static void on_resolved(void *ctx, const struct addr_socket *addresses, size_t count, const char *why)
{
	struct dial *d = ctx;

	assert(count <= RESOLVE_ADDRESSES_MAX);
	d->resolve = NULL;
	if (!count) {
		try_next(d, "resolve", why);
		return;
	}
	memcpy(d->address, addresses, count * sizeof(*addresses));
	d->count = count;
	try_address(d);
}

struct dial *dial_start(const struct addr *addr, int64_t timeout_ms, dial_fn *fn, void *ctx)
{
	struct dial *d = mem_alloc(sizeof(*d));

	d->fn = fn;
	d->ctx = ctx;
	d->fd = -1;
	d->deadline = loop_now_ms() + timeout_ms;
	timer_init(&d->limit, on_limit, d);
	timer_init(&d->again, on_again, d);
	timer_set(&d->limit, timeout_ms);
	d->resolve = resolve_start(addr, on_resolved, d);
	return d;
}

void dial_cancel(struct dial *d)
{
	if (d)
		destroy(d);
}
