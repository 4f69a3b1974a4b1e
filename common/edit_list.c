#include "config.h"

#include "common/edit_list.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/mem.h"

static void reserve(struct edit_list *list, size_t count)
{
	if (count <= list->capacity)
		return;
	list->capacity = count + count / 2 + 8;
	list->field = mem_realloc(list->field, list->capacity * sizeof(*list->field));
}

void edit_list_fini(struct edit_list *list)
{
	free(list->field);
	*list = (struct edit_list){ 0 };
}

void edit_list_copy(struct edit_list *to, const struct edit_list *from)
{
	assert(!to->count);
	reserve(to, from->count);
	memcpy(to->field, from->field, from->count * sizeof(*from->field));
	to->count = from->count;
}

void edit_list_insert(struct edit_list *list, size_t at, struct edit_field *field)
{
	assert(at <= list->count);
	reserve(list, list->count + 1);
	memmove(&list->field[at + 1], &list->field[at], (list->count - at) * sizeof(*list->field));
	list->field[at] = field;
	list->count++;
}

void edit_list_remove(struct edit_list *list, size_t at)
{
	assert(at < list->count);
	list->count--;
	memmove(&list->field[at], &list->field[at + 1], (list->count - at) * sizeof(*list->field));
}

size_t edit_list_find(const struct edit_list *list, const char *name, uint32_t index)
{
	size_t length = strlen(name), at;

	for (at = 0; at < list->count; at++) {
		const struct edit_field *field = list->field[at];

		if (field->source != EDIT_RECEIVED && field->text.name_length == length &&
		    strncasecmp((const char *)field->text.data, name, length) == 0 && --index == 0)
			break;
	}
	return at;
}

size_t edit_list_received(const struct edit_list *list)
{
	size_t at = 0;

	while (list->field[at]->source != EDIT_RECEIVED)
		at++;
	return at;
}

void edit_list_purge(struct edit_list *list)
{
	size_t kept = 0;

	for (size_t i = 0; i < list->count; i++)
		if (!list->field[i]->deleted)
			list->field[kept++] = list->field[i];
	list->count = kept;
}

static size_t add_segment(struct edit_segment *segment, size_t count, const struct edit_field *field)
{
	struct edit_segment *last = count ? &segment[count - 1] : NULL;

	if (last && field->source == EDIT_ORIGINAL && last->source == EDIT_ORIGINAL &&
	    last->offset + last->length == field->offset) {
		last->length += field->text.length;
		return count;
	}
	segment[count] = (struct edit_segment){ .source = field->source };
	if (field->source != EDIT_RECEIVED)
		segment[count].length = field->text.length;
	if (field->source == EDIT_ORIGINAL)
		segment[count].offset = field->offset;
	else if (field->source == EDIT_LITERAL)
		segment[count].literal = field->text.data;
	return count + 1;
}

size_t edit_list_segments(const struct edit_list *list, struct edit_segment *segment)
{
	size_t count = 0;

	for (size_t i = 0; i < list->count; i++)
		count = add_segment(segment, count, list->field[i]);
	return count;
}
