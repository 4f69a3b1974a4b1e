/* reactor.h - epoll, buffered connections and times, for the instruments
 *
 * A stream is a connection with buffers, or, while its fd is -1, only a time to be woken at. A callback may close its
 * own stream, never another one. An instrument ends when it says so, at SIGTERM or SIGINT, or with its parent.
 */
#ifndef INSTRUMENTS_REACTOR_H
#define INSTRUMENTS_REACTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

struct stream {
	int fd;
	bool connecting;	/* connect() is under way */
	bool ended;		/* the peer says no more; what it said before is in in */
	bool broken;		/* and nothing can be written: what is left in out has not left us */
	bool hang_up;		/* close when out is empty, or at once when it is broken */
	bool frozen;		/* neither read nor write: a peer that is silent */
	struct buf in, out;
	size_t in_limit;	/* nothing is read while in has this many bytes */
	int64_t wake_ms;	/* call on_event at this time (clock_now_ms()), then it is 0: never */
	void (*on_event)(struct stream *);	/* input, the end, connected, some of out written, or the time */
	void (*on_closed)(struct stream *);	/* fd is -1 again; may connect again, or stream_fini() and free */
	uint32_t watched;	/* epoll's events */
	struct stream *next, *previous;
};

/* Prepare signals and the limit of descriptors; ends the process when the system refuses. */
void reactor_init(void);
/* Accept on unix:/PATH or inet:ADDRESS:PORT (a stale socket file is replaced). on_accept owns the descriptor. */
void reactor_listen(const char *endpoint, void (*on_accept)(int fd));
/* Run until reactor_stop() or a signal. */
void reactor_run(void);
void reactor_stop(void);

/* Both callbacks must be set. fd: a connected non-blocking socket, for which on_event is called at once, or -1. */
void stream_init(struct stream *, int fd);
/* 0, or -1 with errno; on_event comes when the connection is made or has failed (ended). */
int stream_connect(struct stream *, const char *endpoint);
/* Close at once with a TCP reset where there is one; on_closed comes after the callback that calls this. */
void stream_reset(struct stream *);
/* Forget it and free its buffers; closes the connection without on_closed. */
void stream_fini(struct stream *);

#endif
