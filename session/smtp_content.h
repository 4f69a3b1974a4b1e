/* smtp_content.h - the content of a message: from the socket into its buffer, and what is wrong with it */
#ifndef MILTERD_SMTP_CONTENT_H
#define MILTERD_SMTP_CONTENT_H

#include <stdbool.h>

#include "session/smtp_session.h"

/* Take a buffer for the message after DATA. False when there is no memory for it now. */
bool smtp_content_begin(struct smtp_session *);
/* Read on. True when the end of the message was found: commands that came behind it are in s->in. False also at the end
 * of the connection, which ends the session. */
bool smtp_content_read(struct smtp_session *);
/* Judge the whole message. NULL when it may pass, with its header block in tx.header; otherwise the reply, in the
 * tx_arena. */
const char *smtp_content_refusal(struct smtp_session *);

#endif
