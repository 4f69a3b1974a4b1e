/* milter_names.h - the words for milter numbers, for logs, tables and error messages */
#ifndef MILTERD_MILTER_NAMES_H
#define MILTERD_MILTER_NAMES_H

#include <stdint.h>

#include "common/buf.h"
#include "common/milter.h"

/* "CONNECT", "BODYEOB", ...; NULL when it is none. */
const char *milter_command_name(uint8_t command);
const char *milter_reply_name(uint8_t reply);
/* "connect", "helo", "mail", "rcpt", "data", "eom", "eoh". */
const char *milter_stage_name(enum milter_stage);
/* Names separated by blanks, unknown bits as hex; "none" for 0. */
void milter_actions_print(struct buf *, uint32_t actions);
void milter_protocol_print(struct buf *, uint32_t protocol);

#endif
