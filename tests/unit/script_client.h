/* script_client.h - a session process in this one: its listener's configuration, scripted workers, and SMTP clients that
 * say what a test tells them and compare every byte of the answers
 */
#ifndef TESTS_SCRIPT_CLIENT_H
#define TESTS_SCRIPT_CLIENT_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/conf.h"
#include "common/edit_result.h"
#include "common/ipc.h"
#include "session/smtp_session.h"
#include "tests/unit/script_worker.h"

/* What the workers answer; zeroed: CONTINUE to everything, and every message passes unchanged. */
struct script_answers {
	enum verdict verdict[IPC_EVENT_KINDS];
	const char *reply[IPC_EVENT_KINDS];
	const struct edit_result *result;	/* at EOM with CONTINUE; NULL: nothing is changed */
	unsigned silent;			/* bits of the kinds that get no answer at all */
};

struct script_client {
	struct smtp_session *session;		/* NULL once it has ended */
	int fd;
	struct buf in;				/* what has come and was not expected yet */
	bool closed;				/* the session has closed the connection */
};

extern struct script_answers script_answers;
extern struct script_worker script_workers[2];
extern const struct conf *script_conf;

/* The listener's options as lines of configuration, "next-hop = ..." among them. With workers the chain has one milter. */
void script_session_begin(const char *options, unsigned workers);
void script_session_end(void);

/* One turn of the loop, in which workers answer. */
void script_turn(void);
/* Turns until the condition holds; the test fails when it takes too long. */
#define SCRIPT_WAIT_FOR(condition)                                                  \
	do {                                                                        \
		int64_t end_ms = clock_now_ms() + 5000;                             \
		while (!(condition)) {                                              \
			cr_assert(clock_now_ms() < end_ms, "waited for %s", #condition); \
			script_turn();                                              \
		}                                                                   \
	} while (0)

void script_client_open(struct script_client *);
/* Closes its end, and waits until the session is gone. */
void script_client_close(struct script_client *);
void script_client_send(struct script_client *, const char *);
void script_client_send_bytes(struct script_client *, const void *, size_t len);
/* The next bytes must be these; "*" in them stands for anything up to the end of the line. */
void script_client_expect(struct script_client *, const char *expected);
/* Both, for conversations. */
void script_client_say(struct script_client *, const char *text, const char *expected);
/* Nothing more comes but the end of the connection. */
void script_client_expect_end(struct script_client *);
/* Greeting and EHLO. */
void script_client_greet(struct script_client *);

#endif
