#include "config.h"

#include "worker/backend.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/milter_names.h"
#include "worker/inbox.h"
#include "worker/outbox.h"
#include "worker/owed.h"

#define READS_A_TURN	8
#define SHOWN_BYTES	24		/* of what a stranger says, for the log */

enum phase { NEW, NEGOTIATING, OPEN };

struct backend {
	struct io io;
	struct timer timer;
	struct deferred later;		/* the end, when it was found out while the owner called */
	const struct backend_ops *ops;
	void *ctx;
	const struct backend_tracer *tracer;	/* NULL: nobody looks */
	void *tracer_ctx;
	const struct conf_milter *conf;
	const char *const *macros;
	struct backend_options options;

	enum phase phase;
	bool in_message, saw_recipient, has_answered;
	struct owed owed;
	uint32_t sequence;		/* of the last packet, MACRO not counted */

	struct backend_send send;
	const struct macros_scope *send_scope;
	bool sending;			/* backend_send_message() has not been answered */
	bool write_ahead;

	struct inbox in;
	struct outbox out;
	uint64_t answered_bytes;	/* in this message */
	int64_t step_ms, limit;
	unsigned depth;			/* of calls into the owner */
	const char *doomed;		/* why it is about to be lost, found out while the owner called */
	bool spoiled;			/* a message ended with packets on their way: their answers could be taken for others,
					 * so it is closed */
	bool lost, freed;
};

static void on_io(struct io *, int events);
static void on_timer(struct timer *);
static void on_later(struct deferred *);

struct backend *backend_new(int fd, const struct conf_milter *conf, const char *const macros[MILTER_STAGE_COUNT],
	const struct backend_ops *ops, void *ctx)
{
	struct backend *b = mem_alloc(sizeof(*b));

	b->conf = conf;
	b->macros = macros;
	b->ops = ops;
	b->ctx = ctx;
	b->write_ahead = conf->pipeline == CONF_PIPELINE_CONTENT;
	timer_init(&b->timer, on_timer, b);
	deferred_init(&b->later, on_later, b);
	io_init(&b->io, fd, on_io, b);
	io_want(&b->io, IO_READ);
	return b;
}

/* No descriptor, no timer: nothing is called any more. */
static void shut(struct backend *b)
{
	int fd = b->io.fd;

	if (b->io.handle) {
		io_fini(&b->io);
		fd_close(&fd);
	}
	timer_fini(&b->timer);
	deferred_cancel(&b->later);
	outbox_clear(&b->out);
	b->sending = false;
}

void backend_free(struct backend *b)
{
	if (!b || b->freed)
		return;
	shut(b);
	if (b->depth) {
		b->freed = true;
		return;
	}
	backend_options_fini(&b->options);
	inbox_fini(&b->in);
	outbox_fini(&b->out);
	free(b);
}

static void leave(struct backend *b)
{
	if (--b->depth == 0 && b->freed) {
		b->freed = false;
		backend_free(b);
	}
}

static bool is_over(const struct backend *b)
{
	return b->lost || b->spoiled || b->freed;
}

static void __attribute__((format(printf, 3, 4))) lose(struct backend *b, enum backend_loss loss, const char *format, ...)
{
	char why[256];
	va_list args;

	if (is_over(b))
		return;
	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	b->lost = true;
	shut(b);
	b->depth++;
	b->ops->on_lost(b->ctx, loss, why);
	leave(b);
}

/* ---- waiting and writing ---- */

static const char *command_name(uint8_t command)
{
	const char *name = milter_command_name(command);

	return name ? name : "a command";
}

static bool is_content(uint8_t command)
{
	return command == SMFIC_HEADER || command == SMFIC_EOH || command == SMFIC_BODY || command == SMFIC_BODYEOB;
}

/* Begin to wait, or begin a new step of waiting; or there is nothing to wait for. */
static void arm(struct backend *b)
{
	if (!b->owed.count && !b->sending && b->phase == OPEN) {
		timer_clear(&b->timer);
		return;
	}
	int64_t ms = b->step_ms, left = b->limit - loop_now_ms();

	if (b->limit && left < ms)
		ms = left;
	timer_set(&b->timer, ms);
}

static void on_timer(struct timer *t)
{
	struct backend *b = t->ctx;

	b->depth++;
	if (b->limit && loop_now_ms() >= b->limit)
		lose(b, BACKEND_TIMED_OUT, "no verdict within timeout.message (%lld ms)",
		     (long long)b->conf->timeout_message);
	else if (b->phase != OPEN)
		lose(b, BACKEND_TIMED_OUT, "no answer to the negotiation within %lld ms", (long long)b->step_ms);
	else if (b->owed.count)
		lose(b, BACKEND_TIMED_OUT, "no answer to %s within %lld ms",
		     command_name(owed_head(&b->owed).command), (long long)b->step_ms);
	else
		lose(b, BACKEND_TIMED_OUT, "it took no content for %lld ms", (long long)b->step_ms);
	leave(b);
}

static void on_later(struct deferred *d)
{
	struct backend *b = d->ctx;

	b->depth++;
	if (b->doomed)
		lose(b, BACKEND_BROKEN, "%s", b->doomed);
	else	/* What it said before it closed is still to be read: that may be a verdict. */
		on_io(&b->io, IO_READ);
	lose(b, BACKEND_CLOSED, "it closed the connection");
	leave(b);
}

static void flush(struct backend *b)
{
	size_t written;

	if (is_over(b) || b->doomed)
		return;
	int result = outbox_flush(&b->out, b->io.fd, &written);

	if (result < 0) {
		outbox_clear(&b->out);
		deferred_run(&b->later);
	}
	/* With no answers to wait for, content that moves is what keeps a step alive. */
	if (b->sending && !b->owed.count && written >= MILTER_CHUNK_SIZE / 2)
		arm(b);
	/* A socket may take all that was queued and still be owed the rest of the content. */
	bool more = result == 0 || (result > 0 && b->sending &&
				    backend_send_may(&b->send, &b->owed, &b->out, b->write_ahead));

	io_want(&b->io, more ? IO_READ | IO_WRITE : IO_READ);
}

static void doom(struct backend *b, const char *why)
{
	b->doomed = why;
	deferred_run(&b->later);
}

static void note_sent(struct backend *b, uint8_t command, bool answered)
{
	b->sequence++;
	if (!answered)
		return;
	/* What is there before the question is no answer to it. */
	if (!b->owed.count && inbox_has_more(&b->in))
		doom(b, "it sends more answers than it was asked for");
	owed_push(&b->owed, command, b->sequence);
}

/* The MACRO packet that begins at this offset of the output. */
static void trace_macros(struct backend *b, size_t at)
{
	const uint8_t *packet = buf_head(&b->out.bytes) + at;
	const struct milter_packet macros = {
		.command = packet[4], .data = packet + 5, .len = buf_len(&b->out.bytes) - at - 5,
	};
	struct milter_command c;
	const char *why;

	if (milter_command_decode(&macros, &c, &why) == 0)
		b->tracer->on_macros(b->tracer_ctx, c.macro.stage, c.macro.item, c.macro.count);
}

static void put_macros(struct backend *b, enum milter_stage stage, uint8_t command, const struct macros_scope *scope)
{
	const char *asked = b->options.macros[stage];
	size_t at = buf_len(&b->out.bytes);

	if (macros_put(&b->out.bytes, command, asked ? asked : b->macros[stage], scope) && b->tracer)
		trace_macros(b, at);
}

static void trace_told(struct backend *b, uint8_t command, const char *subject, bool answered)
{
	if (b->tracer)
		b->tracer->on_told(b->tracer_ctx, command, subject, answered);
}

/* ---- negotiation ---- */

void backend_negotiate(struct backend *b, int64_t timeout_ms)
{
	const struct milter_optneg offer = {
		.version = MILTER_VERSION_MAX,
		.actions = BACKEND_ACTIONS,
		.protocol = BACKEND_PROTOCOL,
	};

	assert(b->phase == NEW);
	b->phase = NEGOTIATING;
	b->step_ms = timeout_ms;
	milter_put_optneg(&b->out.bytes, &offer);
	arm(b);
	flush(b);
}

static void take_optneg(struct backend *b, const struct milter_optneg *answer)
{
	if (backend_options_take(&b->options, answer) < 0) {
		lose(b, BACKEND_BROKEN, "it negotiates protocol version %u, 2 to 6 are known", answer->version);
		return;
	}
	b->phase = OPEN;
	arm(b);
	b->ops->on_negotiated(b->ctx);
}

/* ---- content ---- */

static void put_content(struct backend *b, uint8_t command)
{
	const char *why = "";

	if (command == SMFIC_BODYEOB)
		b->ops->on_eom(b->ctx);
	if (command == SMFIC_EOH)
		put_macros(b, MILTER_STAGE_EOH, command, b->send_scope);
	else if (command == SMFIC_BODYEOB)
		put_macros(b, MILTER_STAGE_EOM, command, b->send_scope);
	if (backend_send_next(&b->send, &b->out, &why) < 0) {
		doom(b, why);
		return;
	}
	note_sent(b, command, backend_answers_content(b->options.protocol, command));
	trace_told(b, command, "", backend_answers_content(b->options.protocol, command));
}

static void fill(struct backend *b)
{
	unsigned before = b->owed.count;

	if (is_over(b) || !b->sending)
		return;
	while (!b->doomed && backend_send_may(&b->send, &b->owed, &b->out, b->write_ahead))
		put_content(b, backend_send_peek(&b->send));
	if (!before && b->owed.count)
		arm(b);
	flush(b);
}

void backend_send_message(struct backend *b, const struct backend_content *content, const struct macros_scope *scope)
{
	assert(b->phase == OPEN && b->in_message && backend_saw_recipient(b) && backend_reusable(b));
	backend_send_begin(&b->send, content, b->options.protocol);
	b->send_scope = scope;
	b->sending = true;
	b->step_ms = b->conf->timeout_data;
	arm(b);
	fill(b);
}

/* ---- events ---- */

static void enter(struct backend *b, const struct ipc_event *e)
{
	switch (e->kind) {
	case IPC_MAIL:
		assert(!b->in_message);
		b->in_message = true;
		b->saw_recipient = false;
		b->answered_bytes = 0;
		break;
	case IPC_RCPT:
		assert(b->in_message);
		b->saw_recipient = true;
		break;
	case IPC_DATA:
		assert(b->in_message && backend_saw_recipient(b));
		break;
	default:
		assert(e->kind != IPC_EOM && (!b->in_message || e->kind == IPC_UNKNOWN));
	}
}

bool backend_tell(struct backend *b, const struct ipc_event *e, const struct macros_scope *scope)
{
	const struct backend_step *s = backend_step_of(e->kind);
	bool sent = !(b->options.protocol & s->no);

	assert(b->phase == OPEN && backend_reusable(b));
	enter(b, e);
	if (s->stage < MILTER_STAGE_COUNT && (sent || s->macros_anyway))
		put_macros(b, s->stage, s->command, scope);
	if (!sent)
		return false;
	backend_put_event(&b->out.bytes, e);
	note_sent(b, s->command, !(b->options.protocol & s->nr));
	trace_told(b, s->command, e->arg_count ? e->arg[0] : "", !(b->options.protocol & s->nr));
	if (!b->owed.count)
		return false;
	b->step_ms = b->conf->timeout_command;
	arm(b);
	flush(b);
	return true;
}

void backend_abort(struct backend *b)
{
	assert(backend_reusable(b));
	if (!b->in_message)
		return;
	b->in_message = false;
	milter_put_bare(&b->out.bytes, SMFIC_ABORT);
	note_sent(b, SMFIC_ABORT, false);
	flush(b);
}

void backend_quit(struct backend *b)
{
	if (b && !is_over(b) && b->phase == OPEN && backend_reusable(b)) {
		if (b->in_message)
			milter_put_bare(&b->out.bytes, SMFIC_ABORT);
		milter_put_bare(&b->out.bytes, SMFIC_QUIT);
		flush(b);
	}
	backend_free(b);
}

/* ---- answers ---- */

static void take_final(struct backend *b, const struct milter_reply *reply)
{
	struct owed_answer asked = owed_pop(&b->owed);
	const struct backend_answer answer = {
		.reply = reply->reply,
		.text = reply->reply == SMFIR_REPLYCODE ? reply->text : NULL,
	};

	if (b->tracer)
		b->tracer->on_reply(b->tracer_ctx, asked.command, &answer);
	arm(b);
	if (backend_ends_message(asked.command, answer.reply)) {
		b->in_message = false;
		b->sending = false;
		b->spoiled = b->owed.count > 0 || asked.sequence != b->sequence;
		timer_clear(&b->timer);
		if (b->spoiled)
			shut(b);
	} else if (is_content(asked.command)) {
		if (answer.reply == SMFIR_SKIP)
			backend_send_skip(&b->send, asked.command);
		return;
	}
	b->ops->on_answer(b->ctx, &answer);
}

static void take_edit(struct backend *b, const struct milter_reply *reply)
{
	const char *why = "it is not legal";

	if (backend_reply_action(reply->reply) & ~b->options.actions)
		lose(b, BACKEND_BROKEN, "it sends %s without having negotiated that", milter_reply_name(reply->reply));
	else if (b->ops->on_edit(b->ctx, reply, &why) < 0)
		lose(b, BACKEND_BROKEN, "%s: %s", milter_reply_name(reply->reply), why);
}

static void take_reply(struct backend *b, const struct milter_packet *packet)
{
	const char *name = milter_reply_name(packet->command), *why = "";
	struct milter_reply reply;

	if (!name) {
		lose(b, BACKEND_BROKEN, "it sends a packet of unknown type 0x%02x", packet->command);
		return;
	}
	if (!b->owed.count) {
		lose(b, BACKEND_BROKEN, "it sends %s although nothing was asked", name);
		return;
	}
	uint8_t command = owed_head(&b->owed).command;
	enum backend_reply_kind kind = backend_reply_kind(packet->command, command, b->options.protocol);

	if (kind == BACKEND_ILLEGAL)
		lose(b, BACKEND_BROKEN, "it answers %s to %s", name, command_name(command));
	else if (milter_reply_decode(packet, &reply, &why) < 0)
		lose(b, BACKEND_BROKEN, "it sends a malformed %s: %s", name, why);
	else if (kind == BACKEND_PROGRESS)
		arm(b);
	else if (kind == BACKEND_EDIT)
		take_edit(b, &reply);
	else
		take_final(b, &reply);
}

static void take_stranger(struct backend *b)
{
	char shown[SHOWN_BYTES + 1];

	inbox_show(&b->in, shown, sizeof(shown));
	if (b->phase == OPEN)
		lose(b, BACKEND_BROKEN, "it sends a packet of an illegal length");
	else
		lose(b, BACKEND_BROKEN, "not a milter: it answered \"%s\"", shown);
}

static void take_negotiation(struct backend *b, const struct milter_packet *packet)
{
	struct milter_reply reply;
	const char *why = "";

	if (b->phase == NEW || packet->command != SMFIC_OPTNEG)
		take_stranger(b);
	else if (milter_reply_decode(packet, &reply, &why) < 0)
		lose(b, BACKEND_BROKEN, "its negotiation is malformed: %s", why);
	else
		take_optneg(b, &reply.optneg);
}

/* The next packet that has come. False when there is no whole one. */
static bool take_packet(struct backend *b)
{
	struct milter_packet packet;
	int got = inbox_next(&b->in, &packet);

	if (got < 0)
		take_stranger(b);
	if (got <= 0)
		return false;
	b->has_answered = true;
	b->answered_bytes += packet.size;
	if (b->answered_bytes > (uint64_t)b->conf->max_response_size)
		lose(b, BACKEND_BROKEN, "its answers to one message are larger than options.max-response-size");
	else if (b->phase == OPEN)
		take_reply(b, &packet);
	else
		take_negotiation(b, &packet);
	inbox_taken(&b->in);
	return true;
}

/* One read and what it brings. False: nothing more to be had now. */
static bool receive(struct backend *b)
{
	int got = inbox_read(&b->in, b->io.fd);

	if (got < 0) {
		lose(b, BACKEND_CLOSED, "%s%s", errno ? strerror(errno) : "it closed the connection",
		     b->phase == OPEN ? "" : " during the negotiation");
		return false;
	}
	while (!is_over(b) && !b->doomed && take_packet(b))
		;
	return got && !b->doomed;
}

static void on_io(struct io *io, int events)
{
	struct backend *b = io->ctx;

	b->depth++;
	if (events & IO_WRITE) {
		flush(b);
		fill(b);
	}
	if (events & IO_READ) {
		for (int i = 0; i < READS_A_TURN && !is_over(b) && receive(b); i++)
			;
		fill(b);
		if (!is_over(b))
			inbox_shrink(&b->in);
	}
	leave(b);
}

/* ---- questions ---- */

const struct backend_options *backend_options(const struct backend *b)
{
	return &b->options;
}

void backend_set_owner(struct backend *b, const struct backend_ops *ops, void *ctx)
{
	assert(b->phase == OPEN && !b->owed.count);
	b->ops = ops;
	b->ctx = ctx;
	b->tracer = NULL;
	b->has_answered = false;
	b->answered_bytes = 0;
}

void backend_set_tracer(struct backend *b, const struct backend_tracer *tracer, void *ctx)
{
	b->tracer = tracer;
	b->tracer_ctx = ctx;
}

void backend_set_limit(struct backend *b, int64_t deadline)
{
	b->limit = deadline;
}

void backend_set_write_ahead(struct backend *b, bool write_ahead)
{
	b->write_ahead = write_ahead;
}

bool backend_in_message(const struct backend *b)
{
	return b->in_message;
}

bool backend_saw_recipient(const struct backend *b)
{
	return b->saw_recipient || (b->options.protocol & SMFIP_NORCPT);
}

bool backend_reusable(const struct backend *b)
{
	return !is_over(b) && !b->doomed && !b->owed.count && !b->sending && !outbox_refers(&b->out);
}

bool backend_is_silent(const struct backend *b)
{
	uint8_t byte;

	return !b->lost && !inbox_has_more(&b->in) && recv(b->io.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

bool backend_has_answered(const struct backend *b)
{
	return b->has_answered;
}
