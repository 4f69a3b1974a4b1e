#include "config.h"

#include "worker/pool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "common/clock.h"
#include "common/dial.h"
#include "common/log.h"
#include "common/mem.h"

#define TICK_MS		1000
#define RATE_WINDOW_MS	50	/* spares for as many sessions as come in this time, while new ones are opened */
#define RATE_SHIFT	10	/* the rate is kept in 1/1024 a second */
#define EARLY_END	8	/* weight of a message that was ended in the middle */
#define EARLY_LIMIT	64	/* from here on nothing is written ahead */
#define EARLY_MAX	256

enum line_state { LINE_DIALING, LINE_NEGOTIATING, LINE_SPARE, LINE_TAKEN, LINE_EVICTABLE };

struct pool {
	const struct conf_milter *conf;
	size_t min, max;
	struct reach reach;
	char *macros[MILTER_STAGE_COUNT];
	struct line *spares;		/* oldest first */
	struct line *openings;
	struct line *taken;
	struct line *evictable;		/* least recently used first */
	struct pool_waiter *waiters;	/* first come first */
	struct pool_counts counts;
	size_t evictable_count;

	unsigned takes;			/* in this tick */
	uint32_t rate;			/* smoothed, takes a second << RATE_SHIFT */
	bool draining;
	unsigned early;
	struct timer tick;
	struct deferred work;
	struct deferred report;
	struct stats_milter *stats;	/* of somebody who reads it, or unread */
	struct stats_milter unread;
};

static void dial_endpoint(struct line *);
static void look_after(struct deferred *);
static void on_tick(struct timer *);
static void report(struct deferred *);

/* ---- life ---- */

static char *join_words(const struct conf_words *words)
{
	struct buf text = { 0 };

	for (size_t i = 0; i < words->count; i++) {
		if (i)
			buf_puts(&text, " ");
		buf_puts(&text, words->item[i]);
	}
	buf_append(&text, "", 1);
	return (char *)text.data;
}

struct pool *pool_new(const struct conf_milter *conf, size_t min, size_t max)
{
	struct pool *p = mem_alloc(sizeof(*p));

	assert(max >= 1);
	p->conf = conf;
	p->min = min < max ? min : max;
	p->max = max;
	reach_init(&p->reach, conf);
	for (enum milter_stage stage = 0; stage < MILTER_STAGE_COUNT; stage++)
		p->macros[stage] = join_words(conf_milter_macros(conf, stage));
	timer_init(&p->tick, on_tick, p);
	deferred_init(&p->work, look_after, p);
	deferred_init(&p->report, report, p);
	p->stats = &p->unread;
	timer_set(&p->tick, TICK_MS);
	deferred_run(&p->work);
	return p;
}

size_t pool_share(int64_t total, unsigned slot, unsigned workers)
{
	return (size_t)(total / workers + (slot < total % workers));
}

static struct line *line_new(struct pool *p)
{
	struct line *line = mem_alloc(sizeof(*line));

	line->pool = p;
	line->state = LINE_DIALING;
	line->deadline = clock_now_ms() + p->conf->timeout_connect;
	DL_APPEND(p->openings, line);
	p->counts.opening++;
	deferred_run(&p->report);
	return line;
}

/* Take the line off the list of its state. */
static void detach(struct line *line)
{
	struct pool *p = line->pool;

	deferred_run(&p->report);
	switch (line->state) {
	case LINE_DIALING:
	case LINE_NEGOTIATING:
		DL_DELETE(p->openings, line);
		p->counts.opening--;
		break;
	case LINE_SPARE:
		DL_DELETE(p->spares, line);
		p->counts.spare--;
		break;
	case LINE_EVICTABLE:
		DL_DELETE(p->evictable, line);
		p->evictable_count--;
		p->counts.taken--;
		break;
	default:
		DL_DELETE(p->taken, line);
		p->counts.taken--;
	}
}

static void line_free(struct line *line)
{
	struct pool *p = line->pool;

	detach(line);
	dial_cancel(line->dial);
	backend_quit(line->backend);
	free(line);
	deferred_run(&p->work);
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	assert(!p->counts.taken && !p->counts.waiting);
	while (p->spares)
		line_free(p->spares);
	while (p->openings)
		line_free(p->openings);
	timer_fini(&p->tick);
	deferred_cancel(&p->work);
	deferred_cancel(&p->report);
	reach_fini(&p->reach);
	for (size_t i = 0; i < MILTER_STAGE_COUNT; i++)
		free(p->macros[i]);
	free(p);
}

/* ---- taking and waiting ---- */

static void become_taken(struct line *line)
{
	detach(line);
	line->state = LINE_TAKEN;
	DL_APPEND(line->pool->taken, line);
	line->pool->counts.taken++;
}

static void stop_waiting(struct pool_waiter *w)
{
	DL_DELETE(w->pool->waiters, w);
	w->pool->counts.waiting--;
	timer_fini(&w->timer);
	deferred_run(&w->pool->work);
	deferred_run(&w->pool->report);
	w->pool = NULL;
}

void pool_cancel(struct pool_waiter *w)
{
	if (w->pool)
		stop_waiting(w);
}

static void on_waited(struct timer *t)
{
	static const char why[] = "all connections are in use (pool.max), and none became free within pool.wait";
	struct pool_waiter *w = t->ctx;

	pool_note_failure(w->pool, "", why);
	stop_waiting(w);
	w->on_failure(w->ctx, "", why);
}

/* Connections that will be there soon belong to those who wait longest. */
static void cover_waiters(struct pool *p)
{
	struct pool_waiter *w;
	size_t soon = p->counts.opening;

	DL_FOREACH(p->waiters, w) {
		bool covered = soon > 0;

		soon -= covered;
		if (covered == w->covered)
			continue;
		w->covered = covered;
		if (covered)
			timer_clear(&w->timer);
		else
			timer_set(&w->timer, p->conf->pool_wait);
	}
}

struct line *pool_take(struct pool *p, struct pool_waiter *w)
{
	assert(!w->pool);
	p->takes++;
	deferred_run(&p->work);
	while (p->spares && !p->waiters) {
		/* The youngest: the others may age and go. */
		struct line *line = p->spares->prev;

		if (backend_is_silent(line->backend)) {
			become_taken(line);
			return line;
		}
		log_debug("event=spare-dead milter=%s endpoint=%s", p->conf->name,
			  reach_name(&p->reach, line->endpoint));
		line_free(line);
	}
	w->pool = p;
	w->covered = false;
	timer_init(&w->timer, on_waited, w);
	timer_set(&w->timer, p->conf->pool_wait);
	DL_APPEND(p->waiters, w);
	p->counts.waiting++;
	deferred_run(&p->report);
	return NULL;
}

void pool_release(struct line *line)
{
	assert(line->state == LINE_TAKEN || line->state == LINE_EVICTABLE);
	line_free(line);
}

void pool_set_evictable(struct line *line, void (*on_evict)(void *ctx), void *ctx)
{
	struct pool *p = line->pool;

	detach(line);
	p->counts.taken++;
	line->on_evict = on_evict;
	line->evict_ctx = ctx;
	if (on_evict) {
		line->state = LINE_EVICTABLE;
		DL_APPEND(p->evictable, line);
		p->evictable_count++;
		if (p->waiters)
			deferred_run(&p->work);
	} else {
		line->state = LINE_TAKEN;
		DL_APPEND(p->taken, line);
	}
}

/* ---- opening ---- */

/* One endpoint did not do: the next, or this was all. */
static void endpoint_failed(struct line *line, const char *why)
{
	struct pool *p = line->pool;
	struct pool_waiter *w = p->waiters;
	unsigned endpoint = line->endpoint;
	bool last = ++line->tried == p->conf->endpoints.count;

	backend_free(line->backend);
	line->backend = NULL;
	line->state = LINE_DIALING;
	pool_note_failure(p, reach_name(&p->reach, endpoint), why);
	reach_failed(&p->reach, endpoint, last, why);
	if (!last) {
		dial_endpoint(line);
		return;
	}
	line_free(line);
	if (w && w->covered) {
		stop_waiting(w);
		w->on_failure(w->ctx, reach_name(&p->reach, endpoint), why);
	}
}

static void on_negotiated(void *ctx)
{
	struct line *line = ctx;
	struct pool *p = line->pool;
	struct pool_waiter *w = p->waiters;

	reach_negotiated(&p->reach, line->endpoint, backend_options(line->backend));
	if (w) {
		become_taken(line);
		stop_waiting(w);
		w->on_line(w->ctx, line);
		return;
	}
	detach(line);
	line->state = LINE_SPARE;
	line->since = clock_now_ms();
	DL_APPEND(p->spares, line);
	p->counts.spare++;
}

static void on_lost(void *ctx, enum backend_loss loss, const char *why)
{
	struct line *line = ctx;
	struct pool *p = line->pool;

	if (line->state == LINE_NEGOTIATING) {
		endpoint_failed(line, why);
		return;
	}
	log_write(loss == BACKEND_BROKEN ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG, 0,
		  "event=spare-lost milter=%s endpoint=%s cause=\"%s\"", p->conf->name,
		  reach_name(&p->reach, line->endpoint), why);
	if (loss == BACKEND_BROKEN)
		pool_note_failure(p, reach_name(&p->reach, line->endpoint), why);
	/* A milter that accepts and closes at once must not be called in a circle. */
	reach_dropped(&p->reach);
	line_free(line);
}

/* Nothing is asked of a line that nobody has taken. */
static void on_answer(void *ctx, const struct backend_answer *answer)
{
	(void)ctx, (void)answer;
	assert(!"an answer on a spare");
}

static int on_edit(void *ctx, const struct milter_reply *reply, const char **why)
{
	(void)ctx, (void)reply, (void)why;
	return -1;
}

static void on_eom(void *ctx)
{
	(void)ctx;
}

static void on_dialed(void *ctx, int fd, const char *why)
{
	static const struct backend_ops ops = {
		.on_negotiated = on_negotiated, .on_answer = on_answer, .on_edit = on_edit, .on_eom = on_eom,
		.on_lost = on_lost,
	};
	struct line *line = ctx;
	struct pool *p = line->pool;
	int64_t left = line->deadline - clock_now_ms();

	line->dial = NULL;
	if (fd < 0) {
		endpoint_failed(line, why);
		return;
	}
	line->state = LINE_NEGOTIATING;
	line->backend = backend_new(fd, p->conf, (const char *const *)p->macros, &ops, line);
	backend_negotiate(line->backend, left > 1 ? left : 1);
}

/* What is left of the time is shared by the endpoints that are left. */
static void dial_endpoint(struct line *line)
{
	struct pool *p = line->pool;
	int64_t left = line->deadline - clock_now_ms();
	int64_t share = left / (int64_t)(p->conf->endpoints.count - line->tried);

	line->endpoint = line->tried ? reach_after(&p->reach, line->endpoint) : reach_first(&p->reach);
	line->dial = dial_start(&p->conf->endpoints.item[line->endpoint], share > 1 ? share : 1, on_dialed, line);
}

/* ---- how many ---- */

static size_t in_use(const struct pool *p)
{
	return p->counts.spare + p->counts.opening + p->counts.taken;
}

static size_t spares_wanted(const struct pool *p)
{
	size_t follow = (size_t)(((uint64_t)p->rate * RATE_WINDOW_MS / 1000 + (1u << RATE_SHIFT) - 1) >> RATE_SHIFT);
	size_t wanted = follow > p->min ? follow : p->min;

	return p->draining ? 0 : wanted;
}

static void look_after(struct deferred *d)
{
	struct pool *p = d->ctx;
	size_t wanted = p->counts.waiting + (reach_may_try(&p->reach) ? spares_wanted(p) : 0);

	while (p->counts.opening + p->counts.spare < wanted && in_use(p) < p->max)
		dial_endpoint(line_new(p));
	cover_waiters(p);
	/* Ask back as many as still wait in vain; each comes through here again when it is gone. */
	if (p->counts.waiting > p->counts.opening && p->evictable) {
		struct line *line = p->evictable;

		line->on_evict(line->evict_ctx);
	}
}

static void expire_spares(struct pool *p)
{
	int64_t before = clock_now_ms() - p->conf->pool_idle;

	while (p->spares && p->counts.spare > spares_wanted(p) && (p->spares->since <= before || p->draining))
		line_free(p->spares);
}

static void on_tick(struct timer *t)
{
	struct pool *p = t->ctx;
	uint32_t now = p->takes << RATE_SHIFT;

	/* Up at once, down slowly. */
	p->rate = now > p->rate ? now : p->rate - p->rate / 8 + now / 8;
	p->takes = 0;
	expire_spares(p);
	deferred_run(&p->work);
	timer_set(&p->tick, TICK_MS);
}

void pool_drain(struct pool *p)
{
	p->draining = true;
	expire_spares(p);
}

/* ---- the report ---- */

static void report(struct deferred *d)
{
	struct pool *p = d->ctx;
	uint32_t interest;

	stats_set(&p->stats->busy, p->counts.taken - p->evictable_count);
	stats_set(&p->stats->bound, p->evictable_count);
	stats_set(&p->stats->spare, p->counts.spare);
	stats_set(&p->stats->connecting, p->counts.opening);
	stats_set(&p->stats->waiting, p->counts.waiting);
	stats_set(&p->stats->state, p->reach.down ? STATS_DOWN : reach_interest(&p->reach, &interest) ? STATS_UP : STATS_UNKNOWN);
}

void pool_report_to(struct pool *p, struct stats_milter *stats)
{
	p->stats = stats;
	deferred_run(&p->report);
}

void pool_note_answer(struct pool *p)
{
	stats_add(&p->stats->answers, 1);
}

void pool_note_failure(struct pool *p, const char *endpoint, const char *why)
{
	stats_add(&p->stats->failures, 1);
	stats_failure_set(&p->stats->failure, endpoint, why);
	deferred_run(&p->report);
}

/* ---- questions ---- */

const struct reach *pool_reach(const struct pool *p)
{
	return &p->reach;
}

void pool_note_message(struct pool *p, bool ended_early)
{
	if (ended_early)
		p->early = p->early + EARLY_END < EARLY_MAX ? p->early + EARLY_END : EARLY_MAX;
	else if (p->early)
		p->early--;
}

bool pool_write_ahead(const struct pool *p)
{
	return p->conf->pipeline == CONF_PIPELINE_CONTENT && p->early < EARLY_LIMIT;
}

struct pool_counts pool_counts(const struct pool *p)
{
	return p->counts;
}
