#include "config.h"

#include "master/ctl_status.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/terminal.h"
#include "master/ctl_remote.h"

#define STATUS_MS   10000
#define COLUMNS_MAX 10

/* A column is a key of the objects in a list; keys that end in _ms are shown as times. */
struct column {
	const char *title, *key;
};

static void put_time(struct buf *b, json_int_t ms)
{
	static const struct {
		json_int_t ms;
		const char *unit;
	} units[] = { { 86400000, "d" }, { 3600000, "h" }, { 60000, "m" }, { 1000, "s" } };

	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
		if (ms >= units[i].ms) {
			buf_printf(b, "%lld%s", (long long)(ms / units[i].ms), units[i].unit);
			return;
		}
	}
	buf_printf(b, "%lldms", (long long)ms);
}

/* A cell's text, the caller's. */
static char *cell(const json_t *row, const char *key)
{
	const json_t *value = json_object_get(row, key);
	size_t len = strlen(key);
	struct buf b = { 0 };

	if (json_is_string(value))
		terminal_put(&b, json_string_value(value));
	else if (json_is_integer(value) && len > 3 && strcmp(key + len - 3, "_ms") == 0)
		put_time(&b, json_integer_value(value));
	else if (json_is_integer(value))
		buf_printf(&b, "%lld", (long long)json_integer_value(value));
	else
		buf_puts(&b, "-");
	buf_append(&b, "", 1);
	return (char *)b.data;
}

/* Columns as wide as their widest cell, counted in characters. */
static int width_of(const char *text)
{
	int width = 0;

	for (; *text; text++)
		width += (*text & 0xc0) != 0x80;
	return width;
}

static void print_cell(const char *text, int width, bool is_last)
{
	printf("%s%*s", text, is_last ? 0 : width - width_of(text) + 2, "");
}

static void print_table(const json_t *list, const struct column *column, size_t columns)
{
	int width[COLUMNS_MAX];
	const json_t *row;
	size_t i;

	for (size_t c = 0; c < columns; c++) {
		width[c] = width_of(column[c].title);
		json_array_foreach((json_t *)list, i, row) {
			char *text = cell(row, column[c].key);

			if (width_of(text) > width[c])
				width[c] = width_of(text);
			free(text);
		}
	}
	for (size_t c = 0; c < columns; c++)
		print_cell(column[c].title, width[c], c + 1 == columns);
	putchar('\n');
	json_array_foreach((json_t *)list, i, row) {
		for (size_t c = 0; c < columns; c++) {
			char *text = cell(row, column[c].key);

			print_cell(text, width[c], c + 1 == columns);
			free(text);
		}
		putchar('\n');
	}
}

static void print_failures(const json_t *list)
{
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)list, i, row) {
		char *name = cell(row, "name"), *failure = cell(row, "failure"), *age = cell(row, "failure_age_ms");

		if (json_object_get(row, "failure"))
			printf("%s: last failure %s ago: %s\n", name, age, failure);
		free(name);
		free(failure);
		free(age);
	}
}

static void print_status(const json_t *status)
{
	static const struct column process[] = {
		{ "PROCESS", "role" }, { "SLOT", "slot" }, { "STATE", "state" }, { "PID", "pid" }, { "AGE", "age_ms" },
		{ "RESTARTS", "restarts" }, { "SESSIONS", "sessions" }, { "TOTAL", "sessions_total" },
	};
	static const struct column milter[] = {
		{ "MILTER", "name" }, { "STATE", "state" }, { "BUSY", "busy" }, { "BOUND", "bound" },
		{ "SPARE", "spare" }, { "CONNECTING", "connecting" }, { "WAITING", "waiting" }, { "ANSWERS", "answers" },
		{ "FAILURES", "failures" },
	};
	char *version = cell(status, "version"), *state = cell(status, "state"), *age = cell(status, "uptime_ms");
	const char *key;
	json_t *value;

	printf("milterd %s, %s, up %s, pid %lld\nmessages:", version, state, age,
	       (long long)json_integer_value(json_object_get(status, "pid")));
	json_object_foreach(json_object_get(status, "messages"), key, value)
		printf(" %lld %s", (long long)json_integer_value(value), key);
	printf("\n\n");
	print_table(json_object_get(status, "processes"), process, sizeof(process) / sizeof(*process));
	putchar('\n');
	print_table(json_object_get(status, "milters"), milter, sizeof(milter) / sizeof(*milter));
	print_failures(json_object_get(status, "milters"));
	free(version);
	free(state);
	free(age);
}

int ctl_status(const struct ctl_options *options, int argc, char **argv)
{
	json_t *answer;
	int status = ctl_ask(options, argc, argv, STATUS_MS, &answer);
	const char *error = json_string_value(json_object_get(answer, "error"));

	if (answer && options->json)
		ctl_print_json(answer);
	else if (error)
		fprintf(stderr, "milterctl: %s\n", error);
	else if (answer)
		print_status(answer);
	json_decref(answer);
	return status;
}
