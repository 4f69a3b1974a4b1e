/* stats.h - what a child is doing: numbers in a page of memory that its master can read
 *
 * The master makes one for each child at its start, a memfd sealed against shrinking and growing; the child maps it writable
 * and is its only writer, the master maps it read-only. Relaxed atomics: numbers may be from slightly different moments.
 * A child is not trusted, so whatever is read here is just a number, or a text of bounded length with any bytes in it.
 */
#ifndef MILTERD_STATS_H
#define MILTERD_STATS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define STATS_TEXT_SIZE 240u	/* with its NUL */

typedef _Atomic uint64_t stats_number;

enum stats_outcome {
	STATS_ACCEPTED, STATS_REJECTED, STATS_DEFERRED, STATS_DISCARDED, STATS_QUARANTINED, STATS_OUTCOMES
};

struct stats_session {
	stats_number sessions;			/* open */
	stats_number sessions_total;
	stats_number message[STATS_OUTCOMES];	/* finished, by what the client was told */
};

enum stats_state { STATS_UNKNOWN, STATS_UP, STATS_DOWN };

struct stats_failure {
	_Atomic uint32_t version;		/* odd while it is written */
	stats_number wall_us;			/* 0: none yet */
	stats_number word[STATS_TEXT_SIZE / sizeof(uint64_t)];
};

/* A milter as one worker sees it. Connections: */
struct stats_milter {
	stats_number busy;			/* in a message, or being asked something */
	stats_number bound;			/* held by a session between two messages */
	stats_number spare;
	stats_number connecting;
	stats_number waiting;			/* sessions waiting for one */
	stats_number state;			/* enum stats_state */
	stats_number answers, failures;
	struct stats_failure failure;		/* the last one */
};

struct stats_page {
	struct stats_session session;
	struct stats_milter milter[];		/* as many as the configuration has */
};

/* One writer only. */
static inline void stats_set(stats_number *number, uint64_t value)
{
	atomic_store_explicit(number, value, memory_order_relaxed);
}

static inline uint64_t stats_get(const stats_number *number)
{
	return atomic_load_explicit(number, memory_order_relaxed);
}

static inline void stats_add(stats_number *number, int64_t more)
{
	stats_set(number, stats_get(number) + (uint64_t)more);
}

/* The master's side: a zeroed page as a sealed memfd, close-on-exec. -1 with errno. */
int stats_create(size_t milters);
/* NULL with errno; EBADMSG: it is no sealed page of this size. The descriptor stays the caller's. */
struct stats_page *stats_map_writable(int fd, size_t milters);
const struct stats_page *stats_map(int fd, size_t milters);
/* NULL is fine. */
void stats_unmap(const struct stats_page *, size_t milters);

/* "ENDPOINT: why" with the time of now; cut when it is long. */
void stats_failure_set(struct stats_failure *, const char *endpoint, const char *why);
/* *text: NUL-terminated whatever the writer does, "" when there is none or it cannot be read at the moment. Returns its
 * time, 0 for none. */
uint64_t stats_failure_get(const struct stats_failure *, char text[STATS_TEXT_SIZE]);

#endif
