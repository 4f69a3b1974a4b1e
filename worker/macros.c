#include "config.h"

#include "worker/macros.h"

#include <string.h>

#define PACKET_DATA_MAX 65535u	/* libmilter closes the connection above it */
#define SEPARATORS	" \t,"

/* "i" and "{i}" are the same name, in both directions. */
static void without_braces(const char **name, size_t *len)
{
	if (*len >= 2 && (*name)[0] == '{' && (*name)[*len - 1] == '}') {
		*name += 1;
		*len -= 2;
	}
}

const struct milter_macro *macros_find(const struct macros_scope *scope, const char *name, size_t len)
{
	without_braces(&name, &len);
	for (size_t i = 0; i < scope->count; i++) {
		const struct ipc_event *event = scope->event[i];

		for (size_t k = 0; k < event->macro_count; k++) {
			const char *have = event->macro[k].name;
			size_t have_len = strlen(have);

			without_braces(&have, &have_len);
			if (have_len == len && memcmp(have, name, len) == 0)
				return &event->macro[k];
		}
	}
	return NULL;
}

bool macros_put(struct buf *to, uint8_t command, const char *names, const struct macros_scope *scope)
{
	struct milter_macro item[MILTER_MACROS_MAX];
	size_t count = 0, size = 1;

	for (const char *at = names; at && *at && count < MILTER_MACROS_MAX;) {
		size_t len = strcspn(at, SEPARATORS);
		const struct milter_macro *found = len ? macros_find(scope, at, len) : NULL;

		at += len + strspn(at + len, SEPARATORS);
		if (!found)
			continue;
		size_t more = strlen(found->name) + strlen(found->value) + 2;

		if (more > PACKET_DATA_MAX - size)
			continue;
		size += more;
		item[count++] = *found;
	}
	if (!count)
		return false;
	milter_put_macros(to, command, item, count);
	return true;
}
