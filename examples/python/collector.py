"""Puts a pickled tuple (path, size) for every text file below WORDS_DIR on the queue `items`."""

import os
import pickle
import sys

# fated opened the queue and passes the number of its descriptor. One write is one message, whole or not at all. It waits
# while the queue is full and raises BrokenPipeError once nobody can take from it any more.
ITEMS = int(os.environ["FATED_QUEUE_ITEMS_PUT"])

SUFFIXES = (".txt", ".md", ".rst", ".html", ".toml", ".py")


def main():
    directory = os.environ.get("WORDS_DIR", "../..")
    if not os.path.isdir(directory):
        sys.exit(f"collector: {directory} is no directory")
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(SUFFIXES) and os.path.isfile(path) and not os.path.islink(path):
                os.write(ITEMS, pickle.dumps((path, os.path.getsize(path))))
    # No "poison pill" for each worker: when this process ends, nobody else can put to `items`, and everyone who takes
    # from it sees the end after the last message.


if __name__ == "__main__":
    main()
