#include "config.h"

#include "session/queue_id.h"

#include <criterion/criterion.h>
#include <string.h>

#define MANY 20000

Test(queue_id, later_ids_of_a_process_sort_later_and_none_comes_twice)
{
	char last[QUEUE_ID_SIZE], id[QUEUE_ID_SIZE];

	queue_id_make(last, 0);
	for (int i = 0; i < MANY; i++) {
		queue_id_make(id, 0);
		cr_assert(strcmp(id, last) > 0, "%s after %s", id, last);
		memcpy(last, id, sizeof(last));
	}
}

Test(queue_id, processes_never_make_the_same)
{
	char ends[64][3];

	for (unsigned slot = 0; slot < 64; slot++) {
		char id[QUEUE_ID_SIZE];

		queue_id_make(id, slot);
		cr_assert_leq(strlen(id), QUEUE_ID_SIZE - 1);
		cr_assert_eq(strlen(id), strspn(id, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "%s", id);
		memcpy(ends[slot], id + strlen(id) - 2, 3);
		for (unsigned other = 0; other < slot; other++)
			cr_assert_str_neq(ends[slot], ends[other]);
	}
}
