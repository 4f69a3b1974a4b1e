/* conf_problem.h - what is wrong with a configuration, one line each, with the place where it is written */
#ifndef MILTERD_CONF_PROBLEM_H
#define MILTERD_CONF_PROBLEM_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"

#define CONF_PROBLEMS_MAX 1000u	/* that are said in words; those beyond, as of a file that is no text, are counted */

struct conf_place {
	const char *file;	/* not owned */
	unsigned file_number;	/* files count from 0, in the order in which they were read */
	unsigned line;		/* 0: the file as a whole */
};

struct conf_problem;

/* A zeroed one is a valid empty one. */
struct conf_problems {
	struct conf_problem *item;
	size_t count, more;	/* said, only counted */
	unsigned errors;
};

/* Add "FILE:LINE: [section] key: ..."; warnings have "warning: " behind the place and are no errors.
 * section: with its brackets, or NULL; key: or NULL. */
void conf_error(struct conf_problems *, const struct conf_place *, const char *section, const char *key,
	const char *format, ...) __attribute__((format(printf, 5, 6)));
void conf_warning(struct conf_problems *, const struct conf_place *, const char *section, const char *key,
	const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Append the lines in the order of files and lines, and forget them. */
void conf_problems_print(struct conf_problems *, struct buf *);

#endif
