# Takes all lines from `results` and writes them sorted to CHECKSUMS_OUT, which appears only when it is complete.
set -euo pipefail
export LC_ALL=C
if [ -z "${CHECKSUMS_OUT:-}" ]; then
    fated queue get results | sort
else
    fated queue get results | sort -o "$CHECKSUMS_OUT.part"
    mv "$CHECKSUMS_OUT.part" "$CHECKSUMS_OUT"
fi
