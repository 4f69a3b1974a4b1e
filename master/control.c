#include "config.h"

#include "master/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>
#include <utlist.h>

#include "common/conf_option.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"

#define CLIENTS_MAX 32
#define CLIENT_MS   5000	/* from connection to request, and from answer to its last byte */
#define REST_MS	    1000	/* after accept() failed */
#define GROUPS_MAX  65536
#define SOCKET_MODE 0660

struct client {
	struct client *prev, *next;
	int fd;
	struct io io;
	struct timer deadline;
	struct buf in, out;
	struct ucred who;
	bool hold;
};

static struct {
	control_command_fn *command;
	struct client *clients;
	unsigned count;
	struct io io;
	struct timer rest;
	char *path;
	dev_t dev;			/* of the file that we made */
	ino_t ino;
	int fd;
} control = { .fd = -1 };

/* ---- the socket ---- */

static int problem(struct buf *problems, const char *path, const char *what)
{
	buf_printf(problems, "control-socket %s: %s\n", path, what);
	return -1;
}

/* The folder of its own, when it is not there. */
static int make_folder(const char *path, const struct privileges *p, struct buf *problems)
{
	if (mkdir(path, 0755) < 0)
		return errno == EEXIST ? 0 : problem(problems, path, strerror(errno));
	if (p->separate && chown(path, p->master.uid, p->master.gid) < 0)
		return problem(problems, path, strerror(errno));
	return 0;
}

/* A socket that a dead daemon left is in the way; anything else there is not ours. */
static const char *clear_path(const struct sockaddr_un *addr)
{
	struct stat st;
	int fd, error;

	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT ? NULL : strerror(errno);
	if (!S_ISSOCK(st.st_mode))
		return "there is a file of that name which is no socket";
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	error = fd < 0 || connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 ? 0 : errno;
	fd_close(&fd);
	if (error != ECONNREFUSED)
		return "another process listens on it";
	return unlink(addr->sun_path) < 0 && errno != ENOENT ? strerror(errno) : NULL;
}

static int bind_socket(const struct sockaddr_un *addr, const struct privileges *p, struct buf *problems)
{
	const char *path = addr->sun_path, *cause = clear_path(addr);
	mode_t before = umask(0777 & ~SOCKET_MODE);
	struct stat st;
	int result = cause ? -1 : bind(control.fd, (const struct sockaddr *)addr, sizeof(*addr));

	umask(before);
	if (result < 0)
		return problem(problems, path, cause ? cause : strerror(errno));
	control.path = mem_strdup(path);
	if (lstat(path, &st) < 0 || (p->separate && lchown(path, p->master.uid, p->master.gid) < 0) ||
	    listen(control.fd, SOMAXCONN) < 0)
		return problem(problems, path, strerror(errno));
	control.dev = st.st_dev;
	control.ino = st.st_ino;
	return 0;
}

static int open_socket(const char *path, const struct privileges *p, struct buf *problems)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = strlen(path);

	if (len >= sizeof(addr.sun_path))
		return problem(problems, path, strerror(ENAMETOOLONG));
	memcpy(addr.sun_path, path, len);
	control.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (control.fd < 0)
		return problem(problems, path, strerror(errno));
	return bind_socket(&addr, p, problems);
}

int control_open(const struct conf *conf, const struct privileges *p, bool *required, struct buf *problems)
{
	char *path = conf_control_socket(conf);
	bool own_folder = conf->milterd.control_socket[0] == '\0';
	int result = own_folder ? make_folder(conf->milterd.runtime_directory, p, problems) : 0;

	*required = !conf_option_is_default(CONF_MILTERD, "control-socket", &conf->milterd) ||
		    !conf_option_is_default(CONF_MILTERD, "runtime-directory", &conf->milterd);
	if (result == 0)
		result = open_socket(path, p, problems);
	if (result < 0)
		control_close();
	free(path);
	return result;
}

/* ---- one connection ---- */

static void accept_again(void)
{
	if (control.fd >= 0 && control.count < CLIENTS_MAX)
		io_want(&control.io, IO_READ);
}

static void client_free(struct client *c)
{
	DL_DELETE(control.clients, c);
	control.count--;
	io_fini(&c->io);
	timer_fini(&c->deadline);
	fd_close(&c->fd);
	buf_fini(&c->in);
	buf_fini(&c->out);
	free(c);
	accept_again();
}

static void on_deadline(struct timer *t)
{
	client_free(t->ctx);
}

/* False: the connection is gone. */
static bool send_answer(struct client *c)
{
	while (buf_len(&c->out)) {
		ssize_t n = send(c->fd, buf_head(&c->out), buf_len(&c->out), MSG_NOSIGNAL);

		if (n > 0) {
			buf_consume(&c->out, (size_t)n);
		} else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			io_want(&c->io, IO_WRITE);
			return true;
		} else {
			client_free(c);
			return false;
		}
	}
	if (!c->hold) {
		client_free(c);
		return false;
	}
	timer_clear(&c->deadline);
	io_want(&c->io, IO_READ);
	return true;
}

static void log_request(const struct client *c, const struct control_request *request, int status)
{
	struct buf words = { 0 };

	for (size_t i = 0; i < request->count; i++)
		buf_printf(&words, i ? " %s" : "%s", request->word[i]);
	buf_append(&words, "", 1);
	log_info("event=control uid=%ld gid=%ld pid=%ld status=%d command=\"%s\"", (long)c->who.uid, (long)c->who.gid,
		 (long)c->who.pid, status, (const char *)buf_head(&words));
	buf_fini(&words);
}

static void carry_out(struct client *c, const struct control_request *request)
{
	struct control_result result = control.command(request);
	char *json = json_dumps(result.object, JSON_COMPACT);

	log_request(c, request, result.status);
	control_answer_put(&c->out, (uint32_t)result.status, json, strlen(json));
	free(json);
	json_decref(result.object);
	c->hold = result.hold;
	buf_clear(&c->in);
	timer_set(&c->deadline, CLIENT_MS);
	send_answer(c);
	if (result.then)
		result.then();
}

static void read_request(struct client *c)
{
	const size_t room = CONTROL_REQUEST_MAX + 5 - buf_len(&c->in);
	ssize_t n = recv(c->fd, buf_reserve(&c->in, room), room, 0);
	struct control_request request;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || c->hold) {
		client_free(c);
		return;
	}
	buf_commit(&c->in, (size_t)n);
	switch (control_request_take(&c->in, &request)) {
	case 1:
		carry_out(c, &request);
		break;
	case 0:
		break;
	default:
		log_debug("event=control-illegal uid=%ld pid=%ld cause=\"it is no request\"", (long)c->who.uid,
			  (long)c->who.pid);
		client_free(c);
	}
}

static void on_client(struct io *io, int events)
{
	struct client *c = io->ctx;

	(void)events;
	if (buf_len(&c->out))
		send_answer(c);
	else
		read_request(c);
}

/* ---- who may ---- */

static bool in_our_group(int fd, const struct ucred *who)
{
	gid_t own = getegid(), *group;
	socklen_t len = 0;
	bool found = who->gid == own;

	/* The first call fails and says how many there are. */
	if (found || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) == 0 || errno != ERANGE ||
	    len > GROUPS_MAX * sizeof(gid_t))
		return found;
	group = mem_alloc(len);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, group, &len) == 0)
		for (size_t i = 0; i < len / sizeof(gid_t); i++)
			found |= group[i] == own;
	free(group);
	return found;
}

static bool may_command(int fd, struct ucred *who)
{
	socklen_t len = sizeof(*who);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, who, &len) == 0 &&
	       (who->uid == 0 || who->uid == geteuid() || in_our_group(fd, who));
}

static void refuse(int fd, const struct ucred *who)
{
	static const char json[] = "{\"error\":\"only root, the user of milterd and members of its group are obeyed\"}";
	struct buf b = { 0 };

	log_debug("event=control-refused uid=%ld gid=%ld pid=%ld", (long)who->uid, (long)who->gid, (long)who->pid);
	control_answer_put(&b, EX_NOPERM, json, sizeof(json) - 1);
	(void)send(fd, buf_head(&b), buf_len(&b), MSG_NOSIGNAL | MSG_DONTWAIT);
	buf_fini(&b);
	close(fd);
}

static void begin_client(int fd)
{
	struct ucred who = { 0 };

	if (!may_command(fd, &who)) {
		refuse(fd, &who);
		return;
	}

	struct client *c = mem_alloc(sizeof(*c));

	c->fd = fd;
	c->who = who;
	DL_APPEND(control.clients, c);
	control.count++;
	io_init(&c->io, fd, on_client, c);
	io_want(&c->io, IO_READ);
	timer_init(&c->deadline, on_deadline, c);
	timer_set(&c->deadline, CLIENT_MS);
}

/* One at a time: the children's records are as urgent. */
static void on_listener(struct io *io, int events)
{
	int fd = accept4(control.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0) {
		begin_client(fd);
		if (control.count >= CLIENTS_MAX)
			io_want(io, 0);
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		log_warning("event=control cause=\"accept: %s\"", strerror(errno));
		io_want(io, 0);
		timer_set(&control.rest, REST_MS);
	}
}

static void on_rested(struct timer *t)
{
	(void)t;
	accept_again();
}

void control_start(control_command_fn *command)
{
	if (control.fd < 0)
		return;
	control.command = command;
	io_init(&control.io, control.fd, on_listener, NULL);
	timer_init(&control.rest, on_rested, NULL);
	io_want(&control.io, IO_READ);
}

void control_close(void)
{
	struct client *c, *next;
	struct stat st;

	io_fini(&control.io);
	timer_fini(&control.rest);
	fd_close(&control.fd);
	DL_FOREACH_SAFE(control.clients, c, next)
		client_free(c);
	if (control.path && lstat(control.path, &st) == 0 && st.st_dev == control.dev && st.st_ino == control.ino)
		unlink(control.path);
	free(control.path);
	control.path = NULL;
}
