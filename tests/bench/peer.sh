#!/bin/bash
# Our speed over llama.cpp's, same file, same machine, taking turns.
#
#   MODEL=file.gguf PEER_RUN="chroot DIR" PEER_MODEL=/path/there tests/bench/peer.sh
#
#   MODEL       the file for build/gemma            PEER_MODEL  its path for the peer (default MODEL)
#   PEER_RUN    put before llama-bench ("": here)   STATE       command that prints the machine's state
#   P, N, D     prompt sizes, tokens generated, depths   (P="128 512" N="32" D="0"; "" leaves one out)
#   THREADS     2                                   ROUNDS      5    REPS   3 in each turn
#   LABEL       name of the model in the table      OUT         tests/bench/<machine>.csv
#
# Each round runs ours, then the peer's, for one test after the other. The ratio of a round is the
# quotient of the two medians; what counts is the median over the rounds. While a turn runs, the
# processor time that others take, the host of a virtual machine too, is measured: rounds in which it
# was more than NOISE (0.05) of a core are marked and left out of the median (the peer's threads wait by
# spinning, so that one busy process halves its speed). OPENBLAS_CORETYPE and the like must not be set.
#
# A row of the CSV: date, commit, label, test, threads, ours, peer's, ratio, rounds that counted,
# state before and after.
set -euo pipefail
export LC_ALL=C # numbers with a point
cd "$(dirname "$0")/../.."

: "${MODEL:?MODEL=file.gguf is missing}"
PEER_MODEL=${PEER_MODEL:-$MODEL}
PEER_BENCH=${PEER_BENCH:-llama-bench}
P=${P-128 512} N=${N-32} D=${D-0}
THREADS=${THREADS:-2} ROUNDS=${ROUNDS:-5} REPS=${REPS:-3} NOISE=${NOISE:-0.05}
LABEL=${LABEL:-$(basename "$MODEL" .gguf)}
OURS=${OURS:-build/gemma}
machine=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1 | tr -cs 'A-Za-z0-9\n' '-' | sed 's/-$//')
OUT=${OUT:-tests/bench/${machine:-machine}.csv}
read -ra peer_run <<<"${PEER_RUN:-}"

busy=$(env | grep -E '^(OPENBLAS|OMP|GGML|GOTO)_' || true)
[ -z "$busy" ] || echo "peer.sh: these change what is measured: $busy" >&2

# Busy ticks of the whole machine, a hundred a second: user, nice, system, irq, softirq, stolen.
ticks() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 + $9; exit }' /proc/stat; }
# Ticks of the children that this shell has waited for.
own() { awk '{ print $16 + $17 }' "/proc/$$/stat"; }
median() { sort -g | awk '{ v[NR] = $1 } END { if (NR) print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
# field NAME: the number behind "NAME": in the JSON lines on stdin
field() { sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p"; }

# turn FILE COMMAND...: runs it, leaves its output in FILE, sets `others` (share of a core)
turn() {
    local file=$1 t0 o0 w0 t1 o1 w1
    shift
    t0=$(ticks) o0=$(own) w0=$(date +%s%N)
    "$@" >"$file" 2>"$file.err" || { tail -n 5 "$file.err" >&2; exit 1; }
    t1=$(ticks) o1=$(own) w1=$(date +%s%N)
    others=$(awk -v a=$((t1 - t0)) -v b=$((o1 - o0)) -v w=$((w1 - w0)) \
        'BEGIN { x = (a - b) / 100 / (w / 1e9); print (x > 0 ? x : 0) }')
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
others=0

# measure TEST OUR-OPTIONS / PEER-OPTIONS
measure() {
    local test=$1 round ours peer ratio noisy before="" after="" counted=0 line
    shift
    local mine=() theirs=()
    while [ "$1" != / ]; do mine+=("$1"); shift; done
    shift
    theirs=("$@")
    : >"$work/ours"; : >"$work/peer"; : >"$work/ratio"
    for round in $(seq "$ROUNDS"); do
        [ -z "${STATE:-}" ] || before=$($STATE | tr '\n,' '  ')
        turn "$work/a" "$OURS" bench -m "$MODEL" -t "$THREADS" -r "$REPS" "${mine[@]}" --json
        noisy=$others
        turn "$work/b" ${peer_run[@]+"${peer_run[@]}"} "$PEER_BENCH" -m "$PEER_MODEL" -t "$THREADS" \
            -r "$REPS" -fa 1 "${theirs[@]}" -o jsonl
        noisy=$(awk -v a="$noisy" -v b="$others" 'BEGIN { print (a > b ? a : b) }')
        [ -z "${STATE:-}" ] || after=$($STATE | tr '\n,' '  ')
        ours=$(field tok_s <"$work/a" | head -n 1)
        peer=$(sed -n 's/.*"samples_ts": *\[\([^]]*\)\].*/\1/p' "$work/b" | tr ', ' '\n\n' | grep . | median)
        ratio=$(awk -v a="$ours" -v b="$peer" 'BEGIN { printf "%.3f", a / b }')
        line=$(printf '%-10s round %d  ours %9.2f  peer %9.2f  ratio %s' "$test" "$round" "$ours" "$peer" "$ratio")
        if awk -v x="$noisy" -v most="$NOISE" 'BEGIN { exit !(x > most) }'; then
            echo "$line  NOISY: others took $noisy of a core"
        else
            echo "$line"
            counted=$((counted + 1))
            echo "$ours" >>"$work/ours"; echo "$peer" >>"$work/peer"; echo "$ratio" >>"$work/ratio"
        fi
    done
    if [ $counted = 0 ]; then
        echo "$test: no round without noise"
        return
    fi
    ours=$(median <"$work/ours") peer=$(median <"$work/peer") ratio=$(median <"$work/ratio")
    printf '%-10s median    ours %9.2f  peer %9.2f  ratio %s  (%d of %d rounds)\n' \
        "$test" "$ours" "$peer" "$ratio" "$counted" "$ROUNDS"
    [ -e "$OUT" ] || echo "date,commit,model,test,threads,ours_tok_s,peer_tok_s,ratio,rounds,before,after" >"$OUT"
    echo "$(date -u +%F),$(git rev-parse --short HEAD 2>/dev/null || echo -),$LABEL,$test,$THREADS,$ours,$peer,$ratio,$counted,${before:-},${after:-}" >>"$OUT"
}

for depth in $D; do
    at=$([ "$depth" = 0 ] || echo "@$depth")
    for size in $P; do
        measure "pp$size$at" -p "$size" -n 0 -d "$depth" / -p "$size" -n 0 -d "$depth"
    done
    for count in $N; do
        measure "tg$count$at" -p 0 -n "$count" -d "$depth" / -p 0 -n "$count" -d "$depth"
    done
done
echo "rows added to $OUT"
