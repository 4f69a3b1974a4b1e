#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/msgbuf.h"
#include "common/msgbuf_views.h"

#define LIMIT  (4u << 20)
#define BUDGET (64u << 20)

static unsigned drops;
static uint32_t dropped_id;

static void on_dropped(void *ctx, unsigned peer, uint32_t id)
{
	(void)ctx;
	(void)peer;
	drops++;
	dropped_id = id;
}

static struct msgbuf_pool *new_pool(void)
{
	struct msgbuf_pool *pool = msgbuf_pool_new(LIMIT, BUDGET);

	drops = 0;
	msgbuf_pool_on_dropped(pool, on_dropped, NULL);
	return pool;
}

Test(msgbuf, what_is_no_sealed_memfd_is_refused)
{
	struct msgbuf_views *views = msgbuf_views_new();
	int pipes[2], plain = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int shrinkable = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	cr_assert_eq(pipe(pipes), 0);
	cr_assert_eq(fcntl(shrinkable, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	const int bad[] = { pipes[0], plain, shrinkable, open("/dev/zero", O_RDWR), open("/dev/null", O_RDONLY), -1 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		cr_expect_eq(msgbuf_views_add(views, 1, bad[i]), -1, "case %zu", i);
		cr_expect_eq(errno, EPERM, "case %zu", i);
		cr_expect_eq(fcntl(bad[i], F_GETFD), -1, "case %zu: left open", i);
	}
	close(pipes[1]);
	msgbuf_views_free(views);
}

Test(msgbuf, nobody_but_the_owner_gets_a_writable_mapping_or_shortens_the_file)
{
	struct msgbuf_pool *pool = new_pool();
	struct msgbuf *b = msgbuf_get(pool);
	int fd = msgbuf_lend(pool, b, 0);
	char path[64];

	cr_assert_geq(fd, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int again = open(path, O_RDWR);

	for (int i = 0; i < 2; i++) {
		int f = i ? again : fd;

		cr_expect_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0), MAP_FAILED);
		cr_expect_eq(pwrite(f, "x", 1, 0), -1);
		cr_expect_eq(ftruncate(f, 0), -1);
		cr_expect_eq(fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
		cr_expect_eq(fcntl(f, F_ADD_SEALS, F_SEAL_GROW), -1);
	}
	void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

	cr_expect_eq(mprotect(map, 4096, PROT_READ | PROT_WRITE), -1);
	munmap(map, 4096);
	close(again);
	/* And the owner still writes and grows. */
	cr_expect_eq(msgbuf_append(pool, b, "data", 4), 0);
	size_t room;

	cr_expect_not_null(msgbuf_reserve(pool, b, LIMIT - 4, &room));
	msgbuf_put(pool, b);
	msgbuf_pool_free(pool);
}

Test(msgbuf, a_length_beyond_the_file_is_never_mapped)
{
	struct msgbuf_pool *pool = new_pool();
	struct msgbuf_views *views = msgbuf_views_new();
	struct msgbuf *b = msgbuf_get(pool);
	int fd = dup(msgbuf_lend(pool, b, 0));
	static char much[1 << 20];

	cr_assert_null(msgbuf_views_map(views, b->id, 1));
	cr_assert_eq(msgbuf_views_add(views, b->id, fd), 0);
	cr_assert_eq(msgbuf_views_add(views, b->id, dup(fd)), -1);
	cr_assert_eq(errno, EEXIST);
	cr_assert_null(msgbuf_views_map(views, b->id, LIMIT + 1));
	cr_assert_null(msgbuf_views_map(views, b->id, SIZE_MAX));
	cr_assert_null(msgbuf_views_map(views, b->id, 1 << 20));
	const uint8_t *data = msgbuf_views_map(views, b->id, 1);

	cr_assert_not_null(data);
	/* It grows later: the same address sees more. */
	memset(much, 'x', sizeof(much));
	cr_assert_eq(msgbuf_append(pool, b, much, sizeof(much)), 0);
	cr_assert_eq(msgbuf_views_map(views, b->id, 1 << 20), data);
	cr_assert_eq(data[(1 << 20) - 1], 'x');
	cr_assert_eq(msgbuf_views_drop(views, b->id), 0);
	cr_assert_eq(msgbuf_views_drop(views, b->id), -1);
	msgbuf_views_free(views);
	msgbuf_put(pool, b);
	msgbuf_pool_free(pool);
}

Test(msgbuf, more_than_is_mapped_is_never_readable_however_large_the_file)
{
	struct msgbuf_views *views = msgbuf_views_new();
	int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	cr_assert_eq(ftruncate(fd, (off_t)MSGBUF_LIMIT * 2), 0);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE), 0);
	cr_assert_eq(msgbuf_views_add(views, 1, fd), 0);
	cr_assert_not_null(msgbuf_views_map(views, 1, 1));
	cr_assert_not_null(msgbuf_views_map(views, 1, MSGBUF_LIMIT));
	cr_assert_null(msgbuf_views_map(views, 1, (size_t)MSGBUF_LIMIT + 1));
	cr_assert_eq(errno, EFAULT);
	msgbuf_views_free(views);
}

Test(msgbuf, only_a_holder_may_release_and_only_once)
{
	struct msgbuf_pool *pool = new_pool();
	struct msgbuf *b = msgbuf_get(pool);
	uint32_t id = b->id, generation = b->generation;

	msgbuf_lend(pool, b, 3);
	cr_assert_eq(msgbuf_released(pool, 2, id, generation), -1);
	cr_assert_eq(msgbuf_released(pool, 3, id, generation + 1), -1);
	cr_assert_eq(msgbuf_released(pool, 3, id + 1, generation), -1);
	cr_assert_eq(msgbuf_released(pool, 3, 0, 0), -1);
	cr_assert_eq(msgbuf_released(pool, 3, id, generation), 0);
	cr_assert_eq(msgbuf_released(pool, 3, id, generation), -1);
	msgbuf_put(pool, b);
	msgbuf_pool_free(pool);
}

Test(msgbuf, a_buffer_is_not_used_again_while_anybody_may_read_it)
{
	struct msgbuf_pool *pool = new_pool();
	struct msgbuf *b = msgbuf_get(pool), *other[2];
	uint32_t id = b->id, generation = b->generation;

	msgbuf_lend(pool, b, 0);
	msgbuf_lend(pool, b, 1);
	msgbuf_put(pool, b);
	other[0] = msgbuf_get(pool);
	cr_assert_neq(other[0]->id, id);
	cr_assert_eq(msgbuf_released(pool, 0, id, generation), 0);
	other[1] = msgbuf_get(pool);
	cr_assert_neq(other[1]->id, id);
	msgbuf_peer_gone(pool, 1);
	b = msgbuf_get(pool);
	cr_assert_eq(b->id, id);
	cr_assert_neq(b->generation, generation);
	cr_assert_eq(b->len, 0);
	/* Peer 0 has the descriptor, the successor of peer 1 does not. */
	cr_assert_eq(msgbuf_lend(pool, b, 0), -1);
	cr_assert_geq(msgbuf_lend(pool, b, 1), 0);
	msgbuf_put(pool, b);
	msgbuf_put(pool, other[0]);
	msgbuf_put(pool, other[1]);
	/* One that already waits for its next message is not given back a second time. */
	msgbuf_peer_gone(pool, 0);
	msgbuf_peer_gone(pool, 1);
	cr_assert_neq(msgbuf_get(pool), msgbuf_get(pool));
	msgbuf_pool_free(pool);
}

Test(msgbuf, a_reader_that_does_not_release_costs_the_buffer_and_is_told)
{
	struct msgbuf_pool *pool = new_pool();
	struct msgbuf *b = msgbuf_get(pool);
	uint32_t id = b->id, generation = b->generation;
	int64_t now = clock_now_ms();

	msgbuf_lend(pool, b, 5);
	msgbuf_pool_tick(pool, now + 10 * MSGBUF_RELEASE_MS);
	cr_assert_eq(msgbuf_pool_count(pool), 1, "the owner is not done yet");
	msgbuf_put(pool, b);
	msgbuf_pool_tick(pool, now);
	cr_assert_eq(msgbuf_pool_count(pool), 1);
	msgbuf_pool_tick(pool, now + 2 * MSGBUF_RELEASE_MS);
	cr_assert_eq(msgbuf_pool_count(pool), 0);
	cr_assert_eq(drops, 1);
	cr_assert_eq(dropped_id, id);
	cr_assert_eq(msgbuf_released(pool, 5, id, generation), 0, "it may have crossed");
	msgbuf_pool_free(pool);
}

Test(msgbuf, the_limit_is_exact_and_all_or_nothing)
{
	struct msgbuf_pool *pool = msgbuf_pool_new(100000, BUDGET);
	struct msgbuf *b = msgbuf_get(pool);
	static char data[100001];
	size_t room;

	cr_assert_eq(msgbuf_append(pool, b, data, 99999), 0);
	cr_assert_eq(msgbuf_append(pool, b, data, 2), -1);
	cr_assert_eq(errno, EMSGSIZE);
	cr_assert_eq(b->len, 99999);
	cr_assert_not_null(msgbuf_reserve(pool, b, 1, &room));
	cr_assert_eq(room, 1);
	cr_assert_eq(msgbuf_append(pool, b, data, 1), 0);
	cr_assert_null(msgbuf_reserve(pool, b, 1, &room));
	msgbuf_truncate(b, 7);
	cr_assert_eq(b->len, 7);
	msgbuf_put(pool, b);
	msgbuf_pool_free(pool);
}

Test(msgbuf, the_budget_holds_over_all_buffers_and_kept_ones_give_way)
{
	struct msgbuf_pool *pool = msgbuf_pool_new(LIMIT, 1 << 20);
	struct msgbuf *a = msgbuf_get(pool), *b = msgbuf_get(pool);
	size_t room;

	cr_assert_not_null(msgbuf_reserve(pool, a, 512 * 1024, &room));
	cr_assert_null(msgbuf_reserve(pool, b, 600 * 1024, &room));
	cr_assert_eq(errno, ENOMEM);
	cr_assert_leq(msgbuf_pool_bytes(pool), 1 << 20);
	msgbuf_put(pool, a);
	cr_assert_eq(msgbuf_pool_count(pool), 2, "small enough to be kept");
	cr_assert_not_null(msgbuf_reserve(pool, b, 600 * 1024, &room));
	cr_assert_eq(msgbuf_pool_count(pool), 1, "the kept one gave way");
	msgbuf_put(pool, b);
	cr_assert_eq(msgbuf_pool_bytes(pool), 0, "a big one is not kept");
	a = msgbuf_get(pool);
	b = msgbuf_get(pool);
	cr_assert_not_null(msgbuf_reserve(pool, b, 256 * 1024, &room));
	cr_assert_not_null(msgbuf_reserve(pool, a, 600 * 1024, &room), "no room to double, but for what is needed");
	msgbuf_put(pool, a);
	msgbuf_put(pool, b);
	msgbuf_pool_free(pool);
}

Test(msgbuf, a_steady_load_makes_no_file_and_no_memory)
{
	struct msgbuf_pool *pool = new_pool();
	static char data[100000];
	uint32_t id = 0;

	for (int i = 0; i < 1000; i++) {
		struct msgbuf *b = msgbuf_get(pool);

		cr_assert_eq(msgbuf_append(pool, b, data, sizeof(data)), 0);
		cr_assert(i == 0 || b->id == id);
		id = b->id;
		int fd = msgbuf_lend(pool, b, 0);

		cr_assert(i == 0 ? fd >= 0 : fd == -1);
		msgbuf_put(pool, b);
		cr_assert_eq(msgbuf_released(pool, 0, id, b->generation), 0);
	}
	cr_assert_eq(msgbuf_pool_count(pool), 1);
	msgbuf_pool_free(pool);
}

#define ABOVE 100000u

static struct msgbuf_pool *spooling_pool(size_t budget)
{
	struct msgbuf_pool *pool = msgbuf_pool_new(LIMIT, budget);
	int folder = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	cr_assert_geq(folder, 0);
	msgbuf_pool_spool(pool, folder, ABOVE);
	return pool;
}

static void fill(struct msgbuf_pool *pool, struct msgbuf *b, size_t len)
{
	while (b->len < len) {
		uint8_t byte = (uint8_t)(b->len * 7 / 3);

		cr_assert_eq(msgbuf_append(pool, b, &byte, 1), 0);
	}
}

static void check_bytes(const struct spooled *s)
{
	static uint8_t copy[LIMIT];

	cr_assert_eq(spooled_read(s, 0, copy, s->len), 0);
	for (size_t i = 0; i < s->len; i++)
		cr_assert_eq(copy[i], (uint8_t)(i * 7 / 3), "byte %zu", i);
}

Test(msgbuf, what_is_too_large_for_memory_goes_on_in_a_file_that_readers_cannot_write)
{
	struct msgbuf_pool *pool = spooling_pool(BUDGET);
	struct msgbuf_views *views = msgbuf_views_new();
	struct msgbuf *b = msgbuf_get(pool);
	struct spooled mine, lent;
	int fd, pipes[2];

	fill(pool, b, ABOVE);
	msgbuf_lend(pool, b, 1);
	cr_expect_eq(msgbuf_lend_file(b, 1), -1, "it fits");
	fill(pool, b, 3 * ABOVE);
	msgbuf_read(b, &mine);
	cr_assert_eq(mine.memory, ABOVE);
	cr_assert_eq(mine.len, 3 * ABOVE);
	check_bytes(&mine);
	cr_assert_eq(msgbuf_views_add(views, b->id, dup(msgbuf_lend(pool, b, 0))), 0);
	cr_expect_eq(msgbuf_views_read(views, b->id, mine.memory, mine.len, &lent), -1, "without its file");
	cr_assert_eq(pipe(pipes), 0);
	cr_expect_eq(msgbuf_views_add_file(views, b->id, pipes[0]), -1);
	fd = dup(msgbuf_lend_file(b, 0));
	cr_expect_eq(msgbuf_lend_file(b, 0), -1, "it has it");
	cr_expect_lt(pwrite(fd, "x", 1, 0), 0);
	cr_expect_eq(msgbuf_views_add_file(views, b->id + 1, dup(fd)), -1);
	cr_assert_eq(msgbuf_views_add_file(views, b->id, fd), 0);
	cr_expect_eq(msgbuf_views_add_file(views, b->id, dup(fd)), -1);
	cr_expect_eq(msgbuf_views_read(views, b->id, mine.memory, mine.len + 1, &lent), -1);
	cr_expect_eq(msgbuf_views_read(views, b->id, mine.len, mine.memory, &lent), -1);
	cr_assert_eq(msgbuf_views_read(views, b->id, mine.memory, mine.len, &lent), 0);
	check_bytes(&lent);
	close(pipes[1]);
	msgbuf_views_free(views);
	msgbuf_peer_gone(pool, 0);
	msgbuf_peer_gone(pool, 1);
	msgbuf_put(pool, b);
	cr_expect_eq(msgbuf_pool_count(pool), 0, "a buffer with a file is not used again");
	msgbuf_pool_free(pool);
}

Test(msgbuf, without_memory_a_file_is_used_and_beginnings_have_memory_left)
{
	struct msgbuf_pool *pool = spooling_pool(256 * 1024);
	struct msgbuf *b[4];
	struct spooled s;

	for (size_t i = 0; i < 4; i++) {
		b[i] = msgbuf_get(pool);
		cr_assert_not_null(b[i], "%zu", i);
		fill(pool, b[i], ABOVE);
		msgbuf_read(b[i], &s);
		check_bytes(&s);
	}
	cr_expect_lt(s.memory, s.len);
	cr_expect_leq(msgbuf_pool_bytes(pool), 256 * 1024);
	for (size_t i = 0; i < 4; i++)
		msgbuf_put(pool, b[i]);
	msgbuf_pool_free(pool);
}

Test(msgbuf, a_cut_goes_through_file_and_memory)
{
	static const size_t ends[] = { 3 * ABOVE, 2 * ABOVE, ABOVE + 1, ABOVE, ABOVE - 1, 1, 0 };
	struct msgbuf_pool *pool = spooling_pool(BUDGET);

	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
		struct msgbuf *b = msgbuf_get(pool);
		struct spooled s;

		fill(pool, b, 3 * ABOVE);
		msgbuf_truncate(b, ends[i]);
		fill(pool, b, 3 * ABOVE + 10);
		msgbuf_read(b, &s);
		check_bytes(&s);
		msgbuf_put(pool, b);
	}
	msgbuf_pool_free(pool);
}
