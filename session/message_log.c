#include "config.h"

#include "session/message_log.h"

#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/smtp_reply.h"
#include "common/verdict.h"

#define RCPTS_SHOWN 10u

/* A value of a peer that could be read as another key is quoted. */
static void put_value(struct buf *b, const char *value)
{
	if (*value && !strpbrk(value, " \"=")) {
		buf_puts(b, value);
		return;
	}
	buf_puts(b, "\"");
	for (; *value; value++)
		buf_append(b, *value == '"' ? "'" : value, 1);
	buf_puts(b, "\"");
}

static void put_pair(struct buf *b, const char *key, const char *value)
{
	buf_printf(b, " %s=", key);
	put_value(b, value);
}

static void put_reply(struct buf *b, const char *reply)
{
	struct buf text = { 0 };

	smtp_reply_print(&text, reply);
	buf_append(&text, "", 1);
	put_pair(b, "reply", (const char *)buf_head(&text));
	buf_fini(&text);
}

/* Their number, and the first ones by name. */
static void put_rcpts(struct buf *b, const struct smtp_tx *tx)
{
	struct buf list = { 0 };

	for (size_t i = 0; i < tx->rcpt_count && i < RCPTS_SHOWN; i++)
		buf_printf(&list, "%s%s", i ? "," : "", tx->rcpt[i].address);
	buf_append(&list, "", 1);
	buf_printf(b, " rcpts=%zu", tx->rcpt_count);
	put_pair(b, "to", (const char *)buf_head(&list));
	buf_fini(&list);
}

static void put_client(struct buf *b, const struct smtp_session *s)
{
	put_pair(b, "listener", s->listener->name);
	put_pair(b, "client", s->client_address[0] ? s->client_address : "local");
	put_pair(b, "helo", s->helo ? s->helo : "");
}

static void write_line(const struct smtp_session *s, struct buf *b)
{
	buf_append(b, "", 1);
	log_write(LOG_LEVEL_INFO, s->id, "%s", (const char *)buf_head(b));
	buf_fini(b);
}

void message_log_finished(const struct smtp_session *s, const struct conf *conf, const char *verdict, const char *reply)
{
	const struct smtp_tx *tx = &s->tx;
	struct buf b = { 0 };

	buf_printf(&b, "%s event=message", tx->queue_id);
	put_client(&b, s);
	put_pair(&b, "from", tx->sender.address);
	put_rcpts(&b, tx);
	buf_printf(&b, " size=%llu", (unsigned long long)tx->size);
	for (size_t i = 0; i < tx->said_count; i++) {
		const struct ipc_said *said = &tx->said[i];

		buf_printf(&b, " milter.%s=%s%s/%u", conf->milter[said->milter].name,
			   verdict_name((enum verdict)said->verdict), said->failed ? "(failed)" : "", said->ms);
	}
	buf_printf(&b, " verdict=%s edits=%zu", verdict, tx->edits);
	put_reply(&b, reply);
	put_pair(&b, "next-hop", s->next_hop ? next_hop_name(s->next_hop) : "");
	buf_printf(&b, " ms=%lld", (long long)(clock_now_ms() - tx->began_ms));
	write_line(s, &b);
}

void message_log_refused(const struct smtp_session *s, const struct conf *conf, const char *stage, uint32_t milter,
	const char *reply)
{
	struct buf b = { 0 };

	if (s->tx.queue_id[0])
		buf_printf(&b, "%s ", s->tx.queue_id);
	buf_printf(&b, "event=refused stage=%s", stage);
	put_client(&b, s);
	if (s->tx.queue_id[0])
		put_pair(&b, "from", s->tx.sender.address);
	if (s->tx.asked.address)
		put_pair(&b, "rcpt", s->tx.asked.address);
	if (milter != IPC_NOBODY)
		put_pair(&b, "milter", conf->milter[milter].name);
	put_reply(&b, reply);
	write_line(s, &b);
}
