/* Message content in reads of any size: the first byte is the size of a read, the rest what the client sends. What is
 * found and kept must be what the plain words of RFC 5321 4.5.2 say of the whole. */
#include "config.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "session/smtp_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Content and end by a search for CRLF.CRLF in CRLF and the input. Returns the bytes used, 0 without an end. */
static size_t find_content(const uint8_t *data, size_t size, uint8_t *content, size_t *len, bool *bare)
{
	uint8_t *text = malloc(size + 2);
	size_t used = 0;

	memcpy(text, "\r\n", 2);
	memcpy(text + 2, data, size);

	const uint8_t *end = memmem(text, size + 2, "\r\n.\r\n", 5);

	*len = 0;
	*bare = false;
	for (const uint8_t *p = text + 2; end && p < end + 2; p++) {
		if (*p == '.' && p[-1] == '\n' && p[-2] == '\r')
			continue;
		content[(*len)++] = *p;
		*bare |= (*p == '\r' && p[1] != '\n') || (*p == '\n' && p[-1] != '\r');
	}
	if (end)
		used = (size_t)(end - text) + 3;
	free(text);
	return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smtp_data d;
	size_t len = 0, used = 0, kept, rest, expected_len;
	bool end = false, bare;

	if (size < 2)
		return 0;
	size_t read = data[0] + 1u;

	data++;
	size--;

	uint8_t *message = malloc(size + 1), *expected = malloc(size + 1), *kept_at;
	size_t expected_used = find_content(data, size, expected, &expected_len, &bare);

	smtp_data_init(&d);
	while (!end && used < size) {
		size_t n = size - used < read ? size - used : read, held = smtp_data_held(&d);

		memcpy(message + len + held, data + used, n);
		end = smtp_data_take(&d, message + len + held, n, &kept_at, &kept, &rest);
		assert(kept_at == message + len && rest <= n && (end || !rest));
		len += kept;
		used += n - rest;
	}
	assert(end == (expected_used != 0));
	assert(!end || (used == expected_used && len == expected_len && memcmp(message, expected, len) == 0));
	assert(!end || (d.bare == bare && d.nul == (memchr(message, '\0', len) != NULL)));
	free(message);
	free(expected);
	return 0;
}
