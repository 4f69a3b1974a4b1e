#include "config.h"

#include "common/utf8.h"

#include <stdint.h>

bool utf8_is_ascii(const char *text)
{
	for (; *text; text++)
		if ((uint8_t)*text >= 0x80)
			return false;
	return true;
}

static bool is_between(char c, uint8_t first, uint8_t last)
{
	return (uint8_t)c >= first && (uint8_t)c <= last;
}

/* Bytes of the sequence at text, 0 when it is none. The text's NUL is no continuation byte, so it is never passed. */
static unsigned sequence(const char *text)
{
	uint8_t lead = (uint8_t)text[0];
	unsigned length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

	if (lead < 0x80)
		return 1;
	if (lead < 0xc2 || lead > 0xf4)
		return 0;
	/* The second byte is where overlong forms, surrogates and too large numbers show. */
	if (!is_between(text[1], lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80,
			lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf))
		return 0;
	for (unsigned i = 2; i < length; i++)
		if (!is_between(text[i], 0x80, 0xbf))
			return 0;
	return length;
}

bool utf8_is_valid(const char *text)
{
	while (*text) {
		unsigned length = sequence(text);

		if (!length)
			return false;
		text += length;
	}
	return true;
}
