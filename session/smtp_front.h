/* smtp_front.h - the listeners of a session process and its open sessions: accept, count, drain */
#ifndef MILTERD_SMTP_FRONT_H
#define MILTERD_SMTP_FRONT_H

#include "common/conf.h"

/* Once per process. hostname must live on. */
void smtp_front_init(const struct conf *, const char *hostname);
/* Takes a listening socket of this listener. Nothing is accepted before smtp_front_start(). */
void smtp_front_add_listener(unsigned listener, int fd);
void smtp_front_start(void);
/* No new sessions; the running ones end as soon as no message is under way. on_idle is called when there are none left. */
void smtp_front_drain(void (*on_idle)(void));
/* End every session, for a clean exit. */
void smtp_front_fini(void);

#endif
