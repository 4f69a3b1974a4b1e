#include "config.h"

#include "common/msgbuf.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uthash.h>
#include <utlist.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/mem.h"

#define SEALS_NEEDED (F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE)
#define VIEWS_MAX    4096u
#define FIRST_SIZE   (32u * 1024)	/* bytes; then doubling */

struct owned {
	struct msgbuf buffer;		/* first: the pool gets from one to the other */
	int fd;
	size_t allocated;		/* bytes of the file; never less than what a reader was told */
	uint64_t holders;		/* peers that may read this generation */
	uint64_t mappers;		/* peers that have the descriptor */
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
	return pool;
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

/* Make the file at least size bytes long. Memory is allocated here, so that writing to it cannot fail. */
static int grow(struct msgbuf_pool *pool, struct owned *o, size_t size)
{
	size_t wanted = o->allocated ? o->allocated : FIRST_SIZE;

	while (wanted < size)
		wanted *= 2;
	if (wanted > pool->map_size)
		wanted = pool->map_size;
	while (wanted - o->allocated > pool->budget - pool->bytes) {
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

static int open_file(struct msgbuf_pool *pool, struct owned *o)
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

	o->fd = -1;
	if (open_file(pool, o) == 0 && grow(pool, o, FIRST_SIZE < pool->map_size ? FIRST_SIZE : pool->map_size) == 0) {
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

uint8_t *msgbuf_reserve(struct msgbuf_pool *pool, struct msgbuf *buffer, size_t len, size_t *room)
{
	struct owned *o = owned_of(buffer);
	size_t usable;

	if (len > pool->limit - buffer->len) {
		errno = EMSGSIZE;
		return NULL;
	}
	if (buffer->len + len > o->allocated && grow(pool, o, buffer->len + len) < 0)
		return NULL;
	usable = o->allocated < pool->limit ? o->allocated : pool->limit;
	*room = usable - buffer->len;
	return buffer->data + buffer->len;
}

void msgbuf_commit(struct msgbuf *buffer, size_t len)
{
	assert(len <= owned_of(buffer)->allocated - buffer->len);
	buffer->len += len;
}

int msgbuf_append(struct msgbuf_pool *pool, struct msgbuf *buffer, const void *data, size_t len)
{
	size_t room;
	uint8_t *at = msgbuf_reserve(pool, buffer, len, &room);

	if (!at)
		return -1;
	if (len)
		memcpy(at, data, len);
	msgbuf_commit(buffer, len);
	return 0;
}

void msgbuf_truncate(struct msgbuf *buffer, size_t len)
{
	assert(len <= buffer->len && !owned_of(buffer)->holders);
	buffer->len = len;
}

static void recycle(struct msgbuf_pool *pool, struct owned *o)
{
	if (o->allocated > MSGBUF_KEEP || pool->kept_count >= MSGBUF_KEEP_FREE) {
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

/* The reader's side. */

struct view {
	uint32_t id;
	int fd;
	const uint8_t *data;	/* MSGBUF_LIMIT bytes of address space; only what the file has may be touched */
	size_t size;		/* bytes the file is known to have, at most what is mapped; it can only grow */
	UT_hash_handle hh;
};

struct msgbuf_views {
	struct view *all;
};

struct msgbuf_views *msgbuf_views_new(void)
{
	return mem_alloc(sizeof(struct msgbuf_views));
}

static struct view *find(struct msgbuf_views *views, uint32_t id)
{
	struct view *v;

	HASH_FIND(hh, views->all, &id, sizeof(id), v);
	return v;
}

static void remove_view(struct msgbuf_views *views, struct view *v)
{
	HASH_DEL(views->all, v);
	munmap((void *)v->data, MSGBUF_LIMIT);
	fd_close(&v->fd);
	free(v);
}

void msgbuf_views_free(struct msgbuf_views *views)
{
	struct view *v, *next;

	if (!views)
		return;
	HASH_ITER(hh, views->all, v, next)
		remove_view(views, v);
	free(views);
}

int msgbuf_views_add(struct msgbuf_views *views, uint32_t id, int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	void *map = MAP_FAILED;

	/* -1, for what is no memfd, has all bits set. */
	if (seals < 0 || (seals & SEALS_NEEDED) != SEALS_NEEDED)
		errno = EPERM;
	else if (find(views, id))
		errno = EEXIST;
	else if (HASH_COUNT(views->all) >= VIEWS_MAX)
		errno = EMFILE;
	else
		map = mmap(NULL, MSGBUF_LIMIT, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED) {
		fd_close(&fd);
		return -1;
	}
	struct view *v = mem_alloc(sizeof(*v));

	v->id = id;
	v->fd = fd;
	v->data = map;
	HASH_ADD(hh, views->all, id, sizeof(v->id), v);
	return 0;
}

const uint8_t *msgbuf_views_map(struct msgbuf_views *views, uint32_t id, size_t len)
{
	struct view *v = find(views, id);
	struct stat st;

	if (!v) {
		errno = ENOENT;
		return NULL;
	}
	if (len > v->size) {
		if (fstat(v->fd, &st) < 0 || st.st_size < 0 || len > (uintmax_t)st.st_size || len > MSGBUF_LIMIT) {
			errno = EFAULT;
			return NULL;
		}
		/* The file may be larger than what is mapped of it. */
		v->size = st.st_size < (off_t)MSGBUF_LIMIT ? (size_t)st.st_size : MSGBUF_LIMIT;
	}
	return v->data;
}

int msgbuf_views_drop(struct msgbuf_views *views, uint32_t id)
{
	struct view *v = find(views, id);

	if (!v) {
		errno = ENOENT;
		return -1;
	}
	remove_view(views, v);
	return 0;
}
