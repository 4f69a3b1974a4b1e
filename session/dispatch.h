/* dispatch.h - the session side of the channels to workers: which worker, which events, replay, message buffers
 *
 * One dispatch is one client session's conversation with its chain of milters, wherever that chain runs. It keeps the
 * events of the session until they are of no use (a journal), so that the session can go on with another worker when
 * one dies. The protocol is that of ipc.h. A listener without milters needs no worker: then nobody is interested in
 * anything.
 */
#ifndef MILTERD_DISPATCH_H
#define MILTERD_DISPATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/edit_result.h"
#include "common/ipc.h"
#include "common/msgbuf.h"
#include "common/wire.h"

#define DISPATCH_WORKER_WAIT_MS 10000	/* for a worker when there is none */

struct dispatch;

struct dispatch_ops {
	/* The answer to dispatch_event(), later and never from inside it. At EOM with CONTINUE or ACCEPT, rest is an edit
	 * result to be taken whole; otherwise it is at its end. Valid during the call. dispatch_close() is
	 * allowed in it. 0, or -1 when the record is illegal: its worker is given up, and the answer counts as a
	 * TEMPFAIL. */
	int (*on_verdict)(void *ctx, const struct ipc_verdict *, struct wire *rest);
	/* NULL for most. Otherwise the session is traced: called with every report, which is valid during the call.
	 * dispatch_close() is not allowed in it. */
	void (*on_trace)(void *ctx, const struct ipc_trace *);
};

/* Once per process, after child_begin(). content_limit: bytes of a message at most; content_budget: of all messages. */
void dispatch_init(const struct conf *, size_t content_limit, size_t content_budget);
void dispatch_fini(void);
/* A (new) worker in this slot; takes the descriptor. */
void dispatch_worker(unsigned slot, int fd);
/* Where message content is kept; a buffer may be put as soon as its transaction is over. */
struct msgbuf_pool *dispatch_content(void);

/* id: unique in this process's life and among all session processes. */
struct dispatch *dispatch_open(unsigned listener, uint64_t id, const struct dispatch_ops *, void *ctx);
/* The client is gone. NULL is fine. */
void dispatch_close(struct dispatch *);

/* The next event of the session; number and flags are filled in here, strings are copied. True: on_verdict will be
 * called. False: nobody wants to answer; go on as after CONTINUE. content: at EOM, must live until the transaction's end. */
bool dispatch_event(struct dispatch *, struct ipc_event *, struct msgbuf *content);
/* End an open transaction that no verdict has ended. An event that is still waited for is not answered any more. */
void dispatch_abort(struct dispatch *);
/* The recipient asked about last was refused by a verdict: it is no part of the transaction. */
void dispatch_forget_rcpt(struct dispatch *);

/* The body that a milter has replaced, as named in the verdict of EOM. 0, or -1 when the worker has not lent it. It stays
 * readable until dispatch_release_body(), even when the worker dies. At most one per dispatch. */
int dispatch_body(struct dispatch *, const struct edit_result *, struct spooled *body);
/* Fine when there is none. */
void dispatch_release_body(struct dispatch *);

#endif
