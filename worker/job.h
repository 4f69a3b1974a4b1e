/* job.h - one SMTP session on its way through the milters of its listener
 *
 * Milters are asked in order: the next one is told of an event when the one before has answered it, and sees the
 * message as that one left it. The first refusal ends the event. What is refused late, for an event that has been
 * answered, stays the answer to everything until the message (for CONNECT and HELO: the session) ends.
 */
#ifndef MILTERD_WORKER_JOB_H
#define MILTERD_WORKER_JOB_H

#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/edit.h"
#include "common/ipc.h"
#include "common/msgbuf.h"
#include "worker/pool.h"

struct job;

/* How it speaks to the session process. */
struct job_ops {
	/* edits: at EOM with CONTINUE or ACCEPT, what edit_result_put() makes; otherwise empty. body: the replaced one,
	 * the callee's to lend and put, or NULL. Before a release of the content. */
	void (*on_verdict)(void *ctx, uint64_t session, const struct ipc_verdict *, const struct buf *edits,
		struct msgbuf *body);
	void (*on_eom_begun)(void *ctx, uint64_t session, unsigned milter);
	/* The content, at most MSGBUF_LIMIT bytes, valid until on_release. 0, or -1 when it was not lent. */
	int (*on_content)(void *ctx, const struct ipc_content *, struct spooled *);
	void (*on_release)(void *ctx, const struct ipc_content *);
	/* After job_trace(): what is told and said. */
	void (*on_trace)(void *ctx, uint64_t session, const struct ipc_trace *);
};

/* What all jobs of a worker share; must live as long as they. */
struct job_shared {
	const struct conf *conf;
	struct pool **pool;		/* by milter number */
	struct msgbuf_pool *bodies;	/* for replaced bodies */
	struct arena scratch;
	struct buf edits;
};

struct job *job_new(struct job_shared *, const struct conf_listener *, uint64_t session, const struct job_ops *,
	void *ctx);
/* The session is over: nothing more is said. NULL is fine. */
void job_free(struct job *);

/* Report everything by on_trace; before the first event. */
void job_trace(struct job *);

/* An IPC_EVENT record. 0, or -1 when it is illegal. */
int job_event(struct job *, struct wire *);
/* The session gave the message up. Nothing happens when there is none. */
void job_abort(struct job *);
/* The session takes this buffer away: a message that is read from it is given up. */
void job_buffer_dropped(struct job *, uint32_t id);

#endif
