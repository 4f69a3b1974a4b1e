#!/bin/sh
# The main job on real mail with real milters: installs what it needs on Debian 12, builds milterd in a temporary folder,
# starts it with OpenDKIM, rspamd and clamav-milter, sends three mails and shows what became of them.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tests/packages.sh
. "$top/tests/packages.sh"
work=$(mktemp -d /tmp/milterd-demo.XXXXXX) || exit 1
chmod 755 "$work"
export APT_LOG="$work/apt.log"

build() {
	mkdir "$work/build" && cd "$work/build" && "$top/autogen.sh" && "$top/configure" && make -j"$(nproc)"
}

# shellcheck disable=SC2086 # lists of packages
install_packages $BUILD_PACKAGES $DEMO_PACKAGES || exit 1
echo "Building milterd"
if ! build >"$work/build.log" 2>&1; then
	tail -n 40 "$work/build.log"
	echo "The build failed, see $work/build.log"
	exit 1
fi
echo "Starting the milters (rspamd takes up to half a minute at its first start)"
PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$top/tests/e2e/demo.py" "$work/build"
status=$?
rm -rf "$work"
exit $status
