#include "config.h"

#include "common/edit.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/edit_body.h"
#include "common/edit_list.h"
#include "common/edit_value.h"
#include "common/mem.h"

#define INDEX_MAX 0x7fffffffu	/* Postfix refuses what would be negative as an int */

struct edit_message {
	struct arena arena;
	struct msgbuf_pool *pool;
	size_t body_limit;
	struct edit_list list;
	size_t received_at;		/* our own Received in the list */
	uint32_t next_id;
	unsigned version;		/* counts commits */
	size_t open;			/* edits neither committed nor dropped */
	struct edits *committed;	/* newest first; their arenas hold fields and operations */
	struct msgbuf *body;
	bool body_taken;
	struct envelope_op *op;
	size_t op_count;
	const char *quarantine;
	size_t edits, header_changes, header_bytes;
};

struct edits {
	struct edits *older;
	struct edit_message *message;
	unsigned version;		/* of the message they were begun on */
	enum edit_index index;
	bool leadspc;
	bool failed;			/* a modification was refused: only to be dropped */
	struct arena arena;
	struct edit_list list;		/* empty until the first header change */
	struct edit_body body;
	struct envelope_op *op;
	size_t op_count;
	const char *quarantine;
	size_t edits, header_changes, header_bytes;
};

struct edit_message *edit_message_new(const struct header_block *block, const uint8_t *original,
	struct msgbuf_pool *pool, size_t body_limit)
{
	struct edit_message *m = mem_alloc(sizeof(*m));
	struct edit_field *field = arena_alloc(&m->arena, (block->count + 1) * sizeof(*field));

	m->pool = pool;
	m->body_limit = body_limit;
	field[0].source = EDIT_RECEIVED;
	for (size_t i = 0; i < block->count; i++) {
		const struct header_field *from = &block->field[i];

		field[i + 1] = (struct edit_field){
			.id = (uint32_t)i + 1,
			.source = EDIT_ORIGINAL,
			.offset = from->offset,
			.text = { original + from->offset, from->length, from->name_length, from->value_offset },
		};
	}
	for (size_t i = 0; i <= block->count; i++)
		edit_list_insert(&m->list, i, &field[i]);
	m->next_id = (uint32_t)block->count + 1;
	return m;
}

static void edits_free(struct edits *e)
{
	edit_list_fini(&e->list);
	free(e->op);
	arena_fini(&e->arena);
	free(e);
}

void edit_message_free(struct edit_message *m)
{
	if (!m)
		return;
	assert(!m->open);
	while (m->committed) {
		struct edits *older = m->committed->older;

		edits_free(m->committed);
		m->committed = older;
	}
	if (!m->body_taken)
		msgbuf_put(m->pool, m->body);
	edit_list_fini(&m->list);
	free(m->op);
	arena_fini(&m->arena);
	free(m);
}

size_t edit_header_count(const struct edit_message *m)
{
	return m->list.count - 1;
}

void edit_header_get(struct edit_message *m, size_t position, bool leadspc, const char **name, size_t *name_len,
	const char **value, size_t *value_len)
{
	assert(position < edit_header_count(m));
	struct edit_field *field = m->list.field[position + (position >= m->received_at)];

	if (!field->shown)
		field->shown = edit_value_show(&m->arena, field->text.data, field->text.length,
			field->text.value_offset, &field->shown_len);
	*name = (const char *)field->text.data;
	*name_len = field->text.name_length;
	bool skip = !leadspc && field->shown_len && field->shown[0] == ' ';

	*value = field->shown + skip;
	*value_len = field->shown_len - skip;
}

const struct msgbuf *edit_message_body(const struct edit_message *m)
{
	return m->body;
}

struct msgbuf *edit_message_take_body(struct edit_message *m)
{
	assert(!m->body_taken);
	m->body_taken = true;
	return m->body;
}

struct edits *edits_begin(struct edit_message *m, enum edit_index index, bool leadspc)
{
	struct edits *e = mem_alloc(sizeof(*e));

	e->message = m;
	e->version = m->version;
	e->index = index;
	e->leadspc = leadspc;
	m->open++;
	return e;
}

size_t edits_count(const struct edits *e)
{
	return e->edits;
}

/* The private copy of the list; made at the first header change, since most milters that change anything change
 * something else or nothing but one header. */
static struct edit_list *staged_list(struct edits *e)
{
	if (!e->list.count)
		edit_list_copy(&e->list, &e->message->list);
	return &e->list;
}

/* A new field from a reply; NULL with *why when that would be above a limit. */
static struct edit_field *new_field(struct edits *e, const struct milter_reply *r, const char **why)
{
	struct edit_field *field = arena_alloc(&e->arena, sizeof(*field));

	field->source = EDIT_LITERAL;
	if (!edit_value_format(&e->arena, r->header.name, r->header.value, e->leadspc, &field->text)) {
		*why = "a header field is too long";
		return NULL;
	}
	if (field->text.length > EDIT_HEADER_BYTES_MAX - e->message->header_bytes - e->header_bytes) {
		*why = "too many bytes of header fields";
		return NULL;
	}
	e->header_bytes += field->text.length;
	field->id = e->message->next_id++;
	return field;
}

/* The number stays with a field that is not there any more. */
static struct edit_field *tombstone(struct edits *e, const struct edit_field *of)
{
	struct edit_field *field = arena_alloc(&e->arena, sizeof(*field));

	*field = *of;
	field->deleted = true;
	return field;
}

static void delete_field(struct edits *e, const char *name, uint32_t index)
{
	struct edit_list *list = staged_list(e);
	size_t at = edit_list_find(list, name, index);

	if (at == list->count)
		return;
	if (e->index == EDIT_INDEX_STABLE)
		list->field[at] = tombstone(e, list->field[at]);
	else
		edit_list_remove(list, at);
}

/* CHGHEADER counts per name from 1, and 0 means 1; a field that is not there is added at the end. */
static int change_field(struct edits *e, const struct milter_reply *r, const char **why)
{
	uint32_t index = r->header.index ? r->header.index : 1;

	if (!r->header.value[0]) {
		delete_field(e, r->header.name, index);
		return 0;
	}
	struct edit_field *field = new_field(e, r, why);
	struct edit_list *list = staged_list(e);
	size_t at = edit_list_find(list, r->header.name, index);

	if (!field)
		return -1;
	if (at == list->count) {
		edit_list_insert(list, at, field);
	} else {
		field->id = list->field[at]->id;
		list->field[at] = field;
	}
	return 0;
}

/* INSHEADER counts everything in the list from 0, our own Received too; ADDHEADER goes to the end. */
static int insert_field(struct edits *e, const struct milter_reply *r, const char **why)
{
	struct edit_field *field = new_field(e, r, why);
	struct edit_list *list = staged_list(e);

	if (!field)
		return -1;
	edit_list_insert(list, r->reply == SMFIR_INSHEADER && r->header.index < list->count ? r->header.index : list->count,
		field);
	return 0;
}

static int stage_header(struct edits *e, const struct milter_reply *r, const char **why)
{
	if (!edit_name_valid(r->header.name)) {
		*why = "not a header name";
		return -1;
	}
	if (r->reply != SMFIR_ADDHEADER && r->header.index > INDEX_MAX) {
		*why = "a header index out of range";
		return -1;
	}
	if (e->message->header_changes + e->header_changes >= EDIT_HEADERS_MAX) {
		*why = "too many header changes";
		return -1;
	}
	e->header_changes++;
	return r->reply == SMFIR_CHGHEADER ? change_field(e, r, why) : insert_field(e, r, why);
}

static int stage_envelope(struct edits *e, enum envelope_change change, const struct milter_reply *r, const char **why)
{
	if (e->message->op_count + e->op_count >= ENVELOPE_OPS_MAX) {
		*why = "too many changes of the envelope";
		return -1;
	}
	/* A power of two: doubled whenever it is full. */
	if (!(e->op_count & (e->op_count - 1)))
		e->op = mem_realloc(e->op, (e->op_count ? e->op_count * 2 : 1) * sizeof(*e->op));
	if (envelope_op_make(&e->arena, change, r->address.path, r->address.args, &e->op[e->op_count], why) < 0)
		return -1;
	e->op_count++;
	return 0;
}

/* The reason goes into logs and header fields. The first one stands. */
static int stage_quarantine(struct edits *e, const char *reason)
{
	size_t len = strnlen(reason, EDIT_REASON_MAX + 1);

	if (e->quarantine)
		return 0;
	if (len > EDIT_REASON_MAX)
		for (len = EDIT_REASON_MAX; len && ((uint8_t)reason[len] & 0xc0) == 0x80; len--)
			;	/* not in the middle of a character */
	char *copy = arena_strndup(&e->arena, reason, len);

	for (char *c = copy; *c; c++)
		if ((uint8_t)*c < 32 || *c == 127)
			*c = '?';
	e->quarantine = copy;
	return 0;
}

static int stage(struct edits *e, const struct milter_reply *r, const char **why)
{
	switch (r->reply) {
	case SMFIR_ADDHEADER:
	case SMFIR_INSHEADER:
	case SMFIR_CHGHEADER:
		return stage_header(e, r, why);
	case SMFIR_REPLBODY:
		return edit_body_add(&e->body, e->message->pool, e->message->body_limit, r->body.data, r->body.len, why);
	case SMFIR_CHGFROM:
		return stage_envelope(e, ENVELOPE_SENDER, r, why);
	case SMFIR_ADDRCPT:
	case SMFIR_ADDRCPT_PAR:
		return stage_envelope(e, ENVELOPE_ADD, r, why);
	case SMFIR_DELRCPT:
		return stage_envelope(e, ENVELOPE_DELETE, r, why);
	case SMFIR_QUARANTINE:
		return stage_quarantine(e, r->text);
	default:
		*why = "not a modification";
		return -1;
	}
}

int edits_stage(struct edits *e, const struct milter_reply *r, const char **why)
{
	bool more_body = r->reply == SMFIR_REPLBODY && e->body.buffer;

	if (stage(e, r, why) < 0) {
		e->failed = true;
		return -1;
	}
	e->edits += !more_body;
	return 0;
}

/* Put the staged list in the place of the common one. */
static void commit_list(struct edits *e)
{
	struct edit_message *m = e->message;

	if (!e->list.count)
		return;
	edit_list_purge(&e->list);
	edit_list_fini(&m->list);
	m->list = e->list;
	m->received_at = edit_list_received(&m->list);
	e->list = (struct edit_list){ 0 };
}

static void commit_body(struct edits *e)
{
	struct edit_message *m = e->message;
	struct msgbuf *body = edit_body_finish(&e->body);

	if (!body)
		return;
	msgbuf_put(m->pool, m->body);
	m->body = body;
}

static void commit_envelope(struct edits *e)
{
	struct edit_message *m = e->message;

	if (!e->op_count)
		return;
	m->op = mem_realloc(m->op, (m->op_count + e->op_count) * sizeof(*m->op));
	memcpy(&m->op[m->op_count], e->op, e->op_count * sizeof(*m->op));
	m->op_count += e->op_count;
}

void edits_commit(struct edits *e)
{
	struct edit_message *m = e->message;

	assert(!e->failed && e->version == m->version && !m->body_taken);
	commit_list(e);
	commit_body(e);
	commit_envelope(e);
	if (!m->quarantine)
		m->quarantine = e->quarantine;
	m->edits += e->edits;
	m->header_changes += e->header_changes;
	m->header_bytes += e->header_bytes;
	m->version++;
	m->open--;
	e->older = m->committed;
	m->committed = e;
}

void edits_drop(struct edits *e)
{
	if (!e)
		return;
	e->message->open--;
	edit_body_drop(&e->body, e->message->pool);
	edits_free(e);
}

void edit_result_put(struct buf *b, const struct edit_message *m)
{
	struct edit_result result = {
		.segment = mem_array(m->list.count, sizeof(*result.segment)),
		.op = m->op,
		.op_count = m->op_count,
		.quarantine = m->quarantine,
		.edits = m->edits,
	};

	result.segment_count = edit_list_segments(&m->list, result.segment);
	if (m->body) {
		struct spooled body;

		msgbuf_read(m->body, &body);
		result.body_replaced = true;
		result.body_id = m->body->id;
		result.body_generation = m->body->generation;
		result.body_memory = body.memory;
		result.body_length = body.len;
	}
	edit_result_write(b, &result);
	free(result.segment);
}
