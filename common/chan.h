/* chan.h - records with descriptors over a UNIX stream socketpair, between two of our own processes
 *
 * Records are queued and written once per turn of the loop, many per system call. The channel is always read,
 * whatever the state of its owner, so neither side can wait for the other's reading. What comes in is checked like
 * network input: a malformed record, a stray descriptor or a peer that reads nothing for CHAN_QUEUE_MAX bytes
 * closes the channel.
 */
#ifndef MILTERD_CHAN_H
#define MILTERD_CHAN_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

#define CHAN_RECORD_MAX	(4u * 1024 * 1024)	/* bytes of one record's data */
#define CHAN_QUEUE_MAX	(64u * 1024 * 1024)	/* bytes waiting for a peer that does not read */

struct chan;

struct chan_record {
	uint16_t type;
	uint64_t session;	/* 0: none */
	const uint8_t *data;	/* valid during the call */
	size_t len;
	int fd;			/* the receiver's to keep: take it and set -1, or it is closed after the call; -1: none */
};

/* A whole record. 0, or -1 when it is illegal: then the channel closes and on_close is called. */
typedef int chan_record_fn(struct chan *, void *ctx, struct chan_record *);
/* The peer closed, died or broke the rules (why, in words). Called once, never from inside chan_send(); chan_free() is
 * allowed in it. */
typedef void chan_close_fn(struct chan *, void *ctx, const char *why);

/* Takes the descriptor (made non-blocking). */
struct chan *chan_new(int fd, chan_record_fn *, chan_close_fn *, void *ctx);
/* Without calling on_close. What is queued is lost. NULL is fine. */
void chan_free(struct chan *);
/* Queue a record. fd: a descriptor to pass, duplicated here (still the caller's), or -1. After the channel closed:
 * nothing happens. */
void chan_send(struct chan *, uint16_t type, uint64_t session, const void *data, size_t len, int fd);
/* The same without a copy: *begin a record, append its data to the returned buffer, end it. Nothing else may be sent
 * between the two. */
struct buf *chan_begin(struct chan *, uint16_t type, uint64_t session);
void chan_end(struct chan *);
/* Write what can be written now; otherwise it is done at the end of the turn. */
void chan_flush(struct chan *);
/* Bytes not yet written. */
size_t chan_pending(const struct chan *);

#endif
