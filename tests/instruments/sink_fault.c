#include "config.h"

#include "tests/instruments/sink_fault.h"

#include <err.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char *const stage_names[SINK_STAGES] = {
	[SINK_BANNER] = "banner", [SINK_EHLO] = "ehlo", [SINK_MAIL] = "mail", [SINK_RCPT] = "rcpt", [SINK_DATA] = "data",
	[SINK_CONTENT] = "content", [SINK_DOT] = "dot", [SINK_REPLY] = "reply", [SINK_QUIT] = "quit",
};

static const char *const action_names[] = {
	[SINK_CLOSE] = "close", [SINK_RESET] = "reset", [SINK_SILENT] = "silent", [SINK_DELAY] = "delay",
	[SINK_SAY] = "say", [SINK_GARBAGE] = "garbage", [SINK_FLOOD] = "flood",
};

static unsigned find(const char *name, const char *const *names, size_t count)
{
	unsigned i;

	for (i = 0; i < count; i++)
		if (names[i] && strcmp(names[i], name) == 0)
			return i;
	errx(64, "%s: unknown stage or action of a fault", name);
}

/* \r and \n in place. */
static void unescape(char *text)
{
	char *to = text;

	for (; *text; text++) {
		if (text[0] == '\\' && (text[1] == 'r' || text[1] == 'n'))
			*to++ = *++text == 'r' ? '\r' : '\n';
		else
			*to++ = *text;
	}
	*to = '\0';
}

void sink_fault_parse(struct sink_fault *fault, char *text)
{
	char *slash = strchr(text, '/'), *colon = strchr(text, ':'), *value;

	if (!colon)
		errx(64, "%s: not [N/]STAGE:ACTION[=VALUE]", text);
	*colon++ = '\0';
	value = strchr(colon, '=');
	if (value)
		*value++ = '\0';
	fault->every = 1;
	if (slash && slash < colon) {
		fault->every = (unsigned)strtoul(text, NULL, 10);
		text = slash + 1;
	}
	fault->stage = find(text, stage_names, SINK_STAGES);
	fault->action = find(colon, action_names, sizeof(action_names) / sizeof(action_names[0]));
	if (fault->every == 0 || ((fault->action == SINK_DELAY || fault->action == SINK_SAY) && !value))
		errx(64, "a fault needs a number above 0, and delay and say need a value");
	if (value)
		unescape(value);
	fault->value = value;
}

const struct sink_fault *sink_fault_due(struct sink_fault *fault, unsigned count, enum sink_stage stage)
{
	const struct sink_fault *due = NULL;
	unsigned i;

	for (i = 0; i < count; i++)
		if (fault[i].stage == stage && ++fault[i].count % fault[i].every == 0 && !due)
			due = &fault[i];
	return due;
}
