#include "config.h"

#include "common/conf_read.h"

#include <assert.h>
#include <ini.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf.h"
#include "common/log.h"
#include "common/mem.h"

#define BLANKS "\t "

struct reader {
	const char *text, *end;		/* what is still to be read */
	unsigned line;			/* that was read last */
	bool pending;			/* inih has a line of which it must call take_pair() */
	bool complained;
	const struct conf_read_ops *ops;
	void *ctx;
};

static void __attribute__((format(printf, 2, 3))) broken(struct reader *r, const char *format, ...)
{
	char why[200];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	r->complained = true;
	r->ops->on_broken(r->ctx, r->line, why);
}

/* The line at hand without its end. False: there is none left. */
static bool next_line(struct reader *r, const char **line, size_t *len)
{
	if (r->text == r->end)
		return false;
	const char *newline = memchr(r->text, '\n', (size_t)(r->end - r->text));

	*line = r->text;
	*len = (size_t)((newline ? newline : r->end) - r->text);
	r->text = newline ? newline + 1 : r->end;
	r->line++;
	if (*len && (*line)[*len - 1] == '\r')
		--*len;
	if (r->line == 1 && *len >= 3 && !memcmp(*line, "\xef\xbb\xbf", 3)) {
		*line += 3;
		*len -= 3;
	}
	return true;
}

/* What looks like a blank or like nothing, as it comes from a web page or from files put together. It is harmless in
 * a comment. False: there was one. */
static bool visible(struct reader *r, const char *line, size_t len)
{
	static const struct { const char *bytes, *name; } invisible[] = {
		{ "\xc2\xa0", "a no-break space" }, { "\xe2\x80\xaf", "a narrow no-break space" },
		{ "\xe2\x80\x8b", "a zero-width space" }, { "\xef\xbb\xbf", "a byte order mark" },
	};
	const char *end = line + len;

	if (len && (*line == ';' || *line == '#'))
		return true;
	for (const char *c = line; c + 1 < end && !(strchr(BLANKS, c[0]) && c[1] == ';'); c++)
		for (size_t i = 0; i < sizeof(invisible) / sizeof(invisible[0]); i++) {
			size_t size = strlen(invisible[i].bytes);

			if ((size_t)(end - c) >= size && !memcmp(c, invisible[i].bytes, size)) {
				broken(r, "there is %s at column %zu, which cannot be seen: write the line anew",
					invisible[i].name, (size_t)(c - line) + 1);
				return false;
			}
		}
	return true;
}

static bool readable(struct reader *r, const char *line, size_t len, size_t limit)
{
	if (len > limit) {
		broken(r, "the line has %zu bytes; allowed: %zu", len, limit);
		return false;
	}
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)line[i] < ' ' && line[i] != '\t') || line[i] == 0x7f) {
			broken(r, "there is a control character, 0x%02x, at column %zu", (unsigned char)line[i],
				i + 1);
			return false;
		}
	return visible(r, line, len);
}

/* inih would cut a section's name at 49 bytes, so it gets the line only to see that a section begins. */
static void take_section(struct reader *r, const char *line)
{
	const char *start = line + 1 + strspn(line + 1, BLANKS), *end = strchr(start, ']');

	const char *rest = end ? end + 1 + strspn(end + 1, BLANKS) : "";
	bool good = end && (!*rest || *rest == ';' || *rest == '#');
	char *header = NULL;

	if (good) {
		while (end > start && strchr(BLANKS, end[-1]))
			end--;
		header = mem_strndup(start, (size_t)(end - start));
	}
	/* First of all the section above has ended. */
	r->ops->on_section(r->ctx, r->line, header);
	if (!end)
		broken(r, "the section has no closing bracket: [listener NAME]");
	else if (!good)
		broken(r, "there is something behind the closing bracket of the section");
	free(header);
}

static void settle(struct reader *r)
{
	if (r->pending)
		broken(r, "this is neither a [section] nor \"key = value\"");
	r->pending = false;
}

/* Like fgets(), for inih: it gets lines with a key, and an empty one for every other line, so its count stays right. */
static char *read_line(char *to, int room, void *stream)
{
	struct reader *r = stream;
	const char *line;
	size_t len, limit = (size_t)room - 3 < CONF_LINE_MAX ? (size_t)room - 3 : CONF_LINE_MAX;

	settle(r);
	if (!next_line(r, &line, &len))
		return NULL;
	strcpy(to, "\n");
	char *copy = mem_strndup(line, len);
	size_t indent = strspn(copy, BLANKS);
	bool section = copy[indent] == '[';

	if (!readable(r, line, len, limit)) {
		if (section)
			r->ops->on_section(r->ctx, r->line, NULL);
	} else if (copy[indent] == '\0' || copy[indent] == ';' || copy[indent] == '#') {
		/* nothing for anybody */
	} else if (indent) {
		broken(r, "the line begins with a blank: values do not go on in the next line, and keys and sections "
			"begin in the first column");
		if (section)
			r->ops->on_section(r->ctx, r->line, NULL);
	} else if (section) {
		take_section(r, copy);
	} else {
		snprintf(to, (size_t)room, "%s\n", copy);
		r->pending = true;
	}
	free(copy);
	return to;
}

static int take_pair(void *ctx, const char *section, const char *key, const char *value)
{
	struct reader *r = ctx;

	(void)section;
	assert(r->pending);
	r->pending = false;
	r->ops->on_pair(r->ctx, r->line, key, value);
	return 1;
}

void conf_read(const char *text, size_t len, const struct conf_read_ops *ops, void *ctx)
{
	struct reader r = { .text = text, .end = text + len, .ops = ops, .ctx = ctx };

	if (len >= 2 && (!memcmp(text, "\xff\xfe", 2) || !memcmp(text, "\xfe\xff", 2))) {
		r.line = 1;
		broken(&r, "the file is in UTF-16; save it as UTF-8");
		return;
	}
#if HAVE_DECL_INI_MAX_LINE
	/* Debian's inih: without this it takes lines of 200 bytes. */
	ini_max_line = CONF_LINE_MAX + 3;
	ini_initial_alloc = CONF_LINE_MAX + 3;
	ini_use_stack = false;
	ini_allow_realloc = false;
#endif
	int status = ini_parse_stream(read_line, &r, take_pair, &r);

	if (status == -2) {
		log_error("event=out-of-memory");
		abort();
	}
	/* It must not have found anything wrong that was not told here. */
	assert(status == 0 || r.complained);
}
