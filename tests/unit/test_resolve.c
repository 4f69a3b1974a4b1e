#include "config.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/dial.h"
#include "common/fd.h"
#include "common/loop.h"
#include "common/resolve.h"

#define DEADLINE_MS 5000

static struct timer deadline;

static void on_deadline(struct timer *t)
{
	(void)t;
	cr_expect(false, "nothing happened in time");
	loop_stop();
}

static void set_up(void)
{
	loop_init();
	resolve_init();
	timer_init(&deadline, on_deadline, NULL);
	timer_set(&deadline, DEADLINE_MS);
}

static void tear_down(void)
{
	timer_fini(&deadline);
	resolve_fini();
	loop_fini();
}

TestSuite(resolve, .init = set_up, .fini = tear_down);
TestSuite(dial, .init = set_up, .fini = tear_down);

struct answer {
	struct addr_socket address;
	size_t count;
	char why[128];
	unsigned calls, *open;
	struct addr *again;
};

static void on_answer(void *ctx, const struct addr_socket *addresses, size_t count, const char *why)
{
	struct answer *a = ctx;

	a->calls++;
	a->count = count;
	if (count)
		a->address = addresses[0];
	else
		snprintf(a->why, sizeof(a->why), "%s", why);
	if (a->again) {
		resolve_start(a->again, on_answer, a);
		a->again = NULL;
	} else if (--*a->open == 0) {
		loop_stop();
	}
}

static struct addr endpoint(const char *text)
{
	struct addr addr;
	const char *why;

	cr_assert_eq(addr_parse(&addr, text, &why), 0, "%s: %s", text, why);
	return addr;
}

Test(resolve, a_cancelled_look_up_never_answers)
{
	static const char *const texts[] = { "unix:/nowhere", "inet:127.0.0.1:25", "localhost:25", "long.onion:25" };
	struct answer cancelled = { .open = &(unsigned){ 9 } }, other = { .open = &(unsigned){ 4 } };

	for (size_t i = 0; i < 4; i++) {
		struct addr addr = endpoint(texts[i]);
		struct resolve *r = resolve_start(&addr, on_answer, &cancelled);

		resolve_start(&addr, on_answer, &other);
		resolve_cancel(r);
		addr_fini(&addr);
	}
	resolve_cancel(NULL);
	loop_run();
	cr_assert_eq(cancelled.calls, 0);
	cr_assert_eq(other.calls, 4);
}

Test(resolve, what_has_no_address_is_told_in_words)
{
	/* RFC 7686: never asked for in the DNS. */
	struct addr addr = endpoint("name.onion:25");
	struct answer a = { .open = &(unsigned){ 1 } };

	resolve_start(&addr, on_answer, &a);
	cr_assert_eq(a.calls, 0, "not from inside the call");
	loop_run();
	cr_expect_eq(a.calls, 1);
	cr_expect_eq(a.count, 0);
	cr_expect_gt(strlen(a.why), 4, "%s", a.why);
	addr_fini(&addr);
}

Test(resolve, numbers_paths_and_hosts_have_addresses_and_ports)
{
	static const struct {
		const char *endpoint, *text;
		uint16_t port;
	} cases[] = {
		{ "inet:192.0.2.7:25", "192.0.2.7", 25 },
		{ "inet6:[2001:db8::7]:26", "2001:db8::7", 26 },
		{ "inet:localhost:27", "127.0.0.1", 27 },
		{ "inet:LOCALHOST:28", "127.0.0.1", 28 },
		{ "unix:/run/x", "", 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct addr addr = endpoint(cases[i].endpoint);
		struct answer a = { .open = &(unsigned){ 1 }, .again = &addr };
		char text[46];
		uint16_t port = 0;

		resolve_start(&addr, on_answer, &a);
		loop_run();
		cr_expect_eq(a.calls, 2, "%s and a look-up from inside the answer", cases[i].endpoint);
		cr_assert_geq(a.count, 1, "%s", a.why);
		addr_socket_text(&a.address, text, &port);
		cr_expect_str_eq(text, cases[i].text);
		if (*text)
			cr_expect_eq(port, cases[i].port);
		addr_fini(&addr);
	}
}

struct dialled {
	int fd;
	char why[160];
	unsigned calls;
};

static void on_dialled(void *ctx, int fd, const char *why)
{
	struct dialled *d = ctx;

	d->calls++;
	d->fd = fd;
	snprintf(d->why, sizeof(d->why), "%s", why ? why : "");
	loop_stop();
}

static struct dialled dial(const char *text, int64_t timeout_ms)
{
	struct addr addr = endpoint(text);
	struct dialled d = { .fd = -1 };

	dial_start(&addr, timeout_ms, on_dialled, &d);
	cr_assert_eq(d.calls, 0, "not from inside the call");
	addr_fini(&addr);
	loop_run();
	cr_assert_eq(d.calls, 1);
	return d;
}

Test(dial, a_failure_says_what_failed)
{
	struct dialled d = dial("unix:/nonexistent/socket", 1000);

	cr_expect_eq(d.fd, -1);
	cr_expect_str_eq(d.why, "connect: No such file or directory");
	d = dial("name.onion:25", 1000);
	cr_expect_eq(strncmp(d.why, "resolve: ", 9), 0, "%s", d.why);
}

Test(dial, a_full_backlog_is_waited_for_and_only_until_the_limit)
{
	char directory[] = "/tmp/dial-XXXXXX", text[128];
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), filler[4] = { -1, -1, -1, -1 };

	cr_assert_not_null(mkdtemp(directory));
	snprintf(to.sun_path, sizeof(to.sun_path), "%s/s", directory);
	snprintf(text, sizeof(text), "unix:%s", to.sun_path);
	cr_assert_eq(bind(listener, (struct sockaddr *)&to, sizeof(to)), 0);
	cr_assert_eq(listen(listener, 0), 0);

	struct dialled d = dial(text, 1000);

	cr_assert_geq(d.fd, 0, "%s", d.why);
	cr_assert(fcntl(d.fd, F_GETFL) & O_NONBLOCK);
	cr_assert(fcntl(d.fd, F_GETFD) & FD_CLOEXEC);
	for (int i = 0; i < 4; i++) {
		filler[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (connect(filler[i], (struct sockaddr *)&to, sizeof(to)) < 0)
			break;
	}
	struct dialled late = dial(text, 50);

	cr_expect_eq(late.fd, -1);
	cr_expect_str_eq(late.why, "connect: no answer in time");
	for (int i = 0; i < 4; i++)
		fd_close(&filler[i]);
	fd_close(&d.fd);
	fd_close(&listener);
	unlink(to.sun_path);
	rmdir(directory);
}

Test(dial, a_cancelled_one_never_answers)
{
	struct addr addr = endpoint("unix:/nonexistent/socket");
	struct dialled never = { .fd = -1 }, d;

	dial_cancel(dial_start(&addr, 1000, on_dialled, &never));
	dial_cancel(NULL);
	d = dial("unix:/nonexistent/socket", 1000);
	cr_expect_eq(d.calls, 1);
	cr_expect_eq(never.calls, 0);
	addr_fini(&addr);
}
