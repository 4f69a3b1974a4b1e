/* ipc.h - every message between our processes
 *
 * Session to worker: OPEN starts a session (ids count up, the process puts its slot above them, so no id is ever used
 * twice); EVENTs follow in SMTP order; a wanted one is answered by exactly one VERDICT with its number, and until then
 * nothing but ABORT, CLOSE and buffer records may follow. Events that nobody wants an answer to are sent together with
 * the next wanted one. A transaction is MAIL, RCPT..., DATA, EOM. It ends, on both sides and without a further record,
 * at the VERDICT for EOM, at any other than CONTINUE or ACCEPT for MAIL or DATA, or at ABORT, which the session sends
 * only when it ends an open transaction itself. A refused RCPT stays in the transaction and does not count; at CONNECT
 * and HELO a refusal is final for the session, and only CLOSE may follow it. CLOSE ends the session; the worker may
 * still send a VERDICT that crosses it: the session ignores records of sessions it does not know.
 * After a worker's death the session sends OPEN and the events again to another, with IPC_EVENT_REPLAYED where the
 * client has its answer already: those are never wanted.
 *
 * A verdict of an event that was not wanted, or was replayed, is held back and given at the next wanted event of the
 * session, with the number of the event that it belongs to in origin.
 */
#ifndef MILTERD_IPC_H
#define MILTERD_IPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/mem.h"
#include "common/milter_codec.h"
#include "common/verdict.h"
#include "common/wire.h"

enum ipc_type {
	/* session to worker */
	IPC_OPEN = 1,		/* struct ipc_open */
	IPC_EVENT,		/* struct ipc_event */
	IPC_ABORT,		/* no data */
	IPC_CLOSE,		/* no data */
	/* worker to session */
	IPC_VERDICT,		/* struct ipc_verdict */
	IPC_EOM_BEGUN,		/* struct ipc_eom_begun; before the first byte of that milter's end of message */
	/* both: message buffers of the sender (BUFFER, DROP) or of the receiver (RELEASE); session 0 */
	IPC_BUFFER,		/* struct ipc_buffer, with a descriptor */
	IPC_BUFFER_DROP,	/* struct ipc_buffer: unmap it, no RELEASE will be waited for */
	IPC_RELEASE,		/* struct ipc_buffer */
	/* master to child, session 0 */
	IPC_LISTENER,		/* struct ipc_slot: number in the configuration; with the listening socket */
	IPC_PEER,		/* struct ipc_slot; with the channel; replaces an earlier one of this slot */
	IPC_START,		/* no data: all is there, begin to accept */
	IPC_DRAIN,		/* no data: finish what runs and leave */
	IPC_LOG_LEVEL,		/* struct ipc_log_level: the least important lines from now on */
	/* child to master, session 0 */
	IPC_READY,		/* no data */
	IPC_WORKED,		/* no data, once: the first job is done */
	IPC_DRAINED,		/* no data, before it leaves */
	/* worker to session */
	IPC_TRACE,		/* struct ipc_trace; only of sessions that were opened for it */
	/* master to session process, session 0 */
	IPC_TEST,		/* no data, with a descriptor: the client of a message test */
	/* both, session 0 */
	IPC_BUFFER_FILE,	/* struct ipc_buffer, with a descriptor: where the buffer goes on */
	/* master to child, session 0 */
	IPC_SPOOL,		/* struct ipc_slot, all 0; with the folder for what does not fit into memory */
};

struct ipc_slot {
	uint32_t slot;
	uint32_t extra;		/* LISTENER: which of its endpoints */
};

struct ipc_log_level {
	uint32_t level;		/* enum log_level */
};

struct ipc_buffer {
	uint32_t id, generation;
};

struct ipc_open {
	uint32_t listener;	/* number in the configuration */
	uint8_t trace;		/* 1: report what is said to and by every milter */
};

enum ipc_event_kind {
	IPC_CONNECT,		/* arg: host name, family letter of SMFIC_CONNECT, port in decimal, address */
	IPC_HELO,		/* arg: name */
	IPC_MAIL, IPC_RCPT,	/* arg: path with brackets, ESMTP parameters */
	IPC_DATA,		/* no arg */
	IPC_EOM,		/* no arg; struct ipc_content */
	IPC_UNKNOWN,		/* arg: command line */
	IPC_EVENT_KINDS
};

/* "connect", "helo", ... */
const char *ipc_event_name(enum ipc_event_kind);

enum { IPC_EVENT_WANTED = 1, IPC_EVENT_REPLAYED = 2 };
#define IPC_EVENT_FLAGS_AT 5u	/* offset of the flags in the record, for who sends one again with others */

#define IPC_ARGS_MAX   (MILTER_ARGS_MAX + 1)
#define IPC_MACROS_MAX 64u

struct ipc_content {
	uint32_t buffer, generation;	/* lent by the session; released by the worker after its VERDICT or ABORT */
	uint64_t memory;		/* bytes of it in the buffer, the others are in its file */
	uint64_t length;		/* dots removed, CRLF line ends, last line complete */
};

struct ipc_event {
	uint32_t number;	/* counts up from 1 in a session; the same at a replay */
	uint8_t kind, flags;
	const char **arg;
	size_t arg_count;
	struct milter_macro *macro;	/* those new with this event, names as on the wire: "i", "{client_addr}" */
	size_t macro_count;
	struct ipc_content content;
};

/* Interest: which events of a session somebody in the chain wants to answer; a bit per ipc_event_kind. */
#define IPC_INTEREST(kind) (1u << (kind))
#define IPC_INTEREST_ALL   0xffffffffu

struct ipc_said {
	uint32_t milter;	/* number in the configuration */
	uint8_t verdict;	/* enum verdict */
	uint8_t failed;		/* the verdict is not its own but the failure policy's */
	uint32_t ms;		/* time spent waiting for it in this message */
};

#define IPC_NOBODY 0xffffffffu

struct ipc_verdict {
	uint32_t number;	/* of the event that is answered */
	uint32_t origin;	/* of the event that the verdict belongs to: number, or an earlier one */
	uint8_t verdict;
	const char *reply;	/* as in smtp_reply.h, or NULL: the session words it */
	uint32_t milter;	/* who decided, or IPC_NOBODY */
	uint32_t interest;	/* from now on */
	struct ipc_said *said;	/* at EOM, or when the verdict ends the transaction: every milter that took part */
	size_t said_count;
	/* At EOM with CONTINUE or ACCEPT the record goes on with edit_result_put(). */
};

struct ipc_eom_begun {
	uint32_t milter;
};

enum ipc_trace_kind {
	IPC_TRACE_STEP,		/* a command and its answer; HEADER and BODY: all of a message together */
	IPC_TRACE_EDIT,		/* a modification; before the step of BODYEOB that it belongs to */
	IPC_TRACE_TROUBLE,	/* the milter could not be asked, or its connection was given up */
	IPC_TRACE_KINDS
};

struct ipc_trace {
	uint8_t kind;
	uint32_t milter;		/* number in the configuration */
	uint8_t command;		/* STEP: SMFIC_* */
	uint8_t reply;			/* STEP: the last SMFIR_*, 0: none; EDIT: which modification */
	uint32_t packets;		/* STEP: of this command; 0: only its macros were sent */
	uint64_t us;			/* STEP: from the first packet to the last answer */
	const char *subject;		/* STEP: first argument, "" where there is none; TROUBLE: the endpoint */
	const char *text;		/* STEP: of REPLYCODE, unchecked, otherwise ""; TROUBLE: the cause */
	struct milter_macro *macro;	/* STEP: sent with the command */
	size_t macro_count;
	const uint8_t *data;		/* EDIT: of the packet; of REPLBODY nothing */
	size_t data_len;
	uint64_t size;			/* EDIT: bytes of the packet, or of the whole new body */
};

/* Writers append the data of one record (chan_begin()) and assert what readers check; readers copy what must live into
 * the arena. Readers leave the reader's error set on anything malformed: a count, kind, flag, number or verdict out of
 * range, a replayed event that is wanted, content with more in memory than there is, a string without its NUL, a CONNECT whose family or port is none, a reply that
 * is not in the form of smtp_reply.h or not 5xx with REJECT, 4xx with TEMPFAIL and SHUTDOWN, NULL with all others.
 * Numbers of listeners, milters and buffers are for the caller to check. It asks wire_finished() at the end. */
void ipc_slot_put(struct buf *, const struct ipc_slot *);
void ipc_slot_take(struct wire *, struct ipc_slot *);
void ipc_log_level_put(struct buf *, const struct ipc_log_level *);
void ipc_log_level_take(struct wire *, struct ipc_log_level *);
void ipc_buffer_put(struct buf *, const struct ipc_buffer *);
void ipc_buffer_take(struct wire *, struct ipc_buffer *);
void ipc_open_put(struct buf *, const struct ipc_open *);
void ipc_open_take(struct wire *, struct ipc_open *);
void ipc_event_put(struct buf *, const struct ipc_event *);
void ipc_event_take(struct wire *, struct arena *, struct ipc_event *);
void ipc_verdict_put(struct buf *, const struct ipc_verdict *);
void ipc_verdict_take(struct wire *, struct arena *, struct ipc_verdict *);
void ipc_eom_begun_put(struct buf *, const struct ipc_eom_begun *);
void ipc_eom_begun_take(struct wire *, struct ipc_eom_begun *);
/* The reader also refuses an EDIT whose data milter_reply_decode() does not take. */
void ipc_trace_put(struct buf *, const struct ipc_trace *);
void ipc_trace_take(struct wire *, struct arena *, struct ipc_trace *);

#endif
