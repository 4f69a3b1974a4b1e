#include "config.h"

#include "common/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

#define CAPACITY_MIN 256

uint8_t *buf_reserve(struct buf *b, size_t len)
{
	size_t used = buf_len(b);

	if (b->capacity - b->end >= len && b->data)
		return b->data + b->end;
	/* Moving to the front is cheap when most of the room before the bytes is used up. */
	if (b->capacity - used >= len && b->start >= used && b->data) {
		memmove(b->data, b->data + b->start, used);
	} else {
		size_t capacity = b->capacity ? b->capacity : CAPACITY_MIN;

		assert(len < SIZE_MAX / 4 && used < SIZE_MAX / 4);
		while (capacity - used < len)
			capacity *= 2;
		uint8_t *data = mem_realloc(NULL, capacity);

		if (used)
			memcpy(data, b->data + b->start, used);
		free(b->data);
		b->data = data;
		b->capacity = capacity;
	}
	b->start = 0;
	b->end = used;
	return b->data + b->end;
}

void buf_commit(struct buf *b, size_t len)
{
	assert(len <= b->capacity - b->end);
	b->end += len;
}

void buf_append(struct buf *b, const void *data, size_t len)
{
	if (!len)
		return;
	memcpy(buf_reserve(b, len), data, len);
	b->end += len;
}

void buf_puts(struct buf *b, const char *s)
{
	buf_append(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *format, ...)
{
	va_list args, again;

	va_start(args, format);
	va_copy(again, args);
	int len = vsnprintf(NULL, 0, format, args);

	if (len > 0) {
		vsnprintf((char *)buf_reserve(b, (size_t)len + 1), (size_t)len + 1, format, again);
		b->end += (size_t)len;
	}
	va_end(again);
	va_end(args);
}

void buf_consume(struct buf *b, size_t len)
{
	assert(len <= buf_len(b));
	b->start += len;
	if (b->start == b->end)
		b->start = b->end = 0;
}

void buf_clear(struct buf *b)
{
	b->start = b->end = 0;
}

void buf_shrink(struct buf *b, size_t keep)
{
	if (buf_len(b) || b->capacity <= keep)
		return;
	free(b->data);
	*b = (struct buf){ 0 };
}

void buf_fini(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}
