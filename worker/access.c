#include "config.h"

#include "worker/access.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/mem.h"

#define NAME_SIZE 64

static void user_name(char *name, uid_t uid)
{
	const struct passwd *user = getpwuid(uid);

	if (user)
		snprintf(name, NAME_SIZE, "%s", user->pw_name);
	else
		snprintf(name, NAME_SIZE, "%ld", (long)uid);
}

static void group_name(char *name, gid_t gid)
{
	const struct group *group = getgrgid(gid);

	if (group)
		snprintf(name, NAME_SIZE, "%s", group->gr_name);
	else
		snprintf(name, NAME_SIZE, "%ld", (long)gid);
}

static bool denied(const char *path, int how)
{
	return faccessat(AT_FDCWD, path, how, AT_EACCESS) < 0 && errno == EACCES;
}

/* The first folder that does not let us through, or the socket itself: the caller's. NULL: none. */
static char *find_obstacle(const char *path, bool *is_folder)
{
	char *prefix = mem_strdup(path);

	*is_folder = true;
	for (char *slash = strchr(prefix + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (denied(prefix, X_OK))
			return prefix;
		*slash = '/';
	}
	*is_folder = false;
	if (denied(prefix, W_OK))
		return prefix;
	free(prefix);
	return NULL;
}

bool access_explain(struct buf *b, const char *path)
{
	char user[NAME_SIZE], owner[NAME_SIZE], group[NAME_SIZE];
	bool is_folder;
	char *obstacle = find_obstacle(path, &is_folder);
	struct stat st;

	if (!obstacle || stat(obstacle, &st) < 0) {
		free(obstacle);
		return false;
	}
	user_name(user, geteuid());
	user_name(owner, st.st_uid);
	group_name(group, st.st_gid);
	buf_printf(b, "milterd is user %s here; the %s %s has owner %s, group %s and mode %04o: ", user,
		   is_folder ? "folder" : "socket", obstacle, owner, group, (unsigned)st.st_mode & 07777);
	if (st.st_mode & (is_folder ? S_IXGRP : S_IWGRP))
		buf_printf(b, "let %s join the group %s (usermod -aG %s %s) and start milterd again", user, group, group, user);
	else
		buf_printf(b, "the mode keeps that group out; let the milter make it %s, and let %s join the group %s",
			   is_folder ? "0750 or 0755" : "0660 or 0666", user, group);
	free(obstacle);
	return true;
}
