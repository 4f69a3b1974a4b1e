#include "config.h"

#include "common/chan.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/wire.h"

/* A record: u32 length of the data, u16 type, u16 number of descriptors (0 or 1), u64 session, data. */
#define HEAD_SIZE    16u
#define FDS_PER_CALL 28u	/* descriptors of one sendmsg() */
#define FDS_WAITING  (4 * FDS_PER_CALL)
#define READ_SIZE    (64u * 1024)
#define READS_A_TURN 4

/* A descriptor on its way out, due with the byte of the stream that begins its record. */
struct passed_fd {
	int fd;
	uint64_t at;
};

struct chan {
	struct io io;
	struct deferred later;		/* flush, or tell of the end, at the end of the turn */
	chan_record_fn *on_record;
	chan_close_fn *on_close;
	void *ctx;

	struct buf in;
	int in_fd[FDS_WAITING];		/* came, not yet claimed by a record */
	size_t in_fd_count;

	struct buf out;
	uint64_t out_start;		/* position in the stream of the first byte of out */
	struct passed_fd *out_fd;
	size_t out_fd_count, out_fd_room;
	size_t begun;			/* length of out before the record of chan_begin() */
	bool building;

	const char *ended;		/* why, once the channel is at its end; on_close comes or has come */
	bool told;
	bool deaf;			/* the peer does not take any more; what it has sent may still be read */
	bool busy, freed;		/* inside a callback; chan_free() was called there */
};

static void on_later(struct deferred *);
static void on_ready(struct io *, int events);

static void drop_output(struct chan *c)
{
	for (size_t i = 0; i < c->out_fd_count; i++)
		fd_close(&c->out_fd[i].fd);
	c->out_fd_count = 0;
	buf_clear(&c->out);
}

struct chan *chan_new(int fd, chan_record_fn *on_record, chan_close_fn *on_close, void *ctx)
{
	struct chan *c = mem_alloc(sizeof(*c));

	c->on_record = on_record;
	c->on_close = on_close;
	c->ctx = ctx;
	fd_set_nonblocking(fd);
	fd_set_cloexec(fd);
	deferred_init(&c->later, on_later, c);
	io_init(&c->io, fd, on_ready, c);
	io_want(&c->io, IO_READ);
	return c;
}

/* Everything but the memory of the struct. */
static void shut(struct chan *c)
{
	int fd = c->io.fd;

	if (c->io.handle) {
		io_fini(&c->io);
		fd_close(&fd);
	}
	deferred_cancel(&c->later);
	drop_output(c);
	for (size_t i = 0; i < c->in_fd_count; i++)
		fd_close(&c->in_fd[i]);
	c->in_fd_count = 0;
}

void chan_free(struct chan *c)
{
	if (!c)
		return;
	shut(c);
	if (c->busy) {
		c->freed = true;
		return;
	}
	buf_fini(&c->in);
	buf_fini(&c->out);
	free(c->out_fd);
	free(c);
}

/* Leave a callback. True when the channel was freed in it. */
static bool leave(struct chan *c)
{
	c->busy = false;
	if (!c->freed)
		return false;
	chan_free(c);
	return true;
}

static void end(struct chan *c, const char *why)
{
	if (c->ended)
		return;
	c->ended = why;
	io_want(&c->io, 0);
	drop_output(c);
	deferred_run(&c->later);
}

static void on_later(struct deferred *d)
{
	struct chan *c = d->ctx;

	if (!c->ended) {
		chan_flush(c);
		return;
	}
	if (c->told)
		return;
	c->told = true;
	c->busy = true;
	c->on_close(c, c->ctx, c->ended);
	leave(c);
}

/* Room in the message's control part for the descriptors due now; len is cut before a record whose turn is later. */
static size_t fds_due(const struct chan *c, size_t *len)
{
	size_t count = 0;

	while (count < c->out_fd_count && count < FDS_PER_CALL)
		count++;
	if (count < c->out_fd_count) {
		uint64_t until = c->out_fd[count].at - c->out_start;

		if (until < *len)
			*len = (size_t)until;
	}
	return count;
}

static ssize_t send_some(struct chan *c, size_t *fds)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(FDS_PER_CALL * sizeof(int))];
	} control;
	size_t len = buf_len(&c->out);
	struct iovec bytes = { .iov_base = buf_head(&c->out) };
	struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1 };

	*fds = fds_due(c, &len);
	bytes.iov_len = len;
	if (*fds) {
		int fd[FDS_PER_CALL];

		for (size_t i = 0; i < *fds; i++)
			fd[i] = c->out_fd[i].fd;
		memset(&control, 0, sizeof(control));
		message.msg_control = control.space;
		message.msg_controllen = CMSG_SPACE(*fds * sizeof(int));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(*fds * sizeof(int));
		memcpy(CMSG_DATA(&control.head), fd, *fds * sizeof(int));
	}
	return sendmsg(c->io.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Descriptors go with the first byte that is written, so they are gone even after a short write. */
static void sent(struct chan *c, size_t len, size_t fds)
{
	for (size_t i = 0; i < fds; i++)
		fd_close(&c->out_fd[i].fd);
	c->out_fd_count -= fds;
	if (fds)
		memmove(c->out_fd, c->out_fd + fds, c->out_fd_count * sizeof(*c->out_fd));
	buf_consume(&c->out, len);
	c->out_start += len;
}

void chan_flush(struct chan *c)
{
	while (!c->ended && !c->freed && buf_len(&c->out)) {
		size_t fds;
		ssize_t n = send_some(c, &fds);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS)) {
			if (buf_len(&c->out) > CHAN_QUEUE_MAX)
				end(c, "the peer does not read");
			else
				io_want(&c->io, IO_READ | IO_WRITE);
			return;
		}
		if (n < 0) {
			/* What it sent before it died is still to be read; then comes the end of file. */
			c->deaf = true;
			drop_output(c);
			break;
		}
		sent(c, (size_t)n, fds);
	}
	if (!c->ended && !c->freed)
		io_want(&c->io, IO_READ);
	buf_shrink(&c->out, READ_SIZE);
}

struct buf *chan_begin(struct chan *c, uint16_t type, uint64_t session)
{
	assert(!c->building);
	c->building = true;
	c->begun = buf_len(&c->out);
	wire_put_u32(&c->out, 0);
	wire_put_u16(&c->out, type);
	wire_put_u16(&c->out, 0);
	wire_put_u64(&c->out, session);
	return &c->out;
}

void chan_end(struct chan *c)
{
	assert(c->building);
	c->building = false;
	/* It may have ended while the record was made, and with it the record. */
	if (c->ended || c->deaf || c->freed) {
		drop_output(c);
		return;
	}
	size_t len = buf_len(&c->out) - c->begun - HEAD_SIZE;

	assert(len <= CHAN_RECORD_MAX);
	wire_set_u32(&c->out, c->begun, (uint32_t)len);
	deferred_run(&c->later);
}

static void attach(struct chan *c, int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0) {
		end(c, "no descriptor left");
		return;
	}
	if (c->out_fd_count == c->out_fd_room) {
		c->out_fd_room = c->out_fd_room ? c->out_fd_room * 2 : 8;
		c->out_fd = mem_realloc(c->out_fd, c->out_fd_room * sizeof(*c->out_fd));
	}
	c->out_fd[c->out_fd_count++] = (struct passed_fd){ .fd = copy, .at = c->out_start + c->begun };
}

void chan_send(struct chan *c, uint16_t type, uint64_t session, const void *data, size_t len, int fd)
{
	struct buf *out = chan_begin(c, type, session);

	buf_append(out, data, len);
	if (fd >= 0 && !c->ended && !c->deaf && !c->freed) {
		buf_head(out)[c->begun + 7] = 1;
		attach(c, fd);
	}
	chan_end(c);
}

size_t chan_pending(const struct chan *c)
{
	return buf_len(&c->out);
}

static int take_fds(struct chan *c, struct msghdr *message)
{
	int result = 0;

	for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
		if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
			if (c->in_fd_count < FDS_WAITING) {
				c->in_fd[c->in_fd_count++] = fd;
			} else {
				fd_close(&fd);
				result = -1;
			}
		}
	}
	return message->msg_flags & MSG_CTRUNC ? -1 : result;
}

/* One read. 1: there may be more; 0: not now; -1: this is the end, and why. */
static int receive(struct chan *c, const char **why)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(FDS_WAITING * sizeof(int))];
	} control;
	struct iovec bytes = { .iov_base = buf_reserve(&c->in, READ_SIZE), .iov_len = READ_SIZE };
	struct msghdr message = {
		.msg_iov = &bytes, .msg_iovlen = 1,
		.msg_control = control.space, .msg_controllen = sizeof(control.space),
	};
	ssize_t n = recvmsg(c->io.fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0 && errno == EINTR)
		return 1;
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0) {
		*why = buf_len(&c->in) ? "broken off" : "closed";
		return -1;
	}
	buf_commit(&c->in, (size_t)n);
	if (take_fds(c, &message) < 0) {
		*why = "stray descriptors";
		return -1;
	}
	return (size_t)n == READ_SIZE;
}

/* The record at the start of the input: 1, 0 for not yet, -1 for none. */
static int next_record(struct chan *c, struct chan_record *record, unsigned *fds)
{
	struct wire w;

	if (buf_len(&c->in) < HEAD_SIZE)
		return 0;
	wire_init(&w, buf_head(&c->in), buf_len(&c->in));
	record->len = wire_u32(&w);
	record->type = wire_u16(&w);
	*fds = wire_u16(&w);
	record->session = wire_u64(&w);
	if (record->len > CHAN_RECORD_MAX || *fds > 1 || (*fds && !c->in_fd_count))
		return -1;
	if (wire_left(&w) < record->len)
		return 0;
	record->data = wire_bytes(&w, record->len);
	record->fd = -1;
	if (*fds) {
		record->fd = c->in_fd[0];
		c->in_fd_count--;
		memmove(c->in_fd, c->in_fd + 1, c->in_fd_count * sizeof(*c->in_fd));
	}
	return 1;
}

/* False when the channel was freed meanwhile. */
static bool take_records(struct chan *c)
{
	struct chan_record record;
	unsigned fds;
	int got;

	while (!c->ended && (got = next_record(c, &record, &fds)) != 0) {
		if (got < 0) {
			end(c, "malformed record");
			break;
		}
		c->busy = true;
		int result = c->on_record(c, c->ctx, &record);

		fd_close(&record.fd);
		if (leave(c))
			return false;
		buf_consume(&c->in, HEAD_SIZE + record.len);
		if (result < 0)
			end(c, "illegal record");
	}
	return true;
}

static void on_ready(struct io *io, int events)
{
	struct chan *c = io->ctx;

	if (events & IO_WRITE)
		chan_flush(c);
	if (!(events & IO_READ))
		return;
	for (int i = 0, more = 1; i < READS_A_TURN && more > 0 && !c->ended; i++) {
		const char *why = NULL;

		more = receive(c, &why);
		if (!take_records(c))
			return;
		if (more < 0)
			end(c, why);
	}
	buf_shrink(&c->in, READ_SIZE);
}
