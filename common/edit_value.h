/* edit_value.h - a header field in the words of a milter, made fit to stand in a message
 *
 * A value comes with LF, CRLF or CR as line end. Whatever it is made of, the field stays one field: a line that does
 * not start with a blank gets a tab, as in Postfix, and a line of nothing but blanks is left out, since it could pass
 * for the end of the header (RFC 5322 3.2.2 forbids it).
 */
#ifndef MILTERD_EDIT_VALUE_H
#define MILTERD_EDIT_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mem.h"

struct edit_text {
	const uint8_t *data;	/* the field with its last CRLF */
	size_t length, name_length;
	size_t value_offset;	/* of the byte after the colon */
};

/* One or more bytes that may stand in a name, and not more than could be shown. */
bool edit_name_valid(const char *name);
/* The text of a field, in the arena. leadspc: the value brings the space after the colon. False when it would be
 * longer than HEADER_FIELD_MAX. The name must be valid. */
bool edit_value_format(struct arena *, const char *name, const char *value, bool leadspc, struct edit_text *);
/* The value as a milter is shown it, without the last line end and with LF inside. Points into text when there is
 * nothing to join, otherwise into the arena. */
const char *edit_value_show(struct arena *, const uint8_t *text, size_t length, size_t value_offset, size_t *value_len);

#endif
