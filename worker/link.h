/* link.h - the channels to the session processes: their sessions, their message buffers, ours lent to them */
#ifndef MILTERD_WORKER_LINK_H
#define MILTERD_WORKER_LINK_H

#include "worker/job.h"

struct links;

/* first_verdict: called once, at the first VERDICT. on_last: called whenever the last channel has closed, and is
 * allowed to end the process, not to free the links. */
struct links *links_new(struct job_shared *, void (*first_verdict)(void), void (*on_last)(void));
/* The channel to the session process in this slot; takes the descriptor. An earlier one of the slot is given up with
 * everything its process had. */
void links_add(struct links *, unsigned slot, int fd);
size_t links_count(const struct links *);
void links_free(struct links *);

#endif
