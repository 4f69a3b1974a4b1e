/* smtp_verbs.h - the SMTP server's state machine: which command is legal when, and what it does (RFC 5321 3 and 4) */
#ifndef MILTERD_SMTP_VERBS_H
#define MILTERD_SMTP_VERBS_H

#include "common/buf.h"
#include "session/smtp_session.h"

/* A new connection: ask the milters, greet, and go on from there. */
void smtp_verbs_begin(struct smtp_session *, const struct conf *);
/* From now on every session ends at its next chance with 421; one past its 354 finishes its message first. */
void smtp_verbs_drain(void);
/* Tell a session that waits for its client's next command. */
void smtp_verbs_drain_idle(struct smtp_session *);
/* The table of states and commands as text, for people and tests: "ok", or the reply. */
void smtp_verbs_print_matrix(struct buf *);

#endif
