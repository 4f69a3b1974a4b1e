/* child.h - how a session or worker process begins and ends: the other side of master/spawn.c
 *
 * A child is started as "milterd-ROLE SLOT" with descriptor 3 the control channel to the master and descriptor 4 a
 * sealed memfd with the effective configuration, in which workers and sessions are numbers, descriptor 5 its page of
 * stats.h; standard error is the log.
 * Everything else comes over the control channel. End of file there means that the master is dead: the child drains and
 * leaves, after drain-timeout at the latest. SIGTERM drains it too; SIGINT and SIGHUP are the master's business and
 * ignored.
 */
#ifndef MILTERD_CHILD_H
#define MILTERD_CHILD_H

#include <stdint.h>

#include "common/conf.h"
#include "common/stats.h"

#define CHILD_FD_CONTROL 3
#define CHILD_FD_CONFIG	 4
#define CHILD_FD_STATS	 5
#define CHILD_FD_FIRST_FREE 6	/* everything from here on is closed before exec */
#define CHILD_SLOTS_MAX	 64u	/* processes of one role: slots are 0 to 63 */

struct child_ops {
	/* A descriptor of the callee's from now on. listener: number in the configuration; several times for a listener
	 * with several addresses. NULL: this role has none. */
	void (*on_listener)(unsigned listener, int fd);
	/* The folder for what does not fit into memory, at most once and before on_start; not called when no file can be
	 * made there. The callee's. */
	void (*on_spool)(int folder);
	/* The channel to the peer process in this slot (workers for a session, sessions for a worker); it replaces an
	 * earlier one, whose process is dead. Possible at any time, also while draining. */
	void (*on_peer)(unsigned slot, int fd);
	void (*on_start)(void);
	/* Finish what runs, then child_leave(). Called once; possible before on_start, which then never comes. */
	void (*on_drain)(void);
	/* The client of a message test; a descriptor of the callee's. NULL: this role has none. */
	void (*on_test)(int fd);
};

/* Read the command line and descriptors, set up log, loop and resolver, forbid new privileges and die with the master.
 * Returns the configuration, which lives until the process ends; ends the process with a log line when it was not
 * started by milterd. */
const struct conf *child_begin(const char *role, int argc, char **argv, const struct child_ops *);
unsigned child_slot(void);
/* Where this process tells what it is doing; outside of a child, as in tests, a page that nobody reads, with no milters. */
struct stats_page *child_stats(void);
/* Report READY and run the loop until child_leave(). Returns the exit status for main. Loop and resolver are still there
 * afterwards, for those who tidy up. */
int child_run(void);
/* The first job is done: a later death is not a failed start. Cheap when repeated. */
void child_worked(void);
/* Report DRAINED and stop the loop. Cheap when repeated. */
void child_leave(void);

#endif
