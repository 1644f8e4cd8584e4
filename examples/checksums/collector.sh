# Puts the path of every file that this user can read on the queue `items`. NUL ends a path: a name may hold a newline.
# With pipefail a failure of any part is a failure of the whole, and so the end of the tree.
set -euo pipefail
find "${CHECKSUMS_DIR:-../..}" -type d ! '(' -readable -executable ')' -prune -o -type f -readable -print0 |
    fated queue put -0 items
