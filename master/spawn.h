/* spawn.h - starting a child process: fork, become its user, exec
 *
 * A child gets standard error, the control channel, the configuration, its page of statistics (child.h) and nothing else
 * of ours: no other descriptor, signal mask or handler, no capability.
 */
#ifndef MILTERD_SPAWN_H
#define MILTERD_SPAWN_H

#include <sys/types.h>

#include "common/buf.h"
#include "master/privileges.h"

enum role { ROLE_SESSION, ROLE_WORKER, ROLE_COUNT };

/* "session", "worker" */
const char *role_name(enum role);

/* The path of a program of ours: beside the running one (a build tree), else where they are installed. The caller's; NULL
 * and what is missing in problems. */
char *spawn_find(const char *program, struct buf *problems);
/* Find those of the roles. 0, or -1 and what is missing in problems. */
int spawn_init(struct buf *problems);
/* config, stats: sealed memfds, stay the caller's. account NULL: stay who we are. *control: our end of the control channel,
 * the caller's from now on. The process id, or -1 with errno. A child that cannot be exec'd says why on standard error
 * and exits with status 127. */
pid_t spawn_child(enum role, unsigned slot, const struct account *, int config, int stats, int *control);

#endif
