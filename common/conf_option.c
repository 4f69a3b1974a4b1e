#include "config.h"

#include "common/conf_option.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf.h"
#include "common/mem.h"

#define ROW(kind, field, key, type, fallback, minimum, maximum, help) \
	{ key, CONF_IS_##type, offsetof(struct kind, field), fallback, minimum, maximum, help },

static const struct conf_option milterd_options[] = {
#define MILTERD_OPTION(...) ROW(conf_milterd, __VA_ARGS__)
#include "common/options.def"
};

static const struct conf_option listener_options[] = {
#define LISTENER_OPTION(...) ROW(conf_listener, __VA_ARGS__)
#include "common/options.def"
};

static const struct conf_option milter_options[] = {
#define MILTER_OPTION(...) ROW(conf_milter, __VA_ARGS__)
#include "common/options.def"
};

#define TABLE(array) array, sizeof(array) / sizeof(array[0])

static const struct kind {
	const char *name;
	size_t size;
	const struct conf_option *option;
	size_t count;
} kinds[CONF_KINDS] = {
	[CONF_MILTERD] = { "milterd", sizeof(struct conf_milterd), TABLE(milterd_options) },
	[CONF_LISTENER] = { "listener", sizeof(struct conf_listener), TABLE(listener_options) },
	[CONF_MILTER] = { "milter", sizeof(struct conf_milter), TABLE(milter_options) },
};

const char *conf_kind_name(enum conf_kind kind)
{
	return kinds[kind].name;
}

size_t conf_kind_size(enum conf_kind kind)
{
	return kinds[kind].size;
}

const struct conf_option *conf_options(enum conf_kind kind, size_t *count)
{
	*count = kinds[kind].count;
	return kinds[kind].option;
}

const struct conf_option *conf_option_find(enum conf_kind kind, const char *key)
{
	for (size_t i = 0; i < kinds[kind].count; i++)
		if (!strcmp(kinds[kind].option[i].key, key))
			return &kinds[kind].option[i];
	return NULL;
}

static void say_allowed(const struct conf_option *o, const struct conf_type *type, struct buf *why)
{
	buf_printf(why, "; allowed: %s", type->allowed);
	if (!type->ranged)
		return;
	buf_puts(why, o->maximum == INT64_MAX ? ", at least " : ", from ");
	type->print(type, why, &o->minimum);
	if (o->maximum == INT64_MAX)
		return;
	buf_puts(why, " to ");
	type->print(type, why, &o->maximum);
}

static bool in_range(const struct conf_option *o, int64_t number)
{
	/* parse() refuses a written 0 where 0 stands for auto. */
	return (number >= o->minimum && number <= o->maximum) || (o->type == CONF_IS_number_or_auto && number == 0);
}

int conf_option_parse(const struct conf_option *o, const char *text, void *value, struct buf *why)
{
	const struct conf_type *type = conf_type(o->type);
	void *read = mem_alloc(type->size);
	int status = -1;

	if (!*text && *o->fallback && !type->list) {
		buf_puts(why, "has no value");
	} else if (type->parse(type, text, read, why) == 0) {
		status = 0;
		if (type->ranged && !in_range(o, *(int64_t *)read)) {
			conf_quote(why, text);
			buf_puts(why, " is out of range");
			status = -1;
		}
	}
	if (status == 0)
		memcpy(value, read, type->size);
	else
		say_allowed(o, type, why);
	free(read);
	return status;
}

void conf_option_print(const struct conf_option *o, struct buf *b, const void *value)
{
	const struct conf_type *type = conf_type(o->type);

	type->print(type, b, value);
}

bool conf_option_is_default(enum conf_kind kind, const char *key, const void *values)
{
	const struct conf_option *o = conf_option_find(kind, key);
	void *defaults = mem_alloc(conf_kind_size(kind));
	struct buf is = { 0 }, would_be = { 0 };

	assert(o);
	conf_options_init(kind, defaults);
	conf_option_print(o, &is, conf_option_field(o, values));
	conf_option_print(o, &would_be, conf_option_field(o, defaults));
	buf_puts(&is, "\n");
	buf_puts(&would_be, "\n");
	bool same = buf_len(&is) == buf_len(&would_be) && !memcmp(buf_head(&is), buf_head(&would_be), buf_len(&is));

	conf_options_fini(kind, defaults);
	free(defaults);
	buf_fini(&is);
	buf_fini(&would_be);
	return same;
}

void conf_options_init(enum conf_kind kind, void *values)
{
	struct buf why = { 0 };

	for (size_t i = 0; i < kinds[kind].count; i++) {
		const struct conf_option *o = &kinds[kind].option[i];
		int status = conf_option_parse(o, o->fallback, conf_option_field(o, values), &why);

		assert(status == 0);
	}
	buf_fini(&why);
}

void conf_options_fini(enum conf_kind kind, void *values)
{
	for (size_t i = 0; i < kinds[kind].count; i++) {
		const struct conf_option *o = &kinds[kind].option[i];

		if (conf_type(o->type)->fini)
			conf_type(o->type)->fini(conf_option_field(o, values));
	}
}
