/* envelope.h - sender and recipients of one message, and what milters change about them (protocol: CHGFROM, ADDRCPT,
 * ADDRCPT_PAR, DELRCPT of mfapi.h, by Postfix's rules) */
#ifndef MILTERD_ENVELOPE_H
#define MILTERD_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/mem.h"
#include "common/wire.h"

#define ENVELOPE_OPS_MAX 1000u	/* changes of all milters of one message */

struct envelope_path {
	const char *address;		/* without brackets; "" is the null sender */
	const char *const *param;	/* ESMTP parameters as they go to the next hop */
	size_t param_count;
};

struct envelope {
	struct envelope_path sender;
	struct envelope_path *rcpt;	/* in the order they were accepted */
	size_t rcpt_count;
};

enum envelope_change { ENVELOPE_SENDER, ENVELOPE_ADD, ENVELOPE_DELETE };

struct envelope_op {
	enum envelope_change change;
	struct envelope_path path;
};

/* *to, in the arena, is *from after all the changes in order: a new sender replaces the old one (and its parameters
 * RET and ENVID when it names its own; SIZE, BODY and SMTPUTF8 stay), a recipient that is already there is not added
 * twice, a delete removes every equal recipient (also an added one), and one that comes back without parameters of its
 * own has those it had. Nothing of *from is changed; *to may point into it. */
void envelope_apply(struct arena *, const struct envelope *from, const struct envelope_op *, size_t count,
	struct envelope *to);
bool envelope_equal(const struct envelope *, const struct envelope *);

/* Check what a milter sent and make it an operation. Of parameters only RET, ENVID (sender), NOTIFY and ORCPT
 * (recipient) are kept, the others dropped. 0, or -1 with *why in words (static). args may be NULL. */
int envelope_op_make(struct arena *, enum envelope_change, const char *path, const char *args, struct envelope_op *,
	const char **why);

void envelope_op_put(struct buf *, const struct envelope_op *);
/* Sets the reader's error unless it is what envelope_op_make() can make: every byte is checked by the same parsers.
 * Strings are copied to the arena. */
void envelope_op_take(struct wire *, struct arena *, struct envelope_op *);

#endif
