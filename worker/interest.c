#include "config.h"

#include "worker/interest.h"

#include <stddef.h>

/* An event with any of these bits is not sent (NO*) or not answered (NR_*). */
static const uint32_t unanswered[IPC_EVENT_KINDS] = {
	[IPC_CONNECT] = SMFIP_NOCONNECT | SMFIP_NR_CONN,
	[IPC_HELO] = SMFIP_NOHELO | SMFIP_NR_HELO,
	[IPC_MAIL] = SMFIP_NOMAIL | SMFIP_NR_MAIL,
	[IPC_RCPT] = SMFIP_NORCPT | SMFIP_NR_RCPT,
	[IPC_DATA] = SMFIP_NODATA | SMFIP_NR_DATA,
	[IPC_EOM] = 0,
	[IPC_UNKNOWN] = SMFIP_NOUNKNOWN | SMFIP_NR_UNKN,
};

uint32_t interest_of(uint32_t protocol)
{
	uint32_t interest = 0;

	for (size_t kind = 0; kind < IPC_EVENT_KINDS; kind++)
		if (!(protocol & unanswered[kind]))
			interest |= IPC_INTEREST(kind);
	return interest;
}

uint32_t interest_of_unknown(void)
{
	return interest_of(0);
}
