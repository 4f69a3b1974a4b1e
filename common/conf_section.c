#include "config.h"

#include "common/conf_section.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf.h"
#include "common/mem.h"
#include "common/nearest.h"

struct conf_section *conf_section_new(enum conf_kind kind, const char *name, const struct conf_place *place)
{
	struct conf_section *s = mem_alloc(sizeof(*s));
	struct buf title = { 0 };
	size_t count;

	conf_options(kind, &count);
	s->kind = kind;
	s->name = mem_strdup(name);
	buf_printf(&title, *name ? "[%s " : "[%s", conf_kind_name(kind));
	if (*name && conf_name_refuse(name))
		conf_quote(&title, name);
	else
		buf_puts(&title, name);
	buf_puts(&title, "]");
	s->title = mem_strndup(buf_head(&title), buf_len(&title));
	s->place = *place;
	s->values = mem_alloc(conf_kind_size(kind));
	conf_options_init(kind, s->values);
	s->setting = mem_array(count, sizeof(*s->setting));
	buf_fini(&title);
	return s;
}

void conf_section_free(struct conf_section *s)
{
	if (!s)
		return;
	if (s->values)
		conf_options_fini(s->kind, s->values);
	free(s->values);
	free(s->setting);
	free(s->title);
	free(s->name);
	free(s);
}

static struct conf_setting *setting_of(const struct conf_section *s, const char *key)
{
	size_t count;
	const struct conf_option *o = conf_option_find(s->kind, key);

	assert(o);
	return &s->setting[o - conf_options(s->kind, &count)];
}

const struct conf_place *conf_section_place(const struct conf_section *s, const char *key)
{
	const struct conf_setting *setting = setting_of(s, key);

	return setting->place.line ? &setting->place : &s->place;
}

bool conf_section_given(const struct conf_section *s, const char *key)
{
	return setting_of(s, key)->place.line > 0;
}

bool conf_section_broken(const struct conf_section *s, const char *key)
{
	return setting_of(s, key)->broken;
}

/* What a key is made of when it is likely to be one. */
#define PRINTABLE_KEY "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

static void unknown_key(const struct conf_section *s, const struct conf_place *place, const char *key,
	struct conf_problems *problems)
{
	struct nearest near = { .word = key };
	struct buf text = { 0 }, quoted = { 0 };
	const char *found = NULL;
	size_t count;
	const struct conf_option *options = conf_options(s->kind, &count);

	if (!*key) {
		conf_error(problems, place, s->title, NULL, "there is no key before the '='");
		return;
	}
	for (size_t i = 0; i < count; i++) {
		const char *dot = strchr(options[i].key, '.');

		if (dot && !strcmp(dot + 1, key) && !found)
			found = options[i].key;
		nearest_offer(&near, options[i].key);
	}
	if (found)	/* the rest of the word is what they know it by */
		near.best = found;
	for (unsigned kind = 0; kind < CONF_KINDS; kind++)
		if (near.distance != 1 && conf_option_find(kind, key)) {
			conf_error(problems, place, s->title, key, "is an option of [%s%s], not of this section",
				conf_kind_name(kind), kind == CONF_MILTERD ? "" : " NAME");
			return;
		}
	buf_puts(&text, near.best ? "did you mean \"" : "see milterd.conf(5)");
	if (near.best)
		buf_printf(&text, "%s\"?", near.best);
	buf_append(&text, "", 1);

	const char *more = (const char *)buf_head(&text);

	if (strspn(key, PRINTABLE_KEY) == strlen(key) && strlen(key) <= CONF_NAME_MAX)
		conf_error(problems, place, s->title, key, "unknown option; %s", more);
	else {
		conf_quote(&quoted, key);
		conf_error(problems, place, s->title, NULL, "unknown option %.*s; %s", (int)buf_len(&quoted),
			(char *)buf_head(&quoted), more);
	}
	buf_fini(&quoted);
	buf_fini(&text);
}

/* What inih would read as something else when conf_print() writes it, or what is likely to be meant otherwise. */
static const char *misleading(const char *value)
{
	if (strlen(value) > CONF_VALUE_MAX)
		return "the value has more than 8128 bytes";
	if (strchr(value, ';'))
		return "the value has a ';' in it: that begins a comment, with a blank before it, and is never part of a value";
	if (*value == '"' || *value == '\'' || !strncmp(value, "\xe2\x80\x9c", 3) || !strncmp(value, "\xe2\x80\x9e", 3))
		return "the value is in quotes: write it without them";
	if (strstr(value, " #") || strstr(value, "\t#"))
		return "the value has a '#' in it: a comment behind a value begins with ';'";
	return NULL;
}

void conf_section_set(struct conf_section *s, const struct conf_place *place, const char *key, const char *value,
	struct conf_problems *problems)
{
	const struct conf_option *o = conf_option_find(s->kind, key);
	struct buf why = { 0 };

	static_assert(CONF_VALUE_MAX == 8128, "said so above");
	if (!o) {
		unknown_key(s, place, key, problems);
		return;
	}
	struct conf_setting *setting = setting_of(s, key);

	if (setting->place.line) {
		conf_error(problems, place, s->title, key, "is given twice; first at %s:%u", setting->place.file,
			setting->place.line);
		return;
	}
	setting->place = *place;
	if (misleading(value)) {
		buf_puts(&why, misleading(value));
	} else {
		void *field = conf_option_field(o, s->values);
		const struct conf_type *type = conf_type(o->type);
		void *before = mem_alloc(type->size);

		memcpy(before, field, type->size);
		if (conf_option_parse(o, value, field, &why) == 0 && type->fini)
			type->fini(before);
		free(before);
	}
	if (buf_len(&why)) {
		setting->broken = true;
		conf_error(problems, place, s->title, key, "%.*s", (int)buf_len(&why), (char *)buf_head(&why));
	}
	buf_fini(&why);
}
