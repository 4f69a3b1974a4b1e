/* conf_check.h - the rules between options: what must be there, what excludes what, which names refer to what */
#ifndef MILTERD_CONF_CHECK_H
#define MILTERD_CONF_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "common/conf.h"
#include "common/conf_problem.h"
#include "common/conf_section.h"

/* section: those whose values became parts of conf: [milterd], then listeners, then milters, each in the order of conf.
 * complete: no section was left out because nobody knows it, so what is not there was not written. Sets what follows from the options: the chains of listeners and the endpoints of milters. */
void conf_check(struct conf *conf, struct conf_section *const *section, bool complete, struct conf_problems *);

#endif
