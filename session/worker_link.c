#include "config.h"

#include "session/worker_link.h"

#include <assert.h>
#include <stdlib.h>

#include <utlist.h>

#include "common/mem.h"
#include "common/msgbuf_views.h"

struct held {
	uint32_t id, generation;
	bool dropped;		/* the worker has closed it meanwhile: unmap, do not release */
	struct held *next;
};

struct worker_link {
	unsigned slot, sessions;
	struct chan *chan;	/* NULL: the worker is gone */
	struct msgbuf_views *views;
	struct held *held;
	const struct worker_link_ops *ops;
};

static struct held *find_held(struct worker_link *l, uint32_t id)
{
	struct held *h;

	LL_SEARCH_SCALAR(l->held, h, id, id);
	return h;
}

static int take_buffer(struct worker_link *l, struct chan_record *record, const struct ipc_buffer *buffer)
{
	struct held *h = find_held(l, buffer->id);
	int fd = record->fd;

	switch (record->type) {
	case IPC_BUFFER:
	case IPC_BUFFER_FILE:
		if (fd < 0)
			return -1;
		record->fd = -1;
		return record->type == IPC_BUFFER ? msgbuf_views_add(l->views, buffer->id, fd)
						  : msgbuf_views_add_file(l->views, buffer->id, fd);
	case IPC_BUFFER_DROP:
		if (!h)
			return msgbuf_views_drop(l->views, buffer->id);
		h->dropped = true;
		return 0;
	default:
		return l->ops->on_release(l, buffer);
	}
}

static int on_record(struct chan *chan, void *ctx, struct chan_record *record)
{
	struct worker_link *l = ctx;
	struct ipc_buffer buffer;
	struct wire w;

	(void)chan;
	if (record->type != IPC_BUFFER && record->type != IPC_BUFFER_FILE && record->fd >= 0)
		return -1;
	switch (record->type) {
	case IPC_BUFFER:
	case IPC_BUFFER_FILE:
	case IPC_BUFFER_DROP:
	case IPC_RELEASE:
		wire_init(&w, record->data, record->len);
		ipc_buffer_take(&w, &buffer);
		return wire_finished(&w) && !record->session ? take_buffer(l, record, &buffer) : -1;
	case IPC_VERDICT:
	case IPC_EOM_BEGUN:
	case IPC_TRACE:
		return l->ops->on_record(l, record);
	default:
		return -1;
	}
}

static void free_unless_held(struct worker_link *l)
{
	if (l->chan || l->held)
		return;
	msgbuf_views_free(l->views);
	free(l);
}

static void on_close(struct chan *chan, void *ctx, const char *why)
{
	struct worker_link *l = ctx;

	l->ops->on_lost(l, why);
	chan_free(chan);
	l->chan = NULL;
	free_unless_held(l);
}

struct worker_link *worker_link_new(unsigned slot, int fd, const struct worker_link_ops *ops)
{
	struct worker_link *l = mem_alloc(sizeof(*l));

	l->slot = slot;
	l->ops = ops;
	l->views = msgbuf_views_new();
	l->chan = chan_new(fd, on_record, on_close, l);
	return l;
}

void worker_link_free(struct worker_link *l)
{
	if (!l)
		return;
	chan_free(l->chan);
	l->chan = NULL;
	free_unless_held(l);
}

unsigned worker_link_slot(const struct worker_link *l)
{
	return l->slot;
}

struct chan *worker_link_chan(struct worker_link *l)
{
	assert(l->chan);
	return l->chan;
}

unsigned *worker_link_sessions(struct worker_link *l)
{
	return &l->sessions;
}

void worker_link_send_buffer(struct worker_link *l, uint16_t type, uint32_t id, uint32_t generation, int fd)
{
	const struct ipc_buffer buffer = { .id = id, .generation = generation };
	struct buf data = { 0 };

	ipc_buffer_put(&data, &buffer);
	chan_send(worker_link_chan(l), type, 0, buf_head(&data), buf_len(&data), fd);
	buf_fini(&data);
}

int worker_link_hold(struct worker_link *l, uint32_t id, uint32_t generation, size_t memory, size_t len,
	struct spooled *content)
{
	if (find_held(l, id) || msgbuf_views_read(l->views, id, memory, len, content) < 0)
		return -1;
	struct held *h = mem_alloc(sizeof(*h));

	h->id = id;
	h->generation = generation;
	LL_PREPEND(l->held, h);
	return 0;
}

void worker_link_give_back(struct worker_link *l, uint32_t id)
{
	struct held *h = find_held(l, id);

	assert(h);
	if (h->dropped)
		msgbuf_views_drop(l->views, id);
	else if (l->chan)
		worker_link_send_buffer(l, IPC_RELEASE, id, h->generation, -1);
	LL_DELETE(l->held, h);
	free(h);
	free_unless_held(l);
}
