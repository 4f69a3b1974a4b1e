/* script_worker.h - a worker process as a test plays it: the other end of a session process's channel */
#ifndef TESTS_SCRIPT_WORKER_H
#define TESTS_SCRIPT_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/chan.h"
#include "common/edit_result.h"
#include "common/ipc.h"
#include "common/mem.h"
#include "common/msgbuf.h"
#include "common/msgbuf_views.h"

struct script_worker {
	struct chan *chan;		/* NULL once the session process has closed it */
	struct msgbuf_views *views;	/* of the session process's buffers */
	struct buf seen;		/* "open(0) connect:1! helo:2 mail:3~ buffer abort close": ! wanted, ~ replayed */
	uint64_t session;		/* of the last record */
	uint32_t wanted;		/* number of the last event that wants an answer */
	enum ipc_event_kind wanted_kind;
	size_t opened;			/* sessions */
	struct ipc_content content;	/* of the last EOM */
	struct arena arena;
};

/* A zeroed one begins to work: the descriptor for the session process. */
int script_worker_start(struct script_worker *);
/* It dies. Fine when it has already been given up. */
void script_worker_die(struct script_worker *);
/* It dies, and what it has seen is forgotten. */
void script_worker_fini(struct script_worker *);
/* What it has seen since the last call, as text. */
const char *script_worker_seen(struct script_worker *);

/* Answer the last wanted event of the last session. */
void script_worker_say(struct script_worker *, enum verdict, const char *reply);
/* The same at EOM, with a message nobody has changed. header_length: of the content. */
void script_worker_pass(struct script_worker *, size_t header_length);
/* The same with these changes, right or wrong. */
void script_worker_result(struct script_worker *, const struct edit_result *);
/* A verdict as it is. */
void script_worker_verdict(struct script_worker *, const struct ipc_verdict *);
void script_worker_send(struct script_worker *, enum ipc_type, const void *, size_t len);
/* Give the content of the last EOM back. */
void script_worker_release(struct script_worker *);

#endif
