/* check.c - milterd-check: connect to every milter of a configuration and show what it negotiates
 *
 * Started by milterctl check as the user of the workers, with the configuration on descriptor 4 like a child, and "text"
 * or "json" as its only argument. Exit status: 0; 1 when a milter did not answer; 64 when somebody else starts it.
 */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "common/buf.h"
#include "common/child.h"
#include "common/conf.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/resolve.h"
#include "common/terminal.h"
#include "worker/probe.h"

static json_t *results;		/* in the order of the configuration */
static size_t left;

static void on_result(void *ctx, json_t *result)
{
	json_array_set_new(results, (size_t)ctx, result);
	if (--left == 0)
		loop_stop();
}

static void ask_all(const struct conf *conf)
{
	for (size_t i = 0; i < conf->milter_count; i++) {
		for (unsigned j = 0; j < conf->milter[i].endpoints.count; j++) {
			json_array_append_new(results, json_null());
			probe_start(&conf->milter[i], j, on_result, (void *)(json_array_size(results) - 1));
			left++;
		}
	}
	if (left)
		loop_run();
}

static void print_pair(const char *name, const json_t *value)
{
	struct buf b = { 0 };

	if (!json_is_string(value))
		return;
	terminal_put(&b, json_string_value(value));
	printf("  %-14s %.*s\n", name, (int)buf_len(&b), buf_len(&b) ? (char *)buf_head(&b) : "");
	buf_fini(&b);
}

static void print_text(const json_t *result)
{
	const char *stage;
	json_t *names;
	char title[32];
	bool ok = json_is_true(json_object_get(result, "ok"));

	printf("%s %s: %s\n", json_string_value(json_object_get(result, "milter")),
	       json_string_value(json_object_get(result, "endpoint")), ok ? "ok" : "failed");
	print_pair("why", json_object_get(result, "error"));
	print_pair("what to do", json_object_get(result, "advice"));
	print_pair("address", json_object_get(result, "address"));
	if (!ok)
		return;
	printf("  %-14s %lld, after %lld ms\n", "version", (long long)json_integer_value(json_object_get(result, "version")),
	       (long long)json_integer_value(json_object_get(result, "ms")));
	print_pair("actions", json_object_get(result, "actions"));
	print_pair("steps", json_object_get(result, "steps"));
	json_object_foreach(json_object_get(result, "macros"), stage, names) {
		snprintf(title, sizeof(title), "macros %s", stage);
		print_pair(title, names);
	}
}

static int print_all(bool as_json)
{
	int status = EXIT_SUCCESS;
	json_t *result;
	size_t i;

	json_array_foreach(results, i, result) {
		if (!json_is_true(json_object_get(result, "ok")))
			status = EXIT_FAILURE;
		if (!as_json)
			print_text(result);
	}
	if (as_json) {
		json_dumpf(results, stdout, JSON_COMPACT);
		putchar('\n');
	}
	return fflush(stdout) == 0 ? status : EXIT_FAILURE;
}

/* What milterctl has read and found good. */
static struct conf *read_config(void)
{
	struct buf problems = { 0 };
	size_t len;
	char *text = fd_read_all(CHILD_FD_CONFIG, CONF_TEXT_MAX, &len);
	struct conf *conf = text ? conf_parse("configuration", text, len, &problems) : NULL;

	free(text);
	buf_fini(&problems);
	return conf;
}

int main(int argc, char **argv)
{
	struct conf *conf = argc == 2 ? read_config() : NULL;
	int status;

	if (!conf) {
		fprintf(stderr, "milterd-check is started by milterctl check\n");
		return EX_USAGE;
	}
	signal(SIGPIPE, SIG_IGN);
	log_init("check", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
	if (conf->milter_count == 0)
		fprintf(stderr, "milterctl: the configuration has no milter\n");
	loop_init();
	resolve_init();
	results = json_array();
	ask_all(conf);
	status = print_all(strcmp(argv[1], "json") == 0);
	json_decref(results);
	resolve_fini();
	loop_fini();
	conf_free(conf);
	return status;
}
