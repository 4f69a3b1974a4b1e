#include "config.h"

#include "common/conf_problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void add(struct buf *text, const struct conf_place *place, const char *kind, const char *section,
	const char *key, const char *format, va_list args)
{
	char *what = NULL;

	buf_printf(text, place->line ? "%s:%u: " : "%s: ", place->file, place->line);
	buf_puts(text, kind);
	if (section)
		buf_printf(text, key ? "%s " : "%s: ", section);
	if (key)
		buf_printf(text, "%s: ", key);
	if (vasprintf(&what, format, args) < 0)
		abort();	/* out of memory */
	buf_printf(text, "%s\n", what);
	free(what);
}

void conf_error(struct conf_problems *p, const struct conf_place *place, const char *section, const char *key,
	const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add(p->text, place, "", section, key, format, args);
	va_end(args);
	p->errors++;
}

void conf_warning(struct conf_problems *p, const struct conf_place *place, const char *section, const char *key,
	const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add(p->text, place, "warning: ", section, key, format, args);
	va_end(args);
}
