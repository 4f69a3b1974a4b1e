#include "config.h"

#include "common/child.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/chan.h"
#include "common/fd.h"
#include "common/ipc.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/resolve.h"
#include "common/spoolfile.h"
#include "common/wire.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static struct {
	const struct child_ops *ops;
	struct conf *conf;
	struct stats_page *stats;
	struct chan *control;		/* NULL once the master is gone */
	struct timer orphaned;		/* nobody is left who would enforce drain-timeout */
	unsigned slot;
	bool has_spool;
	bool started, worked, draining, leaving;
} child;

struct stats_page *child_stats(void)
{
	static struct stats_page unread;

	return child.stats ? child.stats : &unread;
}

unsigned child_slot(void)
{
	return child.slot;
}

static void drain(void)
{
	if (child.draining)
		return;
	child.draining = true;
	log_info("event=draining");
	child.ops->on_drain();
}

static void on_terminate(int signo)
{
	(void)signo;
	drain();
}

static void on_orphaned_too_long(struct timer *t)
{
	(void)t;
	log_warning("event=drain-timeout cause=\"the master is gone and work is left\"");
	child.leaving = true;
	loop_stop();
}

static void on_control_closed(struct chan *control, void *ctx, const char *why)
{
	(void)ctx;
	log_error("event=master-gone cause=\"control channel: %s\"", why);
	chan_free(control);
	child.control = NULL;
	timer_set(&child.orphaned, child.conf->milterd.drain_timeout);
	drain();
}

/* What comes with a descriptor and names a slot. The descriptor is the callee's afterwards. */
static int take_descriptor(struct chan_record *r)
{
	struct ipc_slot slot;
	struct wire w;
	bool is_peer = r->type == IPC_PEER;

	wire_init(&w, r->data, r->len);
	ipc_slot_take(&w, &slot);
	if (!wire_finished(&w) || r->fd < 0 || slot.slot >= (is_peer ? CHILD_SLOTS_MAX : child.conf->listener_count))
		return -1;
	if (!is_peer && (child.started || !child.ops->on_listener))
		return -1;
	if (is_peer)
		child.ops->on_peer(slot.slot, r->fd);
	else
		child.ops->on_listener(slot.slot, r->fd);
	r->fd = -1;
	return 0;
}

/* The folder is tried at once, so that what is wrong with it is said before it is needed. */
static int take_spool(struct chan_record *r)
{
	struct ipc_slot slot;
	struct wire w;
	int file, reader;

	wire_init(&w, r->data, r->len);
	ipc_slot_take(&w, &slot);
	if (!wire_finished(&w) || r->fd < 0 || child.started || child.has_spool || !child.ops->on_spool)
		return -1;
	child.has_spool = true;
	file = spoolfile_create(r->fd, &reader);
	if (file < 0) {
		log_warning("event=no-spool cause=\"no file can be made in spool-directory: %s\"", strerror(errno));
		return 0;
	}
	fd_close(&file);
	fd_close(&reader);
	child.ops->on_spool(r->fd);
	r->fd = -1;
	return 0;
}

static int take_start(void)
{
	if (child.started)
		return -1;
	child.started = true;
	if (!child.draining)
		child.ops->on_start();
	return 0;
}

static int take_log_level(const struct chan_record *r)
{
	struct ipc_log_level record;
	struct wire w;

	wire_init(&w, r->data, r->len);
	ipc_log_level_take(&w, &record);
	if (!wire_finished(&w) || r->fd >= 0)
		return -1;
	log_set_level((enum log_level)record.level);
	return 0;
}

static int take_test(struct chan_record *r)
{
	if (r->len != 0 || r->fd < 0 || !child.ops->on_test)
		return -1;
	if (child.draining)
		return 0;
	child.ops->on_test(r->fd);
	r->fd = -1;
	return 0;
}

static int on_control(struct chan *control, void *ctx, struct chan_record *r)
{
	(void)control;
	(void)ctx;
	if (child.leaving)
		return 0;
	if (r->session != 0)
		return -1;
	if (r->type == IPC_LISTENER || r->type == IPC_PEER)
		return take_descriptor(r);
	if (r->type == IPC_SPOOL)
		return take_spool(r);
	if (r->type == IPC_TEST)
		return take_test(r);
	if (r->type == IPC_LOG_LEVEL)
		return take_log_level(r);
	if (r->len != 0 || r->fd >= 0)
		return -1;
	if (r->type == IPC_START)
		return take_start();
	if (r->type != IPC_DRAIN)
		return -1;
	drain();
	return 0;
}

/* A small decimal number and nothing else. */
static bool read_slot(const char *text, unsigned *slot)
{
	size_t len = strspn(text, "0123456789");

	if (len == 0 || len > 3 || text[len] != '\0')
		return false;
	*slot = (unsigned)strtoul(text, NULL, 10);
	return *slot < CHILD_SLOTS_MAX;
}

static bool is_control(int fd)
{
	int domain = 0, type = 0;
	socklen_t len = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

static bool is_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & SEALS) == SEALS;
}

__attribute__((noreturn)) static void refuse(int status, const char *cause)
{
	log_error("event=no-start cause=\"%s\"", cause);
	exit(status);
}

static struct conf *read_config(void)
{
	struct buf problems = { 0 };
	size_t len;
	char *text = fd_read_all(CHILD_FD_CONFIG, CONF_TEXT_MAX, &len);

	if (!text)
		refuse(EX_SOFTWARE, "the configuration on descriptor 4 cannot be read");
	close(CHILD_FD_CONFIG);

	struct conf *conf = conf_parse("effective configuration", text, len, &problems);

	free(text);
	if (!conf) {
		buf_append(&problems, "", 1);
		refuse(EX_CONFIG, (const char *)buf_head(&problems));
	}
	buf_fini(&problems);
	return conf;
}

static struct stats_page *map_stats(size_t milters)
{
	struct stats_page *page = stats_map_writable(CHILD_FD_STATS, milters);

	if (!page)
		refuse(EX_SOFTWARE, "descriptor 5 is no page of statistics");
	close(CHILD_FD_STATS);
	return page;
}

/* The kernel forgets the death signal when a process changes its user, which this one did before its exec. A master
 * that died before we asked for it shows as end of file on the control channel. */
static void tie_to_master(void)
{
	char byte;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
		refuse(EX_OSERR, "prctl failed");
	if (recv(CHILD_FD_CONTROL, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
		refuse(EX_UNAVAILABLE, "the master is gone");
}

const struct conf *child_begin(const char *role, int argc, char **argv, const struct child_ops *ops)
{
	static const int ignored[] = { SIGINT, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2 };
	char name[32];

	assert(ops->on_peer && ops->on_start && ops->on_drain);
	if (argc != 2 || !read_slot(argv[1], &child.slot) || !is_control(CHILD_FD_CONTROL) ||
	    !is_sealed(CHILD_FD_CONFIG))
		refuse(EX_USAGE, "this program is started by milterd and by nobody else");
	for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		signal(ignored[i], SIG_IGN);
	tie_to_master();
	child.ops = ops;
	child.conf = read_config();
	child.stats = map_stats(child.conf->milter_count);
	snprintf(name, sizeof(name), "%s %u", role, child.slot);
	log_init(name, child.conf->milterd.log, child.conf->milterd.log_level);
	loop_init();
	resolve_init();
	timer_init(&child.orphaned, on_orphaned_too_long, NULL);
	loop_on_signal(SIGTERM, on_terminate);
	child.control = chan_new(CHILD_FD_CONTROL, on_control, on_control_closed, NULL);
	return child.conf;
}

static void tell_master(enum ipc_type type)
{
	if (!child.control)
		return;
	chan_send(child.control, (uint16_t)type, 0, NULL, 0, -1);
	chan_flush(child.control);
}

int child_run(void)
{
	tell_master(IPC_READY);
	loop_run();
	timer_fini(&child.orphaned);
	chan_free(child.control);
	child.control = NULL;
	return EXIT_SUCCESS;
}

void child_worked(void)
{
	if (child.worked)
		return;
	child.worked = true;
	tell_master(IPC_WORKED);
}

void child_leave(void)
{
	if (child.leaving)
		return;
	child.leaving = true;
	tell_master(IPC_DRAINED);
	loop_stop();
}
