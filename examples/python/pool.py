"""Counts words in several processes, all of which take from the queue `items` and put to the queue `results`."""

import multiprocessing
import os
import pickle
import sys

ITEMS = int(os.environ["FATED_QUEUE_ITEMS_GET"])
RESULTS = int(os.environ["FATED_QUEUE_RESULTS_PUT"])
# A read takes one whole message, if the buffer has room for the longest.
ITEMS_MAX = int(os.environ["FATED_QUEUE_ITEMS_MAX"])

WORKERS = 3


def work():
    # Each message reaches exactly one of the processes that read. An empty read is the end.
    while message := os.read(ITEMS, ITEMS_MAX):
        path, _size = pickle.loads(message)
        with open(path, "rb") as file:
            words = sum(len(line.split()) for line in file)
        os.write(RESULTS, pickle.dumps((path, words)))


def main():
    # "fork", so that the children have the queues' descriptors as well. (For a program started with `subprocess` name them in
    # `pass_fds`: it closes all others.)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    # A worker's failure is the pool's. What becomes of the workers when this process is killed: fated ends them too.
    if any(worker.exitcode != 0 for worker in workers):
        sys.exit("pool: a worker failed")


if __name__ == "__main__":
    main()
