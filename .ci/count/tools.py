"""ptxas and nvdisasm, and what they say of a file of PTX."""
import pathlib
import re
import struct
import subprocess
import tempfile
from dataclasses import dataclass

KERNEL = re.compile(
    r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers([^\n]*)", re.S)


@dataclass(frozen=True)
class Resources:
    registers: int
    frame: int  # bytes of local memory a thread has
    stores: int  # bytes that are spilled there
    loads: int
    shared: int

    def local(self):
        return max(self.frame, self.stores, self.loads)


def resources(log, text):
    """The resources of the kernels of a file by name, from what `ptxas -v` prints."""
    found = {}
    for name, frame, stores, loads, registers, rest in KERNEL.findall(log):
        shared = re.search(r"(\d+) bytes smem", rest)
        found[name] = Resources(int(registers), int(frame), int(stores), int(loads),
                                int(shared[1]) if shared else 0)
    if len(found) != text.count(".entry "):
        raise SystemExit(f"ptxas tells of {len(found)} kernels of {text.count('.entry ')}:\n{log}")
    return found


def sections(cubin):
    """The bytes of an ELF file's sections by name."""
    at, = struct.unpack_from("<Q", cubin, 0x28)
    size, count, of_names = struct.unpack_from("<3H", cubin, 0x3a)
    headers = [struct.unpack_from("<IIQQQQ", cubin, at + k * size) for k in range(count)]
    names = headers[of_names][4]

    def name(header):
        start = names + header[0]
        return cubin[start:cubin.index(b"\0", start)].decode()
    return {name(h): cubin[h[4]:h[4] + h[5]] for h in headers}


@dataclass
class Compiled:
    kernels: dict  # Resources by name
    listing: str  # SASS, if asked for
    banks: dict  # of a kernel, the constant banks beside that of the launch


def compile_ptx(ptxas, nvdisasm, file, arch, listed):
    """A file for an architecture, with a listing if `listed`."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = pathlib.Path(folder, "kernels.cubin")
        log = run(ptxas, "-v", f"-arch=sm_{arch}", file, "-o", cubin).stderr
        kernels = resources(log, file.read_text())
        if not listed:
            return Compiled(kernels, "", {})
        banks = {name: {} for name in kernels}
        for section, data in sections(cubin.read_bytes()).items():
            match = re.fullmatch(r"\.nv\.constant([1-9])\.(\w+)", section)
            if match:
                banks[match[2]][int(match[1])] = data
        return Compiled(kernels, run(nvdisasm, "-c", cubin).stdout, banks)


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr or done.stdout}")
    return done
