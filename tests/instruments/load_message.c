#include "config.h"

#include "tests/instruments/load_message.h"

#include <inttypes.h>
#include <string.h>

/* splitmix64: every state gives a good sequence, so a message needs no history. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t message_state(const struct load_plan *plan, uint64_t number)
{
	return plan->seed * 0x2545f4914f6cdd1du + number;
}

unsigned load_message_rcpts(const struct load_plan *plan, uint64_t number)
{
	uint64_t state = message_state(plan, ~number);

	return 1 + (unsigned)(next_random(&state) % plan->rcpts_max);
}

void load_message_sender(struct buf *b, uint64_t number)
{
	buf_printf(b, "<sender-%" PRIu64 "@load.example>", number);
}

void load_message_rcpt(struct buf *b, uint64_t number, unsigned k)
{
	buf_printf(b, "<rcpt-%" PRIu64 "-%u@load.example>", number, k);
}

static void put_repeated(struct buf *b, int byte, size_t count)
{
	memset(buf_reserve(b, count), byte, count);
	buf_commit(b, count);
}

static void put_line(struct buf *b, uint64_t number, uint64_t kind)
{
	switch (kind % 16) {
	case 0:
		break;
	case 1:
		buf_puts(b, ".");
		break;
	case 2:
		buf_printf(b, "..%" PRIu64, number);
		break;
	case 3:
		buf_puts(b, ".a dot and more");
		break;
	case 4:
		put_repeated(b, 'x', 998);
		break;
	case 5:
		buf_puts(b, "gr\303\274n \344\366\374 \377\200 eight bits");
		break;
	case 6:
		buf_puts(b, "\t blanks at both ends \t");
		break;
	default:
		buf_printf(b, "message %" PRIu64 " line %016" PRIx64 " ", number, kind);
		put_repeated(b, 'a' + (int)(kind % 26), (size_t)(kind >> 32) % 50);
	}
	buf_puts(b, "\r\n");
}

void load_message_content(const struct load_plan *plan, uint64_t number, struct buf *b)
{
	uint64_t state = message_state(plan, number);
	size_t span = plan->size_max - plan->size_min, start = buf_len(b), size;
	unsigned fields, i;

	size = plan->size_min + (span ? (size_t)(next_random(&state) % (span + 1)) >> (next_random(&state) % 8) : 0);
	buf_printf(b, "From: Sender <sender-%" PRIu64 "@load.example>\r\nTo: undisclosed-recipients:;\r\n", number);
	buf_printf(b, "Message-ID: <%" PRIu64 ".%" PRIx64 "@load.example>\r\n", number, plan->seed);
	buf_printf(b, "X-Load-Id: %" PRIu64 "\r\nSubject: message %" PRIu64 ",\r\n\tfolded,\r\n twice\r\n", number, number);
	buf_puts(b, "Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n");
	fields = (unsigned)(next_random(&state) % 5);
	for (i = 0; i < fields; i++)
		buf_printf(b, "X-Field: %u of %u in %" PRIu64 "\r\n", i, fields, number);
	buf_puts(b, "\r\n");
	while (buf_len(b) - start < size)
		put_line(b, number, next_random(&state));
}

void load_message_encode(struct buf *to, const struct buf *content)
{
	const uint8_t *at = buf_head(content), *end = at + buf_len(content), *line_end;

	while (at < end) {
		line_end = (const uint8_t *)memchr(at, '\n', (size_t)(end - at)) + 1;
		if (*at == '.')
			buf_append(to, ".", 1);
		buf_append(to, at, (size_t)(line_end - at));
		at = line_end;
	}
	buf_append(to, ".\r\n", 3);
}
