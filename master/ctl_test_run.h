/* ctl_test_run.h - a message test carried out by a worker and a session process that we start for it */
#ifndef MILTERD_CTL_TEST_RUN_H
#define MILTERD_CTL_TEST_RUN_H

#include <sys/types.h>

#include "common/message_test.h"

struct ctl_test_run {
	int fd;			/* to the session process */
	pid_t pid[2];
	void *control[2];
};

/* Start both with this configuration. 0, or -1 with the reason on standard error. */
int ctl_test_run_start(struct ctl_test_run *, const char *config_file);
void ctl_test_run_stop(struct ctl_test_run *);

/* Send the request and the content (CRLF line ends; dots are doubled here) and read the frames of the answer until
 * RESULT or ERROR, all appended to answer. 0, or -1 with the reason on standard error. */
int ctl_test_run_exchange(struct ctl_test_run *, const struct message_test_request *, const struct buf *content,
	struct buf *answer);

#endif
