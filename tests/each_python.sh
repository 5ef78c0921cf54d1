#!/usr/bin/env bash
# Run the README's test command on each Python from 3.11 to 3.14 that is on PATH, and print a table.
#
#   tests/each_python.sh [FOLDER]
#
# FOLDER: where the environments are made, one for each version, and reused; without it a temporary
# folder, which is deleted. The exit status is 1 if one failed, or if no Python was found.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ $# -gt 0 ]]; then
    mkdir -p "$1" || exit 1
    folder=$(cd "$1" && pwd)
else
    folder=$(mktemp -d) || exit 1
    trap 'rm -rf "$folder"' EXIT
fi

test_on() {  # a version
    local environment=$folder/$1
    [[ -x $environment/bin/python ]] || "python$1" -m venv "$environment" || return 1
    "$environment/bin/pip" install --quiet -e '.[test]' || return 1
    "$environment/bin/python" -m pytest
}

table=
status=1
for version in 3.11 3.12 3.13 3.14; do
    # a launcher such as pyenv's may be on PATH for a version that is not installed
    "python$version" -c '' 2> /dev/null || continue
    [[ -n $table ]] || status=0
    if test_on "$version"; then
        result=passed
    else
        result=failed
        status=1
    fi
    table+=$(printf '%-8s %s' "$version" "$result")$'\n'
done
printf '\n%-8s %s\n%s' version result "${table:-no Python from 3.11 to 3.14 is on PATH$'\n'}"
exit $status
