#include "config.h"

#include "common/message_test.h"

#include <assert.h>
#include <string.h>

#define HEAD 4u

size_t message_test_begin(struct buf *b, enum message_test_type type)
{
	size_t at = buf_len(b);

	wire_put_u32(b, 0);
	wire_put_u8(b, (uint8_t)type);
	return at;
}

void message_test_end(struct buf *b, size_t at)
{
	wire_set_u32(b, at, (uint32_t)(buf_len(b) - at - HEAD));
}

int message_test_next(const struct buf *b, size_t limit, struct message_test_frame *frame)
{
	struct wire w;

	if (buf_len(b) < HEAD)
		return 0;
	wire_init(&w, buf_head(b), buf_len(b));

	size_t len = wire_u32(&w);

	if (len == 0 || len > limit)
		return -1;
	if (wire_left(&w) < len)
		return 0;
	frame->type = wire_u8(&w);
	wire_init(&frame->data, w.at, len - 1);
	frame->size = HEAD + len;
	return 1;
}

void message_test_request_put(struct buf *b, const struct message_test_request *r)
{
	assert(r->macro_count <= MESSAGE_TEST_MACROS_MAX);
	wire_put_cstr(b, r->listener);
	wire_put_cstr(b, r->client_address);
	wire_put_u16(b, r->client_port);
	wire_put_cstr(b, r->client_name);
	wire_put_cstr(b, r->helo);
	wire_put_cstr(b, r->sender);
	wire_put_u32(b, (uint32_t)r->rcpt_count);
	for (size_t i = 0; i < r->rcpt_count; i++)
		wire_put_cstr(b, r->rcpt[i]);
	wire_put_u8(b, (uint8_t)r->macro_count);
	for (size_t i = 0; i < r->macro_count; i++) {
		wire_put_cstr(b, r->macro[i].name);
		wire_put_cstr(b, r->macro[i].value);
	}
}

static const char *take_text(struct wire *w, struct arena *a)
{
	const char *text = wire_cstr(w);

	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			w->broken = true;
	return arena_strdup(a, text);
}

void message_test_request_take(struct wire *w, struct arena *a, struct message_test_request *r)
{
	*r = (struct message_test_request){ .listener = take_text(w, a) };
	r->client_address = take_text(w, a);
	r->client_port = wire_u16(w);
	r->client_name = take_text(w, a);
	r->helo = take_text(w, a);
	r->sender = take_text(w, a);

	size_t rcpts = wire_u32(w);

	if (rcpts > wire_left(w))
		w->broken = true;
	r->rcpt = arena_alloc(a, (w->broken ? 0 : rcpts) * sizeof(*r->rcpt));
	while (!w->broken && r->rcpt_count < rcpts)
		r->rcpt[r->rcpt_count++] = take_text(w, a);

	size_t macros = wire_u8(w);

	if (macros > MESSAGE_TEST_MACROS_MAX)
		w->broken = true;
	r->macro = arena_alloc(a, (w->broken ? 0 : macros) * sizeof(*r->macro));
	for (; !w->broken && r->macro_count < macros; r->macro_count++) {
		r->macro[r->macro_count].name = take_text(w, a);
		r->macro[r->macro_count].value = take_text(w, a);
	}
}

const char *message_test_outcome_name(enum message_test_outcome outcome)
{
	static const char *const names[MESSAGE_TEST_OUTCOMES] = {
		[MESSAGE_TEST_ACCEPTED] = "accepted", [MESSAGE_TEST_REJECTED] = "rejected",
		[MESSAGE_TEST_TEMPFAILED] = "tempfailed", [MESSAGE_TEST_DISCARDED] = "discarded",
		[MESSAGE_TEST_QUARANTINED] = "quarantined",
	};

	assert(outcome < MESSAGE_TEST_OUTCOMES);
	return names[outcome];
}

void message_test_result_put(struct buf *b, const struct message_test_result *r)
{
	wire_put_u8(b, r->outcome);
	wire_put_cstr(b, r->stage);
	wire_put_u32(b, r->milter);
	wire_put_cstr(b, r->reply);
	wire_put_u64(b, r->us);
}

void message_test_result_take(struct wire *w, struct arena *a, struct message_test_result *r)
{
	*r = (struct message_test_result){ .outcome = wire_u8(w) };
	r->stage = arena_strdup(a, wire_cstr(w));
	r->milter = wire_u32(w);
	r->reply = arena_strdup(a, wire_cstr(w));
	r->us = wire_u64(w);
	if (r->outcome >= MESSAGE_TEST_OUTCOMES)
		w->broken = true;
}
