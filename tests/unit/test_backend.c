#include "config.h"

#include "worker/backend.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/header.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/msgbuf.h"
#include "tests/unit/script_milter.h"

#define WAIT_MS 5000

/* A backend with its milter at the other end of a socketpair, and everything it says as text. */
struct bench {
	struct conf_milter conf;
	struct script_milter *milter;
	struct backend *backend;
	struct buf said;		/* "ready answer:c edit:h eom lost:broken(why)" */
	unsigned answers;
	bool lost, is_busy;

	struct arena arena;
	struct msgbuf_pool *pool;
	struct header_block block;
	struct edit_message *message;
	struct backend_content content;
	struct macros_scope scope;
};

static void said(struct bench *b, const char *what, const char *detail)
{
	buf_printf(&b->said, "%s%s%s", buf_len(&b->said) ? " " : "", what, detail);
}

static void on_negotiated(void *ctx)
{
	said(ctx, "ready", "");
}

static void on_answer(void *ctx, const struct backend_answer *answer)
{
	struct bench *b = ctx;
	char letter[2] = { (char)answer->reply };

	b->answers++;
	b->is_busy = false;
	said(b, "answer:", letter);
}

static int on_edit(void *ctx, const struct milter_reply *reply, const char **why)
{
	char letter[2] = { (char)reply->reply };

	said(ctx, "edit:", letter);
	*why = "refused by the test";
	return reply->reply == SMFIR_CHGFROM && !reply->address.path[0] ? -1 : 0;
}

static void on_eom(void *ctx)
{
	said(ctx, "eom", "");
}

static void on_lost(void *ctx, enum backend_loss loss, const char *why)
{
	static const char *const names[] = { "lost:closed:", "lost:timeout:", "lost:broken:" };
	struct bench *b = ctx;

	b->lost = true;
	b->is_busy = false;
	said(b, names[loss], why);
}

static const struct backend_ops ops = { on_negotiated, on_answer, on_edit, on_eom, on_lost };
static const char *const no_macros[MILTER_STAGE_COUNT];

static const char *said_so_far(struct bench *b)
{
	*buf_reserve(&b->said, 1) = '\0';
	return (const char *)buf_head(&b->said);
}

static bool has_ended(void *ctx)
{
	struct bench *b = ctx;

	return !b->is_busy;
}

static void wait_for(struct bench *b)
{
	cr_assert(script_until(has_ended, b, WAIT_MS), "after \"%s\"", said_so_far(b));
}

static void open_bench(struct bench *b, const struct script *script)
{
	int fd[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	if (!b->conf.name)
		script_conf(&b->conf, "m", "/nowhere");
	b->milter = script_attach(fd[1], script);
	b->backend = backend_new(fd[0], &b->conf, no_macros, &ops, b);
}

static bool is_ready(void *ctx)
{
	struct bench *b = ctx;

	return buf_len(&b->said) > 0;
}

static void negotiate(struct bench *b)
{
	backend_negotiate(b->backend, b->conf.timeout_connect);
	cr_assert(script_until(is_ready, b, WAIT_MS));
}

static void close_bench(struct bench *b)
{
	backend_free(b->backend);
	script_free(b->milter);
	edit_message_free(b->message);
	if (b->pool)
		msgbuf_pool_free(b->pool);
	arena_fini(&b->arena);
	buf_fini(&b->said);
	script_conf_fini(&b->conf);
	*b = (struct bench){ 0 };
}

/* Tell an event and wait for its answer, if it takes one. */
static void tell(struct bench *b, enum ipc_event_kind kind)
{
	static const char *connect_args[] = { "mail.test", "4", "2525", "192.0.2.1" };
	static const char *helo[] = { "mail.test" }, *mail[] = { "<a@b.test>", "SIZE=9" }, *rcpt[] = { "<c@d.test>" };
	static const struct {
		const char **arg;
		size_t count;
	} args[IPC_EVENT_KINDS] = {
		[IPC_CONNECT] = { connect_args, 4 }, [IPC_HELO] = { helo, 1 }, [IPC_MAIL] = { mail, 2 },
		[IPC_RCPT] = { rcpt, 1 }, [IPC_UNKNOWN] = { helo, 1 },
	};
	struct ipc_event event = { .kind = (uint8_t)kind, .arg = args[kind].arg, .arg_count = args[kind].count };

	b->is_busy = backend_tell(b->backend, &event, &b->scope);
	wait_for(b);
}

static void send_message(struct bench *b, const char *header, const void *body, size_t len)
{
	const char *why;

	b->pool = msgbuf_pool_new(1 << 20, 1 << 20);
	cr_assert_eq(header_parse(&b->arena, (const uint8_t *)header, strlen(header), 1000, 100000, &b->block, &why), 0);
	b->message = edit_message_new(&b->block, (const uint8_t *)header, b->pool, 1 << 20);
	b->content = (struct backend_content){ b->message, { .data = body, .memory = len, .len = len } };
	b->is_busy = true;
	backend_send_message(b->backend, &b->content, &b->scope);
}

static void tell_up_to(struct bench *b, enum ipc_event_kind last)
{
	static const enum ipc_event_kind order[] = { IPC_CONNECT, IPC_HELO, IPC_MAIL, IPC_RCPT, IPC_DATA };

	for (size_t i = 0; i < sizeof(order) / sizeof(*order) && !b->lost; i++) {
		tell(b, order[i]);
		if (order[i] == last)
			return;
	}
}

static void begin(void)
{
	loop_init();
}

static void finish(void)
{
	loop_fini();
}

TestSuite(backend, .init = begin, .fini = finish, .timeout = 60);

Test(backend, what_is_not_an_optneg_answer_ends_the_connection_with_the_reason)
{
	static const struct {
		struct script_rule rule;
		const char *said;
	} rows[] = {
		{ SAYS('O', "220 mx ESMTP\r\n"), "lost:broken:not a milter: it answered \"220 mx ESMTP\"" },
		{ SAYS('O', "HTTP/1.1 400 Bad Request\r\n"), "lost:broken:not a milter: it answered \"HTTP/1.1 400 Bad Request\"" },
		{ SAYS('O', "\0\0\0\0"), "lost:broken:not a milter" },
		{ SAYS('O', "\xff\xff\xff\xffO"), "lost:broken:not a milter" },
		{ SAYS('O', "\0\0\0\1c"), "lost:broken:not a milter" },
		{ SAYS('O', "\0\0\0\x09O\0\0\0\6\0\0\0\0"), "lost:broken:its negotiation is malformed" },
		{ SAYS('O', "\0\0\0\x0dO\0\0\0\7\0\0\0\0\0\0\0\0"), "lost:broken:it negotiates protocol version 7" },
		{ SAYS('O', "\0\0\0\x0dO\0\0\0\1\0\0\0\0\0\0\0\0"), "lost:broken:it negotiates protocol version 1" },
		{ { .command = 'O', .hangs_up = true }, "lost:closed:it closed the connection during the negotiation" },
		{ { .command = 'O', .bytes = "\0\0\0", .len = 3, .hangs_up = true }, "lost:closed:it closed" },
		{ { .command = 'O' }, "lost:timeout:no answer to the negotiation within 50 ms" },
		{ SAYS('O', "\0\0\0\x0dO\0\0\0\6\0\0\0\1\0\0\0\0\0\0\0\1c"), "ready lost:broken:it sends CONTINUE although nothing was asked" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct bench b = { 0 };
		struct script script = { .rule = { rows[i].rule } };

		script_conf(&b.conf, "m", "/nowhere");
		b.conf.timeout_connect = 50;
		open_bench(&b, &script);
		negotiate(&b);
		cr_expect_eq(strncmp(said_so_far(&b), rows[i].said, strlen(rows[i].said)), 0, "row %zu: %s", i,
			     said_so_far(&b));
		close_bench(&b);
	}
}

Test(backend, a_milter_that_speaks_first_is_none)
{
	struct bench b = { 0 };
	struct script script = { 0 };

	open_bench(&b, &script);
	script_send(b.milter, 1, "220 mx ESMTP\r\n", 14);
	cr_assert(script_until(is_ready, &b, WAIT_MS));
	cr_expect_str_eq(said_so_far(&b), "lost:broken:not a milter: it answered \"220 mx ESMTP\"");
	close_bench(&b);
}

Test(backend, nobody_negotiates_more_than_was_offered_or_than_his_version_has)
{
	static const struct {
		uint32_t version, actions, protocol, has_actions, has_protocol, foreign_actions, foreign_protocol;
	} rows[] = {
		{ 6, 0x1ff, 0x1fffff, 0x1ff, 0x1fffff, 0, 0 },
		{ 6, 0xfffffe00, 0xffe00000, 0, 0, 0xfffffe00, 0xffe00000 },
		{ 2, 0x1ff, 0x1fffff, 0x3f, 0x7f | SMFIP_NOUNKNOWN | SMFIP_NODATA, 0x1c0, 0x1fff80 },
		{ 3, 0, 0, 0, SMFIP_NODATA, 0, 0 },
		{ 4, 0, SMFIP_NODATA | SMFIP_SKIP, 0, SMFIP_NODATA, 0, SMFIP_SKIP },
		{ 6, 0, 0, 0, 0, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct bench b = { 0 };
		struct script script = { rows[i].version, rows[i].actions, rows[i].protocol, { { 0 } } };

		open_bench(&b, &script);
		negotiate(&b);
		cr_assert_str_eq(said_so_far(&b), "ready");
		const struct backend_options *o = backend_options(b.backend);

		cr_expect_eq(o->version, rows[i].version);
		cr_expect_eq(o->actions, rows[i].has_actions, "row %zu: 0x%x", i, o->actions);
		cr_expect_eq(o->protocol, rows[i].has_protocol, "row %zu: 0x%x", i, o->protocol);
		cr_expect_eq(o->foreign_actions, rows[i].foreign_actions, "row %zu: 0x%x", i, o->foreign_actions);
		cr_expect_eq(o->foreign_protocol, rows[i].foreign_protocol, "row %zu: 0x%x", i, o->foreign_protocol);
		close_bench(&b);
	}
}

/* One cell: reply (and CONTINUE after it when it is not final) to command, or unasked with '-'. What came of it:
 * a: an answer, e: a modification, .: the end of the connection. */
static char cell(char command, const char *bytes, size_t len, bool is_final)
{
	struct bench b = { 0 };
	struct script script = { .version = 6, .actions = 0x1ff, .protocol = SMFIP_SKIP };
	struct buf reply = { 0 };
	char result = '?';

	buf_append(&reply, bytes, len);
	if (!is_final)
		buf_append(&reply, REPLY("c"), 5);
	script.rule[0] = (struct script_rule){
		.command = (uint8_t)command, .nth = 1, .bytes = (char *)buf_head(&reply), .len = buf_len(&reply),
	};
	open_bench(&b, &script);
	negotiate(&b);
	if (command == '-') {
		script_send(b.milter, 1, buf_head(&reply), buf_len(&reply));
		b.is_busy = true;
		wait_for(&b);
	} else if (strchr("CHMRT", command)) {
		tell_up_to(&b, (enum ipc_event_kind)(strchr("CHMRT", command) - "CHMRT"));
	} else if (command == 'U') {
		tell_up_to(&b, IPC_HELO);
		tell(&b, IPC_UNKNOWN);
	} else {
		tell_up_to(&b, IPC_DATA);
		send_message(&b, "Subject: x\r\n", "body\r\n", 6);
		wait_for(&b);
	}
	result = b.lost ? '.' : strstr(said_so_far(&b), "edit:") ? 'e' : 'a';
	buf_fini(&reply);
	close_bench(&b);
	return result;
}

Test(backend, every_reply_is_legal_where_the_protocol_has_it_and_nowhere_else)
{
	static const struct {
		const char *bytes;
		size_t len;
		bool is_final;
		const char *cells;	/* - C H M R T L N B E U */
	} rows[] = {
#define ROW(packet, is_final, cells) { packet, sizeof(packet) - 1, is_final, cells }
		ROW("\0\0\0\1c", true, ".aaaaaaaaaa"),
		ROW("\0\0\0\1a", true, ".aaaaaaaaaa"),
		ROW("\0\0\0\1r", true, ".aaaaaaaaaa"),
		ROW("\0\0\0\1t", true, ".aaaaaaaaaa"),
		ROW("\0\0\0\1d", true, ".aaaaaaaaaa"),
		ROW("\0\0\0\1" "4", true, ".aaaaaaaaaa"),
		ROW("\0\0\0\x0ey550 5.7.1 no\0", true, ".aaaaaaaaaa"),
		ROW("\0\0\0\1s", true, ".aaaaaaaa.a"),
		ROW("\0\0\0\1p", false, ".aaaaaaaaaa"),
		ROW("\0\0\0\5hX\0y\0", false, ".........e."),
		ROW("\0\0\0\x09i\0\0\0\1X\0y\0", false, ".........e."),
		ROW("\0\0\0\x09m\0\0\0\1X\0y\0", false, ".........e."),
		ROW("\0\0\0\3bxy", false, ".........e."),
		ROW("\0\0\0\7e<a@b>\0", false, ".........e."),
		ROW("\0\0\0\7+<a@b>\0", false, ".........e."),
		ROW("\0\0\0\7-<a@b>\0", false, ".........e."),
		ROW("\0\0\0\7" "2<a@b>\0", false, ".........e."),
		ROW("\0\0\0\5qwhy\0", false, ".........e."),
		ROW("\0\0\0\1f", true, "..........."),			/* CONN_FAIL is Sendmail's own */
		ROW("\0\0\0\6l\0\0\0\1\0", false, "..........."),	/* only inside OPTNEG */
		ROW("\0\0\0\x0dO\0\0\0\6\0\0\0\0\0\0\0\0", false, "..........."),
		ROW("\0\0\0\1z", true, "..........."),
		ROW("\0\0\0\2cx", true, "..........."),			/* data where there is none */
		ROW("\0\0\0\3hX\0", false, "..........."),		/* half a header */
		ROW("\0\0\0\0", true, "..........."),
		ROW("\0\1\0\2h", true, "..........."),			/* 65537 bytes of data */
		ROW("\0\x10\0\2b", true, "..........."),		/* a MiB and one */
#undef ROW
	};
	static const char columns[] = "-CHMRTLNBEU";

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char cells[sizeof(columns)] = "";

		for (size_t k = 0; columns[k]; k++)
			cells[k] = cell(columns[k], rows[i].bytes, rows[i].len, rows[i].is_final);
		cr_expect_str_eq(cells, rows[i].cells, "row %zu (%c): is %s, not %s", i, rows[i].bytes[4], cells,
				 rows[i].cells);
	}
}

Test(backend, neither_drops_nor_progress_outlast_the_deadline)
{
	static const struct {
		const char *bytes;	/* sent again and again */
		size_t len;
		const char *said;
	} rows[] = {
		{ "", 0, "answer:c lost:timeout:no answer to HELO within 60 ms" },
		{ "\0", 1, "answer:c lost:timeout:no answer to HELO within 60 ms" },
		{ "\0\0\0\1p", 5, "answer:c lost:timeout:no verdict within timeout.message (150 ms)" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct bench b = { 0 };
		struct script script = { .rule = { { .command = 'H' } } };
		int64_t began;

		script_conf(&b.conf, "m", "/nowhere");
		b.conf.timeout_command = 60;
		b.conf.timeout_message = 150;
		open_bench(&b, &script);
		negotiate(&b);
		buf_clear(&b.said);
		tell(&b, IPC_CONNECT);
		began = loop_now_ms();
		backend_set_limit(b.backend, began + b.conf.timeout_message);

		const char *arg[] = { "x" };
		const struct ipc_event helo = { .kind = IPC_HELO, .arg = arg, .arg_count = 1 };

		b.is_busy = backend_tell(b.backend, &helo, &b.scope);
		while (!script_until(has_ended, &b, 20) && loop_now_ms() < began + 1000)
			script_send(b.milter, 1, rows[i].bytes, rows[i].len);
		cr_expect_str_eq(said_so_far(&b), rows[i].said);
		close_bench(&b);
	}
}

Test(backend, a_reply_byte_by_byte_is_a_reply_and_half_of_one_is_none)
{
	struct bench b = { 0 };
	struct script script = { .rule = { { .command = 'C' }, { .command = 'H', .bytes = "\0\0\0", .len = 3, .hangs_up = true } } };
	const char *arg[] = { "mail.test", "4", "25", "192.0.2.1" };
	const struct ipc_event event = { .kind = IPC_CONNECT, .arg = arg, .arg_count = 4 };
	static const char reply[] = REPLY("c");

	open_bench(&b, &script);
	negotiate(&b);
	b.is_busy = backend_tell(b.backend, &event, &b.scope);
	for (size_t i = 0; i < 5; i++) {
		cr_expect(b.is_busy);
		script_send(b.milter, 1, &reply[i], 1);
		script_until(has_ended, &b, i < 4 ? 5 : WAIT_MS);
	}
	tell(&b, IPC_HELO);
	cr_expect_str_eq(said_so_far(&b), "ready answer:c lost:closed:it closed the connection");
	close_bench(&b);
}

Test(backend, a_flood_of_legal_packets_ends_at_max_response_size)
{
	struct bench b = { 0 };
	struct buf flood = { 0 };
	struct script script = { 0 };

	for (int i = 0; i < 500; i++)
		buf_append(&flood, "\0\0\0\1p", 5);
	script.rule[0] = (struct script_rule){ .command = 'E', .bytes = (char *)buf_head(&flood), .len = buf_len(&flood) };
	script_conf(&b.conf, "m", "/nowhere");
	b.conf.max_response_size = 1024;
	open_bench(&b, &script);
	negotiate(&b);
	tell_up_to(&b, IPC_DATA);
	send_message(&b, "A: b\r\n", "", 0);
	wait_for(&b);
	cr_expect(strstr(said_so_far(&b), "lost:broken:its answers to one message are larger"), "%s", said_so_far(&b));
	buf_fini(&flood);
	close_bench(&b);
}

Test(backend, an_edit_that_is_refused_ends_the_connection)
{
	struct bench b = { 0 };
	struct script script = { .rule = { SAYS('E', "\0\0\0\2e\0\0\0\0\1c") } };

	open_bench(&b, &script);
	negotiate(&b);
	tell_up_to(&b, IPC_DATA);
	send_message(&b, "A: b\r\n", "", 0);
	wait_for(&b);
	cr_expect(strstr(said_so_far(&b), "edit:e lost:broken:CHGFROM: refused by the test"), "%s", said_so_far(&b));
	close_bench(&b);
}

/* A body of several chunks whose every byte tells its place. */
static uint8_t *make_body(size_t len)
{
	uint8_t *body = mem_alloc(len);

	for (size_t i = 0; i < len; i++)
		body[i] = (uint8_t)((i * 2654435761u) >> 13);
	return body;
}

Test(backend, content_arrives_whole_and_in_order_whatever_is_answered_and_written_ahead)
{
	static const char header[] = "From: a\r\nSubject: b\r\n c\r\n";
	static const uint32_t protocols[] = {
		0, SMFIP_SKIP, SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY, SMFIP_NR_BODY, SMFIP_NR_HDR | SMFIP_SKIP,
		0xff080,
	};
	const size_t len = 5 * MILTER_CHUNK_SIZE + 17;
	uint8_t *body = make_body(len);

	for (size_t i = 0; i < 2 * sizeof(protocols) / sizeof(*protocols); i++) {
		struct bench b = { 0 };
		struct script script = { .version = 6, .protocol = protocols[i / 2] };

		open_bench(&b, &script);
		negotiate(&b);
		backend_set_write_ahead(b.backend, i % 2);
		tell_up_to(&b, IPC_DATA);
		b.answers = 0;
		send_message(&b, header, body, len);
		wait_for(&b);
		cr_expect_str_eq(script_told(b.milter, 1),
				 "O C(mail.test) H(mail.test) M(<a@b.test>) R(<c@d.test>) T L(From) L(Subject) N "
				 "B(65535) B(65535) B(65535) B(65535) B(65535) B(17) E");
		cr_expect_eq(b.answers, 1, "one answer to the message");
		cr_assert_eq(buf_len(script_body(b.milter, 1)), len);
		cr_expect_eq(memcmp(buf_head(script_body(b.milter, 1)), body, len), 0);
		cr_expect(backend_reusable(b.backend));
		cr_expect_not(backend_in_message(b.backend));
		close_bench(&b);
	}
	free(body);
}

Test(backend, what_a_milter_opted_out_of_is_not_sent)
{
	static const struct {
		uint32_t version, protocol;
		const char *told;
	} rows[] = {
		{ 6, SMFIP_NOCONNECT | SMFIP_NOHELO, "O M(<a@b.test>) R(<c@d.test>) T L(A) N B(4) E" },
		{ 6, SMFIP_NOMAIL | SMFIP_NORCPT | SMFIP_NODATA, "O C(mail.test) H(mail.test) L(A) N B(4) E" },
		{ 6, SMFIP_NOHDRS | SMFIP_NOEOH, "O C(mail.test) H(mail.test) M(<a@b.test>) R(<c@d.test>) T B(4) E" },
		{ 6, SMFIP_NOBODY, "O C(mail.test) H(mail.test) M(<a@b.test>) R(<c@d.test>) T L(A) N E" },
		{ 2, 0, "O C(mail.test) H(mail.test) M(<a@b.test>) R(<c@d.test>) L(A) N B(4) E" },
		{ 6, SMFIP_ALL, "O E" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct bench b = { 0 };
		struct script script = { .version = rows[i].version, .protocol = rows[i].protocol };

		open_bench(&b, &script);
		negotiate(&b);
		tell_up_to(&b, IPC_DATA);
		send_message(&b, "A: b\r\n", "xyz\n", 4);
		wait_for(&b);
		cr_expect_str_eq(script_told(b.milter, 1), rows[i].told);
		close_bench(&b);
	}
}

Test(backend, skip_ends_its_kind_of_content_and_no_chunk_follows_it)
{
	const size_t len = 4 * MILTER_CHUNK_SIZE;
	uint8_t *body = make_body(len);
	struct bench b = { 0 };
	struct script script = {
		.version = 6, .protocol = SMFIP_SKIP, .rule = { SAYS('B', "\0\0\0\1s"), SAYS('L', "\0\0\0\1s") },
	};

	open_bench(&b, &script);
	negotiate(&b);
	backend_set_write_ahead(b.backend, false);
	tell_up_to(&b, IPC_DATA);
	send_message(&b, "A: b\r\nC: d\r\n", body, len);
	wait_for(&b);
	cr_expect_str_eq(script_told(b.milter, 1), "O C(mail.test) H(mail.test) M(<a@b.test>) R(<c@d.test>) T L(A) N "
						   "B(65535) E");
	cr_expect(backend_reusable(b.backend));
	close_bench(&b);
	free(body);
}

Test(backend, a_verdict_in_the_middle_counts_and_costs_the_connection_only_when_more_was_on_its_way)
{
	static const struct {
		struct script_rule rule;
		bool ahead, reusable;
	} rows[] = {
		{ SAYS('L', "\0\0\0\1r"), true, false },
		{ SAYS('N', "\0\0\0\1a"), true, false },
		{ SAYS('N', "\0\0\0\1a"), false, true },
		{ SAYS('B', "\0\0\0\1t"), false, true },
		{ SAYS('E', "\0\0\0\1a"), true, true },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct bench b = { 0 };
		struct script script = { .rule = { rows[i].rule } };
		char expected[] = "answer:x";

		expected[7] = rows[i].rule.bytes[4];
		open_bench(&b, &script);
		negotiate(&b);
		backend_set_write_ahead(b.backend, rows[i].ahead);
		tell_up_to(&b, IPC_DATA);
		buf_clear(&b.said);
		send_message(&b, "A: b\r\nC: d\r\n", "body\r\n", 6);
		wait_for(&b);
		cr_expect(strstr(said_so_far(&b), expected), "row %zu: %s", i, said_so_far(&b));
		cr_expect_eq(backend_reusable(b.backend), rows[i].reusable, "row %zu", i);
		close_bench(&b);
	}
}

Test(backend, a_verdict_before_the_end_of_the_connection_counts)
{
	struct bench b = { 0 };
	struct script script = {
		.rule = { { .command = 'L', .bytes = "\0\0\0\1r", .len = 5, .hangs_up = true } },
	};
	const size_t len = 3 << 20;	/* more than any socket takes at once */
	uint8_t *body = make_body(len);

	open_bench(&b, &script);
	negotiate(&b);
	tell_up_to(&b, IPC_DATA);
	buf_clear(&b.said);
	send_message(&b, "A: b\r\n", body, len);
	wait_for(&b);
	cr_expect_str_eq(said_so_far(&b), "answer:r");
	cr_expect_not(backend_reusable(b.backend));
	close_bench(&b);
	free(body);
}

Test(backend, a_milter_that_takes_no_content_is_left_at_the_deadline)
{
	struct bench b = { 0 };
	struct script script = { .version = 6, .protocol = 0xff080 };
	const size_t len = 8 << 20;
	uint8_t *body = make_body(len);
	int fd[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	script_conf(&b.conf, "m", "/nowhere");
	b.conf.timeout_data = 50;
	open_bench(&b, &script);
	negotiate(&b);
	tell_up_to(&b, IPC_DATA);
	/* From here on nobody reads. */
	script_stop_reading(b.milter, 1);
	send_message(&b, "A: b\r\n", body, len);
	wait_for(&b);
	cr_expect(strstr(said_so_far(&b), "lost:timeout:it took no content for 50 ms"), "%s", said_so_far(&b));
	close_bench(&b);
	free(body);
}

Test(backend, quit_says_abort_in_a_message_and_nothing_when_an_answer_is_owed)
{
	struct bench b = { 0 };
	struct script script = { .rule = { { .command = 'R' } } };
	const char *arg[] = { "<c@d.test>" };
	const struct ipc_event rcpt = { .kind = IPC_RCPT, .arg = arg, .arg_count = 1 };

	open_bench(&b, &script);
	negotiate(&b);
	tell_up_to(&b, IPC_MAIL);
	backend_quit(b.backend);
	b.backend = NULL;
	b.is_busy = true;
	script_until(has_ended, &b, 20);
	cr_expect_str_eq(script_told(b.milter, 1), "O C(mail.test) H(mail.test) M(<a@b.test>) A Q .");
	close_bench(&b);

	open_bench(&b, &script);
	negotiate(&b);
	tell_up_to(&b, IPC_MAIL);
	cr_expect(backend_tell(b.backend, &rcpt, &b.scope));
	backend_quit(b.backend);
	b.backend = NULL;
	b.is_busy = true;
	script_until(has_ended, &b, 20);
	cr_expect_str_eq(script_told(b.milter, 1), "O C(mail.test) H(mail.test) M(<a@b.test>) R(<c@d.test>) .");
	close_bench(&b);
}

/* A connected pair of TCP sockets, which take much more at once than a UNIX socket does. */
static void tcp_pair(int fd[2])
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	cr_assert_eq(bind(listener, (struct sockaddr *)&addr, len), 0);
	cr_assert_eq(listen(listener, 1), 0);
	cr_assert_eq(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
	fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(connect(fd[0], (struct sockaddr *)&addr, len), 0);
	fd[1] = accept(listener, NULL, NULL);
	close(listener);
	fd_set_nonblocking(fd[0]);
	fd_set_nonblocking(fd[1]);
}

Test(backend, a_socket_that_takes_everything_at_once_gets_all_of_the_content)
{
	static const struct script script = { .version = 6, .protocol = SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY };
	const size_t len = 60 * MILTER_CHUNK_SIZE;
	uint8_t *body = make_body(len);
	struct bench b = { 0 };
	int fd[2];

	tcp_pair(fd);
	script_conf(&b.conf, "m", "/nowhere");
	b.milter = script_attach(fd[1], &script);
	b.backend = backend_new(fd[0], &b.conf, no_macros, &ops, &b);
	negotiate(&b);
	tell_up_to(&b, IPC_DATA);
	send_message(&b, "A: b\r\n", body, len);
	wait_for(&b);
	cr_expect_not(b.lost, "%s", said_so_far(&b));
	cr_expect_eq(buf_len(script_body(b.milter, 1)), len);
	close_bench(&b);
	free(body);
}

Test(backend, a_connection_in_the_middle_of_content_is_not_reusable_even_when_nothing_is_owed)
{
	static const struct script script = { .version = 6, .protocol = SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY };
	struct buf header = { 0 };
	struct bench b = { 0 };
	const char *why;

	for (int i = 0; i < 2000; i++)
		buf_printf(&header, "X-Long: %0400d\r\n", i);
	buf_append(&header, "", 1);
	open_bench(&b, &script);
	negotiate(&b);
	tell_up_to(&b, IPC_DATA);
	script_stop_reading(b.milter, 1);
	b.pool = msgbuf_pool_new(1 << 20, 1 << 20);
	cr_assert_eq(header_parse(&b.arena, buf_head(&header), buf_len(&header) - 1, 3000, 1 << 21, &b.block, &why), 0);
	b.message = edit_message_new(&b.block, buf_head(&header), b.pool, 1 << 20);
	b.content = (struct backend_content){ b.message, { .data = (const uint8_t *)"x\r\n", .memory = 3, .len = 3 } };
	backend_set_write_ahead(b.backend, true);
	backend_send_message(b.backend, &b.content, &b.scope);
	cr_expect_not(backend_reusable(b.backend), "the rest would follow into the next message");
	close_bench(&b);
	buf_fini(&header);
}
