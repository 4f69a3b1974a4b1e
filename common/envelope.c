#include "config.h"

#include "common/envelope.h"

#include <string.h>
#include <strings.h>

#include "common/smtp_path.h"

#define ARGS_MAX	  16u	/* parameters a milter may send with one address */
#define ARGS_LENGTH_MAX	  4096u	/* and bytes of them */
#define OP_PARAMS_MAX	  2u	/* of them at most this many kinds are kept */
#define ENVID_MAX	  100u	/* RFC 3461 4.4 */
#define ORCPT_MAX	  500u	/* RFC 3461 4.2 */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* xtext of RFC 3461 4; an encoded NUL would end the string early for whoever decodes it. */
static bool is_xtext(const char *text, bool utf8)
{
	for (; *text; text++) {
		if (*text == '+') {
			if (hex_digit(text[1]) < 0 || hex_digit(text[2]) < 0 || memcmp(text + 1, "00", 2) == 0)
				return false;
			text += 2;
		} else if (*text == '=' || (!utf8 && (unsigned char)*text >= 0x80)) {
			return false;
		}
	}
	return true;
}

static bool is_ret(const char *value)
{
	return strcasecmp(value, "FULL") == 0 || strcasecmp(value, "HDRS") == 0;
}

static bool is_envid(const char *value)
{
	return *value && strlen(value) <= ENVID_MAX && is_xtext(value, false);
}

static bool is_notify(const char *value)
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

/* addr-type ";" xtext; the type utf-8 (RFC 6533) may have UTF-8 in the address. */
static bool is_orcpt(const char *value)
{
	size_t type = strcspn(value, ";");

	return type && value[type] && value[type + 1] && strlen(value) <= ORCPT_MAX &&
		is_xtext(value + type + 1, type == 5 && strncasecmp(value, "utf-8", 5) == 0);
}

/* What a milter may say about an address besides the address. */
static const struct kept_param {
	enum envelope_change change;
	const char *keyword;
	bool (*is_valid)(const char *value);
} kept_params[] = {
	{ ENVELOPE_SENDER, "RET", is_ret },
	{ ENVELOPE_SENDER, "ENVID", is_envid },
	{ ENVELOPE_ADD, "NOTIFY", is_notify },
	{ ENVELOPE_ADD, "ORCPT", is_orcpt },
};

static const struct kept_param *kept_param(enum envelope_change change, const char *param)
{
	for (size_t i = 0; i < sizeof(kept_params) / sizeof(kept_params[0]); i++) {
		const char *value = smtp_params_find(&param, 1, kept_params[i].keyword);

		if (kept_params[i].change == change && value)
			return kept_params[i].is_valid(value) ? &kept_params[i] : NULL;
	}
	return NULL;
}

static size_t keyword_length(const char *param)
{
	return strcspn(param, "=");
}

static bool same_keyword(const char *one, const char *other)
{
	size_t length = keyword_length(one);

	return length == keyword_length(other) && strncasecmp(one, other, length) == 0;
}

static const char *const *params_replace(struct arena *arena, const char *const *old, size_t old_count,
	const char *const *changed, size_t changed_count, size_t *count)
{
	const char **params = arena_alloc(arena, (old_count + changed_count + 1) * sizeof(*params));

	*count = 0;
	for (size_t i = 0; i < old_count; i++) {
		bool replaced = false;

		for (size_t j = 0; j < changed_count; j++)
			replaced |= same_keyword(old[i], changed[j]);
		if (!replaced)
			params[(*count)++] = old[i];
	}
	for (size_t j = 0; j < changed_count; j++)
		params[(*count)++] = changed[j];
	return params;
}

static enum smtp_path_kind path_kind(enum envelope_change change)
{
	return change == ENVELOPE_SENDER ? SMTP_PATH_REVERSE : SMTP_PATH_FORWARD;
}

int envelope_op_make(struct arena *arena, enum envelope_change change, const char *path, const char *args,
	struct envelope_op *op, const char **why)
{
	size_t count = 0;
	const char **sent;

	*op = (struct envelope_op){ .change = change };
	op->path.address = smtp_path_from_milter(arena, path_kind(change), path, why);
	if (!op->path.address)
		return -1;
	if (!args)
		return 0;
	if (strlen(args) > ARGS_LENGTH_MAX) {
		*why = "the parameters are too long";
		return -1;
	}
	sent = smtp_params_parse(arena, args, strlen(args), ARGS_MAX, &count, why);
	if (!sent)
		return -1;
	/* Given twice, the last one counts, as in Postfix. */
	for (size_t i = 0; i < count; i++)
		if (kept_param(change, sent[i]))
			op->path.param = params_replace(arena, op->path.param, op->path.param_count, &sent[i], 1,
				&op->path.param_count);
	return 0;
}

static bool has_rcpt(const struct envelope *e, const char *address)
{
	for (size_t i = 0; i < e->rcpt_count; i++)
		if (smtp_path_equal(e->rcpt[i].address, address))
			return true;
	return false;
}

static void delete_rcpt(struct envelope *e, const char *address)
{
	size_t kept = 0;

	for (size_t i = 0; i < e->rcpt_count; i++)
		if (!smtp_path_equal(e->rcpt[i].address, address))
			e->rcpt[kept++] = e->rcpt[i];
	e->rcpt_count = kept;
}

void envelope_apply(struct arena *arena, const struct envelope *from, const struct envelope_op *op, size_t count,
	struct envelope *to)
{
	struct envelope result = *from;

	result.rcpt = arena_alloc(arena, (from->rcpt_count + count + 1) * sizeof(*result.rcpt));
	if (from->rcpt_count)
		memcpy(result.rcpt, from->rcpt, from->rcpt_count * sizeof(*result.rcpt));
	for (size_t i = 0; i < count; i++) {
		const struct envelope_path *path = &op[i].path;

		switch (op[i].change) {
		case ENVELOPE_SENDER:
			result.sender.address = path->address;
			result.sender.param = params_replace(arena, result.sender.param, result.sender.param_count,
				path->param, path->param_count, &result.sender.param_count);
			break;
		case ENVELOPE_ADD:
			if (!has_rcpt(&result, path->address))
				result.rcpt[result.rcpt_count++] = *path;
			break;
		case ENVELOPE_DELETE:
			delete_rcpt(&result, path->address);
			break;
		}
	}
	*to = result;
}

static bool path_equal(const struct envelope_path *one, const struct envelope_path *other)
{
	if (strcmp(one->address, other->address) != 0 || one->param_count != other->param_count)
		return false;
	for (size_t i = 0; i < one->param_count; i++)
		if (strcmp(one->param[i], other->param[i]) != 0)
			return false;
	return true;
}

bool envelope_equal(const struct envelope *one, const struct envelope *other)
{
	if (one->rcpt_count != other->rcpt_count || !path_equal(&one->sender, &other->sender))
		return false;
	for (size_t i = 0; i < one->rcpt_count; i++)
		if (!path_equal(&one->rcpt[i], &other->rcpt[i]))
			return false;
	return true;
}

void envelope_op_put(struct buf *b, const struct envelope_op *op)
{
	wire_put_u8(b, (uint8_t)op->change);
	wire_put_cstr(b, op->path.address);
	wire_put_u8(b, (uint8_t)op->path.param_count);
	for (size_t i = 0; i < op->path.param_count; i++)
		wire_put_cstr(b, op->path.param[i]);
}

/* The whole text is one parameter that envelope_op_make() keeps. */
static bool param_acceptable(struct arena *arena, enum envelope_change change, const char *text)
{
	const char *why;
	size_t count;
	const char **params = smtp_params_parse(arena, text, strlen(text), 1, &count, &why);

	return params && count == 1 && strcmp(params[0], text) == 0 && kept_param(change, text);
}

static bool take_op(struct wire *w, struct arena *arena, struct envelope_op *op)
{
	const char **params, *why, *text;
	uint8_t change = wire_u8(w);

	if (change > ENVELOPE_DELETE)
		return false;
	op->change = change;
	text = wire_cstr(w);
	op->path.address = smtp_path_from_milter(arena, path_kind(op->change), text, &why);
	if (!op->path.address || strcmp(op->path.address, text) != 0)
		return false;
	op->path.param_count = wire_u8(w);
	if (op->path.param_count > OP_PARAMS_MAX)
		return false;
	params = arena_alloc(arena, OP_PARAMS_MAX * sizeof(*params));
	for (size_t i = 0; i < op->path.param_count; i++) {
		params[i] = arena_strdup(arena, wire_cstr(w));
		if (!param_acceptable(arena, op->change, params[i]) || (i && same_keyword(params[0], params[i])))
			return false;
	}
	op->path.param = params;
	return !w->broken;
}

void envelope_op_take(struct wire *w, struct arena *arena, struct envelope_op *op)
{
	*op = (struct envelope_op){ .path.address = "" };
	if (take_op(w, arena, op))
		return;
	*op = (struct envelope_op){ .path.address = "" };
	w->broken = true;
	w->at = w->end;
}
