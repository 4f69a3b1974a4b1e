#include "config.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/fd.h"
#include "master/listener.h"

static char folder[64];
static struct buf problems;

static const char *in_folder(const char *name)
{
	static char path[107];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static void set_up(void)
{
	strcpy(folder, "/tmp/milterd-listener-XXXXXX");
	cr_assert(mkdtemp(folder));
}

static void tear_down(void)
{
	buf_fini(&problems);
	cr_expect_eq(rmdir(folder), 0, "something is left in the folder");
}

TestSuite(listener, .init = set_up, .fini = tear_down);

/* One listener with one endpoint, opened. */
static struct listeners *try_open(const char *endpoint, const char *owner, const char *group)
{
	struct buf text = { 0 };

	buf_printf(&text, "[listener mx]\nmode = 0640\nnext-hop = discard:\nmilters = none\nbind = %s\nowner = %s\n"
		   "group = %s\n", endpoint, owner, group);
	buf_clear(&problems);

	struct conf *conf = conf_parse("t", (const char *)buf_head(&text), buf_len(&text), &problems);

	buf_fini(&text);
	cr_assert_not_null(conf, "%.*s", (int)buf_len(&problems), (const char *)buf_head(&problems));

	struct listeners *l = listeners_open(conf, &problems);

	buf_append(&problems, "", 1);
	conf_free(conf);
	return l;
}

static struct listeners *try_unix(const char *name)
{
	char endpoint[128];

	snprintf(endpoint, sizeof(endpoint), "unix:%s", in_folder(name));
	return try_open(endpoint, "", "");
}

static bool told(const char *part)
{
	return strstr((const char *)buf_head(&problems), part) != NULL;
}

/* A socket file that somebody else made; type SOCK_STREAM listens if asked to. */
static int foreign_socket(const char *name, int type, bool listens)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, in_folder(name));
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	if (listens)
		cr_assert_eq(listen(fd, 0), 0);
	return fd;
}

Test(listener, what_is_no_socket_is_never_removed)
{
	const char *path = in_folder("file");
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	cr_expect_null(try_unix("file"));
	cr_expect(told("t:5: [listener mx] bind: unix:") && told("no socket"), "%s", (const char *)buf_head(&problems));
	cr_expect_eq(access(in_folder("file"), F_OK), 0);
	close(fd);
	unlink(in_folder("file"));

	cr_assert_eq(mkdir(in_folder("folder"), 0700), 0);
	cr_expect_null(try_unix("folder"));
	rmdir(in_folder("folder"));

	cr_assert_eq(symlink("/nonexistent", in_folder("link")), 0);
	cr_expect_null(try_unix("link"));
	cr_expect(told("no socket"));
	unlink(in_folder("link"));
}

Test(listener, a_socket_in_use_is_refused_and_stays)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM };

	for (size_t i = 0; i < 2; i++) {
		int fd = foreign_socket("used", types[i], types[i] == SOCK_STREAM);

		/* The second time the backlog is full. */
		for (int again = 0; again < 3; again++) {
			cr_expect_null(try_unix("used"));
			cr_expect(told("another process"), "%s", (const char *)buf_head(&problems));
		}
		cr_expect_eq(access(in_folder("used"), F_OK), 0);
		close(fd);
		unlink(in_folder("used"));
	}
}

Test(listener, a_stale_socket_is_replaced_and_ours_removed)
{
	struct stat st;

	close(foreign_socket("stale", SOCK_STREAM, true));

	struct listeners *l = try_unix("stale");

	cr_assert(l);
	cr_assert_eq(stat(in_folder("stale"), &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0640);
	cr_expect_eq(st.st_uid, geteuid());
	listeners_close(l);
	cr_expect_neq(access(in_folder("stale"), F_OK), 0);
}

Test(listener, a_socket_of_somebody_else_at_our_path_is_not_removed)
{
	struct listeners *l = try_unix("taken");

	cr_assert(l);
	unlink(in_folder("taken"));
	close(foreign_socket("taken", SOCK_STREAM, true));
	listeners_close(l);
	cr_expect_eq(unlink(in_folder("taken")), 0);
}

Test(listener, owner_and_group_must_exist_and_a_failure_leaves_nothing)
{
	char endpoint[128];

	snprintf(endpoint, sizeof(endpoint), "unix:%s", in_folder("owned"));
	cr_expect_null(try_open(endpoint, "no-such-user", ""));
	cr_expect(told("t:6: [listener mx] owner: there is no user \"no-such-user\"; create it (useradd "), "%s",
		  (const char *)buf_head(&problems));
	cr_expect_null(try_open(endpoint, "", "no-such-group"));
	cr_expect(told("t:7: [listener mx] group: there is no group \"no-such-group\"; create it (groupadd "), "%s",
		  (const char *)buf_head(&problems));
	cr_expect_neq(access(in_folder("owned"), F_OK), 0);

	struct listeners *l = try_open(endpoint, "nobody", "daemon");
	struct stat st;

	if (geteuid() != 0) {
		cr_expect_null(l);
		cr_expect(told("cannot be given away"));
		return;
	}
	cr_assert(l, "%s", (const char *)buf_head(&problems));
	cr_assert_eq(stat(in_folder("owned"), &st), 0);
	cr_expect(st.st_uid != 0 && st.st_gid != 0);
	listeners_close(l);
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in addr = { 0 };
	socklen_t len = sizeof(addr);

	cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	return ntohs(addr.sin_port);
}

Test(listener, a_missing_folder_is_named_as_the_cause)
{
	cr_expect_null(try_unix("no-such-folder/socket"));
	cr_expect(told("No such file or directory: the folder of the socket does not exist"), "%s",
		  (const char *)buf_head(&problems));
}

Test(listener, owners_are_found_by_name_or_number_before_anything_is_opened)
{
	static const struct { const char *owner, *group, *told; } cases[] = {
		{ "", "", "" }, { "0", "0", "" }, { "root", "root", "" },
		{ "4294967296", "", "t:5: [listener mx] owner: there is no user \"4294967296\"; create it or name another" },
		{ "", "no one", NULL }, { "", "$(id)", "t:6: [listener mx] group: there is no group \"$(id)\"; create it or" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[300];

		snprintf(text, sizeof(text), "[listener mx]\nnext-hop = discard:\nmilters = none\nbind = unix:/run/x\n"
			 "owner = %s\ngroup = %s\n", cases[i].owner, cases[i].group);
		buf_clear(&problems);

		struct conf *conf = conf_parse("t", text, strlen(text), &problems);

		if (!cases[i].told) {
			cr_expect_null(conf);
			continue;
		}
		cr_assert_not_null(conf);
		cr_expect_eq(listeners_find_owners(conf, &problems), cases[i].told[0] ? -1 : 0);
		buf_append(&problems, "", 1);
		cr_expect(told(cases[i].told), "%s", (const char *)buf_head(&problems));
		conf_free(conf);
	}
}

Test(listener, a_port_in_use_is_an_error_with_listener_address_and_cause)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char endpoint[64], expected[128];

	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(listen(fd, 1), 0);
	snprintf(endpoint, sizeof(endpoint), "inet:127.0.0.1:%u", port_of(fd));
	snprintf(expected, sizeof(expected), "t:5: [listener mx] bind: %s: Address already in use", endpoint);
	cr_expect_null(try_open(endpoint, "", ""));
	cr_expect(told(expected), "%s", (const char *)buf_head(&problems));
	close(fd);

	struct listeners *l = try_open(endpoint, "", "");
	unsigned listener = 9, endpoint_number = 9;

	cr_assert(l, "%s", (const char *)buf_head(&problems));
	cr_assert_eq(listeners_count(l), 1);
	fd = listeners_get(l, 0, &listener, &endpoint_number);
	cr_expect(listener == 0 && endpoint_number == 0);
	cr_expect_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	cr_expect_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	cr_expect_null(try_open(endpoint, "", ""));
	listeners_close(l);

	cr_expect_null(try_open("inet:192.0.2.1:2525", "", ""));
	cr_expect(told("Cannot assign requested address"), "%s", (const char *)buf_head(&problems));
	cr_expect_null(try_open("inet:no-such-host.invalid:2525", "", ""));
	cr_expect(told("t:5: [listener mx] bind: inet:no-such-host.invalid:2525: "));
}

/* The families of what listens for an endpoint, joined: 4, 6 or both. */
static int families(const struct listeners *l)
{
	int found = 0;

	for (size_t i = 0; i < listeners_count(l); i++) {
		unsigned listener, endpoint;
		int family = 0;
		socklen_t len = sizeof(family);

		cr_assert_eq(getsockopt(listeners_get(l, i, &listener, &endpoint), SOL_SOCKET, SO_DOMAIN, &family, &len), 0);
		found |= family == AF_INET ? 4 : family == AF_INET6 ? 2 : 1;
	}
	return found;
}

Test(listener, a_star_means_every_address_of_its_family)
{
	int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT };
	bool has_ipv6 = probe >= 0 && bind(probe, (struct sockaddr *)&any, sizeof(any)) == 0;
	static const struct {
		const char *prefix;
		int families;
	} cases[] = { { "inet:", 4 }, { "inet6:", 2 }, { "", 4 | 2 } };

	fd_close(&probe);
	for (size_t i = 0; i < 3; i++) {
		struct listeners *l = NULL;
		char endpoint[32];

		/* Somebody may have one of the ports. */
		for (unsigned port = 34100; !l && port < 34120; port++) {
			snprintf(endpoint, sizeof(endpoint), "%s*:%u", cases[i].prefix, port);
			l = try_open(endpoint, "", "");
		}
		if (!has_ipv6 && cases[i].families == 2) {
			cr_expect_null(l);
			continue;
		}
		cr_assert(l, "%s: %s", endpoint, (const char *)buf_head(&problems));
		cr_expect_eq(families(l), has_ipv6 ? cases[i].families : 4, "%s", endpoint);
		listeners_close(l);
	}
}
