/* ctl_remote.h - the commands that milterctl has the running daemon carry out */
#ifndef MILTERD_CTL_REMOTE_H
#define MILTERD_CTL_REMOTE_H

#include <jansson.h>
#include <stdint.h>

#include "master/ctl_options.h"

/* Send a command line to the daemon and wait for its whole answer. *answer: the object, the caller's. The exit status of
 * the answer; or *answer is NULL, the reason is on standard error, and the status is EX_UNAVAILABLE (no daemon),
 * EX_NOPERM, EX_TEMPFAIL (late), EX_CONFIG or EX_USAGE. */
int ctl_ask(const struct ctl_options *, int argc, char **argv, int64_t timeout_ms, json_t **answer);
/* The object as one line on standard output, the answer of --json. */
void ctl_print_json(const json_t *);

/* Commands whose answer is a sentence. */
int ctl_simple(const struct ctl_options *, int argc, char **argv);
/* The same, waiting until the daemon has ended. */
int ctl_stop(const struct ctl_options *, int argc, char **argv);

#endif
