#include "config.h"

#include "session/smtp_verbs.h"

#include "session/smtp_content.h"
#include "session/smtp_delivery.h"
#include "session/smtp_steps.h"

static const struct conf *conf;
static bool draining;

/* ---- the table ---- */

enum rule {
	RULE_OK, RULE_HELO_FIRST, RULE_NESTED_MAIL, RULE_NEED_MAIL, RULE_NEED_RCPT, RULE_REFUSED, RULE_DEFERRED,
};

static const struct {
	int code;
	const char *enhanced, *text;
} rules[] = {
	[RULE_OK] = { 0, "", "ok" },
	[RULE_HELO_FIRST] = { 503, "5.5.1", "Error: send HELO or EHLO first" },
	[RULE_NESTED_MAIL] = { 503, "5.5.1", "Error: nested MAIL command" },
	[RULE_NEED_MAIL] = { 503, "5.5.1", "Error: need MAIL command" },
	[RULE_NEED_RCPT] = { 554, "5.5.1", "Error: no valid recipients" },
	[RULE_REFUSED] = { 503, "5.7.1", "Error: access denied" },
	[RULE_DEFERRED] = { 450, "4.7.1", "Error: try again later" },
};

/* States that take commands, in which the verbs of a transaction differ; the other verbs are legal in all of them. */
static const struct {
	enum rule mail, rcpt, data, other;
} legal[SMTP_STATE_COUNT] = {
	[SMTP_STATE_GREETED] = { RULE_HELO_FIRST, RULE_HELO_FIRST, RULE_HELO_FIRST, RULE_OK },
	[SMTP_STATE_READY] = { RULE_OK, RULE_NEED_MAIL, RULE_NEED_MAIL, RULE_OK },
	[SMTP_STATE_MAIL] = { RULE_NESTED_MAIL, RULE_OK, RULE_NEED_RCPT, RULE_OK },
	[SMTP_STATE_RCPT] = { RULE_NESTED_MAIL, RULE_OK, RULE_OK, RULE_OK },
	[SMTP_STATE_REFUSED] = { RULE_REFUSED, RULE_REFUSED, RULE_REFUSED, RULE_REFUSED },
	[SMTP_STATE_DEFERRED] = { RULE_DEFERRED, RULE_DEFERRED, RULE_DEFERRED, RULE_DEFERRED },
};

static enum rule look_up(enum smtp_state state, enum smtp_verb verb)
{
	switch (verb) {
	case SMTP_MAIL: return legal[state].mail;
	case SMTP_RCPT: return legal[state].rcpt;
	case SMTP_DATA: return legal[state].data;
	case SMTP_QUIT:
	case SMTP_FOREIGN: return RULE_OK;
	default: return legal[state].other;
	}
}

void smtp_verbs_print_matrix(struct buf *b)
{
	static const char *const verbs[SMTP_VERBS] = {
		[SMTP_HELO] = "HELO", [SMTP_EHLO] = "EHLO", [SMTP_MAIL] = "MAIL", [SMTP_RCPT] = "RCPT", [SMTP_DATA] = "DATA",
		[SMTP_RSET] = "RSET", [SMTP_NOOP] = "NOOP", [SMTP_QUIT] = "QUIT", [SMTP_VRFY] = "VRFY", [SMTP_HELP] = "HELP",
		[SMTP_OTHER] = "other", [SMTP_FOREIGN] = "foreign",
	};
	static const struct {
		enum smtp_state state;
		const char *name;
	} states[] = {
		{ SMTP_STATE_GREETED, "greeted" }, { SMTP_STATE_READY, "ready" }, { SMTP_STATE_MAIL, "mail" },
		{ SMTP_STATE_RCPT, "rcpt" }, { SMTP_STATE_REFUSED, "refused" }, { SMTP_STATE_DEFERRED, "deferred" },
	};

	for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
		buf_printf(b, "%s:", states[i].name);
		for (int verb = 0; verb < SMTP_VERBS; verb++) {
			enum rule rule = look_up(states[i].state, (enum smtp_verb)verb);

			if (rule == RULE_OK)
				buf_printf(b, " %s=ok", verbs[verb]);
			else
				buf_printf(b, " %s=%d", verbs[verb], rules[rule].code);
		}
		buf_puts(b, "\n");
	}
}

/* ---- commands ---- */

/* RFC 2920 3.1: these end a group of commands, because what follows depends on their answer. A client that does not
 * wait is not speaking to us, but to a server it has made up. */
static bool must_be_last(enum smtp_verb verb)
{
	return verb == SMTP_HELO || verb == SMTP_EHLO || verb == SMTP_DATA;
}

static void run(struct smtp_session *s, const struct smtp_command *c)
{
	switch (c->verb) {
	case SMTP_HELO:
	case SMTP_EHLO:
		smtp_step_helo(s, c);
		break;
	case SMTP_MAIL:
		smtp_step_mail(s, c);
		break;
	case SMTP_RCPT:
		smtp_step_rcpt(s, c);
		break;
	case SMTP_DATA:
		smtp_step_data(s);
		break;
	case SMTP_RSET:
		smtp_tx_reset(s, true);
		smtp_session_say(s, 250, "2.0.0", "Ok");
		break;
	case SMTP_NOOP:
		smtp_session_say(s, 250, "2.0.0", "Ok");
		break;
	case SMTP_QUIT:
		smtp_step_hang_up(s, 221, "2.0.0", "closing connection");
		break;
	case SMTP_VRFY:
		smtp_session_say(s, 252, "2.0.0", "Cannot verify, but will try to deliver");
		break;
	case SMTP_HELP:
		smtp_session_say(s, 214, "2.0.0", "HELO EHLO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP");
		break;
	case SMTP_FOREIGN:
		smtp_step_hang_up(s, 221, "2.7.0", "Error: I can break rules, too. Goodbye");
		break;
	default:
		smtp_step_unknown(s, c);
	}
}

static void take_command(struct smtp_session *s, const struct smtp_command *c, bool more_behind)
{
	enum rule rule = look_up(s->state, c->verb);

	if (c->code == 521)
		smtp_step_hang_up(s, c->code, c->enhanced, c->why);
	else if (c->code && c->verb != SMTP_FOREIGN && c->verb != SMTP_OTHER)
		smtp_step_refuse(s, c->code, c->enhanced, c->why);
	else if (rule != RULE_OK)
		smtp_step_refuse(s, rules[rule].code, rules[rule].enhanced, rules[rule].text);
	else if (must_be_last(c->verb) && more_behind)
		smtp_step_hang_up(s, 554, "5.5.0", "Error: SMTP protocol synchronization");
	else
		run(s, c);
}

/* One line of the input. False: there is none yet. */
static bool take_line(struct smtp_session *s)
{
	static struct arena scratch;
	const struct smtp_terms terms = { .extensions = s->extensions, .utf8 = s->tx.utf8 };
	struct smtp_command c;
	const char *line;
	size_t len, size;

	if (!s->tx.queue_id[0])
		arena_reset(&s->tx_arena);
	switch (smtp_line_next(&s->lines, &s->in, &line, &len, &size)) {
	case SMTP_LINE_MORE:
		return false;
	case SMTP_LINE_LONG:
		smtp_step_refuse(s, 500, "5.5.2", "Error: line too long");
		break;
	case SMTP_LINE_BARE:
		smtp_step_refuse(s, 500, "5.5.2", "Error: bare carriage return, line feed or NUL in a command");
		break;
	case SMTP_LINE_ENDLESS:
		smtp_step_hang_up(s, 421, "4.7.0", "Error: line without end");
		return true;
	case SMTP_LINE_OK:
		/* Out of the buffer first: whatever the command does, it is taken. */
		smtp_command_parse(&scratch, &terms, line, len, &c);
		buf_consume(&s->in, size);
		take_command(s, &c, buf_len(&s->in) > 0);
		arena_reset(&scratch);
		return true;
	}
	buf_consume(&s->in, size);
	return true;
}

/* ---- input ---- */

static bool may_go_on(struct smtp_session *s)
{
	if (s->ended || s->closing || s->busy || smtp_session_is_full(s))
		return false;
	if (s->errors > (unsigned)s->listener->max_errors) {
		smtp_step_hang_up(s, 421, "4.7.0", "Error: too many errors");
		return false;
	}
	if (draining && s->state != SMTP_STATE_CONTENT) {
		smtp_step_hang_up(s, 421, "4.3.2", "Service shutting down");
		return false;
	}
	return true;
}

static void take_content(struct smtp_session *s)
{
	if (smtp_content_read(s))
		smtp_delivery_begin(s, conf);
}

/* True: something was taken, so the client has begun to be waited for anew. */
static bool take_what_is_there(struct smtp_session *s)
{
	bool took = false;

	while (may_go_on(s)) {
		if (s->state == SMTP_STATE_CONTENT) {
			smtp_session_flush(s);
			if (!s->ended)
				take_content(s);
			if (s->ended || s->state == SMTP_STATE_CONTENT)
				return took;
			took = true;
			continue;
		}
		if (!take_line(s))
			break;
		took = true;
		if (!s->ended && s->state == SMTP_STATE_CONTENT)
			smtp_session_expect(s, s->listener->timeout_data);
	}
	return took;
}

static void take_input(struct smtp_session *s)
{
	bool took = false, was_full;

	/* Commands that waited only for room for their replies are taken once there is some: nobody else comes back. */
	do {
		took |= take_what_is_there(s);
		was_full = smtp_session_is_full(s);
		if (s->ended || (s->state == SMTP_STATE_CONTENT && !was_full))
			return;
		smtp_session_flush(s);
	} while (was_full && !s->ended && !smtp_session_is_full(s));
	if (s->ended || s->busy || s->closing)
		return;
	if (s->eof)
		smtp_session_end(s);
	else if (took || !timer_active(&s->timer))
		smtp_session_expect(s, s->listener->timeout_command);
}

void smtp_verbs_begin(struct smtp_session *s, const struct conf *c)
{
	conf = c;
	s->on_input = take_input;
	smtp_step_connect(s, c);
	if (!s->busy)
		take_input(s);
	else
		smtp_session_flush(s);
}

void smtp_verbs_drain(void)
{
	draining = true;
}

void smtp_verbs_drain_idle(struct smtp_session *s)
{
	may_go_on(s);
}
