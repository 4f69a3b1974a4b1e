/* verdict.h - what a milter, or a chain of them, decided */
#ifndef MILTERD_VERDICT_H
#define MILTERD_VERDICT_H

#include <stdbool.h>

enum verdict {
	VERDICT_CONTINUE,	/* nothing against it so far */
	VERDICT_ACCEPT,		/* no further questions about this message (or, at CONNECT and HELO, this session) */
	VERDICT_DISCARD,	/* tell the client yes and drop the message */
	VERDICT_REJECT,		/* 5xx */
	VERDICT_TEMPFAIL,	/* 4xx */
	VERDICT_SHUTDOWN,	/* 421 and close */
	VERDICT_COUNT
};

/* Neither CONTINUE nor ACCEPT: nobody else is asked about the event. */
static inline bool verdict_is_refusal(enum verdict verdict)
{
	return verdict != VERDICT_CONTINUE && verdict != VERDICT_ACCEPT;
}

/* "continue", "accept", ... */
const char *verdict_name(enum verdict);

#endif
