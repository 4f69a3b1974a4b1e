#include "config.h"

#include "session/queue_id.h"

#include "common/clock.h"

/* Crockford's letters: none that is easily taken for another. */
static const char digits[32] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

static char *put(char *at, uint64_t value, int count)
{
	for (int i = count - 1; i >= 0; i--, value >>= 5)
		at[i] = digits[value & 31];
	return at + count;
}

void queue_id_make(char id[QUEUE_ID_SIZE], unsigned slot)
{
	static int64_t last_us;
	int64_t now_us = clock_wall_us();

	/* Two messages of one microsecond, or a clock that was set back: count on instead. */
	if (now_us <= last_us)
		now_us = last_us + 1;
	last_us = now_us;
	char *at = put(id, (uint64_t)now_us, 11);

	at = put(at, slot, 2);
	*at = '\0';
}
