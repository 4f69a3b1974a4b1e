/* control.h - the control socket: where milterctl talks to the running master
 *
 * One request and one answer a connection (control_request.h). Root, the user of the master and the members of its group
 * may connect: the mode of the file says so, and the kernel's word about the peer is compared once more. Whatever
 * comes is bytes of a stranger: what is no request ends its connection, as does a few seconds without one.
 */
#ifndef MILTERD_CONTROL_H
#define MILTERD_CONTROL_H

#include <jansson.h>
#include <stdbool.h>

#include "common/buf.h"
#include "common/conf.h"
#include "master/control_request.h"
#include "master/privileges.h"

struct control_result {
	int status;		/* exit status of milterctl */
	json_t *object;		/* the answer, given away */
	bool hold;		/* keep the connection until the daemon ends */
	void (*then)(void);	/* called when the answer is under way; NULL: nothing */
};

typedef struct control_result control_command_fn(const struct control_request *);

/* Bind it, while there are privileges for that. 0, or -1 with a line in problems; then there is none, which is a reason
 * not to start when the configuration names it (*required). */
int control_open(const struct conf *, const struct privileges *, bool *required, struct buf *problems);
/* Take requests from the loop. Fine without a socket. */
void control_start(control_command_fn *);
/* Close all connections and remove the file. */
void control_close(void);

#endif
