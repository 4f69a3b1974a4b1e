#include "config.h"

#include "tests/instruments/spool.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

int spool_open(const char *path)
{
	int fd;

	if (!path)
		return -1;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

void spool_write(int fd, uint64_t id, const char *kind, const struct buf *envelope, const struct buf *content)
{
	char head[128];
	struct iovec part[4] = {
		{ head, 0 },
		{ envelope->data ? buf_head(envelope) : NULL, buf_len(envelope) },
		{ content->data ? buf_head(content) : NULL, buf_len(content) },
		{ "\n", 1 },
	};
	size_t total;

	if (fd < 0)
		return;
	part[0].iov_len = (size_t)snprintf(head, sizeof(head), "message %" PRIu64 " %s %zu %zu\n", id, kind,
		part[1].iov_len, part[2].iov_len);
	total = part[0].iov_len + part[1].iov_len + part[2].iov_len + part[3].iov_len;
	/* To a regular file only a full disk makes this short. */
	if (writev(fd, part, 4) != (ssize_t)total)
		err(1, "spool");
}
