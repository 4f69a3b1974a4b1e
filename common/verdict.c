#include "config.h"

#include "common/verdict.h"

#include <assert.h>

const char *verdict_name(enum verdict verdict)
{
	static const char *const names[VERDICT_COUNT] = {
		[VERDICT_CONTINUE] = "continue", [VERDICT_ACCEPT] = "accept", [VERDICT_DISCARD] = "discard",
		[VERDICT_REJECT] = "reject", [VERDICT_TEMPFAIL] = "tempfail", [VERDICT_SHUTDOWN] = "shutdown",
	};

	assert(verdict < VERDICT_COUNT);
	return names[verdict];
}
