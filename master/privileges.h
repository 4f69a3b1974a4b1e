/* privileges.h - who the master and its children are
 *
 * Started as root, the master becomes user and keeps of root's powers only what it takes to start its children as
 * session-user and worker-user and to end them. Started as anybody else, everything stays who it is and these options
 * are ignored.
 */
#ifndef MILTERD_PRIVILEGES_H
#define MILTERD_PRIVILEGES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/conf.h"

struct account {
	uid_t uid;
	gid_t gid;
	gid_t *group;		/* supplementary ones: what opens a milter's UNIX socket to a worker */
	size_t group_count;
};

struct privileges {
	bool separate;		/* started as root; otherwise the accounts are not used */
	bool incomplete;	/* some account is missing: good enough for a check only */
	struct account master, session, worker;
};

/* Look the accounts up. 0, or -1 with a line "FILE:LINE: [milterd] KEY: what is wrong" in problems for every one that is
 * missing, or is root; a missing default is only a warning here, but leaves them incomplete. privileges_fini() in either case. */
int privileges_find(struct privileges *, const struct conf *, struct buf *problems);
void privileges_fini(struct privileges *);
/* The master, once all is open that needs root. 0, or -1 with errno: then do not go on. */
int privileges_drop(const struct privileges *);
/* A child between fork and exec: account NULL, or become it; give up every capability and forbid new privileges. 0, or
 * -1 with errno: then do not exec. */
int privileges_become(const struct account *);

#endif
