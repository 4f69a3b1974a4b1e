/* loop.h - the one event loop of a process, thin over libuv
 *
 * Watchers and timers are embedded in the object that uses them; the libuv handle behind each is
 * recycled here, because uv_close() finishes later than the object may live. After io_fini() or
 * timer_fini() the callback is never called again and the descriptor may be closed at once.
 * A zeroed struct io or struct timer is valid for _fini (nothing happens).
 */
#ifndef MILTERD_LOOP_H
#define MILTERD_LOOP_H

#include <stdbool.h>
#include <stdint.h>

enum { IO_READ = 1, IO_WRITE = 2 };

struct io;
struct timer;
struct deferred;

typedef void io_fn(struct io *, int events);	/* IO_READ also at end of file and on errors */
typedef void timer_fn(struct timer *);
typedef void deferred_fn(struct deferred *);
typedef void signal_fn(int signo);

struct io {
	void *handle;
	io_fn *fn;
	void *ctx;
	int fd;
	int events;
};

struct timer {
	void *handle;
	timer_fn *fn;
	void *ctx;
};

struct deferred {
	struct deferred *next, **prev;
	deferred_fn *fn;
	void *ctx;
};

/* Once per process, after fork and exec. */
void loop_init(void);
/* Until loop_stop(). */
void loop_run(void);
void loop_stop(void);
/* Free every handle, so that leak checkers see a clean end. */
void loop_fini(void);
/* Time at the start of this turn of the loop, CLOCK_MONOTONIC in ms; cheap. */
int64_t loop_now_ms(void);

/* fd must be non-blocking and stays the caller's. Nothing is watched until io_want(). */
void io_init(struct io *, int fd, io_fn *, void *ctx);
/* Level-triggered. 0 stops watching: that is what backpressure is. */
void io_want(struct io *, int events);
void io_fini(struct io *);

void timer_init(struct timer *, timer_fn *, void *ctx);
/* Fire once, in delay_ms from now (0: next turn); replaces an earlier setting. */
void timer_set(struct timer *, int64_t delay_ms);
void timer_clear(struct timer *);
bool timer_active(const struct timer *);
void timer_fini(struct timer *);

/* Call fn once, before the loop next waits. Asking twice is the same as once. */
void deferred_init(struct deferred *, deferred_fn *, void *ctx);
void deferred_run(struct deferred *);
void deferred_cancel(struct deferred *);

/* fn is called from the loop, not from a signal handler. At most once per signal and process. */
void loop_on_signal(int signo, signal_fn *);

#endif
