/* dsn.h - the values of the parameters for delivery status notifications, RFC 3461 4 and RFC 6533 3
 *
 * They are checked and handed on as they are. No value is taken that has a NUL when it is decoded: it would end the
 * string early for whoever decodes it.
 */
#ifndef MILTERD_DSN_H
#define MILTERD_DSN_H

#include <stdbool.h>

bool dsn_is_ret(const char *value);	/* of MAIL */
bool dsn_is_envid(const char *value);
bool dsn_is_notify(const char *value);	/* of RCPT */
/* An address of the type utf-8 may have bytes of UTF-8: whether those may stand here is for the caller to know. */
bool dsn_is_orcpt(const char *value);

#endif
