#include "config.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

#include "common/mem.h"

Test(mem, an_arena_gives_zeroed_aligned_memory_of_any_size)
{
	struct arena a = { 0 };

	for (size_t size = 0; size < 20000; size += 97) {
		unsigned char *p = arena_alloc(&a, size);

		cr_assert_eq((uintptr_t)p % _Alignof(max_align_t), 0);
		for (size_t i = 0; i < size; i++)
			cr_assert_eq(p[i], 0);
		memset(p, 0xff, size);
	}
	arena_fini(&a);
}

Test(mem, a_reset_arena_is_empty_and_clean_again)
{
	struct arena a = { 0 };

	for (int round = 0; round < 3; round++) {
		char *big = arena_alloc(&a, 100000);
		char *small = arena_strdup(&a, "small");

		memset(big, 'x', 100000);
		cr_assert_str_eq(small, "small");
		cr_assert_geq(a.total, 100000);
		arena_reset(&a);
		cr_assert_eq(a.total, 0);
	}
	cr_assert_str_eq(arena_printf(&a, "%s-%d", "a", 7), "a-7");
	arena_fini(&a);
}

Test(mem, a_copy_of_bytes_keeps_nuls_and_ends_in_one)
{
	struct arena a = { 0 };
	char *copy = arena_strndup(&a, "a\0b", 3);

	cr_assert_eq(memcmp(copy, "a\0b", 4), 0);
	cr_assert_str_eq(arena_strndup(&a, NULL, 0), "");
	arena_fini(&a);
}
