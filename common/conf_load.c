#include "config.h"

#include "common/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/conf_check.h"
#include "common/conf_origin.h"
#include "common/conf_problem.h"
#include "common/conf_read.h"
#include "common/conf_section.h"
#include "common/mem.h"
#include "common/nearest.h"

#define FILES_MAX (CONF_TEXT_MAX / 2)	/* bytes of all files together */
#define READ_SIZE 65536u

struct file {
	char *name;			/* places point to it */
	dev_t device;
	ino_t inode;
};

struct load {
	struct conf_problems problems;
	struct conf_section **section;	/* in the order of the text; the first one is [milterd], given or not */
	size_t section_count;
	bool milterd_given;
	struct conf_section *current;	/* NULL: none yet, or one that nobody knows */
	bool unknown;			/* the keys of an unknown section are left out */
	bool lost;			/* a section was left out: it may have been a listener or a milter */
	bool too_many;			/* sections; said once */
	struct file *file;		/* the last one is being read */
	size_t file_count;
	size_t bytes;			/* of all files */
};

/* Sections and keys */

static struct conf_place place_at(const struct load *l, unsigned line)
{
	const unsigned number = (unsigned)l->file_count - 1;

	return (struct conf_place){ .file = l->file[number].name, .file_number = number, .line = line };
}

static void add_section(struct load *l, struct conf_section *s)
{
	l->section = mem_realloc(l->section, (l->section_count + 1) * sizeof(struct conf_section *));
	l->section[l->section_count++] = s;
	l->current = s;
}

static const struct conf_section *find_section(const struct load *l, enum conf_kind kind, const char *name)
{
	for (size_t i = 0; i < l->section_count; i++)
		if (l->section[i]->kind == kind && !strcmp(l->section[i]->name, name))
			return l->section[i];
	return NULL;
}

static void unknown_section(struct load *l, const struct conf_place *place, const char *header, const char *word)
{
	struct nearest near = { .word = word };
	struct buf quoted = { 0 };

	for (unsigned kind = 0; kind < CONF_KINDS; kind++)
		nearest_offer(&near, conf_kind_name(kind));
	conf_quote(&quoted, header);
	conf_error(&l->problems, place, NULL, NULL,
		"unknown section %.*s%s%s%s allowed: [milterd], [listener NAME], [milter NAME]", (int)buf_len(&quoted),
		(char *)buf_head(&quoted), near.best ? "; did you mean \"" : "", near.best ? near.best : "",
		near.best ? "\"?" : ";");
	buf_fini(&quoted);
	l->unknown = l->lost = true;
}

/* Says what is wrong with the name; the section is read all the same, for what else is wrong in it. */
static void check_name(struct load *l, const struct conf_place *place, enum conf_kind kind, const char *name)
{
	const char *kind_name = conf_kind_name(kind), *reason = conf_name_refuse(name);
	struct buf quoted = { 0 };

	conf_quote(&quoted, name);
	if (kind == CONF_MILTERD && *name)
		conf_error(&l->problems, place, NULL, NULL, "[milterd] takes no name, but has %.*s",
			(int)buf_len(&quoted), (char *)buf_head(&quoted));
	else if (kind != CONF_MILTERD && !*name)
		conf_error(&l->problems, place, NULL, NULL, "[%s] needs a name: [%s NAME]", kind_name, kind_name);
	else if (kind != CONF_MILTERD && reason)
		conf_error(&l->problems, place, NULL, NULL, "[%s NAME]: %.*s %s", kind_name, (int)buf_len(&quoted),
			(char *)buf_head(&quoted), reason);
	buf_fini(&quoted);
}

static void begin_section(struct load *l, const struct conf_place *place, enum conf_kind kind, const char *name)
{
	const struct conf_section *first = find_section(l, kind, name);

	if (kind == CONF_MILTERD && !l->milterd_given) {
		l->milterd_given = true;
		l->section[0]->place = *place;
		l->current = l->section[0];
		return;
	}
	if (l->section_count > CONF_SECTIONS_MAX) {
		if (!l->too_many)
			conf_error(&l->problems, place, NULL, NULL, "there are more than %u sections",
				CONF_SECTIONS_MAX);
		l->too_many = l->unknown = l->lost = true;
		return;
	}
	add_section(l, conf_section_new(kind, name, place));
	if (first) {
		l->current->duplicate = true;
		conf_error(&l->problems, place, l->current->title, NULL, "is there twice; first at %s:%u",
			first->place.file, first->place.line);
	}
}

static void on_section(void *ctx, unsigned line, const char *header)
{
	struct load *l = ctx;
	struct conf_place place = place_at(l, line);
	unsigned kind = 0;

	l->current = NULL;
	l->unknown = !header;
	if (!header) {
		l->lost = true;
		return;
	}
	size_t len = strcspn(header, "\t ");
	char *word = mem_strndup(header, len);
	const char *name = header + len + strspn(header + len, "\t ");

	while (kind < CONF_KINDS && strcmp(conf_kind_name(kind), word) != 0)
		kind++;
	if (kind == CONF_KINDS) {
		unknown_section(l, &place, header, word);
	} else {
		check_name(l, &place, kind, name);
		begin_section(l, &place, kind, kind == CONF_MILTERD ? "" : name);
	}
	free(word);
}

static void homeless(struct load *l, const struct conf_place *place, const char *key)
{
	struct buf quoted = { 0 };

	l->lost = true;
	conf_quote(&quoted, key);
	conf_error(&l->problems, place, NULL, NULL, "%.*s is in no section: [milterd], [listener NAME] or [milter NAME] "
		"comes first", (int)buf_len(&quoted), (char *)buf_head(&quoted));
	buf_fini(&quoted);
}

static void on_pair(void *ctx, unsigned line, const char *key, const char *value)
{
	struct load *l = ctx;
	struct conf_place place = place_at(l, line);

	if (l->current && l->file_count > 1 && l->current->kind == CONF_MILTERD && !strcmp(key, "include"))
		conf_error(&l->problems, &place, l->current->title, key, "an included file cannot include others");
	else if (l->current)
		conf_section_set(l->current, &place, key, value, &l->problems);
	else if (!l->unknown)
		homeless(l, &place, key);
}

static void on_broken(void *ctx, unsigned line, const char *why)
{
	struct load *l = ctx;
	struct conf_place place = place_at(l, line);

	/* Before the first section anything may have been meant. */
	l->lost |= !l->current;
	conf_error(&l->problems, &place, l->current ? l->current->title : NULL, NULL, "%s", why);
}

static void read_text(struct load *l, const char *text, size_t len)
{
	static const struct conf_read_ops ops = { on_section, on_pair, on_broken };

	l->current = NULL;
	l->unknown = false;
	conf_read(text, len, &ops, l);
}

/* Files */

static void add_file(struct load *l, const char *name, const struct stat *st)
{
	struct file f = { .name = mem_strdup(name) };

	if (st) {
		f.device = st->st_dev;
		f.inode = st->st_ino;
	}
	l->file = mem_realloc(l->file, (l->file_count + 1) * sizeof(*l->file));
	l->file[l->file_count++] = f;
	if (l->file_count == 1)
		l->section[0]->place.file = f.name;
}

/* by: the place of the include, or NULL for the file of the command line. */
static void cannot_read(struct load *l, const char *name, const struct conf_place *by, const char *why)
{
	struct conf_place whole = { .file = name };

	if (by)
		conf_error(&l->problems, by, "[milterd]", "include", "\"%s\": %s", name, why);
	else
		conf_error(&l->problems, &whole, NULL, NULL, "%s", why);
}

/* The bytes of an open file, not more than are still allowed. 0, or -1 with *why in words. */
static int slurp(struct load *l, int fd, struct buf *text, const char **why)
{
	for (;;) {
		ssize_t len = read(fd, buf_reserve(text, READ_SIZE), READ_SIZE);

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0) {
			*why = strerror(errno);
			return -1;
		}
		if (len == 0)
			return 0;
		buf_commit(text, (size_t)len);
		l->bytes += (size_t)len;
		if (l->bytes > FILES_MAX) {
			*why = "too large: all files together may have 4M";
			return -1;
		}
	}
}

static void read_file(struct load *l, const char *name, const struct conf_place *by)
{
	struct buf text = { 0 };
	struct stat st = { 0 };
	const char *why = NULL;
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0 || fstat(fd, &st) < 0) {
		why = strerror(errno);
	} else if (S_ISDIR(st.st_mode)) {
		why = "it is a directory";
	} else {
		for (size_t i = 0; i < l->file_count; i++)
			if (l->file[i].device == st.st_dev && l->file[i].inode == st.st_ino)
				why = "it is read already: a file can be included once, and never itself";
	}
	if (why || slurp(l, fd, &text, &why) < 0) {
		cannot_read(l, name, by, why);
	} else {
		add_file(l, name, &st);
		read_text(l, buf_len(&text) ? (char *)buf_head(&text) : "", buf_len(&text));
	}
	if (fd >= 0)
		close(fd);
	buf_fini(&text);
}

/* A path as it stands in a file: relative to the folder of that file, whose name is no pattern. */
static char *path_from(const char *file, const char *path, bool pattern)
{
	const char *slash = *path == '/' ? NULL : strrchr(file, '/');
	struct buf joined = { 0 };

	for (const char *c = file; slash && c <= slash; c++)
		buf_printf(&joined, pattern && strchr("*?[\\", *c) ? "\\%c" : "%c", *c);
	buf_puts(&joined, path);
	char *copy = mem_strndup(buf_head(&joined), buf_len(&joined));

	buf_fini(&joined);
	return copy;
}

static void include(struct load *l, const struct conf_place *by, const char *path)
{
	bool is_pattern = strpbrk(path, "*?[") != NULL;
	char *from = path_from(l->file[0].name, path, is_pattern);
	glob_t found = { 0 };

	if (!is_pattern) {
		read_file(l, from, by);
	} else {
		int status = glob(from, GLOB_ERR, NULL, &found);
		int error = errno;

		for (size_t i = 0; status == 0 && i < found.gl_pathc; i++)
			read_file(l, found.gl_pathv[i], by);
		if (status && status != GLOB_NOMATCH && error != ENOENT)
			cannot_read(l, path, by, strerror(error));
		globfree(&found);
	}
	free(from);
}

static void read_includes(struct load *l)
{
	struct conf_milterd *m = l->section[0]->values;
	struct conf_words include_paths = m->include;

	/* What is included is then part of the whole: conf_print() has no includes. */
	m->include = (struct conf_words){ 0 };
	for (size_t i = 0; i < include_paths.count; i++) {
		include(l, conf_section_place(l->section[0], "include"), include_paths.item[i]);
		free(include_paths.item[i]);
	}
	free(include_paths.item);
}

/* The whole */

static size_t count_kind(const struct load *l, enum conf_kind kind)
{
	size_t count = 0;

	for (size_t i = 0; i < l->section_count; i++)
		count += l->section[i]->kind == kind && !l->section[i]->duplicate;
	return count;
}

/* Move the values of all sections of a kind to their place in the configuration. */
static void move_values(const struct load *l, enum conf_kind kind, void *to, struct conf_section **moved)
{
	size_t size = conf_kind_size(kind);

	for (size_t i = 0; i < l->section_count; i++) {
		struct conf_section *s = l->section[i];

		if (s->kind != kind || s->duplicate)
			continue;
		memcpy(to, s->values, size);
		free(s->values);
		s->values = NULL;
		to = (char *)to + size;
		*moved++ = s;
	}
}

/* moved: room for all sections; gets those whose values the configuration has, in its order. */
static struct conf *build(struct load *l, struct conf_section **moved)
{
	struct conf *conf = mem_alloc(sizeof(*conf));

	conf->listener_count = count_kind(l, CONF_LISTENER);
	conf->listener = mem_array(conf->listener_count, sizeof(*conf->listener));
	conf->milter_count = count_kind(l, CONF_MILTER);
	conf->milter = mem_array(conf->milter_count, sizeof(*conf->milter));
	move_values(l, CONF_MILTERD, &conf->milterd, moved);
	move_values(l, CONF_LISTENER, conf->listener, moved + 1);
	move_values(l, CONF_MILTER, conf->milter, moved + 1 + conf->listener_count);
	for (size_t i = 0; i < conf->listener_count; i++)
		conf->listener[i].name = mem_strdup(moved[1 + i]->name);
	for (size_t i = 0; i < conf->milter_count; i++)
		conf->milter[i].name = mem_strdup(moved[1 + conf->listener_count + i]->name);
	if (l->file_count)
		conf_check(conf, moved, !l->lost, &l->problems);
	return conf;
}

static void begin(struct load *l, const char *name)
{
	const struct conf_place start = { .file = name, .line = 1 };

	*l = (struct load){ 0 };
	add_section(l, conf_section_new(CONF_MILTERD, "", &start));
}

/* Print the problems. NULL when there was an error. */
static struct conf *finish(struct load *l, struct buf *problems)
{
	struct conf_section **ordered = mem_array(l->section_count, sizeof(struct conf_section *));
	struct conf *conf = build(l, ordered);
	char **file = mem_array(l->file_count, sizeof(char *));

	for (size_t i = 0; i < l->file_count; i++)
		file[i] = l->file[i].name;
	free(l->file);
	if (l->problems.errors) {
		/* There may be duplicates, which are not among the ordered ones. */
		free(ordered);
		ordered = l->section;
		conf_free(conf);
		conf = NULL;
	} else {
		free(l->section);
	}
	conf_problems_print(&l->problems, problems);

	struct conf_origin *origin = conf_origin_new(ordered, l->section_count, file, l->file_count);

	if (conf)
		conf->origin = origin;
	else
		conf_origin_free(origin);
	return conf;
}

struct conf *conf_load(const char *path, struct buf *problems)
{
	struct load l;

	begin(&l, path);
	read_file(&l, path, NULL);
	if (l.file_count)
		read_includes(&l);
	return finish(&l, problems);
}

struct conf *conf_parse(const char *name, const char *text, size_t len, struct buf *problems)
{
	struct load l;
	const struct conf_place whole = { .file = name };

	begin(&l, name);
	add_file(&l, name, NULL);
	if (len > CONF_TEXT_MAX)
		conf_error(&l.problems, &whole, NULL, NULL, "too large: a configuration may have 8M");
	else
		read_text(&l, text, len);
	if (((struct conf_milterd *)l.section[0]->values)->include.count)
		conf_error(&l.problems, conf_section_place(l.section[0], "include"), "[milterd]", "include",
			"only a file can include others");
	return finish(&l, problems);
}

void conf_free(struct conf *conf)
{
	struct conf_endpoints *endpoints;

	if (!conf)
		return;
	conf_options_fini(CONF_MILTERD, &conf->milterd);
	for (size_t i = 0; i < conf->listener_count; i++) {
		conf_options_fini(CONF_LISTENER, &conf->listener[i]);
		free(conf->listener[i].chain);
		free(conf->listener[i].name);
	}
	for (size_t i = 0; i < conf->milter_count; i++) {
		conf_options_fini(CONF_MILTER, &conf->milter[i]);
		endpoints = &conf->milter[i].endpoints;
		for (size_t j = 0; j < endpoints->count; j++)
			addr_fini(&endpoints->item[j]);
		free(endpoints->item);
		free(conf->milter[i].name);
	}
	free(conf->listener);
	free(conf->milter);
	conf_origin_free(conf->origin);
	free(conf);
}
