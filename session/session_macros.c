#include "config.h"

#include "session/session_macros.h"

#include <string.h>
#include <time.h>

struct list {
	struct milter_macro *macro;
	size_t count;
};

static void add(struct list *l, const char *name, const char *value)
{
	if (value && *value)
		l->macro[l->count++] = (struct milter_macro){ name, value };
}

static const char *number(struct arena *a, unsigned value)
{
	return arena_printf(a, "%u", value);
}

/* Both MTAs write IPv6 addresses with a prefix here. */
static const char *address(struct arena *a, const char *text)
{
	return strchr(text, ':') ? arena_printf(a, "IPv6:%s", text) : text;
}

static const char *domain_of(const char *path)
{
	const char *at = strrchr(path, '@');

	return at ? at + 1 : "";
}

static const char *date(struct arena *a)
{
	time_t now = time(NULL);
	struct tm utc;
	char text[40];

	gmtime_r(&now, &utc);
	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S +0000", &utc);
	return arena_strdup(a, text);
}

static void add_connection(struct list *l, struct smtp_session *s)
{
	struct arena *a = &s->tx_arena;
	const char *client = address(a, s->client_address), *local = address(a, s->local_address);
	const char *name = smtp_session_client_name(s);

	add(l, "j", s->hostname);
	add(l, "v", PACKAGE_NAME " " PACKAGE_VERSION);
	add(l, "Z", PACKAGE_VERSION);
	add(l, "{daemon_name}", s->listener->name);
	if (!s->client_address[0]) {
		add(l, "_", "localhost");
		return;
	}
	add(l, "_", arena_printf(a, "%s [%s]%s", s->client_ptr ? s->client_ptr : "unknown", s->client_address,
				 s->client_resolve == CLIENT_NAME_FORGED ? " (may be forged)" : ""));
	add(l, "{daemon_addr}", local);
	add(l, "{daemon_port}", number(a, s->local_port));
	add(l, "{if_addr}", local);
	add(l, "{if_name}", s->hostname);
	add(l, "{client_addr}", client);
	add(l, "{client_name}", name ? name : arena_printf(a, "[%s]", s->client_address));
	add(l, "{client_ptr}", s->client_ptr);
	add(l, "{client_resolve}", client_name_result_text(s->client_resolve));
	add(l, "{client_port}", number(a, s->client_port));
}

static void add_mail(struct list *l, struct smtp_session *s)
{
	add(l, "i", s->tx.queue_id);
	add(l, "{mail_mailer}", "smtp");
	add(l, "{mail_host}", domain_of(s->tx.sender.address));
	add(l, "{mail_addr}", s->tx.sender.address);
	add(l, "r", s->esmtp ? "ESMTP" : "SMTP");
	add(l, "s", s->helo);
	add(l, "b", date(&s->tx_arena));
}

size_t session_macros(struct smtp_session *s, enum ipc_event_kind kind, struct milter_macro *macro)
{
	struct list l = { .macro = macro };

	switch (kind) {
	case IPC_CONNECT:
		add_connection(&l, s);
		break;
	case IPC_MAIL:
		add_mail(&l, s);
		break;
	case IPC_RCPT:
		add(&l, "{rcpt_mailer}", "smtp");
		add(&l, "{rcpt_host}", domain_of(s->tx.asked.address));
		add(&l, "{rcpt_addr}", s->tx.asked.address);
		break;
	default:
		break;
	}
	return l.count;
}
