/* noop_filter.c - a filter on libmilter that answers every event with continue: what a milter costs at least
 *
 * usage: noop_filter SOCKET (in libmilter's notation, such as unix:/PATH). With a second argument, no-replies, it
 * negotiates that only the end of message is answered.
 */
#include "config.h"

#include <libmilter/mfapi.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static unsigned long wanted_steps;

static sfsistat on_negotiate(SMFICTX *ctx, unsigned long offered_actions, unsigned long offered_steps,
	unsigned long unused1, unsigned long unused2, unsigned long *actions, unsigned long *steps, unsigned long *out1,
	unsigned long *out2)
{
	(void)ctx;
	(void)offered_actions;
	(void)unused1;
	(void)unused2;
	*actions = 0;
	*steps = wanted_steps & offered_steps;
	*out1 = *out2 = 0;
	return SMFIS_CONTINUE;
}

/* With SMFIP_NR_* the library insists on "no reply", without it on a reply. */
static sfsistat answer(void)
{
	return wanted_steps ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

static sfsistat on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *address)
{
	(void)ctx;
	(void)name;
	(void)address;
	return answer();
}

static sfsistat on_text(SMFICTX *ctx, char *text)
{
	(void)ctx;
	(void)text;
	return answer();
}

static sfsistat on_unknown(SMFICTX *ctx, const char *line)
{
	(void)ctx;
	(void)line;
	return answer();
}

static sfsistat on_path(SMFICTX *ctx, char **args)
{
	(void)ctx;
	(void)args;
	return answer();
}

static sfsistat on_header(SMFICTX *ctx, char *name, char *value)
{
	(void)ctx;
	(void)name;
	(void)value;
	return answer();
}

static sfsistat on_step(SMFICTX *ctx)
{
	(void)ctx;
	return answer();
}

static sfsistat on_body(SMFICTX *ctx, unsigned char *data, size_t len)
{
	(void)ctx;
	(void)data;
	(void)len;
	return answer();
}

static sfsistat on_end(SMFICTX *ctx)
{
	(void)ctx;
	return SMFIS_CONTINUE;
}

int main(int argc, char **argv)
{
	char name[] = "noop";
	struct smfiDesc filter = {
		.xxfi_name = name, .xxfi_version = SMFI_VERSION, .xxfi_connect = on_connect, .xxfi_helo = on_text,
		.xxfi_envfrom = on_path, .xxfi_envrcpt = on_path, .xxfi_header = on_header, .xxfi_eoh = on_step,
		.xxfi_body = on_body, .xxfi_eom = on_end, .xxfi_abort = on_end, .xxfi_close = on_end,
		.xxfi_unknown = on_unknown, .xxfi_data = on_step, .xxfi_negotiate = on_negotiate,
	};

	if (argc < 2 || argc > 3 || (argc == 3 && strcmp(argv[2], "no-replies") != 0)) {
		fputs("usage: noop_filter SOCKET [no-replies]\n", stderr);
		return EX_USAGE;
	}
	if (argc == 3)
		wanted_steps = SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NR_RCPT | SMFIP_NR_DATA |
			SMFIP_NR_UNKN | SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY;
	if (smfi_setconn(argv[1]) == MI_FAILURE || smfi_register(filter) == MI_FAILURE || smfi_opensocket(1) == MI_FAILURE)
		return EX_UNAVAILABLE;
	return smfi_main() == MI_SUCCESS ? EX_OK : EX_SOFTWARE;
}
