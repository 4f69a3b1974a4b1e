#include "config.h"

#include "session/smtp_data.h"

#include <assert.h>
#include <string.h>

void smtp_data_init(struct smtp_data *d)
{
	*d = (struct smtp_data){ .state = SMTP_DATA_LINE_START };
}

static uint8_t *keep(uint8_t *out, const uint8_t *from, size_t len)
{
	if (out != from)
		memmove(out, from, len);
	return out + len;
}

static void count_line(struct smtp_data *d, size_t len)
{
	d->line += len;
	if (d->line > SMTP_TEXT_LINE_MAX)
		d->long_line = true;
}

/* The rest of a line, or as much of it as there is. *in moves behind what was taken. Only a LF right after a CR ends a
 * line: what follows a bare one can be neither a stuffed dot nor the end. */
static uint8_t *take_text(struct smtp_data *d, const uint8_t **in, const uint8_t *end, uint8_t *out)
{
	const uint8_t *start = *in, *lf = memchr(start, '\n', (size_t)(end - start));
	const uint8_t *stop = lf ? lf + 1 : end;
	size_t text = (size_t)(stop - start);
	const uint8_t *cr = memchr(start, '\r', text);
	const uint8_t *legal_cr = lf ? lf - 1 : end - 1;

	if (cr ? cr != legal_cr : lf != NULL)
		d->bare = true;
	*in = stop;
	if (lf) {
		count_line(d, text);
		if (lf > start && lf[-1] == '\r') {
			d->state = SMTP_DATA_LINE_START;
			d->line = 0;
		}
	} else if (end[-1] == '\r') {
		d->state = SMTP_DATA_CR;
		count_line(d, --text);
	} else {
		count_line(d, text);
	}
	return keep(out, start, text);
}

/* A line without CR, or with one in the wrong place, has been seen: give out the CR that was held. */
static uint8_t *bare_cr(struct smtp_data *d, uint8_t *out)
{
	d->bare = true;
	count_line(d, 1);
	*out = '\r';
	return out + 1;
}

/* One byte in a state in which its meaning depends on the bytes before. *in moves when it was used up. */
static uint8_t *take_byte(struct smtp_data *d, const uint8_t **in, uint8_t *out)
{
	uint8_t byte = **in;

	switch (d->state) {
	case SMTP_DATA_LINE_START:
		d->state = byte == '.' ? SMTP_DATA_DOT : SMTP_DATA_TEXT;
		*in += byte == '.';
		break;
	case SMTP_DATA_DOT:
		d->state = byte == '\r' ? SMTP_DATA_DOT_CR : SMTP_DATA_TEXT;
		*in += byte == '\r';
		break;
	case SMTP_DATA_DOT_CR:
		if (byte == '\n') {
			d->state = SMTP_DATA_END;
			++*in;
			break;
		}
		/* fall through */
	case SMTP_DATA_CR:
		if (byte == '\n') {
			out = keep(out, (const uint8_t *)"\r\n", 2);
			count_line(d, 2);
			d->state = SMTP_DATA_LINE_START;
			d->line = 0;
			++*in;
		} else {
			out = bare_cr(d, out);
			d->state = byte == '\r' ? SMTP_DATA_CR : SMTP_DATA_TEXT;
			*in += byte == '\r';
		}
		break;
	default:
		assert(!"a state of single bytes");
	}
	return out;
}

bool smtp_data_take(struct smtp_data *d, uint8_t *data, size_t len, uint8_t **kept_at, size_t *kept, size_t *rest)
{
	const uint8_t *in = data, *end = data + len;
	uint8_t *out = data - smtp_data_held(d);

	assert(d->state < SMTP_DATA_END);
	*kept_at = out;
	while (in < end && d->state != SMTP_DATA_END) {
		if (d->state == SMTP_DATA_TEXT)
			out = take_text(d, &in, end, out);
		else
			out = take_byte(d, &in, out);
	}
	*kept = (size_t)(out - *kept_at);
	*rest = (size_t)(end - in);
	/* One search over all of it is cheaper than one in every line. */
	if (memchr(*kept_at, '\0', *kept))
		d->nul = true;
	return d->state == SMTP_DATA_END;
}
