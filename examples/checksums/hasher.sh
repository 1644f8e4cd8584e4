# Takes paths from `items` and puts a line `digest  path` for each on `results`, until `items` is closed and empty.
# sha256sum escapes a newline or a backslash in a name, so that a file is always one line. A file that vanished after it was
# found is a failure: a list with silent holes would be worth nothing.
set -euo pipefail
fated queue get -0 items | xargs -0 -r -n 256 sha256sum -- | fated queue put results
