#include "config.h"

#include "common/milter_names.h"

#include <stdbool.h>
#include <stddef.h>

const char *milter_command_name(uint8_t command)
{
	switch (command) {
	case SMFIC_ABORT: return "ABORT";
	case SMFIC_BODY: return "BODY";
	case SMFIC_CONNECT: return "CONNECT";
	case SMFIC_MACRO: return "MACRO";
	case SMFIC_BODYEOB: return "BODYEOB";
	case SMFIC_HELO: return "HELO";
	case SMFIC_QUIT_NC: return "QUIT_NC";
	case SMFIC_HEADER: return "HEADER";
	case SMFIC_MAIL: return "MAIL";
	case SMFIC_EOH: return "EOH";
	case SMFIC_OPTNEG: return "OPTNEG";
	case SMFIC_QUIT: return "QUIT";
	case SMFIC_RCPT: return "RCPT";
	case SMFIC_DATA: return "DATA";
	case SMFIC_UNKNOWN: return "UNKNOWN";
	default: return NULL;
	}
}

const char *milter_reply_name(uint8_t reply)
{
	switch (reply) {
	case SMFIR_ADDRCPT: return "ADDRCPT";
	case SMFIR_DELRCPT: return "DELRCPT";
	case SMFIR_ADDRCPT_PAR: return "ADDRCPT_PAR";
	case SMFIR_SHUTDOWN: return "SHUTDOWN";
	case SMFIR_ACCEPT: return "ACCEPT";
	case SMFIR_REPLBODY: return "REPLBODY";
	case SMFIR_CONTINUE: return "CONTINUE";
	case SMFIR_DISCARD: return "DISCARD";
	case SMFIR_CHGFROM: return "CHGFROM";
	case SMFIR_CONN_FAIL: return "CONN_FAIL";
	case SMFIR_ADDHEADER: return "ADDHEADER";
	case SMFIR_INSHEADER: return "INSHEADER";
	case SMFIR_SETSYMLIST: return "SETSYMLIST";
	case SMFIR_CHGHEADER: return "CHGHEADER";
	case SMFIR_PROGRESS: return "PROGRESS";
	case SMFIR_QUARANTINE: return "QUARANTINE";
	case SMFIR_REJECT: return "REJECT";
	case SMFIR_SKIP: return "SKIP";
	case SMFIR_TEMPFAIL: return "TEMPFAIL";
	case SMFIR_REPLYCODE: return "REPLYCODE";
	case SMFIC_OPTNEG: return "OPTNEG";
	default: return NULL;
	}
}

const char *milter_stage_name(enum milter_stage stage)
{
	static const char *const names[MILTER_STAGE_COUNT] = {
		[MILTER_STAGE_CONNECT] = "connect", [MILTER_STAGE_HELO] = "helo", [MILTER_STAGE_MAIL] = "mail",
		[MILTER_STAGE_RCPT] = "rcpt", [MILTER_STAGE_DATA] = "data", [MILTER_STAGE_EOM] = "eom",
		[MILTER_STAGE_EOH] = "eoh",
	};

	return names[stage];
}

struct bit {
	uint32_t bit;
	const char *name;
};

static void print_bits(struct buf *b, uint32_t value, const struct bit *bits, size_t count)
{
	bool first = true;

	if (!value)
		buf_puts(b, "none");
	for (size_t i = 0; i < count; i++) {
		if (!(value & bits[i].bit))
			continue;
		buf_printf(b, "%s%s", first ? "" : " ", bits[i].name);
		value &= ~bits[i].bit;
		first = false;
	}
	if (value)
		buf_printf(b, "%s0x%x", first ? "" : " ", value);
}

void milter_actions_print(struct buf *b, uint32_t actions)
{
	static const struct bit bits[] = {
		{ SMFIF_ADDHDRS, "ADDHDRS" }, { SMFIF_CHGBODY, "CHGBODY" }, { SMFIF_ADDRCPT, "ADDRCPT" },
		{ SMFIF_DELRCPT, "DELRCPT" }, { SMFIF_CHGHDRS, "CHGHDRS" }, { SMFIF_QUARANTINE, "QUARANTINE" },
		{ SMFIF_CHGFROM, "CHGFROM" }, { SMFIF_ADDRCPT_PAR, "ADDRCPT_PAR" },
		{ SMFIF_SETSYMLIST, "SETSYMLIST" },
	};

	print_bits(b, actions, bits, sizeof(bits) / sizeof(*bits));
}

void milter_protocol_print(struct buf *b, uint32_t protocol)
{
	static const struct bit bits[] = {
		{ SMFIP_NOCONNECT, "NOCONNECT" }, { SMFIP_NOHELO, "NOHELO" }, { SMFIP_NOMAIL, "NOMAIL" },
		{ SMFIP_NORCPT, "NORCPT" }, { SMFIP_NOBODY, "NOBODY" }, { SMFIP_NOHDRS, "NOHDRS" },
		{ SMFIP_NOEOH, "NOEOH" }, { SMFIP_NR_HDR, "NR_HDR" }, { SMFIP_NOUNKNOWN, "NOUNKNOWN" },
		{ SMFIP_NODATA, "NODATA" }, { SMFIP_SKIP, "SKIP" }, { SMFIP_RCPT_REJ, "RCPT_REJ" },
		{ SMFIP_NR_CONN, "NR_CONN" }, { SMFIP_NR_HELO, "NR_HELO" }, { SMFIP_NR_MAIL, "NR_MAIL" },
		{ SMFIP_NR_RCPT, "NR_RCPT" }, { SMFIP_NR_DATA, "NR_DATA" }, { SMFIP_NR_UNKN, "NR_UNKN" },
		{ SMFIP_NR_EOH, "NR_EOH" }, { SMFIP_NR_BODY, "NR_BODY" }, { SMFIP_HDR_LEADSPC, "HDR_LEADSPC" },
	};

	print_bits(b, protocol, bits, sizeof(bits) / sizeof(*bits));
}
