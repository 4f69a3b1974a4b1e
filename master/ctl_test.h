/* ctl_test.h - milterctl test: one message through the chain, explained */
#ifndef MILTERD_CTL_TEST_H
#define MILTERD_CTL_TEST_H

#include "master/ctl_options.h"

/* Exit status 0 accepted, 10 rejected, 11 tempfailed, 12 discarded, 13 quarantined, 1 failure, 64 usage. */
int ctl_test(const struct ctl_options *, int argc, char **argv);

#endif
