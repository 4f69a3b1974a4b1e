/* smtp_steps.h - what the legal commands of a client do: next hop first, milters second, then the answer
 *
 * Each step answers at once, or makes the session busy and answers later.
 */
#ifndef MILTERD_SMTP_STEPS_H
#define MILTERD_SMTP_STEPS_H

#include "session/smtp_command.h"
#include "session/smtp_session.h"

/* Before the greeting. */
void smtp_step_connect(struct smtp_session *, const struct conf *);
void smtp_step_helo(struct smtp_session *, const struct smtp_command *);
void smtp_step_mail(struct smtp_session *, const struct smtp_command *);
void smtp_step_rcpt(struct smtp_session *, const struct smtp_command *);
void smtp_step_data(struct smtp_session *);
void smtp_step_unknown(struct smtp_session *, const struct smtp_command *);

/* An answer that counts as an error of the client: who gets nothing else is shown out. */
void smtp_step_refuse(struct smtp_session *, int code, const char *enhanced, const char *why);
/* The last answer, with our name in front; ends the transaction. */
void smtp_step_hang_up(struct smtp_session *, int code, const char *enhanced, const char *why);

#endif
