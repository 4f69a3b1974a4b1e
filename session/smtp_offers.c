#include "config.h"

#include "session/smtp_offers.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/smtp_path.h"

#define ADDED_MAX (64u * 1024)	/* bytes that milters are expected to add to a message */

/* One line of the reply, behind its code: "SIZE 1000". */
static void read_line(struct smtp_offers *o, const char *line, size_t len)
{
	size_t word = 0;

	while (word < len && line[word] != ' ')
		word++;
	if (word == 10 && strncasecmp(line, "PIPELINING", word) == 0) {
		o->pipelining = true;
	} else if (word == 8 && strncasecmp(line, "8BITMIME", word) == 0) {
		o->eightbitmime = true;
	} else if (word == 3 && strncasecmp(line, "DSN", word) == 0) {
		o->dsn = true;
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

static bool is_keyword(const char *param, const char *keyword)
{
	return smtp_params_find(&param, 1, keyword) != NULL;
}

/* RFC 3461 4: what may stand in MAIL and in RCPT. */
static bool is_dsn(const char *param)
{
	return is_keyword(param, "RET") || is_keyword(param, "ENVID") || is_keyword(param, "NOTIFY") ||
		is_keyword(param, "ORCPT");
}

/* The size that is told before the message is known: more than the client said, but not what would be refused. */
static uint64_t early_size(const struct smtp_offers *o, const struct envelope_path *sender)
{
	const char *value = smtp_params_find(sender->param, sender->param_count, "SIZE");
	uint64_t size = value ? strtoull(value, NULL, 10) : 0;

	if (!size || size > UINT64_MAX - ADDED_MAX)
		return size;
	if (o->size_limit && size <= o->size_limit && size + ADDED_MAX > o->size_limit)
		return o->size_limit;
	return size + ADDED_MAX;
}

void smtp_offers_put_mail(struct buf *b, const struct smtp_offers *o, const struct envelope_path *sender, uint64_t size)
{
	buf_puts(b, "MAIL FROM:<");
	put_safe(b, sender->address);
	buf_puts(b, ">");
	if (o->size && !size)
		size = early_size(o, sender);
	if (o->size && size)
		buf_printf(b, " SIZE=%" PRIu64, size);
	for (size_t i = 0; i < sender->param_count; i++) {
		const char *param = sender->param[i];

		if ((o->eightbitmime && is_keyword(param, "BODY")) || (o->dsn && is_dsn(param)))
			put_param(b, param);
	}
	buf_puts(b, "\r\n");
}

void smtp_offers_put_rcpt(struct buf *b, const struct smtp_offers *o, const struct envelope_path *rcpt)
{
	buf_puts(b, "RCPT TO:<");
	put_safe(b, rcpt->address);
	buf_puts(b, ">");
	for (size_t i = 0; i < rcpt->param_count; i++) {
		if (o->dsn && is_dsn(rcpt->param[i]))
			put_param(b, rcpt->param[i]);
	}
	buf_puts(b, "\r\n");
}
