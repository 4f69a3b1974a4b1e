/* sink_fault.h - what a sink does wrong on purpose: [N/]STAGE:ACTION[=VALUE], every Nth time (default: always) */
#ifndef INSTRUMENTS_SINK_FAULT_H
#define INSTRUMENTS_SINK_FAULT_H

enum sink_stage {
	SINK_BANNER, SINK_EHLO, SINK_MAIL, SINK_RCPT, SINK_DATA,
	SINK_CONTENT,	/* some of the content is there */
	SINK_DOT,	/* all of it, and it is not recorded */
	SINK_REPLY,	/* it is recorded as "unanswered" instead of "accepted" */
	SINK_QUIT,
	SINK_STAGES
};

enum sink_action {
	SINK_NOTHING,
	SINK_CLOSE,	/* orderly */
	SINK_RESET,
	SINK_SILENT,	/* for ever: neither reads nor writes */
	SINK_DELAY,	/* value: milliseconds, then go on as usual */
	SINK_SAY,	/* value: the reply instead of the usual one; at content one more than usual; \r and \n are CR and LF */
	SINK_GARBAGE,	/* bytes that are no reply */
	SINK_FLOOD,	/* a reply of 100,000 lines */
};

struct sink_fault {
	enum sink_stage stage;
	enum sink_action action;
	unsigned every;
	unsigned long count;	/* how often the stage was reached */
	const char *value;
};

#define SINK_FAULTS_MAX 16

/* Ends the process when the text is wrong. It must live as long as the fault. */
void sink_fault_parse(struct sink_fault *, char *text);
/* The fault to commit at this stage now, or NULL; counts. */
const struct sink_fault *sink_fault_due(struct sink_fault *, unsigned count, enum sink_stage);

#endif
