#include "config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/ipc.h"
#include "common/smtp_reply.h"

static struct wire wire_of(const struct buf *b)
{
	struct wire w;

	wire_init(&w, b->data ? buf_head(b) : NULL, buf_len(b));
	return w;
}

static const char *connect_args[] = { "mx.example.org", "4", "4711", "192.0.2.7" };
static const char *mail_args[] = { "<a@example.org>", "SIZE=100", "BODY=8BITMIME" };
static struct milter_macro macros[] = { { "i", "4f2a" }, { "{client_addr}", "192.0.2.7" }, { "{empty}", "" } };

static struct ipc_event an_event(void)
{
	return (struct ipc_event){ .number = 3, .kind = IPC_MAIL, .flags = IPC_EVENT_WANTED, .arg = mail_args,
				   .arg_count = 3, .macro = macros, .macro_count = 3 };
}

static struct ipc_said said[] = { { 0, VERDICT_CONTINUE, 0, 12 }, { 1, VERDICT_REJECT, 1, 0xffffffff } };

static struct ipc_verdict a_verdict(void)
{
	return (struct ipc_verdict){ .number = 9, .origin = 4, .verdict = VERDICT_REJECT,
				     .reply = "550-5.7.1 no\r\n550 5.7.1 thanks\r\n", .milter = 1,
				     .interest = IPC_INTEREST(IPC_EOM), .said = said, .said_count = 2 };
}

/* Whether a reader takes the bytes, all of them and no more. */
static bool event_is_taken(const struct buf *b)
{
	struct arena arena = { 0 };
	struct ipc_event event;
	struct wire w = wire_of(b);

	ipc_event_take(&w, &arena, &event);
	arena_fini(&arena);
	return wire_finished(&w);
}

static bool verdict_is_taken(const struct buf *b)
{
	struct arena arena = { 0 };
	struct ipc_verdict verdict;
	struct wire w = wire_of(b);

	ipc_verdict_take(&w, &arena, &verdict);
	arena_fini(&arena);
	return wire_finished(&w);
}

typedef bool taken_fn(const struct buf *);

/* No beginning of a record is a record, and neither is one with a byte too many. */
static void only_the_whole_is_taken(const char *name, const struct buf *whole, taken_fn *taken)
{
	for (size_t len = 0; len < buf_len(whole); len++) {
		struct buf part = { 0 };

		buf_append(&part, buf_head(whole), len);
		cr_expect_not(taken(&part), "%s: %zu of %zu bytes", name, len, buf_len(whole));
		buf_fini(&part);
	}
	struct buf more = { 0 };

	buf_append(&more, buf_head(whole), buf_len(whole));
	cr_expect(taken(&more), "%s", name);
	buf_append(&more, "", 1);
	cr_expect_not(taken(&more), "%s and one byte more", name);
	buf_fini(&more);
}

Test(ipc, only_the_whole_record_is_taken)
{
	struct ipc_event event = an_event();
	struct ipc_verdict verdict = a_verdict();
	struct buf b = { 0 };

	ipc_event_put(&b, &event);
	only_the_whole_is_taken("event", &b, event_is_taken);
	buf_clear(&b);
	event = (struct ipc_event){ .number = 1, .kind = IPC_EOM, .content = { 1, 2, 3, 3 } };
	ipc_event_put(&b, &event);
	only_the_whole_is_taken("eom", &b, event_is_taken);
	buf_clear(&b);
	ipc_verdict_put(&b, &verdict);
	only_the_whole_is_taken("verdict", &b, verdict_is_taken);
	buf_fini(&b);
}

/* Records by hand: what an asserting writer cannot be made to write. */
static void put_event(struct buf *b, uint32_t number, uint8_t kind, uint8_t flags, uint8_t args, const char *const *arg,
		      uint8_t macro_count)
{
	wire_put_u32(b, number);
	wire_put_u8(b, kind);
	wire_put_u8(b, flags);
	wire_put_u8(b, args);
	for (unsigned i = 0; i < args; i++)
		wire_put_cstr(b, arg ? arg[i] : "x");
	wire_put_u8(b, macro_count);
	for (unsigned i = 0; i < macro_count; i++) {
		wire_put_cstr(b, "i");
		wire_put_cstr(b, "v");
	}
	if (kind == IPC_EOM) {
		wire_put_u64(b, 0);
		wire_put_u64(b, 0);
	}
}

Test(ipc, an_event_out_of_range_is_refused)
{
	static const struct {
		const char *what;
		uint32_t number;
		uint8_t kind, flags, args;
		const char *arg[4];
		uint8_t macro_count;
		bool legal;
	} cases[] = {
		{ "number 0", 0, IPC_DATA, 0, 0, { 0 }, 0, false },
		{ "no such kind", 1, IPC_EVENT_KINDS, 0, 0, { 0 }, 0, false },
		{ "kind 255", 1, 255, 0, 0, { 0 }, 0, false },
		{ "unknown flag", 1, IPC_DATA, 4, 0, { 0 }, 0, false },
		{ "replayed and wanted", 1, IPC_DATA, IPC_EVENT_REPLAYED | IPC_EVENT_WANTED, 0, { 0 }, 0, false },
		{ "DATA with argument", 1, IPC_DATA, 0, 1, { 0 }, 0, false },
		{ "EOM with argument", 1, IPC_EOM, 0, 1, { 0 }, 0, false },
		{ "HELO without name", 1, IPC_HELO, 0, 0, { 0 }, 0, false },
		{ "HELO with two", 1, IPC_HELO, 0, 2, { 0 }, 0, false },
		{ "MAIL without path", 1, IPC_MAIL, 0, 0, { 0 }, 0, false },
		{ "MAIL at the limit", 1, IPC_MAIL, 0, IPC_ARGS_MAX, { 0 }, 0, true },
		{ "MAIL above the limit", 1, IPC_MAIL, 0, IPC_ARGS_MAX + 1, { 0 }, 0, false },
		{ "RCPT with 255", 1, IPC_RCPT, 0, 255, { 0 }, 0, false },
		{ "macros at the limit", 1, IPC_DATA, 0, 0, { 0 }, IPC_MACROS_MAX, true },
		{ "macros above the limit", 1, IPC_DATA, 0, 0, { 0 }, IPC_MACROS_MAX + 1, false },
		{ "CONNECT with 3", 1, IPC_CONNECT, 0, 3, { "h", "4", "1", "a" }, 0, false },
		{ "CONNECT with IPv4", 1, IPC_CONNECT, 0, 4, { "h", "4", "65535", "a" }, 0, true },
		{ "CONNECT unknown", 1, IPC_CONNECT, 0, 4, { "h", "U", "0", "" }, 0, true },
		{ "no such family", 1, IPC_CONNECT, 0, 4, { "h", "X", "1", "a" }, 0, false },
		{ "no family", 1, IPC_CONNECT, 0, 4, { "h", "", "1", "a" }, 0, false },
		{ "two families", 1, IPC_CONNECT, 0, 4, { "h", "46", "1", "a" }, 0, false },
		{ "port 65536", 1, IPC_CONNECT, 0, 4, { "h", "4", "65536", "a" }, 0, false },
		{ "port of many digits", 1, IPC_CONNECT, 0, 4, { "h", "4", "4294967297", "a" }, 0, false },
		{ "negative port", 1, IPC_CONNECT, 0, 4, { "h", "4", "-1", "a" }, 0, false },
		{ "no port", 1, IPC_CONNECT, 0, 4, { "h", "4", "", "a" }, 0, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf b = { 0 };

		put_event(&b, cases[i].number, cases[i].kind, cases[i].flags, cases[i].args,
			  cases[i].arg[0] ? cases[i].arg : NULL, cases[i].macro_count);
		cr_expect_eq(event_is_taken(&b), cases[i].legal, "%s", cases[i].what);
		buf_fini(&b);
	}
}

static void put_verdict(struct buf *b, uint32_t number, uint32_t origin, uint8_t verdict, const char *reply,
			uint32_t said_count)
{
	wire_put_u32(b, number);
	wire_put_u32(b, origin);
	wire_put_u8(b, verdict);
	wire_put_u8(b, reply != NULL);
	if (reply)
		wire_put_cstr(b, reply);
	wire_put_u32(b, IPC_NOBODY);
	wire_put_u32(b, IPC_INTEREST_ALL);
	wire_put_u32(b, said_count);
}

Test(ipc, a_verdict_out_of_range_is_refused)
{
	static const struct {
		const char *what;
		uint32_t number, origin;
		uint8_t verdict;
		uint32_t said_count;
		bool legal;
	} cases[] = {
		{ "plain", 1, 1, VERDICT_CONTINUE, 0, true },
		{ "number 0", 0, 0, VERDICT_CONTINUE, 0, false },
		{ "origin 0", 1, 0, VERDICT_CONTINUE, 0, false },
		{ "origin in the future", 1, 2, VERDICT_CONTINUE, 0, false },
		{ "no such verdict", 1, 1, VERDICT_COUNT, 0, false },
		{ "verdict 255", 1, 1, 255, 0, false },
		{ "more said than there is", 1, 1, VERDICT_CONTINUE, 1, false },
		{ "very much said", 1, 1, VERDICT_CONTINUE, 0xffffffff, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf b = { 0 };

		put_verdict(&b, cases[i].number, cases[i].origin, cases[i].verdict, NULL, cases[i].said_count);
		cr_expect_eq(verdict_is_taken(&b), cases[i].legal, "%s", cases[i].what);
		buf_fini(&b);
	}
	static const uint8_t bad_said[][2] = { { VERDICT_COUNT, 0 }, { 255, 0 }, { VERDICT_ACCEPT, 2 } };

	for (size_t i = 0; i < sizeof(bad_said) / sizeof(*bad_said); i++) {
		struct buf b = { 0 };

		put_verdict(&b, 1, 1, VERDICT_CONTINUE, NULL, 1);
		wire_put_u32(&b, 0);
		wire_put_u8(&b, bad_said[i][0]);
		wire_put_u8(&b, bad_said[i][1]);
		wire_put_u32(&b, 0);
		cr_expect_not(verdict_is_taken(&b), "said %zu", i);
		buf_fini(&b);
	}
}

/* The session sends it to its client as it is: a worker must not be able to say yes with a no, or two things at once. */
Test(ipc, a_reply_that_does_not_fit_its_verdict_or_is_none_is_refused)
{
	static const struct {
		uint8_t verdict;
		const char *reply;
		bool legal;
	} cases[] = {
		{ VERDICT_REJECT, "550 5.7.1 no\r\n", true },
		{ VERDICT_REJECT, "550 \r\n", true },
		{ VERDICT_REJECT, "550-a\r\n550-b\r\n550 c\r\n", true },
		{ VERDICT_REJECT, "550 gr\xc3\xbc\xc3\x9f\r\n", true },
		{ VERDICT_TEMPFAIL, "451 4.7.1 later\r\n", true },
		{ VERDICT_SHUTDOWN, "421 4.7.0 bye\r\n", true },
		{ VERDICT_REJECT, "250 2.0.0 ok\r\n", false },
		{ VERDICT_REJECT, "451 4.7.1 later\r\n", false },
		{ VERDICT_TEMPFAIL, "550 5.7.1 no\r\n", false },
		{ VERDICT_SHUTDOWN, "550 5.7.1 no\r\n", false },
		{ VERDICT_CONTINUE, "250 2.0.0 ok\r\n", false },
		{ VERDICT_ACCEPT, "550 5.7.1 no\r\n", false },
		{ VERDICT_DISCARD, "250 2.0.0 ok\r\n", false },
		{ VERDICT_REJECT, "", false },
		{ VERDICT_REJECT, "5", false },
		{ VERDICT_REJECT, "550", false },
		{ VERDICT_REJECT, "550\r\n", false },
		{ VERDICT_REJECT, "5x0 no\r\n", false },
		{ VERDICT_REJECT, "550 no", false },
		{ VERDICT_REJECT, "550 no\n", false },
		{ VERDICT_REJECT, "550 no\r", false },
		{ VERDICT_REJECT, "550 no\rno\r\n", false },
		{ VERDICT_REJECT, "550 no\x7f\r\n", false },
		{ VERDICT_REJECT, "550-no\r\n", false },
		{ VERDICT_REJECT, "550-no\r\n551 no\r\n", false },
		{ VERDICT_REJECT, "550 no\r\n250 ok\r\n", false },
		{ VERDICT_REJECT, "550 no\r\n550 no\r\n", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf b = { 0 };

		put_verdict(&b, 1, 1, cases[i].verdict, cases[i].reply, 0);
		cr_expect_eq(verdict_is_taken(&b), cases[i].legal, "case %zu", i);
		buf_fini(&b);
	}
}

static bool reply_is_taken(const struct buf *reply)
{
	struct buf b = { 0 };
	char *text = mem_strndup(buf_head(reply), buf_len(reply));

	put_verdict(&b, 1, 1, VERDICT_REJECT, text, 0);
	bool taken = verdict_is_taken(&b);

	buf_fini(&b);
	free(text);
	return taken;
}

Test(ipc, limits_of_a_reply_are_exact)
{
	for (int over = 0; over < 2; over++) {
		struct buf lines = { 0 }, bytes = { 0 };

		for (unsigned i = 1; i < SMTP_REPLY_LINES_MAX + (unsigned)over; i++)
			buf_puts(&lines, "550-no\r\n");
		buf_puts(&lines, "550 no\r\n");
		cr_expect_eq(reply_is_taken(&lines), !over);

		buf_puts(&bytes, "550 ");
		while (buf_len(&bytes) < SMTP_REPLY_LENGTH_MAX - 2 + (unsigned)over)
			buf_puts(&bytes, "x");
		buf_puts(&bytes, "\r\n");
		cr_expect_eq(reply_is_taken(&bytes), !over);
		buf_fini(&lines);
		buf_fini(&bytes);
	}
}

Test(ipc, an_event_comes_as_it_went)
{
	struct ipc_event in[] = {
		{ .number = 1, .kind = IPC_CONNECT, .flags = IPC_EVENT_REPLAYED, .arg = connect_args, .arg_count = 4 },
		an_event(),
		{ .number = 0xffffffff, .kind = IPC_EOM, .flags = IPC_EVENT_WANTED, .content = { 7, 8, 1ull << 20, 1ull << 33 } },
	};

	for (size_t i = 0; i < sizeof(in) / sizeof(*in); i++) {
		struct buf b = { 0 };
		struct arena arena = { 0 };
		struct ipc_event out;

		ipc_event_put(&b, &in[i]);

		struct wire w = wire_of(&b);

		ipc_event_take(&w, &arena, &out);
		cr_assert(wire_finished(&w));
		buf_fini(&b);	/* what was read does not live in it */
		cr_expect(out.number == in[i].number && out.kind == in[i].kind && out.flags == in[i].flags);
		cr_assert(out.arg_count == in[i].arg_count && out.macro_count == in[i].macro_count);
		for (size_t j = 0; j < out.arg_count; j++)
			cr_expect_str_eq(out.arg[j], in[i].arg[j]);
		for (size_t j = 0; j < out.macro_count; j++) {
			cr_expect_str_eq(out.macro[j].name, in[i].macro[j].name);
			cr_expect_str_eq(out.macro[j].value, in[i].macro[j].value);
		}
		cr_expect(out.content.buffer == in[i].content.buffer &&
			  out.content.generation == in[i].content.generation &&
			  out.content.memory == in[i].content.memory &&
			  out.content.length == in[i].content.length);
		arena_fini(&arena);
	}
}

Test(ipc, a_verdict_comes_as_it_went_and_leaves_what_follows)
{
	struct ipc_verdict in = a_verdict(), out;
	struct buf b = { 0 };
	struct arena arena = { 0 };

	ipc_verdict_put(&b, &in);
	wire_put_u32(&b, 0x12345678);

	struct wire w = wire_of(&b);

	ipc_verdict_take(&w, &arena, &out);
	cr_expect_eq(wire_u32(&w), 0x12345678);
	cr_assert(wire_finished(&w));
	buf_fini(&b);
	cr_expect(out.number == 9 && out.origin == 4 && out.verdict == VERDICT_REJECT && out.milter == 1 &&
		  out.interest == IPC_INTEREST(IPC_EOM));
	cr_expect_str_eq(out.reply, in.reply);
	cr_assert_eq(out.said_count, 2);
	cr_expect(out.said[0].milter == 0 && out.said[0].verdict == VERDICT_CONTINUE && !out.said[0].failed &&
		  out.said[0].ms == 12);
	cr_expect(out.said[1].milter == 1 && out.said[1].verdict == VERDICT_REJECT && out.said[1].failed &&
		  out.said[1].ms == 0xffffffff);
	arena_fini(&arena);
}

Test(ipc, fixed_records_come_as_they_went)
{
	struct buf b = { 0 };
	struct ipc_slot slot = { 1, 0xfffffffe };
	struct ipc_buffer buffer = { 3, 4 };
	struct ipc_open open = { 5, 1 };
	struct ipc_eom_begun begun = { 6 };

	ipc_slot_put(&b, &slot);
	ipc_buffer_put(&b, &buffer);
	ipc_open_put(&b, &open);
	ipc_eom_begun_put(&b, &begun);
	slot = (struct ipc_slot){ 0 };
	buffer = (struct ipc_buffer){ 0 };
	open = (struct ipc_open){ 0 };
	begun = (struct ipc_eom_begun){ 0 };

	struct wire w = wire_of(&b);

	ipc_slot_take(&w, &slot);
	ipc_buffer_take(&w, &buffer);
	ipc_open_take(&w, &open);
	ipc_eom_begun_take(&w, &begun);
	cr_assert(wire_finished(&w));
	cr_expect(slot.slot == 1 && slot.extra == 0xfffffffe && buffer.id == 3 && buffer.generation == 4 &&
		  open.listener == 5 && open.trace == 1 && begun.milter == 6);
	buf_fini(&b);
}

Test(ipc, every_event_has_a_name)
{
	static const char *const names[IPC_EVENT_KINDS] = { "connect", "helo", "mail", "rcpt", "data", "eom", "unknown" };

	for (int kind = 0; kind < IPC_EVENT_KINDS; kind++)
		cr_expect_str_eq(ipc_event_name(kind), names[kind]);
}

static struct ipc_trace a_step(struct milter_macro *macro, size_t count)
{
	return (struct ipc_trace){
		.kind = IPC_TRACE_STEP, .milter = 3, .command = SMFIC_RCPT, .reply = SMFIR_REPLYCODE, .packets = 1,
		.us = 1234, .subject = "<a@b>", .text = "550 no", .macro = macro, .macro_count = count,
	};
}

Test(ipc, a_trace_out_of_bounds_is_refused)
{
	enum { KIND = 0, COMMAND = 5, REPLY = 6 };
	struct milter_macro macro = { "i", "1" };
	const struct ipc_trace step = a_step(&macro, 1);
	static const struct { size_t at; uint8_t value; } rows[] = {
		{ KIND, IPC_TRACE_KINDS }, { KIND, 255 }, { KIND, IPC_TRACE_EDIT }, { KIND, IPC_TRACE_TROUBLE },
		{ COMMAND, 'z' }, { REPLY, 'z' },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct arena arena = { 0 };
		struct buf b = { 0 };
		struct ipc_trace out;

		ipc_trace_put(&b, &step);
		buf_head(&b)[rows[i].at] = rows[i].value;

		struct wire w = wire_of(&b);

		ipc_trace_take(&w, &arena, &out);
		cr_expect(w.broken, "row %zu", i);
		buf_fini(&b);
		arena_fini(&arena);
	}
}

Test(ipc, a_trace_cut_anywhere_is_refused)
{
	struct milter_macro macro[] = { { "i", "1" }, { "{x}", "" } };
	const struct ipc_trace step = a_step(macro, 2);
	struct arena arena = { 0 };
	struct buf b = { 0 };
	struct ipc_trace out;
	struct wire w;

	ipc_trace_put(&b, &step);
	for (size_t len = 0; len < buf_len(&b); len++) {
		wire_init(&w, buf_head(&b), len);
		ipc_trace_take(&w, &arena, &out);
		cr_expect(w.broken, "%zu bytes", len);
	}
	w = wire_of(&b);
	ipc_trace_take(&w, &arena, &out);
	cr_assert(wire_finished(&w));
	cr_expect(out.milter == 3 && out.command == SMFIC_RCPT && out.reply == SMFIR_REPLYCODE && out.us == 1234 &&
		  out.packets == 1 && out.macro_count == 2);
	cr_expect_str_eq(out.subject, "<a@b>");
	cr_expect_str_eq(out.text, "550 no");
	cr_expect_str_eq(out.macro[1].name, "{x}");
	buf_fini(&b);
	arena_fini(&arena);
}

Test(ipc, a_traced_modification_must_be_one)
{
	static const struct { uint8_t reply; const char *data; size_t len; bool legal; } rows[] = {
		{ SMFIR_ADDHEADER, "X\0y", 4, true }, { SMFIR_ADDHEADER, "X\0y", 3, false },
		{ SMFIR_QUARANTINE, "why", 4, true }, { SMFIR_REPLBODY, "", 0, true }, { 'z', "", 0, false },
		{ 0, "", 0, false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct ipc_trace edit = {
			.kind = IPC_TRACE_EDIT, .reply = SMFIR_REPLBODY, .subject = "", .text = "",
		};
		struct arena arena = { 0 };
		struct buf b = { 0 }, whole = { 0 };
		struct ipc_trace out;

		ipc_trace_put(&b, &edit);
		/* Behind the fixed part, both strings and the count of macros: the blob and the size. */
		buf_append(&whole, buf_head(&b), buf_len(&b) - 12);
		buf_head(&whole)[6] = rows[i].reply;
		wire_put_blob(&whole, rows[i].data, rows[i].len);
		wire_put_u64(&whole, rows[i].len);

		struct wire w = wire_of(&whole);

		ipc_trace_take(&w, &arena, &out);
		cr_expect_eq(wire_finished(&w), rows[i].legal, "row %zu", i);
		buf_fini(&b);
		buf_fini(&whole);
		arena_fini(&arena);
	}
}

Test(ipc, a_session_is_traced_or_not)
{
	struct ipc_open open;
	struct wire w;

	wire_init(&w, "\0\0\0\1\2", 5);
	ipc_open_take(&w, &open);
	cr_expect(w.broken);
}
