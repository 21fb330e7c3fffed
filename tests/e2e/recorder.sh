#!/bin/sh
# Stands in for a recorder: writes a WAV file to the standard output as fast as it would have been
# recorded, then silence, until it is interrupted.
#
#   recorder.sh FILE.wav [N]      ends by itself after N tenths of a second
file=$1
last=${2:--1}
trap 'exit 0' INT TERM
exec 3<"$file"
dd bs=40 count=1 <&3 2>/dev/null
printf '\377\377\377\377' # a stream does not know its length
dd bs=4 count=1 <&3 >/dev/null 2>&1
tenths=$((($(wc -c <"$file") - 44) / 3200))
i=0
while [ "$i" -ne "$last" ]; do
    if [ "$i" -lt "$tenths" ]; then
        dd bs=3200 count=1 <&3 2>/dev/null
    else
        dd if=/dev/zero bs=3200 count=1 2>/dev/null
    fi
    i=$((i + 1))
    sleep 0.1
done
