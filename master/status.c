#include "config.h"

#include "master/status.h"

#include <stdbool.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/stats.h"
#include "master/supervisor.h"

static const char *const outcomes[STATS_OUTCOMES] = {
	[STATS_ACCEPTED] = "accepted", [STATS_REJECTED] = "rejected", [STATS_DEFERRED] = "deferred",
	[STATS_DISCARDED] = "discarded", [STATS_QUARANTINED] = "quarantined",
};

/* The connections of all workers to one milter. */
struct milter_sum {
	uint64_t busy, bound, spare, connecting, waiting, answers, failures;
	unsigned workers, up, down;
	uint64_t failed_us;
	char failure[STATS_TEXT_SIZE];
};

static int64_t started_ms;

void status_init(void)
{
	started_ms = clock_now_ms();
}

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static json_t *process_object(enum role role, unsigned slot, const struct supervisor_process *p)
{
	json_t *object = json_pack("{sssisssisIsI}", "role", role_name(role), "slot", (int)slot, "state", p->state,
				   "pid", (int)p->pid, "restarts", (json_int_t)(p->starts ? p->starts - 1 : 0),
				   "age_ms", (json_int_t)p->age_ms);

	if (role == ROLE_SESSION && p->stats) {
		json_object_set_new(object, "sessions", number(stats_get(&p->stats->session.sessions)));
		json_object_set_new(object, "sessions_total", number(stats_get(&p->stats->session.sessions_total)));
	}
	return object;
}

static json_t *processes(void)
{
	json_t *list = json_array();
	struct supervisor_process p;

	for (enum role role = 0; role < ROLE_COUNT; role++)
		for (unsigned slot = 0; supervisor_process(role, slot, &p); slot++)
			json_array_append_new(list, process_object(role, slot, &p));
	return list;
}

static json_t *messages(void)
{
	uint64_t sum[STATS_OUTCOMES] = { 0 };
	json_t *object = json_object();
	struct supervisor_process p;

	for (unsigned slot = 0; supervisor_process(ROLE_SESSION, slot, &p); slot++)
		for (int i = 0; p.stats && i < STATS_OUTCOMES; i++)
			sum[i] += stats_get(&p.stats->session.message[i]);
	for (int i = 0; i < STATS_OUTCOMES; i++)
		json_object_set_new(object, outcomes[i], number(sum[i]));
	return object;
}

static void add_worker(struct milter_sum *sum, const struct stats_milter *m)
{
	char text[STATS_TEXT_SIZE];
	uint64_t when = stats_failure_get(&m->failure, text), state = stats_get(&m->state);

	sum->busy += stats_get(&m->busy);
	sum->bound += stats_get(&m->bound);
	sum->spare += stats_get(&m->spare);
	sum->connecting += stats_get(&m->connecting);
	sum->waiting += stats_get(&m->waiting);
	sum->answers += stats_get(&m->answers);
	sum->failures += stats_get(&m->failures);
	sum->workers++;
	sum->up += state == STATS_UP;
	sum->down += state == STATS_DOWN;
	if (when > sum->failed_us) {
		sum->failed_us = when;
		for (size_t i = 0; i < sizeof(text); i++)
			sum->failure[i] = text[i];
	}
}

static json_t *milter_object(const struct conf_milter *conf, const struct milter_sum *sum)
{
	const char *state = sum->down ? sum->up ? "partly" : "down" : sum->up ? "up" : "unknown";
	json_t *object = json_pack("{soss}", "name", json_text(conf->name), "state", state);
	int64_t ago_us = clock_wall_us() - (int64_t)sum->failed_us;

	json_object_set_new(object, "busy", number(sum->busy));
	json_object_set_new(object, "bound", number(sum->bound));
	json_object_set_new(object, "spare", number(sum->spare));
	json_object_set_new(object, "connecting", number(sum->connecting));
	json_object_set_new(object, "waiting", number(sum->waiting));
	json_object_set_new(object, "answers", number(sum->answers));
	json_object_set_new(object, "failures", number(sum->failures));
	if (sum->failed_us) {
		json_object_set_new(object, "failure", json_text(sum->failure));
		json_object_set_new(object, "failure_age_ms", json_integer(ago_us > 0 ? ago_us / 1000 : 0));
	}
	return object;
}

static json_t *milters(const struct conf *conf)
{
	json_t *list = json_array();

	for (size_t i = 0; i < conf->milter_count; i++) {
		struct milter_sum sum = { 0 };
		struct supervisor_process p;

		for (unsigned slot = 0; supervisor_process(ROLE_WORKER, slot, &p); slot++)
			if (p.stats)
				add_worker(&sum, &p.stats->milter[i]);
		json_array_append_new(list, milter_object(&conf->milter[i], &sum));
	}
	return list;
}

json_t *status_make(const struct conf *conf)
{
	return json_pack("{sssssisIsososo}", "version", PACKAGE_VERSION, "state",
			 supervisor_is_stopping() ? "draining" : "running", "pid", (int)getpid(), "uptime_ms",
			 (json_int_t)(clock_now_ms() - started_ms), "processes", processes(), "messages", messages(),
			 "milters", milters(conf));
}
