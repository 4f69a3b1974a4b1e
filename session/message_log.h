/* message_log.h - the log lines about messages: one when a message is finished, one when a step of it is refused */
#ifndef MILTERD_MESSAGE_LOG_H
#define MILTERD_MESSAGE_LOG_H

#include "session/smtp_session.h"

/* verdict: what became of it, in one word. reply: what the client got. Before smtp_tx_reset(). */
void message_log_finished(const struct smtp_session *, const struct conf *, const char *verdict, const char *reply);
/* stage: "connect", "mail", ... milter: number in the configuration, or IPC_NOBODY. */
void message_log_refused(const struct smtp_session *, const struct conf *, const char *stage, uint32_t milter,
	const char *reply);

#endif
