"""The page of generated mutants, from what `run` has recorded."""

import collections
import re

ABOUT = """# Generated mutants

Written by `verification/mutants/run` (`--report` writes it again). [cargo-mutants](https://mutants.rs) says which lines of `src` can be
changed, and how. All changes are built at once, each behind a switch (`verification/mutants/src`); each is tried with the tests that reach it, the
quick ones first, until one fails, twice. A test may use four times the processor time that it uses unchanged, and four seconds; and last four times as long, and
ten seconds, and twice that the second time: who does not end by then either has been noticed. Tests that take more than a minute alone are left out. The order is shuffled, so that what has
been tried of a sample is a fair part of it. Not changed: the checkers' own backends and `Debug` (`verification/mutants/config.toml`). The faults and orderings that were chosen by hand are in [mutants.md](mutants.md).
"""


def said(file, name):
    """What a list says of a mutant: a part of its name ; the sentence."""
    for line in file.read_text().splitlines():
        part, _, sentence = line.partition(";")
        if line.strip() and not line.startswith("#") and part.strip() in name:
            return sentence.strip()
    return None


def cell(text):
    return text.replace("|", "\\|")


def plain(name):
    """A mutant's name without its place in the file, which the next change of it moves."""
    return re.sub(r":\d+:\d+:", ":", name, count=1)


def open_on(file):
    """The plain names of those that a page shows as open, or not decided."""
    rows = re.findall(r"^\| `(.*)` \| (?:\*\*open\*\*|not decided)", file.read_text(), re.M)
    return {plain(row.replace("\\|", "|")) for row in rows}


def left(here, last):
    """Those that no test has noticed: why."""
    for name, record in last.items():
        if record["fate"] in ("missed", "waiting"):
            why = said(here / "argued.txt", plain(name))
            reached = record.get("of")
            tried = "reached by no test" if reached == 0 else f"not noticed by the {reached} tests that reach it" if reached else "not noticed"
            if record["fate"] == "waiting":
                tried = f"not decided: tried so far with {record['tests']} of the tests"
            else:
                tried = f"**open**: {tried}"
            yield name, f"argued: {why}" if why else tried


def table(rows):
    return "".join("| " + " | ".join(str(cell) for cell in row) + " |\n" for row in rows)


def generated(root, kept, records):
    here, last = root / "verification/mutants", {record["name"]: record for record in records}
    rest = sorted(left(here, last))
    of = lambda fate: sum(record["fate"] == fate for record in last.values())
    count = lambda start: sum(fate.startswith(start) for _, fate in rest)
    endless = sum(bool(record.get("endless")) for record in last.values())
    asked = ", ".join(f"`{line}`" for line in (kept / "asked.txt").read_text().splitlines())
    decided = len(last) - of("apart") - count("not decided")
    by = collections.Counter(record["test"] for record in last.values() if record["fate"] == "noticed")
    figures = [
        ("", ""),
        ("---", "---"),
        ("sources", f"of commit {(kept / 'sources.txt').read_text().strip()}"),
        ("generated from all of `src`", (kept / "generated").read_text().strip()),
        ("asked for", asked),
        ("decided", decided),
        ("the compiler refuses", of("unviable")),
        ("noticed", of("noticed")),
        ("of these by a test that does not end", endless),
        ("of these by", ", ".join(f"{test} {number}" for test, number in by.most_common())),
        ("argued", count("argued")),
        ("open", count("**open")),
        ("of what compiles, noticed or argued", share(of("noticed") + count("argued"), of("noticed") + len(rest))),
        *since(kept, here, last),
        ("not decided: not noticed so far, and not all tests have been tried", count("not decided")),
        ("not tried: what the compiler computes has no switch, and takes a build of its own", of("apart")),
    ]
    line = f"{decided} decided, {of('unviable')} no program, {count('argued')} argued, {count('**open')} missed"
    text = f"\n## Figures\n\n{table(figures)}\n{line}.\n\n## What no test has noticed so far\n\n"
    rows = [("mutant", "why"), ("---", "---")]
    text += table(rows + [(f"`{cell(name)}`", fate) for name, fate in rest]) if rest else "None.\n"
    return text + "\n" + (here / "taught.md").read_text(), line


def since(kept, here, last):
    """What became of those that were open on an earlier page, and of the others."""
    file = kept / "open-before.txt"
    if not file.exists():
        return
    open_then, why = set(file.read_text().splitlines()), dict(left(here, last))
    for what, then in (("of those that an earlier page shows as open", True), ("of all others, by chance", False)):
        of_these = {name: record["fate"] for name, record in last.items() if (plain(name) in open_then) == then}
        count = lambda *fates: sum(fate in fates for fate in of_these.values())
        told = lambda start: sum(why.get(name, "").startswith(start) for name in of_these)
        figures = f"{count('noticed')} noticed, {told('argued')} argued, {told('**open')} open, {told('not decided')} not decided"
        yield what, f"{count('noticed', 'missed', 'waiting')}: {figures}"


def share(part, of):
    return f"{100 * part / of:.1f} %" if of else "none"


def constants(here, records):
    last = {record["name"]: record for record in records}
    of = lambda fate: sum(record["fate"] == fate for record in last.values())
    line = f"{len(last)} constants tried, {of('unviable')} no program, {of('argued')} argued, {of('missed')} missed"
    rows = [("constant", "is", "instead", "noticed by"), ("---",) * 4]
    for record in sorted(last.values(), key=lambda record: record["cells"]):
        fate = {
            "unviable": "the compiler",
            "missed": f"**missed** by {record['asked']}",
            "argued": f"argued: {record.get('why')}",
            "noticed": f"{record.get('test')}: `{record.get('by')}`" if record.get("by") else f"{record.get('test')}, which does not end",
        }[record["fate"]]
        file, name, before, now = (cell(text) for text in record["cells"])
        rows.append((f"`{file}` `{name}`", f"`{before}`", f"`{now}`", fate))
    about = (
        "\n## Constants and limits\n\ncargo-mutants changes no literals. `verification/mutants/run --constants` puts each value of\n"
        "`verification/mutants/constants.txt` in the place of a constant's own, and the test that is named there must fail.\n\n"
    )
    listed = (here / "constants.txt").read_text().splitlines()
    listed = sum(bool(text.strip()) and not text.startswith("#") for text in listed)
    return f"{about}{line}. The list has {listed}; what is not below has not been tried on these sources.\n\n{table(rows)}", line


def write(root, kept, records):
    """Writes the page; says its figures in a line."""
    text, lines = ABOUT, []
    for kind, section in (("generated", lambda found: generated(root, kept, found)), ("constant", lambda found: constants(root / "verification/mutants", found))):
        found = [record for record in records if record["kind"] == kind]
        if found:
            part, line = section(found)
            text += part
            lines.append(line)
    if not lines:
        return "nothing has been tried on this src: the page stays as it is"
    (root / "verification/generated-mutants.md").write_text(text)
    return "\n".join(lines)
