#include "config.h"

#include "common/addr.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "common/mem.h"

#define HOST_MAX   253u	/* RFC 1035 2.3.4, as text without the trailing dot */
#define LABEL_MAX  63u
#define PATH_LIMIT (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

static bool is_ipv4(const char *host)
{
	struct in_addr address;

	return inet_pton(AF_INET, host, &address) == 1;
}

static bool is_ipv6(const char *host)
{
	struct in6_addr address;

	return inet_pton(AF_INET6, host, &address) == 1;
}

static bool is_name(const char *host)
{
	size_t label = 0, len = strlen(host);

	if (len > 1 && host[len - 1] == '.')
		len--;
	if (!len || len > HOST_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)host[i];

		if (c == '.' ? label == 0 : !isalnum(c) && c != '-' && c != '_')
			return false;
		if (c == '-' && label == 0)
			return false;
		label = c == '.' ? 0 : label + 1;
		if (label > LABEL_MAX)
			return false;
	}
	return label > 0;
}

int addr_host_check(const char *host, const char **why)
{
	if (strchr(host, ':')) {
		*why = "is not a valid IPv6 address";
		return is_ipv6(host) ? 0 : -1;
	}
	if (*host && strspn(host, "0123456789.") == strlen(host)) {
		*why = "is not a valid IPv4 address";
		return is_ipv4(host) ? 0 : -1;
	}
	*why = *host ? "is not a valid host name: letters, digits, '-', '_' and dots between them" : "has no host";
	return is_name(host) ? 0 : -1;
}

static int parse_port(const char *text, uint16_t *port, const char **why)
{
	size_t len = strlen(text);
	unsigned long number = 0;

	*why = "has no valid port: a number from 1 to 65535";
	if (!len || strspn(text, "0123456789") != len)
		return -1;
	for (; *text && number <= UINT16_MAX; text++)
		number = number * 10 + (unsigned long)(*text - '0');
	if (number < 1 || number > UINT16_MAX)
		return -1;
	*port = (uint16_t)number;
	return 0;
}

/* HOST:PORT or [ADDR]:PORT. */
static int parse_host_port(struct addr *a, const char *text, const char **why)
{
	const char *host = text, *end, *port;

	if (strchr(text, '@')) {
		*why = "has a '@': host and port are written HOST:PORT, not PORT@HOST";
		return -1;
	}
	if (*text == '[') {
		host = text + 1;
		end = strchr(host, ']');
		if (!end || end[1] != ':') {
			*why = end ? "has no port: [ADDR]:PORT" : "has no closing bracket: [ADDR]:PORT";
			return -1;
		}
		port = end + 2;
	} else {
		end = strrchr(text, ':');
		if (!end) {
			*why = "has no port: HOST:PORT";
			return -1;
		}
		port = end + 1;
		if (memchr(text, ':', (size_t)(end - text))) {
			*why = "has too many colons; an IPv6 address is written inet6:[ADDR]:PORT";
			return -1;
		}
	}
	if (parse_port(port, &a->port, why) < 0)
		return -1;
	a->host = mem_strndup(host, (size_t)(end - host));
	if (*text == '[' && !is_ipv6(a->host))
		*why = "has no valid IPv6 address in its brackets";
	else if (strcmp(a->host, "*") != 0 && addr_host_check(a->host, why) < 0)
		; /* *why is set */
	else if (a->family == ADDR_INET && is_ipv6(a->host))
		*why = "has an IPv6 address; that is written inet6:[ADDR]:PORT";
	else if (a->family == ADDR_INET6 && is_ipv4(a->host))
		*why = "has an IPv4 address; that is written inet:ADDR:PORT";
	else
		return 0;
	free(a->host);
	a->host = NULL;
	return -1;
}

static int parse_path(struct addr *a, const char *path, const char **why)
{
	if (*path != '/') {
		*why = "has no absolute path: unix:/PATH";
		return -1;
	}
	if (strlen(path) > PATH_LIMIT) {
		*why = "has too long a path: a UNIX socket's has at most 107 bytes";
		return -1;
	}
	a->path = mem_strdup(path);
	return 0;
}

int addr_parse(struct addr *a, const char *text, const char **why)
{
	static_assert(PATH_LIMIT == 107, "said so above");
	*a = (struct addr){ .family = ADDR_ANY };
	*why = NULL;
	if (!strncmp(text, "unix:", 5)) {
		a->family = ADDR_UNIX;
		return parse_path(a, text + 5, why);
	}
	if (*text == '/' || !strncmp(text, "local:", 6)) {
		*why = "is not an endpoint; a UNIX socket is written unix:/PATH";
		return -1;
	}
	if (!strncmp(text, "inet:", 5)) {
		a->family = ADDR_INET;
		return parse_host_port(a, text + 5, why);
	}
	if (!strncmp(text, "inet6:", 6)) {
		a->family = ADDR_INET6;
		return parse_host_port(a, text + 6, why);
	}
	return parse_host_port(a, text, why);
}

void addr_copy(struct addr *to, const struct addr *from)
{
	*to = *from;
	to->host = from->host ? mem_strdup(from->host) : NULL;
	to->path = from->path ? mem_strdup(from->path) : NULL;
}

void addr_fini(struct addr *a)
{
	free(a->host);
	free(a->path);
	*a = (struct addr){ 0 };
}

void addr_print(struct buf *b, const struct addr *a)
{
	static const char *const prefix[] = { [ADDR_INET] = "inet:", [ADDR_INET6] = "inet6:", [ADDR_ANY] = "" };
	if (a->family == ADDR_UNIX)
		buf_printf(b, "unix:%s", a->path);
	else
		buf_printf(b, strchr(a->host, ':') ? "%s[%s]:%u" : "%s%s:%u", prefix[a->family], a->host, a->port);
}

static void set_ipv4(struct addr_socket *s, struct in_addr address, uint16_t port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&s->storage;

	in->sin_family = AF_INET;
	in->sin_addr = address;
	in->sin_port = htons(port);
	s->len = sizeof(*in);
}

static void set_ipv6(struct addr_socket *s, const struct in6_addr *address, uint16_t port)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&s->storage;

	in6->sin6_family = AF_INET6;
	in6->sin6_addr = *address;
	in6->sin6_port = htons(port);
	s->len = sizeof(*in6);
}

bool addr_numeric(const struct addr *a, struct addr_socket *s)
{
	struct in_addr v4 = { .s_addr = htonl(INADDR_ANY) };
	struct in6_addr v6 = in6addr_any;

	memset(s, 0, sizeof(*s));
	if (a->family == ADDR_UNIX) {
		struct sockaddr_un *un = (struct sockaddr_un *)&s->storage;
		size_t len = strlen(a->path);

		assert(len <= PATH_LIMIT);
		un->sun_family = AF_UNIX;
		memcpy(un->sun_path, a->path, len + 1);
		s->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	} else if (!strcmp(a->host, "*")) {
		if (a->family == ADDR_INET)
			set_ipv4(s, v4, a->port);
		else
			set_ipv6(s, &v6, a->port);
	} else if (inet_pton(AF_INET, a->host, &v4) == 1) {
		set_ipv4(s, v4, a->port);
	} else if (inet_pton(AF_INET6, a->host, &v6) == 1) {
		set_ipv6(s, &v6, a->port);
	} else {
		return false;
	}
	return true;
}

bool addr_same(const struct addr *a, const struct addr *b)
{
	struct addr_socket one, other;

	if (addr_numeric(a, &one))
		return addr_numeric(b, &other) && one.len == other.len &&
			!memcmp(&one.storage, &other.storage, one.len);
	return !addr_numeric(b, &other) && a->family == b->family && a->port == b->port &&
		!strcasecmp(a->host, b->host);
}

void addr_socket_text(const struct addr_socket *s, char *text, uint16_t *port)
{
	*text = '\0';
	*port = 0;
	if (s->storage.ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)&s->storage;

		inet_ntop(AF_INET, &in->sin_addr, text, ADDR_TEXT_SIZE);
		*port = ntohs(in->sin_port);
	} else if (s->storage.ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&s->storage;
		const uint8_t *bytes = in6->sin6_addr.s6_addr;

		if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
			inet_ntop(AF_INET, bytes + 12, text, ADDR_TEXT_SIZE);
		else
			inet_ntop(AF_INET6, bytes, text, ADDR_TEXT_SIZE);
		*port = ntohs(in6->sin6_port);
	}
}
