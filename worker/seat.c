#include "config.h"

#include "worker/seat.h"

#include <assert.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "worker/answer.h"
#include "worker/interest.h"

#define LOSSES_MAX	 1u	/* of lines on which the milter had spoken, in a message */
#define LOSSES_FRESH_MAX 3u	/* of all lines: a spare may have died unseen */

static bool advance(struct seat *);
static const struct backend_ops backend_ops;

void seat_init(struct seat *s, unsigned milter, const struct conf_milter *conf, struct pool *pool,
	struct journal *journal, uint64_t session, const struct seat_ops *ops, void *ctx)
{
	*s = (struct seat){
		.milter = milter, .conf = conf, .pool = pool, .journal = journal, .session = session,
		.ops = ops, .ctx = ctx,
	};
}

/* ---- the line ---- */

static void release_line(struct seat *s)
{
	struct line *line = s->line;

	s->line = NULL;
	s->told = 0;
	s->asked = 0;
	if (line)
		pool_release(line);
}

static void on_evict(void *ctx)
{
	release_line(ctx);
}

static void begin_wait(struct seat *s)
{
	s->wait_began_us = clock_now_us();
}

static void end_wait(struct seat *s)
{
	if (s->wait_began_us && journal_in_message(s->journal))
		s->waited_us += clock_now_us() - s->wait_began_us;
	s->wait_began_us = 0;
}

void seat_fini(struct seat *s)
{
	pool_cancel(&s->waiter);
	edits_drop(s->edits);
	s->edits = NULL;
	release_line(s);
}

void seat_end_message(struct seat *s)
{
	pool_cancel(&s->waiter);
	edits_drop(s->edits);
	s->edits = NULL;
	if (s->line && !backend_reusable(s->line->backend))
		release_line(s);
	if (s->line) {
		backend_abort(s->line->backend);
		pool_set_evictable(s->line, on_evict, s);
	}
	s->target = 0;
	s->content = NULL;
	s->out_message = s->resting = s->failed = s->skips_rcpt = s->eom_begun = false;
	s->losses = 0;
	s->wait_began_us = s->waited_us = 0;
	s->took_part = s->said_failed = false;
	s->said = VERDICT_CONTINUE;
}

/* ---- results ---- */

static struct journal_entry *target_of(const struct seat *s)
{
	return journal_find(s->journal, s->target);
}

/* End the run. Always true. */
static bool done(struct seat *s, enum verdict verdict, const char *reply, uint32_t origin, bool failed)
{
	s->result = (struct seat_result){ .verdict = verdict, .reply = reply, .origin = origin, .failed = failed };
	s->target = 0;
	s->content = NULL;
	if (s->line && !backend_in_message(s->line->backend))
		pool_set_evictable(s->line, on_evict, s);
	return true;
}

static bool go_on(struct seat *s)
{
	return done(s, VERDICT_CONTINUE, NULL, s->target, false);
}

static void note_said(struct seat *s, enum verdict verdict, bool failed)
{
	if (!journal_in_message(s->journal))
		return;
	s->took_part = true;
	s->said = verdict;
	s->said_failed = failed;
}

/* What the failure policy says about the event of this run. */
static bool done_failed(struct seat *s)
{
	note_said(s, VERDICT_TEMPFAIL, true);
	return done(s, VERDICT_TEMPFAIL, NULL, s->target, true);
}

/* The milter did not do its part of this run, and there will be no other try. */
static bool fail(struct seat *s, const char *endpoint, const char *why)
{
	uint8_t kind = target_of(s)->event.kind;
	bool before_mail = !journal_in_message(s->journal);
	const char *action = before_mail ? "later" : s->conf->tempfail_on_error ? "tempfail" : "skip";

	end_wait(s);
	edits_drop(s->edits);
	s->edits = NULL;
	trace_trouble(s->trace, endpoint, why);
	log_write(LOG_LEVEL_WARNING, s->session,
		  "event=milter-error milter=%s endpoint=%s stage=%s action=%s cause=\"%s\"", s->conf->name, endpoint,
		  ipc_event_name(kind), action, why);
	release_line(s);
	if (before_mail) {
		s->resting = true;
		return go_on(s);
	}
	if (s->conf->tempfail_on_error) {
		s->failed = true;
		return done_failed(s);
	}
	note_said(s, VERDICT_ACCEPT, true);
	s->out_message = true;
	return go_on(s);
}

static void run_on(struct seat *s)
{
	if (advance(s))
		s->ops->on_done(s->ctx, s);
}

/* ---- taking a line ---- */

static void bind_line(struct seat *s, struct line *line)
{
	s->line = line;
	s->told = 0;
	backend_set_owner(line->backend, &backend_ops, s);
	trace_follow(s->trace, line->backend);
}

static void on_line(void *ctx, struct line *line)
{
	struct seat *s = ctx;

	end_wait(s);
	bind_line(s, line);
	run_on(s);
}

static void on_no_line(void *ctx, const char *endpoint, const char *why)
{
	struct seat *s = ctx;

	fail(s, endpoint, why);
	s->ops->on_done(s->ctx, s);
}

/* True: there is a line now; false: it comes later, or never. */
static bool take_line(struct seat *s)
{
	s->waiter.on_line = on_line;
	s->waiter.on_failure = on_no_line;
	s->waiter.ctx = s;
	struct line *line = pool_take(s->pool, &s->waiter);

	if (line)
		bind_line(s, line);
	else
		begin_wait(s);
	return line;
}

/* ---- telling ---- */

/* Not for this milter, or not any more. */
static bool is_passed_over(const struct seat *s, const struct journal_entry *entry)
{
	uint8_t kind = entry->event.kind;

	return entry->refused || (kind == IPC_RCPT && s->skips_rcpt) ||
	       (kind == IPC_UNKNOWN && entry->event.number != s->target);
}

static uint32_t line_interest(const struct seat *s)
{
	uint32_t interest;

	if (s->line)
		return interest_of(backend_options(s->line->backend)->protocol);
	return reach_interest(pool_reach(s->pool), &interest) ? interest : interest_of_unknown();
}

/* Among what it has not been told, up to the target, is something that it answers. */
static bool has_something_to_say(const struct seat *s)
{
	const struct journal_entry *entry;
	uint32_t interest = line_interest(s);

	for (uint32_t at = s->told; (entry = journal_after(s->journal, at)) && entry->event.number <= s->target;
	     at = entry->event.number)
		if (!is_passed_over(s, entry) && (interest & IPC_INTEREST(entry->event.kind)))
			return true;
	return false;
}

/* The waits of a message together have timeout.message, those before MAIL each. */
static void limit_wait(struct seat *s)
{
	int64_t left = s->conf->timeout_message - s->waited_us / 1000;

	backend_set_limit(s->line->backend, loop_now_ms() + (left > 1 ? left : 1));
}

static void tell_content(struct seat *s)
{
	begin_wait(s);
	backend_set_write_ahead(s->line->backend, pool_write_ahead(s->pool));
	backend_send_message(s->line->backend, s->content, &s->scope);
}

/* True: the milter knows this event, go on; false: its answer comes later. */
static bool tell(struct seat *s, const struct journal_entry *entry)
{
	uint32_t number = entry->event.number;

	journal_scope(s->journal, entry, &s->scope);
	limit_wait(s);
	s->asked = number;
	if (entry->event.kind == IPC_EOM) {
		tell_content(s);
		return false;
	}
	if (backend_tell(s->line->backend, &entry->event, &s->scope)) {
		begin_wait(s);
		return false;
	}
	s->asked = 0;
	s->told = number;
	return true;
}

/* Go as far as it goes without waiting. True: the run has ended. */
static bool advance(struct seat *s)
{
	const struct journal_entry *entry;

	while ((entry = journal_after(s->journal, s->told)) && entry->event.number <= s->target) {
		uint8_t kind = entry->event.kind;

		if (is_passed_over(s, entry)) {
			s->told = entry->event.number;
			continue;
		}
		if (!has_something_to_say(s))
			break;
		if (!s->line && !take_line(s))
			return false;
		/* A new line is told from the beginning. */
		if (journal_after(s->journal, s->told) != entry)
			continue;
		if ((kind == IPC_DATA || kind == IPC_EOM) && !backend_saw_recipient(s->line->backend)) {
			/* All recipients were refused before it was asked: protocol 2.1 wants ABORT. */
			backend_abort(s->line->backend);
			s->out_message = true;
			break;
		}
		s->took_part |= journal_in_message(s->journal);
		if (!tell(s, entry))
			return false;
	}
	return go_on(s);
}

bool seat_run(struct seat *s, uint32_t target, const struct backend_content *content)
{
	assert(!s->target && !s->asked);
	s->target = target;
	s->content = content;
	if (target_of(s)->event.kind == IPC_MAIL)
		s->resting = false;
	if (s->failed)
		return done_failed(s);
	if (s->out_session || s->out_message || s->resting)
		return go_on(s);
	/* It is known to be away, and nothing but a greeting depends on it yet: that is not worth a wait. */
	if (!s->line && !journal_in_message(s->journal) && pool_reach(s->pool)->down)
		return go_on(s);
	if (s->line)
		pool_set_evictable(s->line, NULL, NULL);
	return advance(s);
}

uint32_t seat_interest(const struct seat *s)
{
	uint32_t interest;

	if (s->out_session)
		return 0;
	return reach_interest(pool_reach(s->pool), &interest) ? interest : interest_of_unknown();
}

/* ---- what it says ---- */

static void on_negotiated(void *ctx)
{
	(void)ctx;
	assert(!"negotiated twice");
}

static int on_edit(void *ctx, const struct milter_reply *reply, const char **why)
{
	struct seat *s = ctx;

	trace_edit(s->trace, reply);
	if (!s->edits)
		s->edits = edits_begin(s->content->message, s->conf->header_index,
				       backend_options(s->line->backend)->protocol & SMFIP_HDR_LEADSPC);
	return edits_stage(s->edits, reply, why);
}

static void on_eom(void *ctx)
{
	struct seat *s = ctx;

	s->eom_begun = true;
	s->ops->on_eom(s->ctx, s);
}

/* Its verdict on the content. */
static void settle_content(struct seat *s, enum verdict verdict)
{
	bool ended_early = !s->eom_begun;

	pool_note_message(s->pool, ended_early);
	if (verdict_is_refusal(verdict))
		edits_drop(s->edits);
	else if (s->edits)
		edits_commit(s->edits);
	s->edits = NULL;
	s->out_message = true;
}

/* What follows from an answer for the seat itself. Returns the verdict as it counts. */
static enum verdict settle(struct seat *s, const struct journal_entry *entry, uint8_t reply, enum verdict verdict)
{
	uint8_t kind = entry->event.kind;
	bool before_mail = kind == IPC_CONNECT || kind == IPC_HELO;

	if (verdict == VERDICT_DISCARD && (before_mail || kind == IPC_UNKNOWN)) {
		log_write(LOG_LEVEL_WARNING, s->session,
			  "event=milter-error milter=%s stage=%s action=continue cause=\"there is no message to "
			  "discard\"", s->conf->name, ipc_event_name(kind));
		verdict = VERDICT_CONTINUE;
	}
	if (kind == IPC_RCPT && reply == SMFIR_SKIP)
		s->skips_rcpt = true;
	if (kind == IPC_EOM)
		settle_content(s, verdict);
	if (verdict == VERDICT_ACCEPT) {
		s->out_session |= before_mail;
		s->out_message |= journal_in_message(s->journal);
	}
	/* After it refused or accepted a session a milter hangs up, or waits for that. */
	if (before_mail && verdict != VERDICT_CONTINUE)
		release_line(s);
	/* For the milter that was the end of its message: another connection is told the message again. */
	else if (kind == IPC_UNKNOWN && reply == SMFIR_DISCARD)
		release_line(s);
	else if (!backend_reusable(s->line->backend))
		release_line(s);
	return verdict;
}

/* The client has had a better answer to this event: that stands, and only the message can still be deferred. */
static bool has_been_answered(const struct journal_entry *entry, uint32_t answered_before)
{
	return (entry->event.flags & IPC_EVENT_REPLAYED) || entry->event.number <= answered_before;
}

static void on_answer(void *ctx, const struct backend_answer *answer)
{
	struct seat *s = ctx;
	const struct journal_entry *entry = journal_find(s->journal, s->asked);
	uint32_t number = entry->event.number, answered_before = s->answered;
	const char *reply;
	enum verdict verdict;

	end_wait(s);
	pool_note_answer(s->pool);
	s->asked = 0;
	s->told = number;
	if (number > s->answered)
		s->answered = number;
	verdict = settle(s, entry, answer->reply, answer_verdict(answer, &s->journal->arena, s->session, s->conf->name, &reply));
	if (!verdict_is_refusal(verdict)) {
		if (verdict == VERDICT_ACCEPT || entry->event.kind == IPC_EOM)
			note_said(s, verdict, false);
		/* With its target answered a run is over, even when the connection went with the answer. */
		if (s->out_session || s->out_message || number == s->target) {
			go_on(s);
			s->ops->on_done(s->ctx, s);
		} else {
			run_on(s);
		}
		return;
	}
	if (number != s->target && has_been_answered(entry, answered_before)) {
		log_write(LOG_LEVEL_NOTICE, s->session,
			  "event=milter-changed milter=%s stage=%s verdict=%s cause=\"it refuses what it let pass before\"",
			  s->conf->name, ipc_event_name(entry->event.kind), verdict_name(verdict));
		verdict = VERDICT_TEMPFAIL;
		reply = NULL;
	}
	note_said(s, verdict, false);
	done(s, verdict, reply, number, false);
	s->ops->on_done(s->ctx, s);
}

static bool may_tell_again(const struct seat *s, enum backend_loss loss, bool had_answered)
{
	return loss == BACKEND_CLOSED && !s->eom_begun && s->losses < (had_answered ? LOSSES_MAX : LOSSES_FRESH_MAX);
}

/* Nothing was asked of it. In a message this decides whether there will be another try. */
static void lost_between(struct seat *s, bool may_again, const char *endpoint, const char *why)
{
	bool in_message = s->line && backend_in_message(s->line->backend);

	trace_trouble(s->trace, endpoint, why);
	log_write(LOG_LEVEL_INFO, s->session, "event=milter-lost milter=%s endpoint=%s cause=\"%s\"", s->conf->name,
		  endpoint, why);
	release_line(s);
	if (!in_message)
		return;
	s->losses++;
	if (may_again)
		return;
	if (s->conf->tempfail_on_error)
		s->failed = true;
	else
		s->out_message = true;
	note_said(s, s->failed ? VERDICT_TEMPFAIL : VERDICT_ACCEPT, true);
}

static void on_lost(void *ctx, enum backend_loss loss, const char *why)
{
	struct seat *s = ctx;
	const char *endpoint = reach_name(pool_reach(s->pool), s->line->endpoint);
	bool may_again = may_tell_again(s, loss, backend_has_answered(s->line->backend));

	if (!s->asked) {
		lost_between(s, may_again, endpoint, why);
		return;
	}
	pool_note_failure(s->pool, endpoint, why);
	if (!may_again) {
		fail(s, endpoint, why);
		s->ops->on_done(s->ctx, s);
		return;
	}
	end_wait(s);
	edits_drop(s->edits);
	s->edits = NULL;
	s->losses++;
	trace_trouble(s->trace, endpoint, why);
	log_write(LOG_LEVEL_NOTICE, s->session, "event=milter-again milter=%s endpoint=%s stage=%s cause=\"%s\"",
		  s->conf->name, endpoint, ipc_event_name(journal_find(s->journal, s->asked)->event.kind), why);
	release_line(s);
	run_on(s);
}

static const struct backend_ops backend_ops = {
	.on_negotiated = on_negotiated, .on_answer = on_answer, .on_edit = on_edit, .on_eom = on_eom,
	.on_lost = on_lost,
};
