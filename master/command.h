/* command.h - what the running master does for milterctl */
#ifndef MILTERD_COMMAND_H
#define MILTERD_COMMAND_H

#include "common/conf.h"
#include "master/control.h"

/* The configuration must live as long as commands come. */
void command_init(const struct conf *);
/* A row of its table, or an answer that says what is wrong. */
control_command_fn command_run;

#endif
