#include "config.h"

#include "worker/job.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/chan.h"
#include "common/header.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/smtp_reply.h"
#include "common/verdict.h"
#include "worker/journal.h"
#include "worker/seat.h"

/* The session has stricter ones of its own; these only bound what we do for one message. */
#define HEADER_BYTES_MAX  (1024u * 1024)
#define HEADER_FIELDS_MAX 10000u
#define BODY_MORE	  (1024u * 1024)	/* bytes a replaced body may be above the listener's limit */
#define RECORD_REST	  (64u * 1024)		/* of a VERDICT, apart from the edits */

/* A refusal that answers whatever comes, too. */
struct standing {
	bool there;
	enum verdict verdict;
	char *reply;		/* owned; NULL: none */
	uint32_t origin;
	unsigned milter;
};

struct job {
	struct job_shared *shared;
	const struct conf_listener *listener;
	uint64_t session;
	const struct job_ops *ops;
	void *ctx;
	struct journal journal;
	struct seat *seat;		/* in the order they are asked */
	size_t seat_count;
	size_t at;			/* the seat that is asked now */
	struct journal_entry *target;	/* the event that is waited for; NULL: none */
	struct standing for_session, for_message;

	/* Of the message, from EOM on. */
	bool has_content;
	struct ipc_content content;
	struct spooled bytes;		/* of the content */
	struct arena arena;		/* the header block, in private memory, and its fields */
	struct edit_message *message;
	struct backend_content shown;	/* what the seat at work is shown */
};

static void run(struct job *);

/* ---- life ---- */

static void on_seat_done(void *ctx, struct seat *);
static void on_seat_eom(void *ctx, struct seat *);

struct job *job_new(struct job_shared *shared, const struct conf_listener *listener, uint64_t session,
	const struct job_ops *ops, void *ctx)
{
	static const struct seat_ops seat_ops = { .on_done = on_seat_done, .on_eom = on_seat_eom };
	struct job *j = mem_alloc(sizeof(*j));

	j->shared = shared;
	j->listener = listener;
	j->session = session;
	j->ops = ops;
	j->ctx = ctx;
	j->seat_count = listener->chain_count;
	j->seat = mem_array(j->seat_count, sizeof(*j->seat));
	for (size_t i = 0; i < j->seat_count; i++) {
		unsigned milter = listener->chain[i];

		seat_init(&j->seat[i], milter, &shared->conf->milter[milter], shared->pool[milter], &j->journal,
			  session, &seat_ops, j);
	}
	return j;
}

static void on_trace(void *ctx, const struct ipc_trace *report)
{
	struct job *j = ctx;

	j->ops->on_trace(j->ctx, j->session, report);
}

void job_trace(struct job *j)
{
	for (size_t i = 0; i < j->seat_count; i++)
		j->seat[i].trace = trace_new(j->seat[i].milter, on_trace, j);
}

static void forget(struct standing *s)
{
	free(s->reply);
	*s = (struct standing){ 0 };
}

static void end_content(struct job *j)
{
	edit_message_free(j->message);
	j->message = NULL;
	arena_reset(&j->arena);
	if (j->has_content)
		j->ops->on_release(j->ctx, &j->content);
	j->has_content = false;
}

/* For the milters; the session may still go on with the message. */
static void end_message_of_seats(struct job *j)
{
	for (size_t i = 0; i < j->seat_count; i++)
		seat_end_message(&j->seat[i]);
}

static void end_message(struct job *j)
{
	j->target = NULL;
	end_message_of_seats(j);
	end_content(j);
	forget(&j->for_message);
	journal_end_message(&j->journal);
}

void job_free(struct job *j)
{
	if (!j)
		return;
	for (size_t i = 0; i < j->seat_count; i++) {
		seat_fini(&j->seat[i]);
		trace_free(j->seat[i].trace);
	}
	end_content(j);
	forget(&j->for_message);
	forget(&j->for_session);
	journal_fini(&j->journal);
	arena_fini(&j->arena);
	free(j->seat);
	free(j);
}

/* ---- answers ---- */

static uint32_t interest(const struct job *j)
{
	uint32_t mask = 0;

	if (j->for_session.there || j->for_message.there)
		return IPC_INTEREST_ALL;
	for (size_t i = 0; i < j->seat_count; i++)
		mask |= seat_interest(&j->seat[i]);
	return mask;
}

static void put_said(struct job *j, struct ipc_verdict *v)
{
	v->said = arena_alloc(&j->arena, j->seat_count * sizeof(*v->said));
	for (size_t i = 0; i < j->seat_count; i++) {
		const struct seat *s = &j->seat[i];

		if (!s->took_part)
			continue;
		v->said[v->said_count++] = (struct ipc_said){
			.milter = s->milter,
			.verdict = (uint8_t)s->said,
			.failed = s->said_failed,
			.ms = (uint32_t)(s->waited_us / 1000),
		};
	}
}

/* The rule of ipc.h. */
static bool ends_message(const struct job *j, enum verdict verdict)
{
	uint8_t kind = j->target->event.kind;

	return kind == IPC_EOM || (verdict_is_refusal(verdict) && (kind == IPC_MAIL || kind == IPC_DATA));
}

/* Say it, and end what it ends. */
static void answer(struct job *j, struct ipc_verdict *v, const struct buf *edits, struct msgbuf *body)
{
	bool ends = ends_message(j, (enum verdict)v->verdict);

	if (ends)
		put_said(j, v);
	v->number = j->target->event.number;
	v->interest = interest(j);
	j->target = NULL;
	j->ops->on_verdict(j->ctx, j->session, v, edits, body);
	if (ends)
		end_message(j);
}

static void answer_standing(struct job *j, const struct standing *s)
{
	struct ipc_verdict v = {
		.origin = s->origin, .verdict = (uint8_t)s->verdict, .reply = s->reply, .milter = s->milter,
	};

	answer(j, &v, NULL, NULL);
}

static void stand(struct standing *s, const struct seat *seat)
{
	forget(s);
	*s = (struct standing){
		.there = true,
		.verdict = seat->result.verdict,
		.reply = seat->result.reply ? mem_strdup(seat->result.reply) : NULL,
		.origin = seat->result.origin,
		.milter = seat->milter,
	};
}

/* Even where only a recipient was asked about. */
static bool is_for_message(enum verdict verdict)
{
	return verdict == VERDICT_DISCARD || verdict == VERDICT_SHUTDOWN;
}

/* A milter refused the event, or an earlier one. How far that reaches: */
static void refuse(struct job *j, const struct seat *seat)
{
	const struct seat_result *result = &seat->result;
	const struct ipc_event *origin = &journal_find(&j->journal, result->origin)->event;
	bool is_late = origin->number != j->target->event.number;
	struct ipc_verdict v = {
		.origin = result->origin, .verdict = (uint8_t)result->verdict, .reply = result->reply,
		.milter = seat->milter,
	};

	if (origin->kind == IPC_CONNECT || origin->kind == IPC_HELO) {
		stand(&j->for_session, seat);
	} else if (!ends_message(j, result->verdict) && journal_in_message(&j->journal) &&
		   (is_late || result->failed || is_for_message(result->verdict))) {
		stand(&j->for_message, seat);
		end_message_of_seats(j);
	}
	j->target->refused = j->target->event.kind == IPC_RCPT;
	answer(j, &v, NULL, NULL);
}

/* Every milter has let the message pass. */
static void answer_message(struct job *j)
{
	struct ipc_verdict v = { .origin = j->target->event.number, .verdict = VERDICT_ACCEPT, .milter = IPC_NOBODY };
	struct buf *edits = &j->shared->edits;

	buf_clear(edits);
	edit_result_put(edits, j->message);
	if (buf_len(edits) > CHAN_RECORD_MAX - RECORD_REST) {
		log_write(LOG_LEVEL_WARNING, j->session,
			  "event=edits-too-large bytes=%zu cause=\"the milters' changes of the header are too large\"",
			  buf_len(edits));
		v.verdict = VERDICT_TEMPFAIL;
		answer(j, &v, NULL, NULL);
	} else {
		answer(j, &v, edits, edit_message_take_body(j->message));
	}
	buf_clear(edits);
	buf_shrink(edits, RECORD_REST);
}

static void answer_continue(struct job *j)
{
	struct ipc_verdict v = {
		.origin = j->target->event.number, .verdict = VERDICT_CONTINUE, .milter = IPC_NOBODY,
	};

	answer(j, &v, NULL, NULL);
}

/* ---- content ---- */

/* Bytes at the start that hold the header block, found in memory that another process may write: only a hint. */
static size_t header_bytes(const struct spooled *bytes)
{
	size_t memory = bytes->memory < HEADER_BYTES_MAX ? bytes->memory : HEADER_BYTES_MAX;
	const uint8_t *end = memmem(bytes->data, memory, "\r\n\r\n", 4);

	if (end)
		return (size_t)(end - bytes->data) + 4;
	return bytes->len < HEADER_BYTES_MAX + 1 ? bytes->len : HEADER_BYTES_MAX + 1;
}

/* What is parsed is parsed in private memory, so that it cannot change under the parser. 0, or -1 with *why. */
static int open_message(struct job *j, const char **why)
{
	struct header_block block;
	size_t size = header_bytes(&j->bytes);
	uint8_t *header = arena_alloc(&j->arena, size + 1);

	if (spooled_read(&j->bytes, 0, header, size) < 0) {
		*why = "Message cannot be read";
		return -1;
	}
	if (header_parse(&j->arena, header, size, HEADER_FIELDS_MAX, HEADER_BYTES_MAX, &block, why) < 0)
		return -1;
	j->message = edit_message_new(&block, header, j->shared->bodies,
				      (size_t)j->listener->max_message_size + BODY_MORE);
	j->shown = (struct backend_content){
		.message = j->message, .body = spooled_from(&j->bytes, block.body_offset),
	};
	return 0;
}

static void answer_unreadable(struct job *j, const char *why)
{
	struct ipc_verdict v = {
		.origin = j->target->event.number, .verdict = VERDICT_REJECT, .milter = IPC_NOBODY,
		.reply = smtp_reply_make(&j->arena, 554, "5.6.0", why),
	};

	answer(j, &v, NULL, NULL);
}

/* -1: it was not lent to us. */
static int map_content(struct job *j)
{
	return j->content.length <= MSGBUF_LIMIT ? j->ops->on_content(j->ctx, &j->content, &j->bytes) : -1;
}

/* The body as the milters before have left it. */
static const struct backend_content *content_for_next(struct job *j)
{
	const struct msgbuf *body = edit_message_body(j->message);

	if (body)
		msgbuf_read(body, &j->shown.body);
	return &j->shown;
}

/* ---- the chain ---- */

static void on_seat_done(void *ctx, struct seat *s)
{
	struct job *j = ctx;

	assert(j->target && s == &j->seat[j->at]);
	if (verdict_is_refusal(s->result.verdict)) {
		refuse(j, s);
		return;
	}
	j->at++;
	run(j);
}

static void on_seat_eom(void *ctx, struct seat *s)
{
	struct job *j = ctx;

	j->ops->on_eom_begun(j->ctx, j->session, s->milter);
}

static void run(struct job *j)
{
	bool at_eom = j->target->event.kind == IPC_EOM;

	for (; j->at < j->seat_count; j->at++) {
		struct seat *s = &j->seat[j->at];

		if (!seat_run(s, j->target->event.number, at_eom ? content_for_next(j) : NULL))
			return;
		if (verdict_is_refusal(s->result.verdict)) {
			refuse(j, s);
			return;
		}
	}
	if (at_eom)
		answer_message(j);
	else
		answer_continue(j);
}

static void begin(struct job *j)
{
	const char *why = "";

	if (j->for_session.there)
		answer_standing(j, &j->for_session);
	else if (j->for_message.there)
		answer_standing(j, &j->for_message);
	else if (j->has_content && open_message(j, &why) < 0)
		answer_unreadable(j, why);
	else
		run(j);
}

int job_event(struct job *j, struct wire *w)
{
	bool was_in_message = journal_in_message(&j->journal);

	if (j->target)
		return -1;
	struct journal_entry *entry = journal_add(&j->journal, w, &j->shared->scratch);

	if (!entry)
		return -1;
	if (was_in_message && (entry->event.kind == IPC_MAIL || entry->event.kind == IPC_HELO)) {
		end_message_of_seats(j);
		forget(&j->for_message);
	}
	if (!(entry->event.flags & IPC_EVENT_WANTED))
		return entry->event.kind == IPC_EOM ? -1 : 0;
	j->target = entry;
	j->at = 0;
	if (entry->event.kind == IPC_EOM) {
		j->content = entry->event.content;
		j->has_content = true;
		if (map_content(j) < 0)
			return -1;
	}
	begin(j);
	return 0;
}

void job_abort(struct job *j)
{
	if (journal_in_message(&j->journal))
		end_message(j);
}

void job_buffer_dropped(struct job *j, uint32_t id)
{
	if (j->has_content && j->content.buffer == id)
		end_message(j);
}
