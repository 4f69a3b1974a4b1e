/* supervisor.h - the life of the children: start, watch, replace, drain
 *
 * A slot is ABSENT (waiting for its next start), STARTING (no READY yet), RUNNING, DRAINING (told to leave) or GONE. Slots
 * keep their number over restarts; at every start a child gets a new channel to each process of the other role.
 */
#ifndef MILTERD_SUPERVISOR_H
#define MILTERD_SUPERVISOR_H

#include "common/conf.h"
#include "master/listener.h"
#include "master/privileges.h"

/* Start the children and look after them until SIGTERM or SIGINT has ended them all. In the configuration sessions and
 * workers are numbers already; config: its text as a sealed memfd, the caller's. Takes the listeners. Returns the
 * exit status for main. loop_init() has been called. */
int supervisor_run(const struct conf *, const struct privileges *, struct listeners *, int config);

#endif
