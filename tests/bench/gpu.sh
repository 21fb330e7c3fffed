#!/bin/bash
# Everything there is to know about the Vulkan backend on this machine's GPU, in one command.
#
#   tests/bench/gpu.sh                              ops, golden sets, splits and faults on the best device
#   MODEL="a-Q4_0.gguf b-Q4_K_M.gguf" tests/bench/gpu.sh     and their speed against the copy bandwidth
#   MODEL=... PEER_BENCH=llama-bench tests/bench/gpu.sh      beside llama.cpp's Vulkan backend, by turns
#
#   DEVICE      vulkan    vulkan:1 for the second one
#   RUN         put before our programs and the peer's alike, so that both see one driver: "chroot DIR
#               env VK_ICD_FILENAMES=..." or nothing; OURS is then our program's path in there, MODEL
#               the files' path in there. The peer passes over a software driver unless
#               GGML_VK_VISIBLE_DEVICES=0 is set too.
#   CHECKS      1         0: speed only                    FAULTS  200  calls that fail, evenly spread
#   P, N        512, 64   tokens read and written          ROUNDS  3    REPS  3  runs in each turn
#   PEER_ARGS             more for llama-bench ("--no-warmup")
#   BANDWIDTH             GB/s of a copy on the device; measured when not given
#   OUT                   tests/bench/<machine>-vulkan.csv
#
# A row of the CSV: date, commit, device, model, test, ours, peer's, ratio of the medians, rounds,
# part of the copy bandwidth. Ends with 1 when a check fails. Nothing is installed; build first (make).
set -uo pipefail
export LC_ALL=C # numbers with a point
cd "$(dirname "$0")/../.." || exit 1

DEVICE=${DEVICE:-vulkan} P=${P:-512} N=${N:-64} ROUNDS=${ROUNDS:-3} REPS=${REPS:-3} BUILD=${BUILD:-build}
OURS=${OURS:-$BUILD/gemma} PEER_BENCH=${PEER_BENCH:-}
read -ra run <<<"${RUN:-}"
read -ra peer_args <<<"${PEER_ARGS:-}"
machine=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1 | tr -cs 'A-Za-z0-9\n' '-' | sed 's/-$//')
OUT=${OUT:-tests/bench/${machine:-machine}-vulkan.csv}
failed=0 work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
commit=$(git log -1 --format=%h 2>/dev/null || echo unknown)

# ---- checks ----

# check NAME COMMAND...: 77 is a skip
check() {
    local name=$1 rc
    shift
    "$@" >"$work/log" 2>&1
    rc=$?
    case $rc in
    0) echo "ok    $name" ;;
    77) echo "skip  $name: $(grep -m 1 skip "$work/log")" ;;
    *)
        echo "FAIL  $name"
        tail -n 20 "$work/log"
        failed=1
        ;;
    esac
}

echo "commit $commit"
if command -v vulkaninfo >/dev/null; then
    vulkaninfo --summary 2>/dev/null | sed -n 's/^[[:space:]]*\(deviceName\|driverInfo\|deviceType\).*= /\1 /p'
fi
if [ "${CHECKS:-1}" = 1 ]; then
    make -s all "$BUILD/bench/bench_copy" || exit 1
    make -s T=ops ctest-build && make -s T=golden ctest-build && make -s T=vulkan ctest-build && make -s T=top ctest-build || exit 1
    check "ops" env OPS_DEVICE="$DEVICE" "$BUILD/tests/ops/test_ops"
    check "ops under the validation layer" env GEMMA_VULKAN_CHECK=1 OPS_DEVICE="$DEVICE" "$BUILD/tests/ops/test_ops"
    # Every way to multiply that the device has, not only the one it would choose.
    for path in rows tile dot matrix; do
        check "ops, products by $path" env OPS_ONLY=matmul GEMMA_VULKAN_MATMUL=$path OPS_DEVICE="$DEVICE" "$BUILD/tests/ops/test_ops"
    done
    check "golden sets" env GEMMA_BACKEND="$DEVICE" "$BUILD/tests/c/model/test_golden"
    check "golden sets under the validation layer" \
        env GEMMA_VULKAN_CHECK=1 GOLDEN_QUICK=1 GEMMA_BACKEND="$DEVICE" "$BUILD/tests/c/model/test_golden"
    check "tokens from the best logits" env GEMMA_VULKAN_CHECK=1 "$BUILD/tests/c/engine/test_top"
    check "splits, small memory, faults" env VULKAN_FAULTS="${FAULTS:-200}" "$BUILD/tests/c/engine/test_vulkan"
fi
[ -n "${MODEL:-}" ] || exit $failed

# ---- speed ----

# number NAME: the number behind "NAME": in JSON on stdin
number() { sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p" | head -n 1; }
median() { sort -g | awk '{ v[NR] = $1 } END { if (NR) print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# turn FILE COMMAND...: its output to FILE
turn() {
    local file=$1
    shift
    ${run[@]+"${run[@]}"} "$@" >"$file" 2>"$file.err" || {
        tail -n 5 "$file.err" >&2
        exit 1
    }
}

bandwidth=${BANDWIDTH:-}
if [ -z "$bandwidth" ] && [ -z "${RUN:-}" ] && [ -x "$BUILD/bench/bench_copy" ]; then
    bandwidth=$("$BUILD/bench/bench_copy" "$DEVICE")
fi
[ -z "$bandwidth" ] || echo "copy $bandwidth GB/s"

# measure MODEL TEST TOKENS OUR-OPTIONS / PEER-OPTIONS
measure() {
    local model=$1 test=$2 i mine=() theirs=() ours peer="" ratio="" part="" name size
    shift 2
    while [ "$1" != / ]; do mine+=("$1"); shift; done
    shift
    theirs=("$@")
    name=$(basename "$model" .gguf)
    rm -f "$work"/ours* "$work"/peer*
    for ((i = 1; i <= ROUNDS; i++)); do
        turn "$work/a" "$OURS" bench -m "$model" --device "$DEVICE" -r "$REPS" "${mine[@]}" --json
        number tok_s <"$work/a" >>"$work/ours"
        device=$(sed -n 's/.*"device": "\([^"]*\)".*/\1/p' "$work/a" | head -n 1)
        [ -n "$PEER_BENCH" ] || continue
        turn "$work/b" "$PEER_BENCH" -m "$model" -ngl 99 -fa 1 -r "$REPS" ${peer_args[@]+"${peer_args[@]}"} \
            "${theirs[@]}" -o jsonl
        sed -n 's/.*"samples_ts": *\[\([^]]*\)\].*/\1/p' "$work/b" | tr ', ' '\n\n' | grep . | median >>"$work/peer"
        echo "$name $test round $i: ours $(tail -n 1 "$work/ours"), peer $(tail -n 1 "$work/peer") tok/s"
    done
    ours=$(median <"$work/ours")
    if [ -n "$PEER_BENCH" ]; then
        peer=$(median <"$work/peer")
        ratio=$(awk -v a="$ours" -v b="$peer" 'BEGIN { printf "%.3f", a / b }')
    fi
    size=$(stat -Lc %s "$model" 2>/dev/null || ${run[@]+"${run[@]}"} stat -Lc %s "$model")
    if [ -n "$bandwidth" ] && [ "${test:0:2}" = tg ]; then
        part=$(awk -v n="$ours" -v size="$size" -v bw="$bandwidth" 'BEGIN { printf "%.3f", n * size / 1e9 / bw }')
    fi
    echo "$name $test on $device: $ours tok/s${ratio:+, $ratio times the peer}${part:+, $part of the copy bandwidth}"
    [ -e "$OUT" ] || echo "date,commit,device,model,test,ours_tok_s,peer_tok_s,ratio,rounds,part_of_bandwidth" >"$OUT"
    echo "$(date -u +%F),$commit,\"$device\",$name,$test,$ours,$peer,$ratio,$ROUNDS,$part" >>"$OUT"
}

for model in $MODEL; do
    [ "$P" = 0 ] || measure "$model" "pp$P" -p "$P" -n 0 / -p "$P" -n 0
    [ "$N" = 0 ] || measure "$model" "tg$N" -p 0 -n "$N" / -p 0 -n "$N"
done
echo "rows added to $OUT"
exit $failed
