#include "config.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/chan.h"
#include "common/loop.h"
#include "common/wire.h"

#define DEADLINE_MS 5000

/* One end of a channel and what it has seen. */
struct end {
	struct chan *chan;
	unsigned records, fds, refuse_type;
	uint64_t bytes;
	uint64_t last_session;
	char last[64];
	char why[64];
	unsigned closes;
	unsigned stop_at;	/* records */
	bool free_in_record, echo;
};

static struct timer deadline;

static int on_record(struct chan *c, void *ctx, struct chan_record *r)
{
	struct end *e = ctx;

	e->records++;
	e->bytes += r->len;
	e->last_session = r->session;
	if (r->fd >= 0) {
		e->fds++;
		cr_assert_eq(fcntl(r->fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	}
	snprintf(e->last, sizeof(e->last), "%.*s", (int)(r->len > 60 ? 60 : r->len), (const char *)r->data);
	if (e->echo)
		chan_send(c, r->type, r->session, r->data, r->len, -1);
	if (e->free_in_record) {
		chan_free(c);
		e->chan = NULL;
		loop_stop();
	}
	if (e->stop_at && e->records >= e->stop_at)
		loop_stop();
	return r->type == e->refuse_type && e->refuse_type ? -1 : 0;
}

static void on_close(struct chan *c, void *ctx, const char *why)
{
	struct end *e = ctx;

	e->closes++;
	snprintf(e->why, sizeof(e->why), "%s", why);
	chan_free(c);
	e->chan = NULL;
	loop_stop();
}

static void on_deadline(struct timer *t)
{
	(void)t;
	loop_stop();
}

static void run(void)
{
	timer_init(&deadline, on_deadline, NULL);
	timer_set(&deadline, DEADLINE_MS);
	loop_run();
	cr_assert(timer_active(&deadline), "nothing happened in time");
	timer_fini(&deadline);
}

/* A channel and the raw socket at its other end. */
static int raw_peer(struct end *e)
{
	int pair[2];

	loop_init();
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	e->chan = chan_new(pair[0], on_record, on_close, e);
	return pair[1];
}

static void both(struct end *a, struct end *b)
{
	int pair[2];

	loop_init();
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	a->chan = chan_new(pair[0], on_record, on_close, a);
	b->chan = chan_new(pair[1], on_record, on_close, b);
}

static void finish(struct end *a, struct end *b)
{
	chan_free(a->chan);
	if (b)
		chan_free(b->chan);
	loop_fini();
}

Test(chan, malformed_heads_close_the_channel)
{
	static const struct {
		uint32_t len;
		uint16_t type, fds;
	} bad[] = { { CHAN_RECORD_MAX + 1, 1, 0 }, { 0xffffffff, 1, 0 }, { 0, 1, 2 }, { 0, 1, 0xffff }, { 0, 1, 1 } };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct end e = { 0 };
		struct buf b = { 0 };
		int fd = raw_peer(&e);

		wire_put_u32(&b, bad[i].len);
		wire_put_u16(&b, bad[i].type);
		wire_put_u16(&b, bad[i].fds);
		wire_put_u64(&b, 1);
		cr_assert_eq(write(fd, buf_head(&b), buf_len(&b)), (ssize_t)buf_len(&b));
		run();
		cr_expect_eq(e.closes, 1, "case %zu", i);
		cr_expect_str_eq(e.why, "malformed record");
		cr_expect_eq(e.records, 0);
		buf_fini(&b);
		close(fd);
		finish(&e, NULL);
	}
}

Test(chan, a_record_cut_short_by_death_is_not_delivered)
{
	struct end e = { 0 };
	struct buf b = { 0 };
	int fd = raw_peer(&e);

	wire_put_u32(&b, 10);
	wire_put_u32(&b, 1 << 16);
	wire_put_u64(&b, 1);
	buf_puts(&b, "half");
	cr_assert_eq(write(fd, buf_head(&b), buf_len(&b)), (ssize_t)buf_len(&b));
	close(fd);
	run();
	cr_assert_eq(e.records, 0);
	cr_assert_str_eq(e.why, "broken off");
	buf_fini(&b);
	finish(&e, NULL);
}

Test(chan, an_illegal_record_closes_once_and_what_follows_is_not_seen)
{
	struct end a = { 0 }, b = { .refuse_type = 7 };

	both(&a, &b);
	chan_send(a.chan, 7, 1, "x", 1, -1);
	chan_send(a.chan, 8, 1, "y", 1, -1);
	run();
	cr_assert_eq(b.records, 1);
	cr_assert_eq(b.closes, 1);
	cr_assert_str_eq(b.why, "illegal record");
	finish(&a, &b);
}

Test(chan, records_sent_before_death_are_all_delivered_before_the_end)
{
	struct end a = { 0 }, b = { 0 };

	both(&a, &b);
	for (int i = 0; i < 1000; i++)
		chan_send(a.chan, 1, (uint64_t)i, "data", 4, -1);
	chan_flush(a.chan);
	chan_free(a.chan);
	a.chan = NULL;
	run();
	cr_assert_eq(b.records, 1000);
	cr_assert_eq(b.closes, 1);
	cr_assert_str_eq(b.why, "closed");
	finish(&a, &b);
}

Test(chan, a_channel_may_be_freed_inside_its_own_record)
{
	struct end a = { 0 }, b = { .free_in_record = true };

	both(&a, &b);
	chan_send(a.chan, 1, 1, "x", 1, -1);
	chan_send(a.chan, 1, 2, "y", 1, -1);
	run();
	cr_assert_eq(b.records, 1);
	cr_assert_eq(b.closes, 0);
	finish(&a, &b);
}

Test(chan, a_peer_that_never_reads_is_given_up_at_the_queue_limit)
{
	struct end a = { 0 };
	static char data[1024 * 1024];
	int fd = raw_peer(&a);

	for (size_t n = 0; n <= CHAN_QUEUE_MAX; n += sizeof(data))
		chan_send(a.chan, 1, 1, data, sizeof(data), -1);
	run();
	cr_assert_eq(a.closes, 1);
	cr_assert_str_eq(a.why, "the peer does not read");
	close(fd);
	finish(&a, NULL);
}

Test(chan, both_sides_may_send_more_than_the_socket_holds_at_the_same_time)
{
	struct end a = { .stop_at = 200 }, b = { .echo = true };
	static char data[100 * 1024];

	both(&a, &b);
	for (int i = 0; i < 200; i++)
		chan_send(a.chan, 1, 1, data, sizeof(data), -1);
	run();
	cr_assert_eq(a.bytes, 200 * sizeof(data));
	finish(&a, &b);
}

Test(chan, hundreds_of_descriptors_arrive_with_their_records)
{
	struct end a = { 0 }, b = { .stop_at = 600 };
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	both(&a, &b);
	for (int i = 0; i < 300; i++) {
		chan_send(a.chan, 1, (uint64_t)i, "with", 4, null);
		chan_send(a.chan, 1, (uint64_t)i, "none", 4, -1);
	}
	run();
	cr_assert_eq(b.fds, 300);
	cr_assert_str_eq(b.last, "none");
	cr_assert_eq(b.last_session, 299);
	close(null);
	finish(&a, &b);
}

Test(chan, a_peer_that_dies_with_unread_records_is_noticed_after_its_last_words)
{
	struct end a = { 0 };
	int fd = raw_peer(&a);
	struct chan *peer = chan_new(dup(fd), on_record, on_close, &a);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	/* Each descriptor ends a read, so that one read does not get everything. */
	for (int i = 0; i < 3 * 28; i++)
		chan_send(peer, 1, 1, "last", 4, null);
	chan_flush(peer);
	chan_send(a.chan, 1, 1, "never read", 10, -1);
	chan_flush(a.chan);
	chan_free(peer);
	close(fd);
	run();
	cr_expect_eq(a.closes, 1);
	cr_expect_eq(a.records, 3 * 28);
	close(null);
	finish(&a, NULL);
}

Test(chan, a_process_without_descriptors_left_loses_the_channel_and_not_its_life)
{
	struct end a = { 0 };
	int fd = raw_peer(&a);
	struct rlimit limit, few;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = (struct rlimit){ .rlim_cur = 1, .rlim_max = limit.rlim_max };
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	chan_send(a.chan, 1, 1, "x", 1, fd);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	chan_send(a.chan, 1, 1, "y", 1, fd);
	run();
	cr_expect_eq(a.closes, 1);
	cr_expect_str_eq(a.why, "no descriptor left");
	close(fd);
	finish(&a, NULL);
}
