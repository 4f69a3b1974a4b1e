/* probe.h - one connection to one endpoint of a milter, to see what it negotiates */
#ifndef MILTERD_WORKER_PROBE_H
#define MILTERD_WORKER_PROBE_H

#include <jansson.h>

#include "common/conf.h"

struct probe;

/* result: milter, endpoint, ok; with ok address, version, actions, steps, macros (by stage) and ms; otherwise error and, for a
 * UNIX socket that is forbidden, advice. The callee's. */
typedef void probe_fn(void *ctx, json_t *result);

/* fn is called once, later, within timeout.connect; the probe is gone then. The configuration must live as long. */
void probe_start(const struct conf_milter *, unsigned endpoint, probe_fn *, void *ctx);

#endif
