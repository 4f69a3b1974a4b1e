/* The worker process: it owns the connections to the milters and takes the sessions of all session processes through
 * their chains. */
#include "config.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/child.h"
#include "common/log.h"
#include "common/mem.h"
#include "worker/link.h"

#define BODY_MORE (2 * 1024 * 1024)	/* bytes a replaced body may be larger than the largest message */

static struct job_shared shared;
static struct links *links;
static bool draining;

static unsigned worker_count(const struct conf *conf)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (conf->milterd.workers)
		return (unsigned)conf->milterd.workers;
	return cores < 1 ? 1 : (unsigned)cores;
}

static void make_pools(const struct conf *conf, unsigned workers)
{
	shared.pool = mem_array(conf->milter_count, sizeof(*shared.pool));
	for (size_t i = 0; i < conf->milter_count; i++) {
		const struct conf_milter *milter = &conf->milter[i];
		size_t max = pool_share(milter->pool_max, child_slot() % workers, workers);

		shared.pool[i] = pool_new(milter, pool_share(milter->pool_min, child_slot() % workers, workers),
					  max ? max : 1);
		pool_report_to(shared.pool[i], &child_stats()->milter[i]);
	}
}

static void make_bodies(const struct conf *conf, unsigned workers)
{
	size_t largest = 0;

	for (size_t i = 0; i < conf->listener_count; i++)
		if ((size_t)conf->listener[i].max_message_size > largest)
			largest = (size_t)conf->listener[i].max_message_size;
	largest = largest < MSGBUF_LIMIT - BODY_MORE ? largest + BODY_MORE : MSGBUF_LIMIT;
	shared.bodies = msgbuf_pool_new(largest, (size_t)conf->milterd.buffer_memory / workers);
}

static void leave_when_idle(void)
{
	if (draining && !links_count(links))
		child_leave();
}

static void on_peer(unsigned slot, int fd)
{
	links_add(links, slot, fd);
}

static void on_spool(int folder)
{
	msgbuf_pool_spool(shared.bodies, folder, (size_t)shared.conf->milterd.spool_above);
}

static void on_start(void)
{
}

static void on_drain(void)
{
	draining = true;
	for (size_t i = 0; i < shared.conf->milter_count; i++)
		pool_drain(shared.pool[i]);
	leave_when_idle();
}

static void fini(void)
{
	links_free(links);
	for (size_t i = 0; i < shared.conf->milter_count; i++)
		pool_free(shared.pool[i]);
	free(shared.pool);
	msgbuf_pool_free(shared.bodies);
	arena_fini(&shared.scratch);
	buf_fini(&shared.edits);
}

int main(int argc, char **argv)
{
	static const struct child_ops ops = {
		.on_spool = on_spool, .on_peer = on_peer, .on_start = on_start, .on_drain = on_drain,
	};
	const struct conf *conf = child_begin("worker", argc, argv, &ops);
	unsigned workers = worker_count(conf);
	int status;

	shared.conf = conf;
	make_bodies(conf, workers);
	make_pools(conf, workers);
	links = links_new(&shared, child_worked, leave_when_idle);
	status = child_run();
	fini();
	return status;
}
