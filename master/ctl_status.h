/* ctl_status.h - milterctl status: the daemon's answer as tables */
#ifndef MILTERD_CTL_STATUS_H
#define MILTERD_CTL_STATUS_H

#include "master/ctl_options.h"

/* 0 when the daemon answers, whatever state its milters are in. */
ctl_command_fn ctl_status;

#endif
