/* interest.h - which events of a session a milter wants to answer, from what it negotiated */
#ifndef MILTERD_WORKER_INTEREST_H
#define MILTERD_WORKER_INTEREST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/ipc.h"

/* A bit (IPC_INTEREST) for each event that a milter with these SMFIP_* bits answers; EOM always. */
uint32_t interest_of(uint32_t protocol);
/* Every event there is: for a milter whose negotiation is unknown. */
uint32_t interest_of_unknown(void);

#endif
