#include "config.h"

#include "worker/interest.h"

#include <criterion/criterion.h>

Test(interest, an_event_is_wanted_unless_it_is_not_sent_or_not_answered_and_the_end_always)
{
	static const struct {
		uint32_t no, nr;
		enum ipc_event_kind kind;
	} rows[] = {
		{ SMFIP_NOCONNECT, SMFIP_NR_CONN, IPC_CONNECT },
		{ SMFIP_NOHELO, SMFIP_NR_HELO, IPC_HELO },
		{ SMFIP_NOMAIL, SMFIP_NR_MAIL, IPC_MAIL },
		{ SMFIP_NORCPT, SMFIP_NR_RCPT, IPC_RCPT },
		{ SMFIP_NODATA, SMFIP_NR_DATA, IPC_DATA },
		{ SMFIP_NOUNKNOWN, SMFIP_NR_UNKN, IPC_UNKNOWN },
	};
	const uint32_t all = interest_of_unknown();

	cr_expect_eq(all, (1u << IPC_EVENT_KINDS) - 1);
	cr_expect_eq(interest_of(SMFIP_ALL), IPC_INTEREST(IPC_EOM));
	/* Steps of the content are no events. */
	cr_expect_eq(interest_of(SMFIP_NOBODY | SMFIP_NOHDRS | SMFIP_NOEOH | SMFIP_NR_HDR | SMFIP_NR_EOH |
				 SMFIP_NR_BODY | SMFIP_SKIP | SMFIP_RCPT_REJ | SMFIP_HDR_LEADSPC), all);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		cr_expect_eq(interest_of(rows[i].no), all & ~IPC_INTEREST(rows[i].kind));
		cr_expect_eq(interest_of(rows[i].nr), all & ~IPC_INTEREST(rows[i].kind));
	}
}
