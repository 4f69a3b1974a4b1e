#include "config.h"

#include "common/conftype.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/addr.h"
#include "common/conf.h"
#include "common/mem.h"

#define QUOTE_MAX	60
#define SEPARATORS	", \t"
#define LIST_MAX	64u	/* endpoints, next hops or macros of one option */
#define ACCOUNT_MAX	256u
#define PATH_LENGTH_MAX 1000u
#define MACRO_NAME_MAX	64u

void conf_quote(struct buf *b, const char *text)
{
	size_t len = strlen(text), shown = len > QUOTE_MAX ? QUOTE_MAX : len;

	buf_puts(b, "\"");
	for (size_t i = 0; i < shown; i++)
		buf_printf(b, (unsigned char)text[i] < 0x80 ? "%c" : "\\x%02x", (unsigned char)text[i]);
	buf_puts(b, shown < len ? "...\"" : "\"");
}

static int refused(struct buf *why, const char *text, const char *reason)
{
	conf_quote(why, text);
	buf_printf(why, " %s", reason);
	return -1;
}

/* Cut the next word off a list. NULL: there is none. */
static char *next_word(const char **list)
{
	const char *start = *list + strspn(*list, SEPARATORS);
	size_t len = strcspn(start, SEPARATORS);

	*list = start + len;
	return len ? mem_strndup(start, len) : NULL;
}

/* Texts */

static int parse_text(const struct conf_type *type, const char *text, void *value, struct buf *why)
{
	const char *reason = *text ? type->refuse(text) : NULL;	/* where it may be empty, that is the default */

	if (reason)
		return refused(why, text, reason);
	*(char **)value = mem_strdup(text);
	return 0;
}

static void print_text(const struct conf_type *type, struct buf *b, const void *value)
{
	(void)type;
	buf_puts(b, *(char *const *)value);
}

static void fini_text(void *value)
{
	free(*(char **)value);
}

const char *conf_name_refuse(const char *name)
{
	if (!strcmp(name, "none"))
		return "is no name: it stands for \"no milter\"";
	if (!*name || strlen(name) > CONF_NAME_MAX)
		return "has more than 100 bytes";
	for (const char *c = name; *c; c++)
		if (!isalnum((unsigned char)*c) && (c == name || !strchr("-_.", *c)))
			return "is no name: letters and digits, and behind the first of them '-', '_' and '.'";
	return NULL;
}

static const char *refuse_account(const char *text)
{
	if (strlen(text) > ACCOUNT_MAX)
		return "has more than 256 bytes";
	for (const char *c = text; *c; c++)
		if (!isgraph((unsigned char)*c) || strchr(":/,", *c))
			return "is not the name of an account: it has a blank or one of \":/,\" or is not ASCII";
	return *text == '-' ? "is not the name of an account: it begins with '-'" : NULL;
}

static const char *refuse_path(const char *text)
{
	if (strlen(text) > PATH_LENGTH_MAX)
		return "has more than 1000 bytes";
	for (const char *c = text; *c; c++)
		if (iscntrl((unsigned char)*c))
			return "has a control character";
	return *text == '/' ? NULL : "does not begin with '/'";
}

static const char *refuse_host(const char *text)
{
	const char *why;

	return addr_host_check(text, &why) < 0 ? why : NULL;
}

static const char *refuse_domain(const char *text)
{
	size_t len = strlen(text);

	if (!strcasecmp(text, "auto"))
		return strcmp(text, "auto") ? "is written in small letters: auto" : NULL;
	if (*text == '[' && len > 2 && text[len - 1] == ']') {	/* RFC 5321 4.1.3 */
		bool v6 = !strncasecmp(text + 1, "IPv6:", 5);
		char *inner = mem_strndup(text + (v6 ? 6 : 1), len - (v6 ? 7 : 2));
		bool number = strspn(inner, v6 ? "0123456789abcdefABCDEF:." : "0123456789.") == strlen(inner);
		bool good = number && !strchr(inner, ':') == !v6 && !refuse_host(inner);

		free(inner);
		return good ? NULL : "is not a valid address literal";
	}
	if (strchr(text, ':') || strspn(text, "0123456789.") == len)
		return "is an address, not a name; that is written [192.0.2.1] or [IPv6:2001:db8::1]";
	return refuse_host(text);
}

/* Numbers */

static int parse_quantity(const struct conf_type *type, const char *text, void *value, struct buf *why)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	char *end = NULL;

	if (!isdigit((unsigned char)*text))
		return refused(why, text, *text == '-' ? "is negative" : "is not a number");
	errno = 0;
	unsigned long long number = strtoull(text, &end, hex ? 16 : 10);
	bool large = errno == ERANGE;

	for (const struct conf_unit *unit = type->unit; unit->name; unit++)
		if (!strcmp(unit->name, end)) {
			if (large || number > (unsigned long long)(INT64_MAX / unit->factor))
				return refused(why, text, "is too large a number");
			*(int64_t *)value = (int64_t)number * unit->factor;
			return 0;
		}
	if (!*end)
		return refused(why, text, "has no unit");
	conf_quote(why, text);
	buf_puts(why, type->unit[1].name ? " has an unknown unit " : " is not a number: it goes on with ");
	conf_quote(why, end);
	return -1;
}

static void print_quantity(const struct conf_type *type, struct buf *b, const void *value)
{
	int64_t number = *(const int64_t *)value;
	const struct conf_unit *best = NULL;

	for (const struct conf_unit *unit = type->unit; unit->name; unit++)
		if (number % unit->factor == 0 && (!best || (number && unit->factor > best->factor)))
			best = unit;
	assert(best);
	buf_printf(b, "%lld%s", (long long)(number / best->factor), best->name);
}

static int parse_number_or_auto(const struct conf_type *type, const char *text, void *value, struct buf *why)
{
	if (!strcasecmp(text, "auto"))
		return 0;
	if (parse_quantity(type, text, value, why) < 0)
		return -1;
	return *(int64_t *)value ? 0 : refused(why, text, "is out of range");
}

static void print_number_or_auto(const struct conf_type *type, struct buf *b, const void *value)
{
	if (*(const int64_t *)value)
		print_quantity(type, b, value);
	else
		buf_puts(b, "auto");
}

static int parse_mode(const struct conf_type *type, const char *text, void *value, struct buf *why)
{
	size_t len = strlen(text);

	(void)type;
	if (!len || len > 5 || strspn(text, "01234567") != len)
		return refused(why, text, "is not an octal number");
	*(int64_t *)value = (int64_t)strtol(text, NULL, 8);
	return 0;
}

static void print_mode(const struct conf_type *type, struct buf *b, const void *value)
{
	(void)type;
	buf_printf(b, "%04llo", (unsigned long long)*(const int64_t *)value);
}

/* Choices */

static int parse_flag(const struct conf_type *type, const char *text, void *value, struct buf *why)
{
	static const char *const words[] = { "no", "yes", "false", "true", "off", "on" };

	(void)type;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcasecmp(words[i], text)) {
			*(bool *)value = i % 2;
			return 0;
		}
	return refused(why, text, "is neither yes nor no");
}

static void print_flag(const struct conf_type *type, struct buf *b, const void *value)
{
	(void)type;
	buf_puts(b, *(const bool *)value ? "yes" : "no");
}

static int parse_choice(const struct conf_type *type, const char *text, void *value, struct buf *why)
{
	for (unsigned i = 0; type->choice[i]; i++)
		if (!strcasecmp(type->choice[i], text)) {
			*(unsigned *)value = i;
			return 0;
		}
	return refused(why, text, "is not known here");
}

static void print_choice(const struct conf_type *type, struct buf *b, const void *value)
{
	buf_puts(b, type->choice[*(const unsigned *)value]);
}

/* Lists */

static void fini_words(void *value)
{
	struct conf_words *words = value;

	for (size_t i = 0; i < words->count; i++)
		free(words->item[i]);
	free(words->item);
}

static int parse_words(const struct conf_type *type, const char *text, void *value, struct buf *why)
{
	struct conf_words *words = value;
	const char *reason = NULL;
	char *word;

	while (!reason && (word = next_word(&text))) {
		words->item = mem_realloc(words->item, (words->count + 1) * sizeof(*words->item));
		words->item[words->count++] = word;
		if (type->refuse)
			reason = type->refuse(word);
		for (size_t i = 0; i + 1 < words->count && !reason; i++)
			if (!strcmp(words->item[i], word))
				reason = "is there twice";
		if (reason)
			refused(why, word, reason);
	}
	if (reason)
		fini_words(words);
	return reason ? -1 : 0;
}

static void print_words(const struct conf_type *type, struct buf *b, const void *value)
{
	const struct conf_words *words = value;

	(void)type;
	for (size_t i = 0; i < words->count; i++)
		buf_printf(b, i ? " %s" : "%s", words->item[i]);
}

/* "none" is a word here; that it stands alone is checked where the names are looked up. */
static const char *refuse_milter(const char *word)
{
	return strcmp(word, "none") ? conf_name_refuse(word) : NULL;
}

static const char *refuse_macro(const char *word)
{
	size_t len = strlen(word);

	if (len == 1)
		return isalnum((unsigned char)*word) || *word == '_' ? NULL : "is not the name of a macro";
	if (len > MACRO_NAME_MAX)
		return "has more than 64 bytes";
	if (*word != '{' || word[len - 1] != '}')
		return "needs braces: a name of more than one letter is written {name}";
	for (const char *c = word + 1; c < word + len - 1; c++)
		if (!isalnum((unsigned char)*c) && !strchr("_-.", *c))
			return "is not the name of a macro";
	return len > 2 ? NULL : "is not the name of a macro";
}

static int parse_macros(const struct conf_type *type, const char *text, void *value, struct buf *why)
{
	struct conf_words *words = value;

	if (parse_words(type, text, value, why) < 0)
		return -1;
	if (words->count <= LIST_MAX)
		return 0;
	buf_printf(why, "there are %zu macros", words->count);
	fini_words(words);
	return -1;
}

static void fini_endpoints(void *value)
{
	struct conf_endpoints *list = value;

	for (size_t i = 0; i < list->count; i++)
		addr_fini(&list->item[i]);
	free(list->item);
}

static int parse_endpoints(const struct conf_type *type, const char *text, void *value, struct buf *why)
{
	struct conf_endpoints *list = value;
	const char *reason = NULL;
	char *word;

	(void)type;
	list->item = mem_array(LIST_MAX, sizeof(*list->item));
	while (!reason && (word = next_word(&text))) {
		if (list->count == LIST_MAX)
			reason = "is one too many: at most 64 endpoints";
		else if (addr_parse(&list->item[list->count], word, &reason) == 0)
			list->count++, reason = NULL;
		for (size_t i = 0; i + 1 < list->count && !reason; i++)
			if (addr_same(&list->item[i], &list->item[list->count - 1]))
				reason = "is there twice";
		if (reason)
			refused(why, word, reason);
		free(word);
	}
	if (reason)
		fini_endpoints(list);
	return reason ? -1 : 0;
}

static void print_endpoints(const struct conf_type *type, struct buf *b, const void *value)
{
	const struct conf_endpoints *list = value;

	(void)type;
	for (size_t i = 0; i < list->count; i++) {
		buf_puts(b, i ? " " : "");
		addr_print(b, &list->item[i]);
	}
}

static void fini_next_hops(void *value)
{
	struct conf_next_hops *list = value;

	for (size_t i = 0; i < list->count; i++)
		addr_fini(&list->item[i].addr);
	free(list->item);
}

static const char *parse_next_hop(struct conf_next_hop *hop, const char *word)
{
	const char *why = NULL;

	if (!strcmp(word, "discard:")) {
		hop->scheme = CONF_SCHEME_DISCARD;
		return NULL;
	}
	if (strncmp(word, "smtp:", 5) != 0)
		return "does not say how to deliver";
	hop->scheme = CONF_SCHEME_SMTP;
	if (addr_parse(&hop->addr, word + 5, &why) < 0)
		return why;
	if (hop->addr.host && !strcmp(hop->addr.host, "*")) {
		addr_fini(&hop->addr);
		return "has no host to connect to: '*' is for bind";
	}
	return NULL;
}

static int parse_next_hops(const struct conf_type *type, const char *text, void *value, struct buf *why)
{
	struct conf_next_hops *list = value;
	const char *reason = NULL;
	char *word;

	(void)type;
	list->item = mem_array(LIST_MAX, sizeof(*list->item));
	while (!reason && (word = next_word(&text))) {
		if (list->count == LIST_MAX)
			reason = "is one too many: at most 64 next hops";
		else if (!(reason = parse_next_hop(&list->item[list->count], word)))
			list->count++;
		if (list->count > 1 && (list->item[0].scheme == CONF_SCHEME_DISCARD || !strcmp(word, "discard:")))
			reason = "cannot be there: discard: stands alone";
		if (reason)
			refused(why, word, reason);
		free(word);
	}
	if (reason)
		fini_next_hops(list);
	return reason ? -1 : 0;
}

static void print_next_hops(const struct conf_type *type, struct buf *b, const void *value)
{
	const struct conf_next_hops *list = value;

	(void)type;
	for (size_t i = 0; i < list->count; i++) {
		buf_puts(b, i ? " " : "");
		if (list->item[i].scheme == CONF_SCHEME_DISCARD) {
			buf_puts(b, "discard:");
		} else {
			buf_puts(b, "smtp:");
			addr_print(b, &list->item[i].addr);
		}
	}
}

/* The table */

static const struct conf_unit times[] = { { "s", 1000 }, { "ms", 1 }, { "m", 60000 }, { "h", 3600000 }, { NULL, 0 } };
static const struct conf_unit sizes[] = { { "", 1 }, { "K", 1 << 10 }, { "M", 1 << 20 }, { "G", 1 << 30 }, { NULL, 0 } };
static const struct conf_unit counts[] = { { "", 1 }, { NULL, 0 } };

static const char *const log_sinks[] = {
	[LOG_SINK_AUTO] = "auto", [LOG_SINK_STDERR] = "stderr", [LOG_SINK_SYSLOG] = "syslog",
	[LOG_SINK_JOURNAL] = "journal", NULL
};
static const char *const log_levels[] = {
	[LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
	[LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug", NULL
};
static const char *const protocols[] = { [CONF_PROTOCOL_SMTP] = "smtp", NULL };
static const char *const pipelines[] = { [CONF_PIPELINE_NO] = "no", [CONF_PIPELINE_CONTENT] = "content", NULL };
static const char *const header_indexes[] = { [EDIT_INDEX_SHIFT] = "shift", [EDIT_INDEX_STABLE] = "stable", NULL };

#define SIZE(name)   .size = sizeof(CONF_TYPE_##name)
#define TEXT(check)  .parse = parse_text, .print = print_text, .fini = fini_text, .refuse = check
#define NUMBER(table) .ranged = true, .parse = parse_quantity, .print = print_quantity, .unit = table
#define CHOICE(table) .parse = parse_choice, .print = print_choice, .choice = table
#define WORDS(check)  .list = true, .parse = parse_words, .print = print_words, .fini = fini_words, .refuse = check

static const struct conf_type types[CONF_TYPES] = {
	[CONF_IS_account] = { "the name or number of a user or group", SIZE(account), TEXT(refuse_account) },
	[CONF_IS_domain] = { "auto or a host name", SIZE(domain), TEXT(refuse_domain) },
	[CONF_IS_host] = { "a host name or an IP address without brackets", SIZE(host), TEXT(refuse_host) },
	[CONF_IS_flag] = { "yes, true, on, no, false or off", SIZE(flag), .parse = parse_flag, .print = print_flag },
	[CONF_IS_time] = { "a number with its unit, as in 500ms, 30s, 5m or 1h", SIZE(time), NUMBER(times) },
	[CONF_IS_size] = { "bytes, or a number with its unit, as in 64K, 50M or 1G", SIZE(size), NUMBER(sizes) },
	[CONF_IS_count] = { "a number", SIZE(count), NUMBER(counts) },
	[CONF_IS_number_or_auto] = { "auto or a number", SIZE(number_or_auto), .ranged = true,
		.parse = parse_number_or_auto, .print = print_number_or_auto, .unit = counts },
	[CONF_IS_mode] = { "an octal number, as in 0660", SIZE(mode), .ranged = true,
		.parse = parse_mode, .print = print_mode },
	[CONF_IS_names] = { "names of milters, or none", SIZE(names), WORDS(refuse_milter) },
	[CONF_IS_path] = { "an absolute path", SIZE(path), TEXT(refuse_path) },
	[CONF_IS_paths] = { "paths and patterns", SIZE(paths), WORDS(NULL) },
	[CONF_IS_macros] = { "up to 64 names of macros, as in i {client_addr}", SIZE(macros),
		.list = true, .parse = parse_macros, .print = print_words, .fini = fini_words, .refuse = refuse_macro },
	[CONF_IS_endpoints] = { "inet:HOST:PORT, inet6:[ADDR]:PORT, unix:/PATH or HOST:PORT, also several", SIZE(endpoints),
		.list = true, .parse = parse_endpoints, .print = print_endpoints, .fini = fini_endpoints },
	[CONF_IS_next_hops] = { "smtp:ENDPOINT, also several, or discard:", SIZE(next_hops),
		.list = true, .parse = parse_next_hops, .print = print_next_hops, .fini = fini_next_hops },
	[CONF_IS_log_sink] = { "auto, stderr, syslog or journal", SIZE(log_sink), CHOICE(log_sinks) },
	[CONF_IS_log_level] = { "error, warning, notice, info or debug", SIZE(log_level), CHOICE(log_levels) },
	[CONF_IS_protocol] = { "smtp", SIZE(protocol), CHOICE(protocols) },
	[CONF_IS_pipeline] = { "content or no", SIZE(pipeline), CHOICE(pipelines) },
	[CONF_IS_header_index] = { "shift or stable", SIZE(header_index), CHOICE(header_indexes) },
};

const struct conf_type *conf_type(enum conf_type_id id)
{
	static_assert(sizeof(enum log_sink) == sizeof(unsigned), "parse_choice() stores an unsigned");
	assert(id < CONF_TYPES);
	return &types[id];
}
