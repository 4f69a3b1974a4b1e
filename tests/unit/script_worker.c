#include "config.h"

#include "tests/unit/script_worker.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <sys/socket.h>

#include "common/wire.h"

static void note(struct script_worker *w, const char *what)
{
	buf_printf(&w->seen, "%s%s", buf_len(&w->seen) ? " " : "", what);
}

static void take_event(struct script_worker *w, struct wire *in)
{
	struct ipc_event event;
	char text[64];

	ipc_event_take(in, &w->arena, &event);
	cr_assert(wire_finished(in), "a malformed event");
	snprintf(text, sizeof(text), "%s:%u%s", ipc_event_name(event.kind), event.number,
		 event.flags == IPC_EVENT_WANTED ? "!" : event.flags == IPC_EVENT_REPLAYED ? "~" : "");
	note(w, text);
	if (event.flags == IPC_EVENT_WANTED) {
		w->wanted = event.number;
		w->wanted_kind = (enum ipc_event_kind)event.kind;
	}
	if (event.kind == IPC_EOM)
		w->content = event.content;
}

static void take_open(struct script_worker *w, struct wire *in)
{
	struct ipc_open open;
	char text[32];

	ipc_open_take(in, &open);
	cr_assert(wire_finished(in));
	snprintf(text, sizeof(text), "open(%u%s)", open.listener, open.trace ? ",traced" : "");
	note(w, text);
	w->opened++;
}

static void take_buffer(struct script_worker *w, struct wire *in, struct chan_record *r)
{
	struct ipc_buffer buffer;

	ipc_buffer_take(in, &buffer);
	cr_assert(wire_finished(in) && !r->session && (r->fd >= 0) == (r->type == IPC_BUFFER));
	if (r->type == IPC_BUFFER) {
		cr_assert_eq(msgbuf_views_add(w->views, buffer.id, r->fd), 0);
		r->fd = -1;
	} else if (r->type == IPC_BUFFER_DROP) {
		cr_assert_eq(msgbuf_views_drop(w->views, buffer.id), 0);
	}
	note(w, r->type == IPC_BUFFER ? "buffer" : r->type == IPC_BUFFER_DROP ? "drop" : "release");
}

static int on_record(struct chan *chan, void *ctx, struct chan_record *r)
{
	struct script_worker *w = ctx;
	struct wire in;

	(void)chan;
	wire_init(&in, r->data, r->len);
	if (r->session)
		w->session = r->session;
	switch (r->type) {
	case IPC_OPEN:
		take_open(w, &in);
		break;
	case IPC_EVENT:
		take_event(w, &in);
		break;
	case IPC_ABORT:
		note(w, "abort");
		break;
	case IPC_CLOSE:
		note(w, "close");
		break;
	default:
		take_buffer(w, &in, r);
	}
	return 0;
}

static void on_close(struct chan *chan, void *ctx, const char *why)
{
	struct script_worker *w = ctx;

	(void)why;
	chan_free(chan);
	w->chan = NULL;
}

int script_worker_start(struct script_worker *w)
{
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	w->views = msgbuf_views_new();
	w->chan = chan_new(pair[1], on_record, on_close, w);
	return pair[0];
}

void script_worker_die(struct script_worker *w)
{
	chan_free(w->chan);
	w->chan = NULL;
}

void script_worker_fini(struct script_worker *w)
{
	script_worker_die(w);
	msgbuf_views_free(w->views);
	buf_fini(&w->seen);
	arena_fini(&w->arena);
	*w = (struct script_worker){ 0 };
}

const char *script_worker_seen(struct script_worker *w)
{
	const char *text;

	arena_reset(&w->arena);
	text = arena_strndup(&w->arena, buf_len(&w->seen) ? buf_head(&w->seen) : (const uint8_t *)"", buf_len(&w->seen));
	buf_clear(&w->seen);
	return text;
}

void script_worker_verdict(struct script_worker *w, const struct ipc_verdict *v)
{
	ipc_verdict_put(chan_begin(w->chan, IPC_VERDICT, w->session), v);
	chan_end(w->chan);
}

void script_worker_say(struct script_worker *w, enum verdict verdict, const char *reply)
{
	const struct ipc_verdict v = {
		.number = w->wanted, .origin = w->wanted, .verdict = (uint8_t)verdict, .reply = reply,
		.milter = IPC_NOBODY, .interest = IPC_INTEREST_ALL,
	};

	script_worker_verdict(w, &v);
}

void script_worker_pass(struct script_worker *w, size_t header_length)
{
	struct edit_result result;

	edit_result_unchanged(&w->arena, header_length, &result);
	script_worker_result(w, &result);
}

void script_worker_result(struct script_worker *w, const struct edit_result *result)
{
	const struct ipc_verdict v = {
		.number = w->wanted, .origin = w->wanted, .verdict = VERDICT_ACCEPT, .milter = IPC_NOBODY,
		.interest = IPC_INTEREST_ALL,
	};
	struct buf *record = chan_begin(w->chan, IPC_VERDICT, w->session);

	ipc_verdict_put(record, &v);
	edit_result_write(record, result);
	chan_end(w->chan);
}

void script_worker_send(struct script_worker *w, enum ipc_type type, const void *data, size_t len)
{
	bool is_buffer = type == IPC_BUFFER || type == IPC_BUFFER_DROP || type == IPC_RELEASE;

	chan_send(w->chan, (uint16_t)type, is_buffer ? 0 : w->session, data, len, -1);
}

void script_worker_release(struct script_worker *w)
{
	const struct ipc_buffer buffer = { .id = w->content.buffer, .generation = w->content.generation };
	struct buf data = { 0 };

	ipc_buffer_put(&data, &buffer);
	script_worker_send(w, IPC_RELEASE, buf_head(&data), buf_len(&data));
	buf_fini(&data);
}
