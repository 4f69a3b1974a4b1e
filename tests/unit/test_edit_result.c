#include "config.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/edit_result.h"

#define HEADER "A: 1\r\nB: 2\r\n 3\r\nC: 4\r\n"	/* fields at 0, 6 and 16, the end at 22 */
#define HEADER_LENGTH (sizeof(HEADER) - 1)

static struct arena arena;

static void release(void)
{
	arena_fini(&arena);
}

TestSuite(edit_result, .fini = release);

static struct edit_segment received(void)
{
	return (struct edit_segment){ .source = EDIT_RECEIVED };
}

static struct edit_segment original(size_t offset, size_t length)
{
	return (struct edit_segment){ .source = EDIT_ORIGINAL, .offset = offset, .length = length };
}

static struct edit_segment literal(const char *text)
{
	return (struct edit_segment){ .source = EDIT_LITERAL, .literal = (const uint8_t *)text, .length = strlen(text) };
}

/* Written and read again: true when it is believed. */
static bool believed(const struct edit_result *from, struct edit_result *to)
{
	struct buf b = { 0 };
	struct wire w;

	edit_result_write(&b, from);
	wire_init(&w, buf_head(&b), buf_len(&b));
	edit_result_take(&w, &arena, (const uint8_t *)HEADER, HEADER_LENGTH, to);
	buf_fini(&b);
	return wire_finished(&w);
}

static bool segments_believed(struct edit_segment *segment, size_t count)
{
	struct edit_result from = { .segment = segment, .segment_count = count }, to;
	bool good = believed(&from, &to);

	cr_expect(good || (to.segment_count == 0 && !to.segment), "something is left of what was refused");
	return good;
}

Test(edit_result, only_whole_fields_of_the_original_in_their_order)
{
	static const struct {
		size_t offset[2], length[2];	/* a second one of length 0 is not there */
		bool good;
	} cases[] = {
		{ { 0 }, { 22 }, true },
		{ { 0, 16 }, { 6, 6 }, true },
		{ { 6 }, { 10 }, true },
		{ { 0 }, { 16 }, true },
		{ { 22 }, { 1 }, false },
		{ { 0 }, { 23 }, false },
		{ { 0 }, { SIZE_MAX }, false },
		{ { SIZE_MAX }, { 22 }, false },
		{ { 16 }, { SIZE_MAX - 10 }, false },
		{ { 0 }, { 5 }, false },
		{ { 0 }, { 12 }, false },
		{ { 1 }, { 5 }, false },
		{ { 5 }, { 11 }, false },
		{ { 12 }, { 4 }, false },
		{ { 16, 0 }, { 6, 6 }, false },
		{ { 0, 0 }, { 6, 6 }, false },
		{ { 0, 6 }, { 16, 10 }, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct edit_segment segment[] = {
			received(), original(cases[i].offset[0], cases[i].length[0]),
			original(cases[i].offset[1], cases[i].length[1]),
		};

		cr_expect_eq(segments_believed(segment, cases[i].length[1] ? 3 : 2), cases[i].good, "case %zu", i);
	}
	struct edit_segment empty[] = { received(), original(0, 0) };

	cr_expect_not(segments_believed(empty, 2), "a piece of nothing");
}

Test(edit_result, a_literal_is_whole_fields)
{
	static const char *const hostile[] = {
		"", "\r\n", "X", "X: y", "X: y\n", "X: y\r\n\r\n", "X: y\r\nbody\r\n", " fold\r\n", "X: \ry\r\n", "X: y\nZ: 1\r\n",
		"X: y\r\n.\r\n",
	};

	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		struct edit_segment segment[] = { received(), literal(hostile[i]) };

		cr_expect_not(segments_believed(segment, 2), "case %zu", i);
	}
	struct edit_segment nul[] = { received(), { EDIT_LITERAL, 0, 5, (const uint8_t *)"X:\0\r\n" } };

	cr_expect_not(segments_believed(nul, 2));
	struct edit_segment good[] = { literal("X: y\r\n z\r\nW:\r\n"), received(), literal("V: u\r\n") };

	cr_expect(segments_believed(good, 3));
}

Test(edit_result, our_own_received_is_there_once)
{
	struct edit_segment none[] = { original(0, 22) }, two[] = { received(), original(0, 22), received() };
	struct edit_segment odd[] = { received(), { .source = (enum edit_source)3 } };

	cr_expect_not(segments_believed(none, 1));
	cr_expect_not(segments_believed(none, 0));
	cr_expect_not(segments_believed(two, 3));
	cr_expect_not(segments_believed(odd, 2));
	cr_expect(segments_believed(two, 2));
}

/* A result in which every part is used. */
static void full(struct edit_result *result)
{
	static struct edit_segment segment[3];
	static const char *const params[] = { "NOTIFY=NEVER" };
	static struct envelope_op op[] = {
		{ ENVELOPE_SENDER, { "", NULL, 0 } }, { ENVELOPE_ADD, { "a@b.example", params, 1 } },
	};

	segment[0] = literal("X: y\r\n");
	segment[1] = received();
	segment[2] = original(6, 16);
	*result = (struct edit_result){
		.segment = segment, .segment_count = 3, .body_replaced = true, .body_id = 7, .body_generation = 9,
		.body_memory = 234, .body_length = 1234, .op = op, .op_count = 2, .quarantine = "reason", .edits = 5,
	};
}

Test(edit_result, what_is_written_is_read_again)
{
	struct edit_result from, to;

	full(&from);
	cr_assert(believed(&from, &to));
	cr_assert_eq(to.segment_count, 3);
	cr_expect_eq(to.segment[0].source, EDIT_LITERAL);
	cr_expect_eq(memcmp(to.segment[0].literal, "X: y\r\n", 6), 0);
	cr_expect_eq(to.segment[1].source, EDIT_RECEIVED);
	cr_expect_eq(to.segment[2].offset, 6);
	cr_expect_eq(to.segment[2].length, 16);
	cr_expect(to.body_replaced);
	cr_expect_eq(to.body_id, 7);
	cr_expect_eq(to.body_generation, 9);
	cr_expect_eq(to.body_memory, 234);
	cr_expect_eq(to.body_length, 1234);
	cr_assert_eq(to.op_count, 2);
	cr_expect_eq(to.op[0].change, ENVELOPE_SENDER);
	cr_expect_str_eq(to.op[1].path.param[0], "NOTIFY=NEVER");
	cr_expect_str_eq(to.quarantine, "reason");
	cr_expect_eq(to.edits, 5);
}

Test(edit_result, a_record_cut_anywhere_is_refused)
{
	struct edit_result from, to;
	struct buf b = { 0 };
	struct wire w;

	full(&from);
	edit_result_write(&b, &from);
	for (size_t len = 0; len < buf_len(&b); len++) {
		wire_init(&w, buf_head(&b), len);
		edit_result_take(&w, &arena, (const uint8_t *)HEADER, HEADER_LENGTH, &to);
		cr_expect(w.broken, "cut at %zu", len);
	}
	buf_fini(&b);
}

Test(edit_result, numbers_and_texts_have_bounds)
{
	static const struct {
		const char *what;
		size_t at;		/* offset in the record of an unchanged message */
		uint8_t byte;
	} cases[] = {
		{ "segments", 0, 0xff }, { "segments", 2, 0xff }, { "body", 5, 2 }, { "operations", 6, 0xff },
		{ "operations", 8, 0xff }, { "quarantine", 10, 2 },
	};
	char reason[EDIT_REASON_MAX + 2];
	struct edit_result from, to;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf b = { 0 };
		struct wire w;

		edit_result_unchanged(&arena, 0, &from);
		edit_result_write(&b, &from);
		cr_assert_eq(buf_len(&b), 15);
		buf_head(&b)[cases[i].at] = cases[i].byte;
		wire_init(&w, buf_head(&b), buf_len(&b));
		edit_result_take(&w, &arena, (const uint8_t *)HEADER, HEADER_LENGTH, &to);
		cr_expect(w.broken, "%s, byte %zu", cases[i].what, cases[i].at);
		buf_fini(&b);
	}
	full(&from);
	from.body_length = 1u << 30;
	cr_expect(believed(&from, &to));
	from.body_length++;
	cr_expect_not(believed(&from, &to));
	full(&from);
	memset(reason, 'x', sizeof(reason));
	reason[EDIT_REASON_MAX] = '\0';
	from.quarantine = reason;
	cr_expect(believed(&from, &to));
	reason[EDIT_REASON_MAX] = 'x';
	reason[EDIT_REASON_MAX + 1] = '\0';
	cr_expect_not(believed(&from, &to));
	from.quarantine = "a\r\nb";
	cr_expect_not(believed(&from, &to));
}

Test(edit_result, an_unchanged_message_is_received_and_one_piece)
{
	struct edit_result result;

	edit_result_unchanged(&arena, 22, &result);
	cr_assert_eq(result.segment_count, 2);
	cr_expect_eq(result.segment[0].source, EDIT_RECEIVED);
	cr_expect_eq(result.segment[1].source, EDIT_ORIGINAL);
	cr_expect_eq(result.segment[1].length, 22);
	cr_expect(believed(&result, &result));
	edit_result_unchanged(&arena, 0, &result);
	cr_expect_eq(result.segment_count, 1);
}
