#include "config.h"

#include "common/edit_result.h"

#include <assert.h>
#include <string.h>

#include "common/header.h"
#include "common/msgbuf.h"

/* Every header change can split one piece of the original in two, with its own field between them. */
#define SEGMENTS_MAX (2 * EDIT_HEADERS_MAX + 2)

static void write_segment(struct buf *b, const struct edit_segment *segment)
{
	wire_put_u8(b, (uint8_t)segment->source);
	switch (segment->source) {
	case EDIT_ORIGINAL:
		wire_put_u64(b, segment->offset);
		wire_put_u64(b, segment->length);
		break;
	case EDIT_LITERAL:
		wire_put_blob(b, segment->literal, segment->length);
		break;
	case EDIT_RECEIVED:
		break;
	}
}

void edit_result_write(struct buf *b, const struct edit_result *result)
{
	assert(result->segment_count <= SEGMENTS_MAX && result->op_count <= ENVELOPE_OPS_MAX);
	wire_put_u32(b, (uint32_t)result->segment_count);
	for (size_t i = 0; i < result->segment_count; i++)
		write_segment(b, &result->segment[i]);
	wire_put_u8(b, result->body_replaced);
	if (result->body_replaced) {
		wire_put_u32(b, result->body_id);
		wire_put_u32(b, result->body_generation);
		assert(result->body_memory <= result->body_length);
		wire_put_u64(b, result->body_memory);
		wire_put_u64(b, result->body_length);
	}
	wire_put_u32(b, (uint32_t)result->op_count);
	for (size_t i = 0; i < result->op_count; i++)
		envelope_op_put(b, &result->op[i]);
	wire_put_u8(b, result->quarantine != NULL);
	if (result->quarantine)
		wire_put_cstr(b, result->quarantine);
	wire_put_u32(b, (uint32_t)result->edits);
}

/* A field of the original starts here, or the block ends here. */
static bool is_border(const uint8_t *header, size_t header_length, size_t at)
{
	if (at == 0 || at == header_length)
		return true;
	return at >= 2 && memcmp(header + at - 2, "\r\n", 2) == 0 && header[at] != ' ' && header[at] != '\t';
}

static bool take_segment(struct wire *w, const uint8_t *header, size_t header_length, size_t *original_at,
	struct edit_segment *segment)
{
	uint8_t source = wire_u8(w);

	segment->source = source;
	switch (source) {
	case EDIT_ORIGINAL: {
		uint64_t offset = wire_u64(w), length = wire_u64(w);

		if (offset < *original_at || offset > header_length || length > header_length - offset || !length)
			return false;
		*original_at = offset + length;
		segment->offset = offset;
		segment->length = length;
		return is_border(header, header_length, offset) && is_border(header, header_length, *original_at);
	}
	case EDIT_LITERAL:
		segment->literal = wire_blob(w, &segment->length);
		return header_is_fields(segment->literal, segment->length);
	case EDIT_RECEIVED:
		return true;
	default:
		return false;
	}
}

static bool take_segments(struct wire *w, struct arena *arena, const uint8_t *header, size_t header_length,
	struct edit_result *result)
{
	size_t count = wire_u32(w), received = 0, original_at = 0;

	if (count > SEGMENTS_MAX)
		return false;
	result->segment = arena_alloc(arena, count * sizeof(*result->segment));
	result->segment_count = count;
	for (size_t i = 0; i < count; i++) {
		struct edit_segment *segment = &result->segment[i];

		if (!take_segment(w, header, header_length, &original_at, segment) || w->broken)
			return false;
		if (segment->source == EDIT_LITERAL)
			segment->literal = (uint8_t *)arena_strndup(arena, segment->literal, segment->length);
		received += segment->source == EDIT_RECEIVED;
	}
	return received == 1;
}

static bool take_bool(struct wire *w, bool *value)
{
	uint8_t byte = wire_u8(w);

	*value = byte;
	return byte <= 1;
}

static bool take_body(struct wire *w, struct edit_result *result)
{
	if (!take_bool(w, &result->body_replaced))
		return false;
	if (!result->body_replaced)
		return true;
	result->body_id = wire_u32(w);
	result->body_generation = wire_u32(w);
	uint64_t memory = wire_u64(w), length = wire_u64(w);

	result->body_memory = memory;
	result->body_length = length;
	return memory <= length && length <= MSGBUF_LIMIT;
}

static bool take_ops(struct wire *w, struct arena *arena, struct edit_result *result)
{
	size_t count = wire_u32(w);

	if (count > ENVELOPE_OPS_MAX)
		return false;
	result->op = arena_alloc(arena, count * sizeof(*result->op));
	result->op_count = count;
	for (size_t i = 0; i < count && !w->broken; i++)
		envelope_op_take(w, arena, &result->op[i]);
	return true;
}

static bool take_quarantine(struct wire *w, struct arena *arena, struct edit_result *result)
{
	bool quarantined;

	if (!take_bool(w, &quarantined))
		return false;
	if (!quarantined)
		return true;
	const char *reason = wire_cstr(w);

	if (strlen(reason) > EDIT_REASON_MAX)
		return false;
	for (const char *c = reason; *c; c++)
		if ((unsigned char)*c < 32 || *c == 127)
			return false;
	result->quarantine = arena_strdup(arena, reason);
	return true;
}

void edit_result_take(struct wire *w, struct arena *arena, const uint8_t *header, size_t header_length,
	struct edit_result *result)
{
	*result = (struct edit_result){ 0 };
	bool good = take_segments(w, arena, header, header_length, result) && take_body(w, result) &&
		take_ops(w, arena, result) && take_quarantine(w, arena, result);

	result->edits = wire_u32(w);
	if (good && !w->broken)
		return;
	*result = (struct edit_result){ 0 };
	w->broken = true;
	w->at = w->end;
}

void edit_result_unchanged(struct arena *arena, size_t header_length, struct edit_result *result)
{
	*result = (struct edit_result){ 0 };
	result->segment = arena_alloc(arena, 2 * sizeof(*result->segment));
	result->segment[result->segment_count++].source = EDIT_RECEIVED;
	if (header_length)
		result->segment[result->segment_count++] =
			(struct edit_segment){ .source = EDIT_ORIGINAL, .length = header_length };
}
