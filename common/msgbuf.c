#include "config.h"

#include "common/msgbuf.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <uthash.h>
#include <utlist.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/mem.h"

#define FIRST_SIZE	(32u * 1024)	/* bytes; then doubling */
#define BEGINNINGS_PART 4u		/* of the budget, one in so many, is for the first bytes of buffers with a file */

struct owned {
	struct msgbuf buffer;		/* first: the pool gets from one to the other */
	int fd;
	size_t allocated;		/* bytes of the file; never less than what a reader was told */
	uint64_t holders;		/* peers that may read this generation */
	uint64_t mappers;		/* peers that have the descriptor */
	int file, reader;		/* -1: all is in memory; otherwise what is behind the first memory bytes */
	size_t memory;
	uint64_t file_peers;		/* peers that have the reader's descriptor of the file */
	bool put;			/* the owner is done; some holder may not be */
	int64_t put_ms;
	struct owned *next;		/* in pool->kept */
	UT_hash_handle hh;
};

struct msgbuf_pool {
	size_t limit, map_size, budget, bytes;
	uint32_t last_id;
	struct owned *all;		/* hash by id */
	struct owned *kept;		/* free for the next message, the last one used first */
	size_t kept_count;
	int spool;			/* folder; -1: none */
	size_t spool_above;
	uint8_t *window;		/* MSGBUF_RESERVE_MAX bytes on their way to a file, between reserve and commit */
	msgbuf_dropped_fn *on_dropped;
	void *ctx;
};

_Static_assert(MSGBUF_PEERS <= 64, "peers are bits of a uint64_t");

static struct owned *owned_of(struct msgbuf *buffer)
{
	return (struct owned *)buffer;
}

static size_t page_round(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (size + page - 1) / page * page;
}

struct msgbuf_pool *msgbuf_pool_new(size_t limit, size_t budget)
{
	struct msgbuf_pool *pool = mem_alloc(sizeof(*pool));

	assert(limit > 0 && limit <= MSGBUF_LIMIT);
	pool->limit = limit;
	pool->map_size = page_round(limit);
	pool->budget = budget;
	pool->spool = -1;
	return pool;
}

void msgbuf_pool_spool(struct msgbuf_pool *pool, int folder, size_t above)
{
	fd_close(&pool->spool);
	pool->spool = folder;
	pool->spool_above = above;
	if (!pool->window)
		pool->window = mem_alloc(MSGBUF_RESERVE_MAX);
}

void msgbuf_pool_on_dropped(struct msgbuf_pool *pool, msgbuf_dropped_fn *fn, void *ctx)
{
	pool->on_dropped = fn;
	pool->ctx = ctx;
}

size_t msgbuf_pool_bytes(const struct msgbuf_pool *pool)
{
	return pool->bytes;
}

size_t msgbuf_pool_count(const struct msgbuf_pool *pool)
{
	return HASH_COUNT(pool->all);
}

/* Close a buffer for good. Readers that still have it mapped keep their mapping until they hear of it. */
static void destroy(struct msgbuf_pool *pool, struct owned *o)
{
	uint64_t mappers = o->mappers;
	uint32_t id = o->buffer.id;

	HASH_DEL(pool->all, o);
	pool->bytes -= o->allocated;
	munmap(o->buffer.data, pool->map_size);
	fd_close(&o->fd);
	fd_close(&o->file);
	fd_close(&o->reader);
	free(o);
	for (unsigned peer = 0; pool->on_dropped && peer < MSGBUF_PEERS; peer++)
		if (mappers & (uint64_t)1 << peer)
			pool->on_dropped(pool->ctx, peer, id);
}

void msgbuf_pool_free(struct msgbuf_pool *pool)
{
	struct owned *o, *next;

	if (!pool)
		return;
	pool->on_dropped = NULL;
	HASH_ITER(hh, pool->all, o, next)
		destroy(pool, o);
	fd_close(&pool->spool);
	free(pool->window);
	free(pool);
}

static bool free_a_kept_one(struct msgbuf_pool *pool)
{
	struct owned *o = pool->kept;

	if (!o)
		return false;
	LL_DELETE(pool->kept, o);
	pool->kept_count--;
	destroy(pool, o);
	return true;
}

/* Bytes a buffer may grow by. What can go on in a file leaves a part of the memory to the beginnings of others. */
static size_t memory_left(const struct msgbuf_pool *pool, size_t size)
{
	size_t budget = pool->budget;

	if (pool->spool >= 0 && size > FIRST_SIZE)
		budget -= budget / BEGINNINGS_PART;
	return budget > pool->bytes ? budget - pool->bytes : 0;
}

/* As large as a buffer gets in memory, but for the little that a reader asks for at its end. */
static size_t memory_limit(const struct msgbuf_pool *pool, size_t size)
{
	size_t limit = pool->map_size;

	if (pool->spool >= 0 && pool->spool_above < limit)
		limit = page_round(pool->spool_above > size ? pool->spool_above : size);
	return limit < pool->map_size ? limit : pool->map_size;
}

/* Make the memfd at least size bytes long. Memory is allocated here, so that writing to it cannot fail. */
static int grow(struct msgbuf_pool *pool, struct owned *o, size_t size)
{
	size_t wanted = o->allocated ? o->allocated : FIRST_SIZE, limit = memory_limit(pool, size);

	while (wanted < size)
		wanted *= 2;
	if (wanted > limit)
		wanted = limit;
	while (wanted - o->allocated > memory_left(pool, wanted)) {
		if (free_a_kept_one(pool))
			continue;
		/* No memory for growing in large steps: what is needed now may still fit. */
		if (wanted == page_round(size)) {
			errno = ENOMEM;
			return -1;
		}
		wanted = page_round(size);
	}
	while (fallocate(o->fd, 0, 0, (off_t)wanted) < 0)
		if (errno != EINTR)
			return -1;
	pool->bytes += wanted - o->allocated;
	o->allocated = wanted;
	return 0;
}

static int open_memory(struct msgbuf_pool *pool, struct owned *o)
{
	void *map;

	o->fd = memfd_create("milterd-message", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (o->fd < 0)
		return -1;
	map = mmap(NULL, pool->map_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, o->fd, 0);
	if (map == MAP_FAILED)
		return -1;
	o->buffer.data = map;
	/* From here on nobody, not even through /proc, gets a writable mapping: ours is the only one. */
	return fcntl(o->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
}

static struct owned *create(struct msgbuf_pool *pool)
{
	struct owned *o = mem_alloc(sizeof(*o));

	o->fd = o->file = o->reader = -1;
	if (open_memory(pool, o) == 0 && grow(pool, o, FIRST_SIZE < pool->map_size ? FIRST_SIZE : pool->map_size) == 0) {
		/* An id must never come back; a process that has used them all up starts anew. */
		assert(pool->last_id < UINT32_MAX);
		o->buffer.id = ++pool->last_id;
		HASH_ADD(hh, pool->all, buffer.id, sizeof(o->buffer.id), o);
		return o;
	}
	int saved = errno;

	if (o->buffer.data)
		munmap(o->buffer.data, pool->map_size);
	fd_close(&o->fd);
	free(o);
	errno = saved;
	return NULL;
}

struct msgbuf *msgbuf_get(struct msgbuf_pool *pool)
{
	struct owned *o = pool->kept;

	if (o) {
		LL_DELETE(pool->kept, o);
		pool->kept_count--;
	} else {
		o = create(pool);
	}
	if (!o)
		return NULL;
	o->put = false;
	o->buffer.generation++;
	o->buffer.len = 0;
	return &o->buffer;
}

/* There is room in memory, or memory for it. */
static bool stays_in_memory(struct msgbuf_pool *pool, struct owned *o, size_t size)
{
	if (o->file >= 0 || (pool->spool >= 0 && o->buffer.len >= pool->spool_above))
		return false;
	return size <= o->allocated || grow(pool, o, size) == 0;
}

/* From here on the message goes on in a file. */
static int open_file(struct msgbuf_pool *pool, struct owned *o)
{
	if (pool->spool < 0)
		return -1;	/* errno says why memory was not enough */
	o->file = spoolfile_create(pool->spool, &o->reader);
	o->memory = o->buffer.len;
	return o->file < 0 ? -1 : 0;
}

uint8_t *msgbuf_reserve(struct msgbuf_pool *pool, struct msgbuf *buffer, size_t len, size_t *room)
{
	struct owned *o = owned_of(buffer);
	size_t usable;

	assert(pool->spool < 0 || len <= MSGBUF_RESERVE_MAX);
	if (len > pool->limit - buffer->len) {
		errno = EMSGSIZE;
		return NULL;
	}
	if (stays_in_memory(pool, o, buffer->len + len)) {
		usable = o->allocated < pool->limit ? o->allocated : pool->limit;
		*room = usable - buffer->len;
		return buffer->data + buffer->len;
	}
	if (o->file < 0 && open_file(pool, o) < 0)
		return NULL;
	usable = pool->limit - buffer->len;
	*room = usable < MSGBUF_RESERVE_MAX ? usable : MSGBUF_RESERVE_MAX;
	return pool->window;
}

int msgbuf_commit(struct msgbuf_pool *pool, struct msgbuf *buffer, size_t len)
{
	struct owned *o = owned_of(buffer);

	if (o->file < 0) {
		assert(len <= o->allocated - buffer->len);
	} else {
		assert(len <= MSGBUF_RESERVE_MAX && len <= pool->limit - buffer->len);
		if (spoolfile_write(o->file, buffer->len - o->memory, pool->window, len) < 0)
			return -1;
	}
	buffer->len += len;
	return 0;
}

static void cut(struct msgbuf *buffer, size_t len)
{
	struct owned *o = owned_of(buffer);

	if (o->memory > len)
		o->memory = len;
	buffer->len = len;
}

int msgbuf_append(struct msgbuf_pool *pool, struct msgbuf *buffer, const void *data, size_t len)
{
	const uint8_t *from = data;
	size_t before = buffer->len, room;

	do {
		size_t part = len < MSGBUF_RESERVE_MAX ? len : MSGBUF_RESERVE_MAX;
		uint8_t *at = msgbuf_reserve(pool, buffer, part, &room);

		if (at && part)
			memcpy(at, from, part);
		if (!at || msgbuf_commit(pool, buffer, part) < 0) {
			cut(buffer, before);
			return -1;
		}
		from += part;
		len -= part;
	} while (len);
	return 0;
}

void msgbuf_truncate(struct msgbuf *buffer, size_t len)
{
	assert(len <= buffer->len && !owned_of(buffer)->holders);
	cut(buffer, len);
}

void msgbuf_read(const struct msgbuf *buffer, struct spooled *content)
{
	const struct owned *o = (const struct owned *)buffer;

	*content = (struct spooled){
		.data = buffer->data, .memory = o->file < 0 ? buffer->len : o->memory, .len = buffer->len,
		.file = o->reader,
	};
}

static void recycle(struct msgbuf_pool *pool, struct owned *o)
{
	if (o->allocated > MSGBUF_KEEP || o->file >= 0 || pool->kept_count >= MSGBUF_KEEP_FREE) {
		destroy(pool, o);
		return;
	}
	LL_PREPEND(pool->kept, o);
	pool->kept_count++;
}

void msgbuf_put(struct msgbuf_pool *pool, struct msgbuf *buffer)
{
	struct owned *o = buffer ? owned_of(buffer) : NULL;

	if (!o)
		return;
	assert(!o->put);
	o->put = true;
	o->put_ms = clock_now_ms();
	if (!o->holders)
		recycle(pool, o);
}

int msgbuf_lend(struct msgbuf_pool *pool, struct msgbuf *buffer, unsigned peer)
{
	struct owned *o = owned_of(buffer);
	uint64_t bit = (uint64_t)1 << peer;
	bool has_it = o->mappers & bit;

	(void)pool;
	assert(peer < MSGBUF_PEERS && !o->put);
	o->holders |= bit;
	o->mappers |= bit;
	return has_it ? -1 : o->fd;
}

int msgbuf_lend_file(struct msgbuf *buffer, unsigned peer)
{
	struct owned *o = owned_of(buffer);
	uint64_t bit = (uint64_t)1 << peer;
	bool has_it = o->file_peers & bit;

	assert(peer < MSGBUF_PEERS && (o->holders & bit));
	if (o->file < 0)
		return -1;
	o->file_peers |= bit;
	return has_it ? -1 : o->reader;
}

int msgbuf_released(struct msgbuf_pool *pool, unsigned peer, uint32_t id, uint32_t generation)
{
	uint64_t bit = (uint64_t)1 << peer;
	struct owned *o;

	assert(peer < MSGBUF_PEERS);
	HASH_FIND(hh, pool->all, &id, sizeof(id), o);
	/* A release that crossed the news that the buffer was closed is nobody's fault. */
	if (!o)
		return id && id <= pool->last_id ? 0 : -1;
	if (o->buffer.generation != generation || !(o->holders & bit))
		return -1;
	o->holders &= ~bit;
	if (o->put && !o->holders)
		recycle(pool, o);
	return 0;
}

void msgbuf_peer_gone(struct msgbuf_pool *pool, unsigned peer)
{
	uint64_t bit = (uint64_t)1 << peer;
	struct owned *o, *next;

	assert(peer < MSGBUF_PEERS);
	HASH_ITER(hh, pool->all, o, next) {
		o->mappers &= ~bit;
		o->file_peers &= ~bit;
		if (!(o->holders & bit))
			continue;
		o->holders &= ~bit;
		if (o->put && !o->holders)
			recycle(pool, o);
	}
}

void msgbuf_pool_tick(struct msgbuf_pool *pool, int64_t now_ms)
{
	struct owned *o, *next;

	HASH_ITER(hh, pool->all, o, next)
		if (o->put && o->holders && now_ms - o->put_ms >= MSGBUF_RELEASE_MS)
			destroy(pool, o);
}
