#include "config.h"

#include "common/msgbuf_views.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <uthash.h>

#include "common/fd.h"
#include "common/mem.h"
#include "common/msgbuf.h"

#define SEALS_NEEDED (F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE)
#define VIEWS_MAX    4096u

struct view {
	uint32_t id;
	int fd;
	const uint8_t *data;	/* MSGBUF_LIMIT bytes of address space; only what the memfd has may be touched */
	int file;		/* -1: none */
	size_t size;		/* bytes the memfd is known to have, at most what is mapped; it can only grow */
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
	fd_close(&v->file);
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
	v->file = -1;
	v->data = map;
	HASH_ADD(hh, views->all, id, sizeof(v->id), v);
	return 0;
}

/* Reading a pipe or a device could block. */
static bool is_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

int msgbuf_views_add_file(struct msgbuf_views *views, uint32_t id, int fd)
{
	struct view *v = find(views, id);

	if (v && v->file < 0 && is_file(fd)) {
		v->file = fd;
		return 0;
	}
	errno = !v ? ENOENT : v->file >= 0 ? EEXIST : EPERM;
	fd_close(&fd);
	return -1;
}

static bool file_has(int fd, size_t len)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_size >= 0 && len <= (uintmax_t)st.st_size;
}

int msgbuf_views_read(struct msgbuf_views *views, uint32_t id, size_t memory, size_t len, struct spooled *content)
{
	const uint8_t *data = msgbuf_views_map(views, id, memory);
	struct view *v = find(views, id);

	if (!data)
		return -1;
	if (memory > len || len > MSGBUF_LIMIT || (len > memory && !file_has(v->file, len - memory))) {
		errno = EFAULT;
		return -1;
	}
	*content = (struct spooled){ .data = data, .memory = memory, .len = len, .file = v->file };
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
		/* The memfd may be larger than what is mapped of it. */
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
