/* msgbuf.h - message content in shared memory: written by one process, read in place by others
 *
 * The owner has a pool of buffers. One buffer is one memfd, sealed SHRINK and FUTURE_WRITE after the owner has mapped
 * it: nobody else can ever write it and it can never become shorter than what a reader has once seen (fallocate,
 * never ftruncate: a full memory is ENOSPC here and not SIGBUS there). It is reused for the next message only when
 * every process it was lent to has given it back or is dead. All bookkeeping is in private memory.
 * With a spool folder, a message that becomes too large for memory, or finds none left, goes on in a file (spoolfile.h),
 * which readers get as a second descriptor.
 * Peers are small numbers (0 to MSGBUF_PEERS - 1): the slot of the process at the other end of a channel.
 */
#ifndef MILTERD_MSGBUF_H
#define MILTERD_MSGBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/spoolfile.h"

#define MSGBUF_PEERS	 64u
#define MSGBUF_LIMIT	 (1u << 30)		/* bytes; the largest limit there can be */
#define MSGBUF_KEEP	 (512u * 1024)		/* buffers up to this size are recycled */
#define MSGBUF_KEEP_FREE 64u			/* how many of them wait at most for a next message */
#define MSGBUF_RESERVE_MAX (128u * 1024)	/* bytes that can be reserved at once */
#define MSGBUF_RELEASE_MS 5000			/* a reader that is later makes the owner close the buffer */

struct msgbuf_pool;

/* What other modules may read of a buffer. */
struct msgbuf {
	uint32_t id;		/* unique in the owning process, never reused for another memfd while anyone maps it */
	uint32_t generation;	/* counts the messages it has carried */
	uint8_t *data;		/* fixed address as long as the buffer exists; what is in memory: msgbuf_read() */
	size_t len;		/* bytes written so far, in memory and in the file */
};

/* limit: bytes of one buffer at most. budget: bytes of all buffers of this pool that are in use or kept. */
struct msgbuf_pool *msgbuf_pool_new(size_t limit, size_t budget);
/* Buffers longer than above, or without memory, go on in files in this folder from now on; takes the descriptor. */
void msgbuf_pool_spool(struct msgbuf_pool *, int folder, size_t above);
/* All buffers must have been put. */
void msgbuf_pool_free(struct msgbuf_pool *);
/* Bytes allocated now, and buffers in existence; for tests and statistics. */
size_t msgbuf_pool_bytes(const struct msgbuf_pool *);
size_t msgbuf_pool_count(const struct msgbuf_pool *);

/* An empty buffer, recycled or new; NULL with errno (ENOMEM: the budget is used up; or of memfd_create, mmap). */
struct msgbuf *msgbuf_get(struct msgbuf_pool *);
/* Room for len more bytes (with a spool folder at most MSGBUF_RESERVE_MAX), *room is how much there is; good until the next
 * call for any buffer of the pool. NULL with errno: EMSGSIZE above the limit, ENOMEM above the budget, ENOSPC; or of the file. What
 * is there stays valid. */
uint8_t *msgbuf_reserve(struct msgbuf_pool *, struct msgbuf *, size_t len, size_t *room);
/* 0, or -1 with errno of spoolfile_write(): nothing was added. */
int msgbuf_commit(struct msgbuf_pool *, struct msgbuf *, size_t len);
/* len bytes copied onto the end. 0, or -1 with errno as those two: nothing was added. */
int msgbuf_append(struct msgbuf_pool *, struct msgbuf *, const void *, size_t len);
/* Its bytes, wherever they are; valid until it changes. */
void msgbuf_read(const struct msgbuf *, struct spooled *);
/* Cut to len bytes (less than now), for the writer that found the end earlier. Only before it was lent. */
void msgbuf_truncate(struct msgbuf *, size_t len);
/* The owner is done with this message. Readers may still hold it. NULL is fine. */
void msgbuf_put(struct msgbuf_pool *, struct msgbuf *);

/* Note that the peer may read this generation. The descriptor to send along (still the pool's) when this peer
 * has not got it yet, otherwise -1. */
int msgbuf_lend(struct msgbuf_pool *, struct msgbuf *, unsigned peer);
/* After it: the descriptor of the file to send along, when there is one and this peer has not got it, otherwise -1. */
int msgbuf_lend_file(struct msgbuf *, unsigned peer);
/* A peer has given a generation back. 0, or -1 when it did not hold it: a protocol error of that peer. */
int msgbuf_released(struct msgbuf_pool *, unsigned peer, uint32_t id, uint32_t generation);
/* The process behind a peer's number is dead: it holds and maps nothing any more. */
void msgbuf_peer_gone(struct msgbuf_pool *, unsigned peer);
/* Called with every buffer that is closed while peers still map it, once per such peer: tell them (BUFFER_DROP). */
typedef void msgbuf_dropped_fn(void *ctx, unsigned peer, uint32_t id);
void msgbuf_pool_on_dropped(struct msgbuf_pool *, msgbuf_dropped_fn *, void *ctx);
/* Close what readers have not given back in time; call about once a second. */
void msgbuf_pool_tick(struct msgbuf_pool *, int64_t now_ms);

#endif
