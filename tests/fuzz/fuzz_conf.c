/* Any bytes as a configuration: every refusal has its line, and what is accepted prints and reads back the same. */
#include "config.h"

#include <assert.h>
#include <string.h>

#include "common/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf problems = { 0 }, once = { 0 }, twice = { 0 };
	struct conf *conf = conf_parse("input", (const char *)data, size, &problems);

	assert(conf || buf_len(&problems));
	assert(!buf_len(&problems) || buf_head(&problems)[buf_len(&problems) - 1] == '\n');
	if (conf) {
		conf_print(&once, conf);
		struct conf *again = conf_parse("printed", (char *)buf_head(&once), buf_len(&once), &problems);

		assert(again);
		conf_print(&twice, again);
		assert(buf_len(&once) == buf_len(&twice));
		assert(!memcmp(buf_head(&once), buf_head(&twice), buf_len(&once)));
		conf_free(again);
		conf_free(conf);
	}
	buf_fini(&problems);
	buf_fini(&once);
	buf_fini(&twice);
	return 0;
}
