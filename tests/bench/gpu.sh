#!/bin/bash
# Everything there is to know about the Vulkan backend on this machine's GPU, in one command.
#
#   tests/bench/gpu.sh                          ops and golden sets on the best device
#   MODEL=12b-Q4_0.gguf tests/bench/gpu.sh      and speed of a model
#   MODEL=... PEER_BENCH=/path/llama-bench ...  beside llama.cpp's Vulkan backend, taking turns
#
#   DEVICE     vulkan   vulkan:1 for the second one
#   BANDWIDTH  GB/s that a copy on the device reaches; then decode is shown as a part of that limit
#   P, N       512, 64  tokens read and written      ROUNDS  3
#
# Ends with 1 when a check fails. Numbers go to stdout, with the commit and the driver, so that they
# can be kept. Nothing is installed; build first (make).
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

DEVICE=${DEVICE:-vulkan} P=${P:-512} N=${N:-64} ROUNDS=${ROUNDS:-3} BUILD=${BUILD:-build}
failed=0

make -s all || exit 1
make -s T=ops ctest-build && make -s T=golden ctest-build && make -s T=vulkan ctest-build || exit 1
echo "commit $(git log -1 --format=%h 2>/dev/null || echo unknown)"
if command -v vulkaninfo >/dev/null; then
    vulkaninfo --summary 2>/dev/null | sed -n 's/^[[:space:]]*\(deviceName\|driverInfo\|deviceType\).*= /\1 /p'
fi

# check NAME COMMAND...: 77 is a skip
check() {
    local name=$1 log rc
    shift
    log=$(mktemp)
    "$@" >"$log" 2>&1
    rc=$?
    case $rc in
    0) echo "ok    $name" ;;
    77) echo "skip  $name: $(grep -m 1 skip "$log")" ;;
    *)
        echo "FAIL  $name"
        tail -n 20 "$log"
        failed=1
        ;;
    esac
    rm -f "$log"
}
check "ops" env OPS_DEVICE="$DEVICE" "$BUILD/tests/ops/test_ops"
check "ops under the validation layer" env GEMMA_VULKAN_CHECK=1 OPS_DEVICE="$DEVICE" "$BUILD/tests/ops/test_ops"
check "golden sets" env GEMMA_BACKEND="$DEVICE" "$BUILD/tests/c/model/test_golden"
check "splits, small memory, faults" env VULKAN_FAULTS=200 "$BUILD/tests/c/engine/test_vulkan"

[ -n "${MODEL:-}" ] || exit $failed

# number NAME: the number behind "NAME": in JSON on stdin
number() { sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p" | head -n 1; }
median() { sort -g | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] }'; }

ours_p=() ours_n=() peer_p=() peer_n=()
for ((i = 0; i < ROUNDS; i++)); do
    out=$("$BUILD/gemma" bench -m "$MODEL" -p "$P" -n "$N" -r 3 --device "$DEVICE" --json) || exit 1
    ours_p+=("$(grep '"test": *"pp' <<<"$out" | number tok_s)")
    ours_n+=("$(grep '"test": *"tg' <<<"$out" | number tok_s)")
    [ -n "${PEER_BENCH:-}" ] || continue
    out=$("$PEER_BENCH" -m "$MODEL" -ngl 99 -p "$P" -n "$N" -r 3 -o jsonl) || exit 1
    peer_p+=("$(grep '"n_gen": 0' <<<"$out" | number avg_ts)")
    peer_n+=("$(grep '"n_prompt": 0' <<<"$out" | number avg_ts)")
done
p=$(printf '%s\n' "${ours_p[@]}" | median) n=$(printf '%s\n' "${ours_n[@]}" | median)
echo "read $P: $p tok/s, write $N: $n tok/s"
if [ -n "${PEER_BENCH:-}" ]; then
    pp=$(printf '%s\n' "${peer_p[@]}" | median) pn=$(printf '%s\n' "${peer_n[@]}" | median)
    awk -v p="$p" -v n="$n" -v pp="$pp" -v pn="$pn" 'BEGIN {
        printf "llama.cpp: read %s, write %s tok/s; ours over theirs: %.2f and %.2f\n", pp, pn, p / pp, n / pn }'
fi
if [ -n "${BANDWIDTH:-}" ]; then
    awk -v n="$n" -v size="$(stat -Lc %s "$MODEL")" -v bw="$BANDWIDTH" \
        'BEGIN { printf "writing reads %.0f GB/s, %.0f %% of the copy bandwidth\n", n * size / 1e9, n * size / 1e7 / bw }'
fi
exit $failed
