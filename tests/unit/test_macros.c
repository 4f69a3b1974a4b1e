#include "config.h"

#include "worker/macros.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

static struct milter_macro connect_macros[] = { { "j", "mx.test" }, { "{client_addr}", "192.0.2.7" } };
static struct milter_macro mail_macros[] = { { "i", "4XyZ" }, { "{mail_addr}", "" } };
static struct milter_macro eom_macros[] = { { "i", "newer" } };
static struct ipc_event connect_event = { .kind = IPC_CONNECT, .macro = connect_macros, .macro_count = 2 };
static struct ipc_event mail_event = { .kind = IPC_MAIL, .macro = mail_macros, .macro_count = 2 };
static struct ipc_event eom_event = { .kind = IPC_EOM, .macro = eom_macros, .macro_count = 1 };
static const struct macros_scope at_mail = { { &mail_event, &connect_event }, 2 };
static const struct macros_scope at_eom = { { &eom_event, &mail_event, &connect_event }, 3 };

/* "i=4XyZ {x}=y", or "nothing" when there is no packet. */
static const char *put(const char *names, const struct macros_scope *scope)
{
	static char text[400];
	struct buf out = { 0 };
	struct milter_packet packet;
	struct milter_command command;
	const char *why;
	size_t len = 0;

	snprintf(text, sizeof(text), "nothing");
	if (macros_put(&out, SMFIC_MAIL, names, scope)) {
		cr_assert_eq(milter_packet_next(&out, 1 << 20, &packet), 1);
		cr_assert_eq(packet.size, buf_len(&out));
		cr_assert_eq(milter_command_decode(&packet, &command, &why), 0);
		cr_assert_eq(command.macro.stage, SMFIC_MAIL);
		for (size_t i = 0; i < command.macro.count; i++)
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s=%s", i ? " " : "",
						command.macro.item[i].name, command.macro.item[i].value);
	} else {
		cr_assert_eq(buf_len(&out), 0);
	}
	buf_fini(&out);
	return text;
}

Test(macros, only_what_is_asked_for_and_known_is_sent_and_no_empty_packet)
{
	static const struct {
		const char *names, *sent;
	} rows[] = {
		{ NULL, "nothing" },
		{ "", "nothing" },
		{ " ,\t ", "nothing" },
		{ "{unknown} k {}", "nothing" },
		{ "i", "i=4XyZ" },
		{ "{i}", "i=4XyZ" },			/* the same name, sent as it is known */
		{ "client_addr", "{client_addr}=192.0.2.7" },
		{ "{mail_addr}", "{mail_addr}=" },	/* known to be empty: the null sender */
		{ "I", "nothing" },			/* case counts */
		{ "j i {nope} {mail_addr}", "j=mx.test i=4XyZ {mail_addr}=" },
		{ "j,i\t{mail_addr} ", "j=mx.test i=4XyZ {mail_addr}=" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		cr_expect_str_eq(put(rows[i].names, &at_mail), rows[i].sent, "names \"%s\": %s", rows[i].names,
				 put(rows[i].names, &at_mail));
	cr_expect_str_eq(put("i j", &at_eom), "i=newer j=mx.test", "the nearest event has the word");
}

Test(macros, a_packet_never_becomes_larger_than_a_filter_reads)
{
	char *huge = mem_alloc(65531);

	memset(huge, 'x', 65530);

	struct milter_macro macro[] = { { "{a}", huge }, { "b", "left out or not" } };
	struct ipc_event event = { .kind = IPC_MAIL, .macro = macro, .macro_count = 2 };
	const struct macros_scope scope = { { &event }, 1 };
	struct buf out = { 0 };
	struct milter_packet packet;

	/* 1 + 4 + 65531 bytes are one too many. */
	cr_expect_not(macros_put(&out, SMFIC_MAIL, "{a}", &scope));
	huge[65529] = '\0';
	cr_expect(macros_put(&out, SMFIC_MAIL, "{a} b", &scope));
	cr_assert_eq(milter_packet_next(&out, 1 << 20, &packet), 1);
	cr_expect_eq(packet.len, 65535);
	buf_clear(&out);
	cr_expect(macros_put(&out, SMFIC_MAIL, "b {a}", &scope), "what fits is sent");
	cr_assert_eq(milter_packet_next(&out, 1 << 20, &packet), 1);
	cr_expect_lt(packet.len, 100);
	buf_fini(&out);
	free(huge);
}
