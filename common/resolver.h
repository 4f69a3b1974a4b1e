/* resolver.h - a c-ares channel on our loop: the base of what asks name servers
 */
#ifndef MILTERD_RESOLVER_H
#define MILTERD_RESOLVER_H

#include <ares.h>
#include <stdbool.h>

struct resolver;

struct resolver_options {
	const char *lookups;	/* "f": /etc/hosts, "b": DNS, in the order of the letters */
	bool search;		/* try the machine's search domains, as for names that its administrator has written */
	int try_ms, tries;	/* the first wait for an answer of a server, doubled at each further try */
	const char *servers;	/* "ADDRESS:PORT,..." instead of those of the machine (for tests), or NULL */
};

/* NULL, with a log line, when c-ares cannot be started. */
struct resolver *resolver_new(const struct resolver_options *);
/* Callbacks of open questions come from in here, with ARES_EDESTRUCTION. NULL is fine. */
void resolver_free(struct resolver *);
/* For the questions of ares.h; call resolver_asked() after each. */
ares_channel resolver_channel(struct resolver *);
void resolver_asked(struct resolver *);

#endif
