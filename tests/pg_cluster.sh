#!/bin/sh
# A throw-away PostgreSQL 15 cluster for tests, on a unix socket and no TCP port, with fsync on.
#   tests/pg_cluster.sh start DIR    makes and starts it in DIR (created), prints its URL
#   tests/pg_cluster.sh stop DIR     stops it and removes DIR
# PostgreSQL refuses to run as root; then it runs as the user postgres, or nobody.
set -eu
bin=${PG_BIN:-/usr/lib/postgresql/15/bin}
usage() { echo "usage: $0 start|stop DIR" >&2; exit 2; }
[ $# = 2 ] || usage
dir=$2

if [ "$(id -u)" = 0 ]; then
	user=postgres
	id "$user" >/dev/null 2>&1 || user=nobody
	as() { setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups env HOME="$dir" "$@"; }
else
	user=$(id -un)
	as() { "$@"; }
fi

case $1 in
start)
	mkdir "$dir"
	[ "$(id -u)" != 0 ] || chown "$user" "$dir"
	chmod 711 "$dir" # the socket is reached by those who are told its name
	cd "$dir"
	as "$bin/initdb" -D "$dir/data" -U scaidrive -A trust -E UTF8 --locale=C.UTF-8 >"$dir.initdb.log" 2>&1 ||
		{ cat "$dir.initdb.log" >&2; exit 1; }
	rm -f "$dir.initdb.log"
	cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$dir'
unix_socket_permissions = 0777
fsync = on
synchronous_commit = on
shared_buffers = 32MB
max_connections = 100
CONF
	as "$bin/pg_ctl" -D "$dir/data" -l "$dir/data/log" -w -t 60 start >/dev/null || { cat "$dir/data/log" >&2; exit 1; }
	as "$bin/createdb" -h "$dir" -U scaidrive scaidrive
	echo "postgresql:///scaidrive?host=$dir&user=scaidrive"
	;;
stop)
	[ -d "$dir/data" ] || { echo "$0: no cluster in $dir" >&2; exit 1; }
	cd /
	as "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null || true
	rm -rf "$dir"
	;;
*) usage ;;
esac
