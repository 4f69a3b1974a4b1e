#include "config.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/milter_codec.h"

static void take(struct buf *b, const void *bytes, size_t len, struct milter_packet *p)
{
	buf_clear(b);
	buf_append(b, bytes, len);
	cr_assert_eq(milter_packet_next(b, 70000, p), 1);
	cr_assert_eq(p->size, len);
}

Test(milter_codec, lengths_nobody_may_send_are_refused_with_four_bytes)
{
	static const uint8_t bad[][4] = { { 0, 0, 0, 0 }, { 0xff, 0xff, 0xff, 0xff }, { 0, 1, 0, 1 } };
	struct milter_packet p;
	struct buf b = { 0 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		buf_clear(&b);
		buf_append(&b, bad[i], 4);
		cr_expect_eq(milter_packet_next(&b, 65535, &p), -1, "case %zu", i);
	}
	buf_clear(&b);
	buf_append(&b, "\0\1\0\0", 4);
	cr_expect_eq(milter_packet_next(&b, 65535, &p), 0);
	buf_fini(&b);
}

/* Every form of packet there is, as a peer would send it. */
#define S(text) text, sizeof(text) - 1

static const struct {
	const char *name, *data;
	size_t len;
} commands[] = {
	{ "optneg", S("\0\0\0\x0d" "O\0\0\0\6\0\0\1\xff\0\x1f\xff\xff") },
	{ "macro", S("\0\0\0\7" "DCj\0mx\0") },
	{ "no macros", S("\0\0\0\2DH") },
	{ "connect", S("\0\0\0\x1f" "Cmail.example.org\0" "4\0\x19" "192.0.2.1\0") },
	{ "connect unknown", S("\0\0\0\x0c" "Clocalhost\0U") },
	{ "helo", S("\0\0\0\5Hmx1\0") },
	{ "mail", S("\0\0\0\x0eM<a@b>\0SIZE=5\0") },
	{ "rcpt", S("\0\0\0\7R<a@b>\0") },
	{ "data", S("\0\0\0\1T") },
	{ "header", S("\0\0\0\x0fLSubject\0hello\0") },
	{ "eoh", S("\0\0\0\1N") },
	{ "body", S("\0\0\0\4Bx\r\n") },
	{ "bodyeob", S("\0\0\0\1E") },
	{ "abort", S("\0\0\0\1A") },
	{ "quit", S("\0\0\0\1Q") },
	{ "quit_nc", S("\0\0\0\1K") },
	{ "unknown", S("\0\0\0\6UVRFY\0") },
};

static void put_again(struct buf *b, const struct milter_command *c)
{
	switch (c->command) {
	case SMFIC_OPTNEG: milter_put_optneg(b, &c->optneg); break;
	case SMFIC_MACRO: milter_put_macros(b, c->macro.stage, c->macro.item, c->macro.count); break;
	case SMFIC_CONNECT:
		milter_put_connect(b, c->connect.hostname, c->connect.family, c->connect.port, c->connect.address);
		break;
	case SMFIC_MAIL:
	case SMFIC_RCPT: milter_put_envelope(b, c->command, c->envelope.arg, c->envelope.count); break;
	case SMFIC_HELO: milter_put_helo(b, c->text); break;
	case SMFIC_UNKNOWN: milter_put_unknown(b, c->text); break;
	case SMFIC_HEADER:
		milter_put_header(b, c->header.name, strlen(c->header.name), c->header.value, strlen(c->header.value));
		break;
	case SMFIC_BODY:
		milter_put_head(b, c->command, c->body.len);
		buf_append(b, c->body.data, c->body.len);
		break;
	default: milter_put_bare(b, c->command);
	}
}

Test(milter_codec, a_command_is_read_and_written_as_the_same_bytes)
{
	struct milter_command c;
	struct milter_packet p;
	struct buf in = { 0 }, out = { 0 };
	const char *why = "";

	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		take(&in, commands[i].data, commands[i].len, &p);
		cr_assert_eq(milter_command_decode(&p, &c, &why), 0, "%s: %s", commands[i].name, why);
		buf_clear(&out);
		put_again(&out, &c);
		cr_assert_eq(buf_len(&out), commands[i].len, "%s", commands[i].name);
		cr_assert_eq(memcmp(buf_head(&out), commands[i].data, commands[i].len), 0, "%s", commands[i].name);
	}
	buf_fini(&in);
	buf_fini(&out);
}

Test(milter_codec, a_command_cut_anywhere_is_refused_and_never_overread)
{
	struct milter_command c;
	const char *why;

	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		for (size_t len = 5; len < commands[i].len; len++) {
			/* On the heap with its exact size, so that a sanitizer sees a byte too many. */
			size_t data = len - 5;
			uint8_t *exact = malloc(data ? data : 1);
			struct milter_packet p = { (uint8_t)commands[i].data[4], exact, data, len };

			memcpy(exact, commands[i].data + 5, data);
			bool may = p.command == SMFIC_BODY || (p.command == SMFIC_MACRO && data == 1) ||
				   (p.command == SMFIC_MAIL && exact[data ? data - 1 : 0] == '\0' && data);

			cr_expect_eq(milter_command_decode(&p, &c, &why), may ? 0 : -1, "%s at %zu", commands[i].name, len);
			free(exact);
		}
	}
}

Test(milter_codec, malformed_commands_are_refused)
{
	static const struct {
		const char *data;
		size_t len;
	} bad[] = {
		{ S("\0\0\0\x09" "Chost\0" "5\0\0") },		/* no such family */
		{ S("\0\0\0\4DCj\0") },				/* a macro without a value */
		{ S("\0\0\0\1M") },				/* MAIL of nothing */
		{ S("\0\0\0\2Tx") },				/* data where none belongs */
		{ S("\0\0\0\7Ha\0b\0c\0") },			/* more strings than one */
		{ S("\0\0\0\1x") }, { S("\0\0\0\1\0") },	/* no such command */
		{ S("\0\0\0\x0cO\0\0\0\6\0\0\1\xff\0\x1f\xff") },
	};
	struct milter_command c;
	struct milter_packet p;
	struct buf in = { 0 };
	const char *why;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		take(&in, bad[i].data, bad[i].len, &p);
		why = NULL;
		cr_expect_eq(milter_command_decode(&p, &c, &why), -1, "case %zu", i);
		cr_expect_not_null(why);
	}
	buf_fini(&in);
}

Test(milter_codec, an_address_is_read_with_and_without_the_prefix_of_sendmail)
{
	static const char *const text[] = { "IPv6:2001:db8::1", "2001:db8::1" };
	struct buf b = { 0 };

	for (int i = 0; i < 2; i++) {
		struct milter_packet p;
		struct milter_command c;
		const char *why;

		buf_clear(&b);
		milter_put_connect(&b, "host", '6', 25, text[i]);
		cr_assert_eq(milter_packet_next(&b, 1000, &p), 1);
		cr_assert_eq(milter_command_decode(&p, &c, &why), 0);
		cr_assert_str_eq(c.connect.address, "2001:db8::1");
		cr_assert_eq(c.connect.port, 25);
	}
	buf_fini(&b);
}

static const struct {
	const char *name, *data;
	size_t len;
} replies[] = {
	{ "optneg", S("\0\0\0\x0d" "O\0\0\0\6\0\0\1\xff\0\x1f\xff\xff") },
	{ "optneg with lists", S("\0\0\0\x20" "O\0\0\0\6\0\0\1\xff\0\0\0\0\0\0\0\0j {x}\0\0\0\0\5i\0") },
	{ "addheader", S("\0\0\0\x07" "hX-A\0b\0") },
	{ "insheader", S("\0\0\0\x0b" "i\0\0\0\1X-A\0b\0") },
	{ "chgheader", S("\0\0\0\x0a" "m\0\0\0\2X-A\0\0") },
	{ "replbody", S("\0\0\0\4bab\0") },
	{ "addrcpt", S("\0\0\0\7+<a@b>\0") },
	{ "addrcpt_par", S("\0\0\0\x14" "2<a@b>\0NOTIFY=NEVER\0") },
	{ "delrcpt", S("\0\0\0\7-<a@b>\0") },
	{ "chgfrom", S("\0\0\0\7e<a@b>\0") },
	{ "quarantine", S("\0\0\0\5qbad\0") },
	{ "replycode", S("\0\0\0\x0ay550 no!!\0") },
	{ "continue", S("\0\0\0\1c") }, { "accept", S("\0\0\0\1a") }, { "reject", S("\0\0\0\1r") },
	{ "tempfail", S("\0\0\0\1t") }, { "discard", S("\0\0\0\1d") }, { "skip", S("\0\0\0\1s") },
	{ "progress", S("\0\0\0\1p") }, { "shutdown", S("\0\0\0\0014") }, { "conn_fail", S("\0\0\0\1f") },
};

static const uint8_t *fix_length(const char *data, size_t len)
{
	static uint8_t fixed[128];

	cr_assert_leq(len, sizeof(fixed));
	memcpy(fixed, data, len);
	fixed[3] = (uint8_t)(len - 4);
	return fixed;
}

Test(milter_codec, a_reply_is_read_and_written_as_the_same_bytes)
{
	struct buf in = { 0 }, out = { 0 };
	struct milter_packet p;
	struct milter_reply r;
	const char *why = "";

	for (size_t i = 0; i < sizeof(replies) / sizeof(*replies); i++) {
		const uint8_t *data = fix_length(replies[i].data, replies[i].len);

		take(&in, data, replies[i].len, &p);
		cr_assert_eq(milter_reply_decode(&p, &r, &why), 0, "%s: %s", replies[i].name, why);
		buf_clear(&out);
		milter_put_reply(&out, &r);
		cr_assert_eq(buf_len(&out), replies[i].len, "%s", replies[i].name);
		cr_assert_eq(memcmp(buf_head(&out), data, replies[i].len), 0, "%s", replies[i].name);
	}
	buf_fini(&in);
	buf_fini(&out);
}

Test(milter_codec, a_reply_cut_anywhere_is_refused_and_never_overread)
{
	struct milter_reply r;
	const char *why;

	for (size_t i = 0; i < sizeof(replies) / sizeof(*replies); i++) {
		for (size_t data = 0; data + 5 < replies[i].len; data++) {
			uint8_t *exact = malloc(data ? data : 1);
			struct milter_packet p = { (uint8_t)replies[i].data[4], exact, data, data + 5 };
			bool whole_part;

			memcpy(exact, replies[i].data + 5, data);
			whole_part = p.command == SMFIR_REPLBODY || (p.command == SMFIC_OPTNEG && (data == 12 || data == 22)) ||
				     (p.command == SMFIR_ADDRCPT_PAR && data == 6);
			cr_expect_eq(milter_reply_decode(&p, &r, &why), whole_part ? 0 : -1, "%s at %zu", replies[i].name, data);
			free(exact);
		}
	}
}

Test(milter_codec, a_reply_with_data_it_should_not_have_is_refused)
{
	static const char letters[] = "cartdsp4f";
	struct milter_reply r;
	const char *why;

	for (const char *c = letters; *c; c++) {
		struct milter_packet p = { (uint8_t)*c, (const uint8_t *)"x", 1, 6 };

		cr_expect_eq(milter_reply_decode(&p, &r, &why), -1, "%c", *c);
	}
	for (unsigned c = 0; c < 256; c++) {
		struct milter_packet p = { (uint8_t)c, (const uint8_t *)"", 0, 5 };
		bool bare = c && strchr(letters, (int)c), body = c == SMFIR_REPLBODY;

		cr_expect_eq(milter_reply_decode(&p, &r, &why), bare || body ? 0 : -1, "%u", c);
	}
}

Test(milter_codec, a_macro_list_for_a_stage_nobody_knows_is_ignored)
{
	struct milter_packet p;
	struct milter_reply r;
	struct buf b = { 0 };
	const char *why;

	take(&b, S("\0\0\0\x1aO\0\0\0\6\0\0\1\xff\0\0\0\0\0\0\0\x09xx\0\0\0\0\6i\0" ), &p);
	cr_assert_eq(milter_reply_decode(&p, &r, &why), 0);
	cr_assert_str_eq(r.optneg.macros[MILTER_STAGE_EOH], "i");
	cr_assert_null(r.optneg.macros[MILTER_STAGE_EOM]);
	buf_fini(&b);
}
