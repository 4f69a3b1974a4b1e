/* conf.h - the configuration: milterd.conf(5) as structs
 *
 * Made from options.def. A struct conf is complete and valid or does not exist.
 */
#ifndef MILTERD_CONF_H
#define MILTERD_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/buf.h"
#include "common/edit.h"
#include "common/log.h"
#include "common/milter.h"

#define CONF_FILE SYSCONFDIR "/milterd/milterd.conf"	/* the one that is installed */
#define CONF_CONTROL_SOCKET "/run/milterd/control.sock"	/* where it is with every default */

#define CONF_LINE_MAX  8192u			/* bytes of one line */
#define CONF_VALUE_MAX (CONF_LINE_MAX - 64)	/* of a value, so that conf_print() makes no longer lines than this */
#define CONF_NAME_MAX  100u			/* of the name of a listener or milter */
#define CONF_SECTIONS_MAX 1000u
#define CONF_TEXT_MAX  (8u * 1024 * 1024)	/* of a text; conf_load() takes half, conf_print() adds defaults */

enum conf_protocol { CONF_PROTOCOL_SMTP };
enum conf_pipeline { CONF_PIPELINE_NO, CONF_PIPELINE_CONTENT };
enum conf_scheme { CONF_SCHEME_SMTP, CONF_SCHEME_DISCARD };

struct conf_words {
	char **item;
	size_t count;
};

struct conf_endpoints {
	struct addr *item;
	size_t count;
};

struct conf_next_hop {
	enum conf_scheme scheme;
	struct addr addr;		/* not with DISCARD */
};

struct conf_next_hops {
	struct conf_next_hop *item;
	size_t count;
};

/* The C type of each option type. */
#define CONF_TYPE_account	 char *
#define CONF_TYPE_domain	 char *
#define CONF_TYPE_host		 char *
#define CONF_TYPE_flag		 bool
#define CONF_TYPE_time		 int64_t
#define CONF_TYPE_size		 int64_t
#define CONF_TYPE_count		 int64_t
#define CONF_TYPE_number_or_auto int64_t
#define CONF_TYPE_mode		 int64_t
#define CONF_TYPE_names		 struct conf_words
#define CONF_TYPE_path		 char *
#define CONF_TYPE_paths		 struct conf_words
#define CONF_TYPE_macros	 struct conf_words
#define CONF_TYPE_endpoints	 struct conf_endpoints
#define CONF_TYPE_next_hops	 struct conf_next_hops
#define CONF_TYPE_log_sink	 enum log_sink
#define CONF_TYPE_log_level	 enum log_level
#define CONF_TYPE_protocol	 enum conf_protocol
#define CONF_TYPE_pipeline	 enum conf_pipeline
#define CONF_TYPE_header_index	 enum edit_index

#define CONF_FIELD(field, key, type, fallback, minimum, maximum, help) CONF_TYPE_##type field;

struct conf_milterd {
#define MILTERD_OPTION CONF_FIELD
#include "common/options.def"
};

struct conf_listener {
	char *name;
#define LISTENER_OPTION CONF_FIELD
#include "common/options.def"
	unsigned *chain;		/* numbers of its milters, in the order they are called */
	size_t chain_count;
};

struct conf_milter {
	char *name;
#define MILTER_OPTION CONF_FIELD
#include "common/options.def"
	struct conf_endpoints endpoints; /* socket, or else hostname and port: at least one */
};

#undef CONF_FIELD

struct conf {
	struct conf_milterd milterd;
	struct conf_listener *listener;
	size_t listener_count;
	struct conf_milter *milter;
	size_t milter_count;
	struct conf_origin *origin;	/* conf_origin.h */
};

/* Read a file and what it includes. Every problem becomes one line "FILE:LINE: [section] key: what is wrong, what is
 * allowed" in problems, in the order of files and lines (warnings begin with "FILE:LINE: warning:"). NULL when there is
 * any error. */
struct conf *conf_load(const char *path, struct buf *problems);
/* The same for a text, without includes; name stands for the file. */
struct conf *conf_parse(const char *name, const char *text, size_t len, struct buf *problems);
/* The effective configuration in its own language, defaults included: conf_parse() of it gives the same again. */
void conf_print(struct buf *, const struct conf *);
void conf_free(struct conf *);

/* Where the control socket is; the caller's. */
char *conf_control_socket(const struct conf *);
/* The macros a milter gets at a stage unless it asks for others. */
const struct conf_words *conf_milter_macros(const struct conf_milter *, enum milter_stage);

/* One line per option: "SECTION key default", for the test of the man page. */
void conf_print_options(struct buf *);

#endif
