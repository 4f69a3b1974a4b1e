#include "config.h"

#include "common/ipc.h"

#include <assert.h>
#include <string.h>

#include "common/log.h"
#include "common/milter_names.h"
#include "common/smtp_reply.h"

#define SAID_SIZE 10u	/* bytes of one struct ipc_said on the wire */
#define PORT_DIGITS_MAX 5u
#define PORT_MAX 65535u

static const struct {
	const char *name;
	size_t args_min, args_max;
} kinds[IPC_EVENT_KINDS] = {
	[IPC_CONNECT] = { "connect", 4, 4 },
	[IPC_HELO] = { "helo", 1, 1 },
	[IPC_MAIL] = { "mail", 1, IPC_ARGS_MAX },
	[IPC_RCPT] = { "rcpt", 1, IPC_ARGS_MAX },
	[IPC_DATA] = { "data", 0, 0 },
	[IPC_EOM] = { "eom", 0, 0 },
	[IPC_UNKNOWN] = { "unknown", 1, 1 },
};

const char *ipc_event_name(enum ipc_event_kind kind)
{
	assert(kind < IPC_EVENT_KINDS);
	return kinds[kind].name;
}

void ipc_slot_put(struct buf *b, const struct ipc_slot *slot)
{
	wire_put_u32(b, slot->slot);
	wire_put_u32(b, slot->extra);
}

void ipc_slot_take(struct wire *w, struct ipc_slot *slot)
{
	slot->slot = wire_u32(w);
	slot->extra = wire_u32(w);
}

void ipc_log_level_put(struct buf *b, const struct ipc_log_level *record)
{
	assert(record->level <= LOG_LEVEL_DEBUG);
	wire_put_u32(b, record->level);
}

void ipc_log_level_take(struct wire *w, struct ipc_log_level *record)
{
	record->level = wire_u32(w);
	if (record->level > LOG_LEVEL_DEBUG)
		w->broken = true;
}

void ipc_buffer_put(struct buf *b, const struct ipc_buffer *buffer)
{
	wire_put_u32(b, buffer->id);
	wire_put_u32(b, buffer->generation);
}

void ipc_buffer_take(struct wire *w, struct ipc_buffer *buffer)
{
	buffer->id = wire_u32(w);
	buffer->generation = wire_u32(w);
}

void ipc_open_put(struct buf *b, const struct ipc_open *open)
{
	assert(open->trace <= 1);
	wire_put_u32(b, open->listener);
	wire_put_u8(b, open->trace);
}

void ipc_open_take(struct wire *w, struct ipc_open *open)
{
	open->listener = wire_u32(w);
	open->trace = wire_u8(w);
	if (open->trace > 1)
		w->broken = true;
}

void ipc_eom_begun_put(struct buf *b, const struct ipc_eom_begun *begun)
{
	wire_put_u32(b, begun->milter);
}

void ipc_eom_begun_take(struct wire *w, struct ipc_eom_begun *begun)
{
	begun->milter = wire_u32(w);
}

static bool flags_are_legal(uint8_t flags)
{
	return flags == 0 || flags == IPC_EVENT_WANTED || flags == IPC_EVENT_REPLAYED;
}

static bool is_port(const char *text)
{
	size_t len = strspn(text, "0123456789");
	unsigned port = 0;

	if (len == 0 || len > PORT_DIGITS_MAX || text[len] != '\0')
		return false;
	for (size_t i = 0; i < len; i++)
		port = port * 10 + (unsigned)(text[i] - '0');
	return port <= PORT_MAX;
}

/* The worker turns these into the letter and number of SMFIC_CONNECT. */
static bool connect_is_legal(const char *const *arg)
{
	return arg[1][0] != '\0' && strchr("UL46", arg[1][0]) && arg[1][1] == '\0' && is_port(arg[2]);
}

static bool args_are_legal(const struct ipc_event *event)
{
	return event->kind != IPC_CONNECT || connect_is_legal((const char *const *)event->arg);
}

void ipc_event_put(struct buf *b, const struct ipc_event *event)
{
	assert(event->number > 0 && event->kind < IPC_EVENT_KINDS && flags_are_legal(event->flags));
	assert(event->arg_count >= kinds[event->kind].args_min && event->arg_count <= kinds[event->kind].args_max);
	assert(event->macro_count <= IPC_MACROS_MAX && args_are_legal(event));
	wire_put_u32(b, event->number);
	wire_put_u8(b, event->kind);
	wire_put_u8(b, event->flags);
	wire_put_u8(b, (uint8_t)event->arg_count);
	for (size_t i = 0; i < event->arg_count; i++)
		wire_put_cstr(b, event->arg[i]);
	wire_put_u8(b, (uint8_t)event->macro_count);
	for (size_t i = 0; i < event->macro_count; i++) {
		wire_put_cstr(b, event->macro[i].name);
		wire_put_cstr(b, event->macro[i].value);
	}
	if (event->kind == IPC_EOM) {
		wire_put_u32(b, event->content.buffer);
		wire_put_u32(b, event->content.generation);
		assert(event->content.memory <= event->content.length);
		wire_put_u64(b, event->content.memory);
		wire_put_u64(b, event->content.length);
	}
}

static void take_args(struct wire *w, struct arena *arena, struct ipc_event *event)
{
	size_t count = wire_u8(w);

	if (count < kinds[event->kind].args_min || count > kinds[event->kind].args_max) {
		w->broken = true;
		return;
	}
	event->arg = arena_alloc(arena, count * sizeof(*event->arg));
	for (size_t i = 0; i < count; i++)
		event->arg[i] = arena_strdup(arena, wire_cstr(w));
	event->arg_count = count;
}

static void take_macros(struct wire *w, struct arena *arena, struct ipc_event *event)
{
	size_t count = wire_u8(w);

	if (count > IPC_MACROS_MAX) {
		w->broken = true;
		return;
	}
	event->macro = arena_alloc(arena, count * sizeof(*event->macro));
	for (size_t i = 0; i < count; i++) {
		event->macro[i].name = arena_strdup(arena, wire_cstr(w));
		event->macro[i].value = arena_strdup(arena, wire_cstr(w));
	}
	event->macro_count = count;
}

void ipc_event_take(struct wire *w, struct arena *arena, struct ipc_event *event)
{
	*event = (struct ipc_event){ .number = wire_u32(w) };
	event->kind = wire_u8(w);
	event->flags = wire_u8(w);
	if (event->number == 0 || event->kind >= IPC_EVENT_KINDS || !flags_are_legal(event->flags)) {
		*event = (struct ipc_event){ 0 };
		w->broken = true;
		return;
	}
	take_args(w, arena, event);
	take_macros(w, arena, event);
	if (event->kind == IPC_EOM) {
		event->content.buffer = wire_u32(w);
		event->content.generation = wire_u32(w);
		event->content.memory = wire_u64(w);
		event->content.length = wire_u64(w);
		if (event->content.memory > event->content.length)
			w->broken = true;
	}
	if (!w->broken && !args_are_legal(event))
		w->broken = true;
}

/* The length of the reply line at text with its CRLF, 0 when it is none. Its code must be that of the first line. */
static size_t reply_line(const char *text, const char *first)
{
	size_t len = 4;

	if (text[0] < '2' || text[0] > '5' || text[1] < '0' || text[1] > '9' || text[2] < '0' || text[2] > '9' ||
	    memcmp(text, first, 3) != 0 || (text[3] != ' ' && text[3] != '-'))
		return 0;
	while ((unsigned char)text[len] >= ' ' && text[len] != 0x7f)
		len++;
	return text[len] == '\r' && text[len + 1] == '\n' ? len + 2 : 0;
}

/* What is in this form cannot be taken for anything but one reply by an SMTP client. */
static bool is_reply(const char *reply)
{
	size_t lines = 0;

	if (strnlen(reply, SMTP_REPLY_LENGTH_MAX + 1) > SMTP_REPLY_LENGTH_MAX)
		return false;
	for (const char *line = reply; lines < SMTP_REPLY_LINES_MAX; lines++) {
		size_t len = reply_line(line, reply);

		if (len == 0)
			return false;
		if (line[3] == ' ')
			return line[len] == '\0';
		line += len;
	}
	return false;
}

static bool reply_suits(uint8_t verdict, const char *reply)
{
	switch ((enum verdict)verdict) {
	case VERDICT_REJECT:
		return !reply || (reply[0] == '5' && is_reply(reply));
	case VERDICT_TEMPFAIL:
	case VERDICT_SHUTDOWN:
		return !reply || (reply[0] == '4' && is_reply(reply));
	default:
		return !reply;
	}
}

static bool verdict_is_legal(const struct ipc_verdict *v)
{
	return v->number > 0 && v->origin > 0 && v->origin <= v->number && v->verdict < VERDICT_COUNT &&
	       reply_suits(v->verdict, v->reply);
}

void ipc_verdict_put(struct buf *b, const struct ipc_verdict *v)
{
	assert(verdict_is_legal(v));
	wire_put_u32(b, v->number);
	wire_put_u32(b, v->origin);
	wire_put_u8(b, v->verdict);
	wire_put_u8(b, v->reply != NULL);
	if (v->reply)
		wire_put_cstr(b, v->reply);
	wire_put_u32(b, v->milter);
	wire_put_u32(b, v->interest);
	wire_put_u32(b, (uint32_t)v->said_count);
	for (size_t i = 0; i < v->said_count; i++) {
		assert(v->said[i].verdict < VERDICT_COUNT && v->said[i].failed <= 1);
		wire_put_u32(b, v->said[i].milter);
		wire_put_u8(b, v->said[i].verdict);
		wire_put_u8(b, v->said[i].failed);
		wire_put_u32(b, v->said[i].ms);
	}
}

static void take_said(struct wire *w, struct arena *arena, struct ipc_verdict *v)
{
	size_t count = wire_u32(w);

	/* No count is believed beyond the bytes that are there. */
	if (count > wire_left(w) / SAID_SIZE) {
		w->broken = true;
		return;
	}
	v->said = arena_alloc(arena, count * sizeof(*v->said));
	for (size_t i = 0; i < count; i++) {
		struct ipc_said *said = &v->said[i];

		said->milter = wire_u32(w);
		said->verdict = wire_u8(w);
		said->failed = wire_u8(w);
		said->ms = wire_u32(w);
		if (said->verdict >= VERDICT_COUNT || said->failed > 1)
			w->broken = true;
	}
	v->said_count = count;
}

void ipc_verdict_take(struct wire *w, struct arena *arena, struct ipc_verdict *v)
{
	*v = (struct ipc_verdict){ .number = wire_u32(w) };
	v->origin = wire_u32(w);
	v->verdict = wire_u8(w);

	uint8_t has_reply = wire_u8(w);

	if (has_reply)
		v->reply = arena_strdup(arena, wire_cstr(w));
	v->milter = wire_u32(w);
	v->interest = wire_u32(w);
	take_said(w, arena, v);
	if (has_reply > 1 || !verdict_is_legal(v))
		w->broken = true;
}

static bool edit_is_legal(const struct ipc_trace *t)
{
	const struct milter_packet packet = { .command = t->reply, .data = t->data, .len = t->data_len };
	struct milter_reply reply;
	const char *why;

	return milter_reply_decode(&packet, &reply, &why) == 0;
}

static bool trace_is_legal(const struct ipc_trace *t)
{
	switch ((enum ipc_trace_kind)t->kind) {
	case IPC_TRACE_STEP:
		return milter_command_name(t->command) && (!t->reply || milter_reply_name(t->reply)) && !t->data_len;
	case IPC_TRACE_EDIT:
		return !t->macro_count && edit_is_legal(t);
	case IPC_TRACE_TROUBLE:
		return !t->macro_count && !t->data_len;
	default:
		return false;
	}
}

void ipc_trace_put(struct buf *b, const struct ipc_trace *t)
{
	assert(t->macro_count <= MILTER_MACROS_MAX && trace_is_legal(t));
	wire_put_u8(b, t->kind);
	wire_put_u32(b, t->milter);
	wire_put_u8(b, t->command);
	wire_put_u8(b, t->reply);
	wire_put_u32(b, t->packets);
	wire_put_u64(b, t->us);
	wire_put_cstr(b, t->subject);
	wire_put_cstr(b, t->text);
	wire_put_u8(b, (uint8_t)t->macro_count);
	for (size_t i = 0; i < t->macro_count; i++) {
		wire_put_cstr(b, t->macro[i].name);
		wire_put_cstr(b, t->macro[i].value);
	}
	wire_put_blob(b, t->data, t->data_len);
	wire_put_u64(b, t->size);
}

static void take_trace_macros(struct wire *w, struct arena *arena, struct ipc_trace *t)
{
	size_t count = wire_u8(w);

	if (count > MILTER_MACROS_MAX) {
		w->broken = true;
		return;
	}
	t->macro = arena_alloc(arena, count * sizeof(*t->macro));
	for (size_t i = 0; i < count; i++) {
		t->macro[i].name = arena_strdup(arena, wire_cstr(w));
		t->macro[i].value = arena_strdup(arena, wire_cstr(w));
	}
	t->macro_count = count;
}

void ipc_trace_take(struct wire *w, struct arena *arena, struct ipc_trace *t)
{
	*t = (struct ipc_trace){ .kind = wire_u8(w) };
	t->milter = wire_u32(w);
	t->command = wire_u8(w);
	t->reply = wire_u8(w);
	t->packets = wire_u32(w);
	t->us = wire_u64(w);
	t->subject = arena_strdup(arena, wire_cstr(w));
	t->text = arena_strdup(arena, wire_cstr(w));
	take_trace_macros(w, arena, t);

	size_t len;
	const uint8_t *data = wire_blob(w, &len);

	t->size = wire_u64(w);
	if (w->broken)
		return;
	t->data = (const uint8_t *)arena_strndup(arena, data, len);
	t->data_len = len;
	if (!trace_is_legal(t))
		w->broken = true;
}
