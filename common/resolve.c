/* Names come from the configuration, so there are few: a list is the cache, and a name is asked for once at a time
 * however many wait for it. Waiting requests get the answer, in this module, from a deferred call only. */
#include "config.h"

#include "common/resolve.h"

#include <ares.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utlist.h>

#include "common/loop.h"
#include "common/mem.h"
#include "common/resolver.h"

#define LIMIT_MS    10000
#define TRY_MS	    2000	/* the first answer of a server; c-ares doubles it */
#define TRIES	    3
#define KEEP_MIN_MS 1000
#define KEEP_MAX_MS 60000

struct name {
	char *host;
	int family;
	struct addr_socket address[RESOLVE_ADDRESSES_MAX];	/* without port */
	size_t count;
	int64_t expires;	/* loop_now_ms() */
	bool asked;		/* c-ares owes an answer */
	const char *why;	/* static */
	struct resolve *waiting;
	struct name *next;
};

struct resolve {
	resolve_fn *fn;
	void *ctx;
	struct name *name;	/* NULL for an endpoint without a name */
	struct addr_socket numeric;
	uint16_t port;
	bool late;
	struct deferred answer;
	struct timer limit;
	struct resolve *prev, *next;	/* in name->waiting */
};

static struct resolver *resolver;	/* NULL: c-ares could not be started */
static struct name *names;
static size_t open_count;	/* look-ups neither answered nor cancelled */

void resolve_init(void)
{
	static const struct resolver_options options = {
		.lookups = "fb", .search = true, .try_ms = TRY_MS, .tries = TRIES,
	};

	resolver = resolver_new(&options);
}

void resolve_fini(void)
{
	struct name *name, *next;

	assert(open_count == 0);
	resolver_free(resolver);
	resolver = NULL;
	LL_FOREACH_SAFE(names, name, next) {
		free(name->host);
		free(name);
	}
	names = NULL;
}

static void keep_addresses(struct name *name, const struct ares_addrinfo *result)
{
	int64_t keep_ms = KEEP_MAX_MS;

	name->count = 0;
	for (const struct ares_addrinfo_node *n = result->nodes; n && name->count < RESOLVE_ADDRESSES_MAX; n = n->ai_next) {
		struct addr_socket *to = &name->address[name->count];

		if ((n->ai_family != AF_INET && n->ai_family != AF_INET6) || n->ai_addrlen > sizeof(to->storage))
			continue;
		*to = (struct addr_socket){ .len = n->ai_addrlen };
		memcpy(&to->storage, n->ai_addr, n->ai_addrlen);
		name->count++;
		if ((int64_t)n->ai_ttl * 1000 < keep_ms)
			keep_ms = (int64_t)n->ai_ttl * 1000;
	}
	name->expires = loop_now_ms() + (keep_ms > KEEP_MIN_MS ? keep_ms : KEEP_MIN_MS);
}

/* May be called from inside ares_getaddrinfo(), and is from ares_destroy(). */
static void on_result(void *ctx, int status, int timeouts, struct ares_addrinfo *result)
{
	struct name *name = ctx;
	struct resolve *r;

	(void)timeouts;
	if (status == ARES_EDESTRUCTION)
		return;
	name->asked = false;
	name->count = 0;
	name->why = "the name has no address";
	if (status == ARES_SUCCESS)
		keep_addresses(name, result);
	else
		name->why = ares_strerror(status);
	if (result)
		ares_freeaddrinfo(result);
	DL_FOREACH(name->waiting, r)
		deferred_run(&r->answer);
}

static struct name *find_name(const char *host, int family)
{
	struct name *name;

	LL_FOREACH(names, name) {
		if (name->family == family && strcasecmp(name->host, host) == 0)
			return name;
	}
	name = mem_alloc(sizeof(*name));
	name->host = mem_strdup(host);
	name->family = family;
	LL_PREPEND(names, name);
	return name;
}

static void ask(struct name *name)
{
	struct ares_addrinfo_hints hints = { .ai_family = name->family, .ai_socktype = SOCK_STREAM };

	name->asked = true;
	ares_getaddrinfo(resolver_channel(resolver), name->host, NULL, &hints, on_result, name);
	resolver_asked(resolver);
}

static void release(struct resolve *r)
{
	if (r->name)
		DL_DELETE(r->name->waiting, r);
	timer_fini(&r->limit);
	deferred_cancel(&r->answer);
	open_count--;
	free(r);
}

static void set_port(struct addr_socket *address, uint16_t port)
{
	if (address->storage.ss_family == AF_INET)
		((struct sockaddr_in *)&address->storage)->sin_port = htons(port);
	else
		((struct sockaddr_in6 *)&address->storage)->sin6_port = htons(port);
}

static void on_answer(struct deferred *later)
{
	struct resolve *r = later->ctx;
	struct addr_socket address[RESOLVE_ADDRESSES_MAX];
	resolve_fn *fn = r->fn;
	void *ctx = r->ctx;
	const char *why = "no answer from a name server in time";
	size_t count = 0;

	if (!r->name) {
		address[0] = r->numeric;
		count = 1;
	} else if (!r->late) {
		why = r->name->why;
		for (; count < r->name->count; count++) {
			address[count] = r->name->address[count];
			set_port(&address[count], r->port);
		}
	}
	release(r);
	fn(ctx, address, count, count ? NULL : why);
}

static void on_limit(struct timer *t)
{
	struct resolve *r = t->ctx;

	r->late = true;
	deferred_run(&r->answer);
}

static int family_of(const struct addr *addr)
{
	switch (addr->family) {
	case ADDR_INET:
		return AF_INET;
	case ADDR_INET6:
		return AF_INET6;
	default:
		return AF_UNSPEC;
	}
}

struct resolve *resolve_start(const struct addr *addr, resolve_fn *fn, void *ctx)
{
	struct resolve *r = mem_alloc(sizeof(*r));

	r->fn = fn;
	r->ctx = ctx;
	r->port = addr->port;
	deferred_init(&r->answer, on_answer, r);
	timer_init(&r->limit, on_limit, r);
	open_count++;
	if (addr_numeric(addr, &r->numeric)) {
		deferred_run(&r->answer);
		return r;
	}
	r->name = find_name(addr->host, family_of(addr));
	DL_APPEND(r->name->waiting, r);
	if (!resolver) {
		r->name->why = "the resolver could not be started";
		deferred_run(&r->answer);
	} else if (r->name->count && loop_now_ms() < r->name->expires) {
		deferred_run(&r->answer);
	} else {
		timer_set(&r->limit, LIMIT_MS);
		if (!r->name->asked)
			ask(r->name);
	}
	return r;
}

void resolve_cancel(struct resolve *r)
{
	if (r)
		release(r);
}
