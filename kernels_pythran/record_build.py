"""List the kernels, and write build.json: what they were built from and for. Run by meson, with the standard library alone.

With ``--list`` the names of the modules that export something, which are compiled, are printed after ``compiled:``, and the
others after ``inlined:``. The record lets `workbench.kernels.loading` refuse kernels that were built from other sources, or for instructions
that this processor lacks.
"""

import argparse
import hashlib
import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

# Macros that GCC and Clang predefine for an instruction set, and Linux's name for it in /proc/cpuinfo.
CPU_FLAGS = {
    "__SSE4_2__": "sse4_2", "__POPCNT__": "popcnt", "__AVX__": "avx", "__F16C__": "f16c", "__FMA__": "fma",
    "__BMI__": "bmi1", "__BMI2__": "bmi2", "__LZCNT__": "abm", "__MOVBE__": "movbe", "__AVX2__": "avx2",
    "__AVXVNNI__": "avx_vnni", "__GFNI__": "gfni", "__VAES__": "vaes", "__VPCLMULQDQ__": "vpclmulqdq",
    "__AVX512F__": "avx512f", "__AVX512BW__": "avx512bw", "__AVX512CD__": "avx512cd",
    "__AVX512DQ__": "avx512dq", "__AVX512VL__": "avx512vl", "__AVX512IFMA__": "avx512ifma",
    "__AVX512VBMI__": "avx512vbmi", "__AVX512VBMI2__": "avx512_vbmi2", "__AVX512VNNI__": "avx512_vnni",
    "__AVX512BITALG__": "avx512_bitalg", "__AVX512VPOPCNTDQ__": "avx512_vpopcntdq",
    "__AVX512BF16__": "avx512_bf16", "__AVX512FP16__": "avx512_fp16",
}  # fmt: skip

EXPORT = "#pythran export "


def list_kernels() -> None:
    """Print which modules of this folder are compiled and which are inlined into them."""
    folder = Path(__file__).parent
    others = {"__init__", Path(__file__).stem}
    sources = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")) if path.stem not in others}
    is_kernel = {name: any(line.startswith(EXPORT) for line in text.splitlines()) for name, text in sources.items()}
    print("compiled:", *(name for name in sources if is_kernel[name]))
    print("inlined:", *(name for name in sources if not is_kernel[name]))


def main() -> None:
    """Write the record of a build, or list the kernels."""
    if sys.argv[1:] == ["--list"]:
        list_kernels()
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--instruction-set", required=True)
    parser.add_argument("--compiler", required=True, help="the compiler's command, arguments separated by spaces")
    parser.add_argument("--compiler-name", required=True)
    parser.add_argument("--arguments", default="", help="arguments that choose the instruction set")
    parser.add_argument("sources", nargs="+", type=Path)
    args = parser.parse_args()
    command = [*args.compiler.split(), *args.arguments.split(), "-dM", "-E", "-x", "c++", "-"]
    macros = subprocess.run(command, input="", capture_output=True, text=True, check=True).stdout
    defined = {line.split()[1] for line in macros.splitlines() if line.startswith("#define ")}
    record = {
        "instruction_set": args.instruction_set,
        "machine": platform.machine(),
        "cpu_flags": sorted(flag for macro, flag in CPU_FLAGS.items() if macro in defined),
        "compiler": args.compiler_name,
        "pythran": version("pythran"),
        "sources": {source.name: hashlib.sha256(source.read_bytes()).hexdigest() for source in args.sources},
    }
    args.out.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
