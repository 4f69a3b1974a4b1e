#include "config.h"

#include "common/terminal.h"

void terminal_put(struct buf *b, const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		/* U+0080 to U+009F are control characters too. */
		if (*c < 0x20 || *c == 0x7f || (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0))
			buf_printf(b, "\\x%02x", *c);
		else
			buf_append(b, c, 1);
	}
}
