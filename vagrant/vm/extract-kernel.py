"""extract-kernel.py VMLINUZ OUT: writes the ELF image inside a compressed kernel, which QEMU boots a second faster."""
import lzma
import re
import subprocess
import sys

PACKERS = ((b"\xfd7zXZ\x00", ["xz", "-dc"]), (b"\x28\xb5\x2f\xfd", ["zstd", "-dc"]),
           (b"\x1f\x8b\x08", ["gzip", "-dc"]), (b"\x02\x21\x4c\x18", ["lz4", "-dc"]))

image = open(sys.argv[1], "rb").read()
for magic, command in PACKERS:
    for hit in re.finditer(re.escape(magic), image):
        tail = image[hit.start():]
        try:
            elf = (lzma.LZMADecompressor().decompress(tail) if command[0] == "xz" else
                   subprocess.run(command, input=tail, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
        except (lzma.LZMAError, FileNotFoundError):
            continue
        if elf[:4] == b"\x7fELF":
            open(sys.argv[2], "wb").write(elf)
            sys.exit(0)
sys.exit("no compressed ELF image found in " + sys.argv[1])
