#include "config.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "common/edit.h"
#include "common/edit_body.h"

#define BODY_LIMIT 100u

static struct arena arena;
static struct msgbuf_pool *pool;

/* A message in the making. Texts have "|" for CRLF. */
static const char *original;
static struct header_block block;
static struct edit_message *message;

static char *with_crlf(const char *text)
{
	char *out = arena_alloc(&arena, 2 * strlen(text) + 1), *at = out;

	for (; *text; text++) {
		if (*text == '|')
			*at++ = '\r';
		*at++ = *text == '|' ? '\n' : *text;
	}
	return out;
}

static char *without_crlf(const char *text, size_t len)
{
	char *out = arena_alloc(&arena, len + 1), *at = out;

	for (size_t i = 0; i < len; i++) {
		if (i + 1 < len && text[i] == '\r' && text[i + 1] == '\n')
			i++, *at++ = '|';
		else
			*at++ = text[i];
	}
	return out;
}

static void begin(const char *header)
{
	const char *why = "";

	if (!pool)
		pool = msgbuf_pool_new(1024 * 1024, 16 * 1024 * 1024);
	original = with_crlf(header);
	cr_assert_eq(header_parse(&arena, (const uint8_t *)original, strlen(original), 2000, 100000, &block, &why), 0,
		"%s", why);
	message = edit_message_new(&block, (const uint8_t *)original, pool, BODY_LIMIT);
}

static void end(void)
{
	edit_message_free(message);
	message = NULL;
}

static void release(void)
{
	end();
	if (pool)
		msgbuf_pool_free(pool);
	arena_fini(&arena);
}

TestSuite(edit, .fini = release);

static void result_take(struct edit_result *result)
{
	struct buf b = { 0 };
	struct wire w;

	edit_result_put(&b, message);
	wire_init(&w, buf_head(&b), buf_len(&b));
	edit_result_take(&w, &arena, (const uint8_t *)original, block.length, result);
	cr_assert(wire_finished(&w));
	buf_fini(&b);
}

/* The header as it will be written, our own Received as "[R]". */
static const char *header_of(const struct edit_result *result)
{
	const char *text = "";

	for (size_t i = 0; i < result->segment_count; i++) {
		const struct edit_segment *s = &result->segment[i];
		const char *from = s->source == EDIT_ORIGINAL ? original + s->offset : (const char *)s->literal;

		text = s->source == EDIT_RECEIVED ? arena_printf(&arena, "%s[R]", text) :
			arena_printf(&arena, "%s%.*s", text, (int)s->length, from);
	}
	return without_crlf(text, strlen(text));
}

static const char *header(void)
{
	struct edit_result result;

	result_take(&result);
	return header_of(&result);
}

/* The header as the next milter sees it. */
static const char *shown(bool leadspc)
{
	const char *text = "", *name, *value;
	size_t name_len, value_len;

	for (size_t i = 0; i < edit_header_count(message); i++) {
		edit_header_get(message, i, leadspc, &name, &name_len, &value, &value_len);
		text = arena_printf(&arena, "%s(%.*s)(%.*s)", text, (int)name_len, name, (int)value_len, value);
	}
	return text;
}

struct step {
	uint8_t reply;
	uint32_t index;
	const char *name, *value;
};

#define ADD(name, value)	{ SMFIR_ADDHEADER, 0, name, value }
#define INS(at, name, value)	{ SMFIR_INSHEADER, at, name, value }
#define CHG(at, name, value)	{ SMFIR_CHGHEADER, at, name, value }
#define DEL(at, name)		{ SMFIR_CHGHEADER, at, name, "" }

static int stage(struct edits *e, const struct step *s, const char **why)
{
	struct milter_reply r = { .reply = s->reply };

	switch (s->reply) {
	case SMFIR_REPLBODY:
		r.body.data = (const uint8_t *)s->value;
		r.body.len = strlen(s->value);
		break;
	case SMFIR_QUARANTINE:
		r.text = s->value;
		break;
	case SMFIR_CHGFROM: case SMFIR_ADDRCPT: case SMFIR_ADDRCPT_PAR: case SMFIR_DELRCPT:
		r.address.path = s->value;
		break;
	default:
		r.header.index = s->index;
		r.header.name = s->name;
		r.header.value = s->value;
	}
	return edits_stage(e, &r, why);
}

static struct edits *stage_all(const struct step *s, enum edit_index index, bool leadspc)
{
	struct edits *e = edits_begin(message, index, leadspc);
	const char *why = "";

	for (; s->reply; s++)
		cr_assert_eq(stage(e, s, &why), 0, "%s", why);
	return e;
}

Test(edit, no_value_can_become_a_second_field_or_end_the_header)
{
	static const struct {
		const char *value, *field;
	} cases[] = {
		{ "a\r\nEvil: b", "X: a|\tEvil: b|" },
		{ "a\nEvil: b", "X: a|\tEvil: b|" },
		{ "a\rEvil: b", "X: a|\tEvil: b|" },
		{ "a\r\n\r\nbody", "X: a|\tbody|" },
		{ "a\n\nbody", "X: a|\tbody|" },
		{ "a\r\rbody", "X: a|\tbody|" },
		{ "a\n\rbody", "X: a|\tbody|" },
		{ "a\r\r\nbody", "X: a|\tbody|" },
		{ "a\n \nbody", "X: a|\tbody|" },
		{ "a\n \t\r\n", "X: a|" },
		{ "\r\n", "X: |" },
		{ "\nEvil: b", "X: |\tEvil: b|" },
		{ "\n\n.\n", "X: |\t.|" },
		{ "a\n b\n\tc", "X: a| b|\tc|" },
		{ "a\r\n b\r\n", "X: a| b|" },
		{ "a\n\n b", "X: a| b|" },
		{ "", "X: |" },
		{ " a ", "X:  a |" },
		{ "\x01\x7f\xc3\xa9", "X: \x01\x7f\xc3\xa9|" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct step step[2] = { ADD("X", cases[i].value), { 0 } };

		begin("A: 1||");
		edits_commit(stage_all(step, EDIT_INDEX_SHIFT, false));
		cr_expect_str_eq(header(), arena_printf(&arena, "[R]A: 1|%s", cases[i].field), "case %zu: %s", i, header());
		end();
	}
}

Test(edit, what_is_not_legal_fails_the_whole_milter)
{
	static const struct step hostile[] = {
		ADD("", "v"), ADD("A B", "v"), ADD("A:", "v"), ADD("A\r\nB", "v"), ADD("\xc3\xa9", "v"), ADD("A\x7f", "v"),
		INS(0, "", "v"), DEL(1, ""), CHG(1, " A", "v"), CHG(0x80000000u, "A", "v"), INS(0xffffffffu, "A", "v"),
		{ SMFIR_ADDRCPT, 0, NULL, "<a@b.example>\r\nDATA" }, { SMFIR_ADDRCPT_PAR, 0, NULL, "" },
		{ SMFIR_DELRCPT, 0, NULL, "a b" }, { SMFIR_CHGFROM, 0, NULL, "<a" },
		{ SMFIR_CONTINUE, 0, NULL, "" }, { SMFIR_PROGRESS, 0, NULL, "" }, { 'l', 0, NULL, "" }, { 0xff, 0, NULL, "" },
	};

	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		static const struct step before[] = {
			ADD("X", "y"), { SMFIR_REPLBODY, 0, NULL, "body" }, { SMFIR_ADDRCPT, 0, NULL, "a@b.example" }, { 0 },
		};
		const char *why = NULL;

		begin("A: 1||");
		struct edits *e = stage_all(before, EDIT_INDEX_SHIFT, false);

		cr_expect_eq(stage(e, &hostile[i], &why), -1, "case %zu was staged", i);
		cr_expect_not_null(why);
		edits_drop(e);
		cr_expect_str_eq(header(), "[R]A: 1|");
		cr_expect_null(edit_message_body(message));
		end();
	}
}

Test(edit, header_changes_follow_the_rules_of_postfix)
{
	static const struct {
		const char *rule, *before;
		struct step step[5];
		const char *after;
	} cases[] = {
		{ "nothing", "A: 1|B: 2||", { { 0 } }, "[R]A: 1|B: 2|" },
		{ "an empty header", "|", { ADD("A", "1"), INS(0, "B", "2") }, "B: 2|[R]A: 1|" },
		{ "add goes to the end", "A: 1|B: 2||", { ADD("A", "3") }, "[R]A: 1|B: 2|A: 3|" },
		{ "0 is above our own Received", "A: 1||", { INS(0, "X", "y") }, "X: y|[R]A: 1|" },
		{ "1 is below it", "A: 1||", { INS(1, "X", "y") }, "[R]X: y|A: 1|" },
		{ "2 is below the first field", "A: 1|B: 2||", { INS(2, "X", "y") }, "[R]A: 1|X: y|B: 2|" },
		{ "the last position", "A: 1||", { INS(2, "X", "y") }, "[R]A: 1|X: y|" },
		{ "beyond the end", "A: 1||", { INS(0x7fffffff, "X", "y") }, "[R]A: 1|X: y|" },
		{ "the newest is first", "A: 1||", { INS(0, "X", "1"), INS(0, "X", "2") }, "X: 2|X: 1|[R]A: 1|" },
		{ "what was inserted counts", "A: 1||", { INS(0, "X", "1"), INS(1, "X", "2") }, "X: 1|X: 2|[R]A: 1|" },
		{ "Received moves with it", "A: 1||", { INS(0, "X", "1"), INS(2, "X", "2") }, "X: 1|[R]X: 2|A: 1|" },
		{ "change in place, the name as sent", "a: 1|B: 2||", { CHG(1, "A", "3") }, "[R]A: 3|B: 2|" },
		{ "index 0 is 1", "A: 1|A: 2||", { CHG(0, "A", "3") }, "[R]A: 3|A: 2|" },
		{ "the second one", "A: 1|B: 2|a: 3||", { CHG(2, "A", "4") }, "[R]A: 1|B: 2|A: 4|" },
		{ "change of all folds", "A: 1| 2|\t3|B: 4||", { CHG(1, "A", "5") }, "[R]A: 5|B: 4|" },
		{ "blanks before the colon", "A \t: 1||", { CHG(1, "A", "2") }, "[R]A: 2|" },
		{ "one that is not there is added", "A: 1||", { CHG(1, "B", "2"), CHG(7, "A", "3") }, "[R]A: 1|B: 2|A: 3|" },
		{ "a name is no prefix", "AB: 1|A: 2||", { CHG(1, "A", "3"), CHG(1, "ABC", "4") }, "[R]AB: 1|A: 3|ABC: 4|" },
		{ "an empty value deletes", "A: 1|B: 2|A: 3||", { DEL(2, "a") }, "[R]A: 1|B: 2|" },
		{ "delete what is not there", "A: 1||", { DEL(2, "A"), DEL(1, "B"), DEL(0x7fffffff, "A") }, "[R]A: 1|" },
		{ "own Received is no Received", "Received: x|A: 1||", { CHG(1, "Received", "y") }, "[R]Received: y|A: 1|" },
		{ "nor after it has moved", "Received: x||", { INS(0, "Received", "y"), DEL(2, "Received") },
			"Received: y|[R]" },
		{ "and can not be deleted", "A: 1||", { DEL(1, "Received"), DEL(1, "A") }, "[R]" },
		{ "changes see those before", "A: 1||", { ADD("A", "2"), CHG(2, "A", "3"), DEL(1, "A"), CHG(1, "A", "4") },
			"[R]A: 4|" },
		{ "a value with its own fold", "A: 1||", { CHG(1, "A", "2\n\t3") }, "[R]A: 2|\t3|" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin(cases[i].before);
		edits_commit(stage_all(cases[i].step, EDIT_INDEX_SHIFT, false));
		cr_expect_str_eq(header(), cases[i].after, "%s: %s", cases[i].rule, header());
		end();
	}
}

Test(edit, after_a_delete_numbers_shift_or_stay_as_configured)
{
	static const struct {
		struct step step[4];
		const char *shift, *stable;
	} cases[] = {
		{ { DEL(1, "A"), DEL(2, "A") }, "[R]A: 2|B: x|", "[R]B: x|A: 3|" },
		{ { DEL(1, "A"), DEL(2, "A"), DEL(3, "A") }, "[R]A: 2|B: x|", "[R]B: x|" },
		{ { DEL(3, "A"), DEL(2, "A"), DEL(1, "A") }, "[R]B: x|", "[R]B: x|" },
		{ { DEL(1, "A"), CHG(2, "A", "4") }, "[R]A: 2|B: x|A: 4|", "[R]A: 4|B: x|A: 3|" },
		{ { DEL(1, "A"), CHG(1, "A", "4") }, "[R]A: 4|B: x|A: 3|", "[R]A: 4|A: 2|B: x|A: 3|" },
		{ { DEL(1, "A"), DEL(1, "A") }, "[R]B: x|A: 3|", "[R]A: 2|B: x|A: 3|" },
		{ { DEL(1, "A"), CHG(4, "A", "4") }, "[R]A: 2|B: x|A: 3|A: 4|", "[R]A: 2|B: x|A: 3|A: 4|" },
		{ { DEL(1, "A"), INS(2, "X", "y") }, "[R]A: 2|X: y|B: x|A: 3|", "[R]X: y|A: 2|B: x|A: 3|" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (int index = EDIT_INDEX_SHIFT; index <= EDIT_INDEX_STABLE; index++) {
			begin("A: 1|A: 2|B: x|A: 3||");
			edits_commit(stage_all(cases[i].step, (enum edit_index)index, false));
			cr_expect_str_eq(header(), index == EDIT_INDEX_SHIFT ? cases[i].shift : cases[i].stable,
				"case %zu, %d: %s", i, index, header());
			end();
		}
	}
}

Test(edit, numbers_stay_only_until_the_next_milter)
{
	static const struct step first[] = { DEL(1, "A"), { 0 } }, second[] = { DEL(1, "A"), { 0 } };

	begin("A: 1|A: 2|A: 3||");
	edits_commit(stage_all(first, EDIT_INDEX_STABLE, false));
	edits_commit(stage_all(second, EDIT_INDEX_STABLE, false));
	cr_expect_str_eq(header(), "[R]A: 3|");
}

Test(edit, the_next_milter_sees_what_the_ones_before_left)
{
	static const struct step first[] = { INS(0, "X", "1\n 2"), CHG(1, "B", ""), ADD("Y", " z"), { 0 } };
	static const struct step verbatim[] = { ADD("V", "w"), ADD("W", " x"), { 0 } };

	begin("A:  1|B: 2|C:3| 4|\t5|D:||");
	cr_expect_str_eq(shown(false), "(A)( 1)(B)(2)(C)(3\n 4\n\t5)(D)()");
	cr_expect_str_eq(shown(true), "(A)(  1)(B)( 2)(C)(3\n 4\n\t5)(D)()");
	edits_commit(stage_all(first, EDIT_INDEX_SHIFT, false));
	cr_expect_str_eq(shown(false), "(X)(1\n 2)(A)( 1)(C)(3\n 4\n\t5)(D)()(Y)( z)");
	cr_expect_str_eq(shown(true), "(X)( 1\n 2)(A)(  1)(C)(3\n 4\n\t5)(D)()(Y)(  z)");
	edits_commit(stage_all(verbatim, EDIT_INDEX_SHIFT, true));
	cr_expect_str_eq(header(), "X: 1| 2|[R]A:  1|C:3| 4|\t5|D:|Y:  z|V:w|W: x|");
	cr_expect_str_eq(shown(false), "(X)(1\n 2)(A)( 1)(C)(3\n 4\n\t5)(D)()(Y)( z)(V)(w)(W)(x)");
}

Test(edit, dropped_changes_leave_nothing_behind)
{
	static const struct step steps[] = {
		INS(0, "X", "1"), DEL(1, "A"), CHG(1, "B", "3"), { SMFIR_REPLBODY, 0, NULL, "new" },
		{ SMFIR_ADDRCPT, 0, NULL, "a@b.example" }, { SMFIR_QUARANTINE, 0, NULL, "bad" }, { 0 },
	};
	struct edit_result result;

	begin("A: 1|B: 2||");
	struct edits *e = stage_all(steps, EDIT_INDEX_SHIFT, false);

	cr_expect_eq(edits_count(e), 6);
	cr_expect_str_eq(shown(false), "(A)(1)(B)(2)", "staged changes are seen");
	edits_drop(e);
	edits_drop(NULL);
	result_take(&result);
	cr_expect_str_eq(header_of(&result), "[R]A: 1|B: 2|");
	cr_expect_eq(result.segment_count, 2, "not one piece");
	cr_expect_not(result.body_replaced);
	cr_expect_eq(result.op_count, 0);
	cr_expect_null(result.quarantine);
	cr_expect_eq(result.edits, 0);
	edits_commit(edits_begin(message, EDIT_INDEX_SHIFT, false));
	cr_expect_str_eq(header(), "[R]A: 1|B: 2|");
}

Test(edit, limits_hold_over_all_milters_and_dropped_changes_do_not_count)
{
	static const struct step add = ADD("X", "y"), del = DEL(1, "X"), rcpt = { SMFIR_DELRCPT, 0, NULL, "a@b.example" };
	const char *why = "";

	begin("A: 1||");
	for (int round = 0; round < 3; round++) {
		struct edits *e = edits_begin(message, EDIT_INDEX_SHIFT, false);
		size_t most = round < 2 ? EDIT_HEADERS_MAX / 2 + 1 : EDIT_HEADERS_MAX / 2 - 1;

		for (size_t i = 0; i < most; i++)
			cr_assert_eq(stage(e, i % 2 ? &del : &add, &why) + stage(e, &rcpt, &why), 0, "%s", why);
		if (round == 2) {
			cr_expect_eq(stage(e, &add, &why), -1);
			cr_expect_str_eq(why, "too many header changes");
			cr_expect_eq(stage(e, &rcpt, &why), -1);
			cr_expect_str_eq(why, "too many changes of the envelope");
		}
		if (round == 1)
			edits_commit(e);
		else
			edits_drop(e);
	}
	end();

	char *big = malloc(HEADER_FIELD_MAX);

	memset(big, 'x', HEADER_FIELD_MAX);
	big[HEADER_FIELD_MAX - 5] = '\0';
	struct step field = ADD("X", big);

	begin("A: 1||");
	struct edits *e = edits_begin(message, EDIT_INDEX_SHIFT, false);

	for (size_t i = 0; i < EDIT_HEADER_BYTES_MAX / HEADER_FIELD_MAX; i++) {
		cr_assert_eq(stage(e, &field, &why), 0, "%s", why);
		if (i == 4) {
			edits_commit(e);
			e = edits_begin(message, EDIT_INDEX_SHIFT, false);
		}
	}
	cr_expect_eq(stage(e, &field, &why), -1);
	cr_expect_str_eq(why, "too many bytes of header fields");
	edits_drop(e);
	e = edits_begin(message, EDIT_INDEX_SHIFT, false);
	field.name = "XY";
	cr_expect_eq(stage(e, &field, &why), -1);
	cr_expect_str_eq(why, "a header field is too long");
	edits_drop(e);
	free(big);
}

Test(edit, no_body_has_a_bare_line_end_wherever_chunks_are_split)
{
	static const struct {
		const char *sent, *body;
	} cases[] = {
		{ "", "" },
		{ "a", "a|" },
		{ "a\r\nb\r\n", "a|b|" },
		{ "a\nb\n", "a|b|" },
		{ "\n\n.\n", "||.|" },
		{ "a\rb", "a b|" },
		{ "a\r\rb\r\r\n", "a  b |" },
		{ "\r\n.\r\n", "|.|" },
		{ "\n.\r\n", "|.|" },
		{ "\r.\r\n", " .|" },
		{ "\n\r\n\r", "|||" },
		{ "a\r", "a|" },
		{ "\r", "|" },
		{ "\r\r", " |" },
		{ "\r\n", "|" },
		{ "a\n\r", "a||" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t len = strlen(cases[i].sent);

		/* Every way to split the text: a bit is set where a chunk ends. */
		for (unsigned split = 0; split < 1u << (len ? len - 1 : 0); split++) {
			const uint8_t *data = (const uint8_t *)cases[i].sent;
			struct edit_body body = { 0 };
			const char *why = "";
			size_t at = 0;

			begin("A: 1||");
			cr_assert_eq(edit_body_add(&body, pool, BODY_LIMIT, data, 0, &why), 0);
			for (size_t next = 1; next <= len; next++) {
				if (next < len && !(split >> (next - 1) & 1))
					continue;
				cr_assert_eq(edit_body_add(&body, pool, BODY_LIMIT, data + at, next - at, &why), 0, "%s", why);
				at = next;
			}
			struct msgbuf *buffer = edit_body_finish(&body);

			cr_expect_str_eq(without_crlf((const char *)buffer->data, buffer->len), cases[i].body, "case %zu", i);
			msgbuf_put(pool, buffer);
			end();
		}
	}
}

Test(edit, the_limit_of_a_body_is_exact_and_a_nul_is_refused)
{
	static const struct {
		const char *sent[3];
		int result;
	} cases[] = {
		{ { "123456\r\n" }, 0 },
		{ { "123456" }, 0 },
		{ { "123456\n" }, 0 },
		{ { "123456\r" }, 0 },
		{ { "123456\r", "\n" }, 0 },
		{ { "123456", "\n" }, 0 },
		{ { "1", "2345\n", "\n" }, -1 },
		{ { "1234567" }, -1 },
		{ { "123456\r", "x" }, -1 },
		{ { "123456\r\n", "x" }, -1 },
		{ { "\n\n\n\n" }, 0 },
		{ { "\n\n\n\n\n" }, -1 },
		{ { "\r\r\r\r\r\r\r" }, 0 },
		{ { "\r\r\r\r\r\r\r\r" }, -1 },
	};
	const char *why;

	begin("A: 1||");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct edit_body body = { 0 };
		int result = 0;

		for (size_t j = 0; j < 3 && cases[i].sent[j] && result == 0; j++)
			result = edit_body_add(&body, pool, 8, (const uint8_t *)cases[i].sent[j], strlen(cases[i].sent[j]), &why);
		cr_expect_eq(result, cases[i].result, "case %zu", i);
		if (result == 0)
			cr_expect_leq(body.buffer->len, 8);
		else
			cr_expect_str_eq(why, "the new body is too long");
		edit_body_drop(&body, pool);
	}
	struct edit_body body = { 0 };

	cr_expect_eq(edit_body_add(&body, pool, 8, (const uint8_t *)"a\0b", 3, &why), -1);
	edit_body_drop(&body, pool);
	cr_expect_null(edit_body_finish(&body));
}

static const char *body_text(const struct msgbuf *body)
{
	return body ? without_crlf((const char *)body->data, body->len) : "the original";
}

Test(edit, a_body_is_replaced_by_the_last_milter_that_committed_one)
{
	static const struct step first[] = {
		{ SMFIR_REPLBODY, 0, NULL, "one" }, ADD("X", "between"), { SMFIR_REPLBODY, 0, NULL, " line" }, { 0 },
	};
	static const struct step second[] = { { SMFIR_REPLBODY, 0, NULL, "two\n" }, { 0 } };
	static const struct step nothing[] = { { SMFIR_REPLBODY, 0, NULL, "" }, { 0 } };
	struct edit_result result;

	begin("A: 1||");
	struct edits *e = stage_all(first, EDIT_INDEX_SHIFT, false);

	cr_expect_eq(edits_count(e), 2);
	cr_expect_str_eq(body_text(edit_message_body(message)), "the original");
	edits_commit(e);
	cr_expect_str_eq(body_text(edit_message_body(message)), "one line|");
	edits_drop(stage_all(second, EDIT_INDEX_SHIFT, false));
	cr_expect_str_eq(body_text(edit_message_body(message)), "one line|");
	edits_commit(stage_all(second, EDIT_INDEX_SHIFT, false));
	cr_expect_str_eq(body_text(edit_message_body(message)), "two|");
	edits_commit(stage_all(nothing, EDIT_INDEX_SHIFT, false));
	cr_expect_str_eq(body_text(edit_message_body(message)), "");
	result_take(&result);
	cr_expect(result.body_replaced);
	cr_expect_eq(result.body_length, 0);
	cr_expect_eq(result.body_id, edit_message_body(message)->id);
	cr_expect_eq(result.body_generation, edit_message_body(message)->generation);
	cr_expect_eq(result.edits, 4);
	struct msgbuf *body = edit_message_take_body(message);

	end();
	msgbuf_put(pool, body);
	cr_expect_leq(msgbuf_pool_count(pool), 2, "superseded bodies were not given back");
}

Test(edit, without_memory_for_a_body_its_milter_fails)
{
	static const struct step body = { SMFIR_REPLBODY, 0, NULL, "text" };
	struct msgbuf_pool *small = msgbuf_pool_new(1024 * 1024, 1);
	const char *why = NULL;

	begin("A: 1||");
	edit_message_free(message);
	message = edit_message_new(&block, (const uint8_t *)original, small, BODY_LIMIT);
	struct edits *e = edits_begin(message, EDIT_INDEX_SHIFT, false);

	cr_expect_eq(stage(e, &body, &why), -1);
	cr_expect_str_eq(why, "no memory for the new body");
	edits_drop(e);
	end();
	msgbuf_pool_free(small);
}

Test(edit, envelope_and_quarantine_of_all_milters_are_in_the_result)
{
	static const struct step first[] = {
		{ SMFIR_CHGFROM, 0, NULL, "<>" }, { SMFIR_QUARANTINE, 0, NULL, "one\r\ntwo\x7f" },
		{ SMFIR_QUARANTINE, 0, NULL, "later" }, { 0 },
	};
	static const struct step second[] = {
		{ SMFIR_ADDRCPT, 0, NULL, "a@b.example" }, { SMFIR_DELRCPT, 0, NULL, "<c@d.example>" },
		{ SMFIR_QUARANTINE, 0, NULL, "second" }, { 0 },
	};
	static const struct { enum envelope_change change; const char *address; } expected[] = {
		{ ENVELOPE_SENDER, "" }, { ENVELOPE_ADD, "a@b.example" }, { ENVELOPE_DELETE, "c@d.example" },
	};
	struct edit_result result;

	begin("A: 1||");
	edits_commit(stage_all(first, EDIT_INDEX_SHIFT, false));
	edits_commit(stage_all(second, EDIT_INDEX_SHIFT, false));
	result_take(&result);
	cr_assert_eq(result.op_count, 3);
	for (size_t i = 0; i < 3; i++) {
		cr_expect_eq(result.op[i].change, expected[i].change);
		cr_expect_str_eq(result.op[i].path.address, expected[i].address);
	}
	cr_expect_str_eq(result.quarantine, "one??two?");
	cr_expect_eq(result.edits, 6);
}

Test(edit, a_long_reason_is_cut_between_characters)
{
	char reason[EDIT_REASON_MAX + 2];
	struct step step[] = { { SMFIR_QUARANTINE, 0, NULL, reason }, { 0 } };
	struct edit_result result;

	memset(reason, 'x', EDIT_REASON_MAX - 1);
	memcpy(reason + EDIT_REASON_MAX - 1, "\xc3\xa9", 3);
	begin("A: 1||");
	edits_commit(stage_all(step, EDIT_INDEX_SHIFT, false));
	result_take(&result);
	cr_expect_eq(strlen(result.quarantine), EDIT_REASON_MAX - 1);
}
