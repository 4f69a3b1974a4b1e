/* next_hop_steps.h - the commands of one request in their order: RSET, MAIL, RCPT for each recipient, DATA */
#ifndef MILTERD_NEXT_HOP_STEPS_H
#define MILTERD_NEXT_HOP_STEPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/envelope.h"
#include "session/smtp_offers.h"

/* From NEXT_HOP_RCPT on one number for each recipient, and behind them DATA. */
enum { NEXT_HOP_RSET, NEXT_HOP_MAIL, NEXT_HOP_RCPT };

enum next_hop_result {
	NEXT_HOP_WAIT,		/* more replies are owed */
	NEXT_HOP_SEND,		/* all was accepted so far, there is more to send */
	NEXT_HOP_ACCEPTED,	/* the last one, too: 354 when it was DATA */
	NEXT_HOP_REFUSED,	/* one was refused, and no reply is owed any more */
	NEXT_HOP_NONSENSE,	/* the reply is none to this command, or a goodbye */
};

struct next_hop_steps {
	const struct envelope *plan;
	bool with_data;
	size_t to_send, to_answer;	/* numbers of steps */
	size_t refused;			/* the first one that was */
	char *refusal;			/* and its reply */
};

/* Begin at one of the steps. The plan must live as long as the steps. */
void next_hop_steps_start(struct next_hop_steps *, const struct envelope *plan, bool with_data, size_t first);
/* A zeroed one is fine. */
void next_hop_steps_fini(struct next_hop_steps *);

static inline size_t next_hop_data_step(const struct next_hop_steps *s)
{
	return NEXT_HOP_RCPT + s->plan->rcpt_count;
}

/* Append what can be sent now: one command, or with PIPELINING all; but DATA only when everything before it has been
 * accepted, as a 354 for half an envelope could not be taken back. Returns how many replies it owes. size: for MAIL,
 * see smtp_offers.h. */
unsigned next_hop_steps_put(struct next_hop_steps *, struct buf *, const struct smtp_offers *, uint64_t size);
/* The reply to step to_answer. */
enum next_hop_result next_hop_steps_take(struct next_hop_steps *, int code, const char *reply);

#endif
