/* seat.h - one milter's part in one session: how far it has been told, on which connection, and what it said
 *
 * The only state is the number of the last event it was told. A connection taken late, one taken again after the last
 * was lost, and the next event of a running one are the same to it: tell what the journal has after that number, wait
 * for the answers that are owed, until the event that the session waits for. It does not join before there is an
 * event that its milter answers.
 *
 * A milter that fails at CONNECT or HELO is tried again at the next MAIL. One that fails in a message: when its
 * connection was lost before the end of the message was begun, everything is told again on another, once (a
 * connection that never gave an answer does not count, twice). A timeout and a broken protocol are never tried again.
 * Then options.tempfail-on-error decides about the message.
 */
#ifndef MILTERD_WORKER_SEAT_H
#define MILTERD_WORKER_SEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/edit.h"
#include "common/verdict.h"
#include "worker/backend.h"
#include "worker/journal.h"
#include "worker/pool.h"
#include "worker/trace.h"

struct seat;

struct seat_ops {
	/* A run that did not end at once has ended: its result is there. */
	void (*on_done)(void *ctx, struct seat *);
	/* The end of the message is about to be sent to this milter. */
	void (*on_eom)(void *ctx, struct seat *);
};

struct seat_result {
	enum verdict verdict;	/* CONTINUE: go on with the next milter */
	const char *reply;	/* as in smtp_reply.h, in the journal's arena; NULL: to be worded elsewhere */
	uint32_t origin;	/* number of the event it belongs to: the one asked for, or an earlier one */
	bool failed;		/* it is the failure policy's */
};

struct seat {
	unsigned milter;		/* number in the configuration */
	const struct conf_milter *conf;
	struct pool *pool;
	struct journal *journal;
	uint64_t session;		/* for the log */
	struct trace *trace;		/* the owner's; NULL: nobody looks */
	const struct seat_ops *ops;
	void *ctx;

	struct line *line;		/* NULL: none taken */
	struct pool_waiter waiter;
	uint32_t told;			/* last event told on this line, and answered if it takes an answer */
	uint32_t answered;		/* last event it answered on any line */
	uint32_t asked;			/* event whose answer is awaited; 0: none */
	uint32_t target;		/* event the run is for; 0: not running */
	const struct backend_content *content;	/* of the run for EOM */
	struct macros_scope scope;
	struct edits *edits;

	bool out_session, out_message;	/* it has no further part */
	bool resting;			/* failed before MAIL: not tried again until then */
	bool failed;			/* in this message, and that defers it */
	bool skips_rcpt;		/* answered SKIP to a recipient */
	bool eom_begun;
	unsigned losses;		/* lines lost in this message */
	int64_t wait_began_us;

	/* Of this message, for the report. */
	bool took_part;
	enum verdict said;
	bool said_failed;
	int64_t waited_us;
	struct seat_result result;
};

void seat_init(struct seat *, unsigned milter, const struct conf_milter *, struct pool *, struct journal *,
	uint64_t session, const struct seat_ops *, void *ctx);
/* Closes its connection. */
void seat_fini(struct seat *);

/* Bring the milter up to this event of the journal. True: done, the result is there; false: on_done comes later.
 * content: for IPC_EOM, must live until then; otherwise NULL. */
bool seat_run(struct seat *, uint32_t target, const struct backend_content *);
/* The message is over, or was given up in the middle of a run; an open one is aborted. */
void seat_end_message(struct seat *);
/* Which events it will answer in this session. */
uint32_t seat_interest(const struct seat *);

#endif
