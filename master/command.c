#include "config.h"

#include "master/command.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "common/log.h"
#include "master/status.h"
#include "master/supervisor.h"

static const struct conf *conf;

static struct control_result answer(int status, const char *key, const char *text)
{
	return (struct control_result){ .status = status, .object = json_pack("{ss}", key, text) };
}

static struct control_result run_status(const struct control_request *request)
{
	(void)request;
	return (struct control_result){ .status = EXIT_SUCCESS, .object = status_make(conf) };
}

static void stop(void)
{
	supervisor_stop("milterctl stop");
}

static void drain(void)
{
	supervisor_drain("milterctl drain");
}

/* The connection ends with the daemon: that is how milterctl knows. */
static struct control_result run_stop(const struct control_request *request)
{
	struct control_result result = answer(EXIT_SUCCESS, "message", "stopped");

	(void)request;
	result.hold = true;
	result.then = stop;
	return result;
}

static struct control_result run_drain(const struct control_request *request)
{
	struct control_result result = answer(EXIT_SUCCESS, "message", "draining");

	(void)request;
	result.then = drain;
	return result;
}

static struct control_result run_log(const struct control_request *request)
{
	static const char *const levels[] = {
		[LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
		[LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug",
	};

	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++) {
		if (strcmp(levels[i], request->word[1]) == 0) {
			supervisor_set_log_level((enum log_level)i);
			return answer(EXIT_SUCCESS, "message", "the log level is changed until the next start");
		}
	}
	return answer(EX_USAGE, "error", "the level is none of error, warning, notice, info, debug");
}

static const struct {
	const char *name;
	size_t words;		/* its own included */
	struct control_result (*run)(const struct control_request *);
} commands[] = {
	{ "status", 1, run_status },
	{ "stop", 1, run_stop },
	{ "drain", 1, run_drain },
	{ "log", 2, run_log },
};

void command_init(const struct conf *c)
{
	conf = c;
	status_init();
}

struct control_result command_run(const struct control_request *request)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (strcmp(commands[i].name, request->word[0]) != 0)
			continue;
		return request->count == commands[i].words ? commands[i].run(request) :
			answer(EX_USAGE, "error", "the command has too few or too many arguments");
	}
	return answer(EX_USAGE, "error", "the daemon does not know this command");
}
