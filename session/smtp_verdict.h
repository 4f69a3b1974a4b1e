/* smtp_verdict.h - what a client hears when milters have decided against something */
#ifndef MILTERD_SMTP_VERDICT_H
#define MILTERD_SMTP_VERDICT_H

#include "common/ipc.h"
#include "common/mem.h"

/* The reply of a verdict that is REJECT, TEMPFAIL or SHUTDOWN: the milter's own, or the usual words. */
const char *smtp_verdict_reply(struct arena *, const struct ipc_verdict *, const char *hostname);

#endif
