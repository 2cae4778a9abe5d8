#!/bin/sh
# ./run demo ends up here: demo.sh BUILD_DIR
exec python3 "$(dirname "$0")/demo.py" "${1:-build}"
