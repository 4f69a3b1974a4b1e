#include "config.h"

#include "worker/backend_send.h"

#include <assert.h>

#include "common/milter_codec.h"

#define PACKET_DATA_MAX 65535u		/* libmilter closes the connection above it */
#define AHEAD_BYTES	(512u * 1024)	/* content queued ahead of the socket */

/* Go on to the first part, from this one on, that has something in it. */
static void settle(struct backend_send *s)
{
	if (s->part == BACKEND_SEND_HEADERS &&
	    ((s->protocol & SMFIP_NOHDRS) || s->position == edit_header_count(s->content.message)))
		s->part = BACKEND_SEND_EOH;
	if (s->part == BACKEND_SEND_EOH && (s->protocol & SMFIP_NOEOH))
		s->part = BACKEND_SEND_BODY;
	if (s->part == BACKEND_SEND_BODY &&
	    ((s->protocol & SMFIP_NOBODY) || s->offset == s->content.body.len))
		s->part = BACKEND_SEND_EOM;
}

void backend_send_begin(struct backend_send *s, const struct backend_content *content, uint32_t protocol)
{
	*s = (struct backend_send){ .content = *content, .protocol = protocol, .part = BACKEND_SEND_HEADERS };
	settle(s);
}

uint8_t backend_send_peek(const struct backend_send *s)
{
	static const uint8_t command[] = {
		[BACKEND_SEND_HEADERS] = SMFIC_HEADER,
		[BACKEND_SEND_EOH] = SMFIC_EOH,
		[BACKEND_SEND_BODY] = SMFIC_BODY,
		[BACKEND_SEND_EOM] = SMFIC_BODYEOB,
		[BACKEND_SEND_END] = 0,
	};

	return command[s->part];
}

bool backend_send_may(const struct backend_send *s, const struct owed *owed, const struct outbox *out, bool write_ahead)
{
	switch (s->part) {
	case BACKEND_SEND_END:
		return false;
	case BACKEND_SEND_EOM:
		return !owed->count;
	case BACKEND_SEND_BODY:
		/* A chunk sent after the one that is answered with SKIP would be answered or not, as the milter likes. */
		if ((s->protocol & SMFIP_SKIP) && owed_has(owed, SMFIC_BODY))
			return false;
		break;
	default:
		break;
	}
	if (owed_is_full(owed) || outbox_pending(out) >= AHEAD_BYTES || !outbox_has_room(out))
		return false;
	return write_ahead || !owed->count;
}

static int put_header(struct backend_send *s, struct outbox *out, const char **why)
{
	const char *name, *value;
	size_t name_len, value_len;

	edit_header_get(s->content.message, s->position++, s->protocol & SMFIP_HDR_LEADSPC, &name, &name_len, &value,
			&value_len);
	if (name_len + value_len + 2 > PACKET_DATA_MAX) {
		*why = "a header field is too long for a milter packet";
		return -1;
	}
	milter_put_header(&out->bytes, name, name_len, value, value_len);
	return 0;
}

/* What is in memory stays there until it is written; what is in a file is copied. */
static int put_body(struct backend_send *s, struct outbox *out, const char **why)
{
	const struct spooled *body = &s->content.body;
	size_t len = body->len - s->offset;
	uint8_t *copy;

	if (len > MILTER_CHUNK_SIZE)
		len = MILTER_CHUNK_SIZE;
	milter_put_head(&out->bytes, SMFIC_BODY, len);
	if (len <= body->memory && s->offset <= body->memory - len) {
		outbox_refer(out, body->data + s->offset, len);
	} else {
		copy = buf_reserve(&out->bytes, len);
		if (spooled_read(body, s->offset, copy, len) < 0) {
			*why = "the message cannot be read";
			return -1;
		}
		buf_commit(&out->bytes, len);
	}
	s->offset += len;
	return 0;
}

int backend_send_next(struct backend_send *s, struct outbox *out, const char **why)
{
	int result = 0;

	switch (s->part) {
	case BACKEND_SEND_HEADERS:
		result = put_header(s, out, why);
		break;
	case BACKEND_SEND_EOH:
		milter_put_bare(&out->bytes, SMFIC_EOH);
		s->part = BACKEND_SEND_BODY;
		break;
	case BACKEND_SEND_BODY:
		result = put_body(s, out, why);
		break;
	case BACKEND_SEND_EOM:
		milter_put_bare(&out->bytes, SMFIC_BODYEOB);
		s->part = BACKEND_SEND_END;
		break;
	default:
		assert(!"nothing left to send");
	}
	settle(s);
	return result;
}

void backend_send_skip(struct backend_send *s, uint8_t command)
{
	if (command == SMFIC_HEADER)
		s->position = edit_header_count(s->content.message);
	else if (command == SMFIC_BODY)
		s->offset = s->content.body.len;
	settle(s);
}
