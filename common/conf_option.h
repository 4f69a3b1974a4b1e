/* conf_option.h - options.def as tables: one for each kind of section */
#ifndef MILTERD_CONF_OPTION_H
#define MILTERD_CONF_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/conftype.h"

enum conf_kind { CONF_MILTERD, CONF_LISTENER, CONF_MILTER, CONF_KINDS };

struct conf_option {
	const char *key;
	enum conf_type_id type;
	size_t offset;			/* in the struct of its section */
	const char *fallback;		/* as an administrator would write it */
	int64_t minimum, maximum;	/* of the ranged types */
	const char *help;
};

/* "milterd", "listener", "milter". */
const char *conf_kind_name(enum conf_kind);
/* Bytes of struct conf_milterd and so on. */
size_t conf_kind_size(enum conf_kind);
const struct conf_option *conf_options(enum conf_kind, size_t *count);
/* NULL: there is no such option. */
const struct conf_option *conf_option_find(enum conf_kind, const char *key);
/* Read a value: 0, or -1 with what is wrong and what is allowed appended to why; then value is untouched. What value
 * held before is not released. */
int conf_option_parse(const struct conf_option *, const char *text, void *value, struct buf *why);
void conf_option_print(const struct conf_option *, struct buf *, const void *value);
/* Whether the option of a section has its default, written or not. */
bool conf_option_is_default(enum conf_kind, const char *key, const void *values);
/* All defaults into a zeroed struct of a section; release the options of one. */
void conf_options_init(enum conf_kind, void *values);
void conf_options_fini(enum conf_kind, void *values);

static inline void *conf_option_field(const struct conf_option *o, const void *values)
{
	return (char *)values + o->offset;
}

#endif
