#include "config.h"

#include "common/envelope.h"

#include <string.h>
#include <strings.h>

#include "common/dsn.h"
#include "common/smtp_path.h"

#define ARGS_MAX	  16u	/* parameters a milter may send with one address */
#define ARGS_LENGTH_MAX	  4096u	/* and bytes of them */
#define OP_PARAMS_MAX	  2u	/* of them at most this many kinds are kept */

/* What a milter may say about an address besides the address. */
static const struct kept_param {
	enum envelope_change change;
	const char *keyword;
	bool (*is_valid)(const char *value);
} kept_params[] = {
	{ ENVELOPE_SENDER, "RET", dsn_is_ret },
	{ ENVELOPE_SENDER, "ENVID", dsn_is_envid },
	{ ENVELOPE_ADD, "NOTIFY", dsn_is_notify },
	{ ENVELOPE_ADD, "ORCPT", dsn_is_orcpt },
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

/* A milter that takes a recipient out and puts it back has not changed what its sender wants to be told. */
static struct envelope_path added_rcpt(const struct envelope *from, const struct envelope_path *path)
{
	for (size_t i = 0; i < from->rcpt_count && !path->param_count; i++)
		if (smtp_path_equal(from->rcpt[i].address, path->address))
			return (struct envelope_path){ path->address, from->rcpt[i].param, from->rcpt[i].param_count };
	return *path;
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
				result.rcpt[result.rcpt_count++] = added_rcpt(from, path);
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
