#include "config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/milter_names.h"

Test(milter_names, every_bit_has_a_name_and_unknown_ones_are_shown_in_hex)
{
	struct buf b = { 0 };

	milter_actions_print(&b, 0);
	cr_assert_eq(memcmp(buf_head(&b), "none", 4), 0);
	buf_clear(&b);
	milter_actions_print(&b, SMFIF_ALL);
	cr_assert_null(memmem(buf_head(&b), buf_len(&b), "0x", 2));
	buf_clear(&b);
	milter_protocol_print(&b, SMFIP_ALL);
	cr_assert_null(memmem(buf_head(&b), buf_len(&b), "0x", 2));
	buf_clear(&b);
	milter_protocol_print(&b, SMFIP_SKIP | 0x80000000);
	cr_assert_eq(buf_len(&b), strlen("SKIP 0x80000000"));
	cr_assert_eq(memcmp(buf_head(&b), "SKIP 0x80000000", buf_len(&b)), 0);
	buf_fini(&b);
}

Test(milter_names, only_the_letters_of_the_protocol_have_names)
{
	unsigned commands = 0, replies = 0;

	for (unsigned c = 0; c < 256; c++) {
		commands += milter_command_name((uint8_t)c) != NULL;
		replies += milter_reply_name((uint8_t)c) != NULL;
	}
	cr_assert_eq(commands, 15);
	cr_assert_eq(replies, 21);
}
