#include "config.h"

#include "session/smtp_verdict.h"

#include "common/smtp_reply.h"
#include "common/verdict.h"

const char *smtp_verdict_reply(struct arena *a, const struct ipc_verdict *v, const char *hostname)
{
	int code = v->reply ? smtp_reply_code(v->reply) : 0;

	switch ((enum verdict)v->verdict) {
	case VERDICT_REJECT:
		return code >= 500 ? v->reply : smtp_reply_make(a, 550, "5.7.1", "Command rejected");
	case VERDICT_SHUTDOWN:
		return code == 421 ? v->reply : smtp_reply_make(a, 421, "4.7.0", arena_printf(a, "%s closing connection", hostname));
	default:
		return code >= 400 && code < 500 ? v->reply :
			smtp_reply_make(a, 451, "4.7.1", "Service unavailable - try again later");
	}
}
