/* Replies of next hops and milters: the first byte is the size of a read, the rest what is said. What is kept can be
 * sent to a client as it is: whole lines of one code that read as the same reply again. */
#include "config.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "common/smtp_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_lines(const char *reply, int code)
{
	const char *end;

	assert(*reply && smtp_reply_code(reply) == code && code >= 200 && code <= 599);
	for (const char *line = reply; *line; line = end + 2) {
		end = strstr(line, "\r\n");
		assert(end && end - line > 4 && smtp_reply_code(line) == code);
		assert(line[3] == (end[2] ? '-' : ' '));
		for (const char *c = line; c < end; c++)
			assert((uint8_t)*c >= 32 && *c != 127);
	}
}

static void check_kept(struct arena *arena, const char *reply, int code)
{
	struct buf b = { 0 }, shown = { 0 };
	const char *again, *why;
	int again_code;

	check_lines(reply, code);
	smtp_reply_print(&shown, reply);
	assert(!memchr(buf_head(&shown), '\n', buf_len(&shown)));
	/* Line ends and default texts may have made it a little longer than a peer's may be. */
	buf_puts(&b, reply);
	if (buf_len(&b) <= SMTP_REPLY_LENGTH_MAX) {
		assert(smtp_reply_read(&b, arena, &again_code, &again, &why) == 1);
		assert(again_code == code && strcmp(again, reply) == 0 && !buf_len(&b));
	}
	buf_fini(&b);
	buf_fini(&shown);
}

/* The first reply, and how much of the input it was. */
static int read_reply(struct arena *arena, const uint8_t *data, size_t size, size_t read, const char **reply, size_t *used)
{
	struct buf b = { 0 };
	const char *why = NULL;
	int code, got = 0;

	for (size_t at = 0; at < size && got == 0; at += read) {
		buf_append(&b, data + at, size - at < read ? size - at : read);
		*used = at + (size - at < read ? size - at : read);
		got = smtp_reply_read(&b, arena, &code, reply, &why);
	}
	*used -= got ? buf_len(&b) : 0;
	assert(got >= 0 || why);
	assert(got > 0 || buf_len(&b) <= SMTP_REPLY_LENGTH_MAX + read);
	if (got == 1)
		check_kept(arena, *reply, code);
	buf_fini(&b);
	return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena = { 0 };
	const char *whole, *pieces, *milter, *why = NULL;
	size_t whole_used = 0, pieces_used = 0;

	if (size < 2)
		return 0;
	int got = read_reply(&arena, data + 1, size - 1, size, &whole, &whole_used);

	assert(read_reply(&arena, data + 1, size - 1, data[0] + 1u, &pieces, &pieces_used) == got);
	assert(got != 1 || (whole_used == pieces_used && strcmp(whole, pieces) == 0));

	milter = smtp_reply_from_milter(&arena, arena_strndup(&arena, data + 1, size - 1), &why);
	assert(milter || why);
	if (milter) {
		assert(strlen(milter) <= SMTP_REPLY_MILTER_MAX && smtp_reply_code(milter) >= 400);
		check_kept(&arena, milter, smtp_reply_code(milter));
	}
	arena_fini(&arena);
	return 0;
}
