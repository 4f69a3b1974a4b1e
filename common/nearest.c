#include "config.h"

#include "common/nearest.h"

#include <ctype.h>
#include <string.h>

#define WORD_MAX 64u	/* longer words have no neighbours */

static size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Levenshtein's distance without regard to case, row by row. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t row[WORD_MAX + 1];

	for (size_t j = 0; j <= b_len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			size_t above = row[j];

			row[j] = min(min(above, row[j - 1]) + 1, diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1])));
			diagonal = above;
		}
	}
	return row[b_len];
}

void nearest_offer(struct nearest *n, const char *candidate)
{
	size_t word_len = strlen(n->word), len = strlen(candidate);

	if (word_len > WORD_MAX || len > WORD_MAX)
		return;
	/* A third of the letters may be wrong; of a short word at most one. */
	size_t limit = word_len < 3 ? 1 : word_len / 3 + 1;
	size_t edits = distance(n->word, word_len, candidate, len);

	if (edits <= limit && edits < len && (!n->best || edits < n->distance)) {
		n->best = candidate;
		n->distance = edits;
	}
}
