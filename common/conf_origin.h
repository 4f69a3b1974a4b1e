/* conf_origin.h - where the options of a loaded configuration were given: for problems that only show when it is used,
 * such as an account that does not exist
 */
#ifndef MILTERD_CONF_ORIGIN_H
#define MILTERD_CONF_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/conf.h"
#include "common/conf_option.h"
#include "common/conf_section.h"

/* Takes sections and names of files, both allocated as arrays of pointers. The sections are in the order of struct conf:
 * [milterd], listeners, milters. */
struct conf_origin *conf_origin_new(struct conf_section **section, size_t section_count, char **file,
	size_t file_count);
void conf_origin_free(struct conf_origin *);

/* Append "FILE:LINE: [section] key: " to a problem. number: of the listener or milter, 0 for [milterd]. */
void conf_origin_print(struct buf *problem, const struct conf *, enum conf_kind, size_t number, const char *key);
/* The same for a warning: "FILE:LINE: warning: [section] key: ". */
void conf_origin_print_warning(struct buf *problem, const struct conf *, enum conf_kind, size_t number, const char *key);
/* Whether the option stands in a file; otherwise it has its default, and its place is that of the section. */
bool conf_origin_given(const struct conf *, enum conf_kind, size_t number, const char *key);

#endif
