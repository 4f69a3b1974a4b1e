#include "config.h"

#include "session/smtp_command.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "common/dsn.h"
#include "common/smtp_path.h"
#include "common/utf8.h"

#define SIZE_DIGITS_MAX 20u	/* RFC 1870 */

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_control(char c)
{
	return (uint8_t)c < 32 || c == 127;
}

static bool starts_tls(const struct buf *b)
{
	/* ContentType handshake, major version 3: RFC 8446 5.1 */
	return buf_len(b) >= 2 && buf_head(b)[0] == 0x16 && buf_head(b)[1] == 0x03;
}

/* No CRLF is in the buffer, and a line of this length is refused: forget it, but a CR that may belong to its end. */
static enum smtp_line skip(struct smtp_line_reader *r, struct buf *b)
{
	size_t len = buf_len(b), drop = len - (buf_head(b)[len - 1] == '\r');

	r->skipped += drop;
	buf_consume(b, drop);
	return r->skipped > SMTP_LINE_SKIP_MAX ? SMTP_LINE_ENDLESS : SMTP_LINE_MORE;
}

enum smtp_line smtp_line_next(struct smtp_line_reader *r, struct buf *b, const char **line, size_t *len, size_t *size)
{
	size_t have = buf_len(b);

	if (!have)
		return SMTP_LINE_MORE;

	const char *start = (const char *)buf_head(b), *end = memmem(start, have, "\r\n", 2);

	*line = start;
	if (!r->skipped && starts_tls(b)) {
		*len = *size = have;
		return SMTP_LINE_OK;
	}
	if (!end)
		return r->skipped || have > SMTP_LINE_MAX ? skip(r, b) : SMTP_LINE_MORE;
	*len = (size_t)(end - start);
	*size = *len + 2;
	if (r->skipped || *size > SMTP_LINE_MAX) {
		*r = (struct smtp_line_reader){ 0 };
		return SMTP_LINE_LONG;
	}
	if (memchr(start, '\n', *len) || memchr(start, '\r', *len) || memchr(start, '\0', *len))
		return SMTP_LINE_BARE;
	return SMTP_LINE_OK;
}

static void refuse(struct smtp_command *c, int code, const char *enhanced, const char *why)
{
	c->code = code;
	c->enhanced = enhanced;
	c->why = why;
}

/* The argument of one command, without the blanks around it. */
struct argument {
	const char *at;
	size_t len;
};

static void skip_blanks(struct argument *a)
{
	while (a->len && *a->at == ' ') {
		a->at++;
		a->len--;
	}
}

static bool skip_word(struct argument *a, const char *word)
{
	size_t len = strlen(word);

	if (a->len < len || strncasecmp(a->at, word, len) != 0)
		return false;
	a->at += len;
	a->len -= len;
	return true;
}

static void parse_helo(struct arena *arena, const struct smtp_terms *terms, struct argument *a, struct smtp_command *c)
{
	(void)terms;
	if (!a->len) {
		refuse(c, 501, "5.5.4", "A host name is needed");
		return;
	}
	for (size_t i = 0; i < a->len; i++) {
		if ((uint8_t)a->at[i] <= ' ' || (uint8_t)a->at[i] >= 127) {
			refuse(c, 501, "5.5.4", "That is no host name");
			return;
		}
	}
	if (a->len > SMTP_DOMAIN_MAX)
		refuse(c, 501, "5.5.4", "The host name is too long");
	else
		c->domain = arena_strndup(arena, a->at, a->len);
}

static bool is_number(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return digits && digits <= SIZE_DIGITS_MAX && !text[digits];
}

static bool is_body(const char *value)
{
	return strcasecmp(value, "7BIT") == 0 || strcasecmp(value, "8BITMIME") == 0;
}

static bool is_empty(const char *value)
{
	return !*value;
}

static const struct param {
	enum smtp_verb verb;
	const char *keyword;
	unsigned extension;	/* that must have been offered */
	bool (*is_valid)(const char *value);
	int code;		/* when it is not */
	const char *why;
} known_params[] = {
	{ SMTP_MAIL, "SIZE", 0, is_number, 501, "SIZE must be a number" },
	{ SMTP_MAIL, "BODY", SMTP_EXTENSION_8BITMIME, is_body, 555, "BODY can be 7BIT or 8BITMIME" },
	{ SMTP_MAIL, "SMTPUTF8", SMTP_EXTENSION_SMTPUTF8, is_empty, 501, "SMTPUTF8 has no value" },
	{ SMTP_MAIL, "RET", SMTP_EXTENSION_DSN, dsn_is_ret, 501, "RET can be FULL or HDRS" },
	{ SMTP_MAIL, "ENVID", SMTP_EXTENSION_DSN, dsn_is_envid, 501, "ENVID must be xtext of at most 100 bytes" },
	{ SMTP_RCPT, "NOTIFY", SMTP_EXTENSION_DSN, dsn_is_notify, 501,
	  "NOTIFY can be NEVER, or a list of SUCCESS, FAILURE, DELAY" },
	{ SMTP_RCPT, "ORCPT", SMTP_EXTENSION_DSN, dsn_is_orcpt, 501, "ORCPT must be an address type, a semicolon and xtext" },
};

static const struct param *find_param(enum smtp_verb verb, unsigned extensions, const char *param)
{
	for (size_t i = 0; i < sizeof(known_params) / sizeof(*known_params); i++) {
		const struct param *p = &known_params[i];

		if (p->verb == verb && (p->extension & ~extensions) == 0 && smtp_params_find(&param, 1, p->keyword))
			return p;
	}
	return NULL;
}

/* One more parameter of the command. seen: bits of known_params. */
static void check_param(const struct smtp_terms *terms, struct smtp_command *c, const char *text, unsigned *seen)
{
	const struct param *p = find_param(c->verb, terms->extensions, text);

	if (!p) {
		refuse(c, 555, "5.5.4", c->verb == SMTP_MAIL ? "Unsupported MAIL parameter" : "Unsupported RCPT parameter");
		return;
	}
	if (!p->is_valid(smtp_params_find(&text, 1, p->keyword)))
		refuse(c, p->code, "5.5.4", p->why);
	else if (*seen & 1u << (p - known_params))
		refuse(c, 501, "5.5.4", "A parameter is there twice");
	*seen |= 1u << (p - known_params);
}

static void parse_params(struct arena *arena, const struct smtp_terms *terms, struct argument *a, struct smtp_command *c)
{
	const char *why;
	unsigned seen = 0;

	if (!a->len)
		return;
	if (*a->at != ' ') {
		refuse(c, 501, "5.5.4", "There is something behind the address");
		return;
	}
	skip_blanks(a);
	c->param = smtp_params_parse(arena, a->at, a->len, SMTP_PARAMS_MAX, &c->param_count, &why);
	if (!c->param) {
		c->param_count = 0;
		refuse(c, 501, "5.5.4", why);
		return;
	}
	for (size_t i = 0; i < c->param_count && !c->code; i++)
		check_param(terms, c, c->param[i], &seen);
}

/* RFC 6531 3.5 and 3.6: what is not ASCII needs SMTPUTF8, and is UTF-8. */
static void check_bytes(const struct smtp_terms *terms, struct smtp_command *c)
{
	bool utf8 = c->verb == SMTP_MAIL ? smtp_params_find(c->param, c->param_count, "SMTPUTF8") != NULL : terms->utf8;
	bool ascii = utf8_is_ascii(c->address), valid = utf8_is_valid(c->address);

	for (size_t i = 0; i < c->param_count; i++) {
		ascii = ascii && utf8_is_ascii(c->param[i]);
		valid = valid && utf8_is_valid(c->param[i]);
	}
	if (!ascii && !utf8)
		refuse(c, 553, "5.6.7", "This needs SMTPUTF8, which was not asked for with MAIL");
	else if (!valid)
		refuse(c, 500, "5.5.2", "That is not UTF-8");
}

static void parse_path(struct arena *arena, const struct smtp_terms *terms, struct argument *a, struct smtp_command *c)
{
	bool mail = c->verb == SMTP_MAIL;
	const char *why;
	size_t used;

	if (!skip_word(a, mail ? "FROM:" : "TO:")) {
		refuse(c, 501, "5.5.4", mail ? "Syntax: MAIL FROM:<address>" : "Syntax: RCPT TO:<address>");
		return;
	}
	/* RFC 5321 3.3 forbids blanks behind the colon; too many clients send them. */
	skip_blanks(a);

	const char *address = smtp_path_parse(arena, mail ? SMTP_PATH_REVERSE : SMTP_PATH_FORWARD, a->at, a->len, &used,
					      &why);

	if (!address) {
		refuse(c, 501, mail ? "5.1.7" : "5.1.3", arena_printf(arena, "Bad address: %s", why));
		return;
	}
	c->address = address;
	a->at += used;
	a->len -= used;
	parse_params(arena, terms, a, c);
	if (!c->code)
		check_bytes(terms, c);
}

static void parse_nothing(struct arena *arena, const struct smtp_terms *terms, struct argument *a, struct smtp_command *c)
{
	(void)arena;
	(void)terms;
	if (a->len)
		refuse(c, 501, "5.5.4", "No argument is allowed here");
}

static void parse_anything(struct arena *arena, const struct smtp_terms *terms, struct argument *a, struct smtp_command *c)
{
	(void)arena;
	(void)terms;
	(void)a;
	(void)c;
}

static void parse_something(struct arena *arena, const struct smtp_terms *terms, struct argument *a, struct smtp_command *c)
{
	(void)arena;
	(void)terms;
	if (!a->len)
		refuse(c, 501, "5.5.4", "An argument is needed");
}

static const struct verb {
	const char *name;
	void (*parse)(struct arena *, const struct smtp_terms *, struct argument *, struct smtp_command *);
} verbs[SMTP_OTHER] = {
	[SMTP_HELO] = { "HELO", parse_helo },
	[SMTP_EHLO] = { "EHLO", parse_helo },
	[SMTP_MAIL] = { "MAIL", parse_path },
	[SMTP_RCPT] = { "RCPT", parse_path },
	[SMTP_DATA] = { "DATA", parse_nothing },
	[SMTP_RSET] = { "RSET", parse_nothing },
	[SMTP_NOOP] = { "NOOP", parse_anything },
	[SMTP_QUIT] = { "QUIT", parse_nothing },
	[SMTP_VRFY] = { "VRFY", parse_something },
	[SMTP_HELP] = { "HELP", parse_anything },
};

/* Another protocol's first line: a request that a browser was tricked into sending must not reach the mail behind it. */
static bool is_foreign(const char *line, size_t len, size_t word)
{
	static const char *const methods[] = {
		"GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "DELETE", "PATCH", "TRACE", "PRI",
	};

	if (len >= 2 && line[0] == 0x16 && line[1] == 0x03)
		return true;
	if (len >= 4 && memcmp(line, "SSH-", 4) == 0)
		return true;
	for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++) {
		if (word == strlen(methods[i]) && memcmp(line, methods[i], word) == 0)
			return true;
	}
	/* A field of a HTTP request or of a mail header: "Host: example.org". */
	for (size_t i = 0; i < word; i++) {
		if (line[i] == ':')
			return i > 0;
		if (!is_letter(line[i]) && line[i] != '-')
			return false;
	}
	return false;
}

static enum smtp_verb find_verb(const char *line, size_t len, size_t word)
{
	for (size_t i = 0; i < SMTP_OTHER; i++) {
		if (word == strlen(verbs[i].name) && strncasecmp(line, verbs[i].name, word) == 0)
			return (enum smtp_verb)i;
	}
	return is_foreign(line, len, word) ? SMTP_FOREIGN : SMTP_OTHER;
}

static const char *printable(struct arena *arena, const char *line, size_t len)
{
	char *text = arena_strndup(arena, line, len);

	for (size_t i = 0; i < len; i++) {
		if (is_control(text[i]) || (uint8_t)text[i] >= 0x80)
			text[i] = '?';
	}
	return text;
}

static bool has_control(const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (is_control(line[i]))
			return true;
	}
	return false;
}

void smtp_command_parse(struct arena *arena, const struct smtp_terms *terms, const char *line, size_t len,
	struct smtp_command *c)
{
	const char *blank = memchr(line, ' ', len);
	size_t word = blank ? (size_t)(blank - line) : len;
	struct argument a = { line + word, len - word };

	*c = (struct smtp_command){ .verb = find_verb(line, len, word), .text = printable(arena, line, len) };
	if (c->verb == SMTP_FOREIGN)
		return;
	if (has_control(line, len)) {
		refuse(c, 500, "5.5.2", "Control characters are not allowed in commands");
		return;
	}
	skip_blanks(&a);
	while (a.len && a.at[a.len - 1] == ' ')
		a.len--;
	if (c->verb < SMTP_OTHER)
		verbs[c->verb].parse(arena, terms, &a, c);
	else if (!word)
		refuse(c, 500, "5.5.2", "A command is needed");
	else if (word == 4 && strncasecmp(line, "BDAT", 4) == 0)
		refuse(c, 521, "5.5.1", "CHUNKING is not offered");
}
