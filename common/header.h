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

/* 0, or -1 with *why in words (static) when there are more than field_limit fields or the block is longer than
 * length_limit bytes. Linear in the length of the block. */
int header_parse(struct arena *, const uint8_t *message, size_t len, size_t field_limit, size_t length_limit,
	struct header_block *, const char **why);

/* How many fields have this name; without regard to case. */
size_t header_count(const struct header_block *, const uint8_t *message, const char *name);

#endif
