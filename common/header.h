/* header.h - the header block of a message (RFC 5322 2.2) as a list of fields in place
 *
 * A field starts with 1*ftext ":" (blanks before the colon are tolerated and kept) and goes on over folded lines.
 * The first line that is neither ends the block: an empty line is the separator and belongs to neither part, any
 * other line already is the body. Line ends are CRLF; the caller has checked that there is no bare CR or LF.
 */
#ifndef MILTERD_HEADER_H
#define MILTERD_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mem.h"

/* Bytes of one field. A packet of the milter protocol holds 65535, and what cannot be shown must not be delivered;
 * Postfix has the same limit. */
#define HEADER_FIELD_MAX 60000u

struct header_field {
	uint32_t offset;	/* of the field in the message */
	uint32_t length;	/* with its last CRLF */
	uint32_t name_length;	/* without blanks before the colon */
	uint32_t value_offset;	/* of the byte after the colon, counted from offset */
};

struct header_block {
	struct header_field *field;	/* in the arena */
	size_t count;
	size_t length;		/* bytes of all fields: where the separator or the body starts */
	size_t body_offset;	/* length, or length + 2 with a separator */
	bool separator;
};

/* 0, or -1 with *why in words (static) when there are more than field_limit fields, the block is longer than
 * length_limit bytes, or a field cannot be shown to a milter: longer than HEADER_FIELD_MAX, with a NUL, without its
 * CRLF. Linear in the length of the block. */
int header_parse(struct arena *, const uint8_t *message, size_t len, size_t field_limit, size_t length_limit,
	struct header_block *, const char **why);

/* How many fields have this name; without regard to case. */
size_t header_count(const struct header_block *, const uint8_t *message, const char *name);

/* The text is one or more whole fields and nothing else: every line ends in CRLF and is a field's first line or a
 * fold, there is no other CR or LF, and no NUL. */
bool header_is_fields(const uint8_t *text, size_t len);

/* The byte may be part of a field's name: ftext of RFC 5322 3.6.8. */
static inline bool header_is_name_byte(uint8_t c)
{
	return c > 32 && c < 127 && c != ':';
}

#endif
