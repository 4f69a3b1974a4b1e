#include "config.h"

#include "master/spool_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"

#define MODE 0700

static int folder[ROLE_COUNT] = { [ROLE_SESSION] = -1, [ROLE_WORKER] = -1 };

/* account NULL: it stays ours. */
static int open_folder(int parent, enum role role, const struct account *account)
{
	int fd;

	if (mkdirat(parent, role_name(role), MODE) < 0 && errno != EEXIST)
		return -1;
	fd = openat(parent, role_name(role), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && account && (fchown(fd, account->uid, account->gid) < 0 || fchmod(fd, MODE) < 0))
		fd_close(&fd);
	return fd;
}

/* A message that is small enough for memory needs no folder. */
static bool is_needed(const struct conf *conf)
{
	for (size_t i = 0; i < conf->listener_count; i++)
		if (conf->listener[i].max_message_size > conf->milterd.spool_above)
			return true;
	return false;
}

void spool_folder_open(const struct conf *conf, const struct privileges *p)
{
	const struct account *account[ROLE_COUNT] = { [ROLE_SESSION] = &p->session, [ROLE_WORKER] = &p->worker };
	const char *path = conf->milterd.spool_directory;
	int parent = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = parent < 0 ? errno : 0;

	for (enum role role = 0; role < ROLE_COUNT && !error; role++) {
		folder[role] = open_folder(parent, role, p->separate ? account[role] : NULL);
		if (folder[role] < 0)
			error = errno;
	}
	fd_close(&parent);
	if (error)
		spool_folder_close();
	if (error && is_needed(conf))
		log_warning("event=no-spool cause=\"spool-directory %s: %s\" action=\"large messages stay in memory\"", path,
			    strerror(error));
}

int spool_folder_get(enum role role)
{
	return folder[role];
}

void spool_folder_close(void)
{
	for (enum role role = 0; role < ROLE_COUNT; role++)
		fd_close(&folder[role]);
}
