#include "config.h"

#include "common/json.h"

#include "common/buf.h"

json_t *json_text(const char *text)
{
	json_t *value = json_string(text);
	struct buf b = { 0 };

	if (value)
		return value;
	for (const unsigned char *c = (const unsigned char *)text; *c; c++)
		buf_printf(&b, *c < 0x80 ? "%c" : "\\x%02x", *c);
	buf_append(&b, "", 1);
	value = json_string((const char *)buf_head(&b));
	buf_fini(&b);
	return value;
}
