/* spool_folder.h - the spool folder: a folder in it for each role, given to its processes as a descriptor
 *
 * Children see no file system; in what they get here they can make files without a name and nothing that stays.
 */
#ifndef MILTERD_SPOOL_FOLDER_H
#define MILTERD_SPOOL_FOLDER_H

#include "common/conf.h"
#include "master/privileges.h"
#include "master/spawn.h"

/* Open the folders, with the rights to make them and to give them away. Where that does not work the log has why, and
 * messages are kept in memory only. */
void spool_folder_open(const struct conf *, const struct privileges *);
/* The role's, still this module's; -1: there is none. */
int spool_folder_get(enum role);
void spool_folder_close(void);

#endif
