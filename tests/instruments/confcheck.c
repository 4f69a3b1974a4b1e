/* confcheck - for tests of documentation: without arguments every option with its default, one line each; with files,
 * what is wrong with them. Exit status 0 only when there is nothing to say, not even a warning.
 */
#include "config.h"

#include <stdio.h>

#include "common/conf.h"

int main(int argc, char **argv)
{
	struct buf text = { 0 };
	int status = 0;

	if (argc < 2)
		conf_print_options(&text);
	for (int i = 1; i < argc; i++) {
		struct conf *conf = conf_load(argv[i], &text);

		if (!conf || buf_len(&text))
			status = 1;
		conf_free(conf);
	}
	if (buf_len(&text))
		fwrite(buf_head(&text), 1, buf_len(&text), stdout);
	buf_fini(&text);
	return status;
}
