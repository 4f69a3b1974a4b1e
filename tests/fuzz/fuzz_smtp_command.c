/* What a client sends as commands, in reads of any size: the first byte is the size of a read. */
#include "config.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "common/utf8.h"
#include "session/smtp_command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Nothing that is handed on can break a line, a log or another command. */
static void check_text(const char *text, bool utf8)
{
	assert(!text || (utf8 ? utf8_is_valid(text) : utf8_is_ascii(text)));
	for (; text && *text; text++)
		assert((uint8_t)*text >= 32 && *text != 127);
}

static void check_command(const struct smtp_command *c, bool utf8)
{
	assert(c->verb < SMTP_VERBS && c->text);
	check_text(c->text, false);
	check_text(c->domain, false);
	check_text(c->code ? NULL : c->address, utf8);
	check_text(c->why, false);
	check_text(c->enhanced, false);
	for (size_t i = 0; !c->code && i < c->param_count; i++)
		check_text(c->param[i], utf8);
	assert(!c->code || (c->code >= 500 && c->code <= 599 && c->why && c->enhanced));
	if (!c->code && (c->verb == SMTP_MAIL || c->verb == SMTP_RCPT))
		assert(c->address && strlen(c->address) <= 254);
	if (!c->code && (c->verb == SMTP_HELO || c->verb == SMTP_EHLO))
		assert(c->domain && *c->domain && strlen(c->domain) <= SMTP_DOMAIN_MAX);
}

/* True when a line was taken. */
static bool take_line(struct smtp_line_reader *r, struct buf *b, struct arena *arena, bool *endless)
{
	const char *line;
	size_t len, line_size;
	struct smtp_command c;
	enum smtp_line result = smtp_line_next(r, b, &line, &len, &line_size);

	*endless = result == SMTP_LINE_ENDLESS;
	if (result == SMTP_LINE_MORE || *endless)
		return false;
	if (result == SMTP_LINE_OK) {
		/* Offered everything and nothing. */
		for (unsigned all = 0; all <= 1; all++) {
			const struct smtp_terms terms = { .extensions = all ? SMTP_EXTENSIONS_ALL : 0, .utf8 = all };

			smtp_command_parse(arena, &terms, line, len, &c);
			check_command(&c, all);
		}
	}
	assert(line_size > 0 && len <= line_size);
	buf_consume(b, line_size);
	arena_reset(arena);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smtp_line_reader reader = { 0 };
	struct arena arena = { 0 };
	struct buf b = { 0 };
	bool endless = false;

	if (size < 2)
		return 0;
	size_t read = data[0] + 1u;

	for (size_t at = 1; at < size && !endless; at += read) {
		buf_append(&b, data + at, size - at < read ? size - at : read);
		while (take_line(&reader, &b, &arena, &endless))
			;
		assert(buf_len(&b) <= SMTP_LINE_MAX + read);
	}
	buf_fini(&b);
	arena_fini(&arena);
	return 0;
}
