"""Reads a zTOC by the schema alone and holds it against the layer: read_ztoc.py LAYER.tar.gz ZTOC.

Nothing of it is shared with what wrote the file: the FlatBuffer is taken apart by its offsets, the archive is read by
tarfile, the layer by gzip.
"""

import gzip
import hashlib
import io
import struct
import sys
import tarfile


def number(code, at):
    return struct.unpack_from("<" + code, ztoc, at)[0]


class Table:
    def __init__(self, at):
        self.at = at
        self.fields = at - number("i", at)

    def field(self, index):
        if 4 + 2 * index >= number("H", self.fields):
            return None
        offset = number("H", self.fields + 4 + 2 * index)
        return self.at + offset if offset else None

    def scalar(self, index, code, default=0):
        at = self.field(index)
        return default if at is None else number(code, at)

    def target(self, index):
        at = self.field(index)
        return at + number("I", at)

    def table(self, index):
        return Table(self.target(index))

    def bytes(self, index):
        at = self.target(index)
        return ztoc[at + 4 : at + 4 + number("I", at)]

    def vector(self, index):
        at = self.target(index)
        places = range(at + 4, at + 4 + 4 * number("I", at), 4)
        return [place + number("I", place) for place in places]


layer = open(sys.argv[1], "rb").read()
ztoc = open(sys.argv[2], "rb").read()
archive = gzip.decompress(layer)
root = Table(number("I", 0))
assert root.bytes(0) == b"0.9", root.bytes(0)
assert root.scalar(2, "q") == len(layer)
assert root.scalar(3, "q") == len(archive)

members = tarfile.open(fileobj=io.BytesIO(archive)).getmembers()
entries = [Table(at) for at in root.table(4).vector(0)]
assert len(entries) == len(members), (len(entries), len(members))
for entry, member in zip(entries, members):
    assert entry.bytes(0).decode().rstrip("/") == member.name, member.name
    kind = {"0": b"reg", "1": b"hardlink", "2": b"symlink", "5": b"dir"}[member.type.decode()]
    assert entry.bytes(1) == kind, member.name
    assert entry.scalar(2, "q") == member.offset_data, member.name
    assert entry.scalar(3, "q") == (member.size if kind == b"reg" else 0), member.name
    assert entry.bytes(4).decode() == member.linkname, member.name
    assert entry.scalar(5, "q") == member.mode, member.name
    assert (entry.scalar(6, "I"), entry.scalar(7, "I")) == (member.uid, member.gid), member.name

info = root.table(5)
assert info.scalar(0, "b", 1) == 1
checkpoints = info.bytes(3)
count, span = struct.unpack_from("<iq", checkpoints)
assert len(checkpoints) == 12 + count * (17 + 32768)
assert info.scalar(1, "i") == count - 1
starts, ends = [], []
last = 0
for index in range(count):
    at = 12 + index * (17 + 32768)
    bytes_in, bytes_out, bits = struct.unpack_from("<qqB", checkpoints, at)
    window = checkpoints[at + 17 : at + 17 + 32768]
    known = archive[max(0, bytes_out - 32768) : bytes_out]
    assert window.endswith(known), index
    assert bits < 8 and bytes_in <= len(layer)
    assert index == 0 or bytes_out - last > span, index
    last = bytes_out
    starts.append(bytes_in - (1 if bits else 0))
    ends.append(bytes_in)
digests = [ztoc[at + 4 : at + 4 + number("I", at)].decode() for at in info.vector(2)]
assert len(digests) == count
for start, end, digest in zip(starts, ends[1:] + [len(layer)], digests):
    assert digest == "sha256:" + hashlib.sha256(layer[start:end]).hexdigest()
print(count, "checkpoints,", len(entries), "entries")
