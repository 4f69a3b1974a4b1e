#include "config.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "master/restart.h"

Test(restart, failed_starts_are_tried_again_later_and_later_up_to_a_limit)
{
	static const int64_t delays[] = { 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000 };
	struct restart r = { 0 };

	for (size_t i = 0; i < sizeof(delays) / sizeof(*delays); i++)
		cr_expect_eq(restart_delay_ms(&r, false, 5), delays[i], "failure %zu", i + 1);
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(restart_delay_ms(&r, false, 5), RESTART_DELAY_MAX_MS);
}

Test(restart, who_has_worked_or_lived_is_replaced_at_once_and_starts_afresh)
{
	static const struct {
		bool worked;
		int64_t lived_ms, delay_ms;
	} cases[] = {
		{ true, 1, 0 },
		{ false, RESTART_LIVED_MS + 1, 0 },
		{ false, RESTART_LIVED_MS, 400 },
		{ false, 0, 400 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct restart r = { 0 };

		restart_delay_ms(&r, false, 0);
		restart_delay_ms(&r, false, 0);
		cr_expect_eq(restart_delay_ms(&r, cases[i].worked, cases[i].lived_ms), cases[i].delay_ms, "case %zu", i);
		if (cases[i].delay_ms == 0)
			cr_expect_eq(restart_delay_ms(&r, false, 0), RESTART_DELAY_MIN_MS, "case %zu", i);
	}
}

Test(restart, a_cause_of_death_is_told_in_words)
{
	static const struct {
		int status;	/* as Linux has it: the exit status above, a signal below */
		const char *words;
	} cases[] = {
		{ 0, "exited with status 0" },
		{ 78 << 8, "exited with status 78" },
		{ SIGKILL, "was killed by signal 9 (Killed)" },
		{ SIGSEGV | 0x80, "was killed by signal 11 (Segmentation fault)" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf b = { 0 };

		restart_print_cause(&b, cases[i].status);
		buf_append(&b, "", 1);
		cr_expect_str_eq((const char *)buf_head(&b), cases[i].words);
		buf_fini(&b);
	}
}
