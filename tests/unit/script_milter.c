#include "config.h"

#include "tests/unit/script_milter.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/milter_codec.h"

#define CONNECTIONS 64
#define CHECK_MS    1

struct script_line {
	struct script_milter *milter;
	unsigned number;
	struct io io;
	struct buf in, told, macros, body;
	unsigned seen[256];	/* commands */
};

struct script_milter {
	struct script script;
	struct io listener;
	char *path;
	struct script_line *line[CONNECTIONS];
	unsigned count;
};

static void end_line(struct script_line *l)
{
	int fd = l->io.fd;

	if (!l->io.handle)
		return;
	io_fini(&l->io);
	fd_close(&fd);
}

static void say(struct script_line *l, const void *bytes, size_t len)
{
	if (l->io.handle && len)
		assert(send(l->io.fd, bytes, len, MSG_NOSIGNAL) >= -1);
}

static void note(struct script_line *l, const char *text, size_t len)
{
	if (buf_len(&l->told))
		buf_puts(&l->told, " ");
	buf_append(&l->told, text, len);
}

static void note_packet(struct script_line *l, const struct milter_packet *p)
{
	char text[120];
	const char *argument = (const char *)p->data;
	int len = 0;

	switch (p->command) {
	case SMFIC_CONNECT:
	case SMFIC_HELO:
	case SMFIC_MAIL:
	case SMFIC_RCPT:
	case SMFIC_HEADER:
	case SMFIC_UNKNOWN:
		len = snprintf(text, sizeof(text), "%c(%.*s)", p->command, (int)strnlen(argument, p->len), argument);
		break;
	case SMFIC_BODY:
		len = snprintf(text, sizeof(text), "B(%zu)", p->len);
		buf_append(&l->body, p->data, p->len);
		break;
	default:
		len = snprintf(text, sizeof(text), "%c", p->command);
	}
	note(l, text, (size_t)len);
}

static void note_macros(struct script_line *l, const struct milter_packet *p)
{
	struct milter_command command;
	const char *why;

	if (milter_command_decode(p, &command, &why) < 0)
		return;
	buf_printf(&l->macros, "%s%c:", buf_len(&l->macros) ? " " : "", command.macro.stage);
	for (size_t i = 0; i < command.macro.count; i++)
		buf_printf(&l->macros, "%s%s=%s", i ? "," : "", command.macro.item[i].name,
			   command.macro.item[i].value);
}

static void negotiate(struct script_line *l)
{
	const struct script *s = &l->milter->script;
	struct milter_optneg answer = {
		.version = s->version ? s->version : 6,
		.actions = s->version ? s->actions : SMFIF_ALL,
		.protocol = s->protocol,
	};
	struct buf out = { 0 };

	milter_put_optneg(&out, &answer);
	say(l, buf_head(&out), buf_len(&out));
	buf_fini(&out);
}

static bool is_answered(const struct script *s, uint8_t command)
{
	static const struct {
		uint8_t command;
		uint32_t nr;
	} rows[] = {
		{ SMFIC_CONNECT, SMFIP_NR_CONN }, { SMFIC_HELO, SMFIP_NR_HELO }, { SMFIC_MAIL, SMFIP_NR_MAIL },
		{ SMFIC_RCPT, SMFIP_NR_RCPT }, { SMFIC_DATA, SMFIP_NR_DATA }, { SMFIC_HEADER, SMFIP_NR_HDR },
		{ SMFIC_EOH, SMFIP_NR_EOH }, { SMFIC_BODY, SMFIP_NR_BODY }, { SMFIC_UNKNOWN, SMFIP_NR_UNKN },
		{ SMFIC_BODYEOB, 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		if (rows[i].command == command)
			return !(s->protocol & rows[i].nr);
	return false;
}

static void take(struct script_line *l, const struct milter_packet *p)
{
	const struct script *s = &l->milter->script;
	unsigned nth = ++l->seen[p->command];

	if (p->command == 'D') {
		note_macros(l, p);
		return;
	}
	note_packet(l, p);
	for (size_t i = 0; i < SCRIPT_RULES && s->rule[i].command; i++) {
		const struct script_rule *rule = &s->rule[i];

		if (rule->command != p->command || (rule->nth && rule->nth != nth) ||
		    (rule->connection && rule->connection != l->number))
			continue;
		say(l, rule->bytes, rule->len);
		if (rule->hangs_up)
			end_line(l);
		return;
	}
	if (p->command == SMFIC_OPTNEG)
		negotiate(l);
	else if (is_answered(s, p->command))
		say(l, REPLY("c"), 5);
}

static void on_line(struct io *io, int events)
{
	struct script_line *l = io->ctx;
	struct milter_packet packet;
	ssize_t n = recv(io->fd, buf_reserve(&l->in, 65536), 65536, MSG_DONTWAIT);

	(void)events;
	if (n <= 0) {
		note(l, ".", 1);
		end_line(l);
		return;
	}
	buf_commit(&l->in, (size_t)n);
	while (l->io.handle && milter_packet_next(&l->in, 1 << 20, &packet) > 0) {
		take(l, &packet);
		buf_consume(&l->in, packet.size);
	}
}

static void add_line(struct script_milter *m, int fd)
{
	struct script_line *l = mem_alloc(sizeof(*l));

	assert(m->count < CONNECTIONS);
	m->line[m->count++] = l;
	l->milter = m;
	l->number = m->count;
	io_init(&l->io, fd, on_line, l);
	io_want(&l->io, IO_READ);
}

static void on_listener(struct io *io, int events)
{
	int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd >= 0)
		add_line(io->ctx, fd);
}

struct script_milter *script_attach(int fd, const struct script *script)
{
	struct script_milter *m = mem_alloc(sizeof(*m));

	m->script = *script;
	fd_set_nonblocking(fd);
	add_line(m, fd);
	return m;
}

struct script_milter *script_listen(const char *path, const struct script *script)
{
	struct script_milter *m = mem_alloc(sizeof(*m));
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), result;

	m->script = *script;
	m->path = mem_strdup(path);
	unlink(path);
	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	result = bind(fd, (struct sockaddr *)&to, sizeof(to));
	assert(result == 0);
	result = listen(fd, CONNECTIONS);
	assert(result == 0);
	io_init(&m->listener, fd, on_listener, m);
	io_want(&m->listener, IO_READ);
	return m;
}

void script_free(struct script_milter *m)
{
	int fd;

	if (!m)
		return;
	for (unsigned i = 0; i < m->count; i++) {
		struct script_line *l = m->line[i];

		end_line(l);
		buf_fini(&l->in);
		buf_fini(&l->told);
		buf_fini(&l->macros);
		buf_fini(&l->body);
		free(l);
	}
	if (m->path) {
		fd = m->listener.fd;
		io_fini(&m->listener);
		fd_close(&fd);
		unlink(m->path);
	}
	free(m->path);
	free(m);
}

unsigned script_connections(const struct script_milter *m)
{
	return m->count;
}

static const char *text_of(struct buf *b)
{
	*buf_reserve(b, 1) = '\0';
	return (const char *)buf_head(b);
}

static struct script_line *line_of(const struct script_milter *m, unsigned connection)
{
	assert(connection >= 1);
	return connection <= m->count ? m->line[connection - 1] : NULL;
}

const char *script_told(const struct script_milter *m, unsigned connection)
{
	struct script_line *l = line_of(m, connection);

	return l ? text_of(&l->told) : "";
}

const char *script_macros(const struct script_milter *m, unsigned connection)
{
	struct script_line *l = line_of(m, connection);

	return l ? text_of(&l->macros) : "";
}

const struct buf *script_body(const struct script_milter *m, unsigned connection)
{
	return &line_of(m, connection)->body;
}

void script_send(struct script_milter *m, unsigned connection, const void *bytes, size_t len)
{
	say(line_of(m, connection), bytes, len);
}

void script_stop_reading(struct script_milter *m, unsigned connection)
{
	io_want(&line_of(m, connection)->io, 0);
}

void script_hang_up(struct script_milter *m, unsigned connection)
{
	end_line(line_of(m, connection));
}

void script_conf(struct conf_milter *conf, const char *name, const char *path)
{
	*conf = (struct conf_milter){
		.name = mem_strdup(name),
		.timeout_connect = 2000, .timeout_command = 2000, .timeout_data = 2000, .timeout_message = 4000,
		.tempfail_on_error = true,
		.max_response_size = 50 << 20,
		.pool_min = 0, .pool_max = 8, .pool_idle = 60000, .pool_wait = 1000,
		.pipeline = CONF_PIPELINE_CONTENT, .header_index = EDIT_INDEX_SHIFT,
	};
	conf->endpoints.count = 1;
	conf->endpoints.item = mem_array(1, sizeof(*conf->endpoints.item));
	conf->endpoints.item[0].family = ADDR_UNIX;
	conf->endpoints.item[0].path = mem_strdup(path);
}

void script_conf_fini(struct conf_milter *conf)
{
	for (size_t i = 0; i < conf->endpoints.count; i++)
		addr_fini(&conf->endpoints.item[i]);
	free(conf->endpoints.item);
	free(conf->name);
}

char *script_folder(void)
{
	char *folder = mem_strdup("/tmp/milterd-test-XXXXXX");
	const char *made = mkdtemp(folder);

	assert(made);
	return folder;
}

void script_folder_remove(char *folder)
{
	rmdir(folder);
	free(folder);
}

struct waiting {
	struct timer check;
	bool (*holds)(void *);
	void *ctx;
	int64_t until;
	bool held;
};

static void on_check(struct timer *t)
{
	struct waiting *w = t->ctx;

	w->held = w->holds(w->ctx);
	if (w->held || loop_now_ms() >= w->until)
		loop_stop();
	else
		timer_set(&w->check, CHECK_MS);
}

bool script_until(bool (*holds)(void *), void *ctx, int64_t timeout_ms)
{
	struct waiting w = { .holds = holds, .ctx = ctx, .until = loop_now_ms() + timeout_ms };

	timer_init(&w.check, on_check, &w);
	timer_set(&w.check, 0);
	loop_run();
	timer_fini(&w.check);
	return w.held;
}
