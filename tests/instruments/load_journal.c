#include "config.h"

#include "tests/instruments/load_journal.h"

#include <assert.h>
#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/mem.h"

static const char *const outcome_names[LOAD_OUTCOMES] = {
	[LOAD_TAKEN] = "taken", [LOAD_DEFERRED] = "deferred", [LOAD_REFUSED] = "refused", [LOAD_LOST] = "lost",
	[LOAD_DOUBT] = "doubt", [LOAD_GIVEN_UP] = "given-up",
};

static FILE *file;
static uint64_t counts[LOAD_OUTCOMES];
static int64_t *total_us, *dot_us;
static size_t capacity;

void load_journal_open(const char *path, size_t messages)
{
	if (path && !(file = fopen(path, "w")))
		err(1, "%s", path);
	capacity = messages;
	total_us = mem_array(messages, sizeof(*total_us));
	dot_us = mem_array(messages, sizeof(*dot_us));
}

void load_journal_add(const struct load_attempt *a)
{
	size_t taken = counts[LOAD_TAKEN];

	if (a->outcome == LOAD_TAKEN) {
		assert(taken < capacity);
		total_us[taken] = a->total_us;
		dot_us[taken] = a->dot_us;
	}
	counts[a->outcome]++;
	if (file)
		fprintf(file, "%" PRIu64 "\t%u\t%s\t%s\t%s\t%s\n", a->number, a->attempt, outcome_names[a->outcome], a->stage,
			a->rcpts, a->reply);
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static void print_latencies(const char *name, int64_t *us, size_t count)
{
	static const unsigned percentiles[] = { 50, 90, 99, 100 };
	size_t i;

	qsort(us, count, sizeof(*us), compare);
	for (i = 0; i < sizeof(percentiles) / sizeof(percentiles[0]) && count > 0; i++)
		printf(" %s-p%u-ms=%.2f", name, percentiles[i], (double)us[(count - 1) * percentiles[i] / 100] / 1000);
}

void load_journal_finish(double seconds)
{
	unsigned i;

	for (i = 0; i < LOAD_OUTCOMES; i++)
		printf("%s=%" PRIu64 " ", outcome_names[i], counts[i]);
	printf("seconds=%.3f rate=%.1f", seconds, seconds > 0 ? (double)counts[LOAD_TAKEN] / seconds : 0);
	print_latencies("total", total_us, counts[LOAD_TAKEN]);
	print_latencies("dot", dot_us, counts[LOAD_TAKEN]);
	printf("\n");
	if (file && fclose(file) != 0)
		err(1, "journal");
	free(total_us);
	free(dot_us);
}
