"""Gathers the results and prints the sum: `1234 words in 56 files`."""

import os
import pickle

RESULTS = int(os.environ["FATED_QUEUE_RESULTS_GET"])
RESULTS_MAX = int(os.environ["FATED_QUEUE_RESULTS_MAX"])


def main():
    words_of = {}
    while message := os.read(RESULTS, RESULTS_MAX):
        path, words = pickle.loads(message)
        if path in words_of:
            raise RuntimeError(f"{path} came twice")
        words_of[path] = words
    print(f"{sum(words_of.values())} words in {len(words_of)} files", flush=True)


if __name__ == "__main__":
    main()
