/* pool.h - the connections of this worker to one milter
 *
 * Spares are connected and negotiated, and have never been used. A session takes one and keeps it as long as it has
 * use for it; nothing is used for a second session. How many spares there are follows how fast they are taken, within
 * pool.min and pool.max. At the maximum sessions wait in line for pool.wait, and sessions that hold a connection
 * between two messages are asked for it back, least recently used first. A spare that has anything to read is dead.
 * A milter that cannot be reached is tried again ever more rarely, but at once when a session needs it.
 */
#ifndef MILTERD_WORKER_POOL_H
#define MILTERD_WORKER_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/loop.h"
#include "common/stats.h"
#include "worker/backend.h"
#include "worker/reach.h"

struct pool;

/* One connection. */
struct line {
	struct backend *backend;	/* negotiated; the taker's until pool_release() */
	unsigned endpoint;
	/* The pool's own. */
	struct pool *pool;
	struct line *prev, *next;
	uint8_t state;
	struct dial *dial;
	unsigned tried;			/* endpoints */
	int64_t deadline, since;
	void (*on_evict)(void *ctx);
	void *evict_ctx;
};

/* A session waiting for a connection; embedded in it, zeroed before. */
struct pool_waiter {
	void (*on_line)(void *ctx, struct line *);
	/* endpoint: which was tried last, or "". Both valid during the call. */
	void (*on_failure)(void *ctx, const char *endpoint, const char *why);
	void *ctx;
	/* The pool's own. */
	struct pool *pool;
	struct pool_waiter *prev, *next;
	struct timer timer;
	bool covered;			/* a connection is being opened for it */
};

/* min and max: of this worker alone. The configuration must live as long as the pool. */
struct pool *pool_new(const struct conf_milter *, size_t min, size_t max);
/* No connection may be taken. */
void pool_free(struct pool *);
/* A worker's part of a number for all of them: what cannot be divided goes to the lower slots. */
size_t pool_share(int64_t total, unsigned slot, unsigned workers);

/* A connection now, or NULL: then one of the waiter's functions is called, once and later. backend_set_owner() is the
 * taker's first duty. */
struct line *pool_take(struct pool *, struct pool_waiter *);
/* No function of the waiter will be called. Fine when it does not wait. */
void pool_cancel(struct pool_waiter *);
/* Give a connection up, with QUIT when that is possible. */
void pool_release(struct line *);
/* It is not needed for a while: on_evict, in which it must be released, is called when somebody else needs it. NULL:
 * needed again. */
void pool_set_evictable(struct line *, void (*on_evict)(void *ctx), void *ctx);
/* Open no spares any more, and close them. */
void pool_drain(struct pool *);

/* Its endpoints, and whether they can be reached. */
const struct reach *pool_reach(const struct pool *);

/* A milter that often ends messages in the middle costs a connection each time when content is written ahead: then
 * it gets it packet by packet. */
void pool_note_message(struct pool *, bool ended_early);
bool pool_write_ahead(const struct pool *);

/* Tell there what goes on; it must live as long as the pool. */
void pool_report_to(struct pool *, struct stats_milter *);
/* For the report: a taken connection gave an answer, or did not do its part. */
void pool_note_answer(struct pool *);
void pool_note_failure(struct pool *, const char *endpoint, const char *why);

/* For tests. */
struct pool_counts {
	size_t spare, opening, taken, waiting;
};
struct pool_counts pool_counts(const struct pool *);

#endif
