/* account.h - the users and groups that the configuration names */
#ifndef MILTERD_ACCOUNT_H
#define MILTERD_ACCOUNT_H

#include <pwd.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/conf.h"
#include "common/conf_option.h"

/* A user by name or number; valid until the next call. NULL: there is none. */
const struct passwd *account_user(const char *name);
/* A group by name or number. 0, or -1: there is none. */
int account_group(const char *name, gid_t *gid);
/* Add the line for an option that names an account which is not there: what it is and how to create it. -1; 0 when the
 * file does not name it and the line is a warning. type: "user" or "group"; number: see conf_origin_print(). */
int account_missing(struct buf *problems, const struct conf *, enum conf_kind, size_t number, const char *key,
	const char *type, const char *name);

#endif
