/* msgbuf_views.h - the reader's side of message buffers (msgbuf.h): what one peer has lent us */
#ifndef MILTERD_MSGBUF_VIEWS_H
#define MILTERD_MSGBUF_VIEWS_H

#include <stddef.h>
#include <stdint.h>

#include "common/spoolfile.h"

struct msgbuf_views;

struct msgbuf_views *msgbuf_views_new(void);
void msgbuf_views_free(struct msgbuf_views *);
/* A descriptor came; it is ours now, also on failure. 0, or -1 with errno: EPERM without the seals or not a memfd,
 * EEXIST, EMFILE above 4096 of them. */
int msgbuf_views_add(struct msgbuf_views *, uint32_t id, int fd);
/* The file of a buffer that was added; the descriptor is ours now, also on failure. 0, or -1 with errno: ENOENT, EEXIST,
 * EPERM when it is no file. */
int msgbuf_views_add_file(struct msgbuf_views *, uint32_t id, int fd);
/* len bytes, of which the first memory are mapped read-only and the others in the file; as long as
 * msgbuf_views_map(). 0, or -1 with errno as there; EFAULT also without a file or when that is too short. */
int msgbuf_views_read(struct msgbuf_views *, uint32_t id, size_t memory, size_t len, struct spooled *);
/* The first len bytes, mapped read-only; valid until msgbuf_views_drop() of this id. NULL with errno: ENOENT for an id
 * that was not lent, EFAULT when the memfd is shorter than len. */
const uint8_t *msgbuf_views_map(struct msgbuf_views *, uint32_t id, size_t len);
/* 0, or -1 (ENOENT). The caller has made sure that nothing reads there any more. */
int msgbuf_views_drop(struct msgbuf_views *, uint32_t id);

#endif
