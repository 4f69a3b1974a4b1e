#include "config.h"

#include "session/received.h"

#include <string.h>
#include <time.h>

static const char *harmless(struct arena *a, const char *text)
{
	char *copy = arena_strdup(a, text);

	for (char *p = copy; *p; p++)
		if (*p <= ' ' || *p >= 0x7f || strchr("()\\\"<>;", *p))
			*p = '?';
	return *copy ? copy : "unknown";
}

static const char *date(struct arena *a, long long now)
{
	static const char days[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	time_t seconds = (time_t)now;
	struct tm utc;

	gmtime_r(&seconds, &utc);
	return arena_printf(a, "%s, %d %s %d %02d:%02d:%02d +0000", days[utc.tm_wday], utc.tm_mday, months[utc.tm_mon],
			    utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

/* "[192.0.2.1]" and "[IPv6:2001:db8::1]", RFC 5321 4.1.3. */
static const char *literal(struct arena *a, const char *address)
{
	return arena_printf(a, "[%s%s]", strchr(address, ':') ? "IPv6:" : "", address);
}

const char *received_make(struct arena *a, const struct received *r, long long now, size_t *len)
{
	const char *from = harmless(a, r->helo);
	const char *client = r->client_address[0] ?
		arena_printf(a, "%s %s", harmless(a, r->client_name), literal(a, r->client_address)) : "local";
	const char *rcpt = r->only_rcpt && !strpbrk(r->only_rcpt, "()\\\"<> ") && strlen(r->only_rcpt) < 200 ?
		arena_printf(a, "\r\n\tfor <%s>", r->only_rcpt) : "";
	const char *field = arena_printf(a, "Received: from %s (%s)\r\n\tby %s with %s id %s%s;\r\n\t%s\r\n", from, client,
					 r->hostname, r->esmtp ? "ESMTP" : "SMTP", r->queue_id, rcpt, date(a, now));

	*len = strlen(field);
	return field;
}
