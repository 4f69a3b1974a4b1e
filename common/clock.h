/* clock.h - monotonic time for deadlines, wall time for people */
#ifndef MILTERD_CLOCK_H
#define MILTERD_CLOCK_H

#include <stdint.h>

/* Milliseconds of CLOCK_MONOTONIC. All deadlines are on this clock. */
int64_t clock_now_ms(void);
int64_t clock_now_us(void);
/* Microseconds since the epoch (CLOCK_REALTIME); never for deadlines. */
int64_t clock_wall_us(void);

#endif
