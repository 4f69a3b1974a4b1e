/* mem.h - allocation that cannot fail, and arenas
 *
 * Out of memory ends the process with a log line (the master starts another), so no caller unwinds.
 * Three lifetimes: process, connection, message. A message's small parts live in an arena and die with it.
 */
#ifndef MILTERD_MEM_H
#define MILTERD_MEM_H

#include <stddef.h>

/* Zeroed memory, owned by the caller, released with free(). */
void *mem_alloc(size_t size);
/* count * size bytes, zeroed; an overflow ends the process like any failed allocation. */
void *mem_array(size_t count, size_t size);
void *mem_realloc(void *, size_t size);
char *mem_strdup(const char *);
char *mem_strndup(const void *, size_t len);

struct arena_chunk;

/* A zeroed struct arena is a valid empty one. */
struct arena {
	struct arena_chunk *chunk;	/* newest first */
	size_t used;			/* bytes of the newest chunk */
	size_t total;			/* bytes given out since the last reset */
};

/* Zeroed, aligned for any type, valid until arena_reset() or arena_fini(). */
void *arena_alloc(struct arena *, size_t size);
/* A NUL-terminated copy of len bytes (which may contain NULs). */
char *arena_strndup(struct arena *, const void *, size_t len);
char *arena_strdup(struct arena *, const char *);
char *arena_printf(struct arena *, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Frees all but one small chunk, so a steady load does not allocate. */
void arena_reset(struct arena *);
void arena_fini(struct arena *);

#endif
