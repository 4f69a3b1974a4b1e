/* conf_read.h - a configuration text as sections, keys and values: inih with everything refused that it would cut,
 * join or drop without a word
 */
#ifndef MILTERD_CONF_READ_H
#define MILTERD_CONF_READ_H

#include <stddef.h>

/* Lines count from 1. The strings are valid during the call. */
struct conf_read_ops {
	/* header: what is between the brackets, without blanks around it. NULL: a section begins here, but its line is
	 * broken, as on_broken() was told. */
	void (*on_section)(void *ctx, unsigned line, const char *header);
	/* Without blanks around and without a comment behind. */
	void (*on_pair)(void *ctx, unsigned line, const char *key, const char *value);
	/* The line cannot be read, and was left out; the reason in words. */
	void (*on_broken)(void *ctx, unsigned line, const char *why);
};

void conf_read(const char *text, size_t len, const struct conf_read_ops *, void *ctx);

#endif
