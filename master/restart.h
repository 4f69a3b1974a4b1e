/* restart.h - when a dead child is started again, and what it died of */
#ifndef MILTERD_RESTART_H
#define MILTERD_RESTART_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"

#define RESTART_LIVED_MS	10000	/* who has lived as long did not fail to start */
#define RESTART_DELAY_MIN_MS	100
#define RESTART_DELAY_MAX_MS	10000

/* Of one slot; zeroed at first. */
struct restart {
	unsigned failed_starts;		/* in a row */
};

/* The delay before the next start: none for a child that has worked or lived long, otherwise growing. */
int64_t restart_delay_ms(struct restart *, bool worked, int64_t lived_ms);
/* "exited with status 1", "was killed by signal 9 (Killed)": a status of waitpid(2) in words. */
void restart_print_cause(struct buf *, int status);

#endif
