/* terminal.h - text of others on a terminal */
#ifndef MILTERD_TERMINAL_H
#define MILTERD_TERMINAL_H

#include "common/buf.h"

/* Append text with its control characters as \xNN, so that none of them reaches a terminal. UTF-8 is left alone. */
void terminal_put(struct buf *, const char *text);

#endif
