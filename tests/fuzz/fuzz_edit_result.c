/* What a worker says a message becomes: a header block with its length in a byte, then the record. A record that is
 * believed is one that its writer would have written, and its header is whole fields. */
#include "config.h"

#include <assert.h>
#include <string.h>

#include "common/edit_result.h"
#include "common/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct edit_result *result, const uint8_t *original, const uint8_t *record, size_t len)
{
	struct buf again = { 0 }, header = { 0 };

	edit_result_write(&again, result);
	assert(buf_len(&again) == len && memcmp(buf_head(&again), record, len) == 0);
	for (size_t i = 0; i < result->segment_count; i++) {
		const struct edit_segment *s = &result->segment[i];

		if (s->source != EDIT_RECEIVED)
			buf_append(&header, s->source == EDIT_ORIGINAL ? original + s->offset : s->literal, s->length);
	}
	assert(!buf_len(&header) || header_is_fields(buf_head(&header), buf_len(&header)));
	buf_fini(&header);
	buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena = { 0 };
	struct edit_result result;
	struct wire w;

	wire_init(&w, data, size);
	size_t header_length = wire_u8(&w);
	const uint8_t *header = wire_bytes(&w, header_length);

	if (!header || (header_length && !header_is_fields(header, header_length)))
		return 0;
	const uint8_t *record = w.at;

	edit_result_take(&w, &arena, header, header_length, &result);
	if (!w.broken)
		check(&result, header, record, (size_t)(w.at - record));
	arena_fini(&arena);
	return 0;
}
