#include "config.h"

#include "master/supervisor.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/chan.h"
#include "common/child.h"
#include "common/fd.h"
#include "common/ipc.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/stats.h"
#include "master/notify.h"
#include "master/restart.h"
#include "master/spawn.h"
#include "master/spool_folder.h"

#define READY_MS 10000	/* from start to READY */
#define LEAVE_MS 10000	/* from DRAINED to the end of the process */
#define CLOSED_MS 1000	/* from the end of the control channel without DRAINED to that of the process */

enum state { ABSENT, STARTING, RUNNING, DRAINING, GONE, STATES };

struct process {
	enum role role;
	unsigned slot;
	enum state state;
	pid_t pid;			/* 0: none */
	struct chan *control;		/* NULL: none, or it has closed */
	struct timer timer;		/* ABSENT: next start; STARTING: READY_MS; at the end: LEAVE_MS, CLOSED_MS */
	struct restart restart;
	int64_t started_ms;
	bool ready, worked, drained;	/* what it has reported */
	bool told_start;
	unsigned starts;
	const struct stats_page *stats;	/* NULL: none has been mapped, or it is dead */
};

static struct {
	const struct conf *conf;
	const struct privileges *privileges;
	struct listeners *listeners;	/* NULL: stopping */
	int config;
	struct process process[ROLE_COUNT][CHILD_SLOTS_MAX];
	unsigned slots[ROLE_COUNT];
	unsigned in_state[ROLE_COUNT][STATES];	/* processes; the sum is slots */
	struct timer drain_deadline;
	enum log_level log_level;	/* of children, when it has been changed */
	bool announced;			/* READY=1 is sent, once */
	bool stopping;
} sv;

static void start(struct process *);

static const char *name(const struct process *p)
{
	return role_name(p->role);
}

static void enter(struct process *p, enum state state)
{
	unsigned sum = 0;

	assert(sv.in_state[p->role][p->state] > 0);
	sv.in_state[p->role][p->state]--;
	sv.in_state[p->role][state]++;
	p->state = state;
	for (int i = 0; i < STATES; i++)
		sum += sv.in_state[p->role][i];
	assert(sum == sv.slots[p->role]);
}

/* May be sent records. */
static bool is_there(const struct process *p)
{
	return p->control && !p->drained && (p->state == STARTING || p->state == RUNNING || p->state == DRAINING);
}

static void send_bare(struct process *p, enum ipc_type type)
{
	if (!p->control)
		return;
	chan_send(p->control, (uint16_t)type, 0, NULL, 0, -1);
	chan_flush(p->control);
}

/* Flushed at once: the descriptors that wait in the channels of many processes would be more than we may have. */
static void send_slot(struct process *p, enum ipc_type type, uint32_t number, uint32_t extra, int fd)
{
	const struct ipc_slot slot = { .slot = number, .extra = extra };
	struct buf b = { 0 };

	ipc_slot_put(&b, &slot);
	chan_send(p->control, (uint16_t)type, 0, buf_head(&b), buf_len(&b), fd);
	chan_flush(p->control);
	buf_fini(&b);
}

static void send_log_level(struct process *p)
{
	const struct ipc_log_level level = { .level = sv.log_level };
	struct buf b = { 0 };

	if (!p->control)
		return;
	ipc_log_level_put(&b, &level);
	chan_send(p->control, IPC_LOG_LEVEL, 0, buf_head(&b), buf_len(&b), -1);
	chan_flush(p->control);
	buf_fini(&b);
}

static void kill_process(struct process *p, const char *cause)
{
	if (p->pid == 0)
		return;
	log_warning("event=child-kill role=%s slot=%u pid=%ld cause=\"%s\"", name(p), p->slot, (long)p->pid, cause);
	if (kill(p->pid, SIGKILL) < 0)
		log_error("event=child-kill role=%s slot=%u pid=%ld cause=\"kill: %s\"", name(p), p->slot,
			  (long)p->pid, strerror(errno));
}

static void drop_stats(struct process *p)
{
	int saved = errno;

	stats_unmap(p->stats, sv.conf->milter_count);
	p->stats = NULL;
	errno = saved;
}

/* Sessions begin to accept when somebody is there to judge. */
static void start_sessions(void)
{
	if (sv.in_state[ROLE_WORKER][RUNNING] == 0)
		return;
	for (unsigned i = 0; i < sv.slots[ROLE_SESSION]; i++) {
		struct process *p = &sv.process[ROLE_SESSION][i];

		if (p->state == RUNNING && !p->told_start) {
			p->told_start = true;
			send_bare(p, IPC_START);
		}
	}
}

static void tell_status(void)
{
	notify_send("STATUS=%u of %u session processes, %u of %u workers%s", sv.in_state[ROLE_SESSION][RUNNING],
		    sv.slots[ROLE_SESSION], sv.in_state[ROLE_WORKER][RUNNING], sv.slots[ROLE_WORKER],
		    sv.stopping ? ", stopping" : "");
	if (sv.announced || sv.stopping || sv.in_state[ROLE_SESSION][RUNNING] < sv.slots[ROLE_SESSION] ||
	    sv.in_state[ROLE_WORKER][RUNNING] < sv.slots[ROLE_WORKER])
		return;
	sv.announced = true;
	log_notice("event=ready sessions=%u workers=%u", sv.slots[ROLE_SESSION], sv.slots[ROLE_WORKER]);
	notify_send("READY=1");
}

static void take_ready(struct process *p)
{
	p->ready = true;
	timer_clear(&p->timer);
	if (p->state != STARTING)
		return;
	enter(p, RUNNING);
	if (p->role == ROLE_WORKER)
		send_bare(p, IPC_START);
	start_sessions();
	tell_status();
}

static void take_drained(struct process *p)
{
	p->drained = true;
	timer_set(&p->timer, LEAVE_MS);
}

/* A child says three things, each once and without data. One that says anything else is not to be trusted with mail. */
static int on_record(struct chan *control, void *ctx, struct chan_record *r)
{
	struct process *p = ctx;
	bool is_bare = r->session == 0 && r->len == 0 && r->fd < 0;

	(void)control;
	if (is_bare && r->type == IPC_READY && !p->ready) {
		take_ready(p);
	} else if (is_bare && r->type == IPC_WORKED && p->ready && !p->worked) {
		p->worked = true;
	} else if (is_bare && r->type == IPC_DRAINED && p->ready && !p->drained) {
		take_drained(p);
	} else {
		log_error("event=child-illegal role=%s slot=%u pid=%ld record=%u", name(p), p->slot, (long)p->pid, r->type);
		kill_process(p, "illegal report");
		return -1;
	}
	return 0;
}

/* The end of a process is seen here a moment before it can be reaped. */
static void on_control_closed(struct chan *control, void *ctx, const char *why)
{
	struct process *p = ctx;

	chan_free(control);
	p->control = NULL;
	if (p->pid == 0 || p->drained)
		return;
	log_info("event=child-closed role=%s slot=%u pid=%ld cause=\"control channel: %s\"", name(p), p->slot,
		 (long)p->pid, why);
	timer_set(&p->timer, CLOSED_MS);
}

static void on_timer(struct timer *t)
{
	struct process *p = t->ctx;

	if (p->state == ABSENT)
		start(p);
	else if (p->drained)
		kill_process(p, "it has drained and does not end");
	else if (!p->control)
		kill_process(p, "its control channel is closed and it does not end");
	else
		kill_process(p, "it was not ready in time");
}

/* Give each of two processes an end of a new channel between them. */
static int join(struct process *a, struct process *b)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	send_slot(a, IPC_PEER, b->slot, 0, pair[0]);
	send_slot(b, IPC_PEER, a->slot, 0, pair[1]);
	fd_close(&pair[0]);
	fd_close(&pair[1]);
	return 0;
}

static int join_all(struct process *p)
{
	enum role other = p->role == ROLE_SESSION ? ROLE_WORKER : ROLE_SESSION;

	for (unsigned i = 0; i < sv.slots[other]; i++)
		if (is_there(&sv.process[other][i]) && join(p, &sv.process[other][i]) < 0)
			return -1;
	return 0;
}

static void send_listeners(struct process *p)
{
	assert(sv.listeners);
	for (size_t i = 0; i < listeners_count(sv.listeners); i++) {
		unsigned listener, endpoint;
		int fd = listeners_get(sv.listeners, i, &listener, &endpoint);

		send_slot(p, IPC_LISTENER, listener, endpoint, fd);
	}
}

static void start_later(struct process *p, int64_t delay_ms)
{
	enter(p, ABSENT);
	timer_set(&p->timer, delay_ms);
}

/* Start its program with a page of its own. The process id, or -1 with errno. */
static pid_t spawn_with_stats(struct process *p, int *control)
{
	const struct account *account = p->role == ROLE_SESSION ? &sv.privileges->session : &sv.privileges->worker;
	int stats = stats_create(sv.conf->milter_count);
	pid_t pid = -1;

	if (stats >= 0)
		p->stats = stats_map(stats, sv.conf->milter_count);
	if (p->stats)
		pid = spawn_child(p->role, p->slot, sv.privileges->separate ? account : NULL, sv.config, stats, control);
	fd_close(&stats);
	if (pid < 0)
		drop_stats(p);
	return pid;
}

static void start(struct process *p)
{
	int control;
	pid_t pid = spawn_with_stats(p, &control);

	if (pid < 0) {
		int64_t delay_ms = restart_delay_ms(&p->restart, false, 0);

		log_error("event=no-start role=%s slot=%u restart-ms=%lld cause=\"%s\"", name(p), p->slot,
			  (long long)delay_ms, strerror(errno));
		start_later(p, delay_ms);
		return;
	}
	p->pid = pid;
	p->control = chan_new(control, on_record, on_control_closed, p);
	p->started_ms = loop_now_ms();
	p->starts++;
	p->ready = p->worked = p->drained = p->told_start = false;
	enter(p, STARTING);
	timer_set(&p->timer, READY_MS);
	log_info("event=child-started role=%s slot=%u pid=%ld", name(p), p->slot, (long)pid);
	if (spool_folder_get(p->role) >= 0)
		send_slot(p, IPC_SPOOL, 0, 0, spool_folder_get(p->role));
	if (sv.log_level != sv.conf->milterd.log_level)
		send_log_level(p);
	if (p->role == ROLE_SESSION)
		send_listeners(p);
	if (join_all(p) < 0)
		kill_process(p, strerror(errno));
}

static void drain_role(enum role role)
{
	for (unsigned i = 0; i < sv.slots[role]; i++) {
		struct process *p = &sv.process[role][i];

		if (p->state == ABSENT) {
			timer_clear(&p->timer);
			enter(p, GONE);
		} else if (p->state == STARTING || p->state == RUNNING) {
			send_bare(p, IPC_DRAIN);
			enter(p, DRAINING);
		}
	}
}

/* Sessions first: their messages need the workers to the end. */
static void go_on_stopping(void)
{
	if (sv.in_state[ROLE_SESSION][GONE] < sv.slots[ROLE_SESSION])
		return;
	drain_role(ROLE_WORKER);
	if (sv.in_state[ROLE_WORKER][GONE] == sv.slots[ROLE_WORKER])
		loop_stop();
}

static void kill_all(const char *cause)
{
	for (enum role role = 0; role < ROLE_COUNT; role++) {
		drain_role(role);	/* so that none is started again */
		for (unsigned i = 0; i < sv.slots[role]; i++)
			kill_process(&sv.process[role][i], cause);
	}
	go_on_stopping();
}

static void on_drain_deadline(struct timer *t)
{
	(void)t;
	kill_all("drain-timeout");
}

/* No new clients; whoever is there goes on to its end. */
static void begin_to_stop(const char *cause)
{
	sv.stopping = true;
	log_notice("event=stopping cause=\"%s\"", cause);
	notify_send("STOPPING=1");
	listeners_close(sv.listeners);
	sv.listeners = NULL;
	drain_role(ROLE_SESSION);
	tell_status();
	go_on_stopping();
}

void supervisor_drain(const char *cause)
{
	if (!sv.stopping)
		begin_to_stop(cause);
}

void supervisor_stop(const char *cause)
{
	if (timer_active(&sv.drain_deadline)) {
		kill_all("a second request to stop");
		return;
	}
	timer_set(&sv.drain_deadline, sv.conf->milterd.drain_timeout);
	supervisor_drain(cause);
}

static void on_stop_signal(int signo)
{
	supervisor_stop(strsignal(signo));
}

void supervisor_set_log_level(enum log_level level)
{
	sv.log_level = level;
	log_set_level(level);
	for (enum role role = 0; role < ROLE_COUNT; role++)
		for (unsigned i = 0; i < sv.slots[role]; i++)
			if (is_there(&sv.process[role][i]))
				send_log_level(&sv.process[role][i]);
}

bool supervisor_process(enum role role, unsigned slot, struct supervisor_process *seen)
{
	static const char *const words[STATES] = {
		[ABSENT] = "waiting", [STARTING] = "starting", [RUNNING] = "running", [DRAINING] = "draining",
		[GONE] = "ended",
	};
	const struct process *p = &sv.process[role][slot];

	if (slot >= sv.slots[role])
		return false;
	*seen = (struct supervisor_process){
		.state = words[p->state], .pid = p->pid, .starts = p->starts, .stats = p->stats,
		.age_ms = p->pid ? loop_now_ms() - p->started_ms : 0,
	};
	return true;
}

bool supervisor_is_stopping(void)
{
	return sv.stopping;
}

static void on_reload_signal(int signo)
{
	(void)signo;
	log_notice("event=reload cause=\"reload is not available yet; restart instead\"");
}

static void report_death(const struct process *p, int status, int64_t delay_ms)
{
	bool expected = p->drained && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	struct buf cause = { 0 };

	restart_print_cause(&cause, status);
	if (p->state == DRAINING)
		log_write(expected ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, 0,
			  "event=child-ended role=%s slot=%u pid=%ld cause=\"%.*s\"", name(p), p->slot, (long)p->pid,
			  (int)buf_len(&cause), (const char *)buf_head(&cause));
	else
		log_write(expected ? LOG_LEVEL_NOTICE : LOG_LEVEL_WARNING, 0,
			  "event=child-ended role=%s slot=%u pid=%ld restart-ms=%lld cause=\"%.*s\"", name(p), p->slot,
			  (long)p->pid, (long long)delay_ms, (int)buf_len(&cause), (const char *)buf_head(&cause));
	buf_fini(&cause);
}

static void on_death(struct process *p, int status)
{
	int64_t delay_ms = 0;

	if (p->state != DRAINING)
		delay_ms = restart_delay_ms(&p->restart, p->worked, loop_now_ms() - p->started_ms);
	report_death(p, status, delay_ms);
	p->pid = 0;
	chan_free(p->control);
	p->control = NULL;
	drop_stats(p);
	timer_clear(&p->timer);
	if (p->state == DRAINING)
		enter(p, GONE);
	else
		start_later(p, delay_ms);
	tell_status();
	if (sv.stopping)
		go_on_stopping();
}

static struct process *find(pid_t pid)
{
	for (enum role role = 0; role < ROLE_COUNT; role++)
		for (unsigned i = 0; i < sv.slots[role]; i++)
			if (sv.process[role][i].pid == pid)
				return &sv.process[role][i];
	return NULL;
}

static void on_child_signal(int signo)
{
	pid_t pid;
	int status;

	(void)signo;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct process *p = find(pid);

		/* As process 1 of a container we also inherit other people's children. */
		if (p)
			on_death(p, status);
	}
}

static void start_all(enum role role, unsigned slots)
{
	assert(slots > 0 && slots <= CHILD_SLOTS_MAX);
	sv.slots[role] = slots;
	sv.in_state[role][ABSENT] = slots;
	for (unsigned i = 0; i < slots; i++) {
		struct process *p = &sv.process[role][i];

		p->role = role;
		p->slot = i;
		timer_init(&p->timer, on_timer, p);
		start(p);
	}
}

int supervisor_run(const struct conf *conf, const struct privileges *privileges, struct listeners *listeners, int config)
{
	sv.conf = conf;
	sv.privileges = privileges;
	sv.listeners = listeners;
	sv.config = config;
	sv.log_level = conf->milterd.log_level;
	timer_init(&sv.drain_deadline, on_drain_deadline, NULL);
	loop_on_signal(SIGCHLD, on_child_signal);
	loop_on_signal(SIGTERM, on_stop_signal);
	loop_on_signal(SIGINT, on_stop_signal);
	loop_on_signal(SIGHUP, on_reload_signal);
	notify_start_watchdog();
	start_all(ROLE_WORKER, (unsigned)conf->milterd.workers);
	start_all(ROLE_SESSION, (unsigned)conf->milterd.sessions);
	loop_run();
	timer_fini(&sv.drain_deadline);
	log_notice("event=stopped");
	return EXIT_SUCCESS;
}
