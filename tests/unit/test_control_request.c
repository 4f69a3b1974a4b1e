#include "config.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/wire.h"
#include "master/control_request.h"

static int take(const void *bytes, size_t len, struct control_request *request)
{
	static struct buf b;

	buf_fini(&b);
	buf_append(&b, bytes, len);
	return control_request_take(&b, request);
}

Test(control_request, what_is_no_request_is_refused_and_what_is_cut_is_waited_for)
{
	static const struct {
		const char *bytes;
		size_t len;
		int result;
	} cases[] = {
		{ "\0\0\0\0", 4, -1 },				/* no words */
		{ "\0\0\x10\x01", 4, -1 },			/* one byte too long, refused by its length */
		{ "\xff\xff\xff\xff", 4, -1 },
		{ "\0\0\x10\0", 4, 0 },				/* as long as is allowed */
		{ "", 0, 0 },
		{ "\0\0\0", 3, 0 },
		{ "\0\0\0\5stop", 8, 0 },
		{ "\0\0\0\4stop", 8, -1 },			/* a word without its NUL */
		{ "\0\0\0\5stop\0more", 13, -1 },		/* bytes behind it */
		{ "\0\0\0\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 21, -1 },	/* 17 words */
		{ "\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, 1 },
		{ "\0\0\0\5stop\0", 9, 1 },
	};
	struct control_request request;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		cr_expect_eq(take(cases[i].bytes, cases[i].len, &request), cases[i].result, "case %zu", i);
}

Test(control_request, words_come_out_as_they_went_in_and_too_many_do_not_go_in)
{
	static char huge[CONTROL_REQUEST_MAX + 1];
	const char *words[CONTROL_WORDS_MAX + 1] = { "log", "", "a b\xff" }, *one = huge;
	struct control_request request;
	struct buf b = { 0 };

	for (size_t i = 3; i <= CONTROL_WORDS_MAX; i++)
		words[i] = "x";
	memset(huge, 'x', sizeof(huge) - 1);
	cr_expect_eq(control_request_put(&b, words, 0), -1);
	cr_expect_eq(control_request_put(&b, words, CONTROL_WORDS_MAX + 1), -1);
	cr_expect_eq(control_request_put(&b, &one, 1), -1);
	cr_assert_eq(buf_len(&b), 0);
	cr_assert_eq(control_request_put(&b, words, CONTROL_WORDS_MAX), 0);
	cr_assert_eq(control_request_take(&b, &request), 1);
	cr_assert_eq(request.count, CONTROL_WORDS_MAX);
	for (size_t i = 0; i < CONTROL_WORDS_MAX; i++)
		cr_expect_str_eq(request.word[i], words[i]);
	buf_fini(&b);
}

Test(control_request, an_answer_is_whole_or_none)
{
	struct control_answer answer;
	struct buf b = { 0 };

	control_answer_put(&b, 77, "{}", 2);
	cr_expect_eq(control_answer_take(&b, &answer), 1);
	cr_expect(answer.status == 77 && answer.len == 2 && memcmp(answer.json, "{}", 2) == 0);
	buf_append(&b, "", 1);
	cr_expect_eq(control_answer_take(&b, &answer), -1);
	buf_clear(&b);
	wire_put_u32(&b, 256);
	wire_put_u32(&b, 0);
	cr_expect_eq(control_answer_take(&b, &answer), -1, "an exit status has eight bits");
	buf_clear(&b);
	wire_put_u32(&b, 0);
	wire_put_u32(&b, CONTROL_ANSWER_MAX + 1);
	cr_expect_eq(control_answer_take(&b, &answer), -1);
	buf_fini(&b);
}
