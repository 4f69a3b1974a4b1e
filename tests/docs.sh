#!/bin/sh
# What is documented is what is there: milterd.conf(5) has every option with its default and no other, its examples and
# the sample configuration are valid without a warning, and the pages are clean mdoc. TAP on standard output.
set -u
cd "${SRCDIR:-$(dirname "$0")/..}" || exit 99
confcheck=${BUILDDIR:-.}/tests/instruments/confcheck
milterctl=${BUILDDIR:-.}/milterctl
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
number=0

result() {	# STATUS NAME, detail on standard input
	number=$((number + 1))
	if [ "$1" = 0 ]; then echo "ok $number - $2"; else echo "not ok $number - $2"; fi
	sed 's/^/# /'
}

echo 1..5

# "SECTION OPTION DEFAULT" from the program and from lines as ".It Ic OPTION No = Ar word Pq default Li DEFAULT".
"$confcheck" | sed 's/ *$//' | sort >"$work/options"
awk '$1 == ".Sh" { section = "" }
	$1 == ".Ss" && $2 == "Section" { section = $3 }
	section && $1 == ".It" && $2 == "Ic" {
		line = section " " $3
		if (sub(/.* Pq default Li /, "")) line = line " " $0
		print line
	}' man/milterd.conf.5 | sort >"$work/documented"
[ -s "$work/options" ] && diff "$work/options" "$work/documented" >"$work/out" 2>&1
result $? "milterd.conf(5) names every option with its default" <"$work/out"

awk -v folder="$work" '/^\.Bd -literal/ { file = folder "/example-" ++count ".conf"; next }
	/^\.Ed/ { file = "" }
	file { print >file }' man/milterd.conf.5
status=0
for file in "$work"/example-*.conf; do
	"$confcheck" "$file" || status=1
done >"$work/out" 2>&1
result $status "the examples of milterd.conf(5) are valid" <"$work/out"

# As it is, and with its settings that are commented out: "#key = value" and "#[section]", without a blank.
sed 's/^#\([a-z[]\)/\1/; /^milters = none$/d; s/^include = .*//' etc/milterd.conf >"$work/all.conf"
"$confcheck" etc/milterd.conf "$work/all.conf" >"$work/out" 2>&1
result $? "etc/milterd.conf is valid, with what is commented out too" <"$work/out"

"$milterctl" -h | sed -n '1,/^Commands:/d; s/^  \([a-z]*\) .*/\1/p' | sort >"$work/commands"
awk '$1 == ".Sh" { inside = $2 == "COMMANDS" }
	inside && $1 == ".It" && $2 == "Cm" { print $3 }' man/milterctl.8 | sort >"$work/documented"
[ -s "$work/commands" ] && diff "$work/commands" "$work/documented" >"$work/out" 2>&1
result $? "milterctl(8) has every command" <"$work/out"

if command -v mandoc >/dev/null; then
	mandoc -Tlint -Wwarning man/*.[1-8] >"$work/out" 2>&1
	result $? "the manual pages are clean mdoc" <"$work/out"
else
	result 0 "the manual pages are clean mdoc # SKIP no mandoc" </dev/null
fi
