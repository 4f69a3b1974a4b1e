#include "config.h"

#include "session/assembly.h"

#include "common/clock.h"
#include "session/received.h"

static const char line_end[] = "\r\n";

static struct output_piece received(struct smtp_session *s)
{
	const char *name = smtp_session_client_name(s);
	struct received r = {
		.helo = s->helo ? s->helo : "", .client_name = name ? name : "unknown", .client_address = s->client_address,
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
		return (struct output_piece){ .data = s->tx.header_bytes + segment->offset, .len = segment->length };
	case EDIT_LITERAL:
		return (struct output_piece){ .data = segment->literal, .len = segment->length };
	default:
		return received(s);
	}
}

static size_t add_spooled(struct output_piece *piece, const struct spooled *body)
{
	size_t n = 0;

	if (body->memory)
		piece[n++] = (struct output_piece){ .data = body->data, .len = body->memory };
	if (body->len > body->memory)
		piece[n++] = (struct output_piece){
			.len = body->len - body->memory, .file = body->file, .file_at = body->file_at,
		};
	return n;
}

/* The body as it leaves. -1: the worker named one that it has not lent. */
static int find_body(struct smtp_session *s, const struct edit_result *result, struct spooled *body)
{
	struct spooled content;

	if (result->body_replaced)
		return dispatch_body(s->dispatch, result, body);
	msgbuf_read(s->tx.content, &content);
	*body = spooled_from(&content, s->tx.header.body_offset);
	return 0;
}

const struct output_piece *assembly_make(struct smtp_session *s, const struct edit_result *result, size_t *count)
{
	struct output_piece *piece = arena_alloc(&s->tx_arena, (result->segment_count + 3) * sizeof(*piece));
	struct spooled body;
	size_t n = 0;

	for (size_t i = 0; i < result->segment_count; i++) {
		piece[n] = piece_of(s, &result->segment[i]);
		if (piece[n].len)
			n++;
	}
	if (find_body(s, result, &body) < 0)
		return NULL;
	if (s->tx.header.separator || body.len)
		piece[n++] = (struct output_piece){ .data = (const uint8_t *)line_end, .len = 2 };
	n += add_spooled(piece + n, &body);
	*count = n;
	return piece;
}
