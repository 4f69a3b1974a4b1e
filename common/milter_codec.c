#include "config.h"

#include "common/milter_codec.h"

#include <assert.h>
#include <string.h>

#include "common/milter_names.h"
#include "common/wire.h"

#define HEAD_SIZE 5u	/* u32 length, u8 command */

int milter_packet_next(const struct buf *b, size_t limit, struct milter_packet *packet)
{
	struct wire w;
	uint32_t length;

	if (buf_len(b) < 4)
		return 0;
	wire_init(&w, buf_head(b), buf_len(b));
	length = wire_u32(&w);
	if (length == 0 || length - 1 > limit)
		return -1;
	if (wire_left(&w) < length)
		return 0;
	packet->command = wire_u8(&w);
	packet->len = length - 1;
	packet->data = wire_bytes(&w, packet->len);
	packet->size = (size_t)length + 4;
	return 1;
}

static int fail(const char **why, const char *reason)
{
	*why = reason;
	return -1;
}

static int finished(const struct wire *w, const char **why)
{
	if (w->broken)
		return fail(why, "its data is cut short");
	return wire_finished(w) ? 0 : fail(why, "there are bytes behind its data");
}

static int take_optneg(struct wire *w, struct milter_optneg *o, const char **why)
{
	*o = (struct milter_optneg){ 0 };
	o->version = wire_u32(w);
	o->actions = wire_u32(w);
	o->protocol = wire_u32(w);
	while (!w->broken && wire_left(w)) {
		uint32_t stage = wire_u32(w);
		const char *names = wire_cstr(w);

		/* A stage nobody knows is ignored, as Postfix does: newer filters may name more. */
		if (!w->broken && stage < MILTER_STAGE_COUNT)
			o->macros[stage] = names;
	}
	return finished(w, why);
}

static int take_macros(struct wire *w, struct milter_command *c, const char **why)
{
	c->macro.stage = wire_u8(w);
	c->macro.count = 0;
	while (!w->broken && wire_left(w)) {
		struct milter_macro macro = { .name = wire_cstr(w) };

		if (!w->broken && !wire_left(w))
			return fail(why, "a macro has no value");
		macro.value = wire_cstr(w);
		if (c->macro.count == MILTER_MACROS_MAX)
			return fail(why, "there are too many macros");
		c->macro.item[c->macro.count++] = macro;
	}
	return finished(w, why);
}

static int take_connect(struct wire *w, struct milter_command *c, const char **why)
{
	c->connect.hostname = wire_cstr(w);
	c->connect.family = (char)wire_u8(w);
	c->connect.port = 0;
	c->connect.address = "";
	switch (w->broken ? 'U' : c->connect.family) {
	case 'U':
		break;
	case 'L':
	case '4':
	case '6':
		c->connect.port = wire_u16(w);
		c->connect.address = wire_cstr(w);
		if (c->connect.family == '6' && strncmp(c->connect.address, "IPv6:", 5) == 0)
			c->connect.address += 5;
		break;
	default:
		return fail(why, "its address family is unknown");
	}
	return finished(w, why);
}

static int take_envelope(struct wire *w, struct milter_command *c, const char **why)
{
	c->envelope.count = 0;
	do {
		if (c->envelope.count == MILTER_ARGS_MAX + 1)
			return fail(why, "there are too many parameters");
		c->envelope.arg[c->envelope.count++] = wire_cstr(w);
	} while (!w->broken && wire_left(w));
	return finished(w, why);
}

int milter_command_decode(const struct milter_packet *p, struct milter_command *c, const char **why)
{
	struct wire w;

	c->command = p->command;
	wire_init(&w, p->data, p->len);
	switch (p->command) {
	case SMFIC_OPTNEG:
		return take_optneg(&w, &c->optneg, why);
	case SMFIC_MACRO:
		return take_macros(&w, c, why);
	case SMFIC_CONNECT:
		return take_connect(&w, c, why);
	case SMFIC_MAIL:
	case SMFIC_RCPT:
		return take_envelope(&w, c, why);
	case SMFIC_HELO:
	case SMFIC_UNKNOWN:
		c->text = wire_cstr(&w);
		return finished(&w, why);
	case SMFIC_HEADER:
		c->header.name = wire_cstr(&w);
		c->header.value = wire_cstr(&w);
		return finished(&w, why);
	case SMFIC_BODY:
	case SMFIC_BODYEOB:
		c->body.data = wire_rest(&w, &c->body.len);
		return 0;
	case SMFIC_ABORT:
	case SMFIC_DATA:
	case SMFIC_EOH:
	case SMFIC_QUIT:
	case SMFIC_QUIT_NC:
		return finished(&w, why);
	default:
		return fail(why, "it is no milter command");
	}
}

/* A packet's length is known when its data has been appended: begin, append, end. */
static size_t begin(struct buf *b, uint8_t command)
{
	size_t at = buf_len(b);

	wire_put_u32(b, 0);
	wire_put_u8(b, command);
	return at;
}

static void end(struct buf *b, size_t at)
{
	size_t length = buf_len(b) - at - 4;

	assert(length <= UINT32_MAX);
	wire_set_u32(b, at, (uint32_t)length);
}

void milter_put_head(struct buf *b, uint8_t command, size_t len)
{
	assert(len < UINT32_MAX);
	wire_put_u32(b, (uint32_t)len + 1);
	wire_put_u8(b, command);
}

void milter_put_bare(struct buf *b, uint8_t command)
{
	milter_put_head(b, command, 0);
}

static void put_optneg(struct buf *b, const struct milter_optneg *o)
{
	wire_put_u32(b, o->version);
	wire_put_u32(b, o->actions);
	wire_put_u32(b, o->protocol);
	for (uint32_t stage = 0; stage < MILTER_STAGE_COUNT; stage++) {
		if (!o->macros[stage])
			continue;
		wire_put_u32(b, stage);
		wire_put_cstr(b, o->macros[stage]);
	}
}

void milter_put_optneg(struct buf *b, const struct milter_optneg *o)
{
	size_t at = begin(b, SMFIC_OPTNEG);

	put_optneg(b, o);
	end(b, at);
}

void milter_put_macros(struct buf *b, uint8_t command, const struct milter_macro *macro, size_t count)
{
	size_t at = begin(b, SMFIC_MACRO);

	wire_put_u8(b, command);
	for (size_t i = 0; i < count; i++) {
		wire_put_cstr(b, macro[i].name);
		wire_put_cstr(b, macro[i].value);
	}
	end(b, at);
}

void milter_put_connect(struct buf *b, const char *hostname, char family, uint16_t port, const char *address)
{
	size_t at = begin(b, SMFIC_CONNECT);

	wire_put_cstr(b, hostname);
	wire_put_u8(b, (uint8_t)family);
	if (family != 'U') {
		wire_put_u16(b, port);
		wire_put_cstr(b, address);
	}
	end(b, at);
}

static void put_text(struct buf *b, uint8_t command, const char *text)
{
	size_t at = begin(b, command);

	wire_put_cstr(b, text);
	end(b, at);
}

void milter_put_helo(struct buf *b, const char *name)
{
	put_text(b, SMFIC_HELO, name);
}

void milter_put_unknown(struct buf *b, const char *line)
{
	put_text(b, SMFIC_UNKNOWN, line);
}

void milter_put_envelope(struct buf *b, uint8_t command, const char *const *arg, size_t count)
{
	size_t at = begin(b, command);

	assert(count > 0);
	for (size_t i = 0; i < count; i++)
		wire_put_cstr(b, arg[i]);
	end(b, at);
}

void milter_put_header(struct buf *b, const char *name, size_t name_len, const char *value, size_t value_len)
{
	milter_put_head(b, SMFIC_HEADER, name_len + value_len + 2);
	buf_append(b, name, name_len);
	wire_put_u8(b, 0);
	buf_append(b, value, value_len);
	wire_put_u8(b, 0);
}

int milter_reply_decode(const struct milter_packet *p, struct milter_reply *r, const char **why)
{
	struct wire w;

	r->reply = p->command;
	wire_init(&w, p->data, p->len);
	switch (p->command) {
	case SMFIC_OPTNEG:
		return take_optneg(&w, &r->optneg, why);
	case SMFIR_CHGHEADER:
	case SMFIR_INSHEADER:
	case SMFIR_ADDHEADER:
		r->header.index = p->command == SMFIR_ADDHEADER ? 0 : wire_u32(&w);
		r->header.name = wire_cstr(&w);
		r->header.value = wire_cstr(&w);
		return finished(&w, why);
	case SMFIR_ADDRCPT:
	case SMFIR_DELRCPT:
	case SMFIR_ADDRCPT_PAR:
	case SMFIR_CHGFROM:
		r->address.path = wire_cstr(&w);
		r->address.args = NULL;
		if ((p->command == SMFIR_ADDRCPT_PAR || p->command == SMFIR_CHGFROM) && !w.broken && wire_left(&w))
			r->address.args = wire_cstr(&w);
		return finished(&w, why);
	case SMFIR_REPLBODY:
		r->body.data = wire_rest(&w, &r->body.len);
		return 0;
	case SMFIR_QUARANTINE:
	case SMFIR_REPLYCODE:
		r->text = wire_cstr(&w);
		return finished(&w, why);
	case SMFIR_SETSYMLIST:
		r->symlist.stage = wire_u32(&w);
		r->symlist.names = wire_cstr(&w);
		return finished(&w, why);
	case SMFIR_ACCEPT:
	case SMFIR_CONN_FAIL:
	case SMFIR_CONTINUE:
	case SMFIR_DISCARD:
	case SMFIR_PROGRESS:
	case SMFIR_REJECT:
	case SMFIR_SHUTDOWN:
	case SMFIR_SKIP:
	case SMFIR_TEMPFAIL:
		return finished(&w, why);
	default:
		return fail(why, "it is no milter reply");
	}
}

void milter_put_reply(struct buf *b, const struct milter_reply *r)
{
	size_t at = begin(b, r->reply);

	switch (r->reply) {
	case SMFIC_OPTNEG:
		put_optneg(b, &r->optneg);
		break;
	case SMFIR_CHGHEADER:
	case SMFIR_INSHEADER:
		wire_put_u32(b, r->header.index);
		/* fall through */
	case SMFIR_ADDHEADER:
		wire_put_cstr(b, r->header.name);
		wire_put_cstr(b, r->header.value);
		break;
	case SMFIR_ADDRCPT:
	case SMFIR_DELRCPT:
	case SMFIR_ADDRCPT_PAR:
	case SMFIR_CHGFROM:
		wire_put_cstr(b, r->address.path);
		if (r->address.args)
			wire_put_cstr(b, r->address.args);
		break;
	case SMFIR_REPLBODY:
		buf_append(b, r->body.data, r->body.len);
		break;
	case SMFIR_QUARANTINE:
	case SMFIR_REPLYCODE:
		wire_put_cstr(b, r->text);
		break;
	case SMFIR_SETSYMLIST:
		wire_put_u32(b, r->symlist.stage);
		wire_put_cstr(b, r->symlist.names);
		break;
	default:
		assert(milter_reply_name(r->reply));
	}
	end(b, at);
}
