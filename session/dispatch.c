#include "config.h"

#include "session/dispatch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "common/chan.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "session/worker_link.h"

#define TICK_MS	    1000
#define WORKERS_MAX MSGBUF_PEERS

/* One event of the journal: bytes of dispatch.events. */
struct entry {
	uint32_t number;
	enum ipc_event_kind kind;
	size_t at, len;
};

struct dispatch {
	uint64_t id;
	unsigned listener;
	bool has_chain;
	const struct dispatch_ops *ops;
	void *ctx;

	struct worker_link *link;	/* NULL: not bound to a worker now */
	uint32_t interest;
	uint32_t last;			/* number of the newest event */
	uint32_t awaited;		/* number of the event a verdict is waited for; 0: none */
	uint32_t aborted;		/* events up to this one were given up: a verdict of theirs may still come */
	uint32_t replayed;		/* events up to this one were answered by an earlier worker */

	struct buf events;
	struct entry *entry;
	size_t count, room;
	size_t lasting;			/* entries that outlive a transaction: CONNECT and HELO */
	size_t sent;			/* entries this worker has */

	struct msgbuf *content;		/* of the transaction, once its EOM is here */
	bool eom_begun;			/* a milter may have acted: no replay */
	unsigned losses;		/* workers lost in this transaction, or at this event before it */

	struct worker_link *body_link;	/* of the body that is held */
	uint32_t body_id;

	struct timer wait;		/* for a worker */
	struct deferred fail;
	UT_hash_handle hh;
};

static const struct conf *conf;
static struct msgbuf_pool *contents;
static struct worker_link *links[WORKERS_MAX];
static struct dispatch *dispatches;	/* hash by id */
static struct timer tick;

static bool in_transaction(const struct dispatch *d)
{
	return d->count > d->lasting;
}

/* ---- the journal ---- */

static void truncate_journal(struct dispatch *d, size_t count)
{
	if (count < d->count)
		d->events.end = d->events.start + d->entry[count].at;
	d->count = count;
	if (d->sent > count)
		d->sent = count;
}

static void end_transaction(struct dispatch *d)
{
	truncate_journal(d, d->lasting);
	d->content = NULL;
	d->eom_begun = false;
	d->losses = 0;
	if (!d->count)
		buf_shrink(&d->events, 0);
}

static void append(struct dispatch *d, const struct ipc_event *event)
{
	if (d->count == d->room) {
		d->room = d->room ? d->room * 2 : 8;
		d->entry = mem_realloc(d->entry, d->room * sizeof(*d->entry));
	}
	struct entry *e = &d->entry[d->count++];

	*e = (struct entry){ .number = event->number, .kind = event->kind, .at = buf_len(&d->events) };
	ipc_event_put(&d->events, event);
	e->len = buf_len(&d->events) - e->at;
	if (e->kind == IPC_CONNECT || e->kind == IPC_HELO)
		d->lasting = d->count;
}

/* The entry that is waited for is always the newest. */
static const struct entry *newest(const struct dispatch *d)
{
	assert(d->count);
	return &d->entry[d->count - 1];
}

/* ---- to the worker ---- */

static void lend_content(struct dispatch *d)
{
	unsigned slot = worker_link_slot(d->link);
	int fd = msgbuf_lend(contents, d->content, slot);

	if (fd >= 0)
		worker_link_send_buffer(d->link, IPC_BUFFER, d->content->id, d->content->generation, fd);
	fd = msgbuf_lend_file(d->content, slot);
	if (fd >= 0)
		worker_link_send_buffer(d->link, IPC_BUFFER_FILE, d->content->id, d->content->generation, fd);
}

static void send_entry(struct dispatch *d, const struct entry *e)
{
	if (e->kind == IPC_EOM)
		lend_content(d);
	struct buf *record = chan_begin(worker_link_chan(d->link), IPC_EVENT, d->id);
	size_t at = buf_len(record);

	buf_append(record, buf_head(&d->events) + e->at, e->len);
	if (e->number == d->awaited)
		buf_head(record)[at + IPC_EVENT_FLAGS_AT] = IPC_EVENT_WANTED;
	else if (e->number <= d->replayed)
		buf_head(record)[at + IPC_EVENT_FLAGS_AT] = IPC_EVENT_REPLAYED;
	chan_end(worker_link_chan(d->link));
}

static void send_events(struct dispatch *d)
{
	while (d->sent < d->count)
		send_entry(d, &d->entry[d->sent++]);
}

/* The living worker with the fewest sessions. */
static struct worker_link *choose(void)
{
	struct worker_link *best = NULL;

	for (unsigned i = 0; i < WORKERS_MAX; i++)
		if (links[i] && (!best || *worker_link_sessions(links[i]) < *worker_link_sessions(best)))
			best = links[i];
	return best;
}

static bool bind_worker(struct dispatch *d)
{
	const struct ipc_open open = { .listener = d->listener, .trace = d->ops->on_trace != NULL };

	d->link = choose();
	if (!d->link)
		return false;
	++*worker_link_sessions(d->link);
	d->sent = 0;
	d->aborted = 0;
	ipc_open_put(chan_begin(worker_link_chan(d->link), IPC_OPEN, d->id), &open);
	chan_end(worker_link_chan(d->link));
	return true;
}

/* Send what waits to be sent, now or when there is a worker. */
static void send_or_wait(struct dispatch *d)
{
	if (d->link || bind_worker(d)) {
		timer_clear(&d->wait);
		send_events(d);
	} else if (!timer_active(&d->wait)) {
		timer_set(&d->wait, DISPATCH_WORKER_WAIT_MS);
	}
}

/* ---- answers ---- */

/* What ipc.h says about the end of a transaction. */
static bool ends_transaction(enum ipc_event_kind kind, enum verdict verdict)
{
	bool refused = verdict != VERDICT_CONTINUE && verdict != VERDICT_ACCEPT;

	return kind == IPC_EOM || (refused && (kind == IPC_MAIL || kind == IPC_DATA));
}

/* The awaited event has its answer; d may be gone afterwards. */
static int answer(struct dispatch *d, struct ipc_verdict *v, struct wire *rest)
{
	enum ipc_event_kind kind = newest(d)->kind;

	d->awaited = 0;
	d->interest = v->interest;
	if (kind == IPC_UNKNOWN)
		truncate_journal(d, d->count - 1);
	else if (ends_transaction(kind, (enum verdict)v->verdict))
		end_transaction(d);
	if (!in_transaction(d))
		d->losses = 0;
	return d->ops->on_verdict(d->ctx, v, rest);
}

static void fail_awaited(struct dispatch *d, const char *cause)
{
	struct ipc_verdict v = {
		.number = d->awaited, .origin = d->awaited, .verdict = VERDICT_TEMPFAIL, .milter = IPC_NOBODY,
		.reply = "451 4.3.0 Mail filters unavailable, try again later\r\n", .interest = IPC_INTEREST_ALL,
	};
	struct wire nothing;

	log_write(LOG_LEVEL_WARNING, d->id, "event=worker-lost stage=%s cause=\"%s\" action=tempfail",
		  ipc_event_name(newest(d)->kind), cause);
	timer_clear(&d->wait);
	wire_init(&nothing, NULL, 0);
	answer(d, &v, &nothing);
}

static void on_fail(struct deferred *deferred)
{
	fail_awaited(deferred->ctx, "the worker died when the message could not be replayed any more");
}

static void on_wait(struct timer *t)
{
	fail_awaited(t->ctx, "no worker in time");
}

/* An answer that an earlier worker gave stands: what was let pass then and is refused now makes it a 451. */
static void keep_word(struct dispatch *d, struct ipc_verdict *v)
{
	if (v->origin == v->number || v->origin > d->replayed)
		return;
	log_write(LOG_LEVEL_NOTICE, d->id, "event=replay cause=\"an accepted event is refused now\" verdict=%s",
		  verdict_name((enum verdict)v->verdict));
	v->verdict = VERDICT_TEMPFAIL;
	v->reply = "451 4.3.0 Temporary failure, try again later\r\n";
}

static int take_verdict(struct worker_link *l, struct dispatch *d, struct wire *w, struct arena *arena)
{
	struct ipc_verdict v = { 0 };

	ipc_verdict_take(w, arena, &v);
	if (w->broken || d->link != l)
		return -1;
	if (v.number <= d->aborted)
		return 0;
	if (v.number != d->awaited)
		return -1;
	/* Nobody goes back to an earlier event to say that all is well. */
	if (v.origin != v.number && !verdict_is_refusal((enum verdict)v.verdict))
		return -1;
	bool has_result = newest(d)->kind == IPC_EOM && (v.verdict == VERDICT_CONTINUE || v.verdict == VERDICT_ACCEPT);

	if (!has_result && !wire_finished(w))
		return -1;
	keep_word(d, &v);
	return answer(d, &v, w);
}

static int take_eom_begun(struct worker_link *l, struct dispatch *d, struct wire *w)
{
	struct ipc_eom_begun begun;

	ipc_eom_begun_take(w, &begun);
	if (!wire_finished(w) || d->link != l || begun.milter >= conf->milter_count)
		return -1;
	if (d->awaited && newest(d)->kind == IPC_EOM)
		d->eom_begun = true;
	return 0;
}

static int take_trace(struct worker_link *l, struct dispatch *d, struct wire *w, struct arena *arena)
{
	struct ipc_trace report;

	ipc_trace_take(w, arena, &report);
	if (!wire_finished(w) || d->link != l || !d->ops->on_trace || report.milter >= conf->milter_count)
		return -1;
	d->ops->on_trace(d->ctx, &report);
	return 0;
}

static int on_record(struct worker_link *l, const struct chan_record *record)
{
	static struct arena arena;
	struct dispatch *d;
	struct wire w;
	int result;

	HASH_FIND(hh, dispatches, &record->session, sizeof(record->session), d);
	/* It may have crossed our CLOSE. */
	if (!d)
		return 0;
	wire_init(&w, record->data, record->len);
	if (record->type == IPC_EOM_BEGUN)
		return take_eom_begun(l, d, &w);
	result = record->type == IPC_TRACE ? take_trace(l, d, &w, &arena) : take_verdict(l, d, &w, &arena);
	arena_reset(&arena);
	return result;
}

static int on_release(struct worker_link *l, const struct ipc_buffer *buffer)
{
	return msgbuf_released(contents, worker_link_slot(l), buffer->id, buffer->generation);
}

/* ---- workers come and go ---- */

static void lose_worker(struct dispatch *d)
{
	d->link = NULL;
	d->sent = 0;
	d->aborted = 0;
	d->replayed = d->awaited ? d->awaited - 1 : d->last;
	if (!d->awaited)
		return;
	if (d->eom_begun || d->losses++)
		deferred_run(&d->fail);
	else
		send_or_wait(d);
}

static void forget_link(struct worker_link *l)
{
	unsigned slot = worker_link_slot(l);
	struct dispatch *d, *next;

	if (links[slot] != l)
		return;
	links[slot] = NULL;
	msgbuf_peer_gone(contents, slot);
	HASH_ITER(hh, dispatches, d, next)
		if (d->link == l)
			lose_worker(d);
}

static void on_lost(struct worker_link *l, const char *why)
{
	log_warning("event=worker-lost slot=%u cause=\"%s\"", worker_link_slot(l), why);
	forget_link(l);
}

void dispatch_worker(unsigned slot, int fd)
{
	static const struct worker_link_ops ops = {
		.on_record = on_record, .on_release = on_release, .on_lost = on_lost,
	};
	struct worker_link *old;
	struct dispatch *d, *next;

	assert(slot < WORKERS_MAX);
	old = links[slot];
	if (old) {
		forget_link(old);
		worker_link_free(old);
	}
	links[slot] = worker_link_new(slot, fd, &ops);
	HASH_ITER(hh, dispatches, d, next)
		if (!d->link && d->awaited && timer_active(&d->wait))
			send_or_wait(d);
}

/* ---- process ---- */

static void on_tick(struct timer *t)
{
	msgbuf_pool_tick(contents, clock_now_ms());
	timer_set(t, TICK_MS);
}

static void on_content_dropped(void *ctx, unsigned peer, uint32_t id)
{
	(void)ctx;
	if (links[peer])
		worker_link_send_buffer(links[peer], IPC_BUFFER_DROP, id, 0, -1);
}

void dispatch_init(const struct conf *c, size_t content_limit, size_t content_budget)
{
	conf = c;
	contents = msgbuf_pool_new(content_limit, content_budget);
	msgbuf_pool_on_dropped(contents, on_content_dropped, NULL);
	timer_init(&tick, on_tick, NULL);
	timer_set(&tick, TICK_MS);
}

void dispatch_fini(void)
{
	timer_fini(&tick);
	for (unsigned i = 0; i < WORKERS_MAX; i++) {
		worker_link_free(links[i]);
		links[i] = NULL;
	}
	msgbuf_pool_free(contents);
	contents = NULL;
}

struct msgbuf_pool *dispatch_content(void)
{
	return contents;
}

/* ---- sessions ---- */

struct dispatch *dispatch_open(unsigned listener, uint64_t id, const struct dispatch_ops *ops, void *ctx)
{
	struct dispatch *d = mem_alloc(sizeof(*d));

	d->id = id;
	d->listener = listener;
	d->has_chain = conf->listener[listener].chain_count > 0;
	d->ops = ops;
	d->ctx = ctx;
	d->interest = IPC_INTEREST_ALL;
	timer_init(&d->wait, on_wait, d);
	deferred_init(&d->fail, on_fail, d);
	HASH_ADD(hh, dispatches, id, sizeof(d->id), d);
	return d;
}

void dispatch_close(struct dispatch *d)
{
	if (!d)
		return;
	if (d->link) {
		--*worker_link_sessions(d->link);
		chan_send(worker_link_chan(d->link), IPC_CLOSE, d->id, NULL, 0, -1);
	}
	dispatch_release_body(d);
	HASH_DEL(dispatches, d);
	timer_fini(&d->wait);
	deferred_cancel(&d->fail);
	buf_fini(&d->events);
	free(d->entry);
	free(d);
}

/* A new HELO takes the place of the one before. */
static void make_room_for(struct dispatch *d, const struct ipc_event *event)
{
	if (event->kind == IPC_HELO && d->count > 1) {
		assert(!in_transaction(d));
		truncate_journal(d, 1);
		d->lasting = 1;
	}
}

bool dispatch_event(struct dispatch *d, struct ipc_event *event, struct msgbuf *content)
{
	bool wanted = d->interest & IPC_INTEREST(event->kind);

	assert(!d->awaited);
	if (!d->has_chain || (event->kind == IPC_UNKNOWN && !wanted))
		return false;
	if (event->kind == IPC_EOM && !wanted) {
		dispatch_abort(d);
		return false;
	}
	make_room_for(d, event);
	event->number = ++d->last;
	event->flags = 0;
	if (event->kind == IPC_EOM) {
		struct spooled bytes;

		msgbuf_read(content, &bytes);
		event->content = (struct ipc_content){
			.buffer = content->id, .generation = content->generation, .memory = bytes.memory,
			.length = bytes.len,
		};
		d->content = content;
	}
	append(d, event);
	if (!wanted)
		return false;
	d->awaited = event->number;
	send_or_wait(d);
	return true;
}

void dispatch_abort(struct dispatch *d)
{
	if (!in_transaction(d))
		return;
	if (d->link && d->sent > d->lasting)
		chan_send(worker_link_chan(d->link), IPC_ABORT, d->id, NULL, 0, -1);
	if (d->awaited) {
		d->aborted = d->awaited;
		d->awaited = 0;
		timer_clear(&d->wait);
		deferred_cancel(&d->fail);
	}
	end_transaction(d);
}

void dispatch_forget_rcpt(struct dispatch *d)
{
	if (in_transaction(d) && newest(d)->kind == IPC_RCPT)
		truncate_journal(d, d->count - 1);
}

int dispatch_body(struct dispatch *d, const struct edit_result *result, struct spooled *body)
{
	assert(!d->body_link && result->body_replaced);
	if (!d->link || worker_link_hold(d->link, result->body_id, result->body_generation, result->body_memory,
					 result->body_length, body) < 0)
		return -1;
	d->body_link = d->link;
	d->body_id = result->body_id;
	return 0;
}

void dispatch_release_body(struct dispatch *d)
{
	if (d->body_link)
		worker_link_give_back(d->body_link, d->body_id);
	d->body_link = NULL;
}
