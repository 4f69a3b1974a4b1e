/* journal.h - what happened in one SMTP session, in order, so that a milter can be told at any time
 *
 * CONNECT and the last HELO stay for the session, MAIL and what follows until the message ends. A milter that joins
 * late, or is told again on a new connection, gets them as they were.
 */
#ifndef MILTERD_WORKER_JOURNAL_H
#define MILTERD_WORKER_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ipc.h"
#include "common/mem.h"
#include "worker/macros.h"

struct journal_entry {
	struct ipc_event event;
	bool refused;		/* a recipient that is not in the message: nobody else is told */
};

struct journal {
	struct arena connect_arena, helo_arena;
	struct arena arena;		/* of the message, and of what is said between messages */
	struct journal_entry *connect, *helo, *unknown;	/* unknown: only while it is the last event */
	struct journal_entry **message;	/* MAIL first; empty between messages */
	size_t count, room;
	struct journal_entry *data;	/* in message */
	uint32_t last;			/* number of the last event */
};

/* Read an event and keep it. scratch: empty between calls, shared by all journals. NULL when it is malformed, does not
 * fit a milter packet, or cannot come now. */
struct journal_entry *journal_add(struct journal *, struct wire *, struct arena *scratch);
/* MAIL was added and the message has not ended. */
bool journal_in_message(const struct journal *);
/* Everything in the arena is gone, too. */
void journal_end_message(struct journal *);
void journal_fini(struct journal *);

/* The first event after this number; NULL at the end. */
struct journal_entry *journal_after(const struct journal *, uint32_t number);
/* The event of this number, which must be there. */
struct journal_entry *journal_find(const struct journal *, uint32_t number);
/* The macros known at this event. */
void journal_scope(const struct journal *, const struct journal_entry *, struct macros_scope *);

#endif
