/* json.h - bytes of others as JSON: jansson takes nothing that is not UTF-8 */
#ifndef MILTERD_JSON_H
#define MILTERD_JSON_H

#include <jansson.h>

/* A string; where the text is not valid UTF-8, its bytes above 0x7f are written as \xNN. Never NULL. */
json_t *json_text(const char *text);

#endif
