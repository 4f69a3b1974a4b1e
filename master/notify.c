#include "config.h"

#include "master/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/loop.h"

static int notify_fd = -1;
static int64_t watchdog_ms;	/* 0: none */
static struct timer watchdog;

/* A path, or with "@" the name of an abstract socket (sd_notify(3), NOTIFY_SOCKET). */
static int connect_to(const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = strlen(name);
	int fd;

	if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof(addr.sun_path)) {
		errno = EINVAL;
		return -1;
	}
	memcpy(addr.sun_path, name, len);
	if (name[0] == '@')
		addr.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		fd_close(&fd);
	return fd;
}

/* Half of the interval, as sd_watchdog_enabled(3) asks for; 0 when the watchdog is not ours. */
static int64_t watchdog_interval_ms(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (!usec || (pid && strtoll(pid, NULL, 10) != (long long)getpid()))
		return 0;

	long long interval_ms = strtoll(usec, NULL, 10) / 2000;

	return interval_ms < 0 ? 0 : interval_ms;
}

void notify_init(void)
{
	const char *name = getenv("NOTIFY_SOCKET");

	if (name) {
		notify_fd = connect_to(name);
		if (notify_fd < 0)
			log_warning("event=notify socket=%s cause=\"cannot be used: %s\"", name, strerror(errno));
		else
			watchdog_ms = watchdog_interval_ms();
	}
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void notify_send(const char *format, ...)
{
	char text[256];
	va_list args;

	if (notify_fd < 0)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)send(notify_fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void on_watchdog(struct timer *t)
{
	notify_send("WATCHDOG=1");
	timer_set(t, watchdog_ms);
}

void notify_start_watchdog(void)
{
	if (watchdog_ms == 0)
		return;
	timer_init(&watchdog, on_watchdog, NULL);
	timer_set(&watchdog, 0);
}

void notify_fini(void)
{
	timer_fini(&watchdog);
	fd_close(&notify_fd);
	watchdog_ms = 0;
}
