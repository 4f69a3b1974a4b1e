#include "config.h"

#include "worker/trace.h"

#include <stdbool.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/mem.h"

/* In the order they are reported. */
enum group { GROUP_EVENT, GROUP_HEADER, GROUP_EOH, GROUP_BODY, GROUP_EOM, GROUP_COUNT };

struct step {
	bool open;			/* something was sent */
	struct ipc_trace report;	/* strings are in the arena */
	int64_t began_us, ended_us;
};

struct trace {
	unsigned milter;
	trace_fn *fn;
	void *ctx;
	struct step step[GROUP_COUNT];
	struct arena arena;		/* of the open steps */
	uint64_t body_size;		/* bytes of a replaced body */
	bool replaces_body;
};

static enum group group_of(uint8_t command)
{
	switch (command) {
	case SMFIC_HEADER:
		return GROUP_HEADER;
	case SMFIC_EOH:
		return GROUP_EOH;
	case SMFIC_BODY:
		return GROUP_BODY;
	case SMFIC_BODYEOB:
		return GROUP_EOM;
	default:
		return GROUP_EVENT;
	}
}

struct trace *trace_new(unsigned milter, trace_fn *fn, void *ctx)
{
	struct trace *t = mem_alloc(sizeof(*t));

	t->milter = milter;
	t->fn = fn;
	t->ctx = ctx;
	return t;
}

void trace_free(struct trace *t)
{
	if (!t)
		return;
	arena_fini(&t->arena);
	free(t);
}

static void report_body(struct trace *t)
{
	const struct ipc_trace report = {
		.kind = IPC_TRACE_EDIT, .milter = t->milter, .reply = SMFIR_REPLBODY, .subject = "", .text = "",
		.size = t->body_size,
	};

	if (t->replaces_body)
		t->fn(t->ctx, &report);
	t->replaces_body = false;
	t->body_size = 0;
}

static void finish(struct trace *t, enum group group)
{
	struct step *s = &t->step[group];

	if (!s->open)
		return;
	if (group == GROUP_EOM)
		report_body(t);
	if (s->ended_us)
		s->report.us = (uint64_t)(s->ended_us - s->began_us);
	t->fn(t->ctx, &s->report);
	*s = (struct step){ 0 };
}

/* All steps before this group. */
static void finish_before(struct trace *t, enum group end)
{
	for (enum group group = 0; group < end; group++)
		finish(t, group);
	for (enum group group = end; group < GROUP_COUNT; group++)
		if (t->step[group].open)
			return;
	arena_reset(&t->arena);
}

static struct step *open_step(struct trace *t, uint8_t command)
{
	struct step *s = &t->step[group_of(command)];

	if (!s->open)
		*s = (struct step){
			.open = true,
			.report = {
				.kind = IPC_TRACE_STEP, .milter = t->milter, .command = command, .subject = "",
				.text = "",
			},
		};
	return s;
}

static void on_macros(void *ctx, uint8_t command, const struct milter_macro *macro, size_t count)
{
	struct trace *t = ctx;

	/* Macros of a command that was not sent after them. */
	finish(t, GROUP_EVENT);

	struct step *s = open_step(t, command);

	s->report.macro = arena_alloc(&t->arena, count * sizeof(*macro));
	for (size_t i = 0; i < count; i++) {
		s->report.macro[i].name = arena_strdup(&t->arena, macro[i].name);
		s->report.macro[i].value = arena_strdup(&t->arena, macro[i].value);
	}
	s->report.macro_count = count;
}

static void on_told(void *ctx, uint8_t command, const char *subject, bool answered)
{
	struct trace *t = ctx;
	enum group group = group_of(command);

	if (group == GROUP_EOM)
		finish_before(t, group);
	else if (t->step[GROUP_EVENT].report.command != command)
		finish(t, GROUP_EVENT);

	struct step *s = open_step(t, command);

	if (!s->report.packets++) {
		s->report.subject = arena_strdup(&t->arena, subject);
		s->began_us = clock_now_us();
	}
	if (group == GROUP_EVENT && !answered)
		finish_before(t, GROUP_COUNT);
}

static void on_reply(void *ctx, uint8_t command, const struct backend_answer *answer)
{
	struct trace *t = ctx;
	enum group group = group_of(command);
	struct step *s = open_step(t, command);
	bool goes_on = answer->reply == SMFIR_CONTINUE || answer->reply == SMFIR_SKIP;

	s->ended_us = clock_now_us();
	s->report.reply = answer->reply;
	if (answer->text)
		s->report.text = arena_strdup(&t->arena, answer->text);
	if (group == GROUP_EVENT || group == GROUP_EOM || !goes_on)
		finish_before(t, GROUP_COUNT);
}

void trace_follow(struct trace *t, struct backend *b)
{
	static const struct backend_tracer tracer = {
		.on_macros = on_macros, .on_told = on_told, .on_reply = on_reply,
	};

	if (t)
		backend_set_tracer(b, &tracer, t);
}

void trace_edit(struct trace *t, const struct milter_reply *reply)
{
	struct buf packet = { 0 };

	if (!t)
		return;
	if (reply->reply == SMFIR_REPLBODY) {
		t->replaces_body = true;
		t->body_size += reply->body.len;
		return;
	}
	milter_put_reply(&packet, reply);

	const struct ipc_trace report = {
		.kind = IPC_TRACE_EDIT, .milter = t->milter, .reply = reply->reply, .subject = "", .text = "",
		.data = buf_head(&packet) + 5, .data_len = buf_len(&packet) - 5, .size = buf_len(&packet) - 5,
	};

	t->fn(t->ctx, &report);
	buf_fini(&packet);
}

void trace_trouble(struct trace *t, const char *endpoint, const char *cause)
{
	if (!t)
		return;
	finish_before(t, GROUP_COUNT);

	const struct ipc_trace report = {
		.kind = IPC_TRACE_TROUBLE, .milter = t->milter, .subject = endpoint, .text = cause,
	};

	t->fn(t->ctx, &report);
}
