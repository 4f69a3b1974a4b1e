/* notify.h - telling systemd how we are: the datagrams of sd_notify(3), without its library
 *
 * Without NOTIFY_SOCKET in the environment all of this does nothing. A message that cannot be sent is lost.
 */
#ifndef MILTERD_NOTIFY_H
#define MILTERD_NOTIFY_H

/* Take NOTIFY_SOCKET and the watchdog's variables out of the environment, so that children do not have them. Before
 * privileges are dropped. */
void notify_init(void);
/* Feed the watchdog from the loop from now on, if there is one: a loop that stands still is noticed. */
void notify_start_watchdog(void);
/* "READY=1", "STOPPING=1", "STATUS=...". */
void notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));
void notify_fini(void);

#endif
