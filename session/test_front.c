#include "config.h"

#include "session/test_front.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <utlist.h>

#include "common/child.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/message_test.h"
#include "common/smtp_path.h"
#include "common/smtp_reply.h"
#include "session/assembly.h"
#include "session/session_macros.h"
#include "session/smtp_content.h"
#include "session/smtp_session.h"
#include "session/smtp_verdict.h"

#define REQUEST_MS	 60000			/* for the whole request */
#define ANSWER_MS	 60000			/* for a client to take the answer */
#define VERDICT_MS	 (10 * 60 * 1000)	/* the milters' own deadlines come first */
#define READ_SIZE	 65536u
#define OUT_KEPT	 (16u * 1024 * 1024)	/* bytes of the report that wait; above it steps are left out */
#define CONTENT_SIZE	 65536u			/* bytes of a CONTENT frame, about */
#define SESSION_ID_SHIFT 40
#define SESSION_ID_TEST	 ((uint64_t)1 << 39)	/* apart from the ids of clients */

enum phase { REQUEST, CONTENT, ASKING, ANSWERING };

struct test {
	struct io io;
	struct timer timer;
	struct deferred gone;
	enum phase phase;
	struct buf in, out;
	struct arena arena;
	struct message_test_request request;
	struct smtp_session client;	/* as the SMTP front would have it, without a connection */
	enum ipc_event_kind asked;
	size_t next_rcpt;
	int64_t began_us;
	struct output output;
	bool has_output;
	struct message_test_result result;
	struct test *prev, *next;
};

static const struct conf *conf;
static const char *hostname;
static struct test *tests;
static unsigned count;
static uint64_t last_id;

static void ask_next(struct test *);

/* ---- the end ---- */

static void on_gone(struct deferred *d)
{
	struct test *t = d->ctx;

	if (t->client.dispatch) {
		dispatch_abort(t->client.dispatch);
		dispatch_close(t->client.dispatch);
	}
	msgbuf_put(dispatch_content(), t->client.tx.content);
	arena_fini(&t->client.tx_arena);
	free(t->client.client_ptr);
	free(t->client.helo);
	arena_fini(&t->arena);
	buf_fini(&t->in);
	buf_fini(&t->out);
	timer_fini(&t->timer);
	DL_DELETE(tests, t);
	count--;
	free(t);
}

static void end(struct test *t)
{
	int fd = t->io.fd;

	if (!t->io.handle)
		return;
	io_fini(&t->io);
	fd_close(&fd);
	timer_clear(&t->timer);
	deferred_run(&t->gone);
}

/* ---- the answer ---- */

static void put_text(struct test *t, enum message_test_type type, const char *text)
{
	size_t at = message_test_begin(&t->out, type);

	wire_put_cstr(&t->out, text);
	message_test_end(&t->out, at);
}

static void put_result(struct test *t)
{
	size_t at = message_test_begin(&t->out, MESSAGE_TEST_RESULT);

	message_test_result_put(&t->out, &t->result);
	message_test_end(&t->out, at);
}

/* More of the content as a frame. */
static void put_content(struct test *t)
{
	struct iovec v[64];
	size_t n = output_next(&t->output, v, 64, CONTENT_SIZE), bytes = 0;
	size_t at = message_test_begin(&t->out, MESSAGE_TEST_CONTENT);

	for (size_t i = 0; i < n; i++) {
		buf_append(&t->out, v[i].iov_base, v[i].iov_len);
		bytes += v[i].iov_len;
	}
	message_test_end(&t->out, at);
	output_sent(&t->output, bytes);
	if (n)
		return;
	t->has_output = false;
	put_result(t);
}

static void flush(struct test *t)
{
	for (;;) {
		while (t->has_output && buf_len(&t->out) < CONTENT_SIZE)
			put_content(t);
		if (!buf_len(&t->out))
			break;
		ssize_t n = send(t->io.fd, buf_head(&t->out), buf_len(&t->out), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			end(t);
			return;
		}
		if (n < 0) {
			io_want(&t->io, IO_READ | IO_WRITE);
			return;
		}
		buf_consume(&t->out, (size_t)n);
	}
	io_want(&t->io, IO_READ);
	if (t->phase == ANSWERING)
		end(t);
}

static void answer(struct test *t)
{
	t->phase = ANSWERING;
	timer_set(&t->timer, ANSWER_MS);
	flush(t);
}

static void fail(struct test *t, const char *why)
{
	put_text(t, MESSAGE_TEST_ERROR, why);
	answer(t);
}

static void finish(struct test *t, enum message_test_outcome outcome, uint32_t milter, const char *reply)
{
	t->result = (struct message_test_result){
		.outcome = (uint8_t)outcome, .stage = ipc_event_name(t->asked), .milter = milter, .reply = reply,
		.us = (uint64_t)(clock_now_us() - t->began_us),
	};
	if (!t->has_output)
		put_result(t);
	answer(t);
}

/* ---- what the chain says ---- */

static void on_trace(void *ctx, const struct ipc_trace *report)
{
	struct test *t = ctx;

	if (buf_len(&t->out) > OUT_KEPT)
		return;
	size_t at = message_test_begin(&t->out, MESSAGE_TEST_TRACE);

	ipc_trace_put(&t->out, report);
	message_test_end(&t->out, at);
}

static void finish_refused(struct test *t, const struct ipc_verdict *v)
{
	struct smtp_session *s = &t->client;

	if (v->verdict == VERDICT_DISCARD)
		finish(t, MESSAGE_TEST_DISCARDED, v->milter, "250 2.0.0 Ok\r\n");
	else
		finish(t, v->verdict == VERDICT_REJECT ? MESSAGE_TEST_REJECTED : MESSAGE_TEST_TEMPFAILED, v->milter,
		       arena_strdup(&t->arena, smtp_verdict_reply(&s->tx_arena, v, hostname)));
}

static void put_path(struct buf *b, const struct envelope_path *path)
{
	struct buf text = { 0 };

	buf_printf(&text, "<%s>", path->address);
	for (size_t i = 0; i < path->param_count; i++)
		buf_printf(&text, " %s", path->param[i]);
	buf_append(&text, "", 1);
	wire_put_cstr(b, (const char *)buf_head(&text));
	buf_fini(&text);
}

static void put_envelope(struct test *t, const struct envelope *e)
{
	size_t at = message_test_begin(&t->out, MESSAGE_TEST_ENVELOPE);

	put_path(&t->out, &e->sender);
	wire_put_u32(&t->out, (uint32_t)e->rcpt_count);
	for (size_t i = 0; i < e->rcpt_count; i++)
		put_path(&t->out, &e->rcpt[i]);
	message_test_end(&t->out, at);
}

static void finish_passed(struct test *t, const struct edit_result *result)
{
	struct smtp_session *s = &t->client;
	struct envelope before = { .sender = s->tx.sender, .rcpt = s->tx.rcpt, .rcpt_count = s->tx.rcpt_count };
	size_t pieces;

	envelope_apply(&s->tx_arena, &before, result->op, result->op_count, &s->tx.final);
	put_envelope(t, &s->tx.final);

	const struct output_piece *piece = assembly_make(s, result, &pieces);

	if (!piece) {
		fail(t, "the worker's replaced body is missing");
		return;
	}
	output_init(&t->output, piece, pieces);
	t->has_output = true;
	if (result->quarantine)
		finish(t, MESSAGE_TEST_QUARANTINED, IPC_NOBODY, arena_strdup(&t->arena, result->quarantine));
	else if (!s->tx.final.rcpt_count)
		finish(t, MESSAGE_TEST_DISCARDED, IPC_NOBODY, "250 2.0.0 Ok\r\n");
	else
		finish(t, MESSAGE_TEST_ACCEPTED, IPC_NOBODY, "250 2.0.0 Ok\r\n");
}

static int on_eom_verdict(struct test *t, const struct ipc_verdict *v, struct wire *rest)
{
	struct smtp_session *s = &t->client;
	struct edit_result result = { 0 };

	if (verdict_is_refusal((enum verdict)v->verdict)) {
		finish_refused(t, v);
		return 0;
	}
	edit_result_take(rest, &s->tx_arena, s->tx.header_bytes, s->tx.header.length, &result);
	if (!wire_finished(rest)) {
		fail(t, "the worker's result is not legal");
		return -1;
	}
	finish_passed(t, &result);
	return 0;
}

static void accept_rcpt(struct test *t)
{
	struct smtp_tx *tx = &t->client.tx;

	tx->rcpt[tx->rcpt_count++] = tx->asked;
}

/* Only one recipient: the others may still be taken. */
static void refuse_rcpt(struct test *t, const struct ipc_verdict *v)
{
	struct smtp_session *s = &t->client;
	size_t at = message_test_begin(&t->out, MESSAGE_TEST_REFUSED);

	wire_put_cstr(&t->out, s->tx.asked.address);
	wire_put_cstr(&t->out, smtp_verdict_reply(&s->tx_arena, v, hostname));
	message_test_end(&t->out, at);
	dispatch_forget_rcpt(s->dispatch);
	if (v->verdict == VERDICT_SHUTDOWN || (!s->tx.rcpt_count && t->next_rcpt == t->request.rcpt_count))
		finish_refused(t, v);
	else
		ask_next(t);
}

static int on_verdict(void *ctx, const struct ipc_verdict *v, struct wire *rest)
{
	struct test *t = ctx;

	if (t->phase != ASKING)
		return 0;
	if (t->asked == IPC_EOM)
		return on_eom_verdict(t, v, rest);
	if (t->asked == IPC_RCPT && verdict_is_refusal((enum verdict)v->verdict) && v->verdict != VERDICT_DISCARD) {
		refuse_rcpt(t, v);
	} else if (verdict_is_refusal((enum verdict)v->verdict)) {
		finish_refused(t, v);
	} else {
		if (t->asked == IPC_RCPT)
			accept_rcpt(t);
		ask_next(t);
	}
	return 0;
}

/* ---- what the chain is asked ---- */

/* Our own macros, those of the request in their place; the others come with CONNECT. */
static size_t macros_of(struct test *t, enum ipc_event_kind kind, struct milter_macro *macro)
{
	size_t n = session_macros(&t->client, kind, macro);

	for (size_t m = 0; m < t->request.macro_count; m++) {
		const struct milter_macro *given = &t->request.macro[m];
		bool found = false;

		for (size_t i = 0; i < n; i++)
			if (strcmp(macro[i].name, given->name) == 0) {
				macro[i].value = given->value;
				found = true;
			}
		if (!found && kind == IPC_CONNECT && n < IPC_MACROS_MAX)
			macro[n++] = *given;
	}
	return n;
}

/* True: the answer comes later. */
static bool ask(struct test *t, const char **arg, size_t arg_count)
{
	struct milter_macro macro[IPC_MACROS_MAX];
	struct ipc_event event = { .kind = (uint8_t)t->asked, .arg = arg, .arg_count = arg_count, .macro = macro };

	event.macro_count = macros_of(t, t->asked, macro);
	return dispatch_event(t->client.dispatch, &event, NULL);
}

static bool ask_connect(struct test *t)
{
	struct smtp_session *s = &t->client;
	const bool local = !s->client_address[0];
	const char *name = t->request.client_name, *arg[4];

	arg[0] = *name ? name : local ? "localhost" : arena_printf(&t->arena, "[%s]", s->client_address);
	arg[1] = local ? "U" : strchr(s->client_address, ':') ? "6" : "4";
	arg[2] = arena_printf(&t->arena, "%u", s->client_port);
	arg[3] = s->client_address;
	return ask(t, arg, 4);
}

static bool ask_path(struct test *t, const char *address)
{
	const char *arg[] = { arena_printf(&t->arena, "<%s>", address) };

	return ask(t, arg, 1);
}

static bool ask_rcpt(struct test *t)
{
	struct smtp_tx *tx = &t->client.tx;

	tx->asked = (struct envelope_path){ .address = t->request.rcpt[t->next_rcpt++] };
	return ask_path(t, tx->asked.address);
}

static enum ipc_event_kind next_kind(const struct test *t)
{
	if ((t->asked == IPC_MAIL || t->asked == IPC_RCPT) && t->next_rcpt < t->request.rcpt_count)
		return IPC_RCPT;
	return t->asked == IPC_RCPT ? IPC_DATA : (enum ipc_event_kind)(t->asked + 1);
}

static bool ask_event(struct test *t)
{
	struct smtp_session *s = &t->client;
	struct ipc_event eom = { .kind = IPC_EOM };
	const char *helo[] = { s->helo };

	switch (t->asked) {
	case IPC_HELO:
		return ask(t, helo, 1);
	case IPC_MAIL:
		return ask_path(t, s->tx.sender.address);
	case IPC_RCPT:
		return ask_rcpt(t);
	case IPC_DATA:
		return ask(t, NULL, 0);
	default:
		return dispatch_event(s->dispatch, &eom, s->tx.content);
	}
}

static void ask_next(struct test *t)
{
	struct edit_result unchanged;

	do {
		t->asked = next_kind(t);
		timer_set(&t->timer, VERDICT_MS);
		if (ask_event(t))
			return;
		if (t->asked == IPC_RCPT)
			accept_rcpt(t);
	} while (t->asked != IPC_EOM);
	edit_result_unchanged(&t->client.tx_arena, t->client.tx.header.length, &unchanged);
	finish_passed(t, &unchanged);
}

/* ---- the request ---- */

static bool is_path(struct test *t, enum smtp_path_kind kind, const char *address)
{
	const char *why, *text = arena_printf(&t->arena, "<%s>", address);
	size_t used;

	return smtp_path_parse(&t->arena, kind, text, strlen(text), &used, &why) && used == strlen(text);
}

static bool is_address(const char *text)
{
	uint8_t number[16];

	return !*text || inet_pton(AF_INET, text, number) == 1 || inet_pton(AF_INET6, text, number) == 1;
}

/* What is wrong with it; NULL: nothing. */
static const char *find_fault(struct test *t)
{
	const struct message_test_request *r = &t->request;

	if (!is_address(r->client_address))
		return "the client's address is none";
	if (!*r->helo || strlen(r->helo) > 255 || strlen(r->client_name) > 255)
		return "a host name is empty or too long";
	if (!is_path(t, SMTP_PATH_REVERSE, r->sender))
		return "the sender is no mail address";
	if (!r->rcpt_count || r->rcpt_count > (size_t)t->client.listener->max_recipients)
		return "there is no recipient, or more than max-recipients";
	for (size_t i = 0; i < r->rcpt_count; i++)
		if (!is_path(t, SMTP_PATH_FORWARD, r->rcpt[i]))
			return "a recipient is no mail address";
	return NULL;
}

static const char *find_listener(struct test *t)
{
	struct smtp_session *s = &t->client;

	for (unsigned i = 0; i < conf->listener_count && !s->listener; i++)
		if (!*t->request.listener || strcmp(conf->listener[i].name, t->request.listener) == 0) {
			s->listener_number = i;
			s->listener = &conf->listener[i];
		}
	return s->listener ? NULL : "there is no such listener";
}

static void begin_client(struct test *t)
{
	struct smtp_session *s = &t->client;
	const struct message_test_request *r = &t->request;

	s->id = (uint64_t)(child_slot() + 1) << SESSION_ID_SHIFT | SESSION_ID_TEST | ++last_id;
	s->hostname = hostname;
	memcpy(s->client_address, r->client_address, strnlen(r->client_address, sizeof(s->client_address) - 1));
	s->client_port = r->client_port;
	s->esmtp = true;
	s->helo = mem_strdup(r->helo);
	if (*r->client_name) {
		s->client_ptr = mem_strdup(r->client_name);
		s->client_resolve = CLIENT_NAME_OK;
	}
	s->tx.sender = (struct envelope_path){ .address = r->sender };
	s->tx.rcpt = arena_alloc(&s->tx_arena, r->rcpt_count * sizeof(*s->tx.rcpt));
	queue_id_make(s->tx.queue_id, child_slot());
}

static void put_milters(struct test *t)
{
	const struct conf_listener *l = t->client.listener;
	size_t at = message_test_begin(&t->out, MESSAGE_TEST_MILTERS);

	wire_put_cstr(&t->out, l->name);
	wire_put_u32(&t->out, (uint32_t)l->chain_count);
	for (size_t i = 0; i < l->chain_count; i++) {
		wire_put_u32(&t->out, l->chain[i]);
		wire_put_cstr(&t->out, conf->milter[l->chain[i]].name);
	}
	message_test_end(&t->out, at);
}

static void take_request(struct test *t)
{
	struct message_test_frame frame;
	int got = message_test_next(&t->in, MESSAGE_TEST_REQUEST_MAX, &frame);

	if (got == 0)
		return;
	if (got > 0 && frame.type == MESSAGE_TEST_REQUEST)
		message_test_request_take(&frame.data, &t->arena, &t->request);
	if (got < 0 || frame.type != MESSAGE_TEST_REQUEST || !wire_finished(&frame.data)) {
		fail(t, "the request is malformed");
		return;
	}
	buf_consume(&t->in, frame.size);

	const char *fault = find_listener(t);

	if (!fault)
		fault = find_fault(t);
	if (!fault && !smtp_content_begin(&t->client))
		fault = "buffer-memory is used up";
	if (fault) {
		fail(t, fault);
		return;
	}
	begin_client(t);
	t->phase = CONTENT;
}

static void begin_asking(struct test *t)
{
	static const struct dispatch_ops ops = { .on_verdict = on_verdict, .on_trace = on_trace };
	struct smtp_session *s = &t->client;
	const char *refusal = smtp_content_refusal(s);

	t->phase = ASKING;
	t->began_us = clock_now_us();
	put_milters(t);
	if (refusal) {
		t->asked = IPC_EOM;
		finish(t, smtp_reply_code(refusal) >= 500 ? MESSAGE_TEST_REJECTED : MESSAGE_TEST_TEMPFAILED, IPC_NOBODY,
		       arena_strdup(&t->arena, refusal));
		return;
	}
	s->dispatch = dispatch_open(s->listener_number, s->id, &ops, t);
	t->asked = IPC_CONNECT;
	timer_set(&t->timer, VERDICT_MS);
	if (!ask_connect(t))
		ask_next(t);
}

/* The bytes that are there, from the front of the buffer: smtp_data wants room for what it holds back. */
static void take_content(struct test *t)
{
	struct smtp_tx *tx = &t->client.tx;
	size_t len = buf_len(&t->in), kept, rest;
	uint8_t *bytes = mem_alloc(len + 1), *kept_at;

	memcpy(bytes + 1, buf_head(&t->in), len);
	buf_clear(&t->in);
	bool is_end = smtp_data_take(&tx->data, bytes + 1, len, &kept_at, &kept, &rest);

	if (tx->content->len + kept > (size_t)t->client.listener->max_message_size)
		tx->failure = EMSGSIZE;
	else if (!tx->failure && msgbuf_append(dispatch_content(), tx->content, kept_at, kept) < 0)
		tx->failure = errno;
	free(bytes);
	if (is_end && !rest)
		begin_asking(t);
	else if (is_end)
		fail(t, "there is something behind the message");
}

static void take_input(struct test *t)
{
	if (t->phase == REQUEST)
		take_request(t);
	if (t->phase == CONTENT && buf_len(&t->in))
		take_content(t);
}

static void on_io(struct io *io, int events)
{
	struct test *t = io->ctx;

	if (events & IO_READ) {
		ssize_t n = recv(io->fd, buf_reserve(&t->in, READ_SIZE), READ_SIZE, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || (n > 0 && t->phase >= ASKING)) {
			end(t);
			return;
		}
		if (n > 0) {
			buf_commit(&t->in, (size_t)n);
			take_input(t);
		}
	}
	if ((events & IO_WRITE) && t->io.handle)
		flush(t);
}

static void on_timer(struct timer *timer)
{
	struct test *t = timer->ctx;

	if (t->phase == ANSWERING)
		end(t);
	else
		fail(t, t->phase == ASKING ? "no verdict in time" : "the request was not there in time");
}

/* ---- process ---- */

void test_front_init(const struct conf *c, const char *name)
{
	conf = c;
	hostname = name;
}

void test_front_add(int fd)
{
	struct test *t = mem_alloc(sizeof(*t));

	fd_set_nonblocking(fd);
	io_init(&t->io, fd, on_io, t);
	timer_init(&t->timer, on_timer, t);
	deferred_init(&t->gone, on_gone, t);
	DL_APPEND(tests, t);
	put_text(t, MESSAGE_TEST_HELLO, MESSAGE_TEST_VERSION);
	if (++count > TEST_FRONT_MAX) {
		fail(t, "too many tests at a time");
		return;
	}
	timer_set(&t->timer, REQUEST_MS);
	flush(t);
}

void test_front_fini(void)
{
	struct test *t, *next;

	DL_FOREACH_SAFE(tests, t, next) {
		end(t);
		deferred_cancel(&t->gone);
		on_gone(&t->gone);
	}
}
