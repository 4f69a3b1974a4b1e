#include "config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/header.h"

static struct arena arena;

static void release(void)
{
	arena_fini(&arena);
}

TestSuite(header, .fini = release);

static int parse(const char *text, struct header_block *block, const char **why)
{
	return header_parse(&arena, (const uint8_t *)text, strlen(text), 4, 100, block, why);
}

Test(header, what_could_not_be_shown_to_a_milter_is_refused)
{
	struct header_block block;
	const char *why = NULL;
	size_t len = HEADER_FIELD_MAX + 1;
	uint8_t *big = malloc(len);

	cr_expect_eq(header_parse(&arena, (const uint8_t *)"A: \0\r\n", 6, 4, 100, &block, &why), -1);
	cr_expect_str_eq(why, "NUL in a header field");
	cr_expect_eq(parse("A: b", &block, &why), -1);
	cr_expect_eq(parse("A: b\r\n c", &block, &why), -1);
	cr_expect_eq(parse("A: b\n", &block, &why), -1);
	cr_expect_str_eq(why, "a header line does not end");
	memset(big, 'x', len);
	big[1] = ':';
	memcpy(big + len - 3, "\r\n", 2);
	cr_expect_eq(header_parse(&arena, big, len, 4, len, &block, &why), 0);
	cr_expect_eq(block.field[0].length, HEADER_FIELD_MAX);
	memcpy(big + len - 3, "x\r\n", 3);
	cr_expect_eq(header_parse(&arena, big, len, 4, len, &block, &why), -1);
	cr_expect_str_eq(why, "a header field is too long");
	memcpy(big + 30, "\r\n ", 3);
	cr_expect_eq(header_parse(&arena, big, len, 4, len, &block, &why), -1, "folded");
	memset(big, 'x', len);
	cr_expect_eq(header_parse(&arena, big, len, 4, len, &block, &why), 0, "no field, however long the line");
	cr_expect_eq(block.body_offset, 0);
	free(big);
}

Test(header, limits_are_exact)
{
	struct header_block block;
	const char *why = NULL;
	char text[200];

	cr_expect_eq(parse("A:1\r\nB:2\r\nC:3\r\nD:4\r\n\r\nE:5\r\n", &block, &why), 0);
	cr_expect_eq(block.count, 4);
	cr_expect_eq(parse("A:1\r\nB:2\r\nC:3\r\nD:4\r\nE:5\r\n\r\n", &block, &why), -1);
	cr_expect_str_eq(why, "too many header fields");
	snprintf(text, sizeof(text), "A:%096d\r\n\r\nbody", 0);
	cr_expect_eq(parse(text, &block, &why), 0);
	cr_expect_eq(block.length, 100);
	snprintf(text, sizeof(text), "A:%097d\r\n\r\nbody", 0);
	cr_expect_eq(parse(text, &block, &why), -1);
	cr_expect_str_eq(why, "the header is too long");
}

Test(header, the_first_line_that_is_no_field_ends_the_block)
{
	static const struct {
		const char *text;
		size_t count, length, body_offset;
	} cases[] = {
		{ "", 0, 0, 0 },
		{ "\r\n", 0, 0, 2 },
		{ "\r\nA: b\r\n", 0, 0, 2 },
		{ " A: b\r\n\r\n", 0, 0, 0 },
		{ ": b\r\n\r\n", 0, 0, 0 },
		{ "no field\r\n", 0, 0, 0 },
		{ "From a@b.example Mon 1 10:00\r\nA: b\r\n", 0, 0, 0 },
		{ "A\x80: b\r\n", 0, 0, 0 },
		{ "A:\r\n", 1, 4, 4 },
		{ "A: b\r\n\r\nC: d\r\n", 1, 6, 8 },
		{ "A: b\r\nbody\r\n", 1, 6, 6 },
		{ "A: b\r\nB c: d\r\n", 1, 6, 6 },
		{ "A: b\r\n c\r\n\td\r\nE \t: f\r\n\r\n", 2, 22, 24 },
		{ "A: b\r\n \r\n\r\n", 1, 9, 11 },
		{ "A: b\r\n\r", 1, 6, 6 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct header_block block;
		const char *why = "";

		cr_assert_eq(parse(cases[i].text, &block, &why), 0, "case %zu: %s", i, why);
		cr_expect_eq(block.count, cases[i].count, "case %zu", i);
		cr_expect_eq(block.length, cases[i].length, "case %zu: %zu", i, block.length);
		cr_expect_eq(block.body_offset, cases[i].body_offset, "case %zu", i);
		cr_expect_eq(block.separator, block.body_offset != block.length, "case %zu", i);
	}
}

Test(header, a_field_knows_its_name_and_where_its_value_is)
{
	static const char text[] = "Subject \t: a\r\n b\r\nX:y\r\nsubject:\r\n\r\n";
	struct header_block block;
	const char *why;

	cr_assert_eq(parse(text, &block, &why), 0);
	cr_assert_eq(block.count, 3);
	cr_expect_eq(block.field[0].name_length, 7);
	cr_expect_eq(block.field[0].value_offset, 10);
	cr_expect_eq(block.field[0].length, 18);
	cr_expect_eq(block.field[1].offset, 18);
	cr_expect_eq(block.field[1].value_offset, 2);
	cr_expect_eq(header_count(&block, (const uint8_t *)text, "SUBJECT"), 2);
	cr_expect_eq(header_count(&block, (const uint8_t *)text, "Subj"), 0);
	cr_expect_eq(header_count(&block, (const uint8_t *)text, "x"), 1);
}

Test(header, many_fields_are_all_found)
{
	enum { FIELDS = 1000 };
	struct header_block block;
	const char *why;
	char text[FIELDS * 5 + 1];

	for (size_t i = 0; i < FIELDS; i++)
		memcpy(text + i * 5, "A:b\r\n", 5);
	cr_assert_eq(header_parse(&arena, (uint8_t *)text, FIELDS * 5, FIELDS, FIELDS * 5, &block, &why), 0);
	cr_assert_eq(block.count, FIELDS);
	for (size_t i = 0; i < FIELDS; i++)
		cr_assert_eq(block.field[i].offset, i * 5);
}

Test(header, only_whole_fields_are_fields)
{
	static const char *const bad[] = {
		"", "\r\n", "A: b", "A: b\n", "A: b\r\n\r\n", "A: b\r\nbody\r\n", " A: b\r\n", "A: b\r\n c", "A: \rb\r\n",
		"A: b\r\r\n", "A: b\nB: c\r\n", "A: b\r\nB\r\n", "A\r\n",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_not(header_is_fields((const uint8_t *)bad[i], strlen(bad[i])), "case %zu", i);
	cr_expect_not(header_is_fields((const uint8_t *)"A:\0\r\n", 5));
	cr_expect(header_is_fields((const uint8_t *)"A: b\r\n", 6));
	cr_expect(header_is_fields((const uint8_t *)"A: b\r\n\tc\r\nB:\r\n", 14));
}
