#include "config.h"

#include "master/account.h"

#include <errno.h>
#include <grp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf_origin.h"

/* Whether the name is a number, as in chown(1). */
static bool is_number(const char *name, unsigned *number)
{
	if (!*name || strspn(name, "0123456789") != strlen(name))
		return false;
	errno = 0;

	unsigned long value = strtoul(name, NULL, 10);

	*number = (unsigned)value;
	return errno == 0 && value == *number;
}

const struct passwd *account_user(const char *name)
{
	const struct passwd *user = getpwnam(name);
	unsigned number;

	return !user && is_number(name, &number) ? getpwuid(number) : user;
}

int account_group(const char *name, gid_t *gid)
{
	const struct group *group = getgrnam(name);
	unsigned number;

	if (!group && is_number(name, &number))
		group = getgrgid(number);
	if (!group)
		return -1;
	*gid = group->gr_gid;
	return 0;
}

/* Whether the tools that make accounts, and a shell, take the name as it is. */
static bool is_plain(const char *name)
{
	return strspn(name, "0123456789") != strlen(name) &&
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == strlen(name);
}

int account_missing(struct buf *problems, const struct conf *conf, enum conf_kind kind, size_t number, const char *key,
	const char *type, const char *name)
{
	const char *command = !strcmp(type, "user") ? "useradd -r -s /usr/sbin/nologin" : "groupadd -r";
	bool given = conf_origin_given(conf, kind, number, key);

	if (given)
		conf_origin_print(problems, conf, kind, number, key);
	else
		conf_origin_print_warning(problems, conf, kind, number, key);
	buf_printf(problems, "there is no %s \"%s\"", type, name);
	if (!given)
		buf_puts(problems, ", the default, without which milterd does not start as root");
	if (is_plain(name))
		buf_printf(problems, "; create it (%s %s) or name another one\n", command, name);
	else
		buf_puts(problems, "; create it or name another one\n");
	return given ? -1 : 0;
}
