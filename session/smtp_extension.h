/* smtp_extension.h - the extensions that clients may use only when the next hop has them: bits of a set */
#ifndef MILTERD_SMTP_EXTENSION_H
#define MILTERD_SMTP_EXTENSION_H

enum {
	SMTP_EXTENSION_8BITMIME = 1,	/* RFC 6152 */
	SMTP_EXTENSION_DSN = 2,		/* RFC 3461 */
	SMTP_EXTENSION_SMTPUTF8 = 4,	/* RFC 6531 */
	SMTP_EXTENSIONS_ALL = 7
};

#endif
