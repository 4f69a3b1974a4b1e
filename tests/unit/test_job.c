#include "config.h"

#include "worker/job.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/verdict.h"
#include "tests/unit/script_milter.h"

#define MILTERS	   3
#define WAIT_MS	   5000
#define FULL	   "C(mail.test) H(mail.test) M(<a@b>) R(<c@d>) T L(Subject) N B(6) E"
#define ONLY_EOM   (SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NR_RCPT | SMFIP_NR_DATA | SMFIP_NR_UNKN | \
		    SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY)

/* A session with a chain of scripted milters. What the job says becomes text. */
struct chain {
	struct conf conf;
	struct conf_listener listener;
	struct conf_milter milter_conf[MILTERS];
	unsigned order[MILTERS];
	struct pool *pool[MILTERS];
	struct script_milter *milter[MILTERS];
	struct job_shared shared;
	struct job *job;
	char *folder, *path[MILTERS];

	uint32_t number;		/* of the last event */
	struct buf said;		/* "continue", "reject:550 5.7.1 no", "tempfail(failed)", "eom:0", "release" */
	bool has_verdict;
	uint32_t origin, interest;
	struct buf report;		/* "0:accept 1:tempfail(failed)" */
	struct buf edits, body;
	struct buf trace;
};

static struct chain chain;
static const char message[] = "Subject: x\r\n\r\nbody\r\n";

static const char *text(struct buf *b)
{
	*buf_reserve(b, 1) = '\0';
	return (const char *)buf_head(b);
}

static void on_verdict(void *ctx, uint64_t session, const struct ipc_verdict *v, const struct buf *edits,
	struct msgbuf *body)
{
	struct chain *c = ctx;

	cr_assert_eq(session, 7);
	cr_assert_eq(v->number, c->number, "the verdict is for the event that was asked");
	buf_printf(&c->said, "%s%s", buf_len(&c->said) ? " " : "", verdict_name((enum verdict)v->verdict));
	if (v->reply)
		buf_printf(&c->said, ":%.*s", (int)strcspn(v->reply, "\r"), v->reply);
	buf_clear(&c->report);
	for (size_t i = 0; i < v->said_count; i++)
		buf_printf(&c->report, "%s%u:%s%s", i ? " " : "", v->said[i].milter,
			   verdict_name((enum verdict)v->said[i].verdict), v->said[i].failed ? "(failed)" : "");
	buf_clear(&c->edits);
	buf_clear(&c->body);
	if (edits)
		buf_append(&c->edits, buf_head(edits), buf_len(edits));
	if (body)
		buf_append(&c->body, body->data, body->len);
	msgbuf_put(c->shared.bodies, body);
	c->origin = v->origin;
	c->interest = v->interest;
	c->has_verdict = true;
}

static void on_eom_begun(void *ctx, uint64_t session, unsigned milter)
{
	struct chain *c = ctx;

	cr_assert_eq(session, 7);
	buf_printf(&c->said, "%seom:%u", buf_len(&c->said) ? " " : "", milter);
}

static int on_content(void *ctx, const struct ipc_content *content, struct spooled *bytes)
{
	(void)ctx;
	*bytes = (struct spooled){
		.data = (const uint8_t *)message, .memory = (size_t)content->memory, .len = (size_t)content->length,
	};
	return content->buffer == 1 ? 0 : -1;
}

static void on_release(void *ctx, const struct ipc_content *content)
{
	struct chain *c = ctx;

	cr_assert_eq(content->buffer, 1);
	buf_printf(&c->said, "%srelease", buf_len(&c->said) ? " " : "");
}

static void on_trace(void *ctx, uint64_t session, const struct ipc_trace *t)
{
	struct chain *c = ctx;
	struct buf *b = &c->trace;

	cr_assert_eq(session, 7);
	buf_printf(b, "%s%u:", buf_len(b) ? " " : "", t->milter);
	switch (t->kind) {
	case IPC_TRACE_STEP:
		buf_printf(b, "%c(%s)x%u=%c", t->command, t->subject, t->packets, t->reply ? t->reply : '-');
		for (size_t i = 0; i < t->macro_count; i++)
			buf_printf(b, ",%s=%s", t->macro[i].name, t->macro[i].value);
		break;
	case IPC_TRACE_EDIT:
		buf_printf(b, "edit %c %llu", t->reply, (unsigned long long)t->size);
		break;
	default:
		buf_printf(b, "trouble \"%s\"", t->text);
	}
}

static const struct job_ops ops = { on_verdict, on_eom_begun, on_content, on_release, on_trace };

static void begin(void)
{
	log_set_level(LOG_LEVEL_ERROR);
	loop_init();
	chain = (struct chain){ .folder = script_folder() };
	for (unsigned i = 0; i < MILTERS; i++) {
		char path[64], name[8];

		snprintf(path, sizeof(path), "%s/%u", chain.folder, i);
		snprintf(name, sizeof(name), "m%u", i);
		chain.path[i] = mem_strdup(path);
		chain.order[i] = i;
		script_conf(&chain.milter_conf[i], name, path);
	}
}

static void finish(void)
{
	job_free(chain.job);
	for (unsigned i = 0; i < MILTERS; i++) {
		pool_free(chain.pool[i]);
		script_free(chain.milter[i]);
		script_conf_fini(&chain.milter_conf[i]);
		free(chain.path[i]);
	}
	msgbuf_pool_free(chain.shared.bodies);
	arena_fini(&chain.shared.scratch);
	buf_fini(&chain.shared.edits);
	buf_fini(&chain.said);
	buf_fini(&chain.report);
	buf_fini(&chain.edits);
	buf_fini(&chain.body);
	buf_fini(&chain.trace);
	loop_fini();
	script_folder_remove(chain.folder);
}

TestSuite(job, .init = begin, .fini = finish, .timeout = 60);

/* The milters that have a script run; the job asks the first count ones. */
static void start(unsigned count, const struct script *const script[MILTERS])
{
	for (unsigned i = 0; i < count; i++) {
		if (script[i])
			chain.milter[i] = script_listen(chain.path[i], script[i]);
		chain.pool[i] = pool_new(&chain.milter_conf[i], (size_t)chain.milter_conf[i].pool_min,
					 (size_t)chain.milter_conf[i].pool_max);
	}
	chain.conf.milter = chain.milter_conf;
	chain.conf.milter_count = count;
	chain.listener.chain = chain.order;
	chain.listener.chain_count = count;
	chain.listener.max_message_size = 1 << 20;
	chain.shared.conf = &chain.conf;
	chain.shared.pool = chain.pool;
	chain.shared.bodies = msgbuf_pool_new(4 << 20, 16 << 20);
	chain.job = job_new(&chain.shared, &chain.listener, 7, &ops, &chain);
}

static int event(enum ipc_event_kind kind, unsigned flags, const char *first)
{
	const char *arg[4] = { first ? first : "mail.test", "4", "2525", "192.0.2.1" };
	struct ipc_event e = {
		.number = ++chain.number, .kind = (uint8_t)kind, .flags = (uint8_t)flags, .arg = arg,
		.arg_count = kind == IPC_CONNECT ? 4 : kind == IPC_DATA || kind == IPC_EOM ? 0 : 1,
		.content = { .buffer = 1, .generation = 1, .memory = sizeof(message) - 1,
			     .length = sizeof(message) - 1 },
	};
	struct buf record = { 0 };
	struct wire w;

	ipc_event_put(&record, &e);
	wire_init(&w, buf_head(&record), buf_len(&record));
	chain.has_verdict = false;
	buf_clear(&chain.said);
	int result = job_event(chain.job, &w);

	buf_fini(&record);
	return result;
}

static bool has_verdict(void *ctx)
{
	(void)ctx;
	return chain.has_verdict;
}

/* Wait for what the chain says to the last event. */
static const char *verdict(void)
{
	cr_assert(script_until(has_verdict, NULL, WAIT_MS), "no verdict after \"%s\"", text(&chain.said));
	return text(&chain.said);
}

static const char *ask(enum ipc_event_kind kind, const char *first)
{
	cr_assert_eq(event(kind, IPC_EVENT_WANTED, first), 0);
	return verdict();
}

static void tell(enum ipc_event_kind kind, const char *first)
{
	cr_assert_eq(event(kind, 0, first), 0);
}

static void greet(void)
{
	cr_assert_str_eq(ask(IPC_CONNECT, NULL), "continue");
	cr_assert_str_eq(ask(IPC_HELO, NULL), "continue");
}

static void envelope(void)
{
	cr_assert_str_eq(ask(IPC_MAIL, "<a@b>"), "continue");
	cr_assert_str_eq(ask(IPC_RCPT, "<c@d>"), "continue");
	cr_assert_str_eq(ask(IPC_DATA, NULL), "continue");
}

/* What the edits of the last verdict make of the message's header, "" when nothing was changed. */
static const char *edited_header(void)
{
	static struct buf out;
	struct arena arena = { 0 };
	struct edit_result result;
	struct wire w;

	wire_init(&w, buf_head(&chain.edits), buf_len(&chain.edits));
	edit_result_take(&w, &arena, (const uint8_t *)message, strlen("Subject: x\r\n"), &result);
	cr_assert(wire_finished(&w));
	buf_clear(&out);
	for (size_t i = 0; result.edits && i < result.segment_count; i++) {
		const struct edit_segment *s = &result.segment[i];

		if (s->source == EDIT_ORIGINAL)
			buf_append(&out, &message[s->offset], s->length);
		else if (s->source == EDIT_LITERAL)
			buf_append(&out, s->literal, s->length);
	}
	arena_fini(&arena);
	return text(&out);
}

static bool has_quit(void *ctx)
{
	return strchr(script_told(ctx, 1), '.') != NULL;
}

static const struct script plain = { 0 };

/* ---- hostile milters ---- */

Test(job, half_of_the_edits_and_then_nothing_changes_nothing)
{
	static const struct script half = { .rule = {
		{ .command = 'E', .bytes = "\0\0\0\5hX\0y\0\0\0\0\3bxx", .len = 16, .hangs_up = true } } };
	static const struct script header = { .rule = { SAYS('E', "\0\0\0\5hZ\0z\0\0\0\0\1c") } };

	for (int pass = 0; pass < 2; pass++) {
		chain.milter_conf[0].tempfail_on_error = pass == 0;
		start(2, (const struct script *[]){ &half, &header, NULL });
		greet();
		envelope();
		if (pass == 0) {
			cr_expect_str_eq(ask(IPC_EOM, NULL), "eom:0 tempfail release");
			cr_expect_str_eq(text(&chain.report), "0:tempfail(failed) 1:continue");
			finish();
			begin();
			chain.number = 0;
		} else {
			cr_expect_str_eq(ask(IPC_EOM, NULL), "eom:0 eom:1 accept release");
			cr_expect_str_eq(text(&chain.report), "0:accept(failed) 1:continue");
			cr_expect_str_eq(edited_header(), "Subject: x\r\nZ: z\r\n");
			cr_expect_eq(buf_len(&chain.body), 0);
		}
	}
}

Test(job, a_connection_lost_before_the_end_is_told_again_once_and_the_client_sees_nothing)
{
	static const struct script once = { .rule = { { .command = 'R', .connection = 1, .hangs_up = true } } };
	static const struct script twice = { .rule = { { .command = 'T', .connection = 1, .hangs_up = true },
						       { .command = 'L', .connection = 2, .hangs_up = true } } };

	start(2, (const struct script *[]){ &once, &twice, NULL });
	greet();
	envelope();
	cr_expect_str_eq(script_told(chain.milter[0], 1), "O C(mail.test) H(mail.test) M(<a@b>) R(<c@d>)");
	cr_expect_str_eq(script_told(chain.milter[0], 2), "O C(mail.test) H(mail.test) M(<a@b>) R(<c@d>) T");
	cr_expect_str_eq(ask(IPC_EOM, NULL), "eom:0 tempfail release");
	cr_expect_str_eq(text(&chain.report), "0:continue 1:tempfail(failed)");
	cr_expect_eq(script_connections(chain.milter[1]), 2, "the second loss is final");
	/* And the next message is a new one. */
	cr_expect_str_eq(ask(IPC_MAIL, "<a@b>"), "continue");
}

Test(job, what_was_accepted_and_is_refused_at_the_second_telling_defers_the_message)
{
	static const struct script fickle = { .rule = {
		{ .command = 'R', .nth = 2, .connection = 1, .hangs_up = true },
		{ .command = 'M', .connection = 2, .bytes = "\0\0\0\1r", .len = 5 } } };

	start(1, (const struct script *[]){ &fickle, NULL, NULL });
	greet();
	cr_assert_str_eq(ask(IPC_MAIL, "<a@b>"), "continue");
	cr_assert_str_eq(ask(IPC_RCPT, "<c@d>"), "continue");
	cr_expect_str_eq(ask(IPC_RCPT, "<e@f>"), "tempfail");
	cr_expect_eq(chain.origin, 3, "it belongs to MAIL");
	cr_expect_str_eq(ask(IPC_RCPT, "<g@h>"), "tempfail", "and stands");
	cr_expect_str_eq(ask(IPC_DATA, NULL), "tempfail");
	cr_expect_str_eq(ask(IPC_MAIL, "<a@b>"), "reject", "but not for the next message");
}

Test(job, nothing_is_told_again_after_a_timeout_or_a_broken_protocol_or_the_end_of_the_message)
{
	static const struct script silent = { .rule = { { .command = 'R', .connection = 1 } } };
	static const struct script broken = { .rule = { { .command = 'R', .connection = 1, .bytes = "\0\0\0\5hX\0y\0", .len = 9 } } };
	static const struct script ended = { .rule = { { .command = 'E', .connection = 1, .hangs_up = true } } };
	static const struct script *const scripts[] = { &silent, &broken, &ended };

	for (size_t i = 0; i < 3; i++) {
		chain.milter_conf[0].timeout_command = 100;
		start(1, (const struct script *[]){ scripts[i], NULL, NULL });
		greet();
		if (scripts[i] == &ended) {
			envelope();
			cr_expect_str_eq(ask(IPC_EOM, NULL), "eom:0 tempfail release");
		} else {
			cr_assert_str_eq(ask(IPC_MAIL, "<a@b>"), "continue");
			cr_expect_str_eq(ask(IPC_RCPT, "<c@d>"), "tempfail");
			cr_expect_str_eq(ask(IPC_RCPT, "<e@f>"), "tempfail", "the failure stands");
		}
		cr_expect_eq(script_connections(chain.milter[0]), 1);
		if (i < 2) {
			finish();
			begin();
		}
	}
}

Test(job, an_unreachable_milter_lets_a_client_in_and_defers_its_mail_or_is_left_out)
{
	chain.milter_conf[1].tempfail_on_error = false;
	start(2, (const struct script *[]){ NULL, NULL, NULL });
	greet();
	cr_expect_str_eq(ask(IPC_MAIL, "<a@b>"), "tempfail");
	cr_expect_str_eq(text(&chain.report), "0:tempfail(failed)");

	/* The first comes up: the second is not needed. */
	chain.milter[0] = script_listen(chain.path[0], &plain);
	envelope();
	cr_expect_str_eq(ask(IPC_EOM, NULL), "eom:0 accept release");
	cr_expect_str_eq(text(&chain.report), "0:continue 1:accept(failed)");
	cr_expect_str_eq(script_told(chain.milter[0], 1), "O " FULL);
}

Test(job, unasked_bytes_between_two_events_of_a_message_defer_it)
{
	start(1, (const struct script *[]){ &plain, NULL, NULL });
	greet();
	cr_assert_str_eq(ask(IPC_MAIL, "<a@b>"), "continue");
	script_send(chain.milter[0], 1, REPLY("a"), 5);
	script_until(has_quit, chain.milter[0], WAIT_MS);
	cr_expect_str_eq(ask(IPC_RCPT, "<c@d>"), "tempfail");
}

Test(job, an_answer_too_many_never_passes_for_the_answer_to_the_next_question)
{
	static const struct script early = { .rule = { SAYS('M', "\0\0\0\1c\0\0\0\1c"), SAYS('R', "\0\0\0\1r") } };
	static const struct script half = { .rule = { SAYS('M', "\0\0\0\1c\0\0\0\1") } };
	static const struct script last = { .rule = { SAYS('B', "\0\0\0\1c\0\0\0\1c"), SAYS('E', "\0\0\0\1r") } };

	for (int pass = 0; pass < 2; pass++) {
		start(1, (const struct script *[]){ pass ? &half : &early, NULL, NULL });
		greet();
		tell(IPC_MAIL, "<a@b>");
		/* RCPT is told while the second answer is already there. */
		cr_expect_str_eq(ask(IPC_RCPT, "<c@d>"), "tempfail");
		finish();
		begin();
	}
	start(1, (const struct script *[]){ &last, NULL, NULL });
	greet();
	envelope();
	cr_expect_str_eq(ask(IPC_EOM, NULL), "tempfail release");
}

Test(job, a_reply_text_that_is_not_sound_keeps_its_class_and_421_closes)
{
	static const struct {
		struct script_rule rule;
		const char *said;
	} rows[] = {
		{ SAYS('M', "\0\0\0\x0ey550 5.7.1 no\0"), "reject:550 5.7.1 no" },
		{ SAYS('M', "\0\0\0\x0ey450 4.7.1 no\0"), "tempfail:450 4.7.1 no" },
		{ SAYS('M', "\0\0\0\x0ey450 5.7.1 no\0"), "tempfail" },
		{ SAYS('M', "\0\0\0\x0ey55x 5.7.1 no\0"), "reject" },
		{ SAYS('M', "\0\0\0\x0ey421 4.7.0 no\0"), "shutdown:421 4.7.0 no" },
		{ SAYS('M', "\0\0\0\1" "4"), "shutdown" },
		{ SAYS('M', "\0\0\0\1d"), "discard" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct script script = { .rule = { rows[i].rule } };

		start(1, (const struct script *[]){ &script, NULL, NULL });
		greet();
		cr_expect_str_eq(ask(IPC_MAIL, "<a@b>"), rows[i].said);
		if (i + 1 < sizeof(rows) / sizeof(*rows)) {
			finish();
			begin();
		}
	}
}

/* ---- the chain ---- */

Test(job, each_milter_sees_the_message_as_the_one_before_left_it)
{
	static const struct script first = { .version = 6, .actions = 0x1ff, .rule = {
		SAYS('E', "\0\0\0\5hX\0y\0\0\0\0\x0fm\0\0\0\1Subject\0z\0\0\0\0\4bnew\0\0\0\1c") } };
	static const struct script second = { .rule = { SAYS('E', "\0\0\0\5hZ\0z\0\0\0\0\1a") } };

	start(2, (const struct script *[]){ &first, &second, NULL });
	greet();
	envelope();
	cr_expect_str_eq(ask(IPC_EOM, NULL), "eom:0 eom:1 accept release");
	cr_expect_str_eq(text(&chain.report), "0:continue 1:accept");
	cr_expect_str_eq(script_told(chain.milter[0], 1), "O " FULL);
	cr_expect_str_eq(script_told(chain.milter[1], 1),
			 "O C(mail.test) H(mail.test) M(<a@b>) R(<c@d>) T L(Subject) L(X) N B(5) E");
	cr_expect_str_eq(edited_header(), "Subject: z\r\nX: y\r\nZ: z\r\n");
	cr_expect_str_eq(text(&chain.body), "new\r\n");
}

Test(job, a_refused_recipient_is_out_for_the_milters_after_and_the_message_goes_on)
{
	static const struct script picky = { .rule = { { .command = 'R', .nth = 1, .bytes = "\0\0\0\1r", .len = 5 } } };

	start(2, (const struct script *[]){ &picky, &plain, NULL });
	greet();
	cr_assert_str_eq(ask(IPC_MAIL, "<a@b>"), "continue");
	cr_expect_str_eq(ask(IPC_RCPT, "<no@d>"), "reject");
	cr_expect_str_eq(ask(IPC_RCPT, "<c@d>"), "continue");
	cr_expect_str_eq(ask(IPC_DATA, NULL), "continue");
	cr_expect_str_eq(ask(IPC_EOM, NULL), "eom:0 eom:1 accept release");
	cr_expect_str_eq(script_told(chain.milter[1], 1), "O " FULL);
}

Test(job, a_milter_that_was_told_no_recipient_gets_abort_and_not_data)
{
	static const struct script picky = { .rule = { SAYS('R', "\0\0\0\1t") } };

	start(2, (const struct script *[]){ &picky, &plain, NULL });
	greet();
	cr_assert_str_eq(ask(IPC_MAIL, "<a@b>"), "continue");
	cr_expect_str_eq(ask(IPC_RCPT, "<c@d>"), "tempfail");
	cr_expect_str_eq(ask(IPC_DATA, NULL), "continue");
	cr_expect_str_eq(script_told(chain.milter[0], 1), "O C(mail.test) H(mail.test) M(<a@b>) R(<c@d>) T");
	cr_expect_str_eq(script_told(chain.milter[1], 1), "O C(mail.test) H(mail.test) M(<a@b>) A");
}

Test(job, accept_means_the_session_before_mail_and_the_message_after_it)
{
	static const struct script session = { .rule = { SAYS('H', "\0\0\0\1a") } };
	static const struct script once = { .rule = { { .command = 'R', .nth = 1, .bytes = "\0\0\0\1a", .len = 5 } } };

	start(2, (const struct script *[]){ &session, &once, NULL });
	greet();
	for (int i = 0; i < 2; i++) {
		envelope();
		cr_expect_str_eq(ask(IPC_EOM, NULL), i ? "eom:1 accept release" : "accept release");
		cr_expect_str_eq(text(&chain.report), i ? "1:continue" : "1:accept");
	}
	script_until(has_quit, chain.milter[0], WAIT_MS);
	cr_expect_str_eq(script_told(chain.milter[0], 1), "O C(mail.test) H(mail.test) Q .");
	cr_expect_str_eq(script_told(chain.milter[1], 1),
			 "O C(mail.test) H(mail.test) M(<a@b>) R(<c@d>) M(<a@b>) R(<c@d>) T L(Subject) N B(6) E");
}

Test(job, a_discarded_recipient_discards_the_message_and_nobody_is_asked_any_more)
{
	static const struct script discards = { .rule = { SAYS('R', "\0\0\0\1d") } };

	start(3, (const struct script *[]){ &plain, &discards, &plain });
	greet();
	cr_assert_str_eq(ask(IPC_MAIL, "<a@b>"), "continue");
	cr_expect_str_eq(ask(IPC_RCPT, "<c@d>"), "discard");
	cr_expect_str_eq(ask(IPC_RCPT, "<e@f>"), "discard");
	cr_expect_str_eq(ask(IPC_DATA, NULL), "discard");
	cr_assert_str_eq(ask(IPC_MAIL, "<a@b>"), "continue");
	cr_expect_str_eq(script_told(chain.milter[0], 1), "O C(mail.test) H(mail.test) M(<a@b>) R(<c@d>) A M(<a@b>)");
	cr_expect_str_eq(script_told(chain.milter[2], 1), "O C(mail.test) H(mail.test) M(<a@b>) A M(<a@b>)");
}

Test(job, a_refusal_at_connect_or_helo_is_final_for_the_session)
{
	static const struct script refuses = { .rule = { SAYS('H', "\0\0\0\x0ey550 5.7.1 no\0") } };

	start(2, (const struct script *[]){ &plain, &refuses, NULL });
	cr_assert_str_eq(ask(IPC_CONNECT, NULL), "continue");
	cr_expect_str_eq(ask(IPC_HELO, NULL), "reject:550 5.7.1 no");
	cr_expect_str_eq(ask(IPC_MAIL, "<a@b>"), "reject:550 5.7.1 no");
	cr_expect_eq(chain.origin, 2);
	cr_expect_str_eq(ask(IPC_MAIL, "<a@b>"), "reject:550 5.7.1 no");
}

/* ---- late, early, in between ---- */

Test(job, a_milter_that_only_answers_the_end_is_told_everything_then_and_not_before)
{
	static const struct script late = { .version = 6, .protocol = ONLY_EOM };

	chain.milter_conf[0].pool_min = 1;
	start(1, (const struct script *[]){ &late, NULL, NULL });
	/* Until it has negotiated everything counts as wanted. */
	while (pool_counts(chain.pool[0]).spare < 1)
		script_until(has_verdict, NULL, 1);
	greet();
	cr_expect_eq(chain.interest, IPC_INTEREST(IPC_EOM));
	tell(IPC_MAIL, "<a@b>");
	tell(IPC_RCPT, "<c@d>");
	tell(IPC_DATA, NULL);
	cr_expect_str_eq(script_told(chain.milter[0], 1), "O");
	cr_expect_str_eq(ask(IPC_EOM, NULL), "eom:0 accept release");
	cr_expect_str_eq(script_told(chain.milter[0], 1), "O " FULL);
	/* The second message goes over the same connection. */
	tell(IPC_MAIL, "<a@b>");
	tell(IPC_RCPT, "<c@d>");
	tell(IPC_DATA, NULL);
	cr_expect_str_eq(ask(IPC_EOM, NULL), "eom:0 accept release");
	cr_expect_str_eq(script_told(chain.milter[0], 1),
			 "O " FULL " M(<a@b>) R(<c@d>) T L(Subject) N B(6) E");
}

Test(job, a_late_refusal_is_given_at_the_next_wanted_event_with_its_origin)
{
	static const struct script picky = { .rule = { { .command = 'R', .nth = 2, .bytes = "\0\0\0\x0ey550 5.1.1 no\0", .len = 18 } } };

	start(1, (const struct script *[]){ &picky, NULL, NULL });
	greet();
	tell(IPC_MAIL, "<a@b>");
	tell(IPC_RCPT, "<c@d>");
	tell(IPC_RCPT, "<no@d>");
	cr_expect_str_eq(ask(IPC_DATA, NULL), "reject:550 5.1.1 no");
	cr_expect_eq(chain.origin, 5);
	cr_expect_str_eq(script_told(chain.milter[0], 1),
			 "O C(mail.test) H(mail.test) M(<a@b>) R(<c@d>) R(<no@d>) A");
}

Test(job, replayed_events_that_are_refused_now_defer_the_message)
{
	static const struct script picky = { .rule = { SAYS('M', "\0\0\0\1r") } };

	start(1, (const struct script *[]){ &picky, NULL, NULL });
	cr_assert_eq(event(IPC_CONNECT, IPC_EVENT_REPLAYED, NULL), 0);
	cr_assert_eq(event(IPC_HELO, IPC_EVENT_REPLAYED, NULL), 0);
	cr_assert_eq(event(IPC_MAIL, IPC_EVENT_REPLAYED, "<a@b>"), 0);
	cr_expect_str_eq(ask(IPC_RCPT, "<c@d>"), "tempfail");
	cr_expect_eq(chain.origin, 3);
}

Test(job, abort_ends_the_message_and_a_pending_question_and_no_verdict_comes_any_more)
{
	static const struct script slow = { .rule = { { .command = 'R', .connection = 1 } } };

	start(1, (const struct script *[]){ &slow, NULL, NULL });
	greet();
	cr_assert_str_eq(ask(IPC_MAIL, "<a@b>"), "continue");
	cr_assert_eq(event(IPC_RCPT, IPC_EVENT_WANTED, "<c@d>"), 0);
	cr_expect_not(script_until(has_verdict, NULL, 20));
	job_abort(chain.job);
	/* An answer is owed on the old connection: it must not be taken for one to something else. */
	envelope();
	cr_expect_str_eq(script_told(chain.milter[0], 1), "O C(mail.test) H(mail.test) M(<a@b>) R(<c@d>) .");
	job_abort(chain.job);
	job_abort(chain.job);
	envelope();
	cr_expect_str_eq(script_told(chain.milter[0], 2),
			 "O C(mail.test) H(mail.test) M(<a@b>) R(<c@d>) T A M(<a@b>) R(<c@d>) T");
}

Test(job, a_session_that_holds_a_connection_between_messages_gives_it_to_one_that_needs_it)
{
	chain.milter_conf[0].pool_max = 1;
	start(1, (const struct script *[]){ &plain, NULL, NULL });
	greet();
	envelope();
	cr_expect_str_eq(ask(IPC_EOM, NULL), "eom:0 accept release");

	struct job *first = chain.job;

	chain.job = job_new(&chain.shared, &chain.listener, 7, &ops, &chain);
	chain.number = 0;
	greet();
	cr_expect_str_eq(script_told(chain.milter[0], 1), "O " FULL " Q .");
	cr_assert_str_eq(ask(IPC_MAIL, "<x@y>"), "continue");
	/* In a message nothing is taken away: now the first one waits in vain. */
	struct job *second = chain.job;

	chain.milter_conf[0].pool_wait = 50;
	chain.job = first;
	chain.number = 10;
	cr_expect_str_eq(ask(IPC_MAIL, "<a@b>"), "tempfail");
	job_free(second);
	cr_expect_str_eq(ask(IPC_MAIL, "<a@b>"), "continue");
	cr_expect_str_eq(script_told(chain.milter[0], 3), "O C(mail.test) H(mail.test) M(<a@b>)");
}

Test(job, records_out_of_order_are_illegal)
{
	static const struct script slow = { .rule = { { .command = 'M' } } };

	start(1, (const struct script *[]){ &slow, NULL, NULL });
	cr_expect_eq(event(IPC_HELO, IPC_EVENT_WANTED, NULL), -1, "CONNECT comes first");
	greet();
	cr_expect_eq(event(IPC_CONNECT, IPC_EVENT_WANTED, NULL), -1);
	cr_expect_eq(event(IPC_RCPT, IPC_EVENT_WANTED, "<c@d>"), -1);
	cr_expect_eq(event(IPC_DATA, IPC_EVENT_WANTED, NULL), -1);
	cr_expect_eq(event(IPC_EOM, IPC_EVENT_WANTED, NULL), -1);
	cr_expect_eq(event(IPC_MAIL, 0, ""), -1, "a path is never empty");
	chain.number = 1;
	cr_expect_eq(event(IPC_MAIL, 0, "<a@b>"), -1, "numbers count up");
	chain.number = 20;
	cr_expect_eq(event(IPC_MAIL, IPC_EVENT_WANTED, "<a@b>"), 0);
	cr_expect_eq(event(IPC_RCPT, IPC_EVENT_WANTED, "<c@d>"), -1, "one question at a time");
}

Test(job, a_traced_session_reports_what_each_milter_is_told_and_says)
{
	static const struct script adds = {
		.rule = { SAYS('E', "\0\0\0\5" "hX\0y\0" REPLY("c")), SAYS('R', "\0\0\0\10" "y550 no\0") },
	};

	chain.milter_conf[1].pool_min = 0;
	chain.milter_conf[1].tempfail_on_error = false;
	start(2, (const struct script *[]){ &adds, NULL, NULL });
	job_trace(chain.job);
	greet();
	cr_assert_str_eq(ask(IPC_MAIL, "<a@b>"), "continue");
	cr_expect_str_eq(ask(IPC_RCPT, "<c@d>"), "reject:550 no");
	cr_expect(strstr(text(&chain.trace), "0:C(mail.test)x1=c 1:trouble \""), "%s", text(&chain.trace));
	cr_expect(strstr(text(&chain.trace), "0:M(<a@b>)x1=c 1:trouble \"connect"), "%s", text(&chain.trace));
	cr_expect(strstr(text(&chain.trace), " 0:R(<c@d>)x1=y"), "%s", text(&chain.trace));
}

Test(job, the_trace_of_content_is_one_step_for_all_fields_and_one_for_all_chunks)
{
	static const struct script adds = {
		.rule = { SAYS('E', "\0\0\0\5" "hX\0y\0" "\0\0\0\3" "bab" "\0\0\0\2" "bc" REPLY("c")) },
	};

	start(1, (const struct script *[]){ &adds, NULL, NULL });
	job_trace(chain.job);
	greet();
	envelope();
	buf_clear(&chain.trace);
	cr_expect_str_eq(ask(IPC_EOM, NULL), "eom:0 accept release");
	cr_expect_str_eq(text(&chain.trace), "0:L()x1=c 0:N()x1=c 0:B()x1=c 0:edit h 4 0:edit b 3 0:E()x1=c");
}

Test(job, the_trace_of_a_refusal_in_the_content_ends_with_it)
{
	static const struct script refuses = { .rule = { SAYS('B', REPLY("r")) } };

	start(1, (const struct script *[]){ &refuses, NULL, NULL });
	job_trace(chain.job);
	greet();
	envelope();
	buf_clear(&chain.trace);
	cr_expect_str_eq(ask(IPC_EOM, NULL), "reject release");
	cr_expect_str_eq(text(&chain.trace), "0:L()x1=c 0:N()x1=c 0:B()x1=r");
}

Test(job, discard_or_accept_of_an_unknown_command_in_a_message_leaves_the_milter_in_step)
{
	static const struct {
		const char *bytes, *told;
	} rows[] = {
		{ REPLY("d"), "O C(mail.test) H(mail.test) M(<a@b>) R(<c@d>) T L(Subject) N B(6) E" },
		{ REPLY("a"), NULL },
		{ REPLY("r"), "O C(mail.test) H(mail.test) M(<a@b>) U R(<c@d>) T L(Subject) N B(6) E" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct script script = { .rule = { { SMFIC_UNKNOWN, 0, 0, rows[i].bytes, 5, false } } };
		const struct script *scripts[MILTERS] = { &script };

		if (i) {
			finish();
			begin();
		}
		start(1, scripts);
		greet();
		cr_expect_str_eq(ask(IPC_MAIL, "<a@b>"), "continue");
		ask(IPC_UNKNOWN, "WHAT");
		cr_expect_str_eq(ask(IPC_RCPT, "<c@d>"), "continue");
		cr_expect_str_eq(ask(IPC_DATA, NULL), "continue");
		ask(IPC_EOM, NULL);
		if (rows[i].told)
			cr_expect(strstr(script_told(chain.milter[0], script_connections(chain.milter[0])),
					 "R(<c@d>) T L(Subject) N B(6) E"), "row %zu", i);
	}
}
