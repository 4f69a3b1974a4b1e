#include "config.h"

#include "common/conf.h"

#include <assert.h>

#include "common/mem.h"

char *conf_control_socket(const struct conf *conf)
{
	struct buf path = { 0 };

	if (conf->milterd.control_socket[0] != '\0')
		return mem_strdup(conf->milterd.control_socket);
	buf_printf(&path, "%s/control.sock", conf->milterd.runtime_directory);
	buf_append(&path, "", 1);
	return (char *)path.data;
}

const struct conf_words *conf_milter_macros(const struct conf_milter *m, enum milter_stage stage)
{
	const struct conf_words *const macros[MILTER_STAGE_COUNT] = {
		[MILTER_STAGE_CONNECT] = &m->macros_connect, [MILTER_STAGE_HELO] = &m->macros_helo,
		[MILTER_STAGE_MAIL] = &m->macros_mail, [MILTER_STAGE_RCPT] = &m->macros_rcpt,
		[MILTER_STAGE_DATA] = &m->macros_data, [MILTER_STAGE_EOH] = &m->macros_eoh,
		[MILTER_STAGE_EOM] = &m->macros_eom,
	};

	assert(stage < MILTER_STAGE_COUNT);
	return macros[stage];
}
