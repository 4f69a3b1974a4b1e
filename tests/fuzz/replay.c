/* The main() of a fuzz target when libFuzzer is not: gives it every file of tests/fuzz/corpus/NAME (the program is
 * called fuzz_NAME) and then a fixed number of mutations of them, the same ones at every run. TAP on standard output.
 * The target runs in a child; the input that ends it, or takes too long, is left in NAME.failed, and
 * "fuzz_NAME FILE..." runs the target on such files alone and in this process. */
#include "config.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES_MAX     256u
#define INPUT_MAX     (64u * 1024)	/* bytes */
#define MUTATIONS     4000u
#define CHANGES_MAX   4u		/* in one mutation */
#define INPUT_SECONDS 20u		/* for one input, with sanitizers on a busy machine */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	uint8_t data[INPUT_MAX];
	size_t size;
};

static struct input *corpus[FILES_MAX];
static size_t corpus_count;
static struct input *current;		/* shared with the child, so that it survives it */

static void run(const struct input *in)
{
	/* Exactly as large as the input, so that a sanitizer sees a byte too many. */
	uint8_t *exact = malloc(in->size ? in->size : 1);

	memcpy(exact, in->data, in->size);
	LLVMFuzzerTestOneInput(exact, in->size);
	free(exact);
}

static struct input *read_file(const char *path)
{
	struct input *in = calloc(1, sizeof(*in));
	FILE *f = fopen(path, "rb");

	if (!f) {
		free(in);
		return NULL;
	}
	in->size = fread(in->data, 1, sizeof(in->data), f);
	fclose(f);
	return in;
}

static int is_file(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* In the order of their names, so that every run makes the same mutations. */
static void read_corpus(const char *name)
{
	const char *top = getenv("SRCDIR");
	struct dirent **entries;
	char folder[4096], path[8192];

	snprintf(folder, sizeof(folder), "%s/tests/fuzz/corpus/%s", top ? top : ".", name);
	int count = scandir(folder, &entries, is_file, alphasort);

	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);
		assert(corpus_count < FILES_MAX);
		corpus[corpus_count] = read_file(path);
		corpus_count += corpus[corpus_count] != NULL;
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

/* xorshift64*, from 0 to below - 1. */
static size_t below(size_t limit)
{
	static uint64_t state = 0x6d696c7465726421;

	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (size_t)((state * 0x2545f4914f6cdd1d) >> 33) % limit;
}

/* Put len bytes in the place of old_len ones; what does not fit is left as it is. */
static void replace(struct input *in, size_t at, size_t old_len, const uint8_t *bytes, size_t len)
{
	if (in->size - old_len + len > INPUT_MAX)
		return;
	memmove(in->data + at + len, in->data + at + old_len, in->size - at - old_len);
	memcpy(in->data + at, bytes, len);
	in->size += len - old_len;
}

static void change(struct input *in)
{
	/* Bytes and numbers that mean something to our formats or stand at the edge of a range. */
	static const struct {
		uint8_t bytes[5];
		size_t len;
	} words[] = {
		{ "\0", 1 }, { "\xff", 1 }, { "\r\n", 2 }, { "\r", 1 }, { "\n", 1 }, { ".", 1 }, { " ", 1 },
		{ "\t", 1 }, { "%", 1 }, { "-", 1 }, { "<", 1 }, { ">", 1 }, { ":", 1 }, { "=", 1 }, { "\"", 1 },
		{ "\\", 1 }, { "\x80", 1 }, { "\xc3\xbc", 2 }, { "\r\n.\r\n", 5 }, { "\0\0\0\0", 4 }, { "\0\0\0\1", 4 },
		{ "\0\1\0\0", 4 }, { "\x7f\xff\xff\xff", 4 }, { "\xff\xff\xff\xff", 4 },
	};
	size_t at = below(in->size + 1), left = in->size - at, len = 1 + below(below(8) ? 4 : 64);
	size_t word = below(sizeof(words) / sizeof(*words));
	uint8_t taken[64];

	len = len < left ? len : left;
	switch (below(6)) {
	case 0:
		if (left)
			in->data[at] ^= (uint8_t)(1u << below(8));
		break;
	case 1:
		replace(in, at, 0, words[word].bytes, words[word].len);
		break;
	case 2:
		replace(in, at, words[word].len < left ? words[word].len : left, words[word].bytes, words[word].len);
		break;
	case 3:
		replace(in, at, len, taken, 0);
		break;
	case 4:
		memcpy(taken, in->data + at, len);
		replace(in, below(in->size + 1), 0, taken, len);
		break;
	default: {
		/* The rest from another file. */
		const struct input *other = corpus[below(corpus_count)];
		size_t from = below(other->size + 1);

		replace(in, at, left, other->data + from, other->size - from);
	}
	}
}

static void start_from(const struct input *in)
{
	memcpy(current->data, in->data, in->size);
	current->size = in->size;
}

static void run_corpus(void)
{
	for (size_t i = 0; i < corpus_count; i++) {
		start_from(corpus[i]);
		alarm(INPUT_SECONDS);
		run(current);
	}
}

static void run_mutations(void)
{
	for (size_t i = 0; i < MUTATIONS; i++) {
		start_from(corpus[below(corpus_count)]);
		for (size_t changes = 1 + below(CHANGES_MAX); changes; changes--)
			change(current);
		alarm(INPUT_SECONDS);
		run(current);
	}
}

/* One TAP line: whether the child that ran the inputs came to the end. */
static int result(int number, const char *name, void (*inputs)(void), const char *what, size_t count)
{
	char path[4096];
	int status;

	fflush(stdout);
	pid_t pid = fork();

	assert(pid >= 0);
	if (pid == 0) {
		inputs();
		/* Not _exit(): the leak checker runs here. */
		exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		assert(errno == EINTR);
	if (status == 0) {
		printf("ok %d - %zu %s\n", number, count, what);
		return 0;
	}
	printf("not ok %d - %zu %s\n# %s %d; the last input is in %s.failed\n", number, count, what,
	       WIFSIGNALED(status) ? "signal" : "exit status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
	       name);
	snprintf(path, sizeof(path), "%s.failed", name);
	FILE *f = fopen(path, "wb");

	if (f) {
		fwrite(current->data, 1, current->size, f);
		fclose(f);
	}
	return 1;
}

static int run_files(char **paths)
{
	for (; *paths; paths++) {
		struct input *in = read_file(*paths);

		if (!in) {
			perror(*paths);
			return 1;
		}
		run(in);
		free(in);
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *base = strrchr(argv[0], '/'), *name = base ? base + 1 : argv[0];
	int failed;

	if (argc > 1)
		return run_files(argv + 1);
	if (strncmp(name, "fuzz_", 5) == 0)
		name += 5;
	current = mmap(NULL, sizeof(*current), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert(current != MAP_FAILED);
	read_corpus(name);
	if (!corpus_count) {
		printf("Bail out! no corpus %s below SRCDIR\n", name);
		return 1;
	}
	puts("1..2");
	failed = result(1, name, run_corpus, "files of the corpus", corpus_count);
	failed += result(2, name, run_mutations, "mutations of them", MUTATIONS);
	for (size_t i = 0; i < corpus_count; i++)
		free(corpus[i]);
	return failed != 0;
}
