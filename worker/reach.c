#include "config.h"

#include "worker/reach.h"

#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "worker/interest.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 30000

void reach_init(struct reach *r, const struct conf_milter *conf)
{
	*r = (struct reach){ .conf = conf, .count = conf->endpoints.count };
	r->endpoint = mem_array(r->count, sizeof(*r->endpoint));
	for (size_t i = 0; i < r->count; i++) {
		addr_print(&r->endpoint[i].name, &conf->endpoints.item[i]);
		buf_append(&r->endpoint[i].name, "", 1);
	}
}

void reach_fini(struct reach *r)
{
	for (size_t i = 0; i < r->count; i++)
		buf_fini(&r->endpoint[i].name);
	free(r->endpoint);
	*r = (struct reach){ 0 };
}

const char *reach_name(const struct reach *r, unsigned endpoint)
{
	return (const char *)r->endpoint[endpoint].name.data;
}

unsigned reach_first(const struct reach *r)
{
	return r->start;
}

unsigned reach_after(const struct reach *r, unsigned endpoint)
{
	return (endpoint + 1) % (unsigned)r->count;
}

static void rest(struct reach *r)
{
	r->backoff_ms = r->backoff_ms ? r->backoff_ms * 2 : BACKOFF_MIN_MS;
	if (r->backoff_ms > BACKOFF_MAX_MS)
		r->backoff_ms = BACKOFF_MAX_MS;
	/* Workers that lost the same milter do not come back in step. */
	r->not_before = clock_now_ms() + r->backoff_ms * (80 + clock_now_us() % 41) / 100;
}

void reach_failed(struct reach *r, unsigned endpoint, bool last, const char *why)
{
	r->endpoint[endpoint].known = false;
	r->start = reach_after(r, endpoint);
	if (!last) {
		log_warning("event=milter-endpoint-down milter=%s endpoint=%s stage=connect cause=\"%s\"",
			    r->conf->name, reach_name(r, endpoint), why);
		return;
	}
	if (!r->down)
		log_error("event=milter-down milter=%s endpoint=%s stage=connect cause=\"%s\"", r->conf->name,
			  reach_name(r, endpoint), why);
	r->down = true;
	rest(r);
}

static void log_foreign(struct reach *r, struct reach_endpoint *e, const struct backend_options *o)
{
	if (e->told_foreign || !(o->foreign_actions | o->foreign_protocol))
		return;
	e->told_foreign = true;
	log_notice("event=milter-options milter=%s endpoint=%s foreign-actions=0x%x foreign-steps=0x%x "
		   "cause=\"it negotiated what was not offered, which is ignored\"",
		   r->conf->name, (const char *)e->name.data, o->foreign_actions, o->foreign_protocol);
}

void reach_negotiated(struct reach *r, unsigned endpoint, const struct backend_options *options)
{
	struct reach_endpoint *e = &r->endpoint[endpoint];

	e->interest = interest_of(options->protocol);
	e->known = true;
	log_foreign(r, e, options);
	if (r->down)
		log_notice("event=milter-up milter=%s endpoint=%s", r->conf->name, reach_name(r, endpoint));
	r->down = false;
	r->backoff_ms = r->not_before = 0;
}

void reach_dropped(struct reach *r)
{
	int64_t soon = clock_now_ms() + BACKOFF_MIN_MS;

	if (r->not_before < soon)
		r->not_before = soon;
}

bool reach_may_try(const struct reach *r)
{
	return clock_now_ms() >= r->not_before;
}

bool reach_interest(const struct reach *r, uint32_t *interest)
{
	bool known = false;

	*interest = 0;
	for (size_t i = 0; i < r->count; i++) {
		if (!r->endpoint[i].known)
			continue;
		known = true;
		*interest |= r->endpoint[i].interest;
	}
	return known;
}
