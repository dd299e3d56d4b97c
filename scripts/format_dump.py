#!/usr/bin/env python3
"""Prints a small .q4 file field by field, in the form that docs/format.md section 12 shows.

Usage: format_dump.py FILE [--update docs/format.md]
--update replaces the dump in the document; tests/formats/q4/format_doc_test.cc compares the document with the file.
"""
import re
import struct
import sys

SECTIONS = ["", "Tensors", "Dims", "Names", "Files", "Chunks", "Stats", "Provenance"]
TENSOR = [(8, "First_Chunk"), (4, "Name_Bytes"), (4, "Block_Size"), (1, "DType"), (1, "Rank"), (1, "Scheme"), (1, "Encoder"),
          (1, "Flags"), (3, "reserved"), (4, "Nested_Offset"), (4, "reserved")]
FILE = [(8, "Raw_Bytes"), (4, "Name_Bytes"), (4, "reserved")]
CHUNK = [(8, "Offset"), (4, "Stored_Bytes"), (4, "Raw_Bytes"), (1, "Codec"), (1, "Planes"), (6, "reserved"), (8, "Chunk_XXH3"),
         (32, "Chunk_SHA256")]
STATS = [(8, n) for n in ["Count", "Zero_Blocks", "Tiny_Blocks", "Clipped", "Overflow"]] + [(128, "Hist")] + [
    (8, n) for n in ["Sum_E", "Sum_Abs_E", "Sum_E2", "Sum_X2", "Sum_XY", "Max_Abs_Err", "Max_Abs_Err_Index", "Max_Gap_Ratio",
                     "Worst_Block_E2", "Worst_Block"]]
HEADER = [(8, "Magic"), (4, "Version"), (4, "Header_Bytes"), (8, "Required_Features"), (8, "Optional_Features"), (32, "File_Id"),
          (4, "Shard"), (4, "Shard_Count")]
FOOTER = [(8, "Footer_Magic"), (8, "Index_Offset"), (8, "Index_Bytes"), (8, "File_Bytes"), (8, "Index_XXH3"), (32, "Root")]


class Dump:
    def __init__(self, data):
        self.data, self.lines = data, []

    def heading(self, text):
        self.lines.append(f"* {text}")

    def fields(self, at, layout):
        for size, name in layout:
            for begin in range(at, at + size, 16):
                piece = self.data[begin:min(begin + 16, at + size)]
                label = name if begin == at else ""
                if piece[:8] == piece and len(piece) in (4, 8) and name.startswith(("Offset", "Index_", "File_B", "Stored", "Raw")):
                    label += "" if name == "Index_XXH3" else f" = {int.from_bytes(piece, 'little')}"
                self.lines.append(f"{begin:08x}  {piece.hex(' '):<47}  {label}".rstrip())
            at += size
        return at


def dump(data):
    out = Dump(data)
    out.heading("Header; zero up to Header_XXH3")
    out.fields(0, HEADER)
    out.fields(4088, [(8, "Header_XXH3")])
    index_offset, index_bytes = struct.unpack_from("<QQ", data, len(data) - 120)
    table = {}
    for i in range(struct.unpack_from("<I", data, index_offset)[0]):
        kind, _, offset, size = struct.unpack_from("<IIQQ", data, index_offset + 8 + 24 * i)
        table[kind] = (index_offset + offset, size)
    at, size = table[5]
    for number in range(size // 64):
        offset, stored = struct.unpack_from("<QI", data, at + 64 * number)
        out.heading(f"Chunk {number}")
        out.fields(offset, [(stored, "stored bytes")])
    out.heading("Index: section table")
    end = out.fields(index_offset, [(4, "Section_Count"), (4, "reserved")])
    for kind in sorted(table):
        end = out.fields(end, [(4, f"Kind: {SECTIONS[kind]}"), (4, "Flags"), (8, "Offset"), (8, "Bytes")])
    for kind, layout in ((1, TENSOR), (2, [(8, "dimension")]), (3, None), (4, FILE), (5, CHUNK), (6, STATS), (7, None)):
        at, size = table[kind]
        out.heading(f"Index: {SECTIONS[kind]}")
        if layout is None:
            out.fields(at, [(size, "text")])
        else:
            end = at
            while end < at + size:
                end = out.fields(end, layout)
    out.heading("Footer; zero up to Footer_XXH3")
    out.fields(len(data) - 128, FOOTER)
    out.fields(len(data) - 8, [(8, "Footer_XXH3")])
    return "\n".join(out.lines)


def main(arguments):
    with open(arguments[0], "rb") as file:
        text = dump(file.read())
    if arguments[1:2] != ["--update"]:
        print(text)
        return
    with open(arguments[2], encoding="utf-8") as file:
        document = file.read()
    block = "```q4dump\n" + text + "\n```"
    document, count = re.subn(r"```q4dump\n.*?\n```", lambda _: block, document, flags=re.S)
    if count != 1:
        sys.exit("the document has no block of q4dump")
    with open(arguments[2], "w", encoding="utf-8") as file:
        file.write(document)


if __name__ == "__main__":
    main(sys.argv[1:])
