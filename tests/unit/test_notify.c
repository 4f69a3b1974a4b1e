#include "config.h"

#include <criterion/criterion.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/loop.h"
#include "master/notify.h"

/* An abstract datagram socket as systemd may have, and its name in the environment. */
static int manager(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int len = snprintf(addr.sun_path, sizeof(addr.sun_path), "@milterd-test-notify-%ld", (long)getpid());

	setenv("NOTIFY_SOCKET", addr.sun_path, 1);
	addr.sun_path[0] = '\0';
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr,
			  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len)), 0);
	return fd;
}

static const char *heard(int fd)
{
	static char text[512];
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

Test(notify, without_a_manager_or_with_a_useless_address_nothing_happens)
{
	static const char *const names[] = { "", "@", "/", "nowhere", "/nonexistent/notify", "@milterd-test-nobody" };
	char *too_long = malloc(300);

	unsetenv("NOTIFY_SOCKET");
	notify_init();
	notify_send("READY=1");
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		setenv("NOTIFY_SOCKET", names[i], 1);
		notify_init();
		notify_send("READY=1");
		notify_fini();
	}
	memset(too_long, '/', 299);
	too_long[299] = '\0';
	setenv("NOTIFY_SOCKET", too_long, 1);
	notify_init();
	notify_fini();
	free(too_long);
}

Test(notify, what_is_sent_arrives_and_children_do_not_inherit_the_way)
{
	int fd = manager();

	setenv("WATCHDOG_USEC", "1000000", 1);
	setenv("WATCHDOG_PID", "1", 1);
	notify_init();
	cr_expect(!getenv("NOTIFY_SOCKET") && !getenv("WATCHDOG_USEC") && !getenv("WATCHDOG_PID"));
	notify_send("STATUS=%u of %u", 1u, 2u);
	cr_expect_str_eq(heard(fd), "STATUS=1 of 2");
	notify_fini();
	notify_send("READY=1");
	cr_expect_str_eq(heard(fd), "");
	close(fd);
}

static struct timer enough;

static void on_enough(struct timer *t)
{
	(void)t;
	loop_stop();
}

Test(notify, the_watchdog_is_fed_when_it_is_ours_and_only_then)
{
	char own[24];
	const struct {
		const char *usec, *pid;
		bool fed;
	} cases[] = {
		{ "20000", own, true }, { "20000", NULL, true }, { "20000", "1", false },
		{ NULL, NULL, false }, { "0", NULL, false }, { "-5", NULL, false }, { "x", NULL, false },
	};
	int fd = manager();
	char *name = strdup(getenv("NOTIFY_SOCKET"));

	snprintf(own, sizeof(own), "%ld", (long)getpid());
	loop_init();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		setenv("NOTIFY_SOCKET", name, 1);
		if (cases[i].usec)
			setenv("WATCHDOG_USEC", cases[i].usec, 1);
		if (cases[i].pid)
			setenv("WATCHDOG_PID", cases[i].pid, 1);
		notify_init();
		notify_start_watchdog();
		timer_init(&enough, on_enough, NULL);
		timer_set(&enough, 25);
		loop_run();
		cr_expect_str_eq(heard(fd), cases[i].fed ? "WATCHDOG=1" : "", "case %zu", i);
		cr_expect_str_eq(heard(fd), cases[i].fed ? "WATCHDOG=1" : "", "case %zu, again", i);
		notify_fini();
		while (*heard(fd))
			;
	}
	loop_fini();
	free(name);
	close(fd);
}
