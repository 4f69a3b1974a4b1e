#include "config.h"

#include "master/line_diff.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

#define CONTEXT	  3u
#define TABLE_MAX (4u * 1024 * 1024)	/* cells of the table of common lines */

struct line {
	const char *text;
	size_t len;
};

struct lines {
	struct line *line;
	size_t count;
};

/* One step from the texts' begin to their end: ' ', '-' or '+'. */
struct step {
	char sign;
	size_t before, after;	/* numbers of its lines, from 0 */
};

static struct lines split(const char *text, size_t len)
{
	struct lines l = { 0 };
	size_t room = 0;

	while (len) {
		const char *end = memchr(text, '\n', len);
		size_t all = end ? (size_t)(end - text) + 1 : len, shown = end ? all - 1 : all;

		if (shown && text[shown - 1] == '\r')
			shown--;
		if (l.count == room) {
			room = room ? room * 2 : 64;
			l.line = mem_realloc(l.line, room * sizeof(*l.line));
		}
		l.line[l.count++] = (struct line){ text, shown };
		text += all;
		len -= all;
	}
	return l;
}

static bool same(const struct line *a, const struct line *b)
{
	return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

/* The steps through the part that differs; longest common subsequence. Returns their end. */
static struct step *compare(struct step *step, const struct lines *a, const struct lines *b, size_t from, size_t n,
	size_t m)
{
	size_t i = 0, j = 0;
	uint32_t *common = n && m && (n + 1) <= TABLE_MAX / (m + 1) ? mem_array((n + 1) * (m + 1), sizeof(*common)) : NULL;

#define COMMON(x, y) common[(x) * (m + 1) + (y)]
	for (size_t x = common ? n : 0; x-- > 0;)
		for (size_t y = m; y-- > 0;)
			COMMON(x, y) = same(&a->line[from + x], &b->line[from + y]) ? COMMON(x + 1, y + 1) + 1 :
				COMMON(x + 1, y) > COMMON(x, y + 1) ? COMMON(x + 1, y) : COMMON(x, y + 1);
	while (i < n || j < m) {
		if (common && i < n && j < m && same(&a->line[from + i], &b->line[from + j]))
			*step++ = (struct step){ ' ', from + i++, from + j++ };
		else if (i < n && (j == m || !common || COMMON(i + 1, j) >= COMMON(i, j + 1)))
			*step++ = (struct step){ '-', from + i++, from + j };
		else
			*step++ = (struct step){ '+', from + i, from + j++ };
	}
#undef COMMON
	free(common);
	return step;
}

void line_diff_put_safe(FILE *to, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		/* C1 controls come as c2 80 to c2 9f in UTF-8. */
		if ((c < ' ' && c != '\t') || c == 0x7f || (c >= 0x80 && c < 0xa0 && (!i || (unsigned char)text[i - 1] == 0xc2 ||
											  (unsigned char)text[i - 1] < 0x80)))
			fprintf(to, "\\x%02x", c);
		else
			putc(c, to);
	}
}

static void put_step(FILE *to, const struct step *s, const struct lines *a, const struct lines *b, bool colour)
{
	const struct line *l = s->sign == '+' ? &b->line[s->after] : &a->line[s->before];
	const char *on = !colour || s->sign == ' ' ? "" : s->sign == '+' ? "\033[32m" : "\033[31m";

	fprintf(to, "%s%c", on, s->sign);
	line_diff_put_safe(to, l->text, l->len);
	fprintf(to, "%s\n", *on ? "\033[m" : "");
}

static void put_hunk(FILE *to, const struct step *first, const struct step *end, const struct lines *a,
	const struct lines *b, bool colour)
{
	size_t removed = 0, added = 0;

	for (const struct step *s = first; s < end; s++) {
		removed += s->sign != '+';
		added += s->sign != '-';
	}
	fprintf(to, "%s@@ -%zu,%zu +%zu,%zu @@%s\n", colour ? "\033[36m" : "", first->before + (removed > 0), removed,
		first->after + (added > 0), added, colour ? "\033[m" : "");
	for (; first < end; first++)
		put_step(to, first, a, b, colour);
}

static void put_hunks(FILE *to, const struct step *step, size_t count, const struct lines *a, const struct lines *b,
	bool colour)
{
	for (size_t i = 0; i < count; i++) {
		if (step[i].sign == ' ')
			continue;
		size_t first = i > CONTEXT ? i - CONTEXT : 0, end = i + 1;

		/* Up to the last change that is no further away than both contexts. */
		for (size_t k = i + 1; k < count && k <= end + 2 * CONTEXT; k++)
			if (step[k].sign != ' ')
				end = k + 1;
		i = end;
		end = count - end > CONTEXT ? end + CONTEXT : count;
		put_hunk(to, step + first, step + end, a, b, colour);
	}
}

bool line_diff_print(FILE *to, const char *title, const char *before, size_t before_len, const char *after,
	size_t after_len, bool colour)
{
	struct lines a = split(before, before_len), b = split(after, after_len);
	size_t head = 0, tail = 0, shorter = a.count < b.count ? a.count : b.count;

	while (head < shorter && same(&a.line[head], &b.line[head]))
		head++;
	while (tail < shorter - head && same(&a.line[a.count - 1 - tail], &b.line[b.count - 1 - tail]))
		tail++;
	bool differs = head + tail < a.count || head + tail < b.count;

	if (differs) {
		struct step *steps = mem_array(a.count + b.count, sizeof(*steps)), *end = steps;

		for (size_t i = 0; i < head; i++)
			*end++ = (struct step){ ' ', i, i };
		end = compare(end, &a, &b, head, a.count - head - tail, b.count - head - tail);
		for (size_t i = tail; i > 0; i--)
			*end++ = (struct step){ ' ', a.count - i, b.count - i };
		fprintf(to, "--- %s\n+++ %s after the milters\n", title, title);
		put_hunks(to, steps, (size_t)(end - steps), &a, &b, colour);
		free(steps);
	}
	free(a.line);
	free(b.line);
	return differs;
}
