#include "config.h"

#include "session/smtp_offers.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/smtp_path.h"
#include "common/utf8.h"

/* One line of the reply, behind its code: "SIZE 1000". */
static void read_line(struct smtp_offers *o, const char *line, size_t len)
{
	size_t word = 0;

	while (word < len && line[word] != ' ')
		word++;
	if (word == 10 && strncasecmp(line, "PIPELINING", word) == 0) {
		o->pipelining = true;
	} else if (word == 8 && strncasecmp(line, "8BITMIME", word) == 0) {
		o->extensions |= SMTP_EXTENSION_8BITMIME;
	} else if (word == 8 && strncasecmp(line, "SMTPUTF8", word) == 0) {
		o->extensions |= SMTP_EXTENSION_SMTPUTF8;
	} else if (word == 3 && strncasecmp(line, "DSN", word) == 0) {
		o->extensions |= SMTP_EXTENSION_DSN;
	} else if (word == 4 && strncasecmp(line, "SIZE", word) == 0) {
		o->size = true;
		/* The line ends in CRLF, so the number ends there; one that is too large is no limit. */
		errno = 0;
		o->size_limit = word < len && line[word + 1] != '-' ? strtoull(line + word, NULL, 10) : 0;
		if (errno)
			o->size_limit = 0;
	}
}

void smtp_offers_read(struct smtp_offers *o, const char *reply)
{
	const char *end = strstr(reply, "\r\n");

	*o = (struct smtp_offers){ 0 };
	/* The first line is the name of the host. */
	while (end && end[2]) {
		const char *line = end + 2 + 4;

		assert(strlen(end + 2) > 4);
		end = strstr(line, "\r\n");
		if (end)
			read_line(o, line, (size_t)(end - line));
	}
}

/* Whatever is put into a command has been parsed before, so a line end in it would be our own mistake. */
static void put_safe(struct buf *b, const char *text)
{
	assert(!strpbrk(text, "\r\n"));
	buf_puts(b, text);
}

static void put_param(struct buf *b, const char *param)
{
	buf_puts(b, " ");
	put_safe(b, param);
}

/* The extension a parameter belongs to, 0: none that is handed on. */
static unsigned extension_of(const char *param)
{
	static const struct {
		const char *keyword;
		unsigned extension;
	} keywords[] = {
		{ "BODY", SMTP_EXTENSION_8BITMIME },
		{ "SMTPUTF8", SMTP_EXTENSION_SMTPUTF8 },
		{ "RET", SMTP_EXTENSION_DSN },
		{ "ENVID", SMTP_EXTENSION_DSN },
		{ "NOTIFY", SMTP_EXTENSION_DSN },
		{ "ORCPT", SMTP_EXTENSION_DSN },
	};

	for (size_t i = 0; i < sizeof(keywords) / sizeof(*keywords); i++)
		if (smtp_params_find(&param, 1, keywords[i].keyword))
			return keywords[i].extension;
	return 0;
}

static bool path_is_ascii(const struct envelope_path *path)
{
	for (size_t i = 0; i < path->param_count; i++)
		if (!utf8_is_ascii(path->param[i]))
			return false;
	return utf8_is_ascii(path->address);
}

unsigned smtp_offers_needed(const struct envelope_path *path)
{
	unsigned needed = path_is_ascii(path) ? 0 : SMTP_EXTENSION_SMTPUTF8;

	for (size_t i = 0; i < path->param_count; i++)
		/* What everybody takes. */
		if (strcasecmp(path->param[i], "BODY=7BIT") != 0)
			needed |= extension_of(path->param[i]);
	return needed;
}

bool smtp_offers_needs_utf8(const struct envelope *e)
{
	if (!path_is_ascii(&e->sender))
		return true;
	for (size_t i = 0; i < e->rcpt_count; i++)
		if (!path_is_ascii(&e->rcpt[i]))
			return true;
	return false;
}

static void put_params(struct buf *b, const struct smtp_offers *o, const struct envelope_path *path)
{
	for (size_t i = 0; i < path->param_count; i++)
		if (o->extensions & extension_of(path->param[i]))
			put_param(b, path->param[i]);
}

/* The size that is told before the message is known: more than the client said, but not what would be refused. */
static uint64_t early_size(const struct smtp_offers *o, const struct envelope_path *sender)
{
	const char *value = smtp_params_find(sender->param, sender->param_count, "SIZE");
	uint64_t size = value ? strtoull(value, NULL, 10) : 0;

	if (!size || size > UINT64_MAX - SMTP_OFFERS_ADDED_MAX)
		return size;
	if (o->size_limit && size <= o->size_limit && size + SMTP_OFFERS_ADDED_MAX > o->size_limit)
		return o->size_limit;
	return size + SMTP_OFFERS_ADDED_MAX;
}

void smtp_offers_put_mail(struct buf *b, const struct smtp_offers *o, const struct envelope_path *sender, uint64_t size,
	bool utf8)
{
	buf_puts(b, "MAIL FROM:<");
	put_safe(b, sender->address);
	buf_puts(b, ">");
	if (o->size && !size)
		size = early_size(o, sender);
	if (o->size && size)
		buf_printf(b, " SIZE=%" PRIu64, size);
	put_params(b, o, sender);
	if (utf8 && !smtp_params_find(sender->param, sender->param_count, "SMTPUTF8"))
		put_param(b, "SMTPUTF8");
	buf_puts(b, "\r\n");
}

void smtp_offers_put_rcpt(struct buf *b, const struct smtp_offers *o, const struct envelope_path *rcpt)
{
	buf_puts(b, "RCPT TO:<");
	put_safe(b, rcpt->address);
	buf_puts(b, ">");
	put_params(b, o, rcpt);
	buf_puts(b, "\r\n");
}
