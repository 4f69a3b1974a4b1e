/* Milters' edits on a header block: a byte of options, the block with its length in two bytes, then replies as opcode,
 * index, two strings, each after a byte that says whether it is the last of its milter. What comes out is believed by the process that writes the message, has no bare line end, and is
 * field for field what the next milter is shown. */
#include "config.h"

#include <assert.h>
#include <string.h>

#include "common/edit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BODY_LIMIT 4096u

enum { LEADSPC = 1, STABLE = 2 };

static const uint8_t replies[] = {
	SMFIR_ADDHEADER, SMFIR_INSHEADER, SMFIR_CHGHEADER, SMFIR_REPLBODY, SMFIR_CHGFROM, SMFIR_ADDRCPT,
	SMFIR_ADDRCPT_PAR, SMFIR_DELRCPT, SMFIR_QUARANTINE, SMFIR_CONTINUE,
};

/* One reply as the codec would decode it. */
static void read_reply(struct wire *w, struct milter_reply *r)
{
	*r = (struct milter_reply){ .reply = replies[wire_u8(w) % sizeof(replies)] };
	uint32_t index = wire_u8(w);
	const char *first = wire_cstr(w), *second = wire_cstr(w);

	switch (r->reply) {
	case SMFIR_ADDHEADER: case SMFIR_INSHEADER: case SMFIR_CHGHEADER:
		r->header.index = index == 255 ? UINT32_MAX : index;
		r->header.name = first;
		r->header.value = second;
		break;
	case SMFIR_REPLBODY:
		r->body.data = (const uint8_t *)second;
		r->body.len = strlen(second);
		break;
	case SMFIR_QUARANTINE:
		r->text = first;
		break;
	default:
		r->address.path = first;
		r->address.args = *second ? second : NULL;
	}
}

/* Milters one after the other. One whose reply is refused is dropped. */
static void run_milters(struct wire *w, struct edit_message *m, enum edit_index index, bool leadspc)
{
	while (wire_left(w)) {
		struct edits *e = edits_begin(m, index, leadspc);
		struct milter_reply r;
		const char *why = NULL;
		int staged = 0;
		bool last = false;

		while (wire_left(w) && !last && staged == 0) {
			last = wire_u8(w) & 1;
			read_reply(w, &r);
			staged = edits_stage(e, &r, &why);
		}
		assert(staged == 0 || why);
		if (staged == 0)
			edits_commit(e);
		else
			edits_drop(e);
	}
}

static void check_shown(struct edit_message *m, const struct buf *header)
{
	const char *why;
	struct header_block block;
	struct arena arena = { 0 };

	assert(!buf_len(header) || header_is_fields(buf_head(header), buf_len(header)));
	assert(header_parse(&arena, buf_head(header), buf_len(header), SIZE_MAX, SIZE_MAX, &block, &why) == 0);
	assert(block.length == buf_len(header) && block.count == edit_header_count(m));
	for (size_t i = 0; i < block.count; i++) {
		const struct header_field *f = &block.field[i];
		const char *text = (const char *)buf_head(header) + f->offset, *name, *value;
		size_t name_len, value_len, at = 0;

		edit_header_get(m, i, true, &name, &name_len, &value, &value_len);
		assert(name_len == f->name_length && memcmp(name, text, name_len) == 0);
		for (size_t j = f->value_offset; j + 2 < f->length; j++) {
			if (text[j] != '\r') {
				assert(at < value_len && value[at] == text[j]);
				at++;
			}
		}
		assert(at == value_len);
	}
	arena_fini(&arena);
}

static void check_result(struct edit_message *m, const uint8_t *original, size_t header_length)
{
	struct arena arena = { 0 };
	struct buf record = { 0 }, header = { 0 };
	struct edit_result result;
	struct wire w;

	edit_result_put(&record, m);
	wire_init(&w, buf_head(&record), buf_len(&record));
	edit_result_take(&w, &arena, original, header_length, &result);
	assert(wire_finished(&w));
	buf_reserve(&header, 1);
	for (size_t i = 0; i < result.segment_count; i++) {
		const struct edit_segment *s = &result.segment[i];

		if (s->source != EDIT_RECEIVED)
			buf_append(&header, s->source == EDIT_ORIGINAL ? original + s->offset : s->literal, s->length);
	}
	check_shown(m, &header);
	buf_fini(&header);
	buf_fini(&record);
	arena_fini(&arena);
}

static void check_body(const struct msgbuf *body)
{
	if (!body)
		return;
	assert(body->len <= BODY_LIMIT);
	for (size_t i = 0; i < body->len; i++) {
		assert(body->data[i] != '\0');
		assert(body->data[i] != '\r' || (i + 1 < body->len && body->data[i + 1] == '\n'));
		assert(body->data[i] != '\n' || (i && body->data[i - 1] == '\r'));
	}
	assert(!body->len || body->data[body->len - 1] == '\n');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct msgbuf_pool *pool;
	struct arena arena = { 0 };
	struct header_block block;
	const char *why;
	struct wire w;

	if (!pool)
		pool = msgbuf_pool_new(1024 * 1024, 64 * 1024 * 1024);
	wire_init(&w, data, size);
	uint8_t options = wire_u8(&w);
	size_t len = wire_u16(&w);
	const uint8_t *original = wire_bytes(&w, len);

	if (original && header_parse(&arena, original, len, 100, 10000, &block, &why) == 0 &&
	    (!block.length || header_is_fields(original, block.length))) {
		struct edit_message *m = edit_message_new(&block, original, pool, BODY_LIMIT);

		run_milters(&w, m, options & STABLE ? EDIT_INDEX_STABLE : EDIT_INDEX_SHIFT, options & LEADSPC);
		check_result(m, original, block.length);
		check_body(edit_message_body(m));
		edit_message_free(m);
	}
	arena_fini(&arena);
	return 0;
}
