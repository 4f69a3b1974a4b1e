#include "config.h"

#include "common/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"

#define SEALS	  (F_SEAL_SHRINK | F_SEAL_GROW)
#define READS_MAX 8	/* a writer that is always in the middle is not waited for */
#define WORDS	  (STATS_TEXT_SIZE / sizeof(uint64_t))

_Static_assert(STATS_TEXT_SIZE % sizeof(uint64_t) == 0, "a text is copied by words");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "no lock is shared with another process");

static size_t page_size(size_t milters)
{
	return sizeof(struct stats_page) + milters * sizeof(struct stats_milter);
}

int stats_create(size_t milters)
{
	int fd = memfd_create("milterd.stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && (ftruncate(fd, (off_t)page_size(milters)) < 0 || fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0))
		fd_close(&fd);
	return fd;
}

static void *map(int fd, size_t milters, int protection)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) < 0 || (uintmax_t)st.st_size != page_size(milters)) {
		errno = EBADMSG;
		return NULL;
	}

	void *page = mmap(NULL, page_size(milters), protection, MAP_SHARED, fd, 0);

	return page == MAP_FAILED ? NULL : page;
}

struct stats_page *stats_map_writable(int fd, size_t milters)
{
	return map(fd, milters, PROT_READ | PROT_WRITE);
}

const struct stats_page *stats_map(int fd, size_t milters)
{
	return map(fd, milters, PROT_READ);
}

void stats_unmap(const struct stats_page *page, size_t milters)
{
	if (page)
		munmap((void *)page, page_size(milters));
}

void stats_failure_set(struct stats_failure *f, const char *endpoint, const char *why)
{
	uint64_t word[WORDS] = { 0 };
	uint32_t version = atomic_load_explicit(&f->version, memory_order_relaxed);

	snprintf((char *)word, sizeof(word), "%s%s%s", endpoint, *endpoint ? ": " : "", why);
	atomic_store_explicit(&f->version, version + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	for (size_t i = 0; i < WORDS; i++)
		stats_set(&f->word[i], word[i]);
	stats_set(&f->wall_us, (uint64_t)clock_wall_us());
	atomic_store_explicit(&f->version, version + 2, memory_order_release);
}

uint64_t stats_failure_get(const struct stats_failure *f, char text[STATS_TEXT_SIZE])
{
	for (int i = 0; i < READS_MAX; i++) {
		uint64_t word[WORDS], when;
		uint32_t version = atomic_load_explicit(&f->version, memory_order_acquire);

		for (size_t j = 0; j < WORDS; j++)
			word[j] = stats_get(&f->word[j]);
		when = stats_get(&f->wall_us);
		atomic_thread_fence(memory_order_acquire);
		if (version % 2 || atomic_load_explicit(&f->version, memory_order_relaxed) != version)
			continue;
		memcpy(text, word, STATS_TEXT_SIZE);
		text[STATS_TEXT_SIZE - 1] = '\0';
		return when;
	}
	text[0] = '\0';
	return 0;
}
