#include "config.h"

#include "session/smtp_content.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/log.h"
#include "common/smtp_reply.h"

#define READ_MIN	   4096u	/* room that makes a read worth it */
#define READS_A_TURN	   8
#define HEADER_FIELDS_MAX  2000u
#define HEADER_LENGTH_MAX  (256u * 1024)
#define HEADER_ROOM	   (HEADER_LENGTH_MAX + HEADER_FIELD_MAX + 2)	/* and what shows that it is too long */
#define RECEIVED_MAX	   100u
#define DISCARD_MAX(limit) ((uint64_t)(limit) + (uint64_t)(limit) / 2)

bool smtp_content_begin(struct smtp_session *s)
{
	s->tx.content = msgbuf_get(dispatch_content());
	smtp_data_init(&s->tx.data);
	return s->tx.content;
}

static bool too_big(const struct smtp_session *s)
{
	return s->tx.content->len > (uint64_t)s->listener->max_message_size;
}

/* Others can use the memory and the spool folder while the rest is read. */
static void give_up(struct smtp_session *s, int error)
{
	if (error != EMSGSIZE)
		log_write(LOG_LEVEL_WARNING, s->id, "%s event=no-space bytes=%zu cause=\"%s\"", s->tx.queue_id,
			  s->tx.content->len, error == ENOMEM ? "buffer-memory is used up" : strerror(error));
	s->tx.failure = error;
	msgbuf_put(dispatch_content(), s->tx.content);
	s->tx.content = NULL;
}

/* What cannot be kept is read and thrown away: the reply comes after the end, where the client looks for it. */
static ssize_t read_away(struct smtp_session *s, bool *end, size_t *rest, const uint8_t **at)
{
	static uint8_t scrap[1 + 64 * 1024];
	uint8_t *kept_at;
	size_t kept;
	ssize_t n = recv(s->io.fd, scrap + 1, sizeof(scrap) - 1, MSG_DONTWAIT);

	if (n > 0) {
		*end = smtp_data_take(&s->tx.data, scrap + 1, (size_t)n, &kept_at, &kept, rest);
		*at = scrap + 1 + (size_t)n - *rest;
	}
	return n;
}

static ssize_t read_in(struct smtp_session *s, bool *end, size_t *rest, const uint8_t **at)
{
	size_t held = smtp_data_held(&s->tx.data), room, kept;
	uint8_t *to = msgbuf_reserve(dispatch_content(), s->tx.content, READ_MIN, &room), *kept_at;
	ssize_t n;

	if (!to) {
		give_up(s, errno);
		return read_away(s, end, rest, at);
	}
	n = recv(s->io.fd, to + held, room - held, MSG_DONTWAIT);
	if (n > 0) {
		*end = smtp_data_take(&s->tx.data, to + held, (size_t)n, &kept_at, &kept, rest);
		*at = to + held + (size_t)n - *rest;
		if (msgbuf_commit(dispatch_content(), s->tx.content, kept) < 0)
			give_up(s, errno);
	}
	return n;
}

bool smtp_content_read(struct smtp_session *s)
{
	for (int i = 0; i < READS_A_TURN; i++) {
		const uint8_t *at = NULL;
		bool end = false;
		size_t rest = 0;
		ssize_t n = s->tx.failure ? read_away(s, &end, &rest, &at) : read_in(s, &end, &rest, &at);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		if (n <= 0) {
			smtp_session_end(s);
			return false;
		}
		s->tx.size += (size_t)n - rest;
		buf_append(&s->in, at, rest);
		if (!s->tx.failure && too_big(s))
			give_up(s, EMSGSIZE);
		if (end)
			return true;
		if (s->tx.size > DISCARD_MAX(s->listener->max_message_size)) {
			smtp_session_say(s, 421, "4.3.4", "Message far too big, closing connection");
			smtp_tx_reset(s, true);
			smtp_session_close(s);
			return false;
		}
		smtp_session_expect(s, s->listener->timeout_data);
	}
	return false;
}

/* Where the header block is, and *len bytes in a row, no fewer than a legal one has. NULL: it cannot be read. */
static const uint8_t *beginning(struct smtp_session *s, size_t *len)
{
	struct spooled content;
	uint8_t *copy;

	msgbuf_read(s->tx.content, &content);
	*len = content.memory;
	if (content.memory == content.len || content.memory >= HEADER_ROOM ||
	    memmem(content.data, content.memory, "\r\n\r\n", 4))
		return content.data;
	*len = content.len < HEADER_ROOM ? content.len : HEADER_ROOM;
	copy = arena_alloc(&s->tx_arena, *len);
	return spooled_read(&content, 0, copy, *len) < 0 ? NULL : copy;
}

const char *smtp_content_refusal(struct smtp_session *s)
{
	struct header_block *block = &s->tx.header;
	struct arena *a = &s->tx_arena;
	const char *why;
	size_t len;

	if (s->tx.failure == EMSGSIZE)
		return smtp_reply_make(a, 552, "5.3.4", "Message size exceeds limit");
	if (s->tx.failure)
		return smtp_reply_make(a, 452, "4.3.1", "Insufficient system storage, try again later");
	if (s->tx.data.bare)
		return smtp_reply_make(a, 550, "5.5.2", "Message has a bare carriage return or line feed");
	if (s->tx.data.nul)
		return smtp_reply_make(a, 554, "5.6.0", "Message has a NUL byte");
	if (s->tx.data.long_line)
		return smtp_reply_make(a, 554, "5.6.0", "Message has a line that is too long");
	s->tx.header_bytes = beginning(s, &len);
	if (!s->tx.header_bytes)
		return smtp_reply_make(a, 451, "4.3.0", "Internal error, try again later");
	if (header_parse(a, s->tx.header_bytes, len, HEADER_FIELDS_MAX, HEADER_LENGTH_MAX, block, &why) < 0)
		return smtp_reply_make(a, 554, "5.6.0", why);
	if (header_count(block, s->tx.header_bytes, "Received") > RECEIVED_MAX)
		return smtp_reply_make(a, 554, "5.4.6", "Too many hops, this message is going in circles");
	return NULL;
}
