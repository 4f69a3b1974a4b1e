#include "config.h"

#include "common/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define CHUNK_SIZE  (4096 - 64)	/* with malloc's own bytes it stays below a page */
#define ALIGNMENT   _Alignof(max_align_t)

struct arena_chunk {
	struct arena_chunk *older;
	size_t size;
	_Alignas(max_align_t) unsigned char data[];
};

static void *checked(void *p, size_t size)
{
	if (!p) {
		log_error("event=out-of-memory bytes=%zu", size);
		abort();
	}
	return p;
}

void *mem_alloc(size_t size)
{
	return checked(calloc(1, size ? size : 1), size);
}

void *mem_array(size_t count, size_t size)
{
	return checked(calloc(count ? count : 1, size ? size : 1), count);
}

void *mem_realloc(void *p, size_t size)
{
	return checked(realloc(p, size ? size : 1), size);
}

char *mem_strdup(const char *s)
{
	return mem_strndup(s, strlen(s));
}

char *mem_strndup(const void *data, size_t len)
{
	if (len == SIZE_MAX)
		checked(NULL, len);
	char *copy = checked(malloc(len + 1), len + 1);

	if (len)
		memcpy(copy, data, len);
	copy[len] = '\0';
	return copy;
}

static void arena_grow(struct arena *a, size_t size)
{
	size_t room = size > CHUNK_SIZE ? size : CHUNK_SIZE;

	if (room > SIZE_MAX - sizeof(struct arena_chunk))
		checked(NULL, room);
	struct arena_chunk *chunk = checked(malloc(sizeof(*chunk) + room), room);

	chunk->size = room;
	chunk->older = a->chunk;
	a->chunk = chunk;
	a->used = 0;
}

void *arena_alloc(struct arena *a, size_t size)
{
	if (size > SIZE_MAX - ALIGNMENT)
		checked(NULL, size);
	size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	if (!a->chunk || a->chunk->size - a->used < size)
		arena_grow(a, size);

	void *p = a->chunk->data + a->used;

	a->used += size;
	a->total += size;
	return memset(p, 0, size);
}

char *arena_strndup(struct arena *a, const void *data, size_t len)
{
	if (len == SIZE_MAX)
		checked(NULL, len);
	char *copy = arena_alloc(a, len + 1);

	if (len)
		memcpy(copy, data, len);
	return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *format, ...)
{
	va_list args, again;

	va_start(args, format);
	va_copy(again, args);
	int len = vsnprintf(NULL, 0, format, args);
	char *text = arena_alloc(a, len < 0 ? 1 : (size_t)len + 1);

	if (len > 0)
		vsnprintf(text, (size_t)len + 1, format, again);
	va_end(again);
	va_end(args);
	return text;
}

void arena_reset(struct arena *a)
{
	struct arena_chunk *kept = NULL;

	while (a->chunk) {
		struct arena_chunk *older = a->chunk->older;

		if (!kept && a->chunk->size == CHUNK_SIZE)
			kept = a->chunk;
		else
			free(a->chunk);
		a->chunk = older;
	}
	if (kept)
		kept->older = NULL;
	*a = (struct arena){ .chunk = kept };
}

void arena_fini(struct arena *a)
{
	arena_reset(a);
	free(a->chunk);
	*a = (struct arena){ 0 };
}
