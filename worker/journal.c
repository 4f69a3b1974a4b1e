#include "config.h"

#include "worker/journal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ARGS_BYTES_MAX 32768u	/* of one event: well below what a milter packet holds */

/* What ipc.h leaves open: a path must not be empty, and everything must fit a milter packet. */
static bool is_well_formed(const struct ipc_event *e)
{
	size_t bytes = 0;

	for (size_t i = 0; i < e->arg_count; i++)
		bytes += strlen(e->arg[i]) + 1;
	return bytes <= ARGS_BYTES_MAX && ((e->kind != IPC_MAIL && e->kind != IPC_RCPT) || e->arg[0][0]);
}

/* The order that ipc.h describes. MAIL and HELO may come in a message: they end it. */
static bool is_in_order(const struct journal *j, const struct ipc_event *e)
{
	if (e->number <= j->last)
		return false;
	switch (e->kind) {
	case IPC_CONNECT:
		return !j->connect;
	case IPC_RCPT:
		return j->count && !j->data;
	case IPC_DATA:
		return j->count && !j->data;
	case IPC_EOM:
		return j->data && j->message[j->count - 1] == j->data;
	default:
		return j->connect;
	}
}

static void swap(struct arena *a, struct arena *b)
{
	struct arena c = *a;

	*a = *b;
	*b = c;
}

static void append(struct journal *j, struct journal_entry *entry)
{
	if (j->count == j->room) {
		j->room = j->room ? j->room * 2 : 8;
		j->message = mem_realloc(j->message, j->room * sizeof(*j->message));
	}
	j->message[j->count++] = entry;
}

static void forget_message(struct journal *j)
{
	j->count = 0;
	j->data = NULL;
	j->unknown = NULL;
}

/* scratch holds the entry, unless it came in a message and goes on with it. */
static void place(struct journal *j, struct journal_entry *entry, struct arena *scratch)
{
	switch (entry->event.kind) {
	case IPC_CONNECT:
		swap(&j->connect_arena, scratch);
		j->connect = entry;
		break;
	case IPC_HELO:
		swap(&j->helo_arena, scratch);
		j->helo = entry;
		break;
	case IPC_MAIL:
		swap(&j->arena, scratch);
		append(j, entry);
		break;
	case IPC_UNKNOWN:
		if (!j->count)
			swap(&j->arena, scratch);
		j->unknown = entry;
		break;
	default:
		append(j, entry);
		if (entry->event.kind == IPC_DATA)
			j->data = entry;
	}
}

struct journal_entry *journal_add(struct journal *j, struct wire *w, struct arena *scratch)
{
	struct ipc_event event = { 0 };

	/* What follows MAIL lives as long as MAIL does. When it proves to be the begin of something new, it takes the
	 * arena along. */
	ipc_event_take(w, j->count ? &j->arena : scratch, &event);
	if (j->count && (event.kind == IPC_HELO || event.kind == IPC_MAIL)) {
		forget_message(j);
		swap(&j->arena, scratch);
	}
	if (!wire_finished(w) || !is_well_formed(&event) || !is_in_order(j, &event)) {
		arena_reset(scratch);
		return NULL;
	}
	struct journal_entry *entry = arena_alloc(j->count ? &j->arena : scratch, sizeof(*entry));

	entry->event = event;
	j->last = event.number;
	j->unknown = NULL;
	place(j, entry, scratch);
	arena_reset(scratch);
	return entry;
}

bool journal_in_message(const struct journal *j)
{
	return j->count > 0;
}

void journal_end_message(struct journal *j)
{
	forget_message(j);
	arena_reset(&j->arena);
}

void journal_fini(struct journal *j)
{
	arena_fini(&j->connect_arena);
	arena_fini(&j->helo_arena);
	arena_fini(&j->arena);
	free(j->message);
	*j = (struct journal){ 0 };
}

struct journal_entry *journal_after(const struct journal *j, uint32_t number)
{
	size_t low = 0, high = j->count;

	if (j->connect && j->connect->event.number > number)
		return j->connect;
	if (j->helo && j->helo->event.number > number)
		return j->helo;
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (j->message[middle]->event.number > number)
			high = middle;
		else
			low = middle + 1;
	}
	if (low < j->count)
		return j->message[low];
	return j->unknown && j->unknown->event.number > number ? j->unknown : NULL;
}

struct journal_entry *journal_find(const struct journal *j, uint32_t number)
{
	struct journal_entry *entry = journal_after(j, number - 1);

	assert(entry && entry->event.number == number);
	return entry;
}

static void add(struct macros_scope *scope, const struct journal_entry *from, const struct journal_entry *at)
{
	if (from && from != at && from->event.number < at->event.number)
		scope->event[scope->count++] = &from->event;
}

void journal_scope(const struct journal *j, const struct journal_entry *at, struct macros_scope *scope)
{
	scope->event[0] = &at->event;
	scope->count = 1;
	if (at->event.kind >= IPC_MAIL) {
		add(scope, j->data, at);
		add(scope, j->count ? j->message[0] : NULL, at);
	}
	add(scope, j->helo, at);
	add(scope, j->connect, at);
}
