#include "config.h"

#include "common/conf.h"

#include "common/conf_option.h"

static void print_section(struct buf *b, enum conf_kind kind, const char *name, const void *values)
{
	size_t count;
	const struct conf_option *o = conf_options(kind, &count);
	struct buf value = { 0 };

	buf_printf(b, *name ? "[%s %s]\n" : "[%s]\n", conf_kind_name(kind), name);
	for (; count; count--, o++) {
		if (o->type == CONF_IS_paths)	/* what was included is here, in this text */
			continue;
		buf_clear(&value);
		conf_option_print(o, &value, conf_option_field(o, values));
		buf_printf(b, buf_len(&value) ? "%s = " : "%s =", o->key);
		if (buf_len(&value))
			buf_append(b, buf_head(&value), buf_len(&value));
		buf_puts(b, "\n");
	}
	buf_fini(&value);
}

void conf_print(struct buf *b, const struct conf *conf)
{
	print_section(b, CONF_MILTERD, "", &conf->milterd);
	for (size_t i = 0; i < conf->listener_count; i++) {
		buf_puts(b, "\n");
		print_section(b, CONF_LISTENER, conf->listener[i].name, &conf->listener[i]);
	}
	for (size_t i = 0; i < conf->milter_count; i++) {
		buf_puts(b, "\n");
		print_section(b, CONF_MILTER, conf->milter[i].name, &conf->milter[i]);
	}
}

void conf_print_options(struct buf *b)
{
	for (unsigned kind = 0; kind < CONF_KINDS; kind++) {
		size_t count;
		const struct conf_option *o = conf_options(kind, &count);

		for (; count; count--, o++)
			buf_printf(b, "%s %s %s\n", conf_kind_name(kind), o->key, o->fallback);
	}
}
