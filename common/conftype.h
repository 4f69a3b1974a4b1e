/* conftype.h - the types of options: how a value is read, printed and released, one row a type */
#ifndef MILTERD_CONFTYPE_H
#define MILTERD_CONFTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

/* Ends in the type names of options.def. */
enum conf_type_id {
	CONF_IS_account, CONF_IS_domain, CONF_IS_host, CONF_IS_flag, CONF_IS_time, CONF_IS_size, CONF_IS_count,
	CONF_IS_number_or_auto, CONF_IS_mode, CONF_IS_names, CONF_IS_paths, CONF_IS_path, CONF_IS_macros, CONF_IS_endpoints,
	CONF_IS_next_hops, CONF_IS_log_sink, CONF_IS_log_level, CONF_IS_protocol, CONF_IS_pipeline,
	CONF_IS_header_index,
	CONF_TYPES
};

struct conf_unit {
	const char *name;
	int64_t factor;
};

struct conf_type {
	const char *allowed;		/* in words, to follow "allowed: " */
	size_t size;			/* bytes of its C type, CONF_TYPE_* of conf.h */
	bool ranged;			/* an int64_t with a minimum and maximum */
	bool list;			/* may be empty where the default is not */
	/* value: zeroed. 0, or -1 with the reason appended to why: then value holds nothing. */
	int (*parse)(const struct conf_type *, const char *text, void *value, struct buf *why);
	/* What parse() reads as the same value. */
	void (*print)(const struct conf_type *, struct buf *, const void *value);
	void (*fini)(void *value);	/* NULL: nothing to release */
	/* What parse and print of some types need besides. */
	const char *(*refuse)(const char *word);	/* NULL or what is wrong with the text, or with a word of it */
	const struct conf_unit *unit;			/* ends with a NULL name; the first one is for zero */
	const char *const *choice;			/* ends with NULL; its position is the value */
};

const struct conf_type *conf_type(enum conf_type_id);
/* NULL, or what is wrong with a name of a listener or milter. */
const char *conf_name_refuse(const char *name);
/* Append text in quotes, shortened when it is long, and with \xNN for what is not ASCII: nobody knows its encoding. */
void conf_quote(struct buf *, const char *text);

#endif
