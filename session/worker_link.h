/* worker_link.h - one worker process as seen from a session process: its channel and the buffers it has lent us
 *
 * A link outlives its worker as long as somebody reads a body that the worker has made.
 */
#ifndef MILTERD_WORKER_LINK_H
#define MILTERD_WORKER_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/chan.h"
#include "common/ipc.h"
#include "common/spoolfile.h"

struct worker_link;

struct worker_link_ops {
	/* A record about one session. 0, or -1 when it is illegal. */
	int (*on_record)(struct worker_link *, const struct chan_record *);
	/* The worker has given back a buffer of ours. 0, or -1 when it did not have it. */
	int (*on_release)(struct worker_link *, const struct ipc_buffer *);
	/* The worker is dead or broke the rules: nothing can be sent any more. The link is freed afterwards. */
	void (*on_lost)(struct worker_link *, const char *why);
};

/* Takes the descriptor. */
struct worker_link *worker_link_new(unsigned slot, int fd, const struct worker_link_ops *);
/* Like the death of the worker, but without on_lost. */
void worker_link_free(struct worker_link *);
unsigned worker_link_slot(const struct worker_link *);
struct chan *worker_link_chan(struct worker_link *);
/* How many sessions are bound to it; the caller's count. */
unsigned *worker_link_sessions(struct worker_link *);
void worker_link_send_buffer(struct worker_link *, uint16_t type, uint32_t id, uint32_t generation, int fd);

/* Hold a buffer of the worker: its first len bytes, memory of them not in its file, stay readable until given back,
 * whatever happens to the worker. 0, or -1 when it was not lent, is held already or is shorter. */
int worker_link_hold(struct worker_link *, uint32_t id, uint32_t generation, size_t memory, size_t len,
	struct spooled *);
void worker_link_give_back(struct worker_link *, uint32_t id);

#endif
