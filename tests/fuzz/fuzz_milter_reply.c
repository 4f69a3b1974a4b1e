/* The byte stream of a filter. Whatever decodes points into its packet and is written as the same bytes again. */
#include "config.h"

#include <assert.h>
#include <string.h>

#include "common/milter_codec.h"
#include "common/milter_names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMIT 1024u

static void check_inside(const struct milter_packet *p, const char *text)
{
	const char *start = (const char *)p->data;

	assert(!text || (text >= start && text + strlen(text) < start + p->len));
}

static void check_strings(const struct milter_packet *p, const struct milter_reply *r)
{
	switch (r->reply) {
	case SMFIC_OPTNEG:
		for (size_t i = 0; i < MILTER_STAGE_COUNT; i++)
			check_inside(p, r->optneg.macros[i]);
		break;
	case SMFIR_ADDHEADER: case SMFIR_INSHEADER: case SMFIR_CHGHEADER:
		check_inside(p, r->header.name);
		check_inside(p, r->header.value);
		break;
	case SMFIR_ADDRCPT: case SMFIR_ADDRCPT_PAR: case SMFIR_DELRCPT: case SMFIR_CHGFROM:
		check_inside(p, r->address.path);
		check_inside(p, r->address.args);
		break;
	case SMFIR_QUARANTINE: case SMFIR_REPLYCODE:
		check_inside(p, r->text);
		break;
	case SMFIR_SETSYMLIST:
		check_inside(p, r->symlist.names);
		break;
	}
}

/* Written again it is the same packet. A negotiation may have named a stage twice, out of order or one nobody knows:
 * then what was written is the one that must come back. */
static void check_again(const struct milter_packet *p, const struct milter_reply *r, const uint8_t *whole)
{
	struct buf once = { 0 }, twice = { 0 };
	struct milter_packet packet;
	struct milter_reply reply;
	const char *why;

	milter_put_reply(&once, r);
	assert(r->reply == SMFIC_OPTNEG || buf_len(&once) == p->size);
	assert(r->reply == SMFIC_OPTNEG || memcmp(buf_head(&once), whole, p->size) == 0);
	assert(milter_packet_next(&once, LIMIT, &packet) == 1 && packet.size == buf_len(&once));
	assert(milter_reply_decode(&packet, &reply, &why) == 0);
	milter_put_reply(&twice, &reply);
	assert(buf_len(&once) == buf_len(&twice) && memcmp(buf_head(&once), buf_head(&twice), buf_len(&once)) == 0);
	buf_fini(&once);
	buf_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct milter_packet packet, early;
	struct milter_reply reply;

	/* Only read: the bytes stay where a sanitizer guards both ends. */
	struct buf b = { .data = (uint8_t *)data, .end = size, .capacity = size };

	while (buf_len(&b) && milter_packet_next(&b, LIMIT, &packet) == 1) {
		const char *why = NULL;
		struct buf cut = b;

		assert(packet.len <= LIMIT && packet.size == packet.len + 5 && packet.size <= buf_len(&b));
		cut.end = cut.start + packet.size - 1;
		assert(milter_packet_next(&cut, LIMIT, &early) == 0);
		if (milter_reply_decode(&packet, &reply, &why) == 0) {
			assert(milter_reply_name(reply.reply));
			check_strings(&packet, &reply);
			check_again(&packet, &reply, buf_head(&b));
		} else {
			assert(why);
		}
		b.start += packet.size;
	}
	return 0;
}
