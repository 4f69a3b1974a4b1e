/* script_milter.h - a milter for tests: it writes down what it is told and answers as the test says
 *
 * It runs on the loop of the test, over a UNIX socket in a temporary folder or on one end of a socketpair.
 */
#ifndef MILTERD_TESTS_SCRIPT_MILTER_H
#define MILTERD_TESTS_SCRIPT_MILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"

/* A reply without data, and one with data, as the bytes of a packet of less than 256 bytes. */
#define REPLY(letter)		"\0\0\0\1" letter
#define SAYS(command_, bytes_)	{ .command = (command_), .bytes = (bytes_), .len = sizeof(bytes_) - 1 }

/* What it does at one command instead of answering CONTINUE. */
struct script_rule {
	uint8_t command;	/* SMFIC_*; 0: end of the rules */
	unsigned nth;		/* of this command on its connection, from 1; 0: each */
	unsigned connection;	/* from 1; 0: each */
	const char *bytes;	/* sent as they are; NULL: nothing */
	size_t len;
	bool hangs_up;		/* afterwards */
};

#define SCRIPT_RULES 6

struct script {
	uint32_t version, actions, protocol;	/* version 0: 6 and all actions */
	struct script_rule rule[SCRIPT_RULES];
};

struct script_milter;

/* Listen at path. */
struct script_milter *script_listen(const char *path, const struct script *);
/* One connection, the descriptor is taken. */
struct script_milter *script_attach(int fd, const struct script *);
void script_free(struct script_milter *);

unsigned script_connections(const struct script_milter *);
/* What a connection (from 1) was told: "O C(host) H(name) M(<a@b>) R(<c@d>) T L(Subject) N B(12) E", ABORT is A, QUIT
 * is Q, end of file is "."; MACRO is not written down. */
const char *script_told(const struct script_milter *, unsigned connection);
/* "D" packets of a connection: "C:j=mx M:i=1,{mail_addr}=a". */
const char *script_macros(const struct script_milter *, unsigned connection);
/* All bytes of BODY packets together. */
const struct buf *script_body(const struct script_milter *, unsigned connection);
/* Send bytes without having been asked. */
void script_send(struct script_milter *, unsigned connection, const void *, size_t len);
void script_stop_reading(struct script_milter *, unsigned connection);
void script_hang_up(struct script_milter *, unsigned connection);

/* Defaults of milterd.conf(5), short timeouts, and this UNIX socket. */
void script_conf(struct conf_milter *, const char *name, const char *path);
void script_conf_fini(struct conf_milter *);
/* A new folder for sockets; removed with everything in it by script_folder_remove(). */
char *script_folder(void);
void script_folder_remove(char *);

/* Run the loop until the condition holds or the time is over. True: it held. */
bool script_until(bool (*holds)(void *), void *ctx, int64_t timeout_ms);

#endif
