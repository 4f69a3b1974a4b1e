#include "config.h"

#include "common/loop.h"

#include <assert.h>
#include <stdlib.h>
#include <uv.h>

#include "common/mem.h"

#define SIGNALS 65

/* What libuv wants to outlive the watcher. A slot is free again when its close has finished. */
struct poll_slot {
	uv_poll_t uv;
	struct io *owner;	/* NULL after io_fini() */
	struct poll_slot *next;
};

struct timer_slot {
	uv_timer_t uv;
	struct timer *owner;
	struct timer_slot *next;
};

static uv_loop_t loop;
static uv_prepare_t before_wait;
static uv_check_t after_wait;
static uv_idle_t no_wait;	/* active while deferred calls wait, so that the loop does not */
static struct poll_slot *free_polls;
static struct timer_slot *free_timers;
static struct deferred *deferred_first, **deferred_last = &deferred_first;
static struct {
	uv_signal_t uv;
	signal_fn *fn;
} signals[SIGNALS];

static void take_out(struct deferred *d)
{
	*d->prev = d->next;
	if (d->next)
		d->next->prev = d->prev;
	else if (deferred_last == &d->next)
		deferred_last = d->prev;
	d->next = NULL;
	d->prev = NULL;
}

/* Calls asked for by these calls wait for the next turn, so that none can keep the loop from its descriptors. */
static void run_deferred(void)
{
	static struct deferred end;

	if (!deferred_first)
		return;
	end.prev = deferred_last;
	*deferred_last = &end;
	deferred_last = &end.next;
	while (deferred_first != &end) {
		struct deferred *d = deferred_first;

		take_out(d);
		d->fn(d);
	}
	take_out(&end);
	if (!deferred_first)
		uv_idle_stop(&no_wait);
}

static void on_prepare(uv_prepare_t *uv)
{
	(void)uv;
	run_deferred();
}

static void on_check(uv_check_t *uv)
{
	(void)uv;
	run_deferred();
}

static void on_idle(uv_idle_t *uv)
{
	(void)uv;
}

void loop_init(void)
{
	int error = uv_loop_init(&loop);

	assert(error == 0);
	uv_prepare_init(&loop, &before_wait);
	uv_prepare_start(&before_wait, on_prepare);
	uv_check_init(&loop, &after_wait);
	uv_check_start(&after_wait, on_check);
	uv_idle_init(&loop, &no_wait);
}

void loop_run(void)
{
	uv_run(&loop, UV_RUN_DEFAULT);
}

void loop_stop(void)
{
	uv_stop(&loop);
}

int64_t loop_now_ms(void)
{
	return (int64_t)uv_now(&loop);
}

static void close_any(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

void loop_fini(void)
{
	while (deferred_first)
		take_out(deferred_first);
	for (int i = 0; i < SIGNALS; i++)
		signals[i].fn = NULL;
	uv_walk(&loop, close_any, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);

	int error = uv_loop_close(&loop);

	assert(error == 0);
	while (free_polls) {
		struct poll_slot *slot = free_polls;

		free_polls = slot->next;
		free(slot);
	}
	while (free_timers) {
		struct timer_slot *slot = free_timers;

		free_timers = slot->next;
		free(slot);
	}
}

static void on_poll(uv_poll_t *, int status, int events);

static void start(struct io *io)
{
	struct poll_slot *slot = io->handle;

	uv_poll_start(&slot->uv, (io->events & IO_READ ? UV_READABLE : 0) | (io->events & IO_WRITE ? UV_WRITABLE : 0),
		      on_poll);
}

static void on_poll(uv_poll_t *uv, int status, int events)
{
	struct poll_slot *slot = (struct poll_slot *)uv;
	struct io *io = slot->owner;
	int ready = 0;

	if (!io)
		return;
	/* An error is found by whoever reads or writes next, so it wakes what is wanted. libuv has stopped watching, but
	 * there may be more to read before the error than one call takes. */
	if (status < 0) {
		ready = io->events;
		start(io);
	}
	if (events & (UV_READABLE | UV_DISCONNECT))
		ready |= IO_READ;
	if (events & UV_WRITABLE)
		ready |= IO_WRITE;
	ready &= io->events;
	if (ready)
		io->fn(io, ready);
}

void io_init(struct io *io, int fd, io_fn *fn, void *ctx)
{
	struct poll_slot *slot = free_polls;

	if (slot)
		free_polls = slot->next;
	else
		slot = mem_alloc(sizeof(*slot));
	int error = uv_poll_init(&loop, &slot->uv, fd);

	assert(error == 0);
	slot->owner = io;
	*io = (struct io){ .handle = slot, .fn = fn, .ctx = ctx, .fd = fd };
}

void io_want(struct io *io, int events)
{
	struct poll_slot *slot = io->handle;

	assert(slot);
	if (events == io->events)
		return;
	io->events = events;
	if (!events)
		uv_poll_stop(&slot->uv);
	else
		start(io);
}

static void on_poll_closed(uv_handle_t *handle)
{
	struct poll_slot *slot = (struct poll_slot *)handle;

	slot->next = free_polls;
	free_polls = slot;
}

void io_fini(struct io *io)
{
	struct poll_slot *slot = io->handle;

	if (!slot)
		return;
	slot->owner = NULL;
	uv_close((uv_handle_t *)&slot->uv, on_poll_closed);
	*io = (struct io){ .fd = -1 };
}

void timer_init(struct timer *t, timer_fn *fn, void *ctx)
{
	*t = (struct timer){ .fn = fn, .ctx = ctx };
}

static void give_back(struct timer *t)
{
	struct timer_slot *slot = t->handle;

	if (!slot)
		return;
	uv_timer_stop(&slot->uv);
	slot->owner = NULL;
	slot->next = free_timers;
	free_timers = slot;
	t->handle = NULL;
}

static void on_timer(uv_timer_t *uv)
{
	struct timer *t = ((struct timer_slot *)uv)->owner;

	give_back(t);
	t->fn(t);
}

void timer_set(struct timer *t, int64_t delay_ms)
{
	struct timer_slot *slot = t->handle;

	assert(t->fn);
	if (!slot) {
		slot = free_timers;
		if (slot) {
			free_timers = slot->next;
		} else {
			slot = mem_alloc(sizeof(*slot));
			uv_timer_init(&loop, &slot->uv);
		}
		slot->owner = t;
		t->handle = slot;
	}
	uv_timer_start(&slot->uv, on_timer, delay_ms > 0 ? (uint64_t)delay_ms : 0, 0);
}

void timer_clear(struct timer *t)
{
	give_back(t);
}

bool timer_active(const struct timer *t)
{
	return t->handle != NULL;
}

void timer_fini(struct timer *t)
{
	give_back(t);
	t->fn = NULL;
}

void deferred_init(struct deferred *d, deferred_fn *fn, void *ctx)
{
	*d = (struct deferred){ .fn = fn, .ctx = ctx };
}

void deferred_run(struct deferred *d)
{
	if (d->prev)
		return;
	d->prev = deferred_last;
	d->next = NULL;
	*deferred_last = d;
	deferred_last = &d->next;
	uv_idle_start(&no_wait, on_idle);
}

void deferred_cancel(struct deferred *d)
{
	if (d->prev)
		take_out(d);
}

static void on_signal(uv_signal_t *uv, int signo)
{
	(void)uv;
	if (signals[signo].fn)
		signals[signo].fn(signo);
}

void loop_on_signal(int signo, signal_fn *fn)
{
	assert(signo > 0 && signo < SIGNALS && !signals[signo].fn);
	signals[signo].fn = fn;
	uv_signal_init(&loop, &signals[signo].uv);
	int error = uv_signal_start(&signals[signo].uv, on_signal, signo);

	assert(error == 0);
}
