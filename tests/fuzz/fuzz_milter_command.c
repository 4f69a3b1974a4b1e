/* The byte stream of an MTA. What decodes is written as the same bytes again. */
#include "config.h"

#include <assert.h>
#include <string.h>

#include "common/milter_codec.h"
#include "common/milter_names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMIT 4096u

static void put(struct buf *b, const struct milter_command *c)
{
	switch (c->command) {
	case SMFIC_OPTNEG:
		milter_put_optneg(b, &c->optneg);
		break;
	case SMFIC_MACRO:
		milter_put_macros(b, c->macro.stage, c->macro.item, c->macro.count);
		break;
	case SMFIC_CONNECT:
		milter_put_connect(b, c->connect.hostname, c->connect.family, c->connect.port, c->connect.address);
		break;
	case SMFIC_MAIL: case SMFIC_RCPT:
		milter_put_envelope(b, c->command, c->envelope.arg, c->envelope.count);
		break;
	case SMFIC_HELO:
		milter_put_helo(b, c->text);
		break;
	case SMFIC_UNKNOWN:
		milter_put_unknown(b, c->text);
		break;
	case SMFIC_HEADER:
		milter_put_header(b, c->header.name, strlen(c->header.name), c->header.value, strlen(c->header.value));
		break;
	case SMFIC_BODY: case SMFIC_BODYEOB:
		milter_put_head(b, c->command, c->body.len);
		buf_append(b, c->body.data, c->body.len);
		break;
	default:
		milter_put_bare(b, c->command);
	}
}

/* Two forms have more than one spelling: the lists of a negotiation, and the prefix of an IPv6 address. */
static bool has_spellings(const struct milter_command *c)
{
	return c->command == SMFIC_OPTNEG || (c->command == SMFIC_CONNECT && c->connect.family == '6');
}

static void check_bounds(const struct milter_command *c)
{
	if (c->command == SMFIC_MACRO)
		assert(c->macro.count <= MILTER_MACROS_MAX);
	if (c->command == SMFIC_MAIL || c->command == SMFIC_RCPT)
		assert(c->envelope.count >= 1 && c->envelope.count <= MILTER_ARGS_MAX + 1);
	if (c->command == SMFIC_CONNECT)
		assert(strchr("UL46", c->connect.family) && c->connect.family);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct milter_packet packet;
	struct milter_command command;
	struct buf again = { 0 };

	/* Only read: the bytes stay where a sanitizer guards both ends. */
	struct buf b = { .data = (uint8_t *)data, .end = size, .capacity = size };

	while (buf_len(&b) && milter_packet_next(&b, LIMIT, &packet) == 1) {
		const char *why = NULL;

		if (milter_command_decode(&packet, &command, &why) == 0) {
			assert(milter_command_name(command.command));
			check_bounds(&command);
			buf_clear(&again);
			put(&again, &command);
			assert(has_spellings(&command) || buf_len(&again) == packet.size);
			assert(has_spellings(&command) || !memcmp(buf_head(&again), buf_head(&b), packet.size));
		} else {
			assert(why);
		}
		b.start += packet.size;
	}
	buf_fini(&again);
	return 0;
}
