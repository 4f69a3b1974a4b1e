/* session_macros.h - the macros a session knows at each event, for its milters (names and meanings of Sendmail) */
#ifndef MILTERD_SESSION_MACROS_H
#define MILTERD_SESSION_MACROS_H

#include "common/ipc.h"
#include "session/smtp_session.h"

/* The macros that are new with this event, at most IPC_MACROS_MAX; strings live in the tx_arena. Their number. */
size_t session_macros(struct smtp_session *, enum ipc_event_kind, struct milter_macro *);

#endif
