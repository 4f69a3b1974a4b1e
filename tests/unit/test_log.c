#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

static char seen[200000];

/* What log_write() does to standard error while stderr is this descriptor. */
static void with_stderr(int fd, void (*act)(void))
{
	int saved = dup(STDERR_FILENO);

	dup2(fd, STDERR_FILENO);
	log_init("test", LOG_SINK_STDERR, LOG_LEVEL_INFO);
	act();
	log_fini();
	dup2(saved, STDERR_FILENO);
	close(saved);
}

static void read_all(int fd)
{
	ssize_t n;
	size_t len = 0;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while ((n = read(fd, seen + len, sizeof(seen) - 1 - len)) > 0)
		len += (size_t)n;
	seen[len] = '\0';
}

static void log_hostile(void)
{
	log_info("event=test helo=%s", "a\r\nevent=forged \xff\x1b[31m\\");
	log_debug("event=hidden");
	errno = ENOENT;
	log_write(LOG_LEVEL_ERROR, 0xabc, "event=second");
	cr_expect_eq(errno, ENOENT);
}

Test(log, bytes_of_a_peer_cannot_forge_a_line)
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	with_stderr(fds[1], log_hostile);
	read_all(fds[0]);
	cr_assert_not_null(strstr(seen, "helo=a\\x0d\\x0aevent=forged \\xff\\x1b[31m\\\\\n"), "%s", seen);
	cr_assert_not_null(strstr(seen, "abc event=second\n"), "%s", seen);
	cr_assert_null(strstr(seen, "hidden"));
	cr_assert_null(strchr(strchr(strchr(seen, '\n') + 1, '\n') + 1, '\n'));
}

static void log_flood(void)
{
	for (int i = 0; i < 5000; i++)
		log_info("event=flood number=%d text=%s", i, "some more text to fill the pipe sooner");
}

Test(log, a_full_sink_loses_lines_instead_of_blocking_and_says_so)
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	with_stderr(fds[1], log_flood);
	read_all(fds[0]);
	cr_assert_not_null(strstr(seen, "number=0 "));
	cr_assert_null(strstr(seen, "number=4999"));
	with_stderr(fds[1], log_hostile);
	read_all(fds[0]);
	cr_assert_not_null(strstr(seen, "event=log lost-lines="), "%s", seen);
}

static void log_long(void)
{
	char big[10000];

	memset(big, 0x01, sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	log_info("%s", big);
}

Test(log, an_overlong_line_is_cut_not_overrun)
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	with_stderr(fds[1], log_long);
	read_all(fds[0]);
	cr_assert_leq(strlen(seen), 4096);
	cr_assert_eq(seen[strlen(seen) - 1], '\n');
}
