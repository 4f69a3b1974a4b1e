/* next_hop_known.h - what the next hops of this process offered when they were spoken to last
 *
 * Clients are offered what all next hops of their listener offer, and at once: the next hop is only connected for the
 * first recipient. So it is remembered here, from every connection that is made to one.
 */
#ifndef MILTERD_NEXT_HOP_KNOWN_H
#define MILTERD_NEXT_HOP_KNOWN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/conf.h"
#include "session/smtp_offers.h"

/* hop: its number in the listener's list. The listener must live until next_hop_known_fini(). */
void next_hop_known_set(const struct conf_listener *, size_t hop, const struct smtp_offers *);
bool next_hop_known_has(const struct conf_listener *, size_t hop);
/* The extensions and the size limit that hold for all of the listener's next hops that are known. As long as none is,
 * the extensions are those that practically all have; where messages are discarded they are all. */
struct smtp_offers next_hop_known_offers(const struct conf_listener *);
/* Forget everything. */
void next_hop_known_fini(void);

#endif
