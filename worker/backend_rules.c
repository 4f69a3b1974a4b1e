#include "config.h"

#include "worker/backend_rules.h"

#include <assert.h>
#include <stdlib.h>

#include "common/mem.h"

/* Without the ADDRCPT_PAR, CHGFROM and SETSYMLIST of version 6. */
#define ACTIONS_OLD 0x3fu

static uint32_t protocol_of_version(uint32_t version)
{
	return version == 2 ? 0x7fu : version == 3 ? 0x17fu : version < 6 ? 0x37fu : SMFIP_ALL;
}

/* Steps that a version does not know are not to be sent. */
static uint32_t missing_in_version(uint32_t version)
{
	return (version < 3 ? SMFIP_NOUNKNOWN : 0) | (version < 4 ? SMFIP_NODATA : 0);
}

int backend_options_take(struct backend_options *o, const struct milter_optneg *answer)
{
	uint32_t actions = BACKEND_ACTIONS & (answer->version < 6 ? ACTIONS_OLD : SMFIF_ALL);
	uint32_t protocol = BACKEND_PROTOCOL & protocol_of_version(answer->version);

	if (answer->version < MILTER_VERSION_MIN || answer->version > MILTER_VERSION_MAX)
		return -1;
	o->version = answer->version;
	o->actions = answer->actions & actions;
	o->protocol = (answer->protocol & protocol) | missing_in_version(answer->version);
	o->foreign_actions = answer->actions & ~actions;
	o->foreign_protocol = answer->protocol & ~protocol;
	for (size_t i = 0; i < MILTER_STAGE_COUNT; i++)
		if (answer->macros[i])
			o->macros[i] = mem_strdup(answer->macros[i]);
	return 0;
}

void backend_options_fini(struct backend_options *o)
{
	for (size_t i = 0; i < MILTER_STAGE_COUNT; i++)
		free(o->macros[i]);
	*o = (struct backend_options){ 0 };
}

static const struct backend_step steps[IPC_EVENT_KINDS] = {
	[IPC_CONNECT] = { SMFIC_CONNECT, SMFIP_NOCONNECT, SMFIP_NR_CONN, MILTER_STAGE_CONNECT, true },
	[IPC_HELO] = { SMFIC_HELO, SMFIP_NOHELO, SMFIP_NR_HELO, MILTER_STAGE_HELO, true },
	[IPC_MAIL] = { SMFIC_MAIL, SMFIP_NOMAIL, SMFIP_NR_MAIL, MILTER_STAGE_MAIL, true },
	[IPC_RCPT] = { SMFIC_RCPT, SMFIP_NORCPT, SMFIP_NR_RCPT, MILTER_STAGE_RCPT, true },
	[IPC_DATA] = { SMFIC_DATA, SMFIP_NODATA, SMFIP_NR_DATA, MILTER_STAGE_DATA, false },
	[IPC_UNKNOWN] = { SMFIC_UNKNOWN, SMFIP_NOUNKNOWN, SMFIP_NR_UNKN, MILTER_STAGE_COUNT, false },
};

const struct backend_step *backend_step_of(enum ipc_event_kind kind)
{
	assert(kind < IPC_EVENT_KINDS && steps[kind].command);
	return &steps[kind];
}

void backend_put_event(struct buf *out, const struct ipc_event *e)
{
	uint8_t command = backend_step_of(e->kind)->command;

	switch (command) {
	case SMFIC_CONNECT:
		milter_put_connect(out, e->arg[0], e->arg[1][0], (uint16_t)strtoul(e->arg[2], NULL, 10), e->arg[3]);
		break;
	case SMFIC_HELO:
		milter_put_helo(out, e->arg[0]);
		break;
	case SMFIC_MAIL:
	case SMFIC_RCPT:
		milter_put_envelope(out, command, e->arg, e->arg_count);
		break;
	case SMFIC_UNKNOWN:
		milter_put_unknown(out, e->arg[0]);
		break;
	default:
		milter_put_bare(out, command);
	}
}

bool backend_answers_content(uint32_t protocol, uint8_t command)
{
	switch (command) {
	case SMFIC_HEADER:
		return !(protocol & SMFIP_NR_HDR);
	case SMFIC_EOH:
		return !(protocol & SMFIP_NR_EOH);
	case SMFIC_BODY:
		return !(protocol & SMFIP_NR_BODY);
	default:
		return command == SMFIC_BODYEOB;
	}
}

#define AT(command) (1u << ((command) - 'A'))
#define ANY	    0xffffffffu
#define AT_END	    AT(SMFIC_BODYEOB)

/* A row for each reply there may be: SETSYMLIST rides in OPTNEG, CONN_FAIL is Sendmail's own and never on the wire. */
static const struct {
	enum backend_reply_kind kind;
	uint32_t at;			/* commands it may answer */
	uint32_t action, protocol;	/* what must have been negotiated */
} replies[256] = {
	[SMFIR_CONTINUE] = { BACKEND_FINAL, ANY, 0, 0 },
	[SMFIR_ACCEPT] = { BACKEND_FINAL, ANY, 0, 0 },
	[SMFIR_REJECT] = { BACKEND_FINAL, ANY, 0, 0 },
	[SMFIR_TEMPFAIL] = { BACKEND_FINAL, ANY, 0, 0 },
	[SMFIR_REPLYCODE] = { BACKEND_FINAL, ANY, 0, 0 },
	[SMFIR_DISCARD] = { BACKEND_FINAL, ANY, 0, 0 },
	[SMFIR_SHUTDOWN] = { BACKEND_FINAL, ANY, 0, 0 },
	[SMFIR_SKIP] = { BACKEND_FINAL, ANY & ~AT_END, 0, SMFIP_SKIP },
	[SMFIR_PROGRESS] = { BACKEND_PROGRESS, ANY, 0, 0 },
	[SMFIR_ADDHEADER] = { BACKEND_EDIT, AT_END, SMFIF_ADDHDRS, 0 },
	[SMFIR_INSHEADER] = { BACKEND_EDIT, AT_END, SMFIF_ADDHDRS, 0 },
	[SMFIR_CHGHEADER] = { BACKEND_EDIT, AT_END, SMFIF_CHGHDRS, 0 },
	[SMFIR_REPLBODY] = { BACKEND_EDIT, AT_END, SMFIF_CHGBODY, 0 },
	[SMFIR_CHGFROM] = { BACKEND_EDIT, AT_END, SMFIF_CHGFROM, 0 },
	[SMFIR_ADDRCPT] = { BACKEND_EDIT, AT_END, SMFIF_ADDRCPT, 0 },
	[SMFIR_ADDRCPT_PAR] = { BACKEND_EDIT, AT_END, SMFIF_ADDRCPT_PAR, 0 },
	[SMFIR_DELRCPT] = { BACKEND_EDIT, AT_END, SMFIF_DELRCPT, 0 },
	[SMFIR_QUARANTINE] = { BACKEND_EDIT, AT_END, SMFIF_QUARANTINE, 0 },
};

enum backend_reply_kind backend_reply_kind(uint8_t reply, uint8_t command, uint32_t protocol)
{
	if (!(replies[reply].at & AT(command)) || (replies[reply].protocol & ~protocol))
		return BACKEND_ILLEGAL;
	return replies[reply].kind;
}

uint32_t backend_reply_action(uint8_t reply)
{
	return replies[reply].action;
}

bool backend_ends_message(uint8_t command, uint8_t reply)
{
	if (command == SMFIC_BODYEOB)
		return true;
	if (reply == SMFIR_CONTINUE || reply == SMFIR_SKIP)
		return false;
	if (command == SMFIC_RCPT || command == SMFIC_UNKNOWN)
		return reply == SMFIR_ACCEPT || reply == SMFIR_DISCARD;
	return true;
}
