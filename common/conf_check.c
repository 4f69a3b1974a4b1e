#include "config.h"

#include "common/conf_check.h"

#include <netinet/in.h>
#include <string.h>

#include "common/mem.h"
#include "common/nearest.h"

#define RESPONSE_ROOM (1 << 20)	/* what a milter may send besides a body of the size of the message */

struct check {
	struct conf *conf;
	struct conf_section *const *listener, *const *milter;
	struct conf_problems *problems;
};

#define ERROR(section, key, ...) \
	conf_error(c->problems, conf_section_place(section, key), (section)->title, key, __VA_ARGS__)
#define WARNING(section, key, ...) \
	conf_warning(c->problems, conf_section_place(section, key), (section)->title, key, __VA_ARGS__)

static void missing(const struct check *c, const struct conf_section *s, const char *key)
{
	if (!conf_section_broken(s, key))
		ERROR(s, key, "is missing: %s", conf_option_find(s->kind, key)->help);
}

enum { IPV4 = 1, IPV6 = 2 };

/* The families that an endpoint's host may have. */
static unsigned families(const struct addr *a)
{
	struct addr_socket s;

	if (a->family == ADDR_INET)
		return IPV4;
	if (a->family == ADDR_INET6)
		return IPV6;
	if (!strcmp(a->host, "*") || !addr_numeric(a, &s))
		return IPV4 | IPV6;
	return s.storage.ss_family == AF_INET ? IPV4 : IPV6;
}

/* The families of which an endpoint takes every address, as "*" does. */
static unsigned takes_all(const struct addr *a)
{
	if (!strcmp(a->host, "*") || !strcmp(a->host, "0.0.0.0") || !strcmp(a->host, "::"))
		return families(a);
	return 0;
}

/* Whether the system would refuse the second one of them as in use. Names are not looked up, so not all is seen. */
static bool collide(const struct addr *a, const struct addr *b)
{
	if (addr_same(a, b))
		return true;
	if (a->family == ADDR_UNIX || b->family == ADDR_UNIX || a->port != b->port)
		return false;
	return (takes_all(a) && !(families(b) & ~takes_all(a))) || (takes_all(b) && !(families(a) & ~takes_all(b))) ||
		(takes_all(a) & takes_all(b));
}

/* What binds so that the endpoint cannot be bound: an earlier listener or an earlier endpoint of the same one. */
static const struct conf_section *bound_before(const struct check *c, size_t number, size_t endpoint,
	const struct addr **by)
{
	const struct addr *wanted = &c->conf->listener[number].bind.item[endpoint];

	for (size_t i = 0; i <= number; i++)
		for (size_t j = 0; j < (i < number ? c->conf->listener[i].bind.count : endpoint); j++)
			if (collide(&c->conf->listener[i].bind.item[j], wanted)) {
				*by = &c->conf->listener[i].bind.item[j];
				return c->listener[i];
			}
	return NULL;
}

static void check_binds(const struct check *c, size_t number)
{
	const struct conf_listener *l = &c->conf->listener[number];
	const struct conf_section *s = c->listener[number];

	if (!l->bind.count)
		missing(c, s, "bind");
	for (size_t i = 0; i < l->bind.count; i++) {
		const struct addr *by = NULL;
		const struct conf_section *other = bound_before(c, number, i, &by);

		if (!other)
			continue;
		struct buf text = { 0 }, taken = { 0 };
		const struct conf_place *place = conf_section_place(other, "bind");

		addr_print(&text, &l->bind.item[i]);
		addr_print(&taken, by);
		ERROR(s, "bind", "\"%.*s\" is taken by \"%.*s\" of %s, at %s:%u", (int)buf_len(&text),
			(char *)buf_head(&text), (int)buf_len(&taken), (char *)buf_head(&taken), other->title,
			place->file, place->line);
		buf_fini(&text);
		buf_fini(&taken);
	}
}

/* Whether a connection to the endpoint surely ends at the bound one: the same, or an address of this machine where all
 * are taken. */
static bool leads_to(const struct addr *to, const struct addr *bound)
{
	struct addr_socket s;

	if (addr_same(to, bound))
		return true;
	if (to->family == ADDR_UNIX || bound->family == ADDR_UNIX || to->port != bound->port || !takes_all(bound))
		return false;
	if (!addr_numeric(to, &s))
		return !strcmp(to->host, "localhost");
	return !strncmp(to->host, "127.", 4) ? takes_all(bound) & IPV4 : !strcmp(to->host, "::1") && takes_all(bound) & IPV6;
}

/* The number of the listener that a next hop is, or listener_count. */
static size_t listener_at(const struct conf *conf, const struct conf_next_hop *hop)
{
	size_t number = 0;

	for (; number < conf->listener_count && hop->scheme == CONF_SCHEME_SMTP; number++)
		for (size_t i = 0; i < conf->listener[number].bind.count; i++)
			if (leads_to(&hop->addr, &conf->listener[number].bind.item[i]))
				return number;
	return conf->listener_count;
}

/* Follow the first next hops: after as many steps as there are listeners it goes round for ever. */
static void check_loop(const struct check *c, size_t number)
{
	const struct conf_listener *l = &c->conf->listener[number];
	size_t at = number, first = c->conf->listener_count;

	for (size_t steps = 0; steps < c->conf->listener_count; steps++) {
		if (!c->conf->listener[at].next_hop.count)
			return;
		at = listener_at(c->conf, &c->conf->listener[at].next_hop.item[0]);
		if (at == c->conf->listener_count)
			return;
		if (steps == 0)
			first = at;
		if (at != number)
			continue;
		struct buf text = { 0 };

		addr_print(&text, &l->next_hop.item[0].addr);
		ERROR(c->listener[number], "next-hop", "\"smtp:%.*s\" is %s%s: mail would go round for ever",
			(int)buf_len(&text), (char *)buf_head(&text), first == number ? "this listener itself" :
			c->listener[first]->title, first == number ? "" : " of this file, which leads back here");
		buf_fini(&text);
		return;
	}
}

static void unknown_milter(const struct check *c, const struct conf_section *s, const char *name)
{
	struct nearest near = { .word = name };

	for (size_t i = 0; i < c->conf->milter_count; i++)
		nearest_offer(&near, c->conf->milter[i].name);
	if (near.best)
		ERROR(s, "milters", "there is no [milter %s]; did you mean \"%s\"?", name, near.best);
	else
		ERROR(s, "milters", "there is no [milter %s]", name);
}

static void add_to_chain(struct conf_listener *l, size_t milter)
{
	l->chain = mem_realloc(l->chain, (l->chain_count + 1) * sizeof(*l->chain));
	l->chain[l->chain_count++] = (unsigned)milter;
}

static void resolve_milters(const struct check *c, size_t number)
{
	struct conf_listener *l = &c->conf->listener[number];
	const struct conf_section *s = c->listener[number];

	if (conf_section_broken(s, "milters"))
		return;
	if (!l->milters.count) {
		for (size_t i = 0; i < c->conf->milter_count; i++)
			add_to_chain(l, i);
		if (!l->chain_count && !c->problems->errors)
			WARNING(s, "milters", "no milter is defined, so mail passes unfiltered; "
				"\"milters = none\" says that this is meant");
		return;
	}
	for (size_t i = 0; i < l->milters.count; i++) {
		const char *name = l->milters.item[i];
		size_t milter = 0;

		if (!strcmp(name, "none")) {
			if (l->milters.count > 1)
				ERROR(s, "milters", "\"none\" stands alone; here are names beside it");
			continue;
		}
		while (milter < c->conf->milter_count && strcmp(c->conf->milter[milter].name, name) != 0)
			milter++;
		if (milter < c->conf->milter_count)
			add_to_chain(l, milter);
		else
			unknown_milter(c, s, name);
	}
}

static void check_listener(const struct check *c, size_t number)
{
	const struct conf_listener *l = &c->conf->listener[number];
	const struct conf_section *s = c->listener[number];

	check_binds(c, number);
	check_loop(c, number);
	if (l->protocol == CONF_PROTOCOL_SMTP && !l->next_hop.count)
		missing(c, s, "next-hop");
	resolve_milters(c, number);
}

static void set_endpoints(const struct check *c, size_t number)
{
	struct conf_milter *m = &c->conf->milter[number];
	const struct conf_section *s = c->milter[number];

	if (*m->hostname && m->socket.count) {
		const struct conf_place *place = conf_section_place(s, "hostname");

		ERROR(s, "socket", "hostname is given too, at %s:%u; allowed: one of them", place->file, place->line);
	} else if (m->socket.count && !conf_option_is_default(CONF_MILTER, "port", m)) {
		ERROR(s, "port", "belongs to hostname; with socket the port is part of the endpoint");
	}
	if (m->socket.count) {
		m->endpoints.item = mem_array(m->socket.count, sizeof(*m->endpoints.item));
		for (size_t i = 0; i < m->socket.count; i++) {
			if (m->socket.item[i].host && !strcmp(m->socket.item[i].host, "*"))
				ERROR(s, "socket", "has no host to connect to: '*' is for bind");
			addr_copy(&m->endpoints.item[m->endpoints.count++], &m->socket.item[i]);
		}
	} else if (*m->hostname) {
		m->endpoints.item = mem_array(1, sizeof(*m->endpoints.item));
		m->endpoints.item[m->endpoints.count++] = (struct addr){
			.family = ADDR_ANY, .host = mem_strdup(m->hostname), .port = (uint16_t)m->port,
		};
	} else if (!conf_section_broken(s, "hostname") && !conf_section_broken(s, "socket")) {
		conf_error(c->problems, &s->place, s->title, NULL, "neither hostname nor socket is given");
	}
}

/* The number of listeners with this milter in their chain, and the largest message they let through. */
static unsigned users_of(const struct check *c, size_t milter, size_t *largest)
{
	unsigned users = 0;

	for (size_t i = 0; i < c->conf->listener_count; i++) {
		const struct conf_listener *l = &c->conf->listener[i];

		for (size_t j = 0; j < l->chain_count; j++) {
			if (l->chain[j] != milter)
				continue;
			if (!users++ || l->max_message_size > c->conf->listener[*largest].max_message_size)
				*largest = i;
		}
	}
	return users;
}

static void check_milter(const struct check *c, size_t number)
{
	const struct conf_milter *m = &c->conf->milter[number];
	const struct conf_section *s = c->milter[number];
	size_t largest = 0;

	set_endpoints(c, number);
	if (m->pool_min > m->pool_max)
		ERROR(s, "pool.min", "%lld is more than pool.max, which is %lld", (long long)m->pool_min,
			(long long)m->pool_max);
	if (!users_of(c, number, &largest)) {
		if (!c->problems->errors)
			conf_warning(c->problems, &s->place, s->title, NULL, "no listener uses this milter");
		return;
	}
	const struct conf_listener *l = &c->conf->listener[largest];

	/* The defaults are the same 50M, as people know them; that alone is no reason to complain. */
	if (m->max_response_size < l->max_message_size + RESPONSE_ROOM &&
	    !(conf_option_is_default(CONF_MILTER, "options.max-response-size", m) &&
	      conf_option_is_default(CONF_LISTENER, "max-message-size", l)))
		WARNING(s, "options.max-response-size", "a milter that replaces the body of a message as large as "
			"max-message-size of %s allows would fail; better: that and 1M more", c->listener[largest]->title);
}

void conf_check(struct conf *conf, struct conf_section *const *section, bool complete, struct conf_problems *problems)
{
	const struct check check = {
		.conf = conf, .problems = problems, .listener = section + 1,
		.milter = section + 1 + conf->listener_count,
	};
	const struct conf_place start = { .file = (*section)->place.file, .line = 1 };

	for (size_t i = 0; i < conf->listener_count; i++)
		check_listener(&check, i);
	for (size_t i = 0; i < conf->milter_count; i++)
		check_milter(&check, i);
	if (!conf->listener_count && complete)
		conf_error(problems, &start, NULL, NULL, "there is no [listener NAME]: at least one is needed");
}
