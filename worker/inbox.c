#include "config.h"

#include "worker/inbox.h"

#include <errno.h>
#include <sys/socket.h>

#define READ_SIZE 4096u		/* replies are small */
#define READ_MAX  (64u * 1024)	/* except bodies */
#define HEAD_SIZE 5u		/* length and command of a packet */

int inbox_read(struct inbox *in, int fd)
{
	size_t size = buf_len(&in->bytes) >= READ_SIZE ? READ_MAX : READ_SIZE;
	ssize_t n;

	do
		n = recv(fd, buf_reserve(&in->bytes, size), size, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -1;
	if (n == 0) {
		errno = 0;
		return -1;
	}
	buf_commit(&in->bytes, (size_t)n);
	return (size_t)n == size;
}

int inbox_next(struct inbox *in, struct milter_packet *packet)
{
	/* As long as the type is not there, it might be the one that may have more. */
	bool may_be_body = buf_len(&in->bytes) < HEAD_SIZE ||
			   buf_head(&in->bytes)[HEAD_SIZE - 1] == SMFIR_REPLBODY;
	int got = milter_packet_next(&in->bytes, may_be_body ? INBOX_REPLBODY_MAX : INBOX_REPLY_MAX, packet);

	if (got > 0)
		in->taking = packet->size;
	return got;
}

void inbox_taken(struct inbox *in)
{
	buf_consume(&in->bytes, in->taking);
	in->taking = 0;
}

bool inbox_has_more(const struct inbox *in)
{
	return buf_len(&in->bytes) > in->taking;
}

void inbox_show(const struct inbox *in, char *text, size_t size)
{
	size_t len = buf_len(&in->bytes) < size - 1 ? buf_len(&in->bytes) : size - 1;

	for (size_t i = 0; i < len; i++)
		text[i] = buf_head(&in->bytes)[i] ? (char)buf_head(&in->bytes)[i] : '.';
	while (len && (text[len - 1] == '\r' || text[len - 1] == '\n'))
		len--;
	text[len] = '\0';
}

void inbox_shrink(struct inbox *in)
{
	buf_shrink(&in->bytes, READ_SIZE);
}

void inbox_fini(struct inbox *in)
{
	buf_fini(&in->bytes);
}
