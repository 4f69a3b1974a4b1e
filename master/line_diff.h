/* line_diff.h - what changed between two texts, as a unified diff */
#ifndef MILTERD_LINE_DIFF_H
#define MILTERD_LINE_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Lines end in LF, a CR before it is not shown; control bytes are escaped. Three lines of context. Between their common
 * begin and end, texts of more than a few thousand lines are shown as wholly replaced. False: there is no difference, and
 * nothing was printed. */
bool line_diff_print(FILE *, const char *title, const char *before, size_t before_len, const char *after,
	size_t after_len, bool colour);
/* Bytes without control bytes, which become \xNN: nothing of a peer may steer a terminal. */
void line_diff_put_safe(FILE *, const char *text, size_t len);

#endif
