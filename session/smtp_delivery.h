/* smtp_delivery.h - from the end of the content to its answer: milters, edits, next hop, commit
 *
 * The client gets 250 only after the next hop's; the final dot is written behind a gate and never twice. When it is all
 * over the transaction is reset, the client answered, and the session resumed.
 */
#ifndef MILTERD_SMTP_DELIVERY_H
#define MILTERD_SMTP_DELIVERY_H

#include "session/smtp_session.h"

/* The whole content is there. */
void smtp_delivery_begin(struct smtp_session *, const struct conf *);
/* The verdict of EOM; as dispatch_ops.on_verdict. */
int smtp_delivery_on_verdict(struct smtp_session *, const struct ipc_verdict *, struct wire *rest);
/* As next_hop_ops.on_gate and on_done. */
bool smtp_delivery_on_gate(struct smtp_session *);
void smtp_delivery_on_done(struct smtp_session *, bool committed, bool in_doubt, const char *reply);

#endif
