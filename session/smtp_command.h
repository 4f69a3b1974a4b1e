/* smtp_command.h - SMTP command lines of a client, RFC 5321 4.1: lines, verbs, arguments */
#ifndef MILTERD_SMTP_COMMAND_H
#define MILTERD_SMTP_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/mem.h"
#include "session/smtp_extension.h"

#define SMTP_LINE_MAX	   4096u	/* bytes of a command line with its CRLF; RFC 5321 wants 512 and room for extensions */
#define SMTP_LINE_SKIP_MAX (64u * 1024)	/* bytes of a line that are read and thrown away before the client has to go */
#define SMTP_PARAMS_MAX	   16u		/* ESMTP parameters of one MAIL or RCPT */
#define SMTP_DOMAIN_MAX	   255u		/* bytes of the argument of HELO and EHLO, RFC 5321 4.5.3.1.2 */

enum smtp_line {
	SMTP_LINE_MORE,		/* no whole line yet */
	SMTP_LINE_OK,
	SMTP_LINE_LONG,		/* above SMTP_LINE_MAX: skipped up to its end, and reported when the end is there */
	SMTP_LINE_BARE,		/* a bare CR or LF or a NUL in it: the whole line is refused */
	SMTP_LINE_ENDLESS,	/* above SMTP_LINE_SKIP_MAX: answer 421 and close; nothing to consume */
};

/* A zeroed reader is at the start of a line. */
struct smtp_line_reader {
	size_t skipped;		/* bytes of a line that is too long, already thrown away */
};

/* The next line of the buffer, which may hold several (PIPELINING). With OK, LONG and BARE the caller consumes *size
 * bytes; *line is without CRLF and valid until then. Only CRLF ends a line. Of a line that is too long, bytes are
 * consumed here, so the buffer stays below SMTP_LINE_MAX and what one read adds. The start of a TLS handshake is handed
 * out as a line, because nobody would ever end it. */
enum smtp_line smtp_line_next(struct smtp_line_reader *, struct buf *, const char **line, size_t *len, size_t *size);

enum smtp_verb {
	SMTP_HELO, SMTP_EHLO, SMTP_MAIL, SMTP_RCPT, SMTP_DATA, SMTP_RSET, SMTP_NOOP, SMTP_QUIT, SMTP_VRFY, SMTP_HELP,
	SMTP_OTHER,		/* something else, maybe an extension we do not offer */
	SMTP_FOREIGN,		/* another protocol (HTTP, TLS, SSH) or a mail header: answer 221 and close */
	SMTP_VERBS
};

struct smtp_command {
	enum smtp_verb verb;
	const char *text;	/* the line with unprintable bytes as '?', for logs and SMFIC_UNKNOWN; in the arena */
	const char *domain;	/* HELO, EHLO: as given */
	const char *address;	/* MAIL, RCPT: without brackets and source route */
	const char **param;	/* MAIL, RCPT */
	size_t param_count;
	/* When the command is malformed: the reply to send, otherwise code is 0. 521 (BDAT, whose payload would be read
	 * as commands): close after it. */
	int code;
	const char *enhanced, *why;
};

/* What this client was offered, and has made use of. */
struct smtp_terms {
	unsigned extensions;	/* SMTP_EXTENSION_... */
	bool utf8;		/* the transaction's MAIL had SMTPUTF8: its recipients may need it, too */
};

/* Never fails: what is wrong is in command->code. Strings live in the arena. ESMTP parameters that are unknown or belong
 * to an extension that was not offered are refused (555 5.5.4); an address that is not ASCII needs SMTPUTF8 (553 5.6.7)
 * and is UTF-8. */
void smtp_command_parse(struct arena *, const struct smtp_terms *, const char *line, size_t len, struct smtp_command *);

#endif
