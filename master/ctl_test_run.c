#include "config.h"

#include "master/ctl_test_run.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "common/chan.h"
#include "common/clock.h"
#include "common/conf.h"
#include "common/fd.h"
#include "common/ipc.h"
#include "common/loop.h"
#include "common/stats.h"
#include "master/privileges.h"
#include "master/spawn.h"

#define ANSWER_MS  (15 * 60 * 1000)	/* milters have deadlines of their own, which come first */
#define READ_SIZE  65536u
#define ANSWER_MAX (2048u * 1024 * 1024)

static int on_record(struct chan *c, void *ctx, struct chan_record *r)
{
	(void)c;
	(void)ctx;
	(void)r;
	return 0;
}

static void on_close(struct chan *c, void *ctx, const char *why)
{
	(void)c;
	(void)ctx;
	(void)why;
}

static void send_record(struct chan *c, enum ipc_type type, int fd)
{
	const struct ipc_slot slot = { 0 };
	struct buf b = { 0 };

	if (type == IPC_PEER)
		ipc_slot_put(&b, &slot);
	chan_send(c, (uint16_t)type, 0, buf_len(&b) ? buf_head(&b) : NULL, buf_len(&b), fd);
	chan_flush(c);
	buf_fini(&b);
}

/* The effective configuration for one process of each kind, whose logs are not what the user asked for. */
static int config_text(struct conf *conf)
{
	struct buf text = { 0 };

	conf->milterd.workers = conf->milterd.sessions = 1;
	conf->milterd.log = LOG_SINK_STDERR;
	conf->milterd.log_level = LOG_LEVEL_ERROR;
	conf_print(&text, conf);

	int fd = fd_sealed_text("milterd.conf", buf_head(&text), buf_len(&text));

	buf_fini(&text);
	return fd;
}

static int spawn_both(struct ctl_test_run *run, const struct privileges *p, int config, size_t milters)
{
	for (enum role role = 0; role < ROLE_COUNT; role++) {
		const struct account *account = role == ROLE_SESSION ? &p->session : &p->worker;
		int control, stats = stats_create(milters);

		run->pid[role] = stats < 0 ? -1 :
			spawn_child(role, 0, p->separate ? account : NULL, config, stats, &control);
		fd_close(&stats);
		if (run->pid[role] < 0)
			return -1;
		run->control[role] = chan_new(control, on_record, on_close, NULL);
	}
	return 0;
}

static int join_both(struct ctl_test_run *run)
{
	int peers[2], test[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, peers) < 0)
		return -1;
	for (int i = 0; i < 2; i++)
		send_record(run->control[i], IPC_PEER, peers[i]);
	fd_close(&peers[0]);
	fd_close(&peers[1]);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, test) < 0)
		return -1;
	send_record(run->control[ROLE_WORKER], IPC_START, -1);
	send_record(run->control[ROLE_SESSION], IPC_TEST, test[1]);
	fd_close(&test[1]);
	run->fd = test[0];
	return 0;
}

int ctl_test_run_start(struct ctl_test_run *run, const char *config_file)
{
	struct buf problems = { 0 };
	struct privileges privileges = { 0 };
	struct conf *conf = conf_load(config_file, &problems);
	int config = -1, result = -1;

	*run = (struct ctl_test_run){ .fd = -1 };
	loop_init();
	if (conf && privileges_find(&privileges, conf, &problems) == 0 && spawn_init(&problems) == 0) {
		config = config_text(conf);
		result = config < 0 || spawn_both(run, &privileges, config, conf->milter_count) < 0 ? -1 : join_both(run);
		if (result < 0)
			buf_printf(&problems, "milterctl: %s\n", strerror(errno));
	}
	if (result < 0)
		fwrite(buf_head(&problems), 1, buf_len(&problems), stderr);
	fd_close(&config);
	privileges_fini(&privileges);
	conf_free(conf);
	buf_fini(&problems);
	return result;
}

void ctl_test_run_stop(struct ctl_test_run *run)
{
	fd_close(&run->fd);
	for (int i = 0; i < 2; i++) {
		if (run->pid[i] > 0 && kill(run->pid[i], SIGKILL) == 0)
			waitpid(run->pid[i], NULL, 0);
		chan_free(run->control[i]);
	}
	loop_fini();
}

static void put_content(struct buf *out, const struct buf *content)
{
	const char *at = (const char *)buf_head(content);
	size_t left = buf_len(content);

	while (left) {
		const char *end = memchr(at, '\n', left);
		size_t len = end ? (size_t)(end - at) + 1 : left;

		if (*at == '.')
			buf_puts(out, ".");
		buf_append(out, at, len);
		at += len;
		left -= len;
	}
	buf_puts(out, ".\r\n");
}

/* 1: the last frame is there; 0: not yet; -1: what came is no answer. *at: bytes that have been looked at. */
static int is_complete(const struct buf *answer, size_t *at)
{
	struct message_test_frame frame;
	int got;

	do {
		const struct buf rest = { .data = answer->data, .start = answer->start + *at, .end = answer->end };

		got = message_test_next(&rest, MESSAGE_TEST_FRAME_MAX, &frame);
		if (got <= 0)
			return got;
		*at += frame.size;
	} while (frame.type != MESSAGE_TEST_RESULT && frame.type != MESSAGE_TEST_ERROR);
	return 1;
}

static int complain(const char *what, int error)
{
	fprintf(stderr, "milterctl: %s: %s\n", what, error ? strerror(error) : "connection closed");
	return -1;
}

int ctl_test_run_exchange(struct ctl_test_run *run, const struct message_test_request *request, const struct buf *content,
	struct buf *answer)
{
	struct buf out = { 0 };
	size_t frame = message_test_begin(&out, MESSAGE_TEST_REQUEST), looked_at = 0;
	int64_t deadline = clock_now_ms() + ANSWER_MS;
	int complete = 0;

	message_test_request_put(&out, request);
	message_test_end(&out, frame);
	put_content(&out, content);
	while (!complete) {
		struct pollfd p = { .fd = run->fd, .events = (short)(buf_len(&out) ? POLLIN | POLLOUT : POLLIN) };
		int64_t left = deadline - clock_now_ms();

		if (left <= 0 || (poll(&p, 1, (int)left) < 0 && errno != EINTR))
			complete = complain("no answer", ETIMEDOUT);
		if (complete == 0 && (p.revents & POLLOUT)) {
			ssize_t n = send(run->fd, buf_head(&out), buf_len(&out), MSG_NOSIGNAL);

			if (n > 0)
				buf_consume(&out, (size_t)n);
			else if (errno != EAGAIN && errno != EPIPE)
				complete = complain("the test cannot be sent", errno);
			else if (errno == EPIPE)
				buf_clear(&out);	/* it has said why */
		}
		if (complete == 0 && (p.revents & (POLLIN | POLLHUP | POLLERR))) {
			ssize_t n = recv(run->fd, buf_reserve(answer, READ_SIZE), READ_SIZE, 0);

			if (n > 0)
				buf_commit(answer, (size_t)n);
			else if (n == 0 || errno != EAGAIN)
				complete = complain("the session process ended", n == 0 ? 0 : errno);
			if (n > 0 && ((complete = is_complete(answer, &looked_at)) < 0 || buf_len(answer) > ANSWER_MAX))
				complete = complain("what came is no answer of milterd", EPROTO);
		}
	}
	buf_fini(&out);
	return complete > 0 ? 0 : -1;
}
