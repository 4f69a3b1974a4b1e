/* message_test.h - what "milterctl test" and the session process that carries it out say to each other
 *
 * Frames: u32 length of what follows, u8 type, data. The session process says HELLO first. Then the client sends REQUEST
 * and behind it, without a frame, the content as after DATA: dots doubled, CRLF.CRLF at the end. The answer is a TRACE
 * (struct ipc_trace) for every step of every milter, a REFUSED for every recipient that is refused, and for a message
 * that passes ENVELOPE and CONTENT (dots doubled too); the last one is RESULT, or ERROR alone. Both sides check what
 * they read like anything from the network.
 */
#ifndef MILTERD_MESSAGE_TEST_H
#define MILTERD_MESSAGE_TEST_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/mem.h"
#include "common/milter_codec.h"
#include "common/wire.h"

#define MESSAGE_TEST_REQUEST_MAX (1024u * 1024)		/* bytes of the REQUEST frame */
#define MESSAGE_TEST_FRAME_MAX	 (4u * 1024 * 1024)	/* bytes of any other */
#define MESSAGE_TEST_MACROS_MAX	 32u
#define MESSAGE_TEST_VERSION	 "milterd-test 1"

enum message_test_type {
	MESSAGE_TEST_HELLO = 1,		/* MESSAGE_TEST_VERSION */
	MESSAGE_TEST_REQUEST,
	MESSAGE_TEST_MILTERS,		/* the listener's name, then number and name of every milter of its chain */
	MESSAGE_TEST_TRACE,
	MESSAGE_TEST_REFUSED,		/* recipient and reply */
	MESSAGE_TEST_ENVELOPE,		/* sender, then recipients, each with its parameters */
	MESSAGE_TEST_CONTENT,
	MESSAGE_TEST_RESULT,
	MESSAGE_TEST_ERROR,		/* why the test could not be carried out */
};

struct message_test_frame {
	uint8_t type;
	struct wire data;
	size_t size;			/* of the whole frame: buf_consume() this */
};

/* Begin a frame, append its data, end it; begin returns what end wants to know. */
size_t message_test_begin(struct buf *, enum message_test_type);
void message_test_end(struct buf *, size_t at);
/* 1: there; 0: more bytes are needed; -1: too long, or nothing. */
int message_test_next(const struct buf *, size_t limit, struct message_test_frame *);

struct message_test_request {
	const char *listener;		/* name; "": the first one */
	const char *client_address;	/* "": local */
	uint16_t client_port;
	const char *client_name;	/* "": unknown */
	const char *helo;
	const char *sender;		/* without brackets */
	const char **rcpt;
	size_t rcpt_count;
	struct milter_macro *macro;	/* names as on the wire */
	size_t macro_count;
};

void message_test_request_put(struct buf *, const struct message_test_request *);
/* Sets the reader's error on control bytes anywhere, and on counts that the bytes cannot hold. */
void message_test_request_take(struct wire *, struct arena *, struct message_test_request *);

enum message_test_outcome {
	MESSAGE_TEST_ACCEPTED, MESSAGE_TEST_REJECTED, MESSAGE_TEST_TEMPFAILED, MESSAGE_TEST_DISCARDED,
	MESSAGE_TEST_QUARANTINED, MESSAGE_TEST_OUTCOMES
};

/* "accepted", "rejected", ... */
const char *message_test_outcome_name(enum message_test_outcome);

struct message_test_result {
	uint8_t outcome;
	const char *stage;		/* of the event that decided */
	uint32_t milter;		/* who decided, or IPC_NOBODY */
	const char *reply;		/* to the client, as in smtp_reply.h; of a quarantine the reason */
	uint64_t us;			/* for all milters together */
};

void message_test_result_put(struct buf *, const struct message_test_result *);
void message_test_result_take(struct wire *, struct arena *, struct message_test_result *);

#endif
