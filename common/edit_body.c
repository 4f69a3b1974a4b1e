#include "config.h"

#include "common/edit_body.h"

#include <errno.h>
#include <string.h>

#define TOO_LONG  "the new body is too long"
#define NO_MEMORY "no memory for the new body"
#define SLICE 16384u			/* bytes of a chunk that are converted at once */
#define SLICE_ROOM (2 * SLICE + 2)	/* what can become of them: every LF needs a CR, and one CR was held */

static const char line_end[] = "\r\n";
#define LINE_END_LENGTH (sizeof(line_end) - 1)

_Static_assert(SLICE_ROOM <= MSGBUF_RESERVE_MAX, "a slice is reserved at once");

/* Where one slice is written: there is room for all that can become of it. */
struct writer {
	uint8_t *data;
	size_t len, limit;	/* limit: of the body, from here on */
	bool too_long;
};

static void put(struct writer *w, const void *data, size_t len)
{
	if (len > w->limit - w->len) {
		w->too_long = true;
	} else if (len) {
		memcpy(w->data + w->len, data, len);
		w->len += len;
	}
}

/* One line, or the part of one that a chunk ends with: its CRs become spaces, but for the one of a CRLF. */
static void put_line(struct writer *w, const uint8_t *line, const uint8_t *end, bool has_lf)
{
	const uint8_t *content_end = has_lf ? end - 1 : end;
	bool has_crlf = has_lf && content_end > line && content_end[-1] == '\r';

	if (has_crlf)
		content_end--;
	while (!w->too_long) {
		const uint8_t *cr = memchr(line, '\r', (size_t)(content_end - line));

		if (!cr)
			break;
		put(w, line, (size_t)(cr - line));
		put(w, " ", 1);
		line = cr + 1;
	}
	if (has_lf && !has_crlf) {
		put(w, line, (size_t)(content_end - line));
		put(w, line_end, LINE_END_LENGTH);
	} else {
		put(w, line, (size_t)(end - line));
	}
}

/* What the bytes become, at the writer. */
static void convert(struct edit_body *body, struct writer *w, const uint8_t *at, size_t len)
{
	const uint8_t *end = at + len;

	if (body->held_cr && *at == '\n') {
		put(w, line_end, LINE_END_LENGTH);
		at++;
	} else if (body->held_cr) {
		put(w, " ", 1);
	}
	body->held_cr = at < end && end[-1] == '\r';
	end -= body->held_cr;
	while (at < end && !w->too_long) {
		const uint8_t *lf = memchr(at, '\n', (size_t)(end - at)), *next = lf ? lf + 1 : end;

		put_line(w, at, next, lf != NULL);
		at = next;
	}
}

static const char *add_slice(struct edit_body *body, struct msgbuf_pool *pool, size_t limit, const uint8_t *data,
	size_t len)
{
	struct writer w = { .limit = limit - body->buffer->len };
	size_t room, wanted = 2 * len + LINE_END_LENGTH;

	w.data = msgbuf_reserve(pool, body->buffer, wanted, &room);
	if (!w.data)
		return errno == EMSGSIZE ? TOO_LONG : NO_MEMORY;
	convert(body, &w, data, len);
	if (w.too_long)
		return TOO_LONG;
	return msgbuf_commit(pool, body->buffer, w.len) < 0 ? NO_MEMORY : NULL;
}

/* Half a line at the end of all gets its end now, when that can fail; more of the line takes it away again. */
static const char *end_line(struct edit_body *body, struct msgbuf_pool *pool, size_t limit, uint8_t last)
{
	if (!body->held_cr && last == '\n')
		return NULL;
	if (LINE_END_LENGTH > limit - body->buffer->len)
		return TOO_LONG;
	if (msgbuf_append(pool, body->buffer, line_end, LINE_END_LENGTH) < 0)
		return NO_MEMORY;
	body->ended = true;
	return NULL;
}

int edit_body_add(struct edit_body *body, struct msgbuf_pool *pool, size_t limit, const uint8_t *data, size_t len,
	const char **why)
{
	*why = NULL;
	if (!body->buffer && !(body->buffer = msgbuf_get(pool)))
		*why = NO_MEMORY;
	else if (len && memchr(data, '\0', len))
		*why = "NUL in the new body";
	if (*why || !len)
		return *why ? -1 : 0;
	if (body->ended)
		msgbuf_truncate(body->buffer, body->buffer->len - LINE_END_LENGTH);
	body->ended = false;
	for (size_t at = 0; at < len && !*why; at += SLICE)
		*why = add_slice(body, pool, limit, data + at, len - at < SLICE ? len - at : SLICE);
	if (!*why)
		*why = end_line(body, pool, limit, data[len - 1]);
	return *why ? -1 : 0;
}

struct msgbuf *edit_body_finish(struct edit_body *body)
{
	struct msgbuf *buffer = body->buffer;

	*body = (struct edit_body){ 0 };
	return buffer;
}

void edit_body_drop(struct edit_body *body, struct msgbuf_pool *pool)
{
	msgbuf_put(pool, body->buffer);
	*body = (struct edit_body){ 0 };
}
