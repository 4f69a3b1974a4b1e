/* log.h - one logger for all processes
 *
 * One line per event, key=value. Bytes that come from a peer are passed with %s and escaped here: control
 * and non-ASCII bytes become \xNN, so a peer cannot forge a line. Never blocks: a sink that is full
 * loses lines and the next one that fits says how many. Sinks: stderr with time and role; journal, which is
 * stderr with the "<6>" prefixes that systemd reads; syslog, facility mail; auto: journal when stderr is connected
 * to it, otherwise stderr.
 */
#ifndef MILTERD_LOG_H
#define MILTERD_LOG_H

#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_sink { LOG_SINK_AUTO, LOG_SINK_STDERR, LOG_SINK_SYSLOG, LOG_SINK_JOURNAL };

/* role: "master", "session 0", ... copied. Before this, lines go to stderr. Opens what the sink needs, so call it
 * before privileges are dropped. */
void log_init(const char *role, enum log_sink, enum log_level);
void log_set_level(enum log_level);
void log_fini(void);

/* session: its id, shown in hex in front of the text, or 0 for none. */
void log_write(enum log_level, uint64_t session, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define log_error(...)	 log_write(LOG_LEVEL_ERROR, 0, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, 0, __VA_ARGS__)
#define log_notice(...)	 log_write(LOG_LEVEL_NOTICE, 0, __VA_ARGS__)
#define log_info(...)	 log_write(LOG_LEVEL_INFO, 0, __VA_ARGS__)
#define log_debug(...)	 log_write(LOG_LEVEL_DEBUG, 0, __VA_ARGS__)

#endif
