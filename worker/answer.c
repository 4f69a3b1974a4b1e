#include "config.h"

#include "worker/answer.h"

#include <stddef.h>

#include "common/log.h"
#include "common/smtp_reply.h"

#define CLOSING 421	/* RFC 5321 3.8: the server closes the session */

static enum verdict take_reply_code(const char *text, struct arena *arena, uint64_t session, const char *milter,
	const char **reply)
{
	const char *why = "";

	*reply = smtp_reply_from_milter(arena, text, &why);
	if (!*reply)
		log_write(LOG_LEVEL_NOTICE, session, "event=milter-reply milter=%s cause=\"%s\" text=\"%s\"", milter,
			  why, text);
	else if (smtp_reply_code(*reply) == CLOSING)
		return VERDICT_SHUTDOWN;
	return text[0] == '5' ? VERDICT_REJECT : VERDICT_TEMPFAIL;
}

enum verdict answer_verdict(const struct backend_answer *answer, struct arena *arena, uint64_t session,
	const char *milter, const char **reply)
{
	*reply = NULL;
	switch (answer->reply) {
	case SMFIR_ACCEPT:
		return VERDICT_ACCEPT;
	case SMFIR_REJECT:
		return VERDICT_REJECT;
	case SMFIR_TEMPFAIL:
		return VERDICT_TEMPFAIL;
	case SMFIR_DISCARD:
		return VERDICT_DISCARD;
	case SMFIR_SHUTDOWN:
		return VERDICT_SHUTDOWN;
	case SMFIR_REPLYCODE:
		return take_reply_code(answer->text, arena, session, milter, reply);
	default:
		return VERDICT_CONTINUE;
	}
}
