#include "config.h"

#include "common/wire.h"

#include <assert.h>
#include <string.h>

void wire_init(struct wire *w, const void *data, size_t len)
{
	static const uint8_t nothing[1];

	w->at = data ? data : nothing;
	w->end = w->at + (data ? len : 0);
	w->broken = false;
}

const uint8_t *wire_bytes(struct wire *w, size_t len)
{
	const uint8_t *at = w->at;

	if (w->broken || wire_left(w) < len) {
		w->broken = true;
		w->at = w->end;
		return NULL;
	}
	w->at += len;
	return at;
}

static uint64_t number(struct wire *w, size_t size)
{
	const uint8_t *p = wire_bytes(w, size);
	uint64_t value = 0;

	for (size_t i = 0; p && i < size; i++)
		value = value << 8 | p[i];
	return value;
}

uint8_t wire_u8(struct wire *w)
{
	return (uint8_t)number(w, 1);
}

uint16_t wire_u16(struct wire *w)
{
	return (uint16_t)number(w, 2);
}

uint32_t wire_u32(struct wire *w)
{
	return (uint32_t)number(w, 4);
}

uint64_t wire_u64(struct wire *w)
{
	return number(w, 8);
}

const char *wire_cstr(struct wire *w)
{
	const uint8_t *nul = w->broken ? NULL : memchr(w->at, '\0', wire_left(w));

	if (!nul) {
		w->broken = true;
		w->at = w->end;
		return "";
	}
	const char *s = (const char *)w->at;

	w->at = nul + 1;
	return s;
}

const uint8_t *wire_blob(struct wire *w, size_t *len)
{
	*len = wire_u32(w);
	const uint8_t *p = wire_bytes(w, *len);

	if (!p)
		*len = 0;
	return p;
}

const uint8_t *wire_rest(struct wire *w, size_t *len)
{
	const uint8_t *at = w->at;

	*len = w->broken ? 0 : wire_left(w);
	w->at = w->end;
	return at;
}

static void put_number(struct buf *b, uint64_t value, size_t size)
{
	uint8_t *p = buf_reserve(b, size);

	for (size_t i = size; i-- > 0; value >>= 8)
		p[i] = (uint8_t)value;
	buf_commit(b, size);
}

void wire_put_u8(struct buf *b, uint8_t value)
{
	put_number(b, value, 1);
}

void wire_put_u16(struct buf *b, uint16_t value)
{
	put_number(b, value, 2);
}

void wire_put_u32(struct buf *b, uint32_t value)
{
	put_number(b, value, 4);
}

void wire_put_u64(struct buf *b, uint64_t value)
{
	put_number(b, value, 8);
}

void wire_put_cstr(struct buf *b, const char *s)
{
	buf_append(b, s, strlen(s) + 1);
}

void wire_put_blob(struct buf *b, const void *data, size_t len)
{
	assert(len <= UINT32_MAX);
	wire_put_u32(b, (uint32_t)len);
	buf_append(b, data, len);
}

void wire_set_u32(struct buf *b, size_t at, uint32_t value)
{
	assert(at + 4 <= buf_len(b));
	uint8_t *p = buf_head(b) + at;

	for (int i = 3; i >= 0; i--, value >>= 8)
		p[i] = (uint8_t)value;
}
