#include "config.h"

#include "common/resolver.h"

#include <stdint.h>
#include <stdlib.h>

#include <utlist.h>

#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"

struct watch {
	struct io io;
	struct watch *next;
};

struct resolver {
	ares_channel channel;
	struct timer retry;
	struct watch *watches;
};

/* Whatever c-ares did, its next time-out may be another one now. */
void resolver_asked(struct resolver *r)
{
	struct timeval tv;

	if (ares_timeout(r->channel, NULL, &tv))
		timer_set(&r->retry, (int64_t)tv.tv_sec * 1000 + tv.tv_usec / 1000 + 1);
	else
		timer_clear(&r->retry);
}

static void on_retry(struct timer *t)
{
	struct resolver *r = t->ctx;

	ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	resolver_asked(r);
}

static void on_io(struct io *io, int events)
{
	struct resolver *r = io->ctx;
	int fd = io->fd;

	/* The watch may be gone after this. */
	ares_process_fd(r->channel, events & IO_READ ? fd : ARES_SOCKET_BAD, events & IO_WRITE ? fd : ARES_SOCKET_BAD);
	resolver_asked(r);
}

static void on_socket_state(void *data, ares_socket_t fd, int readable, int writable)
{
	struct resolver *r = data;
	struct watch *w;

	LL_SEARCH_SCALAR(r->watches, w, io.fd, fd);
	if (!readable && !writable) {
		if (w) {
			LL_DELETE(r->watches, w);
			io_fini(&w->io);
			free(w);
		}
		return;
	}
	if (!w) {
		w = mem_alloc(sizeof(*w));
		io_init(&w->io, fd, on_io, r);
		LL_PREPEND(r->watches, w);
	}
	io_want(&w->io, (readable ? IO_READ : 0) | (writable ? IO_WRITE : 0));
}

struct resolver *resolver_new(const struct resolver_options *wanted)
{
	struct resolver *r = mem_alloc(sizeof(*r));
	struct ares_options options = {
		.flags = wanted->search ? 0 : ARES_FLAG_NOSEARCH,
		.timeout = wanted->try_ms,
		.tries = wanted->tries,
		.lookups = (char *)(uintptr_t)wanted->lookups,	/* only read */
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = r,
	};
	int status = ares_library_init(ARES_LIB_INIT_ALL);

	timer_init(&r->retry, on_retry, r);
	if (status == ARES_SUCCESS)
		status = ares_init_options(&r->channel, &options, ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS |
					   ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB);
	if (status == ARES_SUCCESS && wanted->servers)
		status = ares_set_servers_ports_csv(r->channel, wanted->servers);
	if (status == ARES_SUCCESS)
		return r;
	log_error("event=resolver-failed reason=\"%s\"", ares_strerror(status));
	timer_fini(&r->retry);
	free(r);
	return NULL;
}

void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	ares_destroy(r->channel);
	ares_library_cleanup();
	timer_fini(&r->retry);
	free(r);
}

ares_channel resolver_channel(struct resolver *r)
{
	return r->channel;
}
