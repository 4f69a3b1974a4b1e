#include "config.h"

#include "master/ctl_remote.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/conf.h"
#include "common/fd.h"
#include "common/mem.h"
#include "master/control_request.h"

#define SOON_MS	   10000
#define STOP_MS	   (3600000 + 60000)	/* the largest drain-timeout, and a bit */
#define READ_BYTES 65536u

/* The socket's path, the caller's; NULL when the configuration that was named is wrong. */
static char *socket_path(const struct ctl_options *options)
{
	struct buf problems = { 0 };
	char *path = NULL;

	if (options->socket)
		return mem_strdup(options->socket);

	struct conf *conf = conf_load(options->config, &problems);

	if (conf)
		path = conf_control_socket(conf);
	else if (options->config_given && buf_len(&problems))
		fwrite(buf_head(&problems), 1, buf_len(&problems), stderr);
	else if (!options->config_given)
		path = mem_strdup(CONF_CONTROL_SOCKET);	/* that file may be for root's eyes only */
	conf_free(conf);
	buf_fini(&problems);
	return path;
}

static int refuse(const char *path, const char *what, int error)
{
	fprintf(stderr, "milterctl: %s: %s: %s\n", path, what, strerror(error));
	if (error == EACCES || error == EPERM)
		return EX_NOPERM;
	return error == ETIMEDOUT ? EX_TEMPFAIL : EX_UNAVAILABLE;
}

/* A connected non-blocking socket, or -1 with errno. */
static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = strlen(path);

	if (len >= sizeof(addr.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(addr.sun_path, path, len);

	/* Blocking, with this limit: a socket with a full backlog is waited for. */
	const struct timeval limit = { .tv_sec = SOON_MS / 1000 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
			connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || fd_set_nonblocking(fd) < 0)) {
		fd_close(&fd);
		if (errno == EAGAIN)
			errno = ETIMEDOUT;
	}
	return fd;
}

/* 0 when the descriptor can be read or written, or -1 with errno. */
static int wait_for(int fd, short events, int64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (;;) {
		int64_t left = deadline - clock_now_ms();
		int ready = poll(&p, 1, left > 0 ? (int)left : 0);

		if (ready > 0)
			return 0;
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready == 0)
			errno = ETIMEDOUT;
		return -1;
	}
}

static int send_all(int fd, struct buf *b, int64_t deadline)
{
	while (buf_len(b)) {
		ssize_t n = send(fd, buf_head(b), buf_len(b), MSG_NOSIGNAL);

		if (n > 0)
			buf_consume(b, (size_t)n);
		else if (errno == EPIPE || errno == ECONNRESET)
			return 0;	/* the answer may be there already: a refusal */
		else if (errno != EAGAIN || wait_for(fd, POLLOUT, deadline) < 0)
			return -1;
	}
	return 0;
}

static int receive_all(int fd, struct buf *b, int64_t deadline)
{
	for (;;) {
		ssize_t n = recv(fd, buf_reserve(b, READ_BYTES), READ_BYTES, 0);

		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return 0;
		if (n > 0)
			buf_commit(b, (size_t)n);
		else if (errno != EAGAIN || wait_for(fd, POLLIN, deadline) < 0)
			return -1;
		if (buf_len(b) > CONTROL_ANSWER_MAX + 8) {
			errno = EMSGSIZE;
			return -1;
		}
	}
}

static int exchange(const char *path, struct buf *b, int64_t deadline)
{
	int fd = connect_to(path), status = EXIT_SUCCESS;

	if (fd < 0)
		return refuse(path, "the daemon cannot be reached", errno);
	if (send_all(fd, b, deadline) < 0)
		status = refuse(path, "the daemon takes no command", errno);
	buf_clear(b);
	if (status == EXIT_SUCCESS && receive_all(fd, b, deadline) < 0)
		status = refuse(path, "the daemon does not answer", errno);
	fd_close(&fd);
	return status;
}

/* What the daemon says is checked like anything else that comes in: it may be another program's socket. */
static int read_answer(const char *path, const struct buf *b, json_t **object)
{
	struct control_answer answer;

	if (buf_len(b) == 0) {
		fprintf(stderr, "milterctl: %s: the daemon closed the connection\n", path);
		return EX_UNAVAILABLE;
	}
	if (control_answer_take(b, &answer) == 1)
		*object = json_loadb(answer.json, answer.len, 0, NULL);
	if (json_is_object(*object))
		return (int)answer.status;
	json_decref(*object);
	*object = NULL;
	fprintf(stderr, "milterctl: %s: what it says is no answer of milterd\n", path);
	return EX_UNAVAILABLE;
}

int ctl_ask(const struct ctl_options *options, int argc, char **argv, int64_t timeout_ms, json_t **answer)
{
	struct buf b = { 0 };
	int status;

	*answer = NULL;
	if (control_request_put(&b, (const char *const *)argv, (size_t)argc) < 0) {
		fprintf(stderr, "milterctl: the command is too long\n");
		return EX_USAGE;
	}

	char *path = socket_path(options);

	status = path ? exchange(path, &b, clock_now_ms() + timeout_ms) : EX_CONFIG;
	if (status == EXIT_SUCCESS)
		status = read_answer(path, &b, answer);
	free(path);
	buf_fini(&b);
	return status;
}

void ctl_print_json(const json_t *object)
{
	json_dumpf(object, stdout, JSON_COMPACT);
	putchar('\n');
}

/* The answer is {"message": "..."} or {"error": "..."}, a sentence of the master's own. */
static int say(const struct ctl_options *options, int argc, char **argv, int64_t timeout_ms)
{
	json_t *answer;
	int status = ctl_ask(options, argc, argv, timeout_ms, &answer);
	const char *error = json_string_value(json_object_get(answer, "error"));
	const char *message = json_string_value(json_object_get(answer, "message"));

	if (answer && options->json)
		ctl_print_json(answer);
	else if (error)
		fprintf(stderr, "milterctl: %s\n", error);
	else if (message)
		puts(message);
	json_decref(answer);
	return status;
}

int ctl_simple(const struct ctl_options *options, int argc, char **argv)
{
	return say(options, argc, argv, SOON_MS);
}

int ctl_stop(const struct ctl_options *options, int argc, char **argv)
{
	return say(options, argc, argv, STOP_MS);
}
