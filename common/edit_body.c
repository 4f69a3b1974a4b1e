#include "config.h"

#include "common/edit_body.h"

#include <assert.h>
#include <string.h>

/* What one chunk is appended with: the first failure ends it. */
struct writer {
	struct msgbuf_pool *pool;
	struct msgbuf *buffer;
	size_t limit;
	const char *why;	/* NULL: good so far */
};

static void put(struct writer *w, const void *data, size_t len)
{
	if (w->why || !len)
		return;
	if (len > w->limit - w->buffer->len)
		w->why = "the new body is too long";
	else if (msgbuf_append(w->pool, w->buffer, data, len) < 0)
		w->why = "no memory for the new body";
}

/* One line, or the part of one that a chunk ends with: its CRs become spaces, but for the one of a CRLF. */
static void put_line(struct writer *w, const uint8_t *line, const uint8_t *end, bool has_lf)
{
	const uint8_t *content_end = has_lf ? end - 1 : end;
	bool has_crlf = has_lf && content_end > line && content_end[-1] == '\r';

	if (has_crlf)
		content_end--;
	while (!w->why) {
		const uint8_t *cr = memchr(line, '\r', (size_t)(content_end - line));

		if (!cr)
			break;
		put(w, line, (size_t)(cr - line));
		put(w, " ", 1);
		line = cr + 1;
	}
	if (has_lf && !has_crlf) {
		put(w, line, (size_t)(content_end - line));
		put(w, "\r\n", 2);
	} else {
		put(w, line, (size_t)(end - line));
	}
}

/* Bytes that finishing adds: a CR as the very last byte is half a line end, not a lone CR. */
static size_t end_length(const struct edit_body *body)
{
	const struct msgbuf *buffer = body->buffer;

	return body->held_cr || (buffer->len && buffer->data[buffer->len - 1] != '\n') ? 2 : 0;
}

/* Make sure now that finishing cannot fail. */
static void reserve_end(struct writer *w, const struct edit_body *body)
{
	size_t room;

	if (w->why)
		return;
	if (end_length(body) > w->limit - w->buffer->len)
		w->why = "the new body is too long";
	else if (!msgbuf_reserve(w->pool, w->buffer, end_length(body), &room))
		w->why = "no memory for the new body";
}

int edit_body_add(struct edit_body *body, struct msgbuf_pool *pool, size_t limit, const uint8_t *data, size_t len,
	const char **why)
{
	const uint8_t *at = data, *end = data + len;
	if (!body->buffer && !(body->buffer = msgbuf_get(pool))) {
		*why = "no memory for the new body";
		return -1;
	}
	struct writer w = { pool, body->buffer, limit, NULL };

	if (!len)
		return 0;
	if (memchr(data, '\0', len)) {
		*why = "NUL in the new body";
		return -1;
	}
	if (body->held_cr && *at == '\n') {
		put(&w, "\r\n", 2);
		at++;
	} else if (body->held_cr) {
		put(&w, " ", 1);
	}
	body->held_cr = at < end && end[-1] == '\r';
	end -= body->held_cr;
	while (at < end && !w.why) {
		const uint8_t *lf = memchr(at, '\n', (size_t)(end - at)), *next = lf ? lf + 1 : end;

		put_line(&w, at, next, lf != NULL);
		at = next;
	}
	reserve_end(&w, body);
	*why = w.why;
	return w.why ? -1 : 0;
}

struct msgbuf *edit_body_finish(struct edit_body *body, struct msgbuf_pool *pool)
{
	struct msgbuf *buffer = body->buffer;

	if (buffer && end_length(body)) {
		int appended = msgbuf_append(pool, buffer, "\r\n", 2);

		assert(appended == 0);	/* reserve_end() has made sure */
	}
	*body = (struct edit_body){ 0 };
	return buffer;
}

void edit_body_drop(struct edit_body *body, struct msgbuf_pool *pool)
{
	msgbuf_put(pool, body->buffer);
	*body = (struct edit_body){ 0 };
}
