#include "config.h"

#include "session/client_name.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/loop.h"
#include "common/mem.h"
#include "common/resolver.h"

#define NAME_MAX_BYTES 255u	/* RFC 1035 2.3.4 */
#define TRY_MS	       700	/* two tries fit into CLIENT_NAME_MS */
#define TRIES	       2
#define CLASS_IN       1	/* RFC 1035 3.2 */
#define TYPE_PTR       12
#define REVERSE_NAME_SIZE 80	/* 32 hexadecimal digits with dots, and "ip6.arpa" */

struct client_name_query {
	client_name_fn *fn;	/* NULL: answered or cancelled, only c-ares is still waited for */
	void *ctx;
	int family;
	unsigned char address[sizeof(struct in6_addr)];
	char *ptr;
	enum client_name_result result;
	bool asked;		/* c-ares owes a callback */
	struct timer limit;
	struct deferred answer;
};

/* c-ares forgets why an address has no name when it looks into /etc/hosts and DNS in one question: so ask twice. */
static struct resolver *hosts, *dns;

const char *client_name_result_text(enum client_name_result result)
{
	static const char *const text[] = {
		[CLIENT_NAME_UNASKED] = "", [CLIENT_NAME_OK] = "OK", [CLIENT_NAME_FAIL] = "FAIL",
		[CLIENT_NAME_FORGED] = "FORGED", [CLIENT_NAME_TEMP] = "TEMP",
	};

	return text[result];
}

void client_name_init(const char *servers)
{
	const struct resolver_options files = { .lookups = "f" };
	const struct resolver_options network = {
		.lookups = "fb", .try_ms = TRY_MS, .tries = TRIES, .servers = servers,
	};

	hosts = resolver_new(&files);
	dns = resolver_new(&network);
}

void client_name_fini(void)
{
	resolver_free(hosts);
	resolver_free(dns);
	hosts = dns = NULL;
}

static void free_when_done(struct client_name_query *q)
{
	if (q->fn || q->asked)
		return;
	free(q->ptr);
	free(q);
}

/* Nobody waits any more; c-ares may. */
static void leave(struct client_name_query *q)
{
	q->fn = NULL;
	timer_fini(&q->limit);
	deferred_cancel(&q->answer);
	free_when_done(q);
}

static void on_answer(struct deferred *d)
{
	struct client_name_query *q = d->ctx;
	bool has_name = q->result == CLIENT_NAME_OK || q->result == CLIENT_NAME_FORGED;

	q->fn(q->ctx, q->result, has_name ? q->ptr : NULL);
	leave(q);
}

static void decide(struct client_name_query *q, enum client_name_result result)
{
	if (!q->fn)
		return;
	q->result = result;
	deferred_run(&q->answer);
}

static void on_limit(struct timer *t)
{
	decide(t->ctx, CLIENT_NAME_TEMP);
}

/* There is certainly nothing there; anything else may be better next time. */
static bool is_final(int status)
{
	return status == ARES_ENOTFOUND || status == ARES_ENODATA;
}

/* Letters, digits, hyphens and dots, as in a host name, and underscores, which exist; and no address. */
static bool is_host_name(const char *name)
{
	static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
	size_t len = strlen(name);
	unsigned char scrap[sizeof(struct in6_addr)];

	return len > 0 && len <= NAME_MAX_BYTES && strspn(name, legal) == len && name[0] != '.' && name[0] != '-' &&
	       inet_pton(AF_INET, name, scrap) != 1;
}

static bool points_back(const struct client_name_query *q, const struct ares_addrinfo *result)
{
	for (const struct ares_addrinfo_node *n = result->nodes; n; n = n->ai_next) {
		const void *address = n->ai_family == AF_INET ? (const void *)&((struct sockaddr_in *)n->ai_addr)->sin_addr :
				      (const void *)&((struct sockaddr_in6 *)n->ai_addr)->sin6_addr;

		if (n->ai_family == q->family && memcmp(address, q->address, q->family == AF_INET ? 4 : 16) == 0)
			return true;
	}
	return false;
}

static void on_addresses(void *ctx, int status, int timeouts, struct ares_addrinfo *result)
{
	struct client_name_query *q = ctx;

	(void)timeouts;
	q->asked = false;
	if (status == ARES_SUCCESS)
		decide(q, points_back(q, result) ? CLIENT_NAME_OK : CLIENT_NAME_FORGED);
	else
		decide(q, is_final(status) ? CLIENT_NAME_FORGED : CLIENT_NAME_TEMP);
	if (result)
		ares_freeaddrinfo(result);
	free_when_done(q);
}

/* The address points to this name: does the name point back? */
static void check_name(struct client_name_query *q, const struct hostent *host)
{
	const struct ares_addrinfo_hints hints = { .ai_family = q->family, .ai_socktype = SOCK_STREAM };

	if (!host->h_name || !is_host_name(host->h_name)) {
		decide(q, CLIENT_NAME_FAIL);
		return;
	}
	q->ptr = mem_strdup(host->h_name);
	q->asked = true;
	ares_getaddrinfo(resolver_channel(dns), q->ptr, NULL, &hints, on_addresses, q);
	resolver_asked(dns);
}

static void on_pointer(void *ctx, int status, int timeouts, unsigned char *packet, int len)
{
	struct client_name_query *q = ctx;
	size_t address_len = q->family == AF_INET ? 4 : 16;
	struct hostent *host = NULL;

	(void)timeouts;
	q->asked = false;
	if (!q->fn || status == ARES_EDESTRUCTION) {
		free_when_done(q);
		return;
	}
	if (status == ARES_SUCCESS)
		status = ares_parse_ptr_reply(packet, len, q->address, (int)address_len, q->family, &host);
	if (status == ARES_SUCCESS)
		check_name(q, host);
	else
		decide(q, is_final(status) ? CLIENT_NAME_FAIL : CLIENT_NAME_TEMP);
	if (host)
		ares_free_hostent(host);
}

/* RFC 1035 3.5, RFC 3596 2.5. */
static void reverse_name(const struct client_name_query *q, char *name)
{
	const unsigned char *a = q->address;

	if (q->family == AF_INET) {
		sprintf(name, "%u.%u.%u.%u.in-addr.arpa", a[3], a[2], a[1], a[0]);
		return;
	}
	for (int i = 15; i >= 0; i--)
		name += sprintf(name, "%x.%x.", a[i] & 15u, a[i] >> 4);
	strcpy(name, "ip6.arpa");
}

/* /etc/hosts has spoken, from inside the question. */
static void on_file(void *ctx, int status, int timeouts, struct hostent *host)
{
	struct client_name_query *q = ctx;
	char name[REVERSE_NAME_SIZE];

	(void)timeouts;
	if (status == ARES_SUCCESS) {
		check_name(q, host);
		return;
	}
	reverse_name(q, name);
	q->asked = true;
	ares_query(resolver_channel(dns), name, CLASS_IN, TYPE_PTR, on_pointer, q);
	resolver_asked(dns);
}

struct client_name_query *client_name_start(const char *address, client_name_fn *fn, void *ctx)
{
	struct client_name_query *q = mem_alloc(sizeof(*q));
	bool known;

	q->fn = fn;
	q->ctx = ctx;
	q->family = strchr(address, ':') ? AF_INET6 : AF_INET;
	timer_init(&q->limit, on_limit, q);
	deferred_init(&q->answer, on_answer, q);
	known = inet_pton(q->family, address, q->address) == 1;
	if (!known || !hosts || !dns) {
		decide(q, CLIENT_NAME_TEMP);
		return q;
	}
	timer_set(&q->limit, CLIENT_NAME_MS);
	ares_gethostbyaddr(resolver_channel(hosts), q->address, q->family == AF_INET ? 4 : 16, q->family, on_file, q);
	return q;
}

void client_name_cancel(struct client_name_query *q)
{
	if (q)
		leave(q);
}
