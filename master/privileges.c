#include "config.h"

#include "master/privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/conf_origin.h"
#include "common/mem.h"
#include "master/account.h"

#define GROUPS_MAX 65536	/* NGROUPS_MAX of Linux */

static void find_groups(struct account *account, const char *name)
{
	int room = 0;

	/* The first call fails and says how many there are. */
	getgrouplist(name, account->gid, NULL, &room);
	if (room <= 0 || room > GROUPS_MAX)
		return;
	account->group = mem_array((size_t)room, sizeof(*account->group));
	if (getgrouplist(name, account->gid, account->group, &room) >= 0)
		account->group_count = (size_t)room;
}

static int find_user(struct privileges *p, struct account *account, const char *key, const char *name,
	const struct conf *conf, struct buf *problems)
{
	const struct passwd *user = account_user(name);

	if (!user) {
		p->incomplete = true;
		return account_missing(problems, conf, CONF_MILTERD, 0, key, "user", name);
	}
	if (user->pw_uid == 0) {
		conf_origin_print(problems, conf, CONF_MILTERD, 0, key);
		buf_printf(problems, "\"%s\" is root; an account without privileges is needed\n", name);
		return -1;
	}
	account->uid = user->pw_uid;
	account->gid = user->pw_gid;
	find_groups(account, user->pw_name);
	return 0;
}

static int find_group(struct account *account, const char *name, const struct conf *conf, struct buf *problems)
{
	if (account_group(name, &account->gid) == 0)
		return 0;
	return account_missing(problems, conf, CONF_MILTERD, 0, "group", "group", name);
}

int privileges_find(struct privileges *p, const struct conf *conf, struct buf *problems)
{
	const struct conf_milterd *c = &conf->milterd;
	int result = 0;

	*p = (struct privileges){ .separate = geteuid() == 0 };
	if (!p->separate)
		return 0;
	result |= find_user(p, &p->master, "user", c->user, conf, problems);
	if (c->group[0] != '\0')
		result |= find_group(&p->master, c->group, conf, problems);
	result |= find_user(p, &p->session, "session-user", c->session_user, conf, problems);
	result |= find_user(p, &p->worker, "worker-user", c->worker_user, conf, problems);
	return result;
}

void privileges_fini(struct privileges *p)
{
	free(p->master.group);
	free(p->session.group);
	free(p->worker.group);
	*p = (struct privileges){ 0 };
}

int privileges_drop(const struct privileges *p)
{
	int flags = CAPNG_DROP_SUPP_GRP;

	if (!p->separate)
		return 0;
	/* A service manager may have taken this one away; without new privileges the bounding set bounds nothing. */
	capng_get_caps_process();
	if (capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP))
		flags |= CAPNG_CLEAR_BOUNDING;
	capng_clear(CAPNG_SELECT_BOTH);
	if (capng_updatev(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_SETUID, CAP_SETGID, CAP_KILL, -1) < 0)
		return -1;
	errno = EPERM;
	if (capng_change_id((int)p->master.uid, (int)p->master.gid, flags) < 0)
		return -1;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

int privileges_become(const struct account *account)
{
	if (account && (setgroups(account->group_count, account->group) < 0 ||
			setresgid(account->gid, account->gid, account->gid) < 0 ||
			setresuid(account->uid, account->uid, account->uid) < 0))
		return -1;
	capng_clear(CAPNG_SELECT_CAPS);
	errno = EPERM;
	if (capng_apply(CAPNG_SELECT_CAPS) < 0)
		return -1;
	/* Who could come back has not left. */
	if (setresuid(0, 0, 0) == 0) {
		errno = EPERM;
		return -1;
	}
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}
