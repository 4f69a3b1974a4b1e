/* supervisor.h - the life of the children: start, watch, replace, drain
 *
 * A slot is ABSENT (waiting for its next start), STARTING (no READY yet), RUNNING, DRAINING (told to leave) or GONE. Slots
 * keep their number over restarts; at every start a child gets a new channel to each process of the other role.
 */
#ifndef MILTERD_SUPERVISOR_H
#define MILTERD_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/conf.h"
#include "common/log.h"
#include "common/stats.h"
#include "master/listener.h"
#include "master/privileges.h"
#include "master/spawn.h"

/* Start the children and look after them until SIGTERM or SIGINT has ended them all. In the configuration sessions and
 * workers are numbers already; config: its text as a sealed memfd, the caller's. Takes the listeners. Returns the
 * exit status for main. loop_init() has been called. */
int supervisor_run(const struct conf *, const struct privileges *, struct listeners *, int config);

/* The following are for use while it runs, from the loop. */

/* As SIGTERM does: no new clients, what runs may finish within drain-timeout. Again: at once. */
void supervisor_stop(const char *cause);
/* The same without the limit of drain-timeout, unless supervisor_stop() follows. */
void supervisor_drain(const char *cause);
bool supervisor_is_stopping(void);
/* Of this process and its children, those started later too. */
void supervisor_set_log_level(enum log_level);

struct supervisor_process {
	const char *state;		/* a word */
	pid_t pid;			/* 0: none */
	unsigned starts;
	int64_t age_ms;			/* since this start */
	const struct stats_page *stats;	/* NULL: none; valid until the loop goes on */
};

/* false: there is no such slot. */
bool supervisor_process(enum role, unsigned slot, struct supervisor_process *);

#endif
