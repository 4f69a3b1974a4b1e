/* spoolfile.h - content that does not fit into memory: unlinked files in the spool folder
 *
 * A file has no name from birth and goes with its last descriptor, however the processes end that hold one. It cannot be
 * sealed, so nobody maps it: it is read into private memory, a piece at a time, and a reader copes with bytes that
 * change or are not there.
 */
#ifndef MILTERD_SPOOLFILE_H
#define MILTERD_SPOOLFILE_H

#include <stddef.h>
#include <stdint.h>

/* A new file for its writer, and a second descriptor of it for readers, which cannot write. folder: an open directory.
 * Both are close-on-exec and the caller's. The writer's, or -1 with errno. Needs O_TMPFILE and /proc. */
int spoolfile_create(int folder, int *reader);
/* All of it: 0, or -1 with errno (ENOSPC, EDQUOT, EFBIG, EIO). */
int spoolfile_write(int fd, size_t at, const void *, size_t len);
/* All of it: 0, or -1 with errno (EIO also when the file is shorter). */
int spoolfile_read(int fd, size_t at, void *, size_t len);

/* Bytes of which the first ones are in memory and the others in a file. Owns nothing. */
struct spooled {
	const uint8_t *data;
	size_t memory;		/* bytes at data */
	size_t len;		/* all of them */
	int file;		/* used only when len > memory */
	size_t file_at;		/* where in it byte number memory is */
};

/* Without the first offset bytes (at most len). */
struct spooled spooled_from(const struct spooled *, size_t offset);
/* Copy len bytes from offset on, which must be there: 0, or -1 with errno as spoolfile_read(). */
int spooled_read(const struct spooled *, size_t offset, void *to, size_t len);

#endif
