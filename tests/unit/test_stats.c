#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/stats.h"

Test(stats, what_is_no_sealed_page_of_this_size_is_not_mapped)
{
	int page = stats_create(2), pipes[2], plain = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	cr_assert_eq(pipe(pipes), 0);
	cr_assert_eq(ftruncate(plain, (off_t)(sizeof(struct stats_page) + 2 * sizeof(struct stats_milter))), 0);
	cr_expect_null(stats_map(page, 1));
	cr_expect_null(stats_map(page, 3));
	cr_expect_null(stats_map(plain, 2));
	cr_expect_null(stats_map_writable(plain, 2));
	cr_expect_null(stats_map(pipes[0], 2));
	cr_expect_eq(errno, EBADMSG);
	cr_expect_null(stats_map(-1, 2));
	cr_expect_lt(ftruncate(page, 0), 0, "a child cannot take the page away");
	fd_close(&page);
	fd_close(&plain);
}

Test(stats, a_reader_sees_what_its_one_writer_wrote_and_a_long_reason_is_cut)
{
	int fd = stats_create(1);
	struct stats_page *own = stats_map_writable(fd, 1);
	const struct stats_page *seen = stats_map(fd, 1);
	char text[STATS_TEXT_SIZE], lengthy[1000];

	cr_assert(own && seen);
	cr_expect_eq(stats_failure_get(&seen->milter[0].failure, text), 0);
	cr_expect_str_eq(text, "");
	stats_set(&own->milter[0].busy, 7);
	stats_add(&own->milter[0].busy, -2);
	cr_expect_eq(stats_get(&seen->milter[0].busy), 5);
	stats_failure_set(&own->milter[0].failure, "unix:/x", "refused");
	cr_expect_neq(stats_failure_get(&seen->milter[0].failure, text), 0);
	cr_expect_str_eq(text, "unix:/x: refused");
	memset(lengthy, 'y', sizeof(lengthy));
	lengthy[sizeof(lengthy) - 1] = '\0';
	stats_failure_set(&own->milter[0].failure, "", lengthy);
	stats_failure_get(&seen->milter[0].failure, text);
	cr_expect_eq(strlen(text), STATS_TEXT_SIZE - 1);
	stats_unmap(own, 1);
	stats_unmap(seen, 1);
	fd_close(&fd);
}

Test(stats, a_hostile_writer_can_neither_hold_the_reader_nor_leave_a_text_without_end)
{
	int fd = stats_create(1);
	struct stats_page *own = stats_map_writable(fd, 1);
	char text[STATS_TEXT_SIZE];

	memset((void *)&own->milter[0], 0xff, sizeof(own->milter[0]));
	cr_expect_eq(stats_failure_get(&own->milter[0].failure, text), 0, "an odd version never becomes even");
	cr_expect_str_eq(text, "");
	atomic_store(&own->milter[0].failure.version, 2);
	stats_failure_get(&own->milter[0].failure, text);
	cr_expect_eq(text[STATS_TEXT_SIZE - 1], '\0');
	stats_unmap(own, 1);
	fd_close(&fd);
}
