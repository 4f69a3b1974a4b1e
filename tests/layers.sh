#!/bin/sh
# A folder is a privilege boundary: master, session and worker never include each other, common includes none of
# them, no module is part of an include cycle, and every header compiles alone. TAP on standard output.
set -u
cd "${SRCDIR:-$(dirname "$0")/..}" || exit 99
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
: >"$work/config.h"
number=0

result() {	# STATUS NAME, detail on standard input
	number=$((number + 1))
	if [ "$1" = 0 ]; then echo "ok $number - $2"; else echo "not ok $number - $2"; fi
	sed 's/^/# /'
}

# "FILE INCLUDED" for every include of ours.
grep -Hn '^#include "' common/*.[ch] master/*.[ch] session/*.[ch] worker/*.[ch] |
	sed -n 's/^\([^:]*\):[0-9]*:#include "\(.*\)"$/\1 \2/p' >"$work/includes"

echo 1..4
awk '{
	split($1, from, "/"); split($2, to, "/")
	if ($2 != "config.h" && from[1] != to[1] && to[1] != "common") { print $1 " includes " $2; bad = 1 }
} END { exit bad }' "$work/includes" >"$work/out"
status=$?
result $status "no folder includes another one than common" <"$work/out"

# A module is a .c and its .h: an edge for each include of another module. tsort names the members of a cycle.
sed 's/\.[ch]\( \|$\)/\1/g' "$work/includes" | awk '$1 != $2 && $2 != "config" && $2 !~ /\.def$/' | tsort >/dev/null 2>"$work/out"
[ ! -s "$work/out" ]
result $? "no module is part of an include cycle" <"$work/out"

status=0
for header in common/*.h master/*.h session/*.h worker/*.h; do
	printf '#include "%s"\n' "$header" >"$work/alone.c"
	${CC:-cc} -std=gnu11 -D_GNU_SOURCE -I"$work" -I. -fsyntax-only "$work/alone.c" || status=1
done >"$work/out" 2>&1
result $status "every header compiles alone" <"$work/out"

status=0
for file in common/*.c master/*.c session/*.c worker/*.c; do
	first=$(sed -n 's/^#include //p' "$file" | head -n 1)
	[ "$first" = '"config.h"' ] || { echo "$file: the first include is not config.h"; status=1; }
	[ ! -f "${file%.c}.h" ] || [ "$(sed -n 's/^#include "\(.*\)"$/\1/p' "$file" | sed -n 2p)" = "${file%.c}.h" ] ||
		{ echo "$file: its own header is not the first after config.h"; status=1; }
done >"$work/out" 2>&1
result $status "every file includes its own header first" <"$work/out"
