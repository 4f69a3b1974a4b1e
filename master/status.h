/* status.h - what the daemon is doing, as the JSON object of milterctl status
 *
 * Numbers and texts of children are shown as they are: they are not trusted, and nothing is decided by them.
 */
#ifndef MILTERD_STATUS_H
#define MILTERD_STATUS_H

#include <jansson.h>

#include "common/conf.h"

/* From now on the daemon is up. */
void status_init(void);
/* The caller's. Only while the supervisor runs. */
json_t *status_make(const struct conf *);

#endif
