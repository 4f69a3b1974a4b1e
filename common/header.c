#include "config.h"

#include "common/header.h"

#include <string.h>
#include <strings.h>

#define FIRST_CAPACITY 32	/* most messages have fewer fields */

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/* The offset behind the line's CRLF; 0 when there is none before limit. */
static size_t line_end(const uint8_t *text, size_t start, size_t limit)
{
	for (size_t at = start; at < limit;) {
		const uint8_t *lf = memchr(text + at, '\n', limit - at);

		if (!lf)
			return 0;
		at = (size_t)(lf - text) + 1;
		if (at - start >= 2 && lf[-1] == '\r')
			return at;
	}
	return 0;
}

/* A field's first line starts here: its name and where its value is. */
static bool starts_field(const uint8_t *text, size_t len, struct header_field *field)
{
	size_t at = 0;

	while (at < len && at < HEADER_FIELD_MAX && header_is_name_byte(text[at]))
		at++;
	field->name_length = (uint32_t)at;
	while (at < len && at < HEADER_FIELD_MAX && is_blank(text[at]))
		at++;
	field->value_offset = (uint32_t)at + 1;
	return field->name_length && at < len && text[at] == ':';
}

/* 1: a field with all its folds starts at text; 0: something else does; -1: one that is not acceptable. */
static int take_field(const uint8_t *text, size_t len, struct header_field *field, const char **why)
{
	size_t limit = len < HEADER_FIELD_MAX ? len : HEADER_FIELD_MAX;
	size_t end = 0;

	if (!starts_field(text, len, field))
		return 0;
	do {
		end = line_end(text, end, limit);
		if (!end) {
			*why = limit < len ? "a header field is too long" : "a header line does not end";
			return -1;
		}
	} while (end < len && is_blank(text[end]));
	field->length = (uint32_t)end;
	if (memchr(text, '\0', end)) {
		*why = "NUL in a header field";
		return -1;
	}
	return 1;
}

/* The array, with room for one more. Arena memory is not given back: doubling wastes at most as much again. */
static void make_room(struct arena *arena, struct header_block *block, size_t *capacity)
{
	if (block->count < *capacity)
		return;
	*capacity = *capacity ? *capacity * 2 : FIRST_CAPACITY;
	struct header_field *field = arena_alloc(arena, *capacity * sizeof(*field));

	if (block->count)
		memcpy(field, block->field, block->count * sizeof(*field));
	block->field = field;
}

int header_parse(struct arena *arena, const uint8_t *message, size_t len, size_t field_limit, size_t length_limit,
	struct header_block *block, const char **why)
{
	struct header_field field;
	size_t at = 0, capacity = 0;
	int found;

	*block = (struct header_block){ 0 };
	while ((found = take_field(message + at, len - at, &field, why)) > 0) {
		if (block->count == field_limit || at + field.length > length_limit) {
			*why = block->count == field_limit ? "too many header fields" : "the header is too long";
			return -1;
		}
		field.offset = (uint32_t)at;
		make_room(arena, block, &capacity);
		block->field[block->count++] = field;
		at += field.length;
	}
	if (found < 0)
		return -1;
	block->length = at;
	block->separator = len - at >= 2 && memcmp(message + at, "\r\n", 2) == 0;
	block->body_offset = at + (block->separator ? 2 : 0);
	return 0;
}

size_t header_count(const struct header_block *block, const uint8_t *message, const char *name)
{
	size_t length = strlen(name), count = 0;

	for (size_t i = 0; i < block->count; i++) {
		const struct header_field *field = &block->field[i];

		if (field->name_length == length &&
		    strncasecmp((const char *)message + field->offset, name, length) == 0)
			count++;
	}
	return count;
}

bool header_is_fields(const uint8_t *text, size_t len)
{
	struct header_field field;
	const char *why;
	size_t at = 0;

	while (at < len) {
		if (take_field(text + at, len - at, &field, &why) <= 0)
			return false;
		at += field.length;
	}
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n' && (i == 0 || text[i - 1] != '\r'))
			return false;
		if (text[i] == '\r' && (i + 1 == len || text[i + 1] != '\n'))
			return false;
	}
	return len > 0;
}
