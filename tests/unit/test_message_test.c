#include "config.h"

#include "common/message_test.h"

#include <criterion/criterion.h>
#include <string.h>

static struct arena arena;

static void forget(void)
{
	arena_fini(&arena);
}

TestSuite(message_test, .fini = forget);

static void put(struct buf *b, const char *helo)
{
	const char *rcpt[] = { "a@b", "c@d" };
	struct milter_macro macro = { "i", "1" };
	const struct message_test_request r = {
		.listener = "", .client_address = "192.0.2.1", .client_port = 25, .client_name = "x", .helo = helo,
		.sender = "", .rcpt = rcpt, .rcpt_count = 2, .macro = &macro, .macro_count = 1,
	};

	message_test_request_put(b, &r);
}

Test(message_test, a_request_cut_anywhere_is_refused)
{
	struct message_test_request r;
	struct buf b = { 0 };
	struct wire w;

	put(&b, "mail.test");
	for (size_t len = 0; len < buf_len(&b); len++) {
		wire_init(&w, buf_head(&b), len);
		message_test_request_take(&w, &arena, &r);
		cr_expect(w.broken, "%zu bytes", len);
	}
	wire_init(&w, buf_head(&b), buf_len(&b));
	message_test_request_take(&w, &arena, &r);
	cr_assert(wire_finished(&w));
	cr_expect(r.rcpt_count == 2 && r.macro_count == 1 && r.client_port == 25);
	cr_expect_str_eq(r.rcpt[1], "c@d");
	buf_fini(&b);
}

Test(message_test, control_bytes_are_refused)
{
	struct message_test_request r;
	struct buf b = { 0 };
	struct wire w;

	put(&b, "mail\r\nRCPT");
	wire_init(&w, buf_head(&b), buf_len(&b));
	message_test_request_take(&w, &arena, &r);
	cr_expect(w.broken);
	buf_fini(&b);
}

Test(message_test, a_frame_above_the_limit_is_refused_as_soon_as_its_length_is_there)
{
	struct message_test_frame frame;
	struct buf b = { 0 };

	wire_put_u32(&b, 101);
	cr_expect_eq(message_test_next(&b, 100, &frame), -1);
	cr_expect_eq(message_test_next(&b, 101, &frame), 0);
	buf_clear(&b);
	wire_put_u32(&b, 0);
	cr_expect_eq(message_test_next(&b, 100, &frame), -1);
	buf_fini(&b);
}
