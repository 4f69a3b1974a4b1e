#include "config.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/loop.h"

#define DEADLINE_MS 5000

static struct timer deadline;
static bool late;

static void on_deadline(struct timer *t)
{
	(void)t;
	late = true;
	loop_stop();
}

static void run(void)
{
	late = false;
	timer_init(&deadline, on_deadline, NULL);
	timer_set(&deadline, DEADLINE_MS);
	loop_run();
	cr_assert_not(late, "nothing happened in time");
	timer_fini(&deadline);
}

struct watched {
	struct io io;
	struct timer timer;
	struct deferred deferred;
	int pair[2];
	unsigned calls;
	struct watched *other;
};

static void open_pair(struct watched *w)
{
	*w = (struct watched){ 0 };
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, w->pair), 0);
}

static void close_pair(struct watched *w)
{
	close(w->pair[0]);
	close(w->pair[1]);
}

static void end_other_and_stop(struct io *io, int events)
{
	struct watched *w = io->ctx;

	(void)events;
	w->calls++;
	io_fini(&w->io);
	if (w->other)
		io_fini(&w->other->io);
	loop_stop();
}

Test(loop, a_watcher_ended_by_another_in_the_same_turn_is_not_called)
{
	struct watched a, b;

	loop_init();
	open_pair(&a);
	open_pair(&b);
	a.other = &b;
	b.other = &a;
	io_init(&a.io, a.pair[0], end_other_and_stop, &a);
	io_init(&b.io, b.pair[0], end_other_and_stop, &b);
	io_want(&a.io, IO_READ);
	io_want(&b.io, IO_READ);
	cr_assert_eq(write(a.pair[1], "x", 1), 1);
	cr_assert_eq(write(b.pair[1], "x", 1), 1);
	run();
	cr_assert_eq(a.calls + b.calls, 1);
	close_pair(&a);
	close_pair(&b);
	loop_fini();
}

Test(loop, ended_watchers_and_timers_may_be_ended_again)
{
	struct watched w = { 0 };

	loop_init();
	io_fini(&w.io);
	timer_fini(&w.timer);
	deferred_cancel(&w.deferred);
	open_pair(&w);
	io_init(&w.io, w.pair[0], end_other_and_stop, &w);
	io_fini(&w.io);
	io_fini(&w.io);
	close_pair(&w);
	loop_fini();
}

static void stop_on_timer(struct timer *t)
{
	struct watched *w = t->ctx;

	w->calls++;
	cr_assert_not(timer_active(t));
	loop_stop();
}

static void must_not_fire(struct timer *t)
{
	(void)t;
	cr_assert_fail("a cleared timer fired");
}

Test(loop, a_cleared_timer_never_fires_and_a_set_one_fires_once)
{
	struct watched w = { 0 }, never = { 0 };

	loop_init();
	timer_init(&w.timer, stop_on_timer, &w);
	timer_init(&never.timer, must_not_fire, &never);
	timer_set(&never.timer, 1);
	timer_clear(&never.timer);
	timer_set(&w.timer, 10000);
	timer_set(&w.timer, 5);
	run();
	cr_assert_eq(w.calls, 1);
	timer_fini(&w.timer);
	timer_fini(&never.timer);
	loop_fini();
}

static void run_again(struct deferred *d)
{
	struct watched *w = d->ctx;

	w->calls++;
	deferred_run(d);
}

static void stop_on_read(struct io *io, int events)
{
	(void)io;
	(void)events;
	loop_stop();
}

Test(loop, a_deferred_call_that_asks_for_itself_does_not_keep_descriptors_waiting)
{
	struct watched w;

	loop_init();
	open_pair(&w);
	deferred_init(&w.deferred, run_again, &w);
	deferred_run(&w.deferred);
	deferred_run(&w.deferred);
	io_init(&w.io, w.pair[0], stop_on_read, &w);
	io_want(&w.io, IO_READ);
	cr_assert_eq(write(w.pair[1], "x", 1), 1);
	run();
	cr_assert_geq(w.calls, 1);
	deferred_cancel(&w.deferred);
	io_fini(&w.io);
	close_pair(&w);
	loop_fini();
}

static int signals_seen;

static void on_signal(int signo)
{
	signals_seen = signo;
	loop_stop();
}

Test(loop, a_signal_arrives_from_the_loop)
{
	loop_init();
	loop_on_signal(SIGUSR1, on_signal);
	kill(getpid(), SIGUSR1);
	run();
	cr_assert_eq(signals_seen, SIGUSR1);
	loop_fini();
}

static void read_a_byte(struct io *io, int events)
{
	struct watched *w = io->ctx;
	char byte;

	(void)events;
	w->calls++;
	if (read(io->fd, &byte, 1) <= 0)
		loop_stop();
}

/* An error is told by the kernel before what came in has been read; the reader must get to both. */
Test(loop, an_error_does_not_end_the_watch_before_everything_is_read)
{
	struct watched w;

	loop_init();
	open_pair(&w);
	io_init(&w.io, w.pair[0], read_a_byte, &w);
	io_want(&w.io, IO_READ);
	cr_assert_eq(write(w.pair[1], "last words", 10), 10);
	cr_assert_eq(write(w.pair[0], "never read", 10), 10);
	close(w.pair[1]);
	run();
	cr_expect_eq(w.calls, 11);
	io_fini(&w.io);
	close(w.pair[0]);
	loop_fini();
}
