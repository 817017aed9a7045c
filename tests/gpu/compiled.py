#!/usr/bin/env python3
"""A table of what nvcc made of each kernel, from its machine code; no card is needed.

    compiled.py FOLDER... > benches/results/compiled.md

FOLDER holds the kernels' objects: `cargo test -p coder-kernels --test nvcc` leaves them in target/tmp/cuda. Needs
cuobjdump and nvdisasm on PATH, in CUDA_HOME/bin, or from `pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm` for this
python3, and a C++ compiler with nm, which say how much shared memory a block is launched with.

Ends with 1 if a kernel has local memory, if a kernel that streams weights or a cache of whole 16 bytes reads nothing 16 bytes at a
time in its loop, if attention or a product of many rows of quantized weights has no tensor cores' instructions, or if a kernel
of a card whose launches overlap touches memory ahead of its wait for the launch before, or reads it as if nobody wrote it.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from loops import ahead_of, natural, working

TARGETS = ["86", "89", "90", "120"]
CUDA = Path(__file__).resolve().parent.parent.parent / "kernels" / "cuda"

# Per multiprocessor: warps, blocks, bytes of shared memory (CUDA C++ Programming Guide, "Compute Capabilities"). All of these
# have 65,536 registers, given to warps by 256, a quarter to each of four schedulers; a block has 1 KiB for the system.
LIMITS = {"86": (48, 16, 100 << 10), "89": (48, 24, 100 << 10), "90": (64, 32, 228 << 10), "120": (48, 24, 100 << 10)}

# Threads and shared memory of a launch, as the sources say it: file → kernel → two expressions; {0} and {1} are a
# template's arguments.
LAUNCHES = {
    "attention": {"decode_kernel": ("THREADS", "sizeof(Decode<{0}, {1}>)"), "tile_kernel": ("TILE_WARPS * WARP", "sizeof(Tile<{0}, {1}>)")},
    "choose": {"cut_kernel": ("CUT_THREADS", "sizeof(Cut)"), "choose_kernel": ("CHOOSE_WARPS * WARP", "sizeof(Merge)")},
    "elementwise": {"add_kernel": ("THREADS", "0"), "select_kernel": ("THREADS", "0"),
                    "swiglu_kernel": ("THREADS", "0"), "swiglu_any_kernel": ("THREADS", "0")},
    "embed": {"embed_kernel": ("THREADS", "0"), "embed_floats_kernel": ("THREADS", "0")},
    "experts": {"route_kernel": ("WARP", "0"), "sort_kernel": ("SORT_WARPS * WARP", "sizeof(Sorting)"), "mix_kernel": ("THREADS", "0")},
    "matmul_few": {"few_kernel": ("SUMS * WARP", "sizeof(Few<{1}>)")},
    "matmul_floats": {"few_floats_kernel": ("WARPS * WARP", "sizeof(Sums)"),
                      "many_floats_kernel": ("FLOAT_THREADS", "sizeof(FloatStage<tile_of({1})>)")},
    "matmul_qkv": {"qkv_kernel": ("SUMS * WARP", "sizeof(Qkv<{0}>)")},
    "matmul_many": {"many_kernel": ("THREADS", "sizeof(Stage<{0}>)")},
    "matmul_gated": {"gated_kernel": ("SUMS * WARP", "sizeof(Totals<{1}>)")},
    "matmul_mixed": {"mixed_kernel": ("mixed_warps({0}) * WARP", "sizeof(Mixed)")},
    "norm": {"rms_norm_kernel": ("THREADS", "sizeof(Sums)")},
    "quantized": {"quantize_kernel": ("THREADS", "0")},
    "rope": {"rope_kernel": ("THREADS", "sizeof(Angles<HEADS>)")},
}
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
CACHES = ["f32", "f16", "q8_0"]
NORMS = ["of any columns", "of whole 16 bytes", "of whole runs, which it rounds"]

INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)\s*(.*?)\s*;")
GLOBAL = r"(LDG|STG|LDGSTS|ATOM|ATOMG|RED|LD|ST)(\.|$)"
WIDTHS = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}


def tool(name):
    """The path of a program of the toolkit."""
    homes = [Path(os.environ[v]) for v in ("CUDA_HOME", "CUDA_PATH") if v in os.environ]
    homes += [p for base in sys.path for p in sorted(Path(base).glob("nvidia/cu*"), reverse=True)]
    for home in homes:
        if (home / "bin" / name).is_file():
            return str(home / "bin" / name)
    found = shutil.which(name)
    if not found:
        sys.exit(f"no {name}: put it on PATH or its toolkit into CUDA_HOME, or `pip install nvidia-cuda-{name}`")
    return found


def said(*command):
    env = dict(os.environ, PATH=str(Path(command[0]).parent) + os.pathsep + os.environ.get("PATH", ""))
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout


def demangled(name):
    text = said("c++filt", name).strip().removeprefix("void ")
    for part in ("coder_cuda::", "(anonymous namespace)::"):
        text = text.replace(part, "")
    return re.split(r"\(", text)[0]


def code(objects):
    """(kernel, target) → its instructions, each an address, a name and operands."""
    kernels, dump = defaultdict(list), tool("cuobjdump")
    for file in objects:
        target = name = None
        for line in said(dump, "--dump-sass", str(file)).splitlines():
            if m := re.search(r"code for sm_(\d+)", line):
                target = m[1]
            elif m := re.search(r"Function : (\S+)", line):
                name = m[1]
            elif name and target in TARGETS and (m := INSTRUCTION.search(line)):
                kernels[name, target].append((int(m[1], 16), m[3], (m[2] or "") + m[4]))
    return kernels


def usage(objects):
    """(kernel, target) → registers, bytes of a stack, and of shared memory beside what a launch asks for."""
    used, dump = {}, tool("cuobjdump")
    for file in objects:
        target = name = None
        for line in said(dump, "--dump-resource-usage", str(file)).splitlines():
            if m := re.search(r"arch = sm_(\d+)", line):
                target = m[1]
            elif m := re.search(r"Function (\S+):", line):
                name = m[1]
            elif m := re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)", line):
                used[name, target] = int(m[1]), int(m[2]), int(m[3])
    return used


def launches(kernels):
    """Kernel in the source's words → threads and bytes of shared memory: sizes of variables that nobody links."""
    sizes = {}
    for file, of in LAUNCHES.items():
        wanted = {k: of[k.split("<")[0]] for k in kernels if k.split("<")[0] in of}
        lines = [f'#include "{file}.cu"', "namespace coder_emu {"]
        for i, (kernel, (threads, shared)) in enumerate(sorted(wanted.items())):
            arguments = kernel.partition("<")[2].rstrip(">").split(",")
            lines.append(f"char threads_{i}[{threads.format(*arguments)}], shared_{i}[1 + {shared.format(*arguments)}];")
        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder) / "sizes.cpp", Path(folder) / "sizes.o"
            source.write_text("\n".join(lines + ["}"]))
            said("c++", "-std=c++17", "-w", "-DCODER_EMULATOR", f"-I{CUDA}", "-c", str(source), "-o", str(out))
            found = {}
            for line in said("nm", "-S", "-C", str(out)).splitlines():
                if m := re.match(r"\S+ (\S+) \S coder_emu::(threads|shared)_(\d+)$", line):
                    found[m[2], int(m[3])] = int(m[1], 16)
        for i, kernel in enumerate(sorted(wanted)):
            sizes[kernel] = found["threads", i], found["shared", i] - 1
    return sizes


def occupancy(target, registers, threads, shared):
    """Warps that a multiprocessor holds, and how many it could."""
    warps, blocks, memory = LIMITS[target]
    of_block = -(-threads // 32)
    of_warp = -(-registers * 32 // 256) * 256
    by_registers = 65536 // 4 // of_warp * 4 // of_block
    by_memory = memory // (-(-shared // 128) * 128 + 1024)
    return min(blocks, warps // of_block, by_registers, by_memory) * of_block, warps


def loops(instructions):
    """The innermost loops that load from global memory, that which reads most 16 bytes at a time first; else the whole kernel."""
    inside = [(span, [instructions[i] for i in sorted(span)]) for span, _ in natural(instructions)]
    inside = [(span, i) for span, i in inside if loads(i)]
    inner = [i for span, i in inside if not any(o < span for o, _ in inside)]
    return sorted(inner, key=lambda i: (-loads(i)[16], -sum(loads(i).values()))) or [instructions]


def loads(instructions):
    """Bytes of a load of global memory → how many there are."""
    found = Counter()
    for _, name, _ in instructions:
        parts = name.split(".")
        if parts[0] == "LDG":
            found[next((WIDTHS[p] for p in parts if p in WIDTHS), 4)] += 1
        elif parts[0] == "LDGSTS":
            found[16 if "128" in parts else 4] += 1
    return found


def haste(instructions, target):
    """What is wrong with how a kernel follows the launch before it; None if nothing is."""
    names = [i[1] for i in instructions]
    if int(target) < 90:
        return "waits for a launch" if {"PREEXIT", "ACQBULK"} & set(names) else None
    if "PREEXIT" not in names or "ACQBULK" not in names:
        return "does not let the next launch begin, or not wait for the one before"
    early = [instructions[i][1] for i in ahead_of(instructions, "ACQBULK")]
    if any(re.match(GLOBAL, name) for name in early):
        return "touches memory ahead of its wait"
    if "EXIT" in early:
        return "may end without its wait"
    if any(name.startswith("LDG") and "CONSTANT" in name.split(".") for name in names):
        return "reads through a cache that no wait makes coherent"
    return None


def listed(found):
    return ", ".join(f"{b} × {n}" for b, n in sorted(found.items(), reverse=True)) or "-"


def wide(found):
    total = sum(bytes_ * n for bytes_, n in found.items())
    return found[16] * 16 / total if total else None


def name_of(kernel):
    """With types in words."""
    base, _, rest = kernel.partition("<")
    if not rest:
        return base
    arguments = [re.sub(r"\((int|bool)\)", "", a).strip() for a in rest.rstrip(">").split(",")]
    if base == "qkv_kernel":
        return f"{base} {8 * int(arguments[0])} rows"
    if base in ("decode_kernel", "tile_kernel"):
        return f"{base} {CACHES[int(arguments[0])]}{'' if arguments[1] in ('1', 'true') else ', any columns'}"
    if base == "many_kernel":
        return f"{base} {TYPES[int(arguments[0])]}{', gated' if arguments[1] in ('1', 'true') else ''}"
    if base == "many_floats_kernel":
        return f"{base} {TYPES[int(arguments[0])]} {16 * int(arguments[1])} outputs"
    if base in ("few_kernel", "gated_kernel"):  # tiles of eight rows
        arguments[1] = str(8 * int(arguments[1]))
    words = {"rms_norm_kernel": NORMS}.get(base, TYPES)
    return f"{base} {words[int(arguments[0])]}" + (f" {arguments[1]} rows" if len(arguments) > 1 else "")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    objects = sorted(o for folder in sys.argv[1:] for o in Path(folder).glob("*.o"))
    instructions, used = code(objects), usage(objects)
    names = {name: demangled(name) for name, _ in instructions}
    sizes = launches(set(names.values()))
    version = re.search(r"V[\d.]+", said(tool("nvdisasm"), "--version"))[0]
    commit = subprocess.run(["git", "-C", str(CUDA), "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    date = subprocess.run(["date", "-u", "+%F"], capture_output=True, text=True).stdout.strip()
    print(f"# The kernels' machine code, {date}, commit {commit}, read by nvdisasm {version}\n")
    print("From `tests/gpu/compiled.py`, for sm_" + ", ".join(TARGETS) + ". Loads are those of each innermost loop that reads global memory, on sm_89, of")
    print("the whole kernel where there is none. Instructions, and the share of bytes read 16 at a time (the least of the targets'), are of the first: that")
    print("which reads most of them so. It may hold the way for rows of no whole 16 bytes too: 4 × 64 beside the 16 × 16 of F32, say.")
    print("Warps: those that a multiprocessor holds at once, of those that it could, with registers and shared memory as they are.")
    print("For sm_90 and later each kernel lets the next launch begin, and waits for the one before ahead of all accesses to global memory.\n")
    print("| kernel | bytes read 16 at a time | loads, bytes × count | instructions | tensor cores | local memory | registers | shared | warps |")
    print("|---|---|---|---|---|---|---|---|---|")
    failed = []
    for mangled, kernel in sorted(names.items(), key=lambda it: order(it[1])):
        of = {t: instructions[mangled, t] for t in TARGETS if (mangled, t) in instructions}
        all_loops = {t: loops(i) for t, i in of.items()}
        shares = [wide(loads(found[0])) for found in all_loops.values()]
        share = None if None in shares else min(shares)
        shown = all_loops.get("89") or next(iter(all_loops.values()))
        mma = sorted({n.split(".")[0] for i in of.values() for _, n, _ in i if re.match(r"[A-Z]*MMA(\.|$)", n)})
        local = sum(1 for i in of.values() for _, n, _ in i if re.match(r"(LDL|STL)(\.|$)", n)) + sum(used[mangled, t][1] for t in of)
        threads, shared = sizes[kernel]
        shared += min(used[mangled, t][2] for t in of)  # some targets' have the system's KiB in it
        registers = [used[mangled, t][0] for t in of]
        held = [occupancy(t, used[mangled, t][0], threads, shared) for t in of]
        print(f"| {name_of(kernel)} | {'-' if share is None else f'{share:.0%}'} | "
              f"{' / '.join(listed(loads(i)) for i in shown)} | {len(shown[0])} | "
              f"{', '.join(mma) or '-'} | {'**' + str(local) + '**' if local else 'none'} | {' '.join(map(str, registers))} | {shared} | "
              f"{' '.join(f'{h}/{m}' for h, m in held)} |")
        # Attention reads the eight columns of a lane: bytes are 8, and heads of any columns have no whole 16.
        streams = re.match(r"(few|few_floats|qkv|gated|mixed|many)_kernel<|decode_kernel<[01], (true|\(bool\)1)", kernel)
        if local:
            failed.append(f"{kernel}: local memory")
        failed += [f"{kernel} for sm_{t}: {wrong}" for t, i in of.items() if (wrong := haste(i, t))]
        if streams and not share:
            failed.append(f"{kernel}: reads nothing 16 bytes at a time")
        if re.match("(many|decode|tile)_kernel", kernel) and not mma:
            failed.append(f"{kernel}: no tensor cores")
    print_work(instructions, names)
    for problem in failed:
        print(problem, file=sys.stderr)
    sys.exit(bool(failed))


def print_work(instructions, names):
    """What predict.py takes for the work of a loop."""
    print("\n## Loops around products\n")
    print("Instructions · those of them that multiply and add; loops of the same depth joined by +, from the innermost out, each without what is within.\n")
    print("| kernel | products | " + " | ".join(f"sm_{t}" for t in TARGETS) + " |")
    print("|---|---|" + "---|" * len(TARGETS))
    for mangled, kernel in sorted(names.items(), key=lambda it: order(it[1])):
        if not re.match(r"(few|few_floats|qkv|gated|mixed|many|many_floats|decode|tile)_kernel<", kernel):
            continue
        found = [working(instructions[mangled, t]) for t in TARGETS]
        told = [" in ".join(" + ".join(f"{n}·{of}" for n, of in depth) for depth in depths) or "-" for _, depths in found]
        print(f"| {name_of(kernel)} | {found[0][0]} | " + " | ".join(told) + " |")


def order(kernel):
    return [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", kernel)]


if __name__ == "__main__":
    main()
