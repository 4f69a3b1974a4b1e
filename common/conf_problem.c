#include "config.h"

#include "common/conf_problem.h"

#include <stdarg.h>
#include <stdlib.h>
#include <stdio.h>

#include "common/mem.h"

struct conf_problem {
	unsigned file_number, line;
	size_t number;			/* keeps those of one line in the order they were found */
	char *text;
};

static void add(struct conf_problems *p, const struct conf_place *place, const char *kind, const char *section,
	const char *key, const char *format, va_list args)
{
	struct buf text = { 0 };
	char *what = NULL;

	if (p->count == CONF_PROBLEMS_MAX) {
		p->more++;
		return;
	}
	buf_printf(&text, place->line ? "%s:%u: " : "%s: ", place->file, place->line);
	buf_puts(&text, kind);
	if (section)
		buf_printf(&text, key ? "%s " : "%s: ", section);
	if (key)
		buf_printf(&text, "%s: ", key);
	if (vasprintf(&what, format, args) < 0)
		abort();	/* out of memory */
	buf_printf(&text, "%s\n", what);
	free(what);
	p->item = mem_realloc(p->item, (p->count + 1) * sizeof(*p->item));
	p->item[p->count] = (struct conf_problem){
		.file_number = place->file_number, .line = place->line, .number = p->count,
		.text = mem_strndup(buf_head(&text), buf_len(&text)),
	};
	p->count++;
	buf_fini(&text);
}

void conf_error(struct conf_problems *p, const struct conf_place *place, const char *section, const char *key,
	const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add(p, place, "", section, key, format, args);
	va_end(args);
	p->errors++;
}

void conf_warning(struct conf_problems *p, const struct conf_place *place, const char *section, const char *key,
	const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add(p, place, "warning: ", section, key, format, args);
	va_end(args);
}

static int compare(const void *a, const void *b)
{
	const struct conf_problem *one = a, *other = b;

	if (one->file_number != other->file_number)
		return one->file_number < other->file_number ? -1 : 1;
	if (one->line != other->line)
		return one->line < other->line ? -1 : 1;
	return one->number < other->number ? -1 : 1;
}

void conf_problems_print(struct conf_problems *p, struct buf *to)
{
	if (p->count)
		qsort(p->item, p->count, sizeof(*p->item), compare);
	for (size_t i = 0; i < p->count; i++) {
		buf_puts(to, p->item[i].text);
		free(p->item[i].text);
	}
	if (p->more)
		buf_printf(to, "There are %zu more problems, which are not shown.\n", p->more);
	free(p->item);
	*p = (struct conf_problems){ 0 };
}
