#include "config.h"

#include "common/dsn.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "common/utf8.h"

#define ENVID_MAX	  100u	/* RFC 3461 4.4 */
#define ORCPT_MAX	  500u	/* RFC 3461 4.2 */
#define CODE_POINT_DIGITS 6u

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F');
}

/* xchar or hexchar of RFC 3461 4; returns its length, 0 when it is neither. */
static size_t xtext_length(const char *text)
{
	if (*text == '+')
		return is_hex(text[1]) && is_hex(text[2]) && memcmp(text + 1, "00", 2) != 0 ? 3 : 0;
	return *text > ' ' && *text < 127 && *text != '=' ? 1 : 0;
}

/* EmbeddedUnicodeChar of RFC 6533 3: "\x{" HEXPOINT "}". */
static size_t embedded_length(const char *text)
{
	size_t digits = 0;

	if (strncmp(text, "\\x{", 3) != 0)
		return 0;
	text += 3;
	while (digits < CODE_POINT_DIGITS && is_hex(text[digits]))
		digits++;
	return digits && text[digits] == '}' && strspn(text, "0") < digits ? 3 + digits + 1 : 0;
}

static bool is_xtext(const char *text)
{
	size_t length;

	for (; *text; text += length) {
		length = xtext_length(text);
		if (!length)
			return false;
	}
	return true;
}

/* utf-8-addr-xtext or utf-8-addr-unitext of RFC 6533 3. */
static bool is_utf8_address(const char *text)
{
	size_t length;

	if (!utf8_is_valid(text))
		return false;
	for (; *text; text += length) {
		length = (unsigned char)*text >= 0x80 ? 1 : *text == '\\' ? embedded_length(text) : xtext_length(text);
		if (!length)
			return false;
	}
	return true;
}

bool dsn_is_ret(const char *value)
{
	return strcasecmp(value, "FULL") == 0 || strcasecmp(value, "HDRS") == 0;
}

bool dsn_is_envid(const char *value)
{
	return *value && strlen(value) <= ENVID_MAX && is_xtext(value);
}

bool dsn_is_notify(const char *value)
{
	static const char *const events[] = { "SUCCESS", "FAILURE", "DELAY" };

	if (strcasecmp(value, "NEVER") == 0)
		return true;
	for (;;) {
		size_t len = strcspn(value, ","), i = 0;

		while (i < 3 && (strlen(events[i]) != len || strncasecmp(value, events[i], len) != 0))
			i++;
		if (i == 3)
			return false;
		if (!value[len])
			return true;
		value += len + 1;
	}
}

static bool is_address_type(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] >= 127 || strchr("()<>@,;:\\\".[]+=", text[i]))
			return false;
	return len > 0;
}

bool dsn_is_orcpt(const char *value)
{
	size_t type = strcspn(value, ";");
	const char *address = value + type + 1;

	if (!value[type] || !*address || strlen(value) > ORCPT_MAX || !is_address_type(value, type))
		return false;
	return type == 5 && strncasecmp(value, "utf-8", 5) == 0 ? is_utf8_address(address) : is_xtext(address);
}
