/* macros.h - the values that go with a command: which are asked for, which are known (protocol: SMFIC_MACRO of mfdef.h) */
#ifndef MILTERD_WORKER_MACROS_H
#define MILTERD_WORKER_MACROS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/ipc.h"

#define MACROS_SCOPE_MAX 5

/* The events whose macros are visible at one event, nearest first: a later value of a name hides an earlier one. */
struct macros_scope {
	const struct ipc_event *event[MACROS_SCOPE_MAX];
	size_t count;
};

/* The value of a name, written with braces or without them; NULL when no event of the scope has it. */
const struct milter_macro *macros_find(const struct macros_scope *, const char *name, size_t len);

/* Append the MACRO packet for a command: those of names (separated by blanks, tabs or commas; NULL: none) that have a
 * value. False, and nothing is appended, when there are none: filters exist that break on an empty packet. Macros that
 * would make it larger than a filter reads are left out. */
bool macros_put(struct buf *, uint8_t command, const char *names, const struct macros_scope *);

#endif
