#include "config.h"

#include "common/edit_value.h"

#include <assert.h>
#include <string.h>

#include "common/buf.h"
#include "common/header.h"

bool edit_name_valid(const char *name)
{
	size_t length = 0;

	while (header_is_name_byte((uint8_t)name[length]))
		length++;
	return length && !name[length] && length <= HEADER_FIELD_MAX;
}

bool edit_value_format(struct arena *arena, const char *name, const char *value, bool leadspc, struct edit_text *text)
{
	struct buf field = { 0 };

	if (strlen(name) + strlen(value) > HEADER_FIELD_MAX)
		return false;
	buf_puts(&field, name);
	text->name_length = buf_len(&field);
	buf_puts(&field, ":");
	text->value_offset = buf_len(&field);
	buf_puts(&field, leadspc ? "" : " ");
	for (const char *line = value; ; line++) {
		size_t length = strcspn(line, "\r\n"), blanks = strspn(line, " \t");

		if (line != value && blanks < length)
			buf_puts(&field, blanks ? "\r\n" : "\r\n\t");
		if (line == value || blanks < length)
			buf_append(&field, line, length);
		line += length;
		if (!*line)
			break;
	}
	buf_puts(&field, "\r\n");
	text->length = buf_len(&field);
	if (text->length <= HEADER_FIELD_MAX)
		text->data = (uint8_t *)arena_strndup(arena, buf_head(&field), text->length);
	buf_fini(&field);
	return text->length <= HEADER_FIELD_MAX;
}

const char *edit_value_show(struct arena *arena, const uint8_t *text, size_t length, size_t value_offset, size_t *value_len)
{
	assert(value_offset + 2 <= length);
	const char *value = (const char *)text + value_offset;
	size_t len = length - value_offset - 2, shown_len = 0;

	*value_len = len;
	if (!memchr(value, '\r', len))
		return value;
	char *shown = arena_alloc(arena, len);

	for (size_t i = 0; i < len; i++)
		if (value[i] != '\r')
			shown[shown_len++] = value[i];
	*value_len = shown_len;
	return shown;
}
