#include "config.h"

#include "worker/link.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/chan.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "tests/unit/script_milter.h"

#define WAIT_MS 5000
#define SESSION 0x1234
#define MESSAGE "Subject: x\r\n\r\nbody\r\n"

/* A session process at the other end of a channel; what it hears becomes text: "verdict:continue", "eom:0",
 * "release:1/1", "buffer:1", "drop:1", "closed". */
struct process {
	struct chan *chan;
	struct buf heard;
	bool is_closed;
	int body_fd;
	struct arena arena;
};

static struct conf conf;
static struct conf_listener listener;
static struct conf_milter milter_conf;
static unsigned order[1];
static struct pool *pools[1];
static struct job_shared shared;
static struct links *links;
static struct script_milter *milter;
static struct msgbuf_pool *session_buffers;
static struct process process;
static char *folder;
static unsigned last_closed, worked;

static const char *heard(void)
{
	*buf_reserve(&process.heard, 1) = '\0';
	return (const char *)buf_head(&process.heard);
}

static void hear(const char *what)
{
	buf_printf(&process.heard, "%s%s", buf_len(&process.heard) ? " " : "", what);
}

static int on_record(struct chan *chan, void *ctx, struct chan_record *r)
{
	struct ipc_buffer buffer = { 0 };
	struct ipc_eom_begun begun = { 0 };
	struct ipc_verdict v;
	struct wire w;
	char text[80] = "?";

	(void)chan, (void)ctx;
	wire_init(&w, r->data, r->len);
	switch (r->type) {
	case IPC_VERDICT:
		cr_assert_eq(r->session, SESSION);
		ipc_verdict_take(&w, &process.arena, &v);
		snprintf(text, sizeof(text), "verdict:%s", verdict_name((enum verdict)v.verdict));
		break;
	case IPC_EOM_BEGUN:
		ipc_eom_begun_take(&w, &begun);
		snprintf(text, sizeof(text), "eom:%u", begun.milter);
		break;
	default:
		ipc_buffer_take(&w, &buffer);
		cr_assert(wire_finished(&w));
		snprintf(text, sizeof(text), "%s:%u/%u",
			 r->type == IPC_BUFFER ? "buffer" : r->type == IPC_RELEASE ? "release" : "drop", buffer.id,
			 buffer.generation);
		if (r->type == IPC_BUFFER) {
			process.body_fd = r->fd;
			r->fd = -1;
		}
	}
	cr_assert_not(w.broken);
	hear(text);
	return 0;
}

static void on_close(struct chan *chan, void *ctx, const char *why)
{
	(void)chan, (void)ctx, (void)why;
	process.is_closed = true;
	hear("closed");
}

static void on_last(void)
{
	last_closed++;
}

static void on_first_verdict(void)
{
	worked++;
}

static void join(unsigned slot)
{
	int fd[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	process.chan = chan_new(fd[0], on_record, on_close, NULL);
	process.is_closed = false;
	links_add(links, slot, fd[1]);
}

static void start(const struct script *script)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/m", folder);
	script_conf(&milter_conf, "m", path);
	milter = script_listen(path, script);
	pools[0] = pool_new(&milter_conf, 0, 4);
	conf.milter = &milter_conf;
	conf.milter_count = 1;
	conf.listener = &listener;
	conf.listener_count = 1;
	listener = (struct conf_listener){ .chain = order, .chain_count = 1, .max_message_size = 1 << 20 };
	shared = (struct job_shared){ .conf = &conf, .pool = pools, .bodies = msgbuf_pool_new(4 << 20, 16 << 20) };
	links = links_new(&shared, on_first_verdict, on_last);
	session_buffers = msgbuf_pool_new(1 << 20, 4 << 20);
	join(3);
}

static void begin(void)
{
	log_set_level(LOG_LEVEL_ERROR);
	loop_init();
	folder = script_folder();
	process = (struct process){ .body_fd = -1 };
}

static void finish(void)
{
	chan_free(process.chan);
	links_free(links);
	pool_free(pools[0]);
	msgbuf_pool_free(shared.bodies);
	msgbuf_pool_free(session_buffers);
	arena_fini(&shared.scratch);
	buf_fini(&shared.edits);
	script_free(milter);
	script_conf_fini(&milter_conf);
	buf_fini(&process.heard);
	arena_fini(&process.arena);
	if (process.body_fd >= 0)
		close(process.body_fd);
	loop_fini();
	script_folder_remove(folder);
}

TestSuite(link, .init = begin, .fini = finish, .timeout = 60);

static bool has_heard(void *ctx)
{
	return strstr(heard(), ctx) != NULL;
}

static void wait_for(const char *what)
{
	cr_assert(script_until(has_heard, (void *)(uintptr_t)what, WAIT_MS), "heard \"%s\"", heard());
}

static void send_open(uint64_t session, uint32_t number)
{
	const struct ipc_open open = { .listener = number };

	ipc_open_put(chan_begin(process.chan, IPC_OPEN, session), &open);
	chan_end(process.chan);
}

static void send_buffer(enum ipc_type type, uint32_t id, uint32_t generation, int fd)
{
	const struct ipc_buffer buffer = { .id = id, .generation = generation };
	struct buf data = { 0 };

	ipc_buffer_put(&data, &buffer);
	chan_send(process.chan, (uint16_t)type, 0, buf_head(&data), buf_len(&data), fd);
	buf_fini(&data);
}

static void send_event(uint32_t number, enum ipc_event_kind kind, bool wanted, const struct msgbuf *content)
{
	const char *arg[4] = { "<a@b>", "4", "2525", "192.0.2.1" };
	const struct ipc_event event = {
		.number = number, .kind = (uint8_t)kind, .flags = wanted ? IPC_EVENT_WANTED : 0, .arg = arg,
		.arg_count = kind == IPC_CONNECT ? 4 : kind == IPC_DATA || kind == IPC_EOM ? 0 : 1,
		.content = { content ? content->id : 9, content ? content->generation : 9,
			     content ? content->len : 1, content ? content->len : 1 },
	};

	ipc_event_put(chan_begin(process.chan, IPC_EVENT, SESSION), &event);
	chan_end(process.chan);
}

/* A whole message in one batch. The buffer that carries it, still the caller's. */
static struct msgbuf *send_message(void)
{
	struct msgbuf *content = msgbuf_get(session_buffers);

	cr_assert_eq(msgbuf_append(session_buffers, content, MESSAGE, strlen(MESSAGE)), 0);
	send_open(SESSION, 0);
	for (uint32_t kind = IPC_CONNECT; kind <= IPC_DATA; kind++)
		send_event(kind + 1, (enum ipc_event_kind)kind, false, NULL);
	send_buffer(IPC_BUFFER, content->id, content->generation, msgbuf_lend(session_buffers, content, 0));
	send_event(IPC_EOM + 1, IPC_EOM, true, content);
	return content;
}

Test(link, whatever_is_illegal_closes_the_channel_and_leaves_nothing_behind)
{
	static const struct {
		enum { TYPE, OPEN_TWICE, NO_LISTENER, NO_SESSION, ZERO_SESSION, NOT_LENT, STRAY_RELEASE, NO_MEMFD, STRAY_DROP,
		       TRAILING } what;
	} rows[] = { { TYPE }, { OPEN_TWICE }, { NO_LISTENER }, { NO_SESSION }, { ZERO_SESSION }, { NOT_LENT },
		     { STRAY_RELEASE }, { NO_MEMFD }, { STRAY_DROP }, { TRAILING } };
	static const struct script plain = { 0 };

	start(&plain);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		switch (rows[i].what) {
		case TYPE:
			chan_send(process.chan, IPC_VERDICT, SESSION, "", 0, -1);
			break;
		case OPEN_TWICE:
			send_open(SESSION, 0);
			send_open(SESSION, 0);
			break;
		case NO_LISTENER:
			send_open(SESSION, 1);
			break;
		case NO_SESSION:
			chan_send(process.chan, IPC_CLOSE, SESSION, "", 0, -1);
			break;
		case ZERO_SESSION:
			send_open(0, 0);
			break;
		case NOT_LENT:
			send_open(SESSION, 0);
			for (uint32_t kind = IPC_CONNECT; kind <= IPC_DATA; kind++)
				send_event(kind + 1, (enum ipc_event_kind)kind, false, NULL);
			send_event(IPC_EOM + 1, IPC_EOM, true, NULL);
			break;
		case STRAY_RELEASE:
			send_buffer(IPC_RELEASE, 1, 1, -1);
			break;
		case NO_MEMFD:
			send_buffer(IPC_BUFFER, 1, 1, STDERR_FILENO);
			break;
		case STRAY_DROP:
			send_buffer(IPC_BUFFER_DROP, 1, 1, -1);
			break;
		case TRAILING:
			send_open(SESSION, 0);
			chan_send(process.chan, IPC_ABORT, SESSION, "x", 1, -1);
			break;
		}
		wait_for("closed");
		cr_expect_eq(links_count(links), 0, "row %zu", i);
		cr_expect_eq(last_closed, i + 1);
		chan_free(process.chan);
		buf_clear(&process.heard);
		join(3);
	}
}

Test(link, the_end_is_announced_before_it_is_begun_and_the_buffer_given_back_after_the_verdict)
{
	static const struct script replaces = { .version = 6, .actions = 0x1ff, .rule = {
		SAYS('E', "\0\0\0\4bnew\0\0\0\1c") } };
	struct msgbuf *content;
	char expected[120];

	start(&replaces);
	content = send_message();
	wait_for("release");
	snprintf(expected, sizeof(expected), "eom:0 buffer:%u/%u verdict:accept release:%u/%u", 1u, 1u, content->id,
		 content->generation);
	cr_expect_str_eq(heard(), expected);
	cr_expect_str_eq(script_told(milter, 1), "O C(<a@b>) H(<a@b>) M(<a@b>) R(<a@b>) T L(Subject) N B(6) E");
	cr_expect_eq(worked, 1);
	cr_expect_eq(msgbuf_released(session_buffers, 0, content->id, content->generation), 0);
	/* The replaced body is ours until we give it back. */
	send_buffer(IPC_RELEASE, 1, 1, -1);
	chan_send(process.chan, IPC_CLOSE, SESSION, "", 0, -1);
	msgbuf_put(session_buffers, content);
	send_open(SESSION, 0);
	send_event(1, IPC_CONNECT, true, NULL);
	buf_clear(&process.heard);
	wait_for("verdict:continue");
}

static bool is_gone(void *ctx)
{
	(void)ctx;
	return links_count(links) == 0;
}

static bool knows_the_end(void *ctx)
{
	(void)ctx;
	return strchr(script_told(milter, 1), 'E') != NULL;
}

static bool has_hung_up(void *ctx)
{
	(void)ctx;
	return strchr(script_told(milter, 1), '.') != NULL;
}

Test(link, a_dead_session_process_takes_its_sessions_with_it)
{
	static const struct script silent = { .rule = { { .command = 'E' } } };
	struct msgbuf *content;

	start(&silent);
	content = send_message();
	cr_assert(script_until(knows_the_end, NULL, WAIT_MS));
	chan_free(process.chan);
	process.chan = NULL;
	cr_assert(script_until(is_gone, NULL, WAIT_MS));
	cr_assert(script_until(has_hung_up, NULL, WAIT_MS));
	cr_expect_eq(pool_counts(pools[0]).taken, 0);
	msgbuf_peer_gone(session_buffers, 0);
	msgbuf_put(session_buffers, content);
}

Test(link, a_new_process_in_a_slot_replaces_the_old_one)
{
	static const struct script plain = { 0 };
	struct chan *old;

	start(&plain);
	send_open(SESSION, 0);
	send_event(1, IPC_CONNECT, true, NULL);
	wait_for("verdict:continue");
	old = process.chan;
	join(3);
	cr_expect_eq(links_count(links), 1);
	buf_clear(&process.heard);
	/* The same session id is another session. */
	send_open(SESSION, 0);
	send_event(1, IPC_CONNECT, true, NULL);
	wait_for("verdict:continue");
	cr_expect_eq(last_closed, 0);
	chan_free(old);
}
