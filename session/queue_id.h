/* queue_id.h - names for messages: unique across processes, restarts and time, short enough to read out */
#ifndef MILTERD_QUEUE_ID_H
#define MILTERD_QUEUE_ID_H

#include <stdint.h>

#define QUEUE_ID_SIZE 20	/* with its NUL */

/* slot: that of this process (below 64). Letters and digits only; ids made later in one process sort later. */
void queue_id_make(char id[QUEUE_ID_SIZE], unsigned slot);

#endif
