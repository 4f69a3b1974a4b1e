#include "config.h"

#include "worker/pool.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "tests/unit/script_milter.h"

#define WAIT_MS 5000
#define TAKERS	4

struct taker {
	struct pool_waiter waiter;
	struct line *line;
	bool lost;
	char why[160];
};

static struct conf_milter conf;
static struct pool *pool;
static struct script_milter *milter;
static char *folder, path[64];
static struct taker taker[TAKERS];
static const struct script plain = { 0 };

static void on_negotiated(void *ctx)
{
	(void)ctx;
}

static void on_answer(void *ctx, const struct backend_answer *answer)
{
	(void)ctx, (void)answer;
}

static int on_edit(void *ctx, const struct milter_reply *reply, const char **why)
{
	(void)ctx, (void)reply, (void)why;
	return 0;
}

static void on_eom(void *ctx)
{
	(void)ctx;
}

static void on_lost(void *ctx, enum backend_loss loss, const char *why)
{
	struct taker *t = ctx;

	(void)loss, (void)why;
	t->lost = true;
}

static const struct backend_ops ops = { on_negotiated, on_answer, on_edit, on_eom, on_lost };

static void on_line(void *ctx, struct line *line)
{
	struct taker *t = ctx;

	t->line = line;
	backend_set_owner(line->backend, &ops, t);
}

static void on_failure(void *ctx, const char *endpoint, const char *why)
{
	struct taker *t = ctx;

	(void)endpoint;
	snprintf(t->why, sizeof(t->why), "%s", why);
}

static void on_evict(void *ctx)
{
	struct taker *t = ctx;

	pool_release(t->line);
	t->line = NULL;
}

static void take(unsigned i)
{
	struct line *line;

	taker[i] = (struct taker){ .waiter = { .on_line = on_line, .on_failure = on_failure, .ctx = &taker[i] } };
	line = pool_take(pool, &taker[i].waiter);
	if (line)
		on_line(&taker[i], line);
}

static void release(unsigned i)
{
	pool_release(taker[i].line);
	taker[i].line = NULL;
}

static bool is_served(void *ctx)
{
	struct taker *t = ctx;

	return t->line || t->why[0];
}

static bool has_spares(void *ctx)
{
	return pool_counts(pool).spare == *(size_t *)ctx;
}

static bool never(void *ctx)
{
	(void)ctx;
	return false;
}

static void wait_for(unsigned i)
{
	cr_assert(script_until(is_served, &taker[i], WAIT_MS));
}

static void wait_for_spares(size_t count)
{
	cr_assert(script_until(has_spares, &count, WAIT_MS), "%zu spares", pool_counts(pool).spare);
}

static void begin(void)
{
	log_set_level(LOG_LEVEL_ERROR);
	loop_init();
	folder = script_folder();
	snprintf(path, sizeof(path), "%s/m", folder);
	script_conf(&conf, "m", path);
}

static void finish(void)
{
	for (unsigned i = 0; i < TAKERS; i++) {
		pool_cancel(&taker[i].waiter);
		if (taker[i].line)
			release(i);
	}
	pool_free(pool);
	script_free(milter);
	script_conf_fini(&conf);
	loop_fini();
	script_folder_remove(folder);
}

TestSuite(pool, .init = begin, .fini = finish, .timeout = 60);

Test(pool, a_spare_that_has_anything_to_read_is_never_handed_out)
{
	milter = script_listen(path, &plain);
	pool = pool_new(&conf, 2, 8);
	wait_for_spares(2);
	/* The loop has no chance to see either before they are asked for. */
	script_send(milter, 1, REPLY("c"), 5);
	script_hang_up(milter, 2);
	take(0);
	cr_expect_null(taker[0].line);
	wait_for(0);
	cr_assert_not_null(taker[0].line);
	cr_expect(script_connections(milter) >= 3);
}

Test(pool, at_the_maximum_sessions_wait_in_line_and_not_for_ever)
{
	milter = script_listen(path, &plain);
	conf.pool_wait = 100;
	pool = pool_new(&conf, 0, 1);
	for (unsigned i = 0; i < 3; i++)
		take(i);
	wait_for(0);
	cr_assert_not_null(taker[0].line);
	cr_expect_not(is_served(&taker[1]) || is_served(&taker[2]));
	release(0);
	wait_for(1);
	cr_assert_not_null(taker[1].line, "first come, first served: %s", taker[1].why);
	wait_for(2);
	cr_expect_null(taker[2].line);
	cr_expect(strstr(taker[2].why, "pool.max"), "%s", taker[2].why);
	cr_expect_eq(pool_counts(pool).waiting, 0);
}

Test(pool, one_who_gives_up_waiting_is_forgotten)
{
	milter = script_listen(path, &plain);
	pool = pool_new(&conf, 0, 8);
	take(0);
	pool_cancel(&taker[0].waiter);
	pool_cancel(&taker[0].waiter);
	take(1);
	wait_for(1);
	cr_expect_not(is_served(&taker[0]));
}

Test(pool, a_dead_milter_fails_those_who_wait_and_is_not_called_in_a_circle)
{
	pool = pool_new(&conf, 4, 8);
	take(0);
	wait_for(0);
	cr_expect_null(taker[0].line);
	cr_expect(strstr(taker[0].why, "connect: No such file or directory"), "%s", taker[0].why);
	cr_expect(pool_reach(pool)->down);
	script_until(never, NULL, 20);
	cr_expect_eq(pool_counts(pool).opening, 0, "it rests");

	/* But one who needs it has it tried at once. */
	milter = script_listen(path, &plain);
	take(1);
	wait_for(1);
	cr_expect_not_null(taker[1].line);
	cr_expect_not(pool_reach(pool)->down);
	wait_for_spares(4);
}

Test(pool, a_milter_that_accepts_and_closes_is_not_called_in_a_circle)
{
	static const struct script closes = { .rule = { { .command = 'O', .bytes =
		"\0\0\0\x0dO\0\0\0\6\0\0\0\1\0\0\0\0", .len = 17, .hangs_up = true } } };

	milter = script_listen(path, &closes);
	pool = pool_new(&conf, 1, 8);
	script_until(never, NULL, 150);
	cr_expect_leq(script_connections(milter), 3);
}

Test(pool, the_next_endpoint_is_tried_when_one_fails_and_comes_first_then)
{
	struct conf_endpoints two = { .item = mem_array(2, sizeof(*two.item)), .count = 2 };

	two.item[0] = (struct addr){ .family = ADDR_UNIX, .path = mem_strdup("/nonexistent/milter") };
	two.item[1] = conf.endpoints.item[0];
	free(conf.endpoints.item);
	conf.endpoints = two;
	milter = script_listen(path, &plain);
	pool = pool_new(&conf, 0, 8);
	take(0);
	wait_for(0);
	cr_assert_not_null(taker[0].line, "%s", taker[0].why);
	cr_expect_eq(taker[0].line->endpoint, 1);
	cr_expect_not(pool_reach(pool)->down);
	take(1);
	wait_for(1);
	cr_expect_eq(taker[1].line->endpoint, 1);
}

Test(pool, who_can_spare_a_connection_is_asked_for_it_least_recently_used_first)
{
	milter = script_listen(path, &plain);
	pool = pool_new(&conf, 0, 2);
	take(0);
	take(1);
	wait_for(0);
	wait_for(1);
	pool_set_evictable(taker[1].line, on_evict, &taker[1]);
	pool_set_evictable(taker[0].line, on_evict, &taker[0]);
	take(2);
	wait_for(2);
	cr_assert_not_null(taker[2].line);
	cr_expect_null(taker[1].line);
	cr_expect_not_null(taker[0].line);
	/* Needed again: it stays. */
	pool_set_evictable(taker[0].line, NULL, NULL);
	conf.pool_wait = 20;
	take(3);
	wait_for(3);
	cr_expect_null(taker[3].line);
	cr_expect_not_null(taker[0].line);
}

Test(pool, spares_stay_within_what_is_configured)
{
	milter = script_listen(path, &plain);
	pool = pool_new(&conf, 2, 3);
	wait_for_spares(2);
	take(0);
	cr_assert_not_null(taker[0].line, "a spare is there at once");
	wait_for_spares(2);
	take(1);
	wait_for_spares(1);
	cr_expect_eq(pool_counts(pool).taken, 2);
	script_until(never, NULL, 20);
	cr_expect_eq(script_connections(milter), 3);
}

Test(pool, what_a_worker_may_have_adds_up_to_what_is_configured)
{
	static const struct {
		int64_t total;
		unsigned workers;
		size_t share[4];
	} rows[] = {
		{ 1, 4, { 1, 0, 0, 0 } }, { 64, 4, { 16, 16, 16, 16 } }, { 7, 3, { 3, 2, 2, 0 } }, { 0, 2, { 0, 0, 0, 0 } },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		for (unsigned slot = 0; slot < rows[i].workers; slot++)
			cr_expect_eq(pool_share(rows[i].total, slot, rows[i].workers), rows[i].share[slot]);
	pool = pool_new(&conf, 0, 1);
}
