/* milterd.c - the master: read the configuration, bind, drop privileges, look after the children
 *
 * Runs in the foreground. Exit status: 0; 78 when the configuration is wrong; 64 for wrong usage; 1 for the rest.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/child.h"
#include "common/conf.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/loop.h"
#include "master/command.h"
#include "master/control.h"
#include "master/listener.h"
#include "master/notify.h"
#include "master/privileges.h"
#include "master/spawn.h"
#include "master/spool_folder.h"
#include "master/supervisor.h"

static const char usage[] =
	"Usage: milterd [-f FILE] [-n] [-T] [-V] [-h]\n"
	"  -f FILE  configuration, instead of " CONF_FILE "\n"
	"  -n       check the configuration, print every problem and exit\n"
	"  -T       print the effective configuration and exit\n"
	"  -V       print the version and exit\n"
	"  -h       print this help and exit\n";

struct options {
	const char *file;
	bool check, print;
};

static void print_problems(struct buf *problems)
{
	if (buf_len(problems))
		fwrite(buf_head(problems), 1, buf_len(problems), stderr);
	buf_clear(problems);
}

/* The same, a line each, once there is a log. */
static void log_problems(struct buf *problems)
{
	buf_append(problems, "", 1);
	for (char *next, *line = (char *)buf_head(problems); *line; line = next) {
		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		log_error("event=no-start cause=\"%s\"", line);
	}
	buf_clear(problems);
}

/* Cores that we may use, not those that there are. */
static int64_t cores(void)
{
	cpu_set_t set;
	int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	return count < 1 ? 1 : count > (int)CHILD_SLOTS_MAX ? (int)CHILD_SLOTS_MAX : count;
}

/* Children share limits by the number of processes, so "auto" is decided here, once for all. */
static int config_for_children(struct conf *conf)
{
	struct buf text = { 0 };

	if (conf->milterd.workers == 0)
		conf->milterd.workers = cores();
	if (conf->milterd.sessions == 0)
		conf->milterd.sessions = cores();
	conf_print(&text, conf);

	int fd = fd_sealed_text("milterd.conf", buf_head(&text), buf_len(&text));

	buf_fini(&text);
	if (fd < 0)
		log_error("event=no-start cause=\"memfd: %s\"", strerror(errno));
	return fd;
}

/* Every connection is a descriptor, and children have the limit from us; the soft one is for select(), which nobody of
 * us calls. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warning("event=descriptor-limit cause=\"%s\"", strerror(errno));
}

/* All of us write there, some not with a description of their own: where it is a file, none may overwrite another. */
static void share_standard_error(void)
{
	int flags = fcntl(STDERR_FILENO, F_GETFL);

	if (flags >= 0)
		fcntl(STDERR_FILENO, F_SETFL, flags | O_APPEND);
}

/* Without a name in the configuration it is a convenience, and a second milterd on a machine has to do without. */
static int open_control(const struct conf *conf, const struct privileges *privileges)
{
	struct buf problems = { 0 };
	bool required;
	int result = control_open(conf, privileges, &required, &problems);

	if (result < 0 && required) {
		log_problems(&problems);
	} else if (result < 0) {
		log_warning("event=no-control cause=\"%.*s\"", (int)buf_len(&problems) - 1, (char *)buf_head(&problems));
		result = 0;
	}
	buf_fini(&problems);
	return result;
}

/* Everything that needs root, then the end of being it. NULL: it did not work, and the log has why. */
static struct listeners *open_and_drop(const struct conf *conf, const struct privileges *privileges)
{
	struct buf problems = { 0 };
	struct listeners *listeners = spawn_init(&problems) < 0 ? NULL : listeners_open(conf, &problems);

	if (listeners)
		spool_folder_open(conf, privileges);
	if (!listeners) {
		log_problems(&problems);
	} else if (open_control(conf, privileges) < 0) {
		listeners_close(listeners);
		listeners = NULL;
	} else if (privileges_drop(privileges) < 0) {
		log_error("event=no-start cause=\"privileges cannot be dropped: %s\"", strerror(errno));
		control_close();
		listeners_close(listeners);
		listeners = NULL;
	}
	buf_fini(&problems);
	return listeners;
}

static int serve(struct conf *conf, const struct privileges *privileges)
{
	int status = EXIT_FAILURE, config;
	struct listeners *listeners;

	signal(SIGPIPE, SIG_IGN);
	share_standard_error();
	log_init("master", conf->milterd.log, conf->milterd.log_level);
	log_notice("event=starting version=%s listeners=%zu milters=%zu", PACKAGE_VERSION, conf->listener_count,
		   conf->milter_count);
	notify_init();
	raise_descriptor_limit();
	config = config_for_children(conf);
	listeners = config < 0 ? NULL : open_and_drop(conf, privileges);
	if (listeners) {
		loop_init();
		command_init(conf);
		control_start(command_run);
		status = supervisor_run(conf, privileges, listeners, config);
		control_close();
		notify_fini();
		spool_folder_close();
		loop_fini();
	}
	fd_close(&config);
	log_fini();
	return status;
}

static int print_effective(const struct conf *conf)
{
	struct buf text = { 0 };

	conf_print(&text, conf);
	fwrite(buf_head(&text), 1, buf_len(&text), stdout);
	buf_fini(&text);
	return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int find_accounts(const struct conf *conf, struct privileges *privileges, struct buf *problems)
{
	int result = privileges_find(privileges, conf, problems);

	return result | listeners_find_owners(conf, problems);
}

static int run(const struct options *options)
{
	struct buf problems = { 0 };
	struct privileges privileges = { 0 };
	struct conf *conf = conf_load(options->file, &problems);
	int status = EX_CONFIG;

	/* What is printed may be for another machine, with other accounts. */
	if (conf && (options->print || find_accounts(conf, &privileges, &problems) == 0))
		status = EXIT_SUCCESS;
	/* Nor does a check fail for accounts that a package makes; a start does. */
	if (privileges.incomplete && !options->check)
		status = EX_CONFIG;
	print_problems(&problems);
	if (status == EXIT_SUCCESS && options->print)
		status = print_effective(conf);
	else if (status == EXIT_SUCCESS && !options->check)
		status = serve(conf, &privileges);
	privileges_fini(&privileges);
	conf_free(conf);
	buf_fini(&problems);
	return status;
}

/* -1: go on; otherwise the status to exit with. */
static int read_options(int argc, char **argv, struct options *options)
{
	int letter;

	while ((letter = getopt(argc, argv, "f:nTVh")) != -1) {
		switch (letter) {
		case 'f':
			options->file = optarg;
			break;
		case 'n':
			options->check = true;
			break;
		case 'T':
			options->print = true;
			break;
		case 'V':
			puts("milterd " PACKAGE_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			fputs(usage, stdout);
			return EXIT_SUCCESS;
		default:
			fputs(usage, stderr);
			return EX_USAGE;
		}
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "milterd: what is \"%s\"? A configuration file is named with -f.\n%s", argv[optind], usage);
	return EX_USAGE;
}

int main(int argc, char **argv)
{
	struct options options = { .file = CONF_FILE };
	int status = read_options(argc, argv, &options);

	return status >= 0 ? status : run(&options);
}
