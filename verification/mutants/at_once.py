"""All mutants in one build, each behind a switch: who reaches it, and who notices it.

A mutant is tried with the tests that reach it, each alone in a process, the quick ones first, until one fails twice. A test may use
four times the processor time that it uses unchanged, and four seconds; and take four times as long, and ten seconds.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import queue
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

CHECKED = [
    ["-p", "atomic-matrix", "--lib", "--features", "internals,check,allocator-api2"],
    ["-p", "atomic-matrix", "--bin", "matrix", "--features", "cli,internals"],
]
BUILT = [["-p", "atomic-matrix", "-p", "verification"], ["-p", "atomic-matrix", "--features", "cli,internals", "--bin", "matrix", "--test", "cli"]]


def built(only):
    """What is built of the tests: all, or these files' alone (or lib, or cli)."""
    if not only:
        return BUILT
    others = [argument for file in only if file not in ("lib", "cli") for argument in ("--test", file)]
    chosen = [CHECKED[0]] if "lib" in only else []
    return chosen + (BUILT[1:] if "cli" in only else []) + ([["-p", "verification", *others]] if others else [])


APART = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
APART += [] if os.getuid() == 0 else ["--map-root-user"]
# A test that takes longer unchanged, alone and noting what it reaches, waits until the quick ones have been through; or is left out.
QUICK_SECONDS, MOST_SECONDS = 5, 60


class Copy:
    """The tree with all mutants in it."""

    def __init__(self, root, kept, target, mutants, only):
        self.root, self.kept, self.target, self.mutants, self.only = root, kept, target, mutants, only
        self.tree = kept / "switched"
        self.environment = {
            **os.environ,
            "CARGO_TARGET_DIR": str(self.target),
            "RUSTC_BOOTSTRAP": "1",
            "RUSTFLAGS": "--cap-lints=allow",
            "CARGO_PROFILE_MUTANTS_INCREMENTAL": "false",
        }
        # Refused by the compiler; and those that it refuses beside the others, perhaps not alone.
        self.left_out, self.placed = kept / "left-out.json", []
        known = json.loads(self.left_out.read_text()) if self.left_out.exists() else [[], []]
        self.unviable, self.beside = map(set, known)

    def copy_rest(self, files):
        changed = {mutant["file"] for mutant in self.mutants} | {"src/lib.rs", "src/bin/matrix/main.rs"}
        for file in set(files) - changed:
            source, here = self.root / file, self.tree / file
            if source.exists() and not (here.exists() and here.read_bytes() == source.read_bytes()):
                here.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, here)

    def cargo(self, *arguments):
        """The messages of a build."""
        command = ["cargo", *arguments, "--locked", "--profile", "mutants", "--message-format", "json"]
        ran = subprocess.run(command, cwd=self.tree, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return ran.returncode, [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")], ran.stderr

    def put_in(self):
        (self.kept / "list.json").write_text(json.dumps(self.mutants))
        left_out = self.kept / "left-out.txt"
        left_out.write_text("".join(f"{number}\n" for number in sorted(self.unviable | self.beside)))
        program = ["cargo", "run", "-q", "--locked", "-p", "mutants", "--"]
        arguments = [self.kept / "list.json", self.root, self.tree, left_out]
        out = subprocess.run([*program, *map(str, arguments)], cwd=self.root, check=True, stdout=subprocess.PIPE, text=True).stdout
        self.placed = json.loads(out)

    def build(self):
        """Leaves out what the compiler refuses, until all builds. The tests' programs."""
        while True:
            self.put_in()
            refused = set()
            for check in CHECKED:
                code, messages, text = self.cargo("check", *check)
                found = self.blamed(messages)
                if code != 0 and not found:
                    raise SystemExit(f"run: the copy does not build, and no mutant is the cause: {self.shown(messages) or text[-3000:]}")
                refused |= found
                if found:
                    break
            print(f"   {len({p['number'] for p in self.placed})} in the copy, {len(refused)} more refused by the compiler", flush=True)
            if not refused:
                break
            self.unviable |= refused - self.beside
        self.left_out.write_text(json.dumps([sorted(self.unviable), sorted(self.beside)]))
        programs = []
        for build in built(self.only):
            code, messages, text = self.cargo("test", "--no-run", *build)
            if code != 0:
                raise SystemExit(f"run: the tests do not build: {self.shown(messages) or text[-3000:]}")
            for message in messages:
                if message.get("reason") == "compiler-artifact" and message.get("executable") and message["profile"]["test"]:
                    folder = pathlib.Path(message["manifest_path"]).parent
                    programs.append((message["target"]["name"], message["executable"], str(folder)))
        return list(dict.fromkeys(programs))

    @staticmethod
    def shown(messages):
        errors = [m["message"]["rendered"] for m in messages if m.get("message", {}).get("level") == "error"]
        return "\n".join(errors[:3])

    def blamed(self, messages):
        """The mutants at whose text there is an error: the innermost of each place."""
        by_file = {}
        for place in self.placed:
            by_file.setdefault(place["file"], []).append(place)
        refused = set()
        for message in messages:
            message = message.get("message") or {}
            if message.get("level") != "error":
                continue
            spans = list(message.get("spans", []))
            spans += [span for child in message.get("children", []) for span in child.get("spans", [])]
            spans.sort(key=lambda span: not span["is_primary"])
            if (message.get("code") or {}).get("code") == "E0004":
                refused |= self.arms(spans, by_file)
                continue
            found = next((found for span in spans if (found := self.within(span, by_file)) is not None), None)
            if found is None:
                # What a function returns is said only by what it returned first.
                found = next((found for span in spans if (found := self.before(span, by_file)) is not None), None)
                self.beside |= {found} - {None}
            if found is not None:
                refused.add(found)
        return refused

    @staticmethod
    def within(span, by_file):
        places = by_file.get(os.path.normpath(span["file_name"]), [])
        around = [place for place in places if place["start"] <= span["byte_start"] and span["byte_end"] <= place["end"]]
        return min(around, key=lambda place: place["end"] - place["start"])["number"] if around else None

    def arms(self, spans, by_file):
        """The arms that a match can't do without."""
        first, end = spans[0], max(span["byte_end"] for span in spans if span["file_name"] == spans[0]["file_name"])
        places = by_file.get(os.path.normpath(first["file_name"]), [])
        arms = [place["number"] for place in places if first["byte_start"] <= place["start"] <= end]
        return {number for number in arms if self.mutants[number]["genre"] == "MatchArm"}

    def before(self, span, by_file):
        places = by_file.get(os.path.normpath(span["file_name"]), [])
        values = [p for p in places if p["end"] <= span["byte_start"] and self.mutants[p["number"]]["genre"] == "FnValue"]
        return max(values, key=lambda place: place["end"])["number"] if values else None


def tests_of(programs):
    """Each test that is not only a role of another: program, name."""
    for target, program, folder in programs:
        listed = {}
        for ignored in ([], ["--ignored"]):
            out = subprocess.run([program, "--list", "--format", "terse", *ignored], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            listed[bool(ignored)] = re.findall(r"^(.*): test$", out.stdout, re.M) if out.returncode == 0 else []
        for name in listed[False]:
            if name not in listed[True]:
                yield {"target": target, "program": program, "folder": folder, "name": name}


class Worker:
    """A process in namespaces of its own, with a /dev/shm of its own, that runs one test after the other."""

    def __init__(self):
        command = [*APART, sys.executable, "-B", __file__]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, test, environment, seconds, cpu):
        asked = {**test, "environment": environment, "seconds": seconds, "cpu": cpu}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def serve():
    """What runs in the namespaces: the first process there, so that all others can be ended."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g", "none", "/dev/shm"], check=True)
    for line in sys.stdin:
        asked = json.loads(line)

        def limit():
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (asked["cpu"], asked["cpu"] + 1))

        environment = {**os.environ, **asked["environment"], "CARGO_MANIFEST_DIR": asked["folder"], "RUST_BACKTRACE": "0"}
        environment.pop("RUSTFLAGS", None)
        started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        child = subprocess.Popen(
            [asked["program"], "--exact", asked["name"], "--test-threads", "1"],
            cwd=asked["folder"], env=environment, preexec_fn=limit,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            code = child.wait(asked["seconds"])
        except subprocess.TimeoutExpired:
            code = None
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        child.wait()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0):
                pass
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        for file in os.scandir("/dev/shm"):
            shutil.rmtree(file.path) if file.is_dir(follow_symlinks=False) else os.unlink(file.path)
        code = "slow" if code in (None, -signal.SIGXCPU) else "passed" if code == 0 else "failed"
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(json.dumps({"said": code, "seconds": time.monotonic() - started, "cpu": cpu}), flush=True)


class Reach:
    """What each test reaches, and how long it takes. The long tests are asked when the quick ones have been through."""

    def __init__(self, copy, programs, workers):
        self.copy, self.workers, self.programs = copy, workers, [list(program) for program in programs]
        self.tests, self.long, self.of = [], [], {}
        self.file = copy.kept / "reach.json"
        kept = json.loads(self.file.read_text()) if self.file.exists() else {}
        if kept.get("programs") == self.programs:
            self.tests, self.long = kept["tests"], kept["long"]
        else:
            self.note(list(tests_of(programs)), QUICK_SECONDS)
        self.arrange()

    def note_long(self):
        if self.long:
            self.note(self.long, MOST_SECONDS)
            self.arrange()

    def arrange(self):
        """The quick ones first, by time: their places stay when the long ones come."""
        self.tests.sort(key=lambda test: (test["long"], test["seconds"]))
        self.of = {}
        for at, test in enumerate(self.tests):
            for number in test["reached"]:
                self.of.setdefault(number, []).append(at)

    def note(self, todo, most):
        print(f"== unchanged, {most} s at most: {len(todo)} tests", flush=True)
        done, is_long = 0, most > QUICK_SECONDS

        def one(test):
            nonlocal done
            worker = self.workers.get()
            with tempfile.NamedTemporaryFile(dir=self.copy.kept) as file:
                file.truncate(len(self.copy.mutants))
                said = worker.run(test, {"MATRIX_REACHED": file.name}, most, most)
                reached = [number for number, byte in enumerate(pathlib.Path(file.name).read_bytes()) if byte]
            self.workers.put(worker)
            done += 1
            if done % 50 == 0:
                print(f"   {done} of {len(todo)}", flush=True)
            return {**test, **said, "reached": reached, "long": is_long}

        with concurrent.futures.ThreadPoolExecutor(self.workers.qsize()) as pool:
            noted = list(pool.map(one, todo))
        self.long = [] if is_long else [test for test, found in zip(todo, noted) if found["said"] == "slow"]
        for test in noted:
            if test["said"] == "failed" or is_long and test["said"] == "slow":
                print(f"   unchanged, {test['target']} {test['name']} {test['said']}: it is left out", flush=True)
        self.tests += [test for test in noted if test["said"] == "passed" and test["reached"]]
        self.file.write_text(json.dumps({"programs": self.programs, "tests": self.tests, "long": self.long}))


def try_one(worker, reach, number, budget, tried=0):
    """The fate of a mutant. `budget`: the seconds of tests, as they take unchanged; `tried`: how many passed already."""
    tests, spent = reach.of.get(number, []), 0.0
    environment = {"MATRIX_MUTANT": str(number)}
    for at in tests[tried:]:
        test = reach.tests[at]
        if spent > 0 and spent + test["seconds"] > budget:
            return {"fate": "waiting", "tests": tried, "of": len(tests)}
        spent += test["seconds"]
        tried += 1
        seconds, cpu = 10 + 4 * test["seconds"], int(4 + 4 * test["cpu"])
        said = worker.run(test, environment, seconds, cpu)["said"]
        if said == "passed":
            continue
        # Twice, and with more time: a busy machine fails tests, too, and lets some not end.
        if worker.run(test, environment, 2 * seconds, cpu)["said"] == "passed":
            continue
        return {"fate": "noticed", "test": test["target"], "by": test["name"], "endless": said == "slow", "tests": tried}
    return {"fate": "waiting" if reach.long or reach.copy.only else "missed", "tests": tried, "of": len(tests)}


def try_all(root, kept, target, files, mutants, chosen, record, budgets, jobs, only):
    """Tries the chosen ones, by number: all with the first budget, what passed that with the next. `record` is called with what is found."""
    copy = Copy(root, kept, target, mutants, only)
    copy.copy_rest(files)
    programs = copy.build()
    placed = {place["number"] for place in copy.placed}
    workers = queue.Queue()
    for _ in range(jobs):
        workers.put(Worker())
    reach = Reach(copy, programs, workers)
    print(f"== {len(reach.tests)} tests reach {len(reach.of)} of {len(placed)} mutants; {sum(t['seconds'] for t in reach.tests):.0f} s in all", flush=True)
    passed, lock = {}, threading.Lock()

    def one(number, budget):
        if number in copy.unviable:
            return {"fate": "unviable"}
        if number not in placed:
            return {"fate": "apart"}
        worker = workers.get()
        found = try_one(worker, reach, number, budget, passed.get(number, 0))
        workers.put(worker)
        passed[number] = found["tests"]
        return found

    for turn, budget in enumerate(budgets):
        if turn > 0:
            reach.note_long()
        started, counts, left = time.monotonic(), {}, []
        print(f"== {len(chosen)} mutants, {budget} s of tests each at most", flush=True)

        def told(number):
            found = one(number, budget)
            fate = found["fate"]
            with lock:
                counts[fate] = counts.get(fate, 0) + 1
                record(number, found)
                if fate == "waiting":
                    left.append(number)
                done = sum(counts.values())
                if done % 25 == 0 or fate in ("missed", "waiting"):
                    print(f"[{done}/{len(chosen)}, {time.monotonic() - started:.0f} s, {counts}] {mutants[number]['name']}: {fate}", flush=True)

        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            list(pool.map(told, chosen))
        chosen = left


if __name__ == "__main__":
    serve()
