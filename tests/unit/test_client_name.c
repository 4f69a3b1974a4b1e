#include "config.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/loop.h"
#include "session/client_name.h"

#define DEADLINE_MS 8000
#define TYPE_A	    1
#define TYPE_PTR    12
#define TYPE_AAAA   28
#define REFUSED	    5
#define NXDOMAIN    3

/* A name server on loopback that knows the answers of one test. */
static struct {
	struct io io;
	const char *ptr;	/* in dots; NULL: NXDOMAIN, "": no answer at all, "!": refused */
	const char *address;	/* of any name; the same */
	unsigned questions;
} server;

static struct timer deadline;
static struct {
	unsigned calls;
	enum client_name_result result;
	char ptr[300];
} got;

static void on_deadline(struct timer *t)
{
	(void)t;
	cr_expect(false, "no answer");
	loop_stop();
}

static size_t put_name(uint8_t *to, const char *dotted)
{
	size_t n = 0;

	while (*dotted) {
		size_t len = strcspn(dotted, ".");

		to[n++] = (uint8_t)len;
		memcpy(to + n, dotted, len);
		n += len;
		dotted += len + (dotted[len] == '.');
	}
	to[n++] = 0;
	return n;
}

/* The answer section for the question in packet[12..len), or only a code. */
static size_t answer(uint8_t *packet, size_t len, uint16_t type)
{
	const char *what = type == TYPE_PTR ? server.ptr : server.address;
	uint8_t data[256];
	size_t data_len = 0;

	packet[2] = 0x84;
	packet[3] = !what ? NXDOMAIN : *what == '!' ? REFUSED : 0;
	memset(packet + 6, 0, 6);
	if (packet[3])
		return len;
	if (type == TYPE_PTR)
		data_len = put_name(data, what);
	else if (inet_pton(type == TYPE_A ? AF_INET : AF_INET6, what, data) == 1)
		data_len = type == TYPE_A ? 4 : 16;
	if (!data_len)
		return len;
	packet[7] = 1;
	const uint8_t head[] = { 0xc0, 12, 0, (uint8_t)type, 0, 1, 0, 0, 0, 60, 0, (uint8_t)data_len };

	memcpy(packet + len, head, sizeof(head));
	memcpy(packet + len + sizeof(head), data, data_len);
	return len + sizeof(head) + data_len;
}

static void on_question(struct io *io, int events)
{
	uint8_t packet[1024];
	struct sockaddr_in from;
	socklen_t from_len = sizeof(from);
	ssize_t n = recvfrom(io->fd, packet, 512, 0, (struct sockaddr *)&from, &from_len);
	size_t end = 12;

	(void)events;
	if (n < 17)
		return;
	while (end < (size_t)n && packet[end])
		end += packet[end] + 1u;
	uint16_t type = (uint16_t)(packet[end + 1] << 8 | packet[end + 2]);
	const char *what = type == TYPE_PTR ? server.ptr : server.address;

	server.questions++;
	if (what && !*what)
		return;
	sendto(io->fd, packet, answer(packet, end + 5, type), 0, (struct sockaddr *)&from, from_len);
}

static void set_up(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	char servers[64];
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	loop_init();
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	io_init(&server.io, fd, on_question, NULL);
	io_want(&server.io, IO_READ);
	snprintf(servers, sizeof(servers), "127.0.0.1:%u", ntohs(addr.sin_port));
	client_name_init(servers);
	timer_init(&deadline, on_deadline, NULL);
}

static void tear_down(void)
{
	int fd = server.io.fd;

	client_name_fini();
	io_fini(&server.io);
	close(fd);
	timer_fini(&deadline);
	loop_fini();
}

TestSuite(client_name, .init = set_up, .fini = tear_down);

static void on_name(void *ctx, enum client_name_result result, const char *ptr)
{
	(void)ctx;
	got.calls++;
	got.result = result;
	snprintf(got.ptr, sizeof(got.ptr), "%s", ptr ? ptr : "");
	loop_stop();
}

static void ask(const char *address)
{
	got.calls = 0;
	timer_set(&deadline, DEADLINE_MS);
	client_name_start(address, on_name, NULL);
	cr_assert_eq(got.calls, 0, "never from inside the request");
	loop_run();
	cr_assert_eq(got.calls, 1);
}

Test(client_name, what_dns_says_is_believed_only_when_it_points_back)
{
	static const struct {
		const char *client, *ptr, *address;
		enum client_name_result result;
		const char *name;
	} rows[] = {
		{ "192.0.2.1", "mail.example.org", "192.0.2.66", CLIENT_NAME_FORGED, "mail.example.org" },
		{ "192.0.2.2", "mail.example.org", NULL, CLIENT_NAME_FORGED, "mail.example.org" },
		{ "192.0.2.3", "mail.example.org", "2001:db8::1", CLIENT_NAME_FORGED, "mail.example.org" },
		{ "192.0.2.4", "192.0.2.4", "192.0.2.4", CLIENT_NAME_FAIL, "" },
		{ "192.0.2.5", "a b.example.org", "192.0.2.5", CLIENT_NAME_TEMP, "" },
		{ "192.0.2.6", "x\r\nevil.example.org", "192.0.2.6", CLIENT_NAME_TEMP, "" },
		{ "192.0.2.7", "-.example.org", "192.0.2.7", CLIENT_NAME_FAIL, "" },
		{ "192.0.2.8", NULL, NULL, CLIENT_NAME_FAIL, "" },
		{ "192.0.2.9", "!", NULL, CLIENT_NAME_TEMP, "" },
		{ "192.0.2.10", "mail.example.org", "!", CLIENT_NAME_TEMP, "" },
		{ "192.0.2.11", "mail.example.org", "192.0.2.11", CLIENT_NAME_OK, "mail.example.org" },
		{ "2001:db8::12", "six.example.org", "2001:db8::12", CLIENT_NAME_OK, "six.example.org" },
		{ "no address", NULL, NULL, CLIENT_NAME_TEMP, "" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		server.ptr = rows[i].ptr;
		server.address = rows[i].address;
		ask(rows[i].client);
		cr_expect_eq(got.result, rows[i].result, "%s: %s", rows[i].client, client_name_result_text(got.result));
		cr_expect_str_eq(got.ptr, rows[i].name, "%s: %s", rows[i].client, got.ptr);
	}
}

Test(client_name, a_silent_name_server_costs_two_seconds_and_is_told_apart_from_no_name)
{
	int64_t began;

	server.ptr = "";
	began = clock_now_ms();
	ask("192.0.2.1");
	cr_expect_eq(got.result, CLIENT_NAME_TEMP);
	cr_expect_leq(clock_now_ms() - began, CLIENT_NAME_MS + 2000);
	cr_expect_geq(server.questions, 1);
}

static void stop(struct timer *t)
{
	(void)t;
	loop_stop();
}

Test(client_name, a_cancelled_question_is_never_answered)
{
	struct timer later = { 0 };

	server.ptr = "mail.example.org";
	server.address = "192.0.2.1";
	client_name_cancel(client_name_start("192.0.2.1", on_name, NULL));
	client_name_cancel(NULL);
	timer_init(&later, stop, NULL);
	timer_set(&later, 200);
	loop_run();
	cr_expect_eq(got.calls, 0);
	timer_fini(&later);
}
