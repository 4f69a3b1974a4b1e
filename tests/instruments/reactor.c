#include "config.h"

#include "tests/instruments/reactor.h"

#include <arpa/inet.h>
#include <assert.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"

#define READ_SIZE     (64u * 1024)	/* bytes of one read */
#define TURN_EVENTS   64
#define TICK_MS	      5			/* how late a time may be */
#define LISTENERS_MAX 4

struct listener {
	int fd;
	void (*on_accept)(int fd);
};

static int epoll_fd = -1;
static struct stream *streams;
static struct listener listeners[LISTENERS_MAX];
static size_t listener_count;
static volatile sig_atomic_t stopped;
static sigset_t waiting_mask;

static void on_signal(int number)
{
	(void)number;
	stopped = 1;
}

void reactor_stop(void)
{
	stopped = 1;
}

void reactor_init(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct rlimit files;
	sigset_t blocked;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGINT);
	sigprocmask(SIG_BLOCK, &blocked, &waiting_mask);
	sigdelset(&waiting_mask, SIGTERM);
	sigdelset(&waiting_mask, SIGINT);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		err(1, "epoll_create1");
}

/* The socket address of unix:/PATH or inet:ADDRESS:PORT; ends the process when it is neither. */
static socklen_t endpoint_address(const char *endpoint, struct sockaddr_storage *storage)
{
	struct sockaddr_un *local = (struct sockaddr_un *)storage;
	struct sockaddr_in *internet = (struct sockaddr_in *)storage;
	char host[INET_ADDRSTRLEN] = "";
	const char *port;

	memset(storage, 0, sizeof(*storage));
	if (strncmp(endpoint, "unix:", 5) == 0 && strlen(endpoint + 5) < sizeof(local->sun_path)) {
		local->sun_family = AF_UNIX;
		strcpy(local->sun_path, endpoint + 5);
		return sizeof(*local);
	}
	port = strrchr(endpoint, ':');
	if (strncmp(endpoint, "inet:", 5) == 0 && port > endpoint + 5 && (size_t)(port - endpoint) - 5 < sizeof(host))
		memcpy(host, endpoint + 5, (size_t)(port - endpoint) - 5);
	internet->sin_family = AF_INET;
	internet->sin_port = htons((uint16_t)(port ? strtoul(port + 1, NULL, 10) : 0));
	if (inet_pton(AF_INET, host, &internet->sin_addr) != 1)
		errx(64, "%s: neither unix:/PATH nor inet:ADDRESS:PORT", endpoint);
	return sizeof(*internet);
}

void reactor_listen(const char *endpoint, void (*on_accept)(int fd))
{
	struct sockaddr_storage address;
	socklen_t len = endpoint_address(endpoint, &address);
	struct listener *listener = &listeners[listener_count];
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = listener };
	int on = 1;

	assert(listener_count < LISTENERS_MAX);
	if (address.ss_family == AF_UNIX)
		unlink(endpoint + 5);
	listener->on_accept = on_accept;
	listener->fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		err(1, "socket");
	setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener->fd, (struct sockaddr *)&address, len) < 0 || listen(listener->fd, 1024) < 0 ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener->fd, &event) < 0)
		err(1, "%s", endpoint);
	/* Whoever is tested may run as somebody else. */
	if (address.ss_family == AF_UNIX && chmod(endpoint + 5, 0666) < 0)
		err(1, "%s", endpoint);
	listener_count++;
}

/* Tell epoll what this stream waits for now: nothing is not the same as no events, which would still report the end. */
static void watch(struct stream *s)
{
	struct epoll_event event = { .data.ptr = s };
	int operation;

	if (s->fd < 0)
		return;
	if (!s->frozen && !s->ended && !s->connecting && !s->hang_up && buf_len(&s->in) < s->in_limit)
		event.events |= EPOLLIN;
	if (s->connecting || (buf_len(&s->out) > 0 && !s->frozen && !s->broken))
		event.events |= EPOLLOUT;
	if (event.events == s->watched)
		return;
	operation = !s->watched ? EPOLL_CTL_ADD : event.events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
	if (epoll_ctl(epoll_fd, operation, s->fd, &event) < 0)
		err(1, "epoll_ctl");
	s->watched = event.events;
}

static void stream_close(struct stream *s)
{
	close(s->fd);
	s->fd = -1;
	s->watched = 0;
	s->connecting = s->ended = s->broken = s->hang_up = s->frozen = false;
	buf_clear(&s->in);
	buf_clear(&s->out);
}

static void flush(struct stream *s)
{
	while (buf_len(&s->out) > 0 && !s->connecting && !s->frozen && !s->broken) {
		ssize_t n = send(s->fd, buf_head(&s->out), buf_len(&s->out), MSG_NOSIGNAL);

		if (n < 0) {
			s->broken = errno != EAGAIN && errno != EINTR;
			s->ended |= s->broken;
			return;
		}
		buf_consume(&s->out, (size_t)n);
	}
}

/* Call the owner, then do what it wants: write, close, wait. */
static void dispatch(struct stream *s)
{
	s->on_event(s);
	if (s->fd < 0)
		return;
	flush(s);
	if (s->hang_up && (buf_len(&s->out) == 0 || s->broken)) {
		stream_close(s);
		s->on_closed(s);
		return;
	}
	watch(s);
}

static void on_ready(struct stream *s, uint32_t events)
{
	ssize_t n;

	if (s->connecting) {
		int error = 0;
		socklen_t len = sizeof(error);

		getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		s->connecting = false;
		s->ended = s->broken = error != 0;
	} else if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !s->frozen) {
		n = recv(s->fd, buf_reserve(&s->in, READ_SIZE), READ_SIZE, 0);
		if (n > 0)
			buf_commit(&s->in, (size_t)n);
		else if (n < 0)
			s->broken = errno != EAGAIN && errno != EINTR;
		s->ended |= n == 0 || s->broken;
	}
	flush(s);
	dispatch(s);
}

static void accept_all(const struct listener *listener)
{
	int on = 1, fd;

	while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		listener->on_accept(fd);
	}
}

static void wake_due(int64_t now)
{
	struct stream *s, *next;

	for (s = streams; s && !stopped; s = next) {
		next = s->next;
		if (s->wake_ms && s->wake_ms <= now) {
			s->wake_ms = 0;
			dispatch(s);
		}
	}
}

void reactor_run(void)
{
	struct epoll_event ready[TURN_EVENTS];
	int64_t now, next_tick = 0;
	int count, i;

	while (!stopped) {
		count = epoll_pwait(epoll_fd, ready, TURN_EVENTS, TICK_MS, &waiting_mask);
		if (count < 0 && errno != EINTR)
			err(1, "epoll_pwait");
		for (i = 0; i < count && !stopped; i++) {
			void *owner = ready[i].data.ptr;

			if (owner >= (void *)listeners && owner < (void *)(listeners + LISTENERS_MAX))
				accept_all(owner);
			else
				on_ready(owner, ready[i].events);
		}
		now = clock_now_ms();
		if (now >= next_tick) {
			next_tick = now + TICK_MS;
			wake_due(now);
		}
	}
}

void stream_init(struct stream *s, int fd)
{
	assert(s->on_event && s->on_closed);
	s->fd = fd;
	if (s->in_limit == 0)
		s->in_limit = READ_SIZE;
	s->previous = NULL;
	s->next = streams;
	if (streams)
		streams->previous = s;
	streams = s;
	if (fd >= 0)
		dispatch(s);
}

int stream_connect(struct stream *s, const char *endpoint)
{
	struct sockaddr_storage address;
	socklen_t len = endpoint_address(endpoint, &address);
	int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

	assert(s->fd < 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (struct sockaddr *)&address, len) < 0 && errno != EINPROGRESS) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	s->fd = fd;
	s->connecting = true;
	watch(s);
	return 0;
}

void stream_reset(struct stream *s)
{
	struct linger none = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	buf_clear(&s->out);
	s->hang_up = true;
}

void stream_fini(struct stream *s)
{
	if (s->fd >= 0)
		stream_close(s);
	if (s->previous)
		s->previous->next = s->next;
	else
		streams = s->next;
	if (s->next)
		s->next->previous = s->previous;
	buf_fini(&s->in);
	buf_fini(&s->out);
}
