/* owed.h - the commands a milter still owes answers to, in the order they were sent, which is that of the answers */
#ifndef MILTERD_WORKER_OWED_H
#define MILTERD_WORKER_OWED_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#define OWED_MAX 64u	/* commands written ahead of their answers at most */

/* A zeroed struct owed is a valid empty one. */
struct owed {
	struct owed_answer {
		uint8_t command;
		uint32_t sequence;	/* of the packet on its connection */
	} answer[OWED_MAX];		/* a ring */
	unsigned first, count;
};

static inline bool owed_is_full(const struct owed *o)
{
	return o->count == OWED_MAX;
}

static inline void owed_push(struct owed *o, uint8_t command, uint32_t sequence)
{
	assert(!owed_is_full(o));
	o->answer[(o->first + o->count++) % OWED_MAX] = (struct owed_answer){ command, sequence };
}

/* The one that is answered next; only when there is any. */
static inline struct owed_answer owed_head(const struct owed *o)
{
	assert(o->count);
	return o->answer[o->first];
}

static inline struct owed_answer owed_pop(struct owed *o)
{
	struct owed_answer head = owed_head(o);

	o->first = (o->first + 1) % OWED_MAX;
	o->count--;
	return head;
}

static inline bool owed_has(const struct owed *o, uint8_t command)
{
	for (unsigned i = 0; i < o->count; i++)
		if (o->answer[(o->first + i) % OWED_MAX].command == command)
			return true;
	return false;
}

#endif
