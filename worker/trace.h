/* trace.h - what one milter is told and says in a session that somebody looks at, as IPC_TRACE records
 *
 * A command and its answer become one report; the header fields of a message together one, and so its body chunks,
 * given when the end of the message is reached. NULL stands for a session that nobody looks at.
 */
#ifndef MILTERD_WORKER_TRACE_H
#define MILTERD_WORKER_TRACE_H

#include "common/ipc.h"
#include "common/milter_codec.h"
#include "worker/backend.h"

struct trace;

typedef void trace_fn(void *ctx, const struct ipc_trace *);

/* milter: number in the configuration. */
struct trace *trace_new(unsigned milter, trace_fn *, void *ctx);
/* No connection may be followed any more. */
void trace_free(struct trace *);
/* Report what is said on this connection, until its next owner. */
void trace_follow(struct trace *, struct backend *);
void trace_edit(struct trace *, const struct milter_reply *);
/* The milter failed. What was open before is reported without an answer. */
void trace_trouble(struct trace *, const char *endpoint, const char *cause);

#endif
