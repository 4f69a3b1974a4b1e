/* load.c - an SMTP client (RFC 5321) with many sessions that sends messages and tries again as an MTA does
 *
 * Every message is made from the seed and its number, so an attempt is byte for byte the same as the last one. What was
 * sent is in the spool, what came of each attempt in the journal. A message is final with a 2xx for its dot or a 5xx;
 * after a 4xx or a lost connection it is sent again. Exit status 0 when that came of all.
 */
#include "config.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "tests/instruments/load_journal.h"
#include "tests/instruments/load_message.h"
#include "tests/instruments/reactor.h"
#include "tests/instruments/spool.h"

#define SESSIONS_MAX  1024
#define RCPTS_MAX     32
#define REPLY_MAX     (64u * 1024)
#define RECONNECT_MS  50

/* What the next reply answers. Between MAIL and DATA, step counts: MAIL is 0, the recipients, DATA is the last. */
enum state { OFFLINE, BANNER, EHLO, ENVELOPE, DOT, RSET, QUIT };

struct session {
	struct stream stream;	/* first: callbacks get this */
	enum state state;
	unsigned served;	/* messages of this connection */
	bool pipelining;
	int64_t deadline_ms;	/* for the reply */
	/* the message in hand */
	bool busy;
	uint64_t number;
	unsigned rcpts, steps_sent, steps_answered;
	bool mail_taken, accepted[RCPTS_MAX];
	char refusal[512];	/* the reply that decides, "" while nothing has been refused */
	int64_t begun_us, dot_us;
};

struct retry {
	uint64_t number;
	int64_t due_ms;
};

static struct {
	const char *to, *journal, *spool;
	uint64_t messages;
	unsigned sessions, per_session, attempts_max;
	int64_t retry_ms, timeout_ms, patience_ms;
	bool pipelining;
	struct load_plan plan;
} options = {
	.messages = 1, .sessions = 1, .per_session = 10, .attempts_max = 100, .retry_ms = 200, .timeout_ms = 60000,
	.patience_ms = 60000, .pipelining = true, .plan = { .seed = 1, .size_min = 4096, .size_max = 4096, .rcpts_max = 1 },
};

static uint8_t *attempts;		/* by message */
static uint64_t next_fresh, final, given_up;	/* final: those given up too */
static struct retry *retries;		/* a ring in the order of their times; a message is in it once at most */
static uint64_t retry_first, retry_count;
static int64_t progress_ms;		/* when a message became final, or the start */
static int spool = -1;
static struct buf content;		/* of the message that is being encoded */

static bool take_message(uint64_t *number)
{
	if (retry_count > 0 && retries[retry_first].due_ms <= clock_now_ms()) {
		*number = retries[retry_first].number;
		retry_first = (retry_first + 1) % options.messages;
		retry_count--;
		return true;
	}
	if (next_fresh == options.messages)
		return false;
	*number = next_fresh++;
	return true;
}

static void message_is_final(void)
{
	progress_ms = clock_now_ms();
	if (++final == options.messages)
		reactor_stop();
}

static void list_rcpts(const struct session *s, char *text, size_t size)
{
	size_t len = 0;
	unsigned k;

	snprintf(text, size, "-");
	for (k = 0; k < s->rcpts; k++)
		if (s->accepted[k])
			len += (size_t)snprintf(text + len, size - len, "%s%u", len ? "," : "", k);
}

/* The attempt in hand is over. */
static void finish(struct session *s, enum load_outcome outcome, const char *stage, const char *reply)
{
	char rcpts[RCPTS_MAX * 4];
	int64_t now = clock_now_us();
	struct load_attempt attempt = {
		.number = s->number, .attempt = attempts[s->number], .outcome = outcome, .stage = stage, .rcpts = rcpts,
		.reply = reply, .total_us = now - s->begun_us, .dot_us = now - s->dot_us,
	};

	list_rcpts(s, rcpts, sizeof(rcpts));
	load_journal_add(&attempt);
	s->busy = false;
	if (outcome == LOAD_TAKEN || outcome == LOAD_REFUSED) {
		message_is_final();
	} else if (attempts[s->number] == options.attempts_max) {
		attempt.outcome = LOAD_GIVEN_UP;
		given_up++;
		load_journal_add(&attempt);
		message_is_final();
	} else {
		retries[(retry_first + retry_count++) % options.messages] =
			(struct retry){ s->number, clock_now_ms() + options.retry_ms };
	}
}

static void expect(struct session *s, enum state state)
{
	s->state = state;
	s->deadline_ms = clock_now_ms() + options.timeout_ms;
}

static void send_step(struct session *s)
{
	struct buf *out = &s->stream.out;
	unsigned step = s->steps_sent++;

	if (step == 0) {
		buf_puts(out, "MAIL FROM:");
		load_message_sender(out, s->number);
		buf_puts(out, "\r\n");
	} else if (step <= s->rcpts) {
		buf_puts(out, "RCPT TO:");
		load_message_rcpt(out, s->number, step - 1);
		buf_puts(out, "\r\n");
	} else {
		buf_puts(out, "DATA\r\n");
	}
}

static void send_steps(struct session *s)
{
	do
		send_step(s);
	while (s->pipelining && s->steps_sent < s->rcpts + 2);
	expect(s, ENVELOPE);
}

static void record_sent(const struct session *s)
{
	struct buf envelope = { 0 };
	unsigned k;

	buf_puts(&envelope, "FROM ");
	load_message_sender(&envelope, s->number);
	for (k = 0; k < s->rcpts; k++) {
		buf_puts(&envelope, "\nTO ");
		load_message_rcpt(&envelope, s->number, k);
	}
	buf_puts(&envelope, "\n");
	buf_clear(&content);
	load_message_content(&options.plan, s->number, &content);
	spool_write(spool, s->number, "sent", &envelope, &content);
	buf_fini(&envelope);
}

/* The connection is ready for a message, or for the end. */
static void begin_message(struct session *s)
{
	if (s->served == options.per_session || !take_message(&s->number)) {
		if (s->served == 0) {
			/* Nothing to do until a retry is due. */
			s->state = OFFLINE;
			s->stream.hang_up = true;
			return;
		}
		buf_puts(&s->stream.out, "QUIT\r\n");
		expect(s, QUIT);
		return;
	}
	s->busy = true;
	s->served++;
	s->rcpts = load_message_rcpts(&options.plan, s->number);
	s->steps_sent = s->steps_answered = 0;
	s->mail_taken = false;
	memset(s->accepted, 0, sizeof(s->accepted));
	s->refusal[0] = '\0';
	s->begun_us = s->dot_us = clock_now_us();
	if (++attempts[s->number] == 1 && spool >= 0)
		record_sent(s);
	send_steps(s);
}

static void send_content(struct session *s)
{
	buf_clear(&content);
	load_message_content(&options.plan, s->number, &content);
	load_message_encode(&s->stream.out, &content);
	s->dot_us = clock_now_us();
	expect(s, DOT);
}

static const char *step_name(const struct session *s, unsigned step)
{
	return step == 0 ? "mail" : step <= s->rcpts ? "rcpt" : "data";
}

static enum load_outcome outcome_of(const char *reply)
{
	return reply[0] == '2' ? LOAD_TAKEN : reply[0] == '5' ? LOAD_REFUSED : LOAD_DEFERRED;
}

/* What a refused recipient means for the message: a 4xx one is tried again with the whole message. */
static void note_refusal(struct session *s, const char *reply)
{
	if (s->refusal[0] != '4')
		snprintf(s->refusal, sizeof(s->refusal), "%s", reply);
}

static bool any_accepted(const struct session *s)
{
	unsigned k;

	for (k = 0; k < s->rcpts; k++)
		if (s->accepted[k])
			return true;
	return false;
}

static void end_without_content(struct session *s, const char *stage)
{
	finish(s, outcome_of(s->refusal), stage, s->refusal);
	buf_puts(&s->stream.out, "RSET\r\n");
	expect(s, RSET);
}

static void take_envelope_reply(struct session *s, const char *reply)
{
	unsigned step = s->steps_answered++;
	bool last = step == s->rcpts + 1, refused;

	if (step == 0)
		s->mail_taken = reply[0] == '2';
	else if (!last)
		s->accepted[step - 1] = s->mail_taken && reply[0] == '2';
	if (reply[0] != (last ? '3' : '2') && (step == 0 || s->mail_taken))
		note_refusal(s, reply);
	refused = !s->mail_taken || s->refusal[0] == '4' || (step >= s->rcpts && !any_accepted(s));
	if (last && reply[0] == '3') {
		if (refused) {
			/* It wants content although nobody takes it: there is no other way out. */
			finish(s, outcome_of(s->refusal), "rcpt", s->refusal);
			s->stream.hang_up = true;
		} else {
			send_content(s);
		}
	} else if (last) {
		end_without_content(s, "data");
	} else if (s->steps_answered == s->steps_sent) {
		if (refused)
			end_without_content(s, step_name(s, step));
		else
			send_steps(s);
	}
}

static void take_reply(struct session *s, const char *reply, bool pipelining)
{
	if (strncmp(reply, "421", 3) == 0) {
		if (s->busy)
			finish(s, LOAD_DEFERRED, s->state == DOT ? "dot" : step_name(s, s->steps_answered), reply);
		s->stream.hang_up = true;
		return;
	}
	switch (s->state) {
	case BANNER:
		if (reply[0] != '2') {
			s->stream.hang_up = true;
			return;
		}
		buf_puts(&s->stream.out, "EHLO load.example\r\n");
		expect(s, EHLO);
		break;
	case EHLO:
		s->pipelining = options.pipelining && pipelining;
		if (reply[0] == '2')
			begin_message(s);
		else
			s->stream.hang_up = true;
		break;
	case ENVELOPE:
		take_envelope_reply(s, reply);
		break;
	case DOT:
		finish(s, outcome_of(reply), "dot", reply);
		begin_message(s);
		break;
	case RSET:
		begin_message(s);
		break;
	case QUIT:
	case OFFLINE:
		s->stream.hang_up = true;
		break;
	}
}

/* Length of a complete reply at the start of the input, 0 when there is more to come, -1 when it is none. */
static ssize_t reply_length(const struct buf *in)
{
	const uint8_t *line = buf_head(in), *end = line + buf_len(in), *lf;

	while (line < end && (lf = memchr(line, '\n', (size_t)(end - line)))) {
		if (lf - line < 4 || lf[-1] != '\r' || line[0] < '2' || line[0] > '5')
			return -1;
		if (line[3] != '-')
			return lf + 1 - buf_head(in);
		line = lf + 1;
	}
	return buf_len(in) > REPLY_MAX ? -1 : 0;
}

/* The first line as a string that fits in one field of the journal. */
static void first_line(const struct buf *in, char *text, size_t size)
{
	size_t len = strcspn((const char *)buf_head(in), "\r"), i;

	len = len < size - 1 ? len : size - 1;
	for (i = 0; i < len; i++)
		text[i] = buf_head(in)[i] >= ' ' ? (char)buf_head(in)[i] : '?';
	text[len] = '\0';
}

/* The connection ends without the reply that was due. */
static void lose(struct session *s)
{
	if (s->busy && s->state == DOT && buf_len(&s->stream.out) == 0)
		finish(s, LOAD_DOUBT, "dot", "-");
	else if (s->busy)
		finish(s, LOAD_LOST, s->state == DOT ? "content" : step_name(s, s->steps_answered), "-");
	s->stream.hang_up = true;
}

static void go_online(struct session *s)
{
	bool work = next_fresh < options.messages ||
		(retry_count > 0 && retries[retry_first].due_ms <= clock_now_ms());

	s->served = 0;
	expect(s, BANNER);
	if (!work || stream_connect(&s->stream, options.to) < 0) {
		s->state = OFFLINE;
		s->stream.wake_ms = clock_now_ms() + RECONNECT_MS;
	}
	if (clock_now_ms() - progress_ms > options.patience_ms) {
		warnx("no message has got through for %" PRId64 " ms", options.patience_ms);
		reactor_stop();
	}
}

static void on_event(struct stream *stream)
{
	struct session *s = (struct session *)stream;
	char reply[512];
	ssize_t len;

	if (stream->fd < 0) {
		go_online(s);
		return;
	}
	while (!stream->hang_up && buf_len(&stream->in) > 0 && (len = reply_length(&stream->in)) != 0) {
		bool pipelining;

		if (len < 0) {
			lose(s);
			return;
		}
		first_line(&stream->in, reply, sizeof(reply));
		pipelining = memmem(buf_head(&stream->in), (size_t)len, "PIPELINING", 10) != NULL;
		buf_consume(&stream->in, (size_t)len);
		take_reply(s, reply, pipelining);
	}
	if ((stream->ended && !stream->hang_up) || clock_now_ms() >= s->deadline_ms)
		lose(s);
	stream->wake_ms = s->deadline_ms;
}

static void on_closed(struct stream *stream)
{
	struct session *s = (struct session *)stream;

	/* A new connection at once, but not in a tight loop when the other side refuses every one. */
	stream->wake_ms = clock_now_ms() + (s->served ? 0 : RECONNECT_MS);
	s->state = OFFLINE;
}

static void usage(void)
{
	fputs("usage: load --to ENDPOINT [--messages N] [--sessions N] [--per-session N] [--size MIN[-MAX]] [--rcpts MAX]\n"
	      "            [--seed N] [--journal FILE] [--spool FILE] [--attempts MAX] [--retry-ms MS] [--timeout-ms MS]\n"
	      "            [--patience-ms MS] [--no-pipelining]\n", stderr);
	exit(64);
}

static void parse_size(char *text)
{
	char *end;

	options.plan.size_min = options.plan.size_max = strtoull(text, &end, 10);
	if (*end == '-')
		options.plan.size_max = strtoull(end + 1, &end, 10);
	if (*end || options.plan.size_max < options.plan.size_min || options.plan.size_max > 1u << 30)
		usage();
}

static void parse_options(int argc, char **argv)
{
	static const struct option names[] = {
		{ "to", 1, NULL, 't' }, { "messages", 1, NULL, 'n' }, { "sessions", 1, NULL, 'c' },
		{ "per-session", 1, NULL, 'm' }, { "size", 1, NULL, 'z' }, { "rcpts", 1, NULL, 'r' }, { "seed", 1, NULL, 's' },
		{ "journal", 1, NULL, 'j' }, { "spool", 1, NULL, 'o' }, { "attempts", 1, NULL, 'a' },
		{ "retry-ms", 1, NULL, 'w' }, { "timeout-ms", 1, NULL, 'T' }, { "patience-ms", 1, NULL, 'P' },
		{ "no-pipelining", 0, NULL, 'p' }, { NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 't': options.to = optarg; break;
		case 'n': options.messages = strtoull(optarg, NULL, 10); break;
		case 'c': options.sessions = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'm': options.per_session = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'z': parse_size(optarg); break;
		case 'r': options.plan.rcpts_max = (unsigned)strtoul(optarg, NULL, 10); break;
		case 's': options.plan.seed = strtoull(optarg, NULL, 10); break;
		case 'j': options.journal = optarg; break;
		case 'o': options.spool = optarg; break;
		case 'a': options.attempts_max = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'w': options.retry_ms = strtol(optarg, NULL, 10); break;
		case 'T': options.timeout_ms = strtol(optarg, NULL, 10); break;
		case 'P': options.patience_ms = strtol(optarg, NULL, 10); break;
		case 'p': options.pipelining = false; break;
		default: usage();
		}
	}
	if (!options.to || optind != argc || options.messages == 0 || options.messages > 1u << 30 ||
	    options.sessions == 0 || options.sessions > SESSIONS_MAX || options.per_session == 0 ||
	    options.attempts_max == 0 || options.attempts_max > UINT8_MAX || options.plan.rcpts_max == 0 ||
	    options.plan.rcpts_max > RCPTS_MAX)
		usage();
}

int main(int argc, char **argv)
{
	struct session *sessions;
	int64_t start;
	unsigned i;

	parse_options(argc, argv);
	reactor_init();
	attempts = mem_array(options.messages, sizeof(*attempts));
	retries = mem_array(options.messages, sizeof(*retries));
	sessions = mem_array(options.sessions, sizeof(*sessions));
	load_journal_open(options.journal, options.messages);
	spool = spool_open(options.spool);
	start = clock_now_us();
	progress_ms = clock_now_ms();
	for (i = 0; i < options.sessions; i++) {
		sessions[i].stream.on_event = on_event;
		sessions[i].stream.on_closed = on_closed;
		sessions[i].stream.wake_ms = clock_now_ms();
		stream_init(&sessions[i].stream, -1);
	}
	reactor_run();
	load_journal_finish((double)(clock_now_us() - start) / 1e6);
	for (i = 0; i < options.sessions; i++)
		stream_fini(&sessions[i].stream);
	free(sessions);
	free(attempts);
	free(retries);
	buf_fini(&content);
	return final == options.messages && given_up == 0 ? 0 : 1;
}
