/* ctl_test_report.h - the answer to a message test, for people and for programs */
#ifndef MILTERD_CTL_TEST_REPORT_H
#define MILTERD_CTL_TEST_REPORT_H

#include <stdbool.h>

#include "common/ipc.h"
#include "common/message_test.h"

struct ctl_test_report {
	const struct message_test_request *request;
	const char *assumed;		/* what was not given, in words; "": nothing */
	const struct buf *before;	/* the message as it was sent */
	struct buf answer;		/* frames */
	struct buf after;		/* the message as it would be delivered; set by ctl_test_report_read() */
	bool at_line_start;		/* of after, while it is read */
	struct arena arena;
	const char *listener;
	const char **milter;		/* names of the chain */
	uint32_t *milter_number;
	size_t milter_count;
	struct ipc_trace *step;
	size_t step_count;
	const char **refused;		/* recipient, reply, recipient, ... */
	size_t refused_count;		/* of pairs */
	const char **envelope;		/* after: the sender, then the recipients; NULL: the message did not pass */
	size_t envelope_count;
	struct message_test_result result;
};

/* 0, or -1 with the reason on standard error. */
int ctl_test_report_read(struct ctl_test_report *);
void ctl_test_report_print(const struct ctl_test_report *, bool colour);
void ctl_test_report_print_json(const struct ctl_test_report *);
void ctl_test_report_fini(struct ctl_test_report *);

#endif
