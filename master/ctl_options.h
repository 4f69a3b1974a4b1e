/* ctl_options.h - what milterctl was told in front of its command */
#ifndef MILTERD_CTL_OPTIONS_H
#define MILTERD_CTL_OPTIONS_H

#include <stdbool.h>

struct ctl_options {
	const char *socket;	/* -s; NULL: that of the configuration */
	const char *config;	/* -f, or the installed one */
	bool config_given;	/* there was -f */
	bool json;		/* --json */
};

/* A command: argv[0] is its name, argc at least 1. Returns the exit status. */
typedef int ctl_command_fn(const struct ctl_options *, int argc, char **argv);

#endif
