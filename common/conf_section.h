/* conf_section.h - one section of a configuration while it is read: its values, and where each was given */
#ifndef MILTERD_CONF_SECTION_H
#define MILTERD_CONF_SECTION_H

#include <stdbool.h>
#include <stddef.h>

#include "common/conf_option.h"
#include "common/conf_problem.h"

struct conf_setting {
	struct conf_place place;	/* line 0: not given */
	bool broken;			/* given, but refused: the field holds the default */
};

struct conf_section {
	enum conf_kind kind;
	char *name;			/* "" for [milterd] */
	char *title;			/* "[milter rspamd]" */
	struct conf_place place;
	bool duplicate;			/* there was one of this name: read only to find what is wrong in it */
	void *values;			/* struct conf_milterd, conf_listener or conf_milter, with the defaults; owned until
					 * the one who builds the configuration takes it */
	struct conf_setting *setting;	/* one for each option of its kind */
};

struct conf_section *conf_section_new(enum conf_kind, const char *name, const struct conf_place *);
void conf_section_free(struct conf_section *);
/* Take one "key = value"; what is wrong with it is added to the problems. */
void conf_section_set(struct conf_section *, const struct conf_place *, const char *key, const char *value,
	struct conf_problems *);
/* Where the key was given, or where the section begins. The key must exist. */
const struct conf_place *conf_section_place(const struct conf_section *, const char *key);
bool conf_section_given(const struct conf_section *, const char *key);
bool conf_section_broken(const struct conf_section *, const char *key);

#endif
