#include "config.h"

#include "common/conf_origin.h"

#include <assert.h>
#include <stdlib.h>

#include "common/mem.h"

struct conf_origin {
	struct conf_section **section;
	size_t section_count;
	char **file;			/* the places of sections point to these names */
	size_t file_count;
};

struct conf_origin *conf_origin_new(struct conf_section **section, size_t section_count, char **file,
	size_t file_count)
{
	struct conf_origin *o = mem_alloc(sizeof(*o));

	*o = (struct conf_origin){ section, section_count, file, file_count };
	return o;
}

void conf_origin_free(struct conf_origin *o)
{
	if (!o)
		return;
	for (size_t i = 0; i < o->section_count; i++)
		conf_section_free(o->section[i]);
	for (size_t i = 0; i < o->file_count; i++)
		free(o->file[i]);
	free(o->section);
	free(o->file);
	free(o);
}

static const struct conf_section *section_of(const struct conf *conf, enum conf_kind kind, size_t number)
{
	size_t first = kind == CONF_MILTERD ? 0 : kind == CONF_LISTENER ? 1 : 1 + conf->listener_count;

	assert(conf->origin && first + number < conf->origin->section_count);
	return conf->origin->section[first + number];
}

static void print(struct buf *problem, const char *label, const struct conf *conf, enum conf_kind kind, size_t number,
	const char *key)
{
	const struct conf_section *s = section_of(conf, kind, number);
	const struct conf_place *place = conf_section_place(s, key);

	buf_printf(problem, "%s:%u: %s%s %s: ", place->file, place->line, label, s->title, key);
}

void conf_origin_print(struct buf *problem, const struct conf *conf, enum conf_kind kind, size_t number,
	const char *key)
{
	print(problem, "", conf, kind, number, key);
}

void conf_origin_print_warning(struct buf *problem, const struct conf *conf, enum conf_kind kind, size_t number,
	const char *key)
{
	print(problem, "warning: ", conf, kind, number, key);
}

bool conf_origin_given(const struct conf *conf, enum conf_kind kind, size_t number, const char *key)
{
	return conf_section_given(section_of(conf, kind, number), key);
}
