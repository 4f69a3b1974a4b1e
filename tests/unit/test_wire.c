#include "config.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/wire.h"

Test(wire, a_reader_never_passes_the_end_and_stays_broken)
{
	static const uint8_t bytes[] = { 1, 2, 3 };
	struct wire w;
	size_t len;

	wire_init(&w, bytes, sizeof(bytes));
	cr_assert_eq(wire_u32(&w), 0);
	cr_assert(w.broken);
	cr_assert_eq(wire_u8(&w), 0);
	cr_assert_null(wire_bytes(&w, 1));
	cr_assert_str_eq(wire_cstr(&w), "");
	cr_assert_null(wire_blob(&w, &len));
	cr_assert_eq(len, 0);
	wire_rest(&w, &len);
	cr_assert_eq(len, 0);
	cr_assert_not(wire_finished(&w));
}

Test(wire, a_length_above_what_is_there_is_an_error_not_a_read)
{
	static const uint8_t bytes[] = { 0xff, 0xff, 0xff, 0xff, 'x' };
	struct wire w;
	size_t len;

	wire_init(&w, bytes, sizeof(bytes));
	cr_assert_null(wire_blob(&w, &len));
	cr_assert(w.broken);
}

Test(wire, a_string_without_its_nul_is_broken)
{
	struct wire w;

	wire_init(&w, "abc", 3);
	cr_assert_str_eq(wire_cstr(&w), "");
	cr_assert(w.broken);
}

Test(wire, left_over_bytes_are_not_finished)
{
	struct wire w;

	wire_init(&w, "ab", 2);
	cr_assert_eq(wire_u8(&w), 'a');
	cr_assert_not(wire_finished(&w));
	cr_assert_eq(wire_u8(&w), 'b');
	cr_assert(wire_finished(&w));
	wire_init(&w, NULL, 0);
	cr_assert(wire_finished(&w));
}

Test(wire, what_is_written_is_read_again)
{
	struct buf b = { 0 };
	struct wire w;
	size_t len;

	wire_put_u8(&b, 0xab);
	wire_put_u16(&b, 0xabcd);
	wire_put_u32(&b, 0xdeadbeef);
	wire_put_u64(&b, 0x0123456789abcdef);
	wire_put_cstr(&b, "text");
	wire_put_blob(&b, "x\0y", 3);
	wire_set_u32(&b, 3, 7);
	wire_init(&w, buf_head(&b), buf_len(&b));
	cr_assert_eq(wire_u8(&w), 0xab);
	cr_assert_eq(wire_u16(&w), 0xabcd);
	cr_assert_eq(wire_u32(&w), 7);
	cr_assert_eq(wire_u64(&w), 0x0123456789abcdef);
	cr_assert_str_eq(wire_cstr(&w), "text");
	cr_assert_eq(memcmp(wire_blob(&w, &len), "x\0y", 3), 0);
	cr_assert_eq(len, 3);
	cr_assert(wire_finished(&w));
	buf_fini(&b);
}

Test(wire, a_buffer_keeps_its_bytes_through_consuming_and_growing)
{
	struct buf b = { 0 };
	unsigned next_in = 0, next_out = 0;

	for (int round = 0; round < 2000; round++) {
		for (int i = 0; i < round % 37; i++)
			wire_put_u8(&b, (uint8_t)next_in++);
		for (int i = 0; i < round % 31 && buf_len(&b); i++) {
			cr_assert_eq(*buf_head(&b), (uint8_t)next_out++);
			buf_consume(&b, 1);
		}
	}
	cr_assert_eq(buf_len(&b), next_in - next_out);
	buf_clear(&b);
	buf_shrink(&b, 16);
	cr_assert_eq(b.capacity, 0);
	buf_fini(&b);
}
