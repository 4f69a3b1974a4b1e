/* utf8.h - is text ASCII, is it UTF-8: RFC 3629 4 */
#ifndef MILTERD_UTF8_H
#define MILTERD_UTF8_H

#include <stdbool.h>

bool utf8_is_ascii(const char *text);
/* No overlong form, no surrogate, nothing above U+10FFFF. */
bool utf8_is_valid(const char *text);

#endif
