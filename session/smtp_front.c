#include "config.h"

#include "session/smtp_front.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utlist.h>

#include "common/child.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "session/smtp_session.h"
#include "session/smtp_verbs.h"

#define ACCEPTS_A_TURN	 16
#define ACCEPT_PAUSE_MS	 100	/* when there are no descriptors left */
#define SESSION_ID_SHIFT 40	/* the process's slot above the counter */

struct listener {
	struct io io;
	struct timer pause;
	unsigned number;
	struct listener *next;
};

static const struct conf *conf;
static const char *hostname;
static struct listener *listeners;
static struct smtp_session *sessions;
static unsigned *session_count;		/* per listener of the configuration */
static uint64_t last_session;
static void (*on_drained)(void);

static void on_session_end(struct smtp_session *s)
{
	session_count[s->listener_number]--;
	stats_add(&child_stats()->session.sessions, -1);
	DL_DELETE(sessions, s);
	if (!sessions && on_drained)
		on_drained();
}

static void refuse_too_many(int fd, const struct listener *l)
{
	static const char text[] = "421 4.7.0 Too many connections, try again later\r\n";

	log_notice("event=max-sessions listener=%s limit=%lld", conf->listener[l->number].name,
		   (long long)conf->listener[l->number].max_sessions);
	if (send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_debug("event=refused cause=\"%s\"", strerror(errno));
	close(fd);
}

static void begin_session(struct listener *l, int fd)
{
	uint64_t id = (uint64_t)(child_slot() + 1) << SESSION_ID_SHIFT | ++last_session;
	struct smtp_session *s;

	if (session_count[l->number] >= (uint64_t)conf->listener[l->number].max_sessions) {
		refuse_too_many(fd, l);
		return;
	}
	s = smtp_session_new(conf, l->number, id, hostname, fd);
	s->on_end = on_session_end;
	session_count[l->number]++;
	stats_add(&child_stats()->session.sessions, 1);
	stats_add(&child_stats()->session.sessions_total, 1);
	DL_APPEND(sessions, s);
	smtp_verbs_begin(s, conf);
}

static void on_pause_over(struct timer *t)
{
	struct listener *l = t->ctx;

	io_want(&l->io, IO_READ);
}

static void on_connection(struct io *io, int events)
{
	struct listener *l = io->ctx;

	(void)events;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			begin_session(l, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			log_error("event=accept listener=%s cause=\"%s\"", conf->listener[l->number].name, strerror(errno));
			io_want(&l->io, 0);
			timer_set(&l->pause, ACCEPT_PAUSE_MS);
		}
		/* Another process was faster, or the client is gone already. */
		return;
	}
}

void smtp_front_init(const struct conf *c, const char *name)
{
	conf = c;
	hostname = name;
	session_count = mem_array(c->listener_count, sizeof(*session_count));
}

void smtp_front_add_listener(unsigned number, int fd)
{
	struct listener *l = mem_alloc(sizeof(*l));

	l->number = number;
	fd_set_nonblocking(fd);
	io_init(&l->io, fd, on_connection, l);
	timer_init(&l->pause, on_pause_over, l);
	LL_PREPEND(listeners, l);
}

void smtp_front_start(void)
{
	struct listener *l;

	LL_FOREACH(listeners, l)
		io_want(&l->io, IO_READ);
}

static void close_listeners(void)
{
	struct listener *l, *next;

	LL_FOREACH_SAFE(listeners, l, next) {
		int fd = l->io.fd;

		io_fini(&l->io);
		timer_fini(&l->pause);
		fd_close(&fd);
		free(l);
	}
	listeners = NULL;
}

void smtp_front_drain(void (*on_idle)(void))
{
	struct smtp_session *s, *next;

	close_listeners();
	smtp_verbs_drain();
	on_drained = on_idle;
	if (!sessions) {
		on_idle();
		return;
	}
	DL_FOREACH_SAFE(sessions, s, next)
		smtp_verbs_drain_idle(s);
}

void smtp_front_fini(void)
{
	struct smtp_session *s;

	on_drained = NULL;
	close_listeners();
	DL_FOREACH(sessions, s)
		smtp_session_end(s);
	free(session_count);
	session_count = NULL;
}
