/* fd.h - descriptors: flags, passing over UNIX sockets, sealed memory files */
#ifndef MILTERD_FD_H
#define MILTERD_FD_H

#include <stddef.h>
#include <sys/types.h>

int fd_set_nonblocking(int fd);
int fd_set_cloexec(int fd);
/* Close if it is not -1, and set it to -1. errno is kept. */
void fd_close(int *fd);
/* A sealed (write, grow, shrink, seal) memfd with these bytes, close-on-exec. -1 with errno. */
int fd_sealed_text(const char *name, const void *, size_t len);
/* The whole content of a descriptor as a NUL-terminated string, owned by the caller; NULL with errno
 * (EFBIG above limit bytes). Reads from offset 0 with pread. */
char *fd_read_all(int fd, size_t limit, size_t *len);

#endif
