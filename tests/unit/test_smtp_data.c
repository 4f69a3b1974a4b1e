#include "config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "session/smtp_data.h"

/* Lengths of the exhaustive tests: every string over ALPHABET, in every way of reading it in two pieces. */
#define LENGTH_MAX 9
#define ALPHABET   "\r\n.a\0"
#define LETTERS	   (sizeof(ALPHABET) - 1)

struct result {
	uint8_t text[64];
	size_t len, rest;
	bool end, bare, nul;
};

static const uint8_t *find(const uint8_t *in, size_t len, const char *what)
{
	return memmem(in, len, what, strlen(what));
}

/* What RFC 5321 says in the plainest words: the content lies between the line end of DATA and the first CRLF.CRLF, which
 * may begin with that line end, and every line of it loses a dot at its start. */
static void reference(const uint8_t *in, size_t len, struct result *r)
{
	uint8_t text[64] = "\r\n";
	const uint8_t *end;

	*r = (struct result){ 0 };
	memcpy(text + 2, in, len);
	end = find(text, len + 2, "\r\n.\r\n");
	r->end = end != NULL;
	if (!end)
		return;
	r->rest = len + 2 - (size_t)(end + 5 - text);
	for (const uint8_t *p = text + 2; p < end + 2; p++) {
		if (*p == '.' && p[-1] == '\n' && p[-2] == '\r')
			continue;
		r->text[r->len++] = *p;
		r->nul |= *p == '\0';
		r->bare |= (*p == '\r' && p[1] != '\n') || (*p == '\n' && p[-1] != '\r');
	}
}

static void read_in_two(const uint8_t *in, size_t len, size_t first, struct result *r)
{
	struct smtp_data d;
	uint8_t *kept_at;
	uint8_t room[64];
	size_t kept, held;

	smtp_data_init(&d);
	*r = (struct result){ 0 };
	memcpy(room, in, first);
	if (first)
		r->end = smtp_data_take(&d, room, first, &kept_at, &kept, &r->rest);
	if (first && r->end) {
		r->rest += len - first;
	} else {
		if (!first)
			kept = 0;
		held = smtp_data_held(&d);
		memcpy(room + kept + held, in + first, len - first);
		r->len = kept;
		r->end = smtp_data_take(&d, room + kept + held, len - first, &kept_at, &kept, &r->rest);
		cr_assert(kept_at == room + r->len, "what is kept does not follow what was kept before");
		kept += r->len;
	}
	r->len = kept;
	memcpy(r->text, room, kept);
	r->bare = d.bare;
	r->nul = d.nul;
}

static bool same(const struct result *a, const struct result *b)
{
	return a->end == b->end && (!a->end || (a->len == b->len && a->rest == b->rest && a->bare == b->bare &&
						a->nul == b->nul && memcmp(a->text, b->text, a->len) == 0));
}

static void check(const uint8_t *in, size_t len)
{
	struct result expected, got;

	reference(in, len, &expected);
	for (size_t first = 0; first <= len; first++) {
		read_in_two(in, len, first, &got);
		if (same(&expected, &got))
			continue;
		char text[64 * 4 + 1] = "";

		for (size_t i = 0; i < len; i++)
			sprintf(text + strlen(text), "\\x%02x", in[i]);
		cr_assert(false, "%s split at %zu: end %d kept %zu rest %zu bare %d nul %d, expected %d %zu %zu %d %d", text,
			  first, got.end, got.len, got.rest, got.bare, got.nul, expected.end, expected.len, expected.rest,
			  expected.bare, expected.nul);
	}
}

/* The letters of a string are the digits of its number. */
static size_t spell(uint8_t *out, unsigned number, size_t len)
{
	for (size_t i = 0; i < len; i++, number /= LETTERS)
		out[i] = (uint8_t)ALPHABET[number % LETTERS];
	return len;
}

Test(smtp_data, nothing_but_crlf_dot_crlf_ends_a_message)
{
	static const char *const endings[] = {
		"a\n.\n", "a\n.\r\n", "a\r\n.\n", "a\r\n.\r\r\n", "a\r.\r", "a\r\n.\r", "a\n\r.\r\n", "a\r\n\n.\r\n",
		"a\r\n.a\r\n", "a\r\n..\r\n", "a\r\n .\r\n", "a\r.\r\n",
	};

	for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++) {
		struct result r;

		read_in_two((const uint8_t *)endings[i], strlen(endings[i]), 2, &r);
		cr_expect_not(r.end, "ending %zu", i);
	}
	struct smtp_data d;
	uint8_t nul[] = { '.', 0, '\r', '\n' }, *kept_at;
	size_t kept, rest;

	smtp_data_init(&d);
	cr_assert_not(smtp_data_take(&d, nul, sizeof(nul), &kept_at, &kept, &rest));
	cr_assert(d.nul);
}

Test(smtp_data, every_short_string_in_every_two_reads_is_judged_as_the_rfc_says)
{
	uint8_t in[32];
	unsigned strings = 1;

	for (size_t len = 0; len <= LENGTH_MAX; len++, strings *= LETTERS) {
		for (unsigned number = 0; number < strings; number++)
			check(in, spell(in, number, len));
	}
}

Test(smtp_data, every_short_content_is_kept_and_what_follows_the_end_is_left)
{
	static const char tail[] = "\r\n.\r\nQUIT\r\n";
	uint8_t in[32];
	unsigned strings = 1;

	for (size_t len = 0; len < LENGTH_MAX; len++, strings *= LETTERS) {
		for (unsigned number = 0; number < strings; number++) {
			spell(in, number, len);
			memcpy(in + len, tail, sizeof(tail) - 1);
			check(in, len + sizeof(tail) - 1);
		}
	}
}

/* Feed a long line in small reads. */
static bool long_line(size_t len)
{
	struct smtp_data d;
	uint8_t piece[1024], *kept_at;
	size_t kept, rest;

	smtp_data_init(&d);
	while (len) {
		size_t n = len < sizeof(piece) ? len : sizeof(piece);

		memset(piece, 'a', n);
		cr_assert_not(smtp_data_take(&d, piece, n, &kept_at, &kept, &rest));
		cr_assert_eq(kept, n);
		len -= n;
	}
	memcpy(piece, "\r\nb\r\n.\r\n", 8);
	cr_assert(smtp_data_take(&d, piece, 8, &kept_at, &kept, &rest));
	return d.long_line;
}

Test(smtp_data, a_line_above_the_limit_is_noticed)
{
	cr_assert_not(long_line(SMTP_TEXT_LINE_MAX - 2));
	cr_assert(long_line(SMTP_TEXT_LINE_MAX - 1));
}
