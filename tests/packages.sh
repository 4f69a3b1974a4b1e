# shellcheck shell=sh disable=SC2034 # read by others
# What the demo and the tests need on Debian 12; read by tests/demo.sh and tests/check.sh (. tests/packages.sh).

BUILD_PACKAGES="build-essential autoconf automake pkg-config libuv1-dev libc-ares-dev libinih-dev uthash-dev
	libcap-ng-dev libjansson-dev"
DEMO_PACKAGES="rspamd opendkim opendkim-tools clamav-daemon clamav-milter python3 python3-dkim procps"
CHECK_PACKAGES="libcriterion-dev libmilter-dev clang valgrind mandoc groff-base shellcheck miltertest strace"

# Install what is missing, without starting any of the daemons: the tests start their own.
install_packages() {
	missing=
	for package in "$@"; do
		case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
		*" installed") ;;
		*) missing="$missing $package" ;;
		esac
	done
	[ -n "$missing" ] || return 0
	if [ "$(id -u)" != 0 ]; then
		echo "These packages are needed, and only root can install them:$missing" >&2
		return 1
	fi
	echo "Installing:$missing"
	policy=/usr/sbin/policy-rc.d
	mine=
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && mine=1
	fi
	status=0
	# shellcheck disable=SC2086 # a list of packages
	apt-get -q update >"${APT_LOG:-/dev/null}" 2>&1 &&
		DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends $missing \
			>>"${APT_LOG:-/dev/null}" 2>&1 || status=1
	[ -z "$mine" ] || rm -f $policy
	[ $status = 0 ] || echo "apt-get failed${APT_LOG:+, see $APT_LOG}" >&2
	return $status
}
