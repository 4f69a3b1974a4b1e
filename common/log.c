#include "config.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

#define LINE_MAX_BYTES 4000	/* below PIPE_BUF, so that lines of several processes do not mix */
#define FACILITY_MAIL  (2 << 3)

static const struct {
	const char *name;
	int priority;		/* of syslog(3) */
} levels[] = {
	[LOG_LEVEL_ERROR] = { "error", 3 },
	[LOG_LEVEL_WARNING] = { "warning", 4 },
	[LOG_LEVEL_NOTICE] = { "notice", 5 },
	[LOG_LEVEL_INFO] = { "info", 6 },
	[LOG_LEVEL_DEBUG] = { "debug", 7 },
};

static struct {
	char role[32];
	enum log_sink sink;
	enum log_level level;
	int fd;			/* a descriptor of our own, or STDERR_FILENO */
	bool is_socket;
	unsigned long lost;	/* lines since the last one that was written */
} state = { .role = "milterd", .sink = LOG_SINK_STDERR, .level = LOG_LEVEL_INFO, .fd = STDERR_FILENO };

/* systemd names the device and inode of the socket it gave us as stderr. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	       st.st_dev == dev && st.st_ino == ino;
}

static int open_syslog(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* O_NONBLOCK belongs to the open file, which others share: so open it once more for us alone. */
static int open_stderr(void)
{
	int fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	return fd >= 0 ? fd : STDERR_FILENO;
}

void log_init(const char *role, enum log_sink sink, enum log_level level)
{
	struct stat st;

	log_fini();
	snprintf(state.role, sizeof(state.role), "%s", role);
	state.level = level;
	state.sink = sink == LOG_SINK_AUTO ? (stderr_is_journal() ? LOG_SINK_JOURNAL : LOG_SINK_STDERR) : sink;
	if (state.sink == LOG_SINK_SYSLOG) {
		state.fd = open_syslog();
		if (state.fd >= 0) {
			state.is_socket = true;
			return;
		}
		state.sink = LOG_SINK_STDERR;
		log_warning("event=log cause=\"no syslog at /dev/log, logging to standard error\"");
	}
	state.is_socket = fstat(STDERR_FILENO, &st) == 0 && S_ISSOCK(st.st_mode);
	state.fd = state.is_socket ? STDERR_FILENO : open_stderr();
}

void log_fini(void)
{
	if (state.fd != STDERR_FILENO)
		close(state.fd);
	state.fd = STDERR_FILENO;
}

void log_set_level(enum log_level level)
{
	state.level = level;
}

static size_t put_head(char *line, size_t size, enum log_level level, uint64_t session)
{
	int len = 0, more = 0;

	if (state.sink == LOG_SINK_JOURNAL) {
		len = snprintf(line, size, "<%d>%s: ", levels[level].priority, state.role);
	} else if (state.sink == LOG_SINK_SYSLOG) {
		len = snprintf(line, size, "<%d>milterd[%ld]: %s: ", FACILITY_MAIL | levels[level].priority,
			       (long)getpid(), state.role);
	} else {
		int64_t now = clock_wall_us();
		time_t seconds = (time_t)(now / 1000000);
		struct tm utc;

		gmtime_r(&seconds, &utc);
		len = snprintf(line, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %s[%ld]: %s: ", utc.tm_year + 1900,
			       utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
			       (int)(now / 1000 % 1000), state.role, (long)getpid(), levels[level].name);
	}
	if (session)
		more = snprintf(line + len, size - (size_t)len, "%llx ", (unsigned long long)session);
	return (size_t)(len + more);
}

static size_t put_escaped(char *line, size_t size, const char *text)
{
	size_t len = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p && len + 4 < size; p++) {
		if (*p >= 0x20 && *p < 0x7f && *p != '\\')
			line[len++] = (char)*p;
		else
			len += (size_t)snprintf(line + len, 5, *p == '\\' ? "\\\\" : "\\x%02x", *p);
	}
	return len;
}

static bool put_line(const char *line, size_t len)
{
	ssize_t n;

	do {
		if (state.is_socket) {
			n = send(state.fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		} else {
			struct pollfd ready = { .fd = state.fd, .events = POLLOUT };

			if (state.fd == STDERR_FILENO && poll(&ready, 1, 0) <= 0)
				return false;
			n = write(state.fd, line, len);
		}
	} while (n < 0 && errno == EINTR);
	return n >= 0;
}

static bool put_message(enum log_level level, uint64_t session, const char *text)
{
	char line[LINE_MAX_BYTES];
	size_t len = put_head(line, sizeof(line), level, session);

	len += put_escaped(line + len, sizeof(line) - len - 1, text);
	if (state.sink != LOG_SINK_SYSLOG)
		line[len++] = '\n';
	return put_line(line, len);
}

void log_write(enum log_level level, uint64_t session, const char *format, ...)
{
	char text[LINE_MAX_BYTES];
	int saved = errno;
	va_list args;

	if (level > state.level)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	if (state.lost) {
		char note[64];

		snprintf(note, sizeof(note), "event=log lost-lines=%lu", state.lost);
		if (put_message(LOG_LEVEL_WARNING, 0, note))
			state.lost = 0;
	}
	if (!put_message(level, session, text))
		state.lost++;
	errno = saved;
}
