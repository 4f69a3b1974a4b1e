#include "config.h"

#include "worker/link.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <uthash.h>
#include <unistd.h>

#include "common/chan.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/msgbuf_views.h"
#include "common/wire.h"

#define TICK_MS 1000

struct session {
	uint64_t id;
	struct link *link;
	struct job *job;
	UT_hash_handle hh;
};

/* One session process. */
struct link {
	struct links *links;
	unsigned slot;
	struct chan *chan;
	struct msgbuf_views *views;	/* of its buffers */
	struct session *sessions;
};

struct links {
	struct job_shared *shared;
	void (*first_verdict)(void);
	void (*on_last)(void);
	struct link *link[MSGBUF_PEERS];	/* by slot */
	size_t count;
	bool has_worked;
	struct timer tick;
};

/* ---- what jobs say ---- */

static void send_buffer(struct link *l, uint16_t type, uint32_t id, uint32_t generation, int fd)
{
	const struct ipc_buffer record = { .id = id, .generation = generation };
	struct buf data = { 0 };

	ipc_buffer_put(&data, &record);
	chan_send(l->chan, type, 0, buf_head(&data), buf_len(&data), fd);
	buf_fini(&data);
}

static void lend(struct link *l, struct msgbuf *body)
{
	int fd = msgbuf_lend(l->links->shared->bodies, body, l->slot);

	if (fd >= 0)
		send_buffer(l, IPC_BUFFER, body->id, body->generation, fd);
	fd = msgbuf_lend_file(body, l->slot);
	if (fd >= 0)
		send_buffer(l, IPC_BUFFER_FILE, body->id, body->generation, fd);
}

static void on_verdict(void *ctx, uint64_t session, const struct ipc_verdict *v, const struct buf *edits,
	struct msgbuf *body)
{
	struct link *l = ctx;
	struct links *ls = l->links;

	if (body)
		lend(l, body);
	struct buf *record = chan_begin(l->chan, IPC_VERDICT, session);

	ipc_verdict_put(record, v);
	if (edits)
		buf_append(record, buf_head(edits), buf_len(edits));
	chan_end(l->chan);
	msgbuf_put(ls->shared->bodies, body);
	if (!ls->has_worked && ls->first_verdict)
		ls->first_verdict();
	ls->has_worked = true;
}

static void on_eom_begun(void *ctx, uint64_t session, unsigned milter)
{
	struct link *l = ctx;
	const struct ipc_eom_begun record = { .milter = milter };

	ipc_eom_begun_put(chan_begin(l->chan, IPC_EOM_BEGUN, session), &record);
	chan_end(l->chan);
	/* From here on the milter may act: the session must know that before it does. */
	chan_flush(l->chan);
}

static int on_content(void *ctx, const struct ipc_content *content, struct spooled *bytes)
{
	struct link *l = ctx;

	return msgbuf_views_read(l->views, content->buffer, (size_t)content->memory, (size_t)content->length, bytes);
}

static void on_release(void *ctx, const struct ipc_content *content)
{
	struct link *l = ctx;

	send_buffer(l, IPC_RELEASE, content->buffer, content->generation, -1);
}

static void on_trace(void *ctx, uint64_t session, const struct ipc_trace *report)
{
	struct link *l = ctx;

	ipc_trace_put(chan_begin(l->chan, IPC_TRACE, session), report);
	chan_end(l->chan);
}

/* ---- what session processes say ---- */

static struct session *find(struct link *l, uint64_t id)
{
	struct session *s;

	HASH_FIND(hh, l->sessions, &id, sizeof(id), s);
	return s;
}

static int open_session(struct link *l, uint64_t id, struct wire *w)
{
	static const struct job_ops ops = {
		.on_verdict = on_verdict, .on_eom_begun = on_eom_begun, .on_content = on_content,
		.on_release = on_release, .on_trace = on_trace,
	};
	const struct conf *conf = l->links->shared->conf;
	struct ipc_open open;

	ipc_open_take(w, &open);
	if (!wire_finished(w) || id == 0 || find(l, id) || open.listener >= conf->listener_count)
		return -1;
	struct session *s = mem_alloc(sizeof(*s));

	s->id = id;
	s->link = l;
	s->job = job_new(l->links->shared, &conf->listener[open.listener], id, &ops, l);
	if (open.trace)
		job_trace(s->job);
	HASH_ADD(hh, l->sessions, id, sizeof(s->id), s);
	return 0;
}

static void close_session(struct link *l, struct session *s)
{
	HASH_DELETE(hh, l->sessions, s);
	job_free(s->job);
	free(s);
}

static int take_session_record(struct link *l, const struct chan_record *record, struct wire *w)
{
	struct session *s = find(l, record->session);

	if (record->type == IPC_OPEN)
		return open_session(l, record->session, w);
	if (!s)
		return -1;
	switch (record->type) {
	case IPC_EVENT:
		return job_event(s->job, w);
	case IPC_ABORT:
		job_abort(s->job);
		break;
	default:
		close_session(l, s);
	}
	return wire_finished(w) ? 0 : -1;
}

/* The session process closes a buffer: nothing may read there any more. */
static int drop_buffer(struct link *l, uint32_t id)
{
	struct session *s, *next;

	HASH_ITER(hh, l->sessions, s, next)
		job_buffer_dropped(s->job, id);
	return msgbuf_views_drop(l->views, id);
}

static int take_buffer_record(struct link *l, struct chan_record *record, struct wire *w)
{
	struct ipc_buffer buffer;
	int fd = record->fd;

	ipc_buffer_take(w, &buffer);
	bool brings_fd = record->type == IPC_BUFFER || record->type == IPC_BUFFER_FILE;

	if (!wire_finished(w) || record->session || (fd >= 0) != brings_fd)
		return -1;
	switch (record->type) {
	case IPC_BUFFER:
		record->fd = -1;
		return msgbuf_views_add(l->views, buffer.id, fd);
	case IPC_BUFFER_FILE:
		record->fd = -1;
		return msgbuf_views_add_file(l->views, buffer.id, fd);
	case IPC_BUFFER_DROP:
		return drop_buffer(l, buffer.id);
	default:
		return msgbuf_released(l->links->shared->bodies, l->slot, buffer.id, buffer.generation);
	}
}

static int on_record(struct chan *chan, void *ctx, struct chan_record *record)
{
	struct link *l = ctx;
	struct wire w;

	(void)chan;
	wire_init(&w, record->data, record->len);
	switch (record->type) {
	case IPC_OPEN:
	case IPC_EVENT:
	case IPC_ABORT:
	case IPC_CLOSE:
		return take_session_record(l, record, &w);
	case IPC_BUFFER:
	case IPC_BUFFER_FILE:
	case IPC_BUFFER_DROP:
	case IPC_RELEASE:
		return take_buffer_record(l, record, &w);
	default:
		return -1;
	}
}

/* ---- life ---- */

static void link_free(struct link *l)
{
	struct links *ls = l->links;
	struct session *s, *next;

	HASH_ITER(hh, l->sessions, s, next)
		close_session(l, s);
	chan_free(l->chan);
	msgbuf_views_free(l->views);
	msgbuf_peer_gone(ls->shared->bodies, l->slot);
	ls->link[l->slot] = NULL;
	ls->count--;
	free(l);
}

static void on_close(struct chan *chan, void *ctx, const char *why)
{
	struct link *l = ctx;
	struct links *ls = l->links;

	(void)chan;
	log_write(l->sessions ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG, 0,
		  "event=session-process-gone slot=%u sessions=%u cause=\"%s\"", l->slot, HASH_COUNT(l->sessions), why);
	link_free(l);
	if (!ls->count && ls->on_last)
		ls->on_last();
}

static void on_dropped(void *ctx, unsigned peer, uint32_t id)
{
	struct links *ls = ctx;

	if (ls->link[peer])
		send_buffer(ls->link[peer], IPC_BUFFER_DROP, id, 0, -1);
}

static void on_tick(struct timer *t)
{
	struct links *ls = t->ctx;

	msgbuf_pool_tick(ls->shared->bodies, loop_now_ms());
	timer_set(&ls->tick, TICK_MS);
}

struct links *links_new(struct job_shared *shared, void (*first_verdict)(void), void (*on_last)(void))
{
	struct links *ls = mem_alloc(sizeof(*ls));

	ls->shared = shared;
	ls->first_verdict = first_verdict;
	ls->on_last = on_last;
	msgbuf_pool_on_dropped(shared->bodies, on_dropped, ls);
	timer_init(&ls->tick, on_tick, ls);
	timer_set(&ls->tick, TICK_MS);
	return ls;
}

void links_add(struct links *ls, unsigned slot, int fd)
{
	if (slot >= MSGBUF_PEERS) {
		log_error("event=peer slot=%u cause=\"no such slot\"", slot);
		close(fd);
		return;
	}
	if (ls->link[slot])
		link_free(ls->link[slot]);
	struct link *l = mem_alloc(sizeof(*l));

	l->links = ls;
	l->slot = slot;
	l->views = msgbuf_views_new();
	l->chan = chan_new(fd, on_record, on_close, l);
	ls->link[slot] = l;
	ls->count++;
}

size_t links_count(const struct links *ls)
{
	return ls->count;
}

void links_free(struct links *ls)
{
	for (unsigned slot = 0; slot < MSGBUF_PEERS; slot++)
		if (ls->link[slot])
			link_free(ls->link[slot]);
	timer_fini(&ls->tick);
	msgbuf_pool_on_dropped(ls->shared->bodies, NULL, NULL);
	free(ls);
}
