#include "config.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/envelope.h"

static struct arena arena;

static void release(void)
{
	arena_fini(&arena);
}

TestSuite(envelope, .fini = release);

/* An envelope as text: "sender PARAM..., rcpt PARAM..., ..." */
static const char *print_path(const char *before, const struct envelope_path *path)
{
	const char *text = arena_printf(&arena, "%s<%s>", before, path->address);

	for (size_t i = 0; i < path->param_count; i++)
		text = arena_printf(&arena, "%s %s", text, path->param[i]);
	return text;
}

static const char *print(const struct envelope *e)
{
	const char *text = print_path("", &e->sender);

	for (size_t i = 0; i < e->rcpt_count; i++)
		text = print_path(arena_printf(&arena, "%s, ", text), &e->rcpt[i]);
	return text;
}

static const char *const client_params[] = { "SIZE=100", "RET=HDRS", "BODY=8BITMIME", "envid=old" };
static const char *const rcpt_params[] = { "NOTIFY=DELAY" };
static struct envelope_path client_rcpts[] = {
	{ "b@x.example", rcpt_params, 1 }, { "c@x.example", NULL, 0 }, { "\"b\"@X.example", NULL, 0 },
};
static const struct envelope client = { { "a@x.example", client_params, 4 }, client_rcpts, 3 };

struct change {
	enum envelope_change change;
	const char *path, *args;
};

Test(envelope, what_no_address_can_be_is_refused)
{
	static const struct change hostile[] = {
		{ ENVELOPE_ADD, "<a@b.example>\r\nDATA", NULL },
		{ ENVELOPE_ADD, "a@b.example NOTIFY=NEVER", NULL },
		{ ENVELOPE_ADD, "", NULL },
		{ ENVELOPE_ADD, "<>", NULL },
		{ ENVELOPE_DELETE, "a\nb@c.example", NULL },
		{ ENVELOPE_SENDER, "a b@c.example", NULL },
		{ ENVELOPE_SENDER, "a@b.example", "RET=FULL\r\nRCPT" },
		{ ENVELOPE_ADD, "a@b.example", "NOTIFY=" },
		{ ENVELOPE_ADD, "a@b.example", "A B C D E F G H I J K L M N O P Q" },
	};
	struct envelope_op op;

	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		const char *why = NULL;

		cr_expect_eq(envelope_op_make(&arena, hostile[i].change, hostile[i].path, hostile[i].args, &op, &why), -1,
			"case %zu", i);
		cr_expect_not_null(why);
	}
	char *args = arena_alloc(&arena, 4098);
	const char *why;

	memset(args, 'A', 4097);
	cr_expect_eq(envelope_op_make(&arena, ENVELOPE_ADD, "a@b.example", args, &op, &why), -1);
	args[4096] = '\0';
	cr_expect_eq(envelope_op_make(&arena, ENVELOPE_ADD, "a@b.example", args, &op, &why), 0);
}

Test(envelope, only_the_parameters_a_milter_may_set_are_kept)
{
	static const struct {
		struct change sent;
		const char *kept;
	} cases[] = {
		{ { ENVELOPE_SENDER, "<>", "SIZE=1 RET=full NOTIFY=NEVER ENVID=a+2Bb" }, "<> RET=full ENVID=a+2Bb" },
		{ { ENVELOPE_SENDER, "a@b.example", "RET=FULL\tRET=HDRS" }, "<a@b.example> RET=HDRS" },
		{ { ENVELOPE_SENDER, "a@b.example", "RET=FULL RET=NO" }, "<a@b.example> RET=FULL" },
		{ { ENVELOPE_SENDER, "a@b.example", "RET RET=NO ENVID=+00 ENVID=+0 ENVID=+2b ENVID=\xc3\xa9" }, "<a@b.example>" },
		{ { ENVELOPE_ADD, "a@b.example", "RET=FULL SMTPUTF8 NOTIFY=success,DELAY" },
			"<a@b.example> NOTIFY=success,DELAY" },
		{ { ENVELOPE_ADD, "a@b.example", "NOTIFY=NEVER,DELAY NOTIFY=DELAY, NOTIFY=X NOTIFY" }, "<a@b.example>" },
		{ { ENVELOPE_ADD, "a@b.example", "NOTIFY=NEVER orcpt=rfc822;x+40y" },
			"<a@b.example> NOTIFY=NEVER orcpt=rfc822;x+40y" },
		{ { ENVELOPE_ADD, "a@b.example", "ORCPT=utf-8;\xc3\xa9\\x{E9}@b" }, "<a@b.example> ORCPT=utf-8;\xc3\xa9\\x{E9}@b" },
		{ { ENVELOPE_ADD, "a@b.example", "ORCPT=rfc822;\xc3\xa9@b ORCPT=rfc822; ORCPT=;x ORCPT=x ORCPT=rfc822;a+00" },
			"<a@b.example>" },
		{ { ENVELOPE_DELETE, "a@b.example", "NOTIFY=NEVER" }, "<a@b.example>" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *why = "";
		struct envelope_op op;

		cr_assert_eq(envelope_op_make(&arena, cases[i].sent.change, cases[i].sent.path, cases[i].sent.args, &op,
			&why), 0, "case %zu: %s", i, why);
		cr_expect_str_eq(print_path("", &op.path), cases[i].kept);
	}
}

Test(envelope, changes_apply_in_order)
{
	static const struct {
		struct change change[4];
		const char *expected;
	} cases[] = {
		{ { { 0 } }, "<a@x.example> SIZE=100 RET=HDRS BODY=8BITMIME envid=old, <b@x.example> NOTIFY=DELAY, "
			"<c@x.example>, <\"b\"@X.example>" },
		{ { { ENVELOPE_SENDER, "<>", NULL }, { ENVELOPE_DELETE, "b@x.example", NULL } },
			"<> SIZE=100 RET=HDRS BODY=8BITMIME envid=old, <c@x.example>" },
		{ { { ENVELOPE_SENDER, "n@x.example", "ENVID=new" }, { ENVELOPE_DELETE, "b@X.EXAMPLE", NULL },
			{ ENVELOPE_SENDER, "m@x.example", "RET=FULL" } },
			"<m@x.example> SIZE=100 BODY=8BITMIME ENVID=new RET=FULL, <c@x.example>" },
		{ { { ENVELOPE_ADD, "C@x.example", NULL }, { ENVELOPE_ADD, "c@x.example", "NOTIFY=NEVER" },
			{ ENVELOPE_DELETE, "B@x.example", NULL }, { ENVELOPE_DELETE, "b@x.example", NULL } },
			"<a@x.example> SIZE=100 RET=HDRS BODY=8BITMIME envid=old, <c@x.example>, <C@x.example>" },
		{ { { ENVELOPE_DELETE, "c@x.example", NULL }, { ENVELOPE_ADD, "c@x.example", "NOTIFY=NEVER" },
			{ ENVELOPE_DELETE, "b@x.example", NULL } },
			"<a@x.example> SIZE=100 RET=HDRS BODY=8BITMIME envid=old, <c@x.example> NOTIFY=NEVER" },
		{ { { ENVELOPE_ADD, "d@x.example", NULL }, { ENVELOPE_DELETE, "d@x.example", NULL },
			{ ENVELOPE_DELETE, "b@x.example", NULL }, { ENVELOPE_DELETE, "c@x.example", NULL } },
			"<a@x.example> SIZE=100 RET=HDRS BODY=8BITMIME envid=old" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *before = print(&client), *why;
		struct envelope_op op[4];
		struct envelope to;
		size_t count = 0;

		for (; count < 4 && cases[i].change[count].path; count++)
			cr_assert_eq(envelope_op_make(&arena, cases[i].change[count].change, cases[i].change[count].path,
				cases[i].change[count].args, &op[count], &why), 0);
		envelope_apply(&arena, &client, op, count, &to);
		cr_expect_str_eq(print(&to), cases[i].expected);
		cr_expect_str_eq(print(&client), before, "the original was changed");
		cr_expect_eq(envelope_equal(&client, &to), count == 0);
	}
}

Test(envelope, every_difference_counts)
{
	static const char *const other_params[] = { "NOTIFY=NEVER" };
	struct envelope_path rcpts[3];
	struct envelope other = client;

	memcpy(rcpts, client_rcpts, sizeof(rcpts));
	other.rcpt = rcpts;
	cr_expect(envelope_equal(&client, &other));
	rcpts[0].param = other_params;
	cr_expect_not(envelope_equal(&client, &other));
	rcpts[0] = client_rcpts[1];
	rcpts[1] = client_rcpts[0];
	cr_expect_not(envelope_equal(&client, &other));
	other = client;
	other.sender.param_count = 3;
	cr_expect_not(envelope_equal(&client, &other));
	other = client;
	other.rcpt_count = 2;
	cr_expect_not(envelope_equal(&client, &other));
}

Test(envelope, a_process_is_believed_no_more_than_a_milter)
{
#define OP(text) { text, sizeof(text) - 1 }
	static const struct {
		const char *data;
		size_t len;
	} hostile[] = {
		OP(""), OP("\3a@b.example\0\0"), OP("\1a@b.example"), OP("\1a@b.example\0"), OP("\1\0\0"), OP("\1<a@b.example>\0\0"),
		OP("\1a@b.example\r\nDATA\0\0"), OP("\1a@b.example\0\1"), OP("\1a@b.example\0\1NOTIFY=NEVER"),
		OP("\1a@b.example\0\1SIZE=1\0"), OP("\1a@b.example\0\1\0"), OP("\1a@b.example\0\1 NOTIFY=NEVER\0"),
		OP("\1a@b.example\0\2NOTIFY=NEVER\0NOTIFY=NEVER\0"), OP("\1a@b.example\0\1NOTIFY=NEVER ORCPT=a;b\0"),
		OP("\1a@b.example\0\1ORCPT=a;b\r\n\0"), OP("\2a@b.example\0\1NOTIFY=NEVER\0"), OP("\1a@b.example> X=<\0\0"),
		OP("\1@x.example:a@b.example\0\0"), OP("\0a@b.example\0\3RET=FULL\0ENVID=x\0RET=HDRS\0"),
	};
	struct envelope_op op;
	struct wire w;

	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		wire_init(&w, hostile[i].data, hostile[i].len);
		envelope_op_take(&w, &arena, &op);
		cr_expect(w.broken, "case %zu", i);
		cr_expect_str_eq(op.path.address, "");
	}
}

Test(envelope, what_is_written_is_read_again)
{
	static const struct change changes[] = {
		{ ENVELOPE_SENDER, "<>", NULL }, { ENVELOPE_SENDER, "a@b.example", "RET=FULL ENVID=x" },
		{ ENVELOPE_ADD, "\"a b\"@c.example", "ORCPT=rfc822;d@e.example" }, { ENVELOPE_DELETE, "postmaster", NULL },
	};

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		struct envelope_op made, taken;
		struct buf b = { 0 };
		struct wire w;
		const char *why;

		cr_assert_eq(envelope_op_make(&arena, changes[i].change, changes[i].path, changes[i].args, &made, &why), 0);
		envelope_op_put(&b, &made);
		wire_init(&w, buf_head(&b), buf_len(&b));
		envelope_op_take(&w, &arena, &taken);
		cr_assert(wire_finished(&w), "case %zu", i);
		buf_fini(&b);
		cr_expect_eq(taken.change, made.change);
		cr_expect_str_eq(print_path("", &taken.path), print_path("", &made.path));
	}
}
