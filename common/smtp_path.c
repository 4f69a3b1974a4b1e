#include "config.h"

#include "common/smtp_path.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#define TOO_LONG "the address is too long"

/* One parser over one piece of text; it never reads at or behind end. */
struct scan {
	const char *at, *end;
};

static bool is_alnum(uint8_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* RFC 5321 4.1.2 with RFC 6531: bytes of UTF-8 may stand where letters do. */
static bool is_atext(uint8_t c)
{
	return is_alnum(c) || c >= 0x80 || (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

/* More than RFC 5321 allows: underscores are in use, and hyphens stand where they should not. */
static bool is_domain_byte(uint8_t c)
{
	return is_alnum(c) || c >= 0x80 || c == '-' || c == '_';
}

static bool next_is(const struct scan *s, char c)
{
	return s->at < s->end && *s->at == c;
}

static bool skip(struct scan *s, char c)
{
	if (!next_is(s, c))
		return false;
	s->at++;
	return true;
}

/* Quoted-string: DQUOTE *(qtextSMTP / quoted-pairSMTP) DQUOTE. */
static bool scan_quoted(struct scan *s)
{
	s->at++;	/* the quote that the caller has seen */
	while (s->at < s->end && *s->at != '"') {
		if (*s->at == '\\') {
			s->at++;
			if (s->at == s->end || (uint8_t)*s->at >= 0x80)
				return false;
		}
		if ((uint8_t)*s->at < 32 || *s->at == 127)
			return false;
		s->at++;
	}
	return skip(s, '"');
}

/* Dot-string, but dots may stand anywhere: such addresses exist, and the next hop is the judge of its local parts. */
static bool scan_local_part(struct scan *s)
{
	const char *start = s->at;

	if (next_is(s, '"'))
		return scan_quoted(s);
	while (s->at < s->end && (is_atext((uint8_t)*s->at) || *s->at == '.'))
		s->at++;
	return s->at > start;
}

/* What stands between the brackets: IPv4, "IPv6:" and an address, or a tag, ":" and dcontent. */
static bool is_address_literal(const char *text, size_t len)
{
	char copy[SMTP_PATH_MAX + 1];
	struct in6_addr address;
	size_t tag = 0;

	assert(len < sizeof(copy));	/* no longer than a path */
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (strncasecmp(copy, "IPv6:", 5) == 0)
		return inet_pton(AF_INET6, copy + 5, &address) == 1;
	while (is_alnum((uint8_t)copy[tag]) || copy[tag] == '-')
		tag++;
	if (tag && copy[tag - 1] != '-' && copy[tag] == ':')
		return copy[tag + 1] != '\0';
	return inet_pton(AF_INET, copy, &address) == 1;
}

static bool scan_literal(struct scan *s)
{
	const char *start = ++s->at;	/* behind the bracket that the caller has seen */

	/* dcontent: %d33-90 / %d94-126 */
	while (s->at < s->end && *s->at > 32 && *s->at < 127 && !strchr("[\\]", *s->at))
		s->at++;
	return is_address_literal(start, (size_t)(s->at - start)) && skip(s, ']');
}

static bool scan_domain(struct scan *s)
{
	if (next_is(s, '['))
		return scan_literal(s);
	do {
		const char *label = s->at;

		while (s->at < s->end && is_domain_byte((uint8_t)*s->at))
			s->at++;
		if (s->at == label)
			return false;
	} while (skip(s, '.'));
	return true;
}

/* A-d-l ":", obsolete: at-domains separated by commas. RFC 5321 appendix C: to be accepted and ignored. */
static bool scan_source_route(struct scan *s)
{
	do {
		if (!skip(s, '@') || !scan_domain(s))
			return false;
	} while (skip(s, ','));
	return skip(s, ':');
}

/* What stands between the brackets of a path. The address without its route is from *address to s->at. */
static bool scan_inner(struct scan *s, enum smtp_path_kind kind, const char **address, const char **why)
{
	const char *start = s->at;

	*address = start;
	if (next_is(s, '@')) {
		*why = "the source route is malformed";
		if (!scan_source_route(s))
			return false;
		*address = s->at;
	} else if (kind == SMTP_PATH_REVERSE && (s->at == s->end || *s->at == '>')) {
		return true;
	}
	*why = "the local part is malformed";
	if (!scan_local_part(s))
		return false;
	if (!next_is(s, '@')) {
		*why = "the address has no domain";
		/* RFC 5321 4.1.1.3: the one recipient without a domain, and it has no route. */
		return kind == SMTP_PATH_FORWARD && s->at - start == 10 &&
			strncasecmp(start, "postmaster", 10) == 0;
	}
	s->at++;
	*why = "the domain is malformed";
	return scan_domain(s);
}

const char *smtp_path_parse(struct arena *arena, enum smtp_path_kind kind, const char *text, size_t len, size_t *used,
	const char **why)
{
	struct scan s = { text, text + (len < SMTP_PATH_MAX ? len : SMTP_PATH_MAX) };
	bool cut = len > SMTP_PATH_MAX;
	const char *address;

	if (!skip(&s, '<')) {
		*why = "the address does not start with <";
		return NULL;
	}
	if (!scan_inner(&s, kind, &address, why)) {
		if (cut && s.at == s.end)
			*why = TOO_LONG;
		return NULL;
	}
	size_t length = (size_t)(s.at - address);

	if (!skip(&s, '>')) {
		*why = cut && s.at == s.end ? TOO_LONG : "the address does not end with >";
		return NULL;
	}
	*used = (size_t)(s.at - text);
	return arena_strndup(arena, address, length);
}

const char *smtp_path_from_milter(struct arena *arena, enum smtp_path_kind kind, const char *text, const char **why)
{
	size_t len = strnlen(text, SMTP_PATH_MAX + 1), used;
	const char *address;

	if (len > SMTP_PATH_MAX - (text[0] == '<' ? 0 : 2)) {
		*why = TOO_LONG;
		return NULL;
	}
	if (text[0] == '<') {
		address = smtp_path_parse(arena, kind, text, len, &used, why);
		if (address && used < len) {
			*why = "there is something behind the address";
			return NULL;
		}
		return address;
	}
	struct scan s = { text, text + len };

	if (!scan_inner(&s, kind, &address, why))
		return NULL;
	if (s.at < s.end) {
		*why = "there is something behind the address";
		return NULL;
	}
	return arena_strndup(arena, address, (size_t)(s.at - address));
}

/* Where the local part ends: at the "@" outside quotes, or at the end. */
static const char *local_part_end(const char *address)
{
	if (*address != '"')
		return address + strcspn(address, "@");
	for (address++; *address && *address != '"'; address++)
		if (*address == '\\' && address[1])
			address++;
	return *address ? address + 1 : address;
}

/* The next byte of a local part without quotes and backslashes; -1 at the end. */
static int next_plain(const char **at, const char *end, bool quoted)
{
	if (quoted && *at < end && **at == '\\' && *at + 1 < end)
		++*at;
	else if (quoted && *at < end && **at == '"')
		return -1;
	return *at < end ? (uint8_t)*(*at)++ : -1;
}

bool smtp_path_equal(const char *one, const char *other)
{
	const char *one_end = local_part_end(one), *other_end = local_part_end(other);
	bool one_quoted = *one == '"', other_quoted = *other == '"';
	int c;

	if (!one_quoted && !other_quoted && one_end - one != other_end - other)
		return false;
	if (strcasecmp(one_end, other_end) != 0)
		return false;
	one += one_quoted;
	other += other_quoted;
	do {
		c = next_plain(&one, one_end, one_quoted);
		if (c != next_plain(&other, other_end, other_quoted))
			return false;
	} while (c >= 0);
	return true;
}

static size_t scan_param(const char *text, size_t len)
{
	size_t at = 0;

	if (!len || !is_alnum((uint8_t)text[0]))
		return 0;
	while (at < len && (is_alnum((uint8_t)text[at]) || text[at] == '-'))
		at++;
	if (at == len || text[at] != '=')
		return at;
	size_t value = ++at;

	/* esmtp-value: %d33-60 / %d62-126, and UTF-8 (RFC 6531 3.3) */
	while (at < len && (uint8_t)text[at] > 32 && text[at] != '=' && text[at] != 127)
		at++;
	return at > value ? at : 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

const char **smtp_params_parse(struct arena *arena, const char *text, size_t len, size_t limit, size_t *count,
	const char **why)
{
	size_t most = len / 2 + 1 < limit ? len / 2 + 1 : limit;
	const char **params = arena_alloc(arena, (most + 1) * sizeof(*params));
	size_t at = 0;

	*count = 0;
	for (;;) {
		while (at < len && is_blank(text[at]))
			at++;
		if (at == len)
			return params;
		size_t length = scan_param(text + at, len - at);

		if (!length || (at + length < len && !is_blank(text[at + length]))) {
			*why = "a parameter is malformed";
			return NULL;
		}
		if (*count == limit) {
			*why = "too many parameters";
			return NULL;
		}
		params[(*count)++] = arena_strndup(arena, text + at, length);
		at += length;
	}
}

const char *smtp_params_find(const char *const *params, size_t count, const char *keyword)
{
	size_t length = strlen(keyword);

	for (size_t i = 0; i < count; i++) {
		if (strncasecmp(params[i], keyword, length) != 0)
			continue;
		if (params[i][length] == '=')
			return params[i] + length + 1;
		if (params[i][length] == '\0')
			return params[i] + length;
	}
	return NULL;
}
