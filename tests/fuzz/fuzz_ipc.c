/* The records between processes: the first byte is the type, the rest the data. What is taken must be what its writer
 * would have written. */
#include "config.h"

#include <assert.h>
#include <string.h>

#include "common/ipc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was consumed of data is what put_back holds. */
static void same_again(const struct wire *w, const uint8_t *data, struct buf *put_back)
{
	size_t len = (size_t)(w->at - data);

	assert(buf_len(put_back) == len && memcmp(buf_head(put_back), data, len) == 0);
}

static void fixed(uint8_t type, struct wire *w, const uint8_t *data, struct buf *b)
{
	struct ipc_slot slot;
	struct ipc_buffer buffer;
	struct ipc_open open;
	struct ipc_eom_begun begun;
	struct ipc_log_level level;

	switch (type) {
	case IPC_OPEN:
		ipc_open_take(w, &open);
		if (!w->broken)
			ipc_open_put(b, &open);
		break;
	case IPC_EOM_BEGUN:
		ipc_eom_begun_take(w, &begun);
		ipc_eom_begun_put(b, &begun);
		break;
	case IPC_BUFFER:
	case IPC_BUFFER_DROP:
	case IPC_RELEASE:
		ipc_buffer_take(w, &buffer);
		ipc_buffer_put(b, &buffer);
		break;
	case IPC_LISTENER:
	case IPC_PEER:
		ipc_slot_take(w, &slot);
		ipc_slot_put(b, &slot);
		break;
	case IPC_LOG_LEVEL:
		ipc_log_level_take(w, &level);
		if (!w->broken)
			ipc_log_level_put(b, &level);
		break;
	default:
		return;
	}
	if (!w->broken)
		same_again(w, data, b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena = { 0 };
	struct buf b = { 0 };
	struct ipc_event event;
	struct ipc_verdict verdict;
	struct wire w;

	if (size < 2)
		return 0;
	wire_init(&w, data + 1, size - 1);
	if (data[0] == IPC_EVENT) {
		ipc_event_take(&w, &arena, &event);
		if (!w.broken) {
			ipc_event_put(&b, &event);
			same_again(&w, data + 1, &b);
		}
	} else if (data[0] == IPC_VERDICT) {
		ipc_verdict_take(&w, &arena, &verdict);
		if (!w.broken) {
			ipc_verdict_put(&b, &verdict);
			same_again(&w, data + 1, &b);
		}
	} else if (data[0] == IPC_TRACE) {
		struct ipc_trace trace;

		ipc_trace_take(&w, &arena, &trace);
		if (!w.broken) {
			ipc_trace_put(&b, &trace);
			same_again(&w, data + 1, &b);
		}
	} else {
		fixed(data[0], &w, data + 1, &b);
	}
	buf_fini(&b);
	arena_fini(&arena);
	return 0;
}
