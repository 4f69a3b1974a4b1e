#include "config.h"

#include "master/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/child.h"
#include "common/fd.h"
#include "common/mem.h"

#define EXIT_NO_EXEC 127	/* as a shell says it */

static const struct {
	const char *name, *program;
} roles[ROLE_COUNT] = {
	[ROLE_SESSION] = { "session", "milterd-session" },
	[ROLE_WORKER] = { "worker", "milterd-worker" },
};

static char *program_path[ROLE_COUNT];

const char *role_name(enum role role)
{
	return roles[role].name;
}

/* A program in this folder, or NULL. */
static char *program_in(const char *folder, const char *program)
{
	char path[PATH_MAX];
	struct stat st;
	int len = snprintf(path, sizeof(path), "%s/%s", folder, program);

	if (len < 0 || (size_t)len >= sizeof(path) || stat(path, &st) < 0 || !S_ISREG(st.st_mode) ||
	    access(path, X_OK) < 0)
		return NULL;
	return mem_strdup(path);
}

char *spawn_find(const char *program, struct buf *problems)
{
	char own[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", own, sizeof(own) - 1);

	own[len > 0 ? len : 0] = '\0';

	char *end = strrchr(own, '/'), *path;

	if (end)
		*end = '\0';
	path = end ? program_in(own, program) : NULL;
	if (!path)
		path = program_in(PKGLIBEXECDIR, program);
	if (!path)
		buf_printf(problems, "%s is neither in %s nor in %s\n", program, end ? own : "the folder of this program",
			   PKGLIBEXECDIR);
	return path;
}

int spawn_init(struct buf *problems)
{
	int result = 0;

	for (enum role role = 0; role < ROLE_COUNT; role++) {
		free(program_path[role]);
		program_path[role] = spawn_find(roles[role].program, problems);
		if (!program_path[role])
			result = -1;
	}
	return result;
}

/* Descriptors 0 to 5 as child.h says. Ours are moved out of the way first: they may be 3 to 5. */
static int arrange_descriptors(int control, int config, int stats)
{
	int null = open("/dev/null", O_RDWR);

	control = fcntl(control, F_DUPFD, CHILD_FD_FIRST_FREE);
	config = fcntl(config, F_DUPFD, CHILD_FD_FIRST_FREE);
	stats = fcntl(stats, F_DUPFD, CHILD_FD_FIRST_FREE);
	if (null < 0 || control < 0 || config < 0 || stats < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(control, CHILD_FD_CONTROL) < 0 || dup2(config, CHILD_FD_CONFIG) < 0 ||
	    dup2(stats, CHILD_FD_STATS) < 0)
		return -1;
	return close_range(CHILD_FD_FIRST_FREE, ~0u, 0);
}

/* All signals are blocked since before the fork, so none of them met a handler of the master's in here. */
static int reset_signals(void)
{
	const struct sigaction standard = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int signo = 1; signo < NSIG; signo++)
		sigaction(signo, &standard, NULL);	/* some numbers cannot be set, nor need to be */
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL);
}

__attribute__((noreturn)) static void give_up(enum role role, const char *what)
{
	dprintf(STDERR_FILENO, "milterd: %s cannot be started: %s: %s\n", roles[role].program, what, strerror(errno));
	_exit(EXIT_NO_EXEC);
}

__attribute__((noreturn)) static void be_child(enum role role, unsigned slot, const struct account *account,
					       int control, int config, int stats, pid_t master)
{
	char program[32], number[16];
	char *argv[] = { program, number, NULL };

	snprintf(program, sizeof(program), "%s", roles[role].program);
	snprintf(number, sizeof(number), "%u", slot);
	umask(077);
	if (chdir("/") < 0)
		give_up(role, "chdir");
	if (arrange_descriptors(control, config, stats) < 0)
		give_up(role, "descriptors");
	if (privileges_become(account) < 0)
		give_up(role, "privileges");
	/* After the change of user, which clears it. A master that died before it is seen as another parent. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		give_up(role, "death signal");
	if (getppid() != master)
		_exit(EXIT_NO_EXEC);
	if (reset_signals() < 0)
		give_up(role, "signals");
	execv(program_path[role], argv);
	give_up(role, program_path[role]);
}

pid_t spawn_child(enum role role, unsigned slot, const struct account *account, int config, int stats, int *control)
{
	sigset_t all, before;
	pid_t master = getpid(), pid;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		be_child(role, slot, account, pair[1], config, stats, master);

	int saved = errno;

	sigprocmask(SIG_SETMASK, &before, NULL);
	fd_close(&pair[1]);
	if (pid < 0)
		fd_close(&pair[0]);
	*control = pair[0];
	errno = saved;
	return pid;
}
