/* milterctl.c - the command line to a running milterd, and to what can be tried without one
 *
 * Every command is one row of the table: its name, what it is given, its help, and what carries it out. Exit status: 0; 1
 * for a negative answer; 64 wrong usage; 69 no daemon; 75 no answer in time; 77 not permitted; 78 configuration.
 */
#include "config.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "common/conf.h"
#include "master/ctl_check.h"
#include "master/ctl_options.h"
#include "master/ctl_remote.h"
#include "master/ctl_test.h"
#include "master/ctl_status.h"

static const struct command {
	const char *name, *arguments, *help;
	ctl_command_fn *run;
} commands[] = {
	{ "status", "", "show processes, messages and milters, and why one is down", ctl_status },
	{ "stop", "", "end milterd when running messages are finished, and wait for that; twice: now", ctl_stop },
	{ "drain", "", "take no new clients, and end when the present ones have gone", ctl_simple },
	{ "check", "", "connect to every milter of the configuration and show what it negotiates, or why not", ctl_check },
	{ "log", "LEVEL", "log from this level on: error, warning, notice, info, debug", ctl_simple },
	{ "test", "FILE", "take a message through the milters, explain and deliver nothing; test --help", ctl_test },
};

#define COMMANDS (sizeof(commands) / sizeof(*commands))

static void print_usage(FILE *to)
{
	fputs("Usage: milterctl [-s SOCKET] [-f CONFIG] [--json] COMMAND\n"
	      "  -s SOCKET  the control socket, instead of that of the configuration\n"
	      "  -f CONFIG  configuration, instead of " CONF_FILE "\n"
	      "  --json     answer with a JSON object\n"
	      "  -V         print the version and exit\n"
	      "  -h         print this help and exit\n"
	      "Commands:\n", to);
	for (size_t i = 0; i < COMMANDS; i++) {
		char left[64];

		snprintf(left, sizeof(left), "%s %s", commands[i].name, commands[i].arguments);
		fprintf(to, "  %-12s %s\n", left, commands[i].help);
	}
}

static int wrong_usage(void)
{
	print_usage(stderr);
	return EX_USAGE;
}

static int run(const struct ctl_options *options, int argc, char **argv)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(commands[i].name, argv[0]) == 0)
			return commands[i].run(options, argc, argv);
	fprintf(stderr, "milterctl: there is no command \"%s\"\n", argv[0]);
	return wrong_usage();
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 },
	};
	struct ctl_options options = { .config = CONF_FILE };
	int letter;

	/* What stands behind the command is the command's. */
	while ((letter = getopt_long(argc, argv, "+s:f:Vh", longs, NULL)) != -1) {
		switch (letter) {
		case 's':
			options.socket = optarg;
			break;
		case 'f':
			options.config = optarg;
			options.config_given = true;
			break;
		case 'j':
			options.json = true;
			break;
		case 'V':
			puts("milterctl " PACKAGE_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			print_usage(stdout);
			return EXIT_SUCCESS;
		default:
			return wrong_usage();
		}
	}
	if (optind == argc)
		return wrong_usage();

	argv += optind;
	argc -= optind;
	optind = 0;	/* a command may call getopt() again: 0 makes glibc begin anew */
	return run(&options, argc, argv);
}
