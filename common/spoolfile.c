#include "config.h"

#include "common/spoolfile.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"

int spoolfile_create(int folder, int *reader)
{
	char own[32];
	/* Nobody may open it for writing again, and with O_EXCL nobody may give it a name. */
	int fd = openat(folder, ".", O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0400);

	if (fd < 0)
		return -1;
	snprintf(own, sizeof(own), "/proc/self/fd/%d", fd);
	*reader = open(own, O_RDONLY | O_CLOEXEC);
	if (*reader < 0)
		fd_close(&fd);
	return fd;
}

int spoolfile_write(int fd, size_t at, const void *data, size_t len)
{
	const uint8_t *from = data;

	while (len) {
		ssize_t n = pwrite(fd, from, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n < 0 ? errno : ENOSPC;
			return -1;
		}
		from += n;
		at += (size_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int spoolfile_read(int fd, size_t at, void *data, size_t len)
{
	uint8_t *to = data;

	while (len) {
		ssize_t n = pread(fd, to, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n < 0 ? errno : EIO;
			return -1;
		}
		to += n;
		at += (size_t)n;
		len -= (size_t)n;
	}
	return 0;
}

struct spooled spooled_from(const struct spooled *s, size_t offset)
{
	size_t memory = offset < s->memory ? offset : s->memory;

	assert(offset <= s->len);
	return (struct spooled){
		.data = s->data + memory, .memory = s->memory - memory, .len = s->len - offset,
		.file = s->file, .file_at = s->file_at + (offset - memory),
	};
}

int spooled_read(const struct spooled *s, size_t offset, void *to, size_t len)
{
	struct spooled rest = spooled_from(s, offset);
	size_t memory = len < rest.memory ? len : rest.memory;

	assert(len <= rest.len);
	if (memory)
		memcpy(to, rest.data, memory);
	return len > memory ? spoolfile_read(rest.file, rest.file_at, (uint8_t *)to + memory, len - memory) : 0;
}
