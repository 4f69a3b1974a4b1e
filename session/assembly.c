#include "config.h"

#include "session/assembly.h"

#include "common/clock.h"
#include "session/received.h"

static const char line_end[] = "\r\n";

static struct output_piece received(struct smtp_session *s)
{
	struct received r = {
		.helo = s->helo ? s->helo : "", .client_name = "unknown", .client_address = s->client_address,
		.hostname = s->hostname, .queue_id = s->tx.queue_id, .esmtp = s->esmtp,
		.only_rcpt = s->tx.rcpt_count == 1 ? s->tx.rcpt[0].address : NULL,
	};
	struct output_piece piece = { 0 };

	if (s->listener->received)
		piece.data = (const uint8_t *)received_make(&s->tx_arena, &r, clock_wall_us() / 1000000, &piece.len);
	return piece;
}

static struct output_piece piece_of(struct smtp_session *s, const struct edit_segment *segment)
{
	switch (segment->source) {
	case EDIT_ORIGINAL:
		return (struct output_piece){ s->tx.content->data + segment->offset, segment->length };
	case EDIT_LITERAL:
		return (struct output_piece){ segment->literal, segment->length };
	default:
		return received(s);
	}
}

const struct output_piece *assembly_make(struct smtp_session *s, const struct edit_result *result, size_t *count)
{
	struct output_piece *piece = arena_alloc(&s->tx_arena, (result->segment_count + 2) * sizeof(*piece));
	const struct msgbuf *content = s->tx.content;
	size_t n = 0;

	for (size_t i = 0; i < result->segment_count; i++) {
		piece[n] = piece_of(s, &result->segment[i]);
		if (piece[n].len)
			n++;
	}
	struct output_piece body = {
		content->data + s->tx.header.body_offset, content->len - s->tx.header.body_offset,
	};

	if (result->body_replaced) {
		body.len = result->body_length;
		body.data = dispatch_body(s->dispatch, result->body_id, result->body_generation, body.len);
		if (!body.data)
			return NULL;
	}
	if (s->tx.header.separator || body.len)
		piece[n++] = (struct output_piece){ (const uint8_t *)line_end, 2 };
	if (body.len)
		piece[n++] = body;
	*count = n;
	return piece;
}
