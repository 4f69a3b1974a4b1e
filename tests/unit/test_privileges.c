#include "config.h"

#include <criterion/criterion.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "master/privileges.h"

static struct conf *conf_with(const char *user, const char *group, const char *session_user, const char *worker_user)
{
	struct buf problems = { 0 };
	char text[500];

	snprintf(text, sizeof(text), "[milterd]\nuser = %s\ngroup = %s\nsession-user = %s\n%s%s\n"
		 "[listener in]\nbind = unix:/in\nnext-hop = discard:\nmilters = none\n", user, group, session_user,
		 *worker_user ? "worker-user = " : "", worker_user);

	struct conf *conf = conf_parse("t", text, strlen(text), &problems);

	cr_assert_not_null(conf, "%.*s", (int)buf_len(&problems), (const char *)buf_head(&problems));
	buf_fini(&problems);
	return conf;
}

Test(privileges, every_missing_account_is_named_with_its_option)
{
	struct conf *conf = conf_with("no-such-account", "no-such-account", "root", "no-such@account");
	struct buf problems = { 0 };
	struct privileges p;

	if (geteuid() != 0)
		cr_skip("accounts are looked at for root only");
	cr_assert_eq(privileges_find(&p, conf, &problems), -1);
	buf_append(&problems, "", 1);
	cr_expect_str_eq((const char *)buf_head(&problems),
			 "t:2: [milterd] user: there is no user \"no-such-account\"; create it (useradd -r -s /usr/sbin/nologin "
			 "no-such-account) or name another one\n"
			 "t:3: [milterd] group: there is no group \"no-such-account\"; create it (groupadd -r no-such-account) "
			 "or name another one\n"
			 "t:4: [milterd] session-user: \"root\" is root; an account without privileges is needed\n"
			 "t:5: [milterd] worker-user: there is no user \"no-such@account\"; create it or name another one\n");
	buf_fini(&problems);
	privileges_fini(&p);
	conf_free(conf);
}

/* The value of a line of /proc/self/status as a hexadecimal number. */
static unsigned long long status_of(const char *key)
{
	char line[256];
	unsigned long long value = ~0ull;
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0)
			value = strtoull(line + strlen(key) + 1, NULL, 16);
	if (f)
		fclose(f);
	return value;
}

/* What the master is after its drop, as the number of the first thing that is wrong. */
static int wrong_with_master(const struct privileges *p)
{
	if (privileges_drop(p) < 0)
		return 1;
	if (geteuid() != p->master.uid || getuid() != p->master.uid || getegid() != p->master.gid || getgroups(0, NULL) != 0)
		return 2;
	/* CAP_KILL, CAP_SETGID, CAP_SETUID: bits 5 to 7 */
	if (status_of("CapEff:") != 0xe0 || status_of("CapPrm:") != 0xe0 || status_of("CapInh:") != 0)
		return 3;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return 4;
	return 0;
}

static int wrong_with_child(const struct privileges *p)
{
	gid_t group[64];
	int groups;

	if (privileges_drop(p) < 0 || privileges_become(&p->worker) < 0)
		return 1;
	if (getuid() != p->worker.uid || geteuid() != p->worker.uid || getgid() != p->worker.gid)
		return 2;
	groups = getgroups(64, group);
	if (groups < 0 || (size_t)groups != p->worker.group_count ||
	    memcmp(group, p->worker.group, (size_t)groups * sizeof(*group)) != 0)
		return 3;
	if (status_of("CapEff:") != 0 || status_of("CapPrm:") != 0 || status_of("CapInh:") != 0 || status_of("CapAmb:") != 0)
		return 4;
	if (setuid(0) == 0 || setuid(p->master.uid) == 0 || seteuid(0) == 0)
		return 5;
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 6;
}

static int in_a_child(int (*wrong)(const struct privileges *), const struct privileges *p)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(wrong(p));
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

Test(privileges, the_master_keeps_what_it_needs_and_a_child_nothing)
{
	struct conf *conf = conf_with("nobody", "", "1", "bin");	/* 1: daemon */
	struct buf problems = { 0 };
	struct privileges p;

	cr_assert_eq(privileges_find(&p, conf, &problems), 0);
	cr_expect_eq(p.separate, geteuid() == 0);
	if (p.separate) {
		cr_expect_eq(in_a_child(wrong_with_master, &p), 0);
		cr_expect_eq(in_a_child(wrong_with_child, &p), 0);
	}
	privileges_fini(&p);
	buf_fini(&problems);
	conf_free(conf);
}

static int wrong_without_accounts(const struct privileges *p)
{
	uid_t before = getuid();

	return privileges_drop(p) == 0 && getuid() == before && privileges_become(NULL) == 0 && getuid() == before &&
	       prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 1;
}

/* As root this becomes somebody else first. */
static int wrong_unprivileged(const struct privileges *p)
{
	if (geteuid() == 0 && (setgid(1) < 0 || setuid(1) < 0))
		return 2;
	return wrong_without_accounts(p);
}

Test(privileges, without_root_everybody_stays_who_they_are)
{
	struct privileges p = { 0 };

	cr_expect_eq(in_a_child(wrong_unprivileged, &p), 0);
}
