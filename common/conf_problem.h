/* conf_problem.h - what is wrong with a configuration, one line each, with the place where it is written */
#ifndef MILTERD_CONF_PROBLEM_H
#define MILTERD_CONF_PROBLEM_H

#include "common/buf.h"

struct conf_place {
	const char *file;	/* not owned */
	unsigned line;		/* 0: the file as a whole */
};

struct conf_problems {
	struct buf *text;
	unsigned errors;
};

/* Append "FILE:LINE: [section] key: ..."; warnings have "warning: " behind the place and are not counted.
 * section: with its brackets, or NULL; key: or NULL. */
void conf_error(struct conf_problems *, const struct conf_place *, const char *section, const char *key,
	const char *format, ...) __attribute__((format(printf, 5, 6)));
void conf_warning(struct conf_problems *, const struct conf_place *, const char *section, const char *key,
	const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
