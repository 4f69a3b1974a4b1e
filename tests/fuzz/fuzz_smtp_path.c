/* Mail addresses and ESMTP parameters. What is taken has no byte that could end a command, and is taken again, as the
 * same, between brackets. */
#include "config.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "common/smtp_path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_address(struct arena *arena, enum smtp_path_kind kind, const char *address)
{
	const char *bracketed = arena_printf(arena, "<%s>", address), *again, *why;
	size_t used;

	for (const char *c = address; *c; c++)
		assert((uint8_t)*c >= 32 && *c != 127);
	assert(strlen(bracketed) <= SMTP_PATH_MAX);
	again = smtp_path_parse(arena, kind, bracketed, strlen(bracketed), &used, &why);
	assert(again && used == strlen(bracketed) && strcmp(again, address) == 0);
	again = smtp_path_from_milter(arena, kind, address, &why);
	assert(again && strcmp(again, address) == 0);
	assert(smtp_path_equal(address, again));
}

static void check_kind(struct arena *arena, enum smtp_path_kind kind, const char *text, size_t len, const char *copy)
{
	const char *why = NULL, *address;
	size_t used = 0;

	address = smtp_path_parse(arena, kind, text, len, &used, &why);
	assert(address || why);
	if (address) {
		assert(used <= len && text[used - 1] == '>');
		check_address(arena, kind, address);
	}
	address = smtp_path_from_milter(arena, kind, copy, &why);
	if (address)
		check_address(arena, kind, address);
}

static void check_params(struct arena *arena, const char *text, size_t len)
{
	size_t count, again;
	const char *why, **params = smtp_params_parse(arena, text, len, 8, &count, &why);

	if (!params)
		return;
	assert(count <= 8);
	for (size_t i = 0; i < count; i++) {
		const char **one = smtp_params_parse(arena, params[i], strlen(params[i]), 1, &again, &why);

		assert(one && again == 1 && strcmp(one[0], params[i]) == 0);
		assert(!strpbrk(params[i], " \t\r\n"));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = size ? (const char *)data : "";
	struct arena arena = { 0 };
	const char *copy = arena_strndup(&arena, text, size);
	size_t half = strcspn(copy, "\n");

	check_kind(&arena, SMTP_PATH_REVERSE, text, size, copy);
	check_kind(&arena, SMTP_PATH_FORWARD, text, size, copy);
	check_params(&arena, text, size);
	/* Two lines: whatever they are, being equal does not depend on the order. */
	if (half < strlen(copy)) {
		const char *one = arena_strndup(&arena, copy, half), *other = copy + half + 1;

		assert(smtp_path_equal(one, other) == smtp_path_equal(other, one));
	}
	arena_fini(&arena);
	return 0;
}
