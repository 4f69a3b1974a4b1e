/* wire.h - bounded reading and writing of binary records
 *
 * The reader has a sticky error and yields zeroes after it, so a decoder reads straight through and
 * asks wire_finished() once at the end. Integers are big endian, as in the milter protocol.
 */
#ifndef MILTERD_WIRE_H
#define MILTERD_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

struct wire {
	const uint8_t *at, *end;
	bool broken;
};

void wire_init(struct wire *, const void *data, size_t len);
uint8_t wire_u8(struct wire *);
uint16_t wire_u16(struct wire *);
uint32_t wire_u32(struct wire *);
uint64_t wire_u64(struct wire *);
/* len bytes in place; NULL (and broken) when fewer are left. */
const uint8_t *wire_bytes(struct wire *, size_t len);
/* A NUL-terminated string in place; "" (and broken) when the record ends before its NUL. */
const char *wire_cstr(struct wire *);
/* A u32 length and as many bytes, in place. */
const uint8_t *wire_blob(struct wire *, size_t *len);
/* All that is left, in place. */
const uint8_t *wire_rest(struct wire *, size_t *len);
static inline size_t wire_left(const struct wire *w)
{
	return (size_t)(w->end - w->at);
}
/* Everything was there and nothing is left over. */
static inline bool wire_finished(const struct wire *w)
{
	return !w->broken && w->at == w->end;
}

void wire_put_u8(struct buf *, uint8_t);
void wire_put_u16(struct buf *, uint16_t);
void wire_put_u32(struct buf *, uint32_t);
void wire_put_u64(struct buf *, uint64_t);
/* With its NUL. */
void wire_put_cstr(struct buf *, const char *);
void wire_put_blob(struct buf *, const void *, size_t len);
/* Overwrite the u32 at offset at (counted from buf_head()), for lengths known only at the end. */
void wire_set_u32(struct buf *, size_t at, uint32_t);

#endif
