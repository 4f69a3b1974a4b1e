#include "config.h"

#include "session/next_hop_probe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "session/next_hop_conn.h"
#include "session/next_hop_known.h"

#define AGAIN_MS 60000
#define QUIT	 "QUIT\r\n"

struct probe {
	const struct conf_listener *listener;
	size_t hop;
	const char *helo_name;
	struct next_hop_conn *conn;
	struct timer again;
	struct probe *next;
};

static struct probe *probes;

static void end_connection(struct probe *p)
{
	next_hop_conn_free(p->conn);
	p->conn = NULL;
}

static void on_ready(void *ctx)
{
	struct probe *p = ctx;

	next_hop_known_set(p->listener, p->hop, next_hop_conn_offers(p->conn));
	next_hop_conn_send(p->conn, QUIT, strlen(QUIT), 1, p->listener->timeout_next_hop);
}

/* To QUIT. */
static void on_reply(void *ctx, int code, const char *reply, bool owed)
{
	(void)code;
	(void)reply;
	(void)owed;
	end_connection(ctx);
}

static void on_writable(void *ctx)
{
	(void)ctx;
	assert(!"a probe writes no content");
}

static void on_lost(void *ctx, const char *why)
{
	struct probe *p = ctx;
	struct buf name = { 0 };

	end_connection(p);
	if (next_hop_known_has(p->listener, p->hop))
		return;
	addr_print(&name, &p->listener->next_hop.item[p->hop].addr);
	log_notice("event=next-hop-unknown listener=%s next-hop=%.*s reason=\"%s\"", p->listener->name, (int)buf_len(&name),
		   (const char *)buf_head(&name), why);
	buf_fini(&name);
	timer_set(&p->again, AGAIN_MS);
}

static void ask(struct probe *p)
{
	static const struct next_hop_conn_ops ops = {
		.on_ready = on_ready, .on_reply = on_reply, .on_writable = on_writable, .on_lost = on_lost,
	};

	p->conn = next_hop_conn_open(&p->listener->next_hop.item[p->hop].addr, p->helo_name, p->listener->timeout_next_hop,
				     &ops, p);
}

static void on_again(struct timer *t)
{
	struct probe *p = t->ctx;

	if (!next_hop_known_has(p->listener, p->hop))
		ask(p);
}

static void start(const struct conf_listener *listener, size_t hop, const char *helo_name)
{
	struct probe *p = mem_alloc(sizeof(*p));

	p->listener = listener;
	p->hop = hop;
	p->helo_name = helo_name;
	timer_init(&p->again, on_again, p);
	LL_PREPEND(probes, p);
	ask(p);
}

void next_hop_probe_start(const struct conf *conf, const char *helo_name)
{
	for (size_t i = 0; i < conf->listener_count; i++) {
		const struct conf_next_hops *hops = &conf->listener[i].next_hop;

		for (size_t hop = 0; hop < hops->count; hop++)
			if (hops->item[hop].scheme == CONF_SCHEME_SMTP)
				start(&conf->listener[i], hop, helo_name);
	}
}

void next_hop_probe_fini(void)
{
	struct probe *p, *next;

	LL_FOREACH_SAFE(probes, p, next) {
		end_connection(p);
		timer_fini(&p->again);
		free(p);
	}
	probes = NULL;
}
