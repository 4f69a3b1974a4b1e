/* assembly.h - the message as it leaves: what milters have made of it, piece by piece, with our own Received */
#ifndef MILTERD_ASSEMBLY_H
#define MILTERD_ASSEMBLY_H

#include <stddef.h>

#include "common/edit_result.h"
#include "session/output.h"
#include "session/smtp_session.h"

/* Header segments, separator, body, for output.h; what they point into lives until the transaction ends. The session's
 * transaction has its content and header block. NULL: the worker named a body that it has not lent. */
const struct output_piece *assembly_make(struct smtp_session *, const struct edit_result *, size_t *count);

#endif
