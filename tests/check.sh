#!/bin/sh
# Every test, on a fresh Debian 12: install what is needed, build out of tree, run. Ends with one line of totals.
# MILTERD_BUILD names a folder to build in and keep; otherwise a temporary one is used and removed on success.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
if [ -n "${MILTERD_BUILD:-}" ]; then
	work=$MILTERD_BUILD
	mkdir -p "$work" || exit 1
else
	work=$(mktemp -d /tmp/milterd-check.XXXXXX) || exit 1
fi
chmod 755 "$work"
# shellcheck source=tests/packages.sh
. "$top/tests/packages.sh"
export APT_LOG="$work/apt.log"
passed=0 failed=0 skipped=0

# Run a step with its output in a file; a failure counts and shows the end of that file.
step() {	# NAME COMMAND...
	name=$1 log=$work/$(echo "$1" | tr -c 'a-z0-9\n' -).log
	shift
	began=$(date +%s)
	printf '%-50s ' "$name"
	if "$@" >"$log" 2>&1; then
		echo "ok ($(($(date +%s) - began)) s)"
		return 0
	fi
	echo "FAILED ($(($(date +%s) - began)) s), $log ends:"
	tail -n 40 "$log" | sed 's/^/    /'
	failed=$((failed + 1))
	return 1
}

count() {	# LOG FOLDER: add automake's totals and show every line that is no success
	[ -f "$1" ] || return 0
	passed=$((passed + $(sed -n 's/^# PASS: *//p' "$1" | tail -n 1)))
	failed=$((failed + $(sed -n 's/^# \(FAIL\|XPASS\|ERROR\): *//p' "$1" | awk '{ n += $1 } END { print n + 0 }')))
	skipped=$((skipped + $(sed -n 's/^# SKIP: *//p' "$1" | tail -n 1)))
	grep -hE '^(not ok|Bail out|.*# SKIP)|^(FAIL|ERROR|SKIP):' "$1" | sed 's/^/    /'
}

# shellcheck disable=SC2317 # called through step
configured() {	# FOLDER CONFIGURE-ARGUMENTS...: configure and build everything, tests too
	folder=$work/$1
	shift
	mkdir -p "$folder" && cd "$folder" &&
		"$top/configure" "$@" && make -j"$(nproc)" && make -j"$(nproc)" check TESTS=
}

checked() {	# FOLDER NAME MAKE-ARGUMENTS...: make check there and count its tests
	folder=$work/$1 name=$2
	shift 2
	began=$(date +%s)
	printf '%-50s ' "$name"
	(cd "$folder" && timeout -k 10 1500 make -k check "$@") >"$folder/check.log" 2>&1
	echo "done ($(($(date +%s) - began)) s)"
	count "$folder/check.log"
	grep -q '^# TOTAL:' "$folder/check.log" || {
		failed=$((failed + 1))
		tail -n 30 "$folder/check.log" | sed 's/^/    /'
	}
}

# shellcheck disable=SC2317 # called through step
no_reports() {
	for report in "$work"/reports/of.*; do
		[ ! -e "$report" ] || { head -n 60 "$report"; return 1; }
	done
}

echo "Checking in $work"
# shellcheck disable=SC2086 # lists of packages
install_packages $BUILD_PACKAGES $DEMO_PACKAGES $CHECK_PACKAGES || { echo "0 passed, 1 failed"; exit 1; }

step "shell scripts pass shellcheck" shellcheck -x -s sh "$top"/tests/*.sh "$top/autogen.sh"
if step "autogen" "$top/autogen.sh"; then
	step "gcc, no warnings" configured gcc CC=gcc --enable-werror &&
		checked gcc "make check"
	step "clang, no warnings" configured clang CC=clang --enable-werror
	# Reports of every process, daemons and tests alike, go to files: one is a failure, whatever the test says.
	mkdir -p "$work/reports" && chmod 1777 "$work/reports"
	reports=log_path=$work/reports/of
	export ASAN_OPTIONS="detect_leaks=1:$reports" UBSAN_OPTIONS="print_stacktrace=1:$reports"
	export LSAN_OPTIONS="suppressions=$top/tests/lsan.supp:print_suppressions=0:$reports"
	step "gcc with address and undefined sanitizers" configured sanitize CC=gcc --enable-sanitize &&
		checked sanitize "make check, sanitized"
	unset ASAN_OPTIONS UBSAN_OPTIONS LSAN_OPTIONS
	step "no report of a sanitizer" no_reports
	step "make distcheck" make -C "$work/gcc" distcheck TESTS=tests/layers.sh
fi

echo
echo "$skipped skipped"
echo "$passed passed, $failed failed"
if [ "$failed" = 0 ] && [ "$passed" -gt 0 ]; then
	[ -n "${MILTERD_BUILD:-}" ] || rm -rf "$work"
	exit 0
fi
exit 1
