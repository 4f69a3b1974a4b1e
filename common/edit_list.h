/* edit_list.h - the header of a message as a list of fields with identities
 *
 * A field is never changed once it is in a list: a change puts another one with the same id in its place, so lists
 * share fields, and comparing two lists by id tells what was deleted, changed and added between them. Our own Received
 * is one of the fields; it takes a position, but no name finds it.
 */
#ifndef MILTERD_EDIT_LIST_H
#define MILTERD_EDIT_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/edit_result.h"
#include "common/edit_value.h"

struct edit_field {
	uint32_t id;		/* identity: the same in every list, also after a change of name and value */
	enum edit_source source;
	bool deleted;		/* keeps the number of a deleted field; only in lists that are being staged */
	size_t offset;		/* ORIGINAL: in the message */
	struct edit_text text;	/* not of RECEIVED */
	const char *shown;	/* cache: the whole value as a milter sees it */
	size_t shown_len;
};

/* A zeroed struct edit_list is a valid empty one. The fields are not its own. */
struct edit_list {
	struct edit_field **field;
	size_t count, capacity;
};

void edit_list_fini(struct edit_list *);
/* to is empty. */
void edit_list_copy(struct edit_list *to, const struct edit_list *from);
/* At a position from 0 to count. */
void edit_list_insert(struct edit_list *, size_t at, struct edit_field *);
void edit_list_remove(struct edit_list *, size_t at);
/* The position of the index-th field of this name, from 1; without regard to case; count when there is none. */
size_t edit_list_find(const struct edit_list *, const char *name, uint32_t index);
/* Where our own Received is. */
size_t edit_list_received(const struct edit_list *);
/* Leave out what is marked as deleted. */
void edit_list_purge(struct edit_list *);
/* The list as segments, at most count of them; neighbours in the original message become one. How many there are. */
size_t edit_list_segments(const struct edit_list *, struct edit_segment *);

#endif
