/* A dot is doubled by giving it out twice: one vector ends behind it and the next one begins with it. */
#include "config.h"

#include "session/output.h"

#include <assert.h>
#include <string.h>

#include "common/spoolfile.h"

#define WINDOW_SIZE (128u * 1024)

enum {
	LINE_START,
	DOT_DOUBLED,	/* the first of two dots is out; the next byte is the dot of the piece */
	TEXT,
	CR,		/* a LF must follow */
};

enum step { STEP_END, STEP_VECTOR, STEP_BROKEN };

static const char line_end[] = "\r\n";
#define LINE_END_LENGTH (sizeof(line_end) - 1)

/* Bytes of a piece that is in a file. */
static struct {
	uint64_t output;	/* 0: nobody's */
	size_t piece, at, len;
	uint8_t bytes[WINDOW_SIZE];
} window;

void output_init(struct output *o, const struct output_piece *piece, size_t count)
{
	static uint64_t number;

	*o = (struct output){ .piece = piece, .count = count, .number = ++number, .state = LINE_START };
}

static void skip_to_bytes(struct output *o)
{
	while (o->at < o->count && o->offset == o->piece[o->at].len) {
		o->at++;
		o->offset = 0;
	}
}

static bool is_in_window(const struct output *o)
{
	return window.output == o->number && window.piece == o->at && o->offset >= window.at &&
	       o->offset - window.at < window.len;
}

/* Read on. What is scanned and sent is this copy: the file may change meanwhile. */
static bool move_window(const struct output *o)
{
	const struct output_piece *piece = &o->piece[o->at];
	size_t left = piece->len - o->offset, len = left < WINDOW_SIZE ? left : WINDOW_SIZE;

	window.output = 0;
	if (spoolfile_read(piece->file, piece->file_at + o->offset, window.bytes, len) < 0)
		return false;
	/* A line end is not cut in two. */
	if (len < left && window.bytes[len - 1] == '\r')
		len--;
	window.output = o->number;
	window.piece = o->at;
	window.at = o->offset;
	window.len = len;
	return true;
}

/* The bytes at the position, *left of them in a row. NULL: they cannot be read. */
static const uint8_t *bytes_here(const struct output *o, size_t *left)
{
	const struct output_piece *piece = &o->piece[o->at];

	if (piece->data) {
		*left = piece->len - o->offset;
		return piece->data + o->offset;
	}
	if (!is_in_window(o) && !move_window(o))
		return NULL;
	*left = window.len - (o->offset - window.at);
	return window.bytes + (o->offset - window.at);
}

/* The byte behind the end of the current piece, or -1. */
static int byte_after_piece(const struct output *o)
{
	for (size_t i = o->at + 1; i < o->count; i++) {
		const struct output_piece *piece = &o->piece[i];
		uint8_t byte;

		if (!piece->len)
			continue;
		if (piece->data)
			return piece->data[0];
		return spoolfile_read(piece->file, piece->file_at, &byte, 1) < 0 ? -1 : byte;
	}
	return -1;
}

/* The end of what one vector may hold: limit bytes, but never between CR and LF, as far as they are in one place. */
static const uint8_t *vector_limit(const uint8_t *start, size_t left, size_t limit)
{
	if (left <= limit)
		return start + left;
	return start + limit + (start[limit - 1] == '\r');
}

/* One line, or the part of it before end: no NUL, and CR only right before its LF, which may be in the next piece. */
static bool line_is_clean(const struct output *o, const uint8_t *line, const uint8_t *lf, const uint8_t *end)
{
	const uint8_t *stop = lf ? lf : end;
	size_t len = (size_t)(stop - line);
	const uint8_t *cr = memchr(line, '\r', len);

	if (memchr(line, '\0', len))
		return false;
	if (lf || cr)
		return cr && cr == stop - 1 && (lf || byte_after_piece(o) == '\n');
	return true;
}

/* The line end that the last line lacks. */
static enum step step_tail(struct output *o, struct iovec *v)
{
	if (o->offset == LINE_END_LENGTH || (o->offset == 0 && o->state == LINE_START))
		return STEP_END;
	if (o->offset == 0 && o->state == CR)
		return STEP_BROKEN;
	*v = (struct iovec){ (char *)line_end + o->offset, LINE_END_LENGTH - o->offset };
	o->offset = LINE_END_LENGTH;
	o->state = LINE_START;
	return STEP_VECTOR;
}

/* The next vector; the position moves behind it. */
static enum step step(struct output *o, struct iovec *v, size_t limit)
{
	skip_to_bytes(o);
	if (o->at == o->count)
		return step_tail(o, v);

	size_t left = 0;
	const uint8_t *start = bytes_here(o, &left), *p = start;

	if (!start)
		return STEP_BROKEN;
	const uint8_t *end = vector_limit(start, left, limit);

	if (o->state == DOT_DOUBLED)
		o->state = TEXT;
	while (p < end) {
		if (o->state == LINE_START && *p == '.') {
			*v = (struct iovec){ (void *)start, (size_t)(p + 1 - start) };
			o->offset += (size_t)(p - start);
			o->state = DOT_DOUBLED;
			return STEP_VECTOR;
		}
		if (o->state == CR) {
			if (*p++ != '\n')
				return STEP_BROKEN;
			o->state = LINE_START;
			continue;
		}
		const uint8_t *lf = memchr(p, '\n', (size_t)(end - p));

		if (!line_is_clean(o, p, lf, end))
			return STEP_BROKEN;
		p = lf ? lf + 1 : end;
		o->state = lf ? LINE_START : p[-1] == '\r' ? CR : TEXT;
	}
	*v = (struct iovec){ (void *)start, (size_t)(end - start) };
	o->offset += (size_t)(end - start);
	return STEP_VECTOR;
}

/* The next step would move the window. */
static bool leaves_window(struct output *o)
{
	skip_to_bytes(o);
	return o->at < o->count && !o->piece[o->at].data && !is_in_window(o);
}

size_t output_next(struct output *o, struct iovec *vectors, size_t max, size_t limit)
{
	struct output ahead = *o;
	size_t count = 0;
	bool window_used = false;

	assert(limit > 0);
	while (!o->broken && count < max && limit && !(window_used && leaves_window(&ahead))) {
		enum step result = step(&ahead, &vectors[count], limit);

		if (result == STEP_END)
			break;
		if (result == STEP_BROKEN) {
			o->broken = true;
			return 0;
		}
		window_used |= ahead.at < o->count && !o->piece[ahead.at].data;
		limit -= vectors[count].iov_len < limit ? vectors[count].iov_len : limit;
		count++;
	}
	return o->broken ? 0 : count;
}

/* Only the first len bytes of the vector that begins at from are out, fewer than all. */
static void stop_inside(struct output *o, const struct output *from, const struct iovec *v, size_t len)
{
	uint8_t last = ((const uint8_t *)v->iov_base)[len - 1];

	*o = *from;
	o->offset += len;
	o->state = last == '\n' ? LINE_START : last == '\r' ? CR : TEXT;
}

void output_sent(struct output *o, size_t len)
{
	while (len) {
		struct iovec v;

		skip_to_bytes(o);

		struct output before = *o;

		/* It was a vector a moment ago; pieces that somebody else can write to may have changed. */
		if (step(o, &v, len) != STEP_VECTOR) {
			o->broken = true;
			return;
		}
		if (v.iov_len > len) {
			stop_inside(o, &before, &v, len);
			v.iov_len = len;
		}
		len -= v.iov_len;
		if (before.at < before.count)
			o->bytes += v.iov_len - (o->state == DOT_DOUBLED);
	}
}

bool output_finished(const struct output *o)
{
	struct output ahead = *o;
	struct iovec v;

	return !o->broken && step(&ahead, &v, 1) == STEP_END;
}

uint64_t output_size(const struct output_piece *piece, size_t count)
{
	struct output o;
	struct iovec v;
	uint64_t size = 0;

	output_init(&o, piece, count);
	while (step(&o, &v, SIZE_MAX) == STEP_VECTOR)
		size += v.iov_len;
	return size;
}
