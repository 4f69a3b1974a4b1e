#include "config.h"

#include <string.h>
#include <sys/utsname.h>

#include "common/child.h"
#include "session/client_name.h"
#include "session/dispatch.h"
#include "session/next_hop_known.h"
#include "session/next_hop_probe.h"
#include "session/smtp_front.h"
#include "session/test_front.h"

#define CONTENT_SPARE (64u * 1024)	/* room a read wants behind the largest message */

static struct utsname machine;

static const char *own_name(const struct conf *conf)
{
	if (strcmp(conf->milterd.hostname, "auto") != 0)
		return conf->milterd.hostname;
	return uname(&machine) == 0 ? machine.nodename : "localhost";
}

static size_t largest_message(const struct conf *conf)
{
	int64_t largest = 0;

	for (size_t i = 0; i < conf->listener_count; i++)
		if (conf->listener[i].max_message_size > largest)
			largest = conf->listener[i].max_message_size;
	return (size_t)largest + CONTENT_SPARE < MSGBUF_LIMIT ? (size_t)largest + CONTENT_SPARE : MSGBUF_LIMIT;
}

static const struct conf *conf;

static void on_spool(int folder)
{
	msgbuf_pool_spool(dispatch_content(), folder, (size_t)conf->milterd.spool_above);
}

static void on_start(void)
{
	next_hop_probe_start(conf, own_name(conf));
	smtp_front_start();
}

static void on_drain(void)
{
	next_hop_probe_fini();
	smtp_front_drain(child_leave);
}

int main(int argc, char **argv)
{
	static const struct child_ops ops = {
		.on_listener = smtp_front_add_listener, .on_spool = on_spool, .on_peer = dispatch_worker,
		.on_start = on_start, .on_drain = on_drain, .on_test = test_front_add,
	};
	int status;

	conf = child_begin("session", argc, argv, &ops);
	dispatch_init(conf, largest_message(conf), (size_t)(conf->milterd.buffer_memory / conf->milterd.sessions));
	client_name_init(NULL);
	smtp_front_init(conf, own_name(conf));
	test_front_init(conf, own_name(conf));
	status = child_run();
	test_front_fini();
	next_hop_probe_fini();
	smtp_front_fini();
	client_name_fini();
	next_hop_known_fini();
	return status;
}
