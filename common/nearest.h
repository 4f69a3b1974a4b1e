/* nearest.h - "did you mean": the candidate that is fewest edits away from a mistyped word */
#ifndef MILTERD_NEAREST_H
#define MILTERD_NEAREST_H

#include <stddef.h>

/* Begin with { .word = WORD }, offer every candidate, and read best: NULL when none is near. */
struct nearest {
	const char *word;
	const char *best;
	size_t distance;
};

/* candidate must live as long as best is used. */
void nearest_offer(struct nearest *, const char *candidate);

#endif
