"""The page of generated mutants, from what `run` has recorded."""

import subprocess

ABOUT = """# Generated mutants

Written by `verification/mutants/run` (`--report` writes it again). [cargo-mutants](https://mutants.rs) says which lines of `src` can be
changed, and how; each change is tried against the tests one after the other, the quick ones first, until one fails, twice. All tests of a
file may take four times what they take unchanged, on a machine as loaded as it is then, and a minute at least; one that is not done by then is
run again alone, and may take as long again: only what does not end then either counts as noticed. The order is shuffled, so that what has
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


# Tests that were written because of what was missed.
WRITTEN = ("stats::", "homes::", "limits::")


def later(here, last):
    """Those that the unit tests missed: what became of each."""
    for name, record in last.items():
        if record["fate"] == "noticed" and record["test"] != "lib":
            by = f"{record['test']}: `{record['by']}`" if record["by"] else f"{record['test']}, which does not end"
            yield name, f"noticed since, by a new test: {by}" if (record["by"] or "").startswith(WRITTEN) else f"noticed by {by}"
        elif record["fate"] in ("missed", "waiting"):
            tried = ", ".join(record["tests"])
            why = said(here / "argued.txt", name)
            yield name, f"argued: {why}" if why else f"**open**: not noticed by {tried}"


def table(rows):
    return "".join("| " + " | ".join(str(cell) for cell in row) + " |\n" for row in rows)


def generated(root, kept, records):
    here, last = root / "verification/mutants", {record["name"]: record for record in records}
    left = list(later(here, last))
    of = lambda fate: sum(record["fate"] == fate for record in last.values())
    count = lambda start: sum(fate.startswith(start) for _, fate in left)
    unit = sum(record["fate"] == "noticed" and record["test"] == "lib" for record in last.values())
    endless = sum(bool(record.get("endless")) for record in last.values())
    commit = ["git", "log", "-1", "--format=%h", "--", "src"]
    commit = subprocess.run(commit, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    asked = ", ".join(f"`{line}`" for line in (kept / "asked.txt").read_text().splitlines())
    figures = [
        ("", ""),
        ("---", "---"),
        ("sources", f"of commit {commit}"),
        ("generated from all of `src`", (kept / "generated").read_text().strip()),
        ("asked for, evenly spread", asked),
        ("tried", len(last)),
        ("the compiler refuses", of("unviable")),
        ("noticed by unit tests", unit),
        ("missed by unit tests", len(left)),
        ("of these noticed by other tests", count("noticed by")),
        ("of these noticed since, by tests that were written for them", count("noticed since")),
        ("of these argued", count("argued")),
        ("of these open", count("**open")),
        ("noticed, of all, by a test that does not end, twice", endless),
    ]
    line = f"{len(last)} tried, {of('unviable')} no program, {count('argued')} argued, {count('**open')} missed"
    text = f"\n## Figures\n\n{table(figures)}\n{line}.\n\n## Missed by the unit tests\n\n"
    rows = [("mutant", "then"), ("---", "---")]
    text += table(rows + [(f"`{cell(name)}`", fate) for name, fate in left]) if left else "None.\n"
    return text + "\n" + (here / "taught.md").read_text(), line


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
