#!/bin/sh
# Runs the tree on a large real directory, then proves its result: the list equals, line by line, what find and sha256sum
# give directly. Exit status 0 only if it does.
#
#     examples/checksums/run.sh [DIRECTORY]
#
# FATED names the binary (default: the release build of this repository, else the one in PATH). The directory must not
# change meanwhile.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

fail() {
    echo "run.sh: $*" >&2
    exit 1
}

release=$here/../../target/release/fated
if [ -z "${FATED:-}" ]; then
    if [ -x "$release" ]; then FATED=$release; else FATED=$(command -v fated) || fail "no fated here: cargo build --release"; fi
fi
[ -x "$FATED" ] || fail "$FATED is no program"
FATED=$(cd "$(dirname "$FATED")" && pwd)/$(basename "$FATED")
# The scripts of the tree call `fated queue` by its name.
PATH=$(dirname "$FATED"):$PATH
export PATH

dir=${1:-${CHECKSUMS_DIR:-}}
if [ -z "$dir" ]; then
    for dir in /usr/share /usr/lib /usr/include "$here/../.."; do
        [ -d "$dir" ] && [ "$(find "$dir" -type f 2>/dev/null | head -n 1000 | wc -l)" -eq 1000 ] && break
    done
fi
[ -d "$dir" ] || fail "$dir is no directory"
CHECKSUMS_DIR=$(cd "$dir" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
CHECKSUMS_OUT=$work/tree
export CHECKSUMS_DIR CHECKSUMS_OUT

now() { date +%s.%N; }
seconds() { echo "$1 $2" | awk '{ printf "%.2f s", $2 - $1 }'; }

echo "checksums of $CHECKSUMS_DIR"
begin=$(now)
status=0
"$FATED" up "$here/fated.toml" || status=$?
end=$(now)
[ "$status" -eq 0 ] || fail "fated up ended with status $status"
[ -f "$CHECKSUMS_OUT" ] || fail "the tree wrote no list"
echo "fated up:        $(wc -l <"$CHECKSUMS_OUT") lines in $(seconds "$begin" "$end"), status $status"

# The same directly, one step after the other; what this user cannot read is left out on both sides.
begin=$(now)
find "$CHECKSUMS_DIR" -type d ! '(' -readable -executable ')' -prune -o -type f -readable -print0 >"$work/paths"
xargs -0 -r sha256sum -- <"$work/paths" >"$work/lines"
LC_ALL=C sort -o "$work/direct" "$work/lines"
end=$(now)
echo "find, sha256sum: $(wc -l <"$work/direct") lines in $(seconds "$begin" "$end"), one process at a time"

[ -s "$work/direct" ] || fail "there is no file below $CHECKSUMS_DIR: nothing was proved"
files=$(tr -dc '\0' <"$work/paths" | wc -c)
[ "$files" -eq "$(wc -l <"$work/direct")" ] || fail "$files files were found, but not as many lines made"
if ! cmp "$work/tree" "$work/direct"; then
    echo "the first differences (< only directly, > only through the tree):" >&2
    diff "$work/direct" "$work/tree" | head -n 20 >&2 || :
    fail "the lists differ; did $CHECKSUMS_DIR change meanwhile?"
fi
twice=$(LC_ALL=C uniq -d "$work/tree" | wc -l)
[ "$twice" -eq 0 ] || fail "$twice lines are there twice"
echo "equal line by line: $files files, nothing lost, nothing twice"
