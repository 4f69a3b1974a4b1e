#include "config.h"

#include "worker/outbox.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define KEEP_BYTES (16u * 1024)	/* of the buffer when it is empty */

void outbox_refer(struct outbox *o, const uint8_t *data, size_t len)
{
	assert(outbox_has_room(o) && len > 0);
	o->piece[(o->first + o->count++) % OUTBOX_PIECES] = (struct outbox_piece){
		.after = o->bytes_sent + buf_len(&o->bytes),
		.data = data,
		.len = len,
	};
	o->piece_bytes += len;
}

/* Bytes of the buffer that go out before the piece, or all of them after the last one. */
static size_t bytes_before(const struct outbox *o, unsigned piece, size_t done)
{
	if (piece == o->count)
		return buf_len(&o->bytes) - done;
	return (size_t)(o->piece[(o->first + piece) % OUTBOX_PIECES].after - o->bytes_sent) - done;
}

static size_t gather(const struct outbox *o, struct iovec *iov)
{
	size_t count = 0, done = 0;

	for (unsigned i = 0; i <= o->count; i++) {
		size_t before = bytes_before(o, i, done);

		if (before) {
			iov[count++] = (struct iovec){ .iov_base = buf_head(&o->bytes) + done, .iov_len = before };
			done += before;
		}
		if (i < o->count) {
			const struct outbox_piece *piece = &o->piece[(o->first + i) % OUTBOX_PIECES];

			iov[count++] = (struct iovec){ .iov_base = (void *)(uintptr_t)piece->data,
				.iov_len = piece->len };
		}
	}
	return count;
}

static void consume(struct outbox *o, size_t len)
{
	while (len) {
		size_t n = bytes_before(o, 0, 0);

		if (n) {
			n = n < len ? n : len;
			buf_consume(&o->bytes, n);
			o->bytes_sent += n;
		} else {
			struct outbox_piece *piece = &o->piece[o->first];

			n = piece->len < len ? piece->len : len;
			piece->data += n;
			piece->len -= n;
			o->piece_bytes -= n;
			if (!piece->len) {
				o->first = (o->first + 1) % OUTBOX_PIECES;
				o->count--;
			}
		}
		len -= n;
	}
}

int outbox_flush(struct outbox *o, int fd, size_t *written)
{
	*written = 0;
	while (outbox_pending(o)) {
		struct iovec iov[2 * OUTBOX_PIECES + 1];
		struct msghdr message = { .msg_iov = iov, .msg_iovlen = gather(o, iov) };
		ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		*written += (size_t)n;
		consume(o, (size_t)n);
	}
	buf_shrink(&o->bytes, KEEP_BYTES);
	return 1;
}

void outbox_clear(struct outbox *o)
{
	o->bytes_sent += buf_len(&o->bytes);
	buf_clear(&o->bytes);
	o->first = o->count = 0;
	o->piece_bytes = 0;
}

void outbox_fini(struct outbox *o)
{
	outbox_clear(o);
	buf_fini(&o->bytes);
}
