/* ctl_check.h - milterctl check: ask every milter, as the user of the workers */
#ifndef MILTERD_CTL_CHECK_H
#define MILTERD_CTL_CHECK_H

#include "master/ctl_options.h"

/* Becomes milterd-check: what milters say is not for a program that may be root's. Returns only when it cannot. */
ctl_command_fn ctl_check;

#endif
