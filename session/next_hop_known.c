#include "config.h"

#include "session/next_hop_known.h"

#include <stdlib.h>

#include <utlist.h>

#include "common/mem.h"

struct known {
	const struct conf_listener *listener;
	size_t hop;
	struct smtp_offers offers;
	struct known *next;
};

static struct known *all;

static struct known *find(const struct conf_listener *listener, size_t hop)
{
	struct known *k;

	LL_FOREACH(all, k)
		if (k->listener == listener && k->hop == hop)
			return k;
	return NULL;
}

void next_hop_known_set(const struct conf_listener *listener, size_t hop, const struct smtp_offers *offers)
{
	struct known *k = find(listener, hop);

	if (!k) {
		k = mem_alloc(sizeof(*k));
		k->listener = listener;
		k->hop = hop;
		LL_PREPEND(all, k);
	}
	k->offers = *offers;
}

bool next_hop_known_has(const struct conf_listener *listener, size_t hop)
{
	return find(listener, hop);
}

struct smtp_offers next_hop_known_offers(const struct conf_listener *listener)
{
	struct smtp_offers common = { .extensions = SMTP_EXTENSIONS_ALL };
	bool any = listener->next_hop.item[0].scheme == CONF_SCHEME_DISCARD;
	const struct known *k;

	LL_FOREACH(all, k) {
		if (k->listener != listener)
			continue;
		any = true;
		common.extensions &= k->offers.extensions;
		if (k->offers.size_limit && (!common.size_limit || k->offers.size_limit < common.size_limit))
			common.size_limit = k->offers.size_limit;
	}
	if (!any)
		common.extensions = SMTP_EXTENSION_8BITMIME;
	return common;
}

void next_hop_known_fini(void)
{
	struct known *k, *next;

	LL_FOREACH_SAFE(all, k, next)
		free(k);
	all = NULL;
}
