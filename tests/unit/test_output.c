#include "config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "session/output.h"
#include "session/smtp_data.h"

#define ALPHABET "\r\n.a\0"
#define LETTERS	 (sizeof(ALPHABET) - 1)
#define TEXT_MAX 64

struct text {
	uint8_t data[TEXT_MAX];
	size_t len;
};

static struct text spell(unsigned number, size_t len)
{
	struct text t = { .len = len };

	for (size_t i = 0; i < len; i++, number /= LETTERS)
		t.data[i] = (uint8_t)ALPHABET[number % LETTERS];
	return t;
}

static bool is_legal(const struct text *t)
{
	for (size_t i = 0; i < t->len; i++) {
		bool lf_follows = i + 1 < t->len && t->data[i + 1] == '\n', cr_before = i && t->data[i - 1] == '\r';

		if (!t->data[i] || (t->data[i] == '\r' && !lf_follows) || (t->data[i] == '\n' && !cr_before))
			return false;
	}
	return true;
}

/* The stuffed form of a legal text, in the plainest words. */
static struct text stuff(const struct text *t)
{
	struct text out = { .len = 0 };

	for (size_t i = 0; i < t->len; i++) {
		if (t->data[i] == '.' && (i == 0 || t->data[i - 1] == '\n'))
			out.data[out.len++] = '.';
		out.data[out.len++] = t->data[i];
	}
	if (t->len && t->data[t->len - 1] != '\n') {
		out.data[out.len++] = '\r';
		out.data[out.len++] = '\n';
	}
	return out;
}

static struct text put(const struct output_piece *piece, size_t count, size_t vectors, size_t limit, size_t write,
	struct output *o)
{
	struct text out = { .len = 0 };
	struct iovec v[8];
	size_t n;

	output_init(o, piece, count);
	while ((n = output_next(o, v, vectors, limit))) {
		size_t written = 0;

		for (size_t i = 0; i < n && written < write; i++) {
			size_t len = v[i].iov_len < write - written ? v[i].iov_len : write - written;

			cr_assert_gt(len, 0);
			cr_assert_leq(out.len + len, TEXT_MAX, "it does not end");
			memcpy(out.data + out.len, v[i].iov_base, len);
			out.len += len;
			written += len;
		}
		output_sent(o, written);
	}
	return out;
}

/* However it is put out, it is the whole stuffed text or, when broken, a beginning that ends no message. */
static void check(const struct text *t, const struct output_piece *piece, size_t count)
{
	static const struct {
		size_t vectors, limit, write;
	} ways[] = { { 8, 1024, 1024 }, { 8, 1024, 1 }, { 1, 1, 1 }, { 2, 3, 2 } };
	bool legal = is_legal(t);
	struct text expected = stuff(t);

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		struct output o;
		struct text out = put(piece, count, ways[i].vectors, ways[i].limit, ways[i].write, &o);

		cr_assert_neq(o.broken, legal, "way %zu: %zu bytes, %zu pieces, legal %d", i, t->len, count, legal);
		cr_assert_eq(output_finished(&o), legal);
		if (legal) {
			cr_assert(out.len == expected.len && memcmp(out.data, expected.data, out.len) == 0);
			cr_assert_eq(output_size(piece, count), out.len);
			cr_assert_eq(o.bytes, t->len);
		} else {
			cr_assert(!memmem(out.data, out.len, "\n.\r", 3) && !memmem(out.data, out.len, "\n.\n", 3));
			cr_assert(!out.len || out.data[out.len - 1] != '\r' || ways[i].write < 1024);
		}
	}
}

Test(output, every_short_text_cut_in_two_comes_out_stuffed_or_not_at_all)
{
	unsigned strings = 1;

	for (size_t len = 0; len <= 8; len++, strings *= LETTERS) {
		for (unsigned number = 0; number < strings; number++) {
			struct text t = spell(number, len);

			for (size_t cut = 0; cut <= len; cut++) {
				struct output_piece piece[] = { { .data = t.data, .len = cut }, { .data = t.data + cut, .len = len - cut } };

				check(&t, piece, 2);
			}
		}
	}
}

Test(output, every_text_of_single_bytes_and_empty_pieces_comes_out_the_same)
{
	unsigned strings = 1;

	for (size_t len = 0; len <= 6; len++, strings *= LETTERS) {
		for (unsigned number = 0; number < strings; number++) {
			struct text t = spell(number, len);
			struct output_piece piece[16] = { { .data = t.data } };

			for (size_t i = 0; i < len; i++) {
				piece[2 * i + 1] = (struct output_piece){ .data = t.data + i, .len = 1 };
				piece[2 * i + 2] = (struct output_piece){ .len = 0 };
			}
			check(&t, piece, 2 * len + 1);
		}
	}
}

/* Longer texts of legal tokens: what is written and read again is what it was, and it ends once. */
Test(output, what_is_written_is_read_again_unchanged)
{
	static const char *const token[] = { "\r\n", ".", "a" };
	unsigned texts = 1;

	for (size_t len = 0; len <= 9; len++, texts *= 3) {
		for (unsigned number = 0; number < texts; number++) {
			struct text t = { .len = 0 };
			unsigned n = number;

			for (size_t i = 0; i < len; i++, n /= 3) {
				memcpy(t.data + t.len, token[n % 3], strlen(token[n % 3]));
				t.len += strlen(token[n % 3]);
			}
			struct output_piece piece = { .data = t.data, .len = t.len };
			struct output o;
			struct text out = put(&piece, 1, 8, 7, 5, &o);
			struct smtp_data d;
			uint8_t *kept_at;
			size_t kept, rest, line_end = t.len && t.data[t.len - 1] != '\n' ? 2 : 0;

			memcpy(out.data + out.len, ".\r\n", 3);
			smtp_data_init(&d);
			cr_assert(smtp_data_take(&d, out.data, out.len + 3, &kept_at, &kept, &rest));
			cr_assert(rest == 0 && !d.bare && kept == t.len + line_end);
			cr_assert_eq(memcmp(kept_at, t.data, t.len), 0);
		}
	}
}

Test(output, a_usual_message_is_one_vector_a_piece)
{
	static const uint8_t header[] = "Subject: x\r\n\r\n", body[] = "one\r\ntwo\r\n";
	struct output_piece piece[] = {
		{ .data = header, .len = sizeof(header) - 1 }, { .data = body, .len = sizeof(body) - 1 },
	};
	struct output o;
	struct iovec v[8];

	output_init(&o, piece, 2);
	cr_assert_eq(output_next(&o, v, 8, 1024), 2);
	cr_assert_eq(v[0].iov_base, header);
	cr_assert_eq(v[1].iov_base, body);
}

#define FILE_SIZE 400000u

/* Where line ends and dots meet the border of memory and file, and of what is read at once. */
Test(output, a_piece_in_a_file_is_sent_as_if_it_were_in_memory)
{
	static const char *const lines[] = { "\r\n", ".\r\n", "..\r\n", "a\r\n", "some more text in a line\r\n" };
	static uint8_t data[FILE_SIZE + 64], out[2][2 * FILE_SIZE];
	int fd = memfd_create("x", 0);
	size_t len = 0;

	for (unsigned seed = 1; len < FILE_SIZE; seed = seed * 1103515245 + 12345) {
		const char *line = lines[(seed >> 16) % 5];

		memcpy(data + len, line, strlen(line));
		len += strlen(line);
	}
	cr_assert_eq(pwrite(fd, data, len, 0), (ssize_t)len);
	for (size_t cut = 0; cut < 40; cut++) {
		struct output_piece piece[2][2] = {
			{ { .data = data, .len = cut }, { .data = data + cut, .len = len - cut } },
			{ { .data = data, .len = cut }, { .len = len - cut, .file = fd, .file_at = cut } },
		};
		size_t size[2] = { 0, 0 };

		for (int way = 0; way < 2; way++) {
			struct output o;
			struct iovec v[8];
			size_t n, write = 1000 + cut * 997;

			output_init(&o, piece[way], 2);
			while ((n = output_next(&o, v, 8, 200000))) {
				size_t sent = 0;

				for (size_t i = 0; i < n && sent < write; i++) {
					size_t part = v[i].iov_len < write - sent ? v[i].iov_len : write - sent;

					memcpy(out[way] + size[way] + sent, v[i].iov_base, part);
					sent += part;
				}
				output_sent(&o, sent);
				size[way] += sent;
			}
			cr_assert(output_finished(&o), "cut %zu", cut);
			cr_assert_eq(output_size(piece[way], 2), size[way]);
		}
		cr_assert_eq(size[0], size[1]);
		cr_assert_eq(memcmp(out[0], out[1], size[0]), 0, "cut %zu", cut);
	}
	struct output_piece longer = { .len = len + 1, .file = fd };
	struct output o;
	struct iovec v[8];

	output_init(&o, &longer, 1);
	for (size_t n; (n = output_next(&o, v, 1, 4096));)
		output_sent(&o, v[0].iov_len);
	cr_assert(o.broken, "the file is shorter");
	close(fd);
}
