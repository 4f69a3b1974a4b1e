/* next_hop_probe.h - ask the next hops what they offer before the first client needs to know: EHLO and QUIT
 *
 * Once at the start; a next hop that cannot be asked then is asked again every minute, until it is known from whatever
 * connection. Afterwards the sessions' own connections keep what is known up to date.
 */
#ifndef MILTERD_NEXT_HOP_PROBE_H
#define MILTERD_NEXT_HOP_PROBE_H

#include "common/conf.h"

/* The strings must live until next_hop_probe_fini(). */
void next_hop_probe_start(const struct conf *, const char *helo_name);
void next_hop_probe_fini(void);

#endif
