/* test_front.h - "milterctl test": one message through the milters of a listener, explained, and never delivered
 *
 * A test is a session like any other for its workers. It comes as a descriptor from the master and speaks
 * common/message_test.h.
 */
#ifndef MILTERD_TEST_FRONT_H
#define MILTERD_TEST_FRONT_H

#include "common/conf.h"

#define TEST_FRONT_MAX 8u	/* at a time; more are told to come again */

void test_front_init(const struct conf *, const char *hostname);
/* Takes the descriptor. */
void test_front_add(int fd);
/* Those that are running are given up. */
void test_front_fini(void);

#endif
