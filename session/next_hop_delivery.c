#include "config.h"

#include "session/next_hop_delivery.h"

#include <inttypes.h>

#include "common/clock.h"
#include "common/log.h"

#define VECTORS	   64u
#define WRITE_SIZE (256u * 1024)
#define VERDICT_MS 600000	/* RFC 5321 4.5.3.2.6 */

#define REPLY_LATE	  "451 4.4.1 The next hop did not take the message in time\r\n"
#define REPLY_LOST	  "451 4.4.2 The connection to the next hop was lost\r\n"
#define REPLY_IN_DOUBT	  "451 4.4.2 The next hop did not answer to the end of the message\r\n"
#define REPLY_CLOSING	  "451 4.4.2 The next hop closes the connection\r\n"
#define REPLY_OUT_OF_STEP "451 4.4.2 The next hop answered out of turn\r\n"
#define REPLY_NO_COMMIT	  "451 4.3.0 The message was not committed\r\n"
#define REPLY_BROKEN	  "451 4.3.0 The message could not be sent\r\n"

static const char final_dot[] = ".\r\n";
#define DOT_LENGTH (sizeof(final_dot) - 1)

/* From DOT on there is no way back. */
enum stage { ENDED, CONTENT, GATE, DOT, VERDICT };

static void end(struct next_hop_delivery *d, bool committed, bool in_doubt, bool in_step, const char *reply)
{
	if (d->stage == ENDED)
		return;
	d->stage = ENDED;
	timer_clear(&d->limit);
	d->ops->on_end(d->ctx, committed, in_doubt, in_step, reply);
}

/* No answer will come any more. In doubt when the next hop may have seen the end of the message. */
static void end_without_reply(struct next_hop_delivery *d, const char *reply)
{
	bool in_doubt = d->dot_written > 0;

	end(d, false, in_doubt, false, in_doubt ? REPLY_IN_DOUBT : reply);
}

static void on_limit(struct timer *t)
{
	end_without_reply(t->ctx, REPLY_LATE);
}

/* The time for the next bytes: that of one write, but not beyond the deadline of the dot. */
static void set_limit(struct next_hop_delivery *d)
{
	int64_t left = d->deadline - clock_now_ms();

	timer_set(&d->limit, left < d->write_ms ? left : d->write_ms);
}

void next_hop_delivery_begin(struct next_hop_delivery *d, const struct output_piece *piece, size_t count,
	uint64_t planned)
{
	output_init(&d->output, piece, count);
	d->planned = planned;
	d->written = 0;
	d->dot_written = 0;
	d->stage = CONTENT;
	timer_init(&d->limit, on_limit, d);
	set_limit(d);
	next_hop_conn_want_write(d->conn, true);
}

void next_hop_delivery_fini(struct next_hop_delivery *d)
{
	timer_fini(&d->limit);
	d->stage = ENDED;
}

static void write_content(struct next_hop_delivery *d)
{
	struct iovec vectors[VECTORS];
	size_t count = output_next(&d->output, vectors, VECTORS, WRITE_SIZE);

	if (!count) {
		/* The dot waits for the next turn, so that what the next hop has said by then is heard first. */
		d->stage = GATE;
		return;
	}
	ssize_t n = next_hop_conn_write(d->conn, vectors, count);

	if (n < 0) {
		end_without_reply(d, REPLY_LOST);
	} else if (n > 0) {
		output_sent(&d->output, (size_t)n);
		d->written += (uint64_t)n;
		set_limit(d);
	}
}

/* Once the first byte of the dot is out the others must follow. */
static void write_dot(struct next_hop_delivery *d)
{
	struct iovec rest = { (char *)final_dot + d->dot_written, DOT_LENGTH - d->dot_written };
	ssize_t n = next_hop_conn_write(d->conn, &rest, 1);

	if (n < 0) {
		end_without_reply(d, REPLY_LOST);
		return;
	}
	d->dot_written += (size_t)n;
	if (d->dot_written < DOT_LENGTH)
		return;
	d->stage = VERDICT;
	timer_clear(&d->limit);
	next_hop_conn_want_write(d->conn, false);
	next_hop_conn_expect(d->conn, VERDICT_MS);
}

static void pass_gate(struct next_hop_delivery *d)
{
	if (!output_finished(&d->output) || d->written != d->planned) {
		log_write(LOG_LEVEL_ERROR, d->session, "event=smuggle-guard broken=%d written=%" PRIu64 " planned=%" PRIu64,
			  d->output.broken, d->written, d->planned);
		end(d, false, false, false, REPLY_BROKEN);
	} else if (!next_hop_conn_is_quiet(d->conn)) {
		/* What it says, or its end, is on its way to us; the limit stays for half a reply. */
		next_hop_conn_want_write(d->conn, false);
	} else if (clock_now_ms() >= d->deadline) {
		end(d, false, false, false, REPLY_LATE);
	} else if (!d->ops->may_commit(d->ctx)) {
		end(d, false, false, false, REPLY_NO_COMMIT);
	} else {
		d->stage = DOT;
		timer_set(&d->limit, VERDICT_MS);
		write_dot(d);
	}
}

void next_hop_delivery_writable(struct next_hop_delivery *d)
{
	switch (d->stage) {
	case CONTENT:
		write_content(d);
		break;
	case GATE:
		pass_gate(d);
		break;
	case DOT:
		write_dot(d);
		break;
	default:
		break;
	}
}

void next_hop_delivery_reply(struct next_hop_delivery *d, int code, const char *reply, bool owed)
{
	bool to_dot = owed && d->stage == VERDICT;

	/* An early refusal is the verdict, too. An early yes is no answer to this message: it must never pass for one. */
	if (to_dot && code < 300)
		end(d, true, false, true, reply);
	else if (code == 421)
		end(d, false, false, false, REPLY_CLOSING);
	else if (code >= 400)
		end(d, false, false, to_dot, reply);
	else
		end_without_reply(d, REPLY_OUT_OF_STEP);
}

void next_hop_delivery_lost(struct next_hop_delivery *d)
{
	end_without_reply(d, REPLY_LOST);
}
