/* milter.h - the numbers of the milter protocol, as in Sendmail's mfdef.h and mfapi.h, version 6 */
#ifndef MILTERD_MILTER_H
#define MILTERD_MILTER_H

#include <stdint.h>

#define MILTER_VERSION_MIN 2u
#define MILTER_VERSION_MAX 6u
#define MILTER_CHUNK_SIZE  65535u	/* bytes of one BODY packet, MILTER_CHUNK_SIZE of mfdef.h */

/* Commands, MTA to filter. */
enum {
	SMFIC_ABORT = 'A', SMFIC_BODY = 'B', SMFIC_CONNECT = 'C', SMFIC_MACRO = 'D', SMFIC_BODYEOB = 'E',
	SMFIC_HELO = 'H', SMFIC_QUIT_NC = 'K', SMFIC_HEADER = 'L', SMFIC_MAIL = 'M', SMFIC_EOH = 'N',
	SMFIC_OPTNEG = 'O', SMFIC_QUIT = 'Q', SMFIC_RCPT = 'R', SMFIC_DATA = 'T', SMFIC_UNKNOWN = 'U',
};

/* Replies, filter to MTA. */
enum {
	SMFIR_ADDRCPT = '+', SMFIR_DELRCPT = '-', SMFIR_ADDRCPT_PAR = '2', SMFIR_SHUTDOWN = '4', SMFIR_ACCEPT = 'a',
	SMFIR_REPLBODY = 'b', SMFIR_CONTINUE = 'c', SMFIR_DISCARD = 'd', SMFIR_CHGFROM = 'e', SMFIR_CONN_FAIL = 'f',
	SMFIR_ADDHEADER = 'h', SMFIR_INSHEADER = 'i', SMFIR_SETSYMLIST = 'l', SMFIR_CHGHEADER = 'm',
	SMFIR_PROGRESS = 'p', SMFIR_QUARANTINE = 'q', SMFIR_REJECT = 'r', SMFIR_SKIP = 's', SMFIR_TEMPFAIL = 't',
	SMFIR_REPLYCODE = 'y',
};

/* Actions a filter may take, second word of OPTNEG. */
#define SMFIF_ADDHDRS	  0x001u
#define SMFIF_CHGBODY	  0x002u
#define SMFIF_ADDRCPT	  0x004u
#define SMFIF_DELRCPT	  0x008u
#define SMFIF_CHGHDRS	  0x010u
#define SMFIF_QUARANTINE  0x020u
#define SMFIF_CHGFROM	  0x040u
#define SMFIF_ADDRCPT_PAR 0x080u
#define SMFIF_SETSYMLIST  0x100u
#define SMFIF_ALL	  0x1ffu

/* Steps a filter does not want or answers differently, third word of OPTNEG. */
#define SMFIP_NOCONNECT	  0x00000001u
#define SMFIP_NOHELO	  0x00000002u
#define SMFIP_NOMAIL	  0x00000004u
#define SMFIP_NORCPT	  0x00000008u
#define SMFIP_NOBODY	  0x00000010u
#define SMFIP_NOHDRS	  0x00000020u
#define SMFIP_NOEOH	  0x00000040u
#define SMFIP_NR_HDR	  0x00000080u
#define SMFIP_NOUNKNOWN	  0x00000100u
#define SMFIP_NODATA	  0x00000200u
#define SMFIP_SKIP	  0x00000400u
#define SMFIP_RCPT_REJ	  0x00000800u
#define SMFIP_NR_CONN	  0x00001000u
#define SMFIP_NR_HELO	  0x00002000u
#define SMFIP_NR_MAIL	  0x00004000u
#define SMFIP_NR_RCPT	  0x00008000u
#define SMFIP_NR_DATA	  0x00010000u
#define SMFIP_NR_UNKN	  0x00020000u
#define SMFIP_NR_EOH	  0x00040000u
#define SMFIP_NR_BODY	  0x00080000u
#define SMFIP_HDR_LEADSPC 0x00100000u
#define SMFIP_ALL	  0x001fffffu

/* Macro stages in the numbering of SETSYMLIST, SMFIM_* of mfapi.h. */
enum milter_stage {
	MILTER_STAGE_CONNECT, MILTER_STAGE_HELO, MILTER_STAGE_MAIL, MILTER_STAGE_RCPT, MILTER_STAGE_DATA,
	MILTER_STAGE_EOM, MILTER_STAGE_EOH,
	MILTER_STAGE_COUNT
};

#endif
