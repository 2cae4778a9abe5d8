#!/bin/sh
# The Debian packages that ScaiDrive needs, listed once.
#   tools/deps.sh build    to build and run        tools/deps.sh test    to run ./test as well
# Installs what is missing with apt, as root or by sudo, and says what. Without either it prints the one line to type.
# When everything is there it touches neither apt nor the network.
set -eu

build="gcc libc6-dev meson ninja-build pkgconf python3 python3-yaml
libmicrohttpd-dev libyajl-dev libssl-dev libsqlite3-dev libpq-dev libcurl4-openssl-dev librhonabwy-dev libjansson-dev
libzstd-dev libxxhash-dev libutf8proc-dev zlib1g-dev libargon2-dev libwslay-dev libinih-dev"
test="libcmocka-dev curl python3-pytest python3-httpx python3-websockets clang postgresql-15 postgresql-client-15 util-linux procps"

# The documented TypeScript samples run where the documents are.
if [ -d "${SCAIDRIVE_SEEDS:-../shared/seeds}" ] && ! command -v npm >/dev/null 2>&1; then
	test="$test nodejs npm"
fi

case ${1:-} in
build) wanted=$build ;;
test) wanted="$build $test" ;;
list) echo $build $test; exit 0 ;;
*) echo "usage: $0 build|test|list" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
	echo "deps: this is not Debian; the packages would be:" $wanted >&2
	exit 0
fi

missing=
for p in $wanted; do
	state=$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

echo "deps: these packages are missing:$missing" >&2
if [ "$(id -u)" = 0 ]; then
	as_root() { "$@"; }
elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
	as_root() { sudo "$@"; }
else
	echo "deps: neither root nor sudo here; type as root:" >&2
	echo "apt-get install -y --no-install-recommends$missing" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# PostgreSQL's package would start a server of its own; tests bring up a throw-away one instead.
if [ ! -e /etc/postgresql-common/createcluster.conf ] && case $missing in *postgresql-15*) true ;; *) false ;; esac; then
	as_root mkdir -p /etc/postgresql-common
	echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
install() { as_root apt-get -q install -y --no-install-recommends $missing >&2; }
install || { as_root apt-get -q update >&2 && install; }
