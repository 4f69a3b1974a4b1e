/* smtp_path.h - mail addresses in commands: Reverse-path, Forward-path and ESMTP parameters, RFC 5321 4.1.2 */
#ifndef MILTERD_SMTP_PATH_H
#define MILTERD_SMTP_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "common/mem.h"

#define SMTP_PATH_MAX	256u	/* RFC 5321 4.5.3.1.3, brackets included */

enum smtp_path_kind { SMTP_PATH_REVERSE, SMTP_PATH_FORWARD };

/* Parse a path with brackets at the start of text (len bytes, no NUL needed). Returns the address without brackets
 * and without a source route, in the arena ("" for the null reverse-path, "postmaster" without a domain is legal
 * forward), and sets *used to the bytes read; NULL with *why in words (static). Quoted strings, address literals
 * and UTF-8 bytes are kept as they are; control bytes never pass. */
const char *smtp_path_parse(struct arena *, enum smtp_path_kind, const char *text, size_t len, size_t *used,
	const char **why);

/* The same for an address of a milter, which comes with or without brackets, and must be the whole text. */
const char *smtp_path_from_milter(struct arena *, enum smtp_path_kind, const char *text, const char **why);

/* Addresses name the same mailbox: local parts equal byte for byte after removing needless quotes, domains equal
 * without regard to case. The rule of DELRCPT. */
bool smtp_path_equal(const char *, const char *);

/* ESMTP parameters "KEYWORD[=value]" separated by blanks: an array in the arena of *count strings; NULL with *why
 * when one is malformed (RFC 5321 4.1.2 esmtp-param) or there are more than limit. */
const char **smtp_params_parse(struct arena *, const char *text, size_t len, size_t limit, size_t *count,
	const char **why);
/* The value of a parameter ("" when it has none), NULL when it is not there. Keywords without regard to case. */
const char *smtp_params_find(const char *const *params, size_t count, const char *keyword);

#endif
