/* backend_rules.h - the milter protocol as tables: how an event is told, which answer is legal, what it ends
 *
 * Source: mfdef.h and mfapi.h of Sendmail, version 6, and what Postfix makes of them.
 */
#ifndef MILTERD_WORKER_BACKEND_RULES_H
#define MILTERD_WORKER_BACKEND_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/ipc.h"
#include "common/milter.h"
#include "common/milter_codec.h"

/* What we offer: everything. Quarantine too, although a proxy has no queue to hold a message in: clamav-milter and
 * OpenDMARC refuse to work without it. A message that is to be held is deferred by the session instead. */
#define BACKEND_ACTIONS	 SMFIF_ALL
#define BACKEND_PROTOCOL SMFIP_ALL

/* The outcome of the negotiation: never more than was offered and than the version knows. */
struct backend_options {
	uint32_t version, actions, protocol;
	uint32_t foreign_actions, foreign_protocol;	/* what it answered beyond that: ignored */
	char *macros[MILTER_STAGE_COUNT];		/* names it asks for, owned; NULL: it did not say */
};

/* Fill in what a milter's OPTNEG means. 0, or -1 when its version is none we know. */
int backend_options_take(struct backend_options *, const struct milter_optneg *);
void backend_options_fini(struct backend_options *);

/* How an event is told. */
struct backend_step {
	uint8_t command;
	uint32_t no, nr;		/* SMFIP_*: not sent, not answered */
	enum milter_stage stage;	/* of its macros; MILTER_STAGE_COUNT: it has none */
	bool macros_anyway;		/* they are sent even when the command is not: a later stage may read them */
};

/* Not for IPC_EOM, which is several packets. */
const struct backend_step *backend_step_of(enum ipc_event_kind);
/* Its command packet. */
void backend_put_event(struct buf *, const struct ipc_event *);
/* The milter answers this packet of a message's content. */
bool backend_answers_content(uint32_t protocol, uint8_t command);

enum backend_reply_kind { BACKEND_ILLEGAL, BACKEND_FINAL, BACKEND_PROGRESS, BACKEND_EDIT };

/* What a reply is as an answer to a command under this SMFIP_* outcome. */
enum backend_reply_kind backend_reply_kind(uint8_t reply, uint8_t command, uint32_t protocol);
/* SMFIF_* that a modification needs; 0 for other replies. */
uint32_t backend_reply_action(uint8_t reply);
/* The message (not only one recipient) is over for this milter after this final reply. */
bool backend_ends_message(uint8_t command, uint8_t reply);

#endif
