"""One writer or reader of the queue `q`, as a plain program would use it: os.read and os.write on the descriptor.

worker.py put COUNT [SIZE]   puts COUNT messages of SIZE bytes, or of random sizes; COUNT 0: without end
worker.py get [LIMIT]        takes and checks messages up to the end of the queue and writes down what it has got
worker.py hold               announces itself and takes nothing until the end of the FIFO `go`; then as `get`

A message is `ID NUMBER FILLER CHECKSUM`. What a reader has got it writes into the file `got.ID`, one `ID NUMBER` a line.
"""

import os
import random
import sys
import zlib

SCENE = os.environ["TEST_SCENE"]
ID = f"{os.environ['FATED_PROCESS'].split('/')[-1]}.{os.environ['FATED_INSTANCE']}"
MAX = int(os.environ["FATED_QUEUE_Q_MAX"])


def announce(name):
    out = os.open(f"{SCENE}/announce", os.O_WRONLY)
    os.write(out, f"{name} {os.getpid()}\n".encode())
    os.close(out)


def message(number, size):
    head = f"{ID} {number} ".encode()
    body = head + bytes([65 + number % 26]) * max(0, size - len(head) - 9)
    return body + b" %08x" % zlib.crc32(body)


def put(count, size):
    random.seed(ID)
    queue = int(os.environ["FATED_QUEUE_Q_PUT"])
    # Now and then the longest one.
    sizes = [60, 200, 1000, 4000, MAX]
    number = 0
    announce(ID)
    while count == 0 or number < count:
        text = message(number, size or random.choice(sizes[:4] * 10 + sizes[4:]))
        try:
            written = os.write(queue, text)
        except (BrokenPipeError, ConnectionResetError):
            announce(f"{ID}!closed")
            sys.exit(0)
        if written != len(text):
            sys.exit(f"{written} of {len(text)} bytes were written")
        number += 1
    announce(f"{ID}!done")


def get(limit):
    queue = int(os.environ["FATED_QUEUE_Q_GET"])
    # Each line is out before the next message is taken: of a killed reader at most one message is unaccounted for.
    got = os.open(f"{SCENE}/got.{ID}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    announce(ID)
    count = 0
    while limit == 0 or count < limit:
        text = os.read(queue, MAX)
        if not text:
            break
        body, sum = text[:-9], text[-8:]
        if b"%08x" % zlib.crc32(body) != sum:
            announce(f"{ID}!torn")
            sys.exit(f"torn: {text[:100]!r}, {len(text)} bytes")
        os.write(got, b" ".join(body.split(b" ")[:2]) + b"\n")
        count += 1
    announce(f"{ID}!end")


def main():
    verb, words = sys.argv[1], [int(word) for word in sys.argv[2:]]
    if verb == "hold":
        # Open before it is announced: once the test has closed its end nobody else would open it.
        with open(f"{SCENE}/go") as go:
            announce(f"{ID}!holds")
            go.read()
    if verb == "put":
        put(words[0], words[1] if len(words) > 1 else 0)
    else:
        get(words[0] if words else 0)


if __name__ == "__main__":
    main()
