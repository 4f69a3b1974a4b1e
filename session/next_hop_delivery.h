/* next_hop_delivery.h - a message behind a next hop's 354: content, gate, final dot, verdict
 *
 * The final dot is the only act that cannot be taken back. It is a write of its own, behind the gate, made once: only
 * when all content is out, its size is the planned one and the next hop has said nothing.
 */
#ifndef MILTERD_NEXT_HOP_DELIVERY_H
#define MILTERD_NEXT_HOP_DELIVERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/loop.h"
#include "session/next_hop_conn.h"
#include "session/output.h"

struct next_hop_delivery_ops {
	/* The gate, see next_hop.h. */
	bool (*may_commit)(void *ctx);
	/* The end; called once. in_step: the reply is the answer to the dot, so the connection can be used again. */
	void (*on_end)(void *ctx, bool committed, bool in_doubt, bool in_step, const char *reply);
};

struct next_hop_delivery {
	/* Set by the owner. */
	const struct next_hop_delivery_ops *ops;
	void *ctx;
	struct next_hop_conn *conn;
	uint64_t session;	/* for log lines */
	int64_t deadline;	/* clock_now_ms(), for the dot */
	int64_t write_ms;	/* how long a write may wait for room */

	struct output output;
	uint64_t planned, written;	/* bytes of content with stuffing */
	unsigned stage;
	size_t dot_written;		/* bytes of the final dot that are out */
	struct timer limit;
};

/* The 354 is there and the owner's fields are set. planned: output_size() of the pieces, which must live until the end. */
void next_hop_delivery_begin(struct next_hop_delivery *, const struct output_piece *, size_t count, uint64_t planned);
/* Any time; no callback any more. A zeroed one is fine. */
void next_hop_delivery_fini(struct next_hop_delivery *);

/* What the connection tells its owner, handed on. */
void next_hop_delivery_writable(struct next_hop_delivery *);
void next_hop_delivery_reply(struct next_hop_delivery *, int code, const char *reply, bool owed);
void next_hop_delivery_lost(struct next_hop_delivery *);

#endif
