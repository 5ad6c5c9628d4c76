"""Constants and limits: each value of a list in the place of a constant's own, and the test that must notice it.

What only code reads, and no other constant, type or pattern, needs no build of its own: all such constants become functions, which return
the value of the row that MATRIX_CONSTANT names.
"""

import json
import os
import re
import subprocess

SWITCH = """
mod constant_switch {
    pub(crate) fn row() -> u32 {
        static ROW: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
        *ROW.get_or_init(|| std::env::var("MATRIX_CONSTANT").ok().and_then(|row| row.parse().ok()).unwrap_or(u32::MAX))
    }
}
"""


def declaration(constant):
    return re.compile(rf"^(.*)\bconst {constant}: ([^=\n]*) = (.*);$", re.M)


def switched(texts, rows):
    """The files' texts, `rows` by number (file, constant, value) switched in them."""
    texts = dict(texts)
    for file, constant in dict.fromkeys(row[:2] for row in rows.values()):
        values = "".join(f"{number} => {row[2]}, " for number, row in rows.items() if row[:2] == (file, constant))
        declared = declaration(constant).search(texts[file])
        before, kind, own = declared.groups()
        function = f"#[allow(non_snake_case)] {before}fn {constant}() -> {kind} {{ match crate::constant_switch::row() {{ {values}_ => {own} }} }}"
        # Where it is named: not in a use, a comment, or a text.
        named = re.compile(rf'\buse\s[^;]*;|//[^\n]*|"(?:[^"\\]|\\.)*"|\b{constant}\b')
        imports = re.compile(rf"\buse\s[^;]*\b{constant}\b[^;]*;")
        for other, text in texts.items():
            if other == file:
                halves = text[: declared.start()], text[declared.end() :]
                begin, end = (named.sub(lambda found: constant + "()" if found.group() == constant else found.group(), half) for half in halves)
                texts[other] = begin + function + end
            elif imports.search(text):
                texts[other] = named.sub(lambda found: constant + "()" if found.group() == constant else found.group(), text)
    texts["src/lib.rs"] += SWITCH
    return texts


def switchable(bench, texts, rows, cargo_arguments):
    """Those of the rows that can be switched: as long as the compiler refuses some, these are left out."""
    rows = dict(rows)
    while rows:
        environment = {**os.environ, "CARGO_TARGET_DIR": str(bench.target_of_tests), "RUSTFLAGS": "--cap-lints=allow"}
        with bench.changed(switched(texts, rows)):
            command = ["cargo", "check", "--locked", "--profile", "mutants", "--message-format", "json", *cargo_arguments]
            ran = subprocess.run(command, cwd=bench.tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if ran.returncode == 0:
            break
        messages = [json.loads(line).get("message") or {} for line in ran.stdout.splitlines() if line.startswith("{")]
        errors = [message for message in messages if message.get("level") == "error"]
        told = "\n".join(text["text"] for error in errors for span in error["spans"] for text in span["text"])
        refused = {number for number, row in rows.items() if re.search(rf"\b{row[1]}\b", told)}
        if not refused:
            raise SystemExit(f"run: constants can't be switched: {errors[:2] or ran.stderr[-2000:]}")
        rows = {number: row for number, row in rows.items() if number not in refused}
    return rows
