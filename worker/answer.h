/* answer.h - what a milter's answer means: the verdict and the words for the client */
#ifndef MILTERD_WORKER_ANSWER_H
#define MILTERD_WORKER_ANSWER_H

#include <stdint.h>

#include "common/mem.h"
#include "common/verdict.h"
#include "worker/backend.h"

/* *reply: as in smtp_reply.h, in the arena, NULL when the milter gave no words. A reply text that is not sound is logged
 * (session, milter's name) and not passed on, but its class counts; anything that is not clearly 5xx is a TEMPFAIL. */
enum verdict answer_verdict(const struct backend_answer *, struct arena *, uint64_t session, const char *milter,
	const char **reply);

#endif
