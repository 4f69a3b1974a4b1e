#include "config.h"

#include "common/conf_check.h"

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

/* An earlier listener, or an earlier option of the same, has the endpoint: whose section that is, or NULL. */
static const struct conf_section *bound_before(const struct check *c, size_t number, const struct addr *endpoint)
{
	for (size_t i = 0; i < number; i++)
		for (size_t j = 0; j < c->conf->listener[i].bind.count; j++)
			if (addr_same(&c->conf->listener[i].bind.item[j], endpoint))
				return c->listener[i];
	return NULL;
}

static void check_binds(const struct check *c, size_t number)
{
	const struct conf_listener *l = &c->conf->listener[number];
	const struct conf_section *s = c->listener[number], *other;

	if (!l->bind.count)
		missing(c, s, "bind");
	for (size_t i = 0; i < l->bind.count; i++) {
		other = bound_before(c, number, &l->bind.item[i]);
		if (!other)
			continue;
		struct buf text = { 0 };
		const struct conf_place *place = conf_section_place(other, "bind");

		addr_print(&text, &l->bind.item[i]);
		ERROR(s, "bind", "\"%.*s\" is bound by %s already, at %s:%u", (int)buf_len(&text),
			(char *)buf_head(&text), other->title, place->file, place->line);
		buf_fini(&text);
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
		if (!l->chain_count)
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
	if (l->protocol == CONF_PROTOCOL_SMTP && !l->next_hop.count)
		missing(c, s, "next-hop");
	if (l->max_message_size > c->conf->milterd.buffer_memory)
		WARNING(s, "max-message-size", "is more than buffer-memory of [milterd]: a message of that size is never "
			"taken");
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

void conf_check(struct conf *conf, struct conf_section *const *section, struct conf_problems *problems)
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
	if (!conf->listener_count)
		conf_error(problems, &start, NULL, NULL, "there is no [listener NAME]: at least one is needed");
}
