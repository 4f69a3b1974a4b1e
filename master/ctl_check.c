#include "config.h"

#include "master/ctl_check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/child.h"
#include "common/conf.h"
#include "common/fd.h"
#include "master/privileges.h"
#include "master/spawn.h"

static char program[] = "milterd-check";

static int failed(const char *what)
{
	fprintf(stderr, "milterctl: %s: %s\n", what, strerror(errno));
	return EXIT_FAILURE;
}

static int become_check(const struct conf *conf, const struct account *account, const char *path, bool json)
{
	static char as_text[] = "text", as_json[] = "json";
	char *argv[] = { program, json ? as_json : as_text, NULL };
	struct buf text = { 0 };
	int fd;

	conf_print(&text, conf);
	fd = fd_sealed_text("milterd.conf", buf_head(&text), buf_len(&text));
	buf_fini(&text);
	if (fd < 0 || (fd == CHILD_FD_CONFIG ? fcntl(fd, F_SETFD, 0) : dup2(fd, CHILD_FD_CONFIG)) < 0)
		return failed("the configuration cannot be passed on");
	if (privileges_become(account) < 0)
		return failed("privileges cannot be dropped");
	execv(path, argv);
	return failed(path);
}

int ctl_check(const struct ctl_options *options, int argc, char **argv)
{
	struct buf problems = { 0 };
	struct privileges privileges = { 0 };
	struct conf *conf;
	char *path = NULL;
	int status = EX_CONFIG;

	if (argc != 1) {
		fprintf(stderr, "milterctl: %s has no arguments\n", argv[0]);
		return EX_USAGE;
	}
	conf = conf_load(options->config, &problems);
	if (conf && privileges_find(&privileges, conf, &problems) == 0) {
		status = EXIT_FAILURE;
		path = spawn_find(program, &problems);
	}
	if (buf_len(&problems))
		fwrite(buf_head(&problems), 1, buf_len(&problems), stderr);
	if (path)
		status = become_check(conf, privileges.separate ? &privileges.worker : NULL, path, options->json);
	free(path);
	privileges_fini(&privileges);
	conf_free(conf);
	buf_fini(&problems);
	return status;
}
