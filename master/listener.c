#include "config.h"

#include "master/listener.h"

#include <errno.h>
#include <netdb.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/addr.h"
#include "common/conf_origin.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/mem.h"
#include "master/account.h"

struct listener {
	int fd;
	unsigned listener, endpoint;	/* numbers in the configuration */
	char *path;			/* of a UNIX socket, NULL otherwise */
	dev_t dev;			/* of the file that we made there */
	ino_t ino;
};

struct listeners {
	struct listener *item;
	size_t count;
};

/* What is being opened, and where its problems go. */
struct opening {
	struct listeners *to;
	const struct conf *conf;
	const struct addr *addr;
	unsigned listener, endpoint;
	struct buf *problems;
};

static int problem(const struct opening *o, const char *cause)
{
	conf_origin_print(o->problems, o->conf, CONF_LISTENER, o->listener, "bind");
	addr_print(o->problems, o->addr);
	buf_printf(o->problems, ": %s\n", cause);
	return -1;
}

static struct listener *add(const struct opening *o, int fd)
{
	struct listeners *l = o->to;

	l->item = mem_realloc(l->item, (l->count + 1) * sizeof(*l->item));
	l->item[l->count] = (struct listener){ .fd = fd, .listener = o->listener, .endpoint = o->endpoint };
	return &l->item[l->count++];
}

/* What stands in the way of a socket at this path. NULL: nothing any more; otherwise why it cannot be ours. */
static const char *clear_path(const struct sockaddr_un *addr)
{
	struct stat st;
	const char *cause = NULL;

	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT ? NULL : strerror(errno);
	if (!S_ISSOCK(st.st_mode))
		return "there is a file of that name which is no socket";

	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return strerror(errno);
	/* Only a refusal proves that nobody listens: a full backlog or missing permission is somebody. */
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN || errno == EPROTOTYPE)
		cause = "another process listens on it";
	else if (errno == ECONNREFUSED)
		cause = unlink(addr->sun_path) < 0 && errno != ENOENT ? strerror(errno) : NULL;
	else if (errno != ENOENT)
		cause = strerror(errno);
	close(fd);
	return cause;
}

/* uid and gid that the UNIX sockets of a listener get, -1 for unchanged. 0, or -1 with what is wrong in problems. */
static int find_owner(const struct conf *conf, size_t number, uid_t *uid, gid_t *gid, struct buf *problems)
{
	const struct conf_listener *l = &conf->listener[number];
	int result = 0;

	*uid = (uid_t)-1;
	*gid = (gid_t)-1;
	if (l->owner[0] != '\0') {
		const struct passwd *user = account_user(l->owner);

		if (user) {
			*uid = user->pw_uid;
			*gid = user->pw_gid;
		} else {
			result = account_missing(problems, conf, CONF_LISTENER, number, "owner", "user", l->owner);
		}
	}
	if (l->socket_group[0] != '\0' && account_group(l->socket_group, gid) < 0)
		result |= account_missing(problems, conf, CONF_LISTENER, number, "group", "group", l->socket_group);
	return result;
}

int listeners_find_owners(const struct conf *conf, struct buf *problems)
{
	int result = 0;
	uid_t uid;
	gid_t gid;

	for (size_t i = 0; i < conf->listener_count; i++)
		result |= find_owner(conf, i, &uid, &gid, problems);
	return result;
}

/* What the words of the system leave open. */
static const char *explain(const struct addr *addr, int error)
{
	if (addr->family == ADDR_UNIX && error == ENOENT)
		return "the folder of the socket does not exist";
	if (addr->family == ADDR_UNIX && error == EACCES)
		return "this user may not create files in the folder of the socket";
	if (addr->family != ADDR_UNIX && error == EACCES && addr->port < 1024)
		return "ports below 1024 need root, or CAP_NET_BIND_SERVICE";
	if (addr->family != ADDR_UNIX && error == EADDRINUSE)
		return "another process listens there, as ss -ltnp shows";
	if (error == EADDRNOTAVAIL)
		return "no interface of this machine has the address";
	return NULL;
}

static int failed(const struct opening *o, int error)
{
	const char *more = explain(o->addr, error);
	struct buf cause = { 0 };

	buf_puts(&cause, strerror(error));
	if (more)
		buf_printf(&cause, ": %s", more);
	buf_append(&cause, "", 1);
	problem(o, (const char *)buf_head(&cause));
	buf_fini(&cause);
	return -1;
}

/* Nobody can connect before listen(), so mode and owner are right from the first connection on. */
static int bind_unix(const struct opening *o, int fd, const struct sockaddr_un *addr)
{
	uid_t uid;
	gid_t gid;
	struct stat st;

	if (find_owner(o->conf, o->listener, &uid, &gid, o->problems) < 0)
		return -1;

	const char *cause = clear_path(addr);

	if (cause)
		return problem(o, cause);

	mode_t before = umask(0777 & ~(mode_t)o->conf->listener[o->listener].mode);
	int result = bind(fd, (const struct sockaddr *)addr, sizeof(*addr));

	umask(before);
	if (result < 0)
		return failed(o, errno);

	struct listener *l = add(o, fd);

	l->path = mem_strdup(addr->sun_path);
	if (lstat(addr->sun_path, &st) < 0)
		return problem(o, strerror(errno));
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	if (lchown(addr->sun_path, uid, gid) < 0) {
		const int error = errno;

		conf_origin_print(o->problems, o->conf, CONF_LISTENER, o->listener,
				  o->conf->listener[o->listener].owner[0] ? "owner" : "group");
		buf_printf(o->problems, "%s cannot be given away: %s%s\n", l->path, strerror(error), error == EPERM ?
			   "; only root can, or with group alone a member of that group" : "");
		return -1;
	}
	return listen(fd, SOMAXCONN) < 0 ? failed(o, errno) : 0;
}

static int open_unix(const struct opening *o)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = strlen(o->addr->path), had = o->to->count;

	if (len >= sizeof(addr.sun_path))
		return problem(o, strerror(ENAMETOOLONG));
	memcpy(addr.sun_path, o->addr->path, len);

	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return problem(o, strerror(errno));

	int result = bind_unix(o, fd, &addr);

	if (o->to->count == had)
		close(fd);
	return result;
}

/* A bound and listening socket, or -1 with errno. */
static int listen_on(const struct addrinfo *info)
{
	const int yes = 1;
	int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	/* Each family has its own socket, so that "*" does not depend on the machine's bindv6only. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0 ||
	    (info->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes)) < 0) ||
	    bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0)
		fd_close(&fd);
	return fd;
}

/* On a machine without IPv6 names still have such an address, and so has "*". */
static bool family_is_missing(int family, int error)
{
	return error == EAFNOSUPPORT || (family == AF_INET6 && error == EADDRNOTAVAIL);
}

/* A name may be given the same address twice, by several lines of /etc/hosts. */
static bool is_repeated(const struct addrinfo *all, const struct addrinfo *info)
{
	for (; all != info; all = all->ai_next)
		if (all->ai_addrlen == info->ai_addrlen && memcmp(all->ai_addr, info->ai_addr, info->ai_addrlen) == 0)
			return true;
	return false;
}

static int listen_on_all(const struct opening *o, const struct addrinfo *all)
{
	size_t had = o->to->count;
	int missing = 0;

	for (const struct addrinfo *info = all; info; info = info->ai_next) {
		if (is_repeated(all, info))
			continue;

		int fd = listen_on(info);

		if (fd >= 0)
			add(o, fd);
		else if (family_is_missing(info->ai_family, errno))
			missing = errno;
		else
			return failed(o, errno);
	}
	return o->to->count == had ? failed(o, missing ? missing : EADDRNOTAVAIL) : 0;
}

static int open_inet(const struct opening *o)
{
	static const int family[] = { [ADDR_INET] = AF_INET, [ADDR_INET6] = AF_INET6, [ADDR_ANY] = AF_UNSPEC };
	const struct addrinfo hints = {
		.ai_family = family[o->addr->family], .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
	};
	const bool everywhere = strcmp(o->addr->host, "*") == 0;
	struct addrinfo *all = NULL;
	char port[8];

	snprintf(port, sizeof(port), "%u", (unsigned)o->addr->port);

	int error = getaddrinfo(everywhere ? NULL : o->addr->host, port, &hints, &all);

	if (error)
		return problem(o, error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));

	int result = listen_on_all(o, all);

	freeaddrinfo(all);
	return result;
}

struct listeners *listeners_open(const struct conf *conf, struct buf *problems)
{
	struct listeners *l = mem_alloc(sizeof(*l));
	int result = 0;

	for (unsigned i = 0; i < conf->listener_count; i++) {
		for (unsigned j = 0; j < conf->listener[i].bind.count; j++) {
			const struct opening o = {
				.to = l, .conf = conf, .addr = &conf->listener[i].bind.item[j],
				.listener = i, .endpoint = j, .problems = problems,
			};

			result |= o.addr->family == ADDR_UNIX ? open_unix(&o) : open_inet(&o);
		}
	}
	if (result < 0) {
		listeners_close(l);
		l = NULL;
	}
	return l;
}

size_t listeners_count(const struct listeners *l)
{
	return l->count;
}

int listeners_get(const struct listeners *l, size_t which, unsigned *listener, unsigned *endpoint)
{
	*listener = l->item[which].listener;
	*endpoint = l->item[which].endpoint;
	return l->item[which].fd;
}

/* Another daemon may have taken the path over meanwhile. */
static void remove_file(const struct listener *l)
{
	struct stat st;

	if (lstat(l->path, &st) < 0 || st.st_dev != l->dev || st.st_ino != l->ino)
		return;
	if (unlink(l->path) < 0)
		log_warning("event=listener path=%s cause=\"the socket cannot be removed: %s\"", l->path,
			    strerror(errno));
}

void listeners_close(struct listeners *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->count; i++) {
		if (l->item[i].path)
			remove_file(&l->item[i]);
		free(l->item[i].path);
		fd_close(&l->item[i].fd);
	}
	free(l->item);
	free(l);
}
