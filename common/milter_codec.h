/* milter_codec.h - packets of the milter protocol (mfdef.h), both directions
 *
 * A packet is a u32 length, one command byte and length - 1 bytes of data. Nothing here keeps state; what is
 * legal when is the caller's table. Decoders point into the packet: valid as long as its bytes are.
 */
#ifndef MILTERD_MILTER_CODEC_H
#define MILTERD_MILTER_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/milter.h"

struct milter_packet {
	uint8_t command;
	const uint8_t *data;
	size_t len;
	size_t size;		/* of the whole packet: buf_consume() this when done with it */
};

/* The packet at the start of the buffer. 1: there; 0: more bytes are needed; -1: no milter packet (length 0, or
 * more than limit bytes of data). A length above the limit is refused as soon as its four bytes are there. */
int milter_packet_next(const struct buf *, size_t limit, struct milter_packet *);

/* One value a packet of any kind is made of: names and values of macros, and nothing else. */
struct milter_macro {
	const char *name;	/* as sent: "i", "{client_addr}" */
	const char *value;
};

struct milter_optneg {
	uint32_t version, actions, protocol;
	const char *macros[MILTER_STAGE_COUNT];	/* names separated by blanks; NULL: this stage not asked for */
};

#define MILTER_MACROS_MAX 128u	/* macros of one MACRO packet that are decoded */
#define MILTER_ARGS_MAX	  64u	/* ESMTP parameters of one MAIL or RCPT */

/* What an MTA sends. Every string is NUL-terminated, without brackets or CRLF added or removed. */
struct milter_command {
	uint8_t command;
	union {
		struct milter_optneg optneg;
		struct {
			uint8_t stage;	/* the SMFIC_* the macros are for */
			struct milter_macro item[MILTER_MACROS_MAX];
			size_t count;
		} macro;
		struct {
			const char *hostname;
			char family;		/* 'U' unknown, 'L' unix, '4', '6' */
			uint16_t port;		/* 0 with 'U' */
			const char *address;	/* "" with 'U'; with '6' without the "IPv6:" that some MTAs prefix */
		} connect;
		struct {
			const char *arg[MILTER_ARGS_MAX + 1];	/* arg[0] is the path with its brackets */
			size_t count;
		} envelope;			/* MAIL and RCPT */
		const char *text;		/* HELO, UNKNOWN */
		struct {
			const char *name, *value;
		} header;
		struct {
			const uint8_t *data;	/* BODY, and the rest that BODYEOB may carry */
			size_t len;
		} body;
	};
};

/* 0, or -1 with *why in words (static) when the packet is malformed or no MTA command. */
int milter_command_decode(const struct milter_packet *, struct milter_command *, const char **why);

void milter_put_optneg(struct buf *, const struct milter_optneg *);	/* both directions */
void milter_put_macros(struct buf *, uint8_t command, const struct milter_macro *, size_t count);
void milter_put_connect(struct buf *, const char *hostname, char family, uint16_t port, const char *address);
void milter_put_helo(struct buf *, const char *name);
/* SMFIC_MAIL or SMFIC_RCPT; arg[0] is the path with brackets, then one ESMTP parameter each. */
void milter_put_envelope(struct buf *, uint8_t command, const char *const *arg, size_t count);
void milter_put_header(struct buf *, const char *name, size_t name_len, const char *value, size_t value_len);
void milter_put_unknown(struct buf *, const char *line);
/* DATA, EOH, BODYEOB, ABORT, QUIT, QUIT_NC, and every reply without data. */
void milter_put_bare(struct buf *, uint8_t command);
/* Only the head of a packet whose len bytes of data the caller sends from elsewhere (body chunks). */
void milter_put_head(struct buf *, uint8_t command, size_t len);

/* What a filter sends. */
struct milter_reply {
	uint8_t reply;
	union {
		struct milter_optneg optneg;		/* reply SMFIC_OPTNEG */
		struct {
			uint32_t index;			/* CHGHEADER, INSHEADER */
			const char *name, *value;	/* ADDHEADER too */
		} header;
		struct {
			const char *path;		/* as sent, with or without brackets */
			const char *args;		/* ESMTP arguments in one string, NULL when not there */
		} address;				/* ADDRCPT, ADDRCPT_PAR, DELRCPT, CHGFROM */
		struct {
			const uint8_t *data;
			size_t len;
		} body;					/* REPLBODY */
		const char *text;			/* QUARANTINE, REPLYCODE (unchecked: smtp_reply.h) */
		struct {
			uint32_t stage;
			const char *names;
		} symlist;
	};
};

/* 0, or -1 with *why in words (static) when the data does not fit the reply or the reply is unknown. */
int milter_reply_decode(const struct milter_packet *, struct milter_reply *, const char **why);
void milter_put_reply(struct buf *, const struct milter_reply *);

#endif
