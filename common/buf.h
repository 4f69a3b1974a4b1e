/* buf.h - a growable run of bytes: appended at the end, consumed at the start */
#ifndef MILTERD_BUF_H
#define MILTERD_BUF_H

#include <stddef.h>
#include <stdint.h>

/* A zeroed struct buf is a valid empty one. */
struct buf {
	uint8_t *data;
	size_t start, end, capacity;	/* the bytes are data[start] to data[end - 1] */
};

static inline size_t buf_len(const struct buf *b)
{
	return b->end - b->start;
}

/* The first byte; valid until the buffer changes. Not NULL-safe when empty and never used. */
static inline uint8_t *buf_head(const struct buf *b)
{
	return b->data + b->start;
}

/* Room for len more bytes at the end: write there, then buf_commit() what was written. */
uint8_t *buf_reserve(struct buf *, size_t len);
void buf_commit(struct buf *, size_t len);
void buf_append(struct buf *, const void *, size_t len);
void buf_puts(struct buf *, const char *);
void buf_printf(struct buf *, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Drop len bytes from the start. Memory is kept for the next use. */
void buf_consume(struct buf *, size_t len);
void buf_clear(struct buf *);
/* Give memory above keep bytes back when the buffer is empty, so that an idle connection is small. */
void buf_shrink(struct buf *, size_t keep);
void buf_fini(struct buf *);

#endif
