/* load_journal.h - what happened to every attempt: a line each in a file, and totals
 *
 * A line is, separated by tabs: message number, attempt (from 1), outcome, stage, recipients accepted ("0,2" or "-"),
 * first line of the reply ("-" without one).
 */
#ifndef INSTRUMENTS_LOAD_JOURNAL_H
#define INSTRUMENTS_LOAD_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

enum load_outcome {
	LOAD_TAKEN,	/* 2xx for the dot */
	LOAD_DEFERRED,	/* 4xx */
	LOAD_REFUSED,	/* 5xx */
	LOAD_LOST,	/* no answer, and the dot was not written */
	LOAD_DOUBT,	/* no answer to the dot */
	LOAD_GIVEN_UP,	/* too many attempts; a line besides that of the last one */
	LOAD_OUTCOMES
};

struct load_attempt {
	uint64_t number;
	unsigned attempt;
	enum load_outcome outcome;
	const char *stage, *rcpts, *reply;
	int64_t total_us, dot_us;	/* of a taken one: from MAIL, and from the dot, to the reply */
};

/* path: NULL keeps no file. messages: how many latencies there will be at most. */
void load_journal_open(const char *path, size_t messages);
void load_journal_add(const struct load_attempt *);
/* Print the totals on standard output, and flush the file. */
void load_journal_finish(double seconds);

#endif
