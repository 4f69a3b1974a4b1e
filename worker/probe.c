#include "config.h"

#include "worker/probe.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/addr.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/dial.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/milter_names.h"
#include "worker/access.h"
#include "worker/backend.h"

struct probe {
	const struct conf_milter *conf;
	const struct addr *endpoint;
	probe_fn *fn;
	void *ctx;
	struct backend *backend;
	json_t *result;
	int64_t started_ms;
};

static json_t *text_of(struct buf *b)
{
	json_t *text;

	buf_append(b, "", 1);
	text = json_text((const char *)buf_head(b));
	buf_fini(b);
	return text;
}

static void set_text(struct probe *p, const char *key, struct buf *b)
{
	json_object_set_new(p->result, key, text_of(b));
}

static void finish(struct probe *p, bool ok)
{
	json_object_set_new(p->result, "ok", json_boolean(ok));
	p->fn(p->ctx, p->result);
	free(p);
}

static void fail(struct probe *p, const char *why)
{
	struct buf advice = { 0 };

	json_object_set_new(p->result, "error", json_text(why));
	if (p->endpoint->path && access_explain(&advice, p->endpoint->path))
		set_text(p, "advice", &advice);
	buf_fini(&advice);
	finish(p, false);
}

static void on_negotiated(void *ctx)
{
	struct probe *p = ctx;
	const struct backend_options *options = backend_options(p->backend);
	struct buf actions = { 0 }, steps = { 0 };
	json_t *macros = json_object();

	milter_actions_print(&actions, options->actions);
	milter_protocol_print(&steps, options->protocol);
	for (enum milter_stage stage = 0; stage < MILTER_STAGE_COUNT; stage++)
		if (options->macros[stage])
			json_object_set_new(macros, milter_stage_name(stage), json_text(options->macros[stage]));
	json_object_set_new(p->result, "version", json_integer(options->version));
	set_text(p, "actions", &actions);
	set_text(p, "steps", &steps);
	json_object_set_new(p->result, "macros", macros);
	json_object_set_new(p->result, "ms", json_integer(clock_now_ms() - p->started_ms));
	backend_quit(p->backend);
	finish(p, true);
}

static void on_lost(void *ctx, enum backend_loss loss, const char *why)
{
	struct probe *p = ctx;
	char *kept = mem_strdup(why);

	(void)loss;
	backend_free(p->backend);
	fail(p, kept);
	free(kept);
}

/* Nothing but the negotiation takes place. */
static void on_answer(void *ctx, const struct backend_answer *answer)
{
	(void)ctx, (void)answer;
	assert(!"an answer to a probe");
}

static int on_edit(void *ctx, const struct milter_reply *reply, const char **why)
{
	(void)ctx, (void)reply, (void)why;
	return -1;
}

static void on_eom(void *ctx)
{
	(void)ctx;
}

/* The one of its addresses that answered. */
static void note_address(struct probe *p, int fd)
{
	struct addr_socket peer = { .len = sizeof(peer.storage) };
	char text[ADDR_TEXT_SIZE];
	uint16_t port;

	if (getpeername(fd, (struct sockaddr *)&peer.storage, &peer.len) < 0)
		return;
	addr_socket_text(&peer, text, &port);
	json_object_set_new(p->result, "address", json_text(p->endpoint->path ? p->endpoint->path : text));
}

static void on_dialed(void *ctx, int fd, const char *why)
{
	static const struct backend_ops ops = {
		.on_negotiated = on_negotiated, .on_answer = on_answer, .on_edit = on_edit, .on_eom = on_eom,
		.on_lost = on_lost,
	};
	static const char *const macros[MILTER_STAGE_COUNT] = { "", "", "", "", "", "", "" };
	struct probe *p = ctx;
	int64_t left = p->started_ms + p->conf->timeout_connect - clock_now_ms();

	if (fd < 0) {
		fail(p, why);
		return;
	}
	note_address(p, fd);
	p->backend = backend_new(fd, p->conf, macros, &ops, p);
	backend_negotiate(p->backend, left > 1 ? left : 1);
}

void probe_start(const struct conf_milter *conf, unsigned endpoint, probe_fn *fn, void *ctx)
{
	struct probe *p = mem_alloc(sizeof(*p));
	struct buf name = { 0 };

	*p = (struct probe){
		.conf = conf, .endpoint = &conf->endpoints.item[endpoint], .fn = fn, .ctx = ctx,
		.result = json_object(), .started_ms = clock_now_ms(),
	};
	addr_print(&name, p->endpoint);
	json_object_set_new(p->result, "milter", json_text(conf->name));
	set_text(p, "endpoint", &name);
	dial_start(p->endpoint, conf->timeout_connect, on_dialed, p);
}
