#include "config.h"

#include "session/next_hop_steps.h"

#include <assert.h>
#include <stdlib.h>

#include "common/mem.h"

void next_hop_steps_start(struct next_hop_steps *s, const struct envelope *plan, bool with_data, size_t first)
{
	free(s->refusal);
	*s = (struct next_hop_steps){ .plan = plan, .with_data = with_data, .to_send = first, .to_answer = first };
}

void next_hop_steps_fini(struct next_hop_steps *s)
{
	free(s->refusal);
	s->refusal = NULL;
}

static size_t end_of_steps(const struct next_hop_steps *s)
{
	return next_hop_data_step(s) + s->with_data;
}

static bool may_send(const struct next_hop_steps *s, const struct smtp_offers *offers)
{
	if (s->to_send == end_of_steps(s) || s->refusal)
		return false;
	return s->to_send == s->to_answer || (offers->pipelining && s->to_send < next_hop_data_step(s));
}

static void put_step(const struct next_hop_steps *s, struct buf *b, const struct smtp_offers *offers, uint64_t size)
{
	if (s->to_send == NEXT_HOP_RSET)
		buf_puts(b, "RSET\r\n");
	else if (s->to_send == NEXT_HOP_MAIL)
		smtp_offers_put_mail(b, offers, &s->plan->sender, size, smtp_offers_needs_utf8(s->plan));
	else if (s->to_send < next_hop_data_step(s))
		smtp_offers_put_rcpt(b, offers, &s->plan->rcpt[s->to_send - NEXT_HOP_RCPT]);
	else
		buf_puts(b, "DATA\r\n");
}

unsigned next_hop_steps_put(struct next_hop_steps *s, struct buf *b, const struct smtp_offers *offers, uint64_t size)
{
	unsigned owed = 0;

	for (; may_send(s, offers); s->to_send++, owed++)
		put_step(s, b, offers, size);
	return owed;
}

static bool makes_sense(const struct next_hop_steps *s, int code)
{
	/* 421 is a goodbye whatever the command was (RFC 5321 3.8), and nothing can be refused about RSET. */
	if (code == 421 || (s->to_answer == NEXT_HOP_RSET && code >= 300))
		return false;
	return code >= 400 || (s->to_answer < next_hop_data_step(s) ? code < 300 : code == 354);
}

enum next_hop_result next_hop_steps_take(struct next_hop_steps *s, int code, const char *reply)
{
	assert(s->to_answer < s->to_send);
	if (!makes_sense(s, code))
		return NEXT_HOP_NONSENSE;
	if (code >= 400 && !s->refusal) {
		s->refused = s->to_answer;
		s->refusal = mem_strdup(reply);
	}
	s->to_answer++;
	if (s->to_answer < s->to_send)
		return NEXT_HOP_WAIT;
	if (s->refusal)
		return NEXT_HOP_REFUSED;
	return s->to_answer < end_of_steps(s) ? NEXT_HOP_SEND : NEXT_HOP_ACCEPTED;
}
