#!/bin/bash
# test_run_tests.sh: scripts/run-tests counts every job once, whatever becomes of it.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# expect STATUS LAST_LINE: of a list on the standard input
expect() {
    local out rc=0
    out=$(scripts/run-tests -j 2 2>/dev/null) || rc=$?
    [ "$rc" = "$1" ] && [ "$(tail -n 1 <<<"$out")" = "$2" ] && return
    printf 'wanted status %s and "%s"; got %s and:\n%s\n' "$1" "$2" "$rc" "$out"
    exit 1
}

printf 'a\t5\ttrue\n!b\t5\ttrue\nc\t5\ttrue\nd\t5\techo skip: x; exit 77\n' | expect 0 '3 passed, 0 failed, 1 skipped' || exit 1
printf '!a\t5\ttrue\nb\t5\tfalse\nc\t5\ttrue\nd\t5\ttrue\n' | expect 1 '3 passed, 1 failed, 0 skipped' || exit 1
# Those that run alone come when all others have ended, wherever they stand, and not two at a time.
alone="[ -e $work/ended ] && mkdir $work/one && sleep 0.1 && rmdir $work/one"
printf '!a\t5\t%s\nb\t5\tsleep 0.2; touch %s/ended\n!c\t5\t%s\n' "$alone" "$work" "$alone" |
    expect 0 '3 passed, 0 failed, 0 skipped' || exit 1
printf 'a\t1\tsleep 5\nb\t5\ttrue\n' | expect 1 '1 passed, 1 failed, 0 skipped' || exit 1
printf 'a\t5\techo "[  PASSED  ] 4 test(s)"; exit 77\n' | expect 1 '4 passed, 1 failed, 0 skipped' || exit 1
printf 'a\t5\techo "5 passed, 2 failed, 1 skipped"; exit 1\n' | expect 1 '5 passed, 2 failed, 1 skipped' || exit 1
# Its shell is killed, as by a system without memory.
# shellcheck disable=SC2016
printf 'a\t5\ttrue\nb\t5\tread -r a b c parent rest </proc/$PPID/stat; kill -9 $parent\n' | expect 1 '1 passed, 1 failed, 0 skipped' || exit 1
expect 1 '0 passed, 0 failed, 0 skipped' </dev/null
