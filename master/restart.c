#include "config.h"

#include "master/restart.h"

#include <string.h>
#include <sys/wait.h>

int64_t restart_delay_ms(struct restart *r, bool worked, int64_t lived_ms)
{
	int64_t delay_ms = RESTART_DELAY_MIN_MS;

	if (worked || lived_ms > RESTART_LIVED_MS) {
		r->failed_starts = 0;
		return 0;
	}
	for (unsigned i = 0; i < r->failed_starts && delay_ms < RESTART_DELAY_MAX_MS; i++)
		delay_ms *= 2;
	r->failed_starts++;
	return delay_ms < RESTART_DELAY_MAX_MS ? delay_ms : RESTART_DELAY_MAX_MS;
}

void restart_print_cause(struct buf *b, int status)
{
	if (WIFSIGNALED(status))
		buf_printf(b, "was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		buf_printf(b, "exited with status %d", WEXITSTATUS(status));
}
