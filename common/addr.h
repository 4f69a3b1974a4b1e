/* addr.h - endpoints as written in configuration: inet:HOST:PORT, inet6:[ADDR]:PORT, unix:/PATH, HOST:PORT */
#ifndef MILTERD_ADDR_H
#define MILTERD_ADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/buf.h"

#define ADDR_TEXT_SIZE 46u	/* bytes of a numeric address as text, with its NUL */

enum addr_family { ADDR_UNIX, ADDR_INET, ADDR_INET6, ADDR_ANY };	/* ADDR_ANY: HOST:PORT without a prefix */

struct addr {
	enum addr_family family;
	char *host;		/* a name or a number without brackets, "*" for all addresses (listeners); owned; NULL for unix */
	uint16_t port;
	char *path;		/* unix; owned */
};

struct addr_socket {
	struct sockaddr_storage storage;
	socklen_t len;
};

/* 0, or -1 with *why in words (static, to be put behind the text: "has no port: HOST:PORT"); then nothing is to be
 * freed. */
int addr_parse(struct addr *, const char *text, const char **why);
/* The same for a host alone: a name, an IPv4 address or an IPv6 address without brackets. */
int addr_host_check(const char *host, const char **why);
void addr_copy(struct addr *to, const struct addr *from);
void addr_fini(struct addr *);
/* In the notation that addr_parse() reads. */
void addr_print(struct buf *, const struct addr *);
/* Fill in the socket address without asking anybody: true for unix and numeric hosts (and "*"). */
bool addr_numeric(const struct addr *, struct addr_socket *);
/* Whether both mean the same endpoint as far as that can be told without asking anybody. */
bool addr_same(const struct addr *, const struct addr *);
/* "192.0.2.1", "2001:db8::1" (no zone, v4-mapped as v4) or "" for unix, and the port. text has room for
 * ADDR_TEXT_SIZE bytes. */
void addr_socket_text(const struct addr_socket *, char *text, uint16_t *port);

#endif
