#include "config.h"

#include "master/ctl_test_report.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/milter_names.h"
#include "master/line_diff.h"

/* ---- reading ---- */

static void take_milters(struct ctl_test_report *r, struct wire *w)
{
	r->listener = arena_strdup(&r->arena, wire_cstr(w));

	size_t count = wire_u32(w);

	if (count > wire_left(w))
		w->broken = true;
	r->milter = arena_alloc(&r->arena, (w->broken ? 0 : count) * sizeof(*r->milter));
	r->milter_number = arena_alloc(&r->arena, (w->broken ? 0 : count) * sizeof(*r->milter_number));
	for (r->milter_count = 0; !w->broken && r->milter_count < count; r->milter_count++) {
		r->milter_number[r->milter_count] = wire_u32(w);
		r->milter[r->milter_count] = arena_strdup(&r->arena, wire_cstr(w));
	}
}

static void take_envelope(struct ctl_test_report *r, struct wire *w)
{
	const char *sender = wire_cstr(w);
	size_t count = wire_u32(w);

	if (count > wire_left(w))
		w->broken = true;
	r->envelope = arena_alloc(&r->arena, (w->broken ? 1 : count + 1) * sizeof(*r->envelope));
	r->envelope[0] = arena_strdup(&r->arena, sender);
	for (r->envelope_count = 1; !w->broken && r->envelope_count <= count; r->envelope_count++)
		r->envelope[r->envelope_count] = arena_strdup(&r->arena, wire_cstr(w));
}

/* Without the first of two dots at the begin of a line; a frame may begin anywhere. */
static void take_content(struct ctl_test_report *r, struct wire *w)
{
	size_t len;
	const uint8_t *data = wire_rest(w, &len);

	for (size_t i = 0; i < len; i++) {
		if (data[i] == '.' && r->at_line_start)
			r->at_line_start = false;
		else {
			buf_append(&r->after, &data[i], 1);
			r->at_line_start = data[i] == '\n';
		}
	}
}

static int take_frame(struct ctl_test_report *r, struct message_test_frame *f)
{
	struct wire *w = &f->data;

	switch (f->type) {
	case MESSAGE_TEST_HELLO:
		return strcmp(wire_cstr(w), MESSAGE_TEST_VERSION) == 0 ? 0 : -1;
	case MESSAGE_TEST_MILTERS:
		take_milters(r, w);
		break;
	case MESSAGE_TEST_TRACE:
		r->step = mem_realloc(r->step, (r->step_count + 1) * sizeof(*r->step));
		ipc_trace_take(w, &r->arena, &r->step[r->step_count++]);
		break;
	case MESSAGE_TEST_REFUSED:
		r->refused = mem_realloc(r->refused, (r->refused_count + 1) * 2 * sizeof(*r->refused));
		r->refused[2 * r->refused_count] = arena_strdup(&r->arena, wire_cstr(w));
		r->refused[2 * r->refused_count++ + 1] = arena_strdup(&r->arena, wire_cstr(w));
		break;
	case MESSAGE_TEST_ENVELOPE:
		take_envelope(r, w);
		break;
	case MESSAGE_TEST_CONTENT:
		take_content(r, w);
		break;
	case MESSAGE_TEST_RESULT:
		message_test_result_take(w, &r->arena, &r->result);
		break;
	case MESSAGE_TEST_ERROR:
		fprintf(stderr, "milterctl: %s\n", wire_cstr(w));
		return -1;
	default:
		return -1;
	}
	return wire_finished(w) ? 0 : -1;
}

int ctl_test_report_read(struct ctl_test_report *r)
{
	struct message_test_frame frame;

	r->at_line_start = true;
	while (message_test_next(&r->answer, MESSAGE_TEST_FRAME_MAX, &frame) == 1) {
		if (take_frame(r, &frame) < 0) {
			if (frame.type != MESSAGE_TEST_ERROR)
				fprintf(stderr, "milterctl: the answer is malformed\n");
			return -1;
		}
		buf_consume(&r->answer, frame.size);
	}
	return 0;
}

void ctl_test_report_fini(struct ctl_test_report *r)
{
	arena_fini(&r->arena);
	buf_fini(&r->answer);
	buf_fini(&r->after);
	free(r->step);
	free(r->refused);
}

/* ---- words ---- */

static const char *milter_name(const struct ctl_test_report *r, uint32_t number)
{
	for (size_t i = 0; i < r->milter_count; i++)
		if (r->milter_number[i] == number)
			return r->milter[i];
	return NULL;
}

static const char *answer_name(const struct ipc_trace *t)
{
	return t->reply ? milter_reply_name(t->reply) : t->packets ? "-" : "not asked";
}

/* A modification in words. */
static void describe(struct buf *b, const struct ipc_trace *t)
{
	const struct milter_packet packet = { .command = t->reply, .data = t->data, .len = t->data_len };
	struct milter_reply reply;
	const char *why;

	buf_printf(b, "%s", milter_reply_name(t->reply));
	if (t->reply == SMFIR_REPLBODY || milter_reply_decode(&packet, &reply, &why) < 0)
		buf_printf(b, " %llu bytes", (unsigned long long)t->size);
	else if (t->reply == SMFIR_ADDHEADER)
		buf_printf(b, " %s: %s", reply.header.name, reply.header.value);
	else if (t->reply == SMFIR_INSHEADER || t->reply == SMFIR_CHGHEADER)
		buf_printf(b, " %u %s: %s", reply.header.index, reply.header.name, reply.header.value);
	else if (t->reply == SMFIR_QUARANTINE)
		buf_printf(b, " %s", reply.text);
	else
		buf_printf(b, " %s%s%s", reply.address.path, reply.address.args ? " " : "",
			   reply.address.args ? reply.address.args : "");
}

/* ---- for people ---- */

static void put(const char *text)
{
	line_diff_put_safe(stdout, text, strlen(text));
}

static void print_step(const struct ipc_trace *t)
{
	struct buf b = { 0 };

	switch (t->kind) {
	case IPC_TRACE_STEP:
		printf("  %-8s %-10s %9.2f ms  ", milter_command_name(t->command), answer_name(t), (double)t->us / 1000);
		put(t->subject);
		if (t->packets > 1)
			printf("%u packets", t->packets);
		if (*t->text) {
			printf(" \"");
			put(t->text);
			printf("\"");
		}
		for (size_t i = 0; i < t->macro_count; i++) {
			printf("%s%s=", i % 4 ? " " : "\n             macros: ", t->macro[i].name);
			put(t->macro[i].value);
		}
		putchar('\n');
		break;
	case IPC_TRACE_EDIT:
		describe(&b, t);
		printf("    change: ");
		line_diff_put_safe(stdout, (const char *)buf_head(&b), buf_len(&b));
		putchar('\n');
		break;
	default:
		printf("  failed: ");
		put(t->text);
		printf(" (");
		put(t->subject);
		printf(")\n");
	}
	buf_fini(&b);
}

static void print_milter(const struct ctl_test_report *r, size_t which)
{
	bool told = false;

	printf("\nMilter %s\n", r->milter[which]);
	for (size_t i = 0; i < r->step_count; i++)
		if (r->step[i].milter == r->milter_number[which]) {
			print_step(&r->step[i]);
			told = true;
		}
	if (!told)
		printf("  was not asked\n");
}

static void envelope_text(struct buf *b, const struct ctl_test_report *r, bool after)
{
	if (after) {
		for (size_t i = 0; i < r->envelope_count; i++)
			buf_printf(b, "%s %s\n", i ? "to" : "from", r->envelope[i]);
		return;
	}
	buf_printf(b, "from <%s>\n", r->request->sender);
	for (size_t i = 0; i < r->request->rcpt_count; i++)
		buf_printf(b, "to <%s>\n", r->request->rcpt[i]);
}

static void print_changes(const struct ctl_test_report *r, bool colour)
{
	struct buf before = { 0 }, after = { 0 };

	envelope_text(&before, r, false);
	envelope_text(&after, r, true);
	putchar('\n');
	bool changed = line_diff_print(stdout, "message", (const char *)buf_head(r->before), buf_len(r->before),
				       buf_len(&r->after) ? (const char *)buf_head(&r->after) : "", buf_len(&r->after), colour);

	changed |= line_diff_print(stdout, "envelope", (const char *)buf_head(&before), buf_len(&before),
				   (const char *)buf_head(&after), buf_len(&after), colour);
	if (!changed)
		puts("Message and envelope are unchanged.");
	buf_fini(&before);
	buf_fini(&after);
}

void ctl_test_report_print(const struct ctl_test_report *r, bool colour)
{
	const char *by = milter_name(r, r->result.milter);

	printf("Message of %zu bytes from <", buf_len(r->before));
	put(r->request->sender);
	printf("> to %zu recipient%s, listener %s\n", r->request->rcpt_count, r->request->rcpt_count == 1 ? "" : "s", r->listener);
	if (*r->assumed)
		printf("Assumed: %s\n", r->assumed);
	for (size_t i = 0; i < r->milter_count; i++)
		print_milter(r, i);
	for (size_t i = 0; i < r->refused_count; i++) {
		printf("\nRecipient refused: ");
		put(r->refused[2 * i]);
		printf(": %.*s", (int)strcspn(r->refused[2 * i + 1], "\r"), r->refused[2 * i + 1]);
	}
	if (r->refused_count)
		putchar('\n');
	if (r->envelope)
		print_changes(r, colour);
	printf("\nVerdict: %s", message_test_outcome_name((enum message_test_outcome)r->result.outcome));
	if (r->result.outcome != MESSAGE_TEST_ACCEPTED)
		printf(" at %s%s%s", r->result.stage, by ? " by " : "", by ? by : "");
	printf(", %.1f ms\n%s: ", (double)r->result.us / 1000, r->result.outcome == MESSAGE_TEST_QUARANTINED ? "Reason" : "Reply");
	line_diff_put_safe(stdout, r->result.reply, strcspn(r->result.reply, "\r"));
	putchar('\n');
}

/* ---- for programs ---- */

/* Bytes that are no UTF-8 become U+FFFD. */
static json_t *text(const char *bytes, size_t len)
{
	json_t *whole = json_stringn(bytes, len);
	struct buf b = { 0 };

	for (size_t i = 0; !whole && i < len; i++) {
		if ((unsigned char)bytes[i] < 0x80)
			buf_append(&b, &bytes[i], 1);
		else
			buf_puts(&b, "\xef\xbf\xbd");
	}
	if (!whole)
		whole = json_stringn((const char *)buf_head(&b), buf_len(&b));
	buf_fini(&b);
	return whole;
}

static json_t *words(const char *s)
{
	return text(s, strlen(s));
}

static json_t *step_object(const struct ctl_test_report *r, const struct ipc_trace *t)
{
	const char *name = milter_name(r, t->milter);
	json_t *o = json_object(), *macros = json_object();
	struct buf b = { 0 };

	json_object_set_new(o, "milter", words(name ? name : ""));
	if (t->kind == IPC_TRACE_STEP) {
		json_object_set_new(o, "command", words(milter_command_name(t->command)));
		json_object_set_new(o, "argument", words(t->subject));
		json_object_set_new(o, "packets", json_integer(t->packets));
		json_object_set_new(o, "answer", t->reply ? words(milter_reply_name(t->reply)) : json_null());
		json_object_set_new(o, "reply", words(t->text));
		json_object_set_new(o, "us", json_integer((json_int_t)t->us));
		for (size_t i = 0; i < t->macro_count; i++)
			json_object_set_new(macros, t->macro[i].name, words(t->macro[i].value));
		json_object_set(o, "macros", macros);
	} else if (t->kind == IPC_TRACE_EDIT) {
		describe(&b, t);
		json_object_set_new(o, "change", text((const char *)buf_head(&b), buf_len(&b)));
	} else {
		json_object_set_new(o, "failure", words(t->text));
		json_object_set_new(o, "endpoint", words(t->subject));
	}
	json_decref(macros);
	buf_fini(&b);
	return o;
}

void ctl_test_report_print_json(const struct ctl_test_report *r)
{
	const char *by = milter_name(r, r->result.milter);
	json_t *o = json_object(), *steps = json_array(), *envelope = json_array();

	json_object_set_new(o, "verdict", words(message_test_outcome_name((enum message_test_outcome)r->result.outcome)));
	json_object_set_new(o, "stage", words(r->result.stage));
	json_object_set_new(o, "milter", by ? words(by) : json_null());
	json_object_set_new(o, "reply", words(r->result.reply));
	json_object_set_new(o, "us", json_integer((json_int_t)r->result.us));
	json_object_set_new(o, "listener", words(r->listener ? r->listener : ""));
	json_object_set_new(o, "assumed", words(r->assumed));
	for (size_t i = 0; i < r->step_count; i++)
		json_array_append_new(steps, step_object(r, &r->step[i]));
	json_object_set_new(o, "steps", steps);
	for (size_t i = 0; i < r->envelope_count; i++)
		json_array_append_new(envelope, words(r->envelope[i]));
	json_object_set_new(o, "envelope", r->envelope ? envelope : json_null());
	json_object_set_new(o, "message", r->envelope && buf_len(&r->after) ?
			    text((const char *)buf_head(&r->after), buf_len(&r->after)) : json_null());
	if (!r->envelope)
		json_decref(envelope);
	json_dumpf(o, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(o);
}
