"""The loops of a kernel's machine code, by its flow: a branch back is one only to where all ways to it come by. Code that stands
behind the end and jumps back into the middle, as divergent branches and slow divisions do, makes none."""
import re
from collections import Counter
from itertools import takewhile

from cards import PRODUCTS


def target(operands):
    found = re.search(r"0x([0-9a-f]+)\)?$", operands.strip())
    return int(found[1], 16) if found else None


def blocks(instructions):
    """First instruction of each basic block, in order; and of those that can be reached, their successors'. BSYNC goes to where the
    BSSY of its register said."""
    at = [i[0] for i in instructions]
    index = {a: n for n, a in enumerate(at)}
    starts = {0}
    for n, (_, name, operands) in enumerate(instructions):
        base = name.split(".")[0]
        if base in ("BRA", "BSSY"):
            starts.add(index.get(target(operands), 0))
        if base in ("BRA", "EXIT", "RET", "BRX", "JMP", "BSYNC") and n + 1 < len(at):
            starts.add(n + 1)
        # With a condition it is a long branch, and no call.
        if base == "CALL" and operands.startswith("@"):
            starts.update([index.get(target(operands), 0), n + 1])
    order = sorted(starts)
    end = dict(zip(order, order[1:] + [len(at)]))
    following, todo = {}, [(0, {})]
    while todo:
        first, meets = todo.pop()
        if first in following:
            continue
        meets = dict(meets)
        for n in range(first, end[first]):
            if instructions[n][1].split(".")[0] == "BSSY":
                meets[re.search(r"\bB\d+", instructions[n][2])[0]] = index.get(target(instructions[n][2]))
        _, name, operands = instructions[end[first] - 1]
        base, after = name.split(".")[0], end[first]
        to = [after]
        if base in ("BRA", "EXIT", "RET", "BRX", "JMP"):
            always = not re.search(r"(^@|\bU?P\d|\bUR\d|DIV|CONV)", f"{operands} {name}")
            to = ([index.get(target(operands))] if base == "BRA" else []) + ([] if always else [after])
        elif base == "CALL" and operands.startswith("@"):
            to.append(index.get(target(operands)))
        elif base == "BSYNC" and (m := re.search(r"\bB\d+", operands)):
            to = [meets.get(m[0], after)]
        following[first] = [t for t in to if t is not None and t < len(at)]
        todo += [(t, meets) for t in reversed(following[first])]
    return order, following


def dominators(order, following):
    """Block → the blocks that all ways from the first to it come by; of blocks that can be reached."""
    before = {b: [] for b in order}
    reached = set(following)
    for b in reached:
        for s in following[b]:
            before[s].append(b)
    by = {b: set(reached) for b in reached}
    by[0] = {0}
    changed = True
    while changed:
        changed = False
        for b in order:
            if b == 0 or b not in reached:
                continue
            now = {b} | set.intersection(*(by[p] for p in before[b]))
            if now != by[b]:
                by[b], changed = now, True
    return by, before


def natural(instructions):
    """Each loop in the order of their beginnings: indices of its instructions, and of those of them that stand before its last
    branch back; beyond there is only what is seldom gone through."""
    order, following = blocks(instructions)
    by, before = dominators(order, following)
    end = dict(zip(order, order[1:] + [len(instructions)]))
    found, latest = {}, {}
    for b in by:
        for head in following[b]:
            if head not in by[b]:
                continue
            inside, todo = {head}, [b]
            while todo:
                at = todo.pop()
                if at not in inside:
                    inside.add(at)
                    todo += before[at]
            found.setdefault(head, set()).update(inside)
            latest[head] = max(latest.get(head, 0), end[b])
    whole = {head: {i for b in inside for i in range(b, end[b])} for head, inside in found.items()}
    return [(loop, {i for i in loop if i < latest[head]}) for head, loop in sorted(whole.items())]


def ahead_of(instructions, name):
    """Indices of the instructions that may come before the first of a name."""
    order, following = blocks(instructions)
    end = dict(zip(order, order[1:] + [len(instructions)]))
    found, todo = {}, [0]
    while todo:
        first = todo.pop()
        if first in found:
            continue
        found[first] = list(takewhile(lambda i: instructions[i][1] != name, range(first, end[first])))
        if first + len(found[first]) == end[first]:
            todo += following[first]
    return sorted(i for some in found.values() for i in some)


def products(instructions):
    """Kind of instruction that multiplies and adds → how many there are."""
    count = Counter()
    for _, name, _ in instructions:
        base = ".".join(name.split(".")[:2]) if "MMA" in name else name.split(".")[0]
        if base in PRODUCTS:
            count[base] += 1
    return count


def working(instructions):
    """The loops around a kernel's products on tensor cores, or without any of integers or floats, from the innermost out: for
    each depth, instructions and products of each loop, without those of loops within."""
    kinds = products(instructions)
    kind = next((k for k in sorted(kinds, reverse=True) if "MMA" in k), "IDP" if kinds["IDP"] else "FFMA")
    mine = {n for n, i in enumerate(instructions) if products([i])[kind]}
    around = [(whole, often) for whole, often in natural(instructions) if whole & mine]
    rows = []
    for whole, often in around:
        own = often.difference(*[o for o, _ in around if o < whole])
        rows.append((sum(1 for o, _ in around if whole < o), min(whole), len(own), len(own & mine)))
    deepest = max((r[0] for r in rows), default=0)
    return kind, [[(count, of) for depth, _, count, of in sorted(rows, key=lambda r: r[1]) if depth == d]
                  for d in range(deepest, -1, -1)]
