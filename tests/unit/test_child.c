#include "config.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/child.h"
#include "common/fd.h"
#include "common/ipc.h"
#include "common/wire.h"

#define DEADLINE_MS 10000

static const char config[] = "[milterd]\nlog-level = error\ndrain-timeout = 100ms\n"
			     "[listener a]\nbind = inet:127.0.0.1:2525\nnext-hop = discard:\nmilters = none\n";

/* The child tells what its callbacks saw, a letter each. */
static int notes = -1;
static bool leaves;

static void note(const char *text)
{
	if (write(notes, text, strlen(text)) < 0)
		_exit(90);
}

static void on_listener(unsigned listener, int fd)
{
	note(listener == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC ? "L" : "?");
}

static void on_peer(unsigned slot, int fd)
{
	note(slot < CHILD_SLOTS_MAX && fcntl(fd, F_GETFD) == FD_CLOEXEC ? "P" : "?");
}

static void on_spool(int folder)
{
	note(fcntl(folder, F_GETFD) == FD_CLOEXEC ? "F" : "?");
}

static void on_start(void)
{
	note("S");
	child_worked();
	child_worked();
}

static void on_drain(void)
{
	note("D");
	if (leaves)
		child_leave();
}

static const struct child_ops ops = {
	.on_listener = on_listener, .on_spool = on_spool, .on_peer = on_peer, .on_start = on_start, .on_drain = on_drain,
};
static const struct child_ops worker_ops = { .on_peer = on_peer, .on_start = on_start, .on_drain = on_drain };

__attribute__((noreturn)) static void be_child(int control, int said, const struct child_ops *with)
{
	static char name[] = "milterd-test", slot[] = "7";
	char *argv[] = { name, slot, NULL };
	int text = fd_sealed_text("config", config, strlen(config)), stats = stats_create(0);

	notes = fcntl(said, F_DUPFD, 20);
	control = fcntl(control, F_DUPFD, 20);
	text = fcntl(text, F_DUPFD, 20);
	stats = fcntl(stats, F_DUPFD, 20);
	if (dup2(control, CHILD_FD_CONTROL) < 0 || dup2(text, CHILD_FD_CONFIG) < 0 ||
	    dup2(stats, CHILD_FD_STATS) < 0 ||
	    close_range(CHILD_FD_FIRST_FREE, 19, 0) < 0 || close(control) < 0)
		_exit(91);

	const struct conf *conf = child_begin("test", 2, argv, with);

	if (child_slot() != 7 || conf->listener_count != 1)
		_exit(92);
	_exit(child_run());
}

struct run {
	pid_t pid;
	int control, said;
};

static struct run begin(const struct child_ops *with)
{
	int control[2], said[2];
	struct run run;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control), 0);
	cr_assert_eq(pipe2(said, O_CLOEXEC), 0);
	run.pid = fork();
	if (run.pid == 0)
		be_child(control[1], said[1], with);
	close(control[1]);
	close(said[1]);
	run.control = control[0];
	run.said = said[0];
	return run;
}

static void send_record(int control, uint16_t type, uint64_t session, const void *data, size_t len, bool with_fd)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} ancillary = { 0 };
	struct buf b = { 0 };
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	wire_put_u32(&b, (uint32_t)len);
	wire_put_u16(&b, type);
	wire_put_u16(&b, with_fd);
	wire_put_u64(&b, session);
	buf_append(&b, data, len);

	struct iovec bytes = { buf_head(&b), buf_len(&b) };
	struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1 };

	if (with_fd) {
		ancillary.head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
						   .cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(&ancillary.head), &null, sizeof(null));
		message.msg_control = ancillary.space;
		message.msg_controllen = sizeof(ancillary.space);
	}
	(void)sendmsg(control, &message, MSG_NOSIGNAL);
	buf_fini(&b);
	close(null);
}

static void send_slot(int control, uint16_t type, uint32_t slot, bool with_fd)
{
	struct buf b = { 0 };

	ipc_slot_put(&b, &(struct ipc_slot){ .slot = slot });
	send_record(control, type, 0, buf_head(&b), buf_len(&b), with_fd);
	buf_fini(&b);
}

/* All bytes until the end; false when that does not come in time. */
static bool read_to_end(int fd, char *text, size_t size)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	size_t len = 0;

	while (len + 1 < size && poll(&ready, 1, DEADLINE_MS) == 1) {
		ssize_t n = read(fd, text + len, size - 1 - len);

		if (n <= 0) {
			text[len] = '\0';
			return true;
		}
		len += (size_t)n;
	}
	text[len] = '\0';
	return false;
}

/* Wait for the end of the child: its callbacks' notes, its reports as types in one string of digits. */
static int end_of(struct run *run, char *said, size_t said_size, char *reports, size_t reports_size)
{
	char bytes[1024];
	struct wire w;
	int status = -1;

	if (!read_to_end(run->said, said, said_size))
		kill(run->pid, SIGKILL);
	waitpid(run->pid, &status, 0);
	reports[0] = '\0';
	ssize_t len = recv(run->control, bytes, sizeof(bytes), MSG_DONTWAIT);

	wire_init(&w, bytes, len > 0 ? (size_t)len : 0);
	while (wire_left(&w)) {
		uint32_t data = wire_u32(&w);
		uint16_t type = wire_u16(&w), fds = wire_u16(&w);
		uint64_t session = wire_u64(&w);
		size_t at = strlen(reports);

		snprintf(reports + at, reports_size - at, "%s%u", at ? " " : "", data || fds || session ? 0 : type);
	}
	close(run->control);
	close(run->said);
	return status;
}

/* A child to which this is sent, to which no master of ours would send it. */
struct illegal {
	const char *what;
	uint16_t type;
	uint64_t session;
	size_t len;		/* of data, zeroes but for a slot in the first four bytes */
	uint32_t slot;
	bool with_fd;
	const struct child_ops *with;
};

Test(child, an_illegal_record_from_the_master_ends_the_child_in_peace)
{
	static const struct illegal cases[] = {
		{ "PEER without descriptor", IPC_PEER, 0, 8, 0, false, &ops },
		{ "PEER too short", IPC_PEER, 0, 7, 0, true, &ops },
		{ "PEER too long", IPC_PEER, 0, 9, 0, true, &ops },
		{ "PEER out of range", IPC_PEER, 0, 8, CHILD_SLOTS_MAX, true, &ops },
		{ "LISTENER without descriptor", IPC_LISTENER, 0, 8, 0, false, &ops },
		{ "LISTENER not in the configuration", IPC_LISTENER, 0, 8, 1, true, &ops },
		{ "LISTENER to a worker", IPC_LISTENER, 0, 8, 0, true, &worker_ops },
		{ "START with data", IPC_START, 0, 1, 0, false, &ops },
		{ "START with descriptor", IPC_START, 0, 0, 0, true, &ops },
		{ "START of a session", IPC_START, 1, 0, 0, false, &ops },
		{ "DRAIN with data", IPC_DRAIN, 0, 4, 0, false, &ops },
		{ "a report", IPC_READY, 0, 0, 0, false, &ops },
		{ "no type", 0, 0, 0, 0, false, &ops },
		{ "unknown type", 0xffff, 0, 0, 0, false, &ops },
	};

	leaves = true;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct illegal *c = &cases[i];
		struct run run = begin(c->with);
		uint8_t data[16] = { (uint8_t)(c->slot >> 24), (uint8_t)(c->slot >> 16), (uint8_t)(c->slot >> 8),
				     (uint8_t)c->slot };
		char said[64], reports[64];

		send_record(run.control, c->type, c->session, data, c->len, c->with_fd);
		cr_expect_eq(end_of(&run, said, sizeof(said), reports, sizeof(reports)), 0, "%s", c->what);
		cr_expect_str_eq(said, "D", "%s", c->what);
	}
}

Test(child, a_second_start_or_a_late_listener_is_illegal)
{
	char said[64], reports[64];

	leaves = true;
	struct run run = begin(&ops);

	send_record(run.control, IPC_START, 0, NULL, 0, false);
	send_record(run.control, IPC_START, 0, NULL, 0, false);
	cr_expect_eq(end_of(&run, said, sizeof(said), reports, sizeof(reports)), 0);
	cr_expect_str_eq(said, "SD");

	run = begin(&ops);
	send_record(run.control, IPC_START, 0, NULL, 0, false);
	send_slot(run.control, IPC_LISTENER, 0, true);
	cr_expect_eq(end_of(&run, said, sizeof(said), reports, sizeof(reports)), 0);
	cr_expect_str_eq(said, "SD");
}

Test(child, a_whole_life_is_reported_once_each)
{
	char said[64], reports[64], expected[64];
	struct run run;

	leaves = true;
	run = begin(&ops);
	send_slot(run.control, IPC_LISTENER, 0, true);
	send_slot(run.control, IPC_PEER, CHILD_SLOTS_MAX - 1, true);
	send_record(run.control, IPC_START, 0, NULL, 0, false);
	send_slot(run.control, IPC_PEER, 0, true);
	send_record(run.control, IPC_DRAIN, 0, NULL, 0, false);
	send_slot(run.control, IPC_PEER, 1, true);
	cr_expect_eq(end_of(&run, said, sizeof(said), reports, sizeof(reports)), 0);
	cr_expect_str_eq(said, "LPSPD");
	snprintf(expected, sizeof(expected), "%d %d %d", IPC_READY, IPC_WORKED, IPC_DRAINED);
	cr_expect_str_eq(reports, expected);
}

/* Something can be read there: READY, or the first note. */
static void wait_for(int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };

	cr_assert_eq(poll(&ready, 1, DEADLINE_MS), 1);
}

Test(child, without_its_master_a_child_drains_and_does_not_outstay_drain_timeout)
{
	char said[64], reports[64];
	struct run run;

	for (int i = 0; i < 2; i++) {
		leaves = i;
		run = begin(&ops);
		wait_for(run.control);
		shutdown(run.control, SHUT_WR);
		cr_expect_eq(end_of(&run, said, sizeof(said), reports, sizeof(reports)), 0);
		cr_expect_str_eq(said, "D");
	}
}

Test(child, sigterm_drains_once_and_before_start_nothing_starts)
{
	char said[64], reports[64], expected[64];
	struct run run;

	leaves = false;
	run = begin(&ops);
	wait_for(run.control);
	kill(run.pid, SIGTERM);
	wait_for(run.said);
	kill(run.pid, SIGTERM);
	send_record(run.control, IPC_START, 0, NULL, 0, false);
	send_record(run.control, IPC_DRAIN, 0, NULL, 0, false);
	shutdown(run.control, SHUT_WR);
	cr_expect_eq(end_of(&run, said, sizeof(said), reports, sizeof(reports)), 0);
	cr_expect_str_eq(said, "D");
	snprintf(expected, sizeof(expected), "%d", IPC_READY);
	cr_expect_str_eq(reports, expected);
}
