#include "config.h"

#include "common/smtp_reply.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#define LINE_LENGTH_MAX 2048u	/* bytes of one line of a peer without its end, RFC 5321 4.5.3.1.5 wants 512 */

struct line {
	int code;
	bool last;
	const char *text;	/* behind the separator */
	size_t len;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "250-text", "250 text" or "250". */
static bool take_line(const char *at, size_t len, struct line *line)
{
	if (len < 3 || at[0] < '2' || at[0] > '5' || !is_digit(at[1]) || !is_digit(at[2]))
		return false;
	if (len > 3 && at[3] != ' ' && at[3] != '-')
		return false;
	line->code = (at[0] - '0') * 100 + (at[1] - '0') * 10 + (at[2] - '0');
	line->last = len == 3 || at[3] == ' ';
	line->text = at + (len > 3 ? 4 : 3);
	line->len = len > 3 ? len - 4 : 0;
	return true;
}

/* Bytes of the UTF-8 character at the start, RFC 3629; 0: it is none, or one of the control characters U+0080 to
 * U+009F, which a terminal obeys. */
static size_t utf8_length(const unsigned char *p, size_t len)
{
	static const struct {
		unsigned char first, last, low, high;
		unsigned char length;
	} rows[] = {
		{ 0xc2, 0xc2, 0xa0, 0xbf, 2 }, { 0xc3, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		if (p[0] < rows[i].first || p[0] > rows[i].last)
			continue;
		if (len < rows[i].length || p[1] < rows[i].low || p[1] > rows[i].high)
			return 0;
		for (size_t n = 2; n < rows[i].length; n++)
			if (p[n] < 0x80 || p[n] > 0xbf)
				return 0;
		return rows[i].length;
	}
	return 0;
}

/* What cannot be shown becomes '?'. */
static void put_safe(struct buf *b, const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text;

	for (size_t i = 0; i < len;) {
		size_t length = p[i] >= 0x20 && p[i] < 0x7f ? 1 : utf8_length(p + i, len - i);

		buf_append(b, length ? (const char *)p + i : "?", length ? length : 1);
		i += length ? length : 1;
	}
}

static const char *default_text(int code)
{
	if (code < 400)
		return "Ok";
	return code < 500 ? "Try again later" : "Refused";
}

static void put_line(struct buf *b, int code, bool last, const char *text, size_t len)
{
	buf_printf(b, "%03d%c", code, last ? ' ' : '-');
	if (len)
		put_safe(b, text, len);
	else
		buf_puts(b, default_text(code));
	buf_puts(b, "\r\n");
}

static const char *keep(struct arena *a, struct buf *b)
{
	const char *text = arena_strndup(a, buf_head(b), buf_len(b));

	buf_fini(b);
	return text;
}

static int refuse(struct buf *made, const char **why, const char *reason)
{
	buf_fini(made);
	*why = reason;
	return -1;
}

int smtp_reply_read(struct buf *in, struct arena *a, int *code, const char **text, const char **why)
{
	struct buf made = { 0 };
	size_t left = buf_len(in), used = 0;
	const char *at = left ? (const char *)buf_head(in) : NULL;
	struct line line;
	unsigned lines = 0;

	*code = 0;
	do {
		const char *end = left ? memchr(at, '\n', left) : NULL;
		size_t size = end ? (size_t)(end - at) + 1 : left, len = end ? size - 1 : left;

		if (len && at[len - 1] == '\r')
			len--;
		if (len > LINE_LENGTH_MAX)
			return refuse(&made, why, "a line of the reply is too long");
		if (used + len > SMTP_REPLY_LENGTH_MAX || lines == SMTP_REPLY_LINES_MAX)
			return refuse(&made, why, "the reply is too long");
		if (!end) {
			buf_fini(&made);
			return 0;
		}
		used += size;
		left -= size;
		if (!take_line(at, len, &line))
			return refuse(&made, why, "it is no SMTP reply");
		if (*code && *code != line.code)
			return refuse(&made, why, "the lines of the reply have different codes");
		*code = line.code;
		lines++;
		put_line(&made, line.code, line.last, line.text, line.len);
		at = end + 1;
	} while (!line.last);
	buf_consume(in, used);
	*text = keep(a, &made);
	return 1;
}

/* "4.7.1" and a blank or the end: the class, a digit. 0: no enhanced status code. */
static char enhanced_class(const char *text, size_t len)
{
	size_t i = 1;

	if (len < 5 || !is_digit(text[0]) || text[1] != '.')
		return 0;
	for (int part = 0; part < 2; part++) {
		size_t digits = 0;

		if (i >= len || text[i] != '.')
			return 0;
		for (i++; i < len && is_digit(text[i]); i++)
			digits++;
		if (digits < 1 || digits > 3)
			return 0;
	}
	return i == len || text[i] == ' ' ? text[0] : 0;
}

/* mfapi.h, smfi_setreply(): a percent sign is written twice. A single one is dropped, as Postfix does. */
static size_t unescape(char *text, size_t len)
{
	size_t out = 0;

	for (size_t i = 0; i < len; i++) {
		if (text[i] == '%') {
			if (i + 1 == len || text[i + 1] != '%')
				continue;
			i++;
		}
		text[out++] = text[i];
	}
	return out;
}

static int put_milter_line(struct arena *a, struct buf *b, const char *at, size_t len, bool last, int *code,
	const char **why)
{
	struct line line;

	if (!take_line(at, len, &line) || line.code < 400)
		return refuse(b, why, "the code is no 4xx or 5xx");
	if (*code && *code != line.code)
		return refuse(b, why, "the lines have different codes");
	if (line.last != last)
		return refuse(b, why, "a hyphen or blank behind the code is wrong");
	*code = line.code;

	char class = enhanced_class(line.text, line.len);

	if (class && class != at[0])
		return refuse(b, why, "the enhanced status code belongs to another class");
	char *text = arena_strndup(a, line.text, line.len);

	put_line(b, line.code, last, text, unescape(text, line.len));
	if (buf_len(b) > SMTP_REPLY_MILTER_MAX)
		return refuse(b, why, "the text is too long");
	return 0;
}

const char *smtp_reply_from_milter(struct arena *a, const char *text, const char **why)
{
	struct buf made = { 0 };
	unsigned lines = 0;
	int code = 0;

	if (strlen(text) > 2 * SMTP_REPLY_MILTER_MAX) {
		*why = "the text is too long";
		return NULL;
	}
	for (const char *at = text; at;) {
		const char *end = strchr(at, '\n');
		size_t len = end ? (size_t)(end - at) : strlen(at);
		bool last = !end || !end[1];

		if (len && at[len - 1] == '\r')
			len--;
		if (memchr(at, '\r', len)) {
			refuse(&made, why, "there is a bare carriage return in it");
			return NULL;
		}
		if (++lines > SMTP_REPLY_LINES_MAX) {
			refuse(&made, why, "there are too many lines");
			return NULL;
		}
		if (put_milter_line(a, &made, at, len, last, &code, why) < 0)
			return NULL;
		at = last ? NULL : end + 1;
	}
	return keep(a, &made);
}

const char *smtp_reply_make(struct arena *a, int code, const char *enhanced, const char *text)
{
	struct buf made = { 0 };

	buf_printf(&made, "%03d ", code);
	if (enhanced)
		buf_printf(&made, "%s ", enhanced);
	put_safe(&made, text, strlen(text));
	buf_puts(&made, "\r\n");
	return keep(a, &made);
}

int smtp_reply_code(const char *reply)
{
	assert(is_digit(reply[0]) && is_digit(reply[1]) && is_digit(reply[2]));
	return (reply[0] - '0') * 100 + (reply[1] - '0') * 10 + (reply[2] - '0');
}

void smtp_reply_print(struct buf *b, const char *reply)
{
	bool first = true;

	for (const char *end; (end = strstr(reply, "\r\n")); reply = end + 2, first = false) {
		const char *at = first ? reply : reply + 4;

		if (!first)
			buf_puts(b, " / ");
		if (at < end)
			buf_append(b, at, (size_t)(end - at));
	}
}
