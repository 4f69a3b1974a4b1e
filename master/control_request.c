#include "config.h"

#include "master/control_request.h"

#include <assert.h>
#include <string.h>

#include "common/wire.h"

int control_request_put(struct buf *b, const char *const *word, size_t count)
{
	size_t len = 0;

	for (size_t i = 0; i < count; i++)
		len += strlen(word[i]) + 1;
	if (count == 0 || count > CONTROL_WORDS_MAX || len > CONTROL_REQUEST_MAX)
		return -1;
	wire_put_u32(b, (uint32_t)len);
	for (size_t i = 0; i < count; i++)
		wire_put_cstr(b, word[i]);
	return 0;
}

int control_request_take(const struct buf *b, struct control_request *request)
{
	struct wire w;
	size_t have = buf_len(b);

	*request = (struct control_request){ 0 };
	if (have < 4)
		return 0;
	wire_init(&w, buf_head(b), have);

	uint32_t len = wire_u32(&w);

	if (len == 0 || len > CONTROL_REQUEST_MAX || have - 4 > len)
		return -1;
	if (have - 4 < len)
		return 0;
	while (!w.broken && wire_left(&w) > 0) {
		if (request->count == CONTROL_WORDS_MAX)
			return -1;
		request->word[request->count++] = wire_cstr(&w);
	}
	return w.broken ? -1 : 1;
}

void control_answer_put(struct buf *b, uint32_t status, const char *json, size_t len)
{
	assert(len <= CONTROL_ANSWER_MAX);
	wire_put_u32(b, status);
	wire_put_u32(b, (uint32_t)len);
	buf_append(b, json, len);
}

int control_answer_take(const struct buf *b, struct control_answer *answer)
{
	struct wire w;
	size_t have = buf_len(b);

	*answer = (struct control_answer){ 0 };
	if (have < 8)
		return 0;
	wire_init(&w, buf_head(b), have);
	answer->status = wire_u32(&w);

	uint32_t len = wire_u32(&w);

	if (answer->status > 255 || len > CONTROL_ANSWER_MAX || have - 8 > len)
		return -1;
	if (have - 8 < len)
		return 0;
	answer->json = (const char *)wire_rest(&w, &answer->len);
	return 1;
}
