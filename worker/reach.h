/* reach.h - whether and where a milter can be reached: its endpoints, what they negotiated, when to try again */
#ifndef MILTERD_WORKER_REACH_H
#define MILTERD_WORKER_REACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/conf.h"
#include "worker/backend_rules.h"

struct reach_endpoint {
	struct buf name;	/* NUL-terminated */
	uint32_t interest;	/* after the last negotiation */
	bool known;		/* there was one, and it has not failed since */
	bool told_foreign;	/* bits beyond our offer were logged */
};

struct reach {
	const struct conf_milter *conf;
	struct reach_endpoint *endpoint;
	size_t count;
	unsigned start;		/* the one to begin with */
	bool down;		/* the last attempt failed at all of them */
	int64_t backoff_ms, not_before;
};

/* The configuration must live as long as it. */
void reach_init(struct reach *, const struct conf_milter *);
void reach_fini(struct reach *);

const char *reach_name(const struct reach *, unsigned endpoint);
/* The endpoint that comes next in an attempt: the first one, or the one after the last it has tried. */
unsigned reach_first(const struct reach *);
unsigned reach_after(const struct reach *, unsigned endpoint);
/* This one did not do: later attempts begin behind it. last: it was the last of its attempt; nothing but a session that
 * waits is a reason to try again before a while, each time a longer one. */
void reach_failed(struct reach *, unsigned endpoint, bool last, const char *why);
void reach_negotiated(struct reach *, unsigned endpoint, const struct backend_options *);
/* An unused connection was closed: no reason to hurry. */
void reach_dropped(struct reach *);
/* Spares may be opened. */
bool reach_may_try(const struct reach *);
/* What the milter answers, all endpoints together; false as long as none has negotiated. */
bool reach_interest(const struct reach *, uint32_t *interest);

#endif
