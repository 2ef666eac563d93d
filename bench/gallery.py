"""The showcase: real bugs on their whole way, from an empty corpus to reproducers that fail on a bad kernel and pass on
a good one. Needs the kernels of `make matrix`, linux-source-7.3, cpio and chromium.

    python bench/gallery.py [--state DIR] [--only NAME]

For each entry, unless STATE has it: fuzz until it is found, then look for it on the kernels of the cache. Its reports,
reproducers and a picture go to docs/gallery/<name>/, how the reproducers ended on both kernels to README.md there.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import kernels
from fuzz.storage import write_atomically
from kernels.cache import directory as directory_of

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "docs" / "gallery"
SECONDS = 900
BOOT_SECONDS = 240
KEPT = (
    "report.md",
    "report.html",
    "program",
    "original",
    "repro.c",
    "kselftest.c",
    "trace",
    "finding.json",
    "kernel.json",
)
#: Runs programs as the first process of a guest, and says how each ended.
INIT = """\
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	static const char *const names[] = { "/repro", "/kselftest" };

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mkdir("/tmp", 0777);
	mount("proc", "/proc", "proc", 0, 0);
	mount("sysfs", "/sys", "sysfs", 0, 0);
	mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
	mount("tmpfs", "/tmp", "tmpfs", 0, 0);
	for (int i = 0; i < 2; i++) {
		int status = 0;
		pid_t child = fork();

		if (!child) {
			execl(names[i], names[i], (char *)0);
			_exit(127);
		}
		waitpid(child, &status, 0);
		printf("%s ended with %d\\n", names[i], WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
		fflush(stdout);
	}
	reboot(RB_POWER_OFF);
}
"""


@dataclass(frozen=True)
class Entry:
    """One bug. target, profile: what is fuzzed, and which release it is held to; wanted: in its blame or signature;
    bad, good: kernels that have it and that do not."""

    name: str
    subject: str
    target: str
    profile: str
    wanted: str
    bad: str
    good: str

    def command(self, state: Path) -> list[str]:
        """The session that finds it."""
        where = [] if self.target == "local" else ["--target", self.target]
        held = ["--profile", self.profile] if self.profile else []
        return [
            "fuzz", *where, *held, "--unseeded", "--unmask", "--seed", "1", "--time", str(SECONDS),
            "--workers", "1", "--state", str(state),
        ]  # fmt: skip


ENTRIES = (
    Entry(
        "dontunmap-leaks-locked",
        "MREMAP_DONTUNMAP of locked memory leaves VmLck too high for the life of the process",
        "local",
        "",
        "VmLck is not the sum",
        "7.2.6",
        "7.2.12",
    ),
    Entry(
        "failed-shrink-unmaps",
        "a move with MREMAP_FIXED that shrinks and fails, for its range spans two VMAs, has unmapped tail and target",
        "6.16.12",
        "6.17",
        r"FIXED,shrink\] .*validate_before_unmap",
        "6.16.12",
        "6.17.8",
    ),
    Entry(
        "multi-vma-move",
        "one mremap() moves several VMAs, gaps kept: EFAULT before 6.17",
        "6.16.12",
        "6.17",
        r"FIXED,same\] result: .*multi_vma_move",
        "6.16.12",
        "6.17.8",
    ),
    Entry(
        "dontunmap-self-merge",
        "what MREMAP_DONTUNMAP copies merges with its own source, which is then unlocked with it",
        "7.2.6",
        "7.3",
        "dontunmap_no_self_merge",
        "7.2.6",
        "7.2.12",
    ),
    Entry(
        "private-file-pgoff",
        "a private mapping of a file that was written to merges with a neighbour by its place in the file alone",
        "7.2.6",
        "7.3",
        "private_file_anon_pgoff",
        "7.2.6",
        "7.3.4",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--state", type=Path, default=ROOT / ".vmadiff" / "gallery")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    options = parser.parse_args()
    rows = _known_rows()
    for entry in ENTRIES:
        if options.only and entry.name not in options.only:
            continue
        state = options.state / f"{entry.target}-{entry.profile or 'own'}"
        finding = _find(entry, state)
        print(f"{entry.name}: {finding}", flush=True)
        _bisect(finding)
        directory = GALLERY / entry.name
        directory.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            if (finding / name).exists():
                shutil.copy(finding / name, directory / name)
        _draw(directory / "report.html", directory / "report.png")
        ended = {kernel: _run(directory, kernel) for kernel in (entry.bad, entry.good)}
        data = json.loads((finding / "finding.json").read_text())
        rows[entry.name] = _row(entry, data, ended)
        print(rows[entry.name], flush=True)
        ordered = {each.name: rows[each.name] for each in ENTRIES if each.name in rows}
        write_atomically(GALLERY / "rows.json", json.dumps(ordered, indent=1).encode() + b"\n")
        write_atomically(GALLERY / "README.md", _readme(ordered).encode())


def _known_rows() -> dict[str, dict[str, Any]]:
    path = GALLERY / "rows.json"
    rows: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    return rows


def _readme(rows: dict[str, dict[str, Any]]) -> str:
    """The gallery's first page."""
    lines = ["<!-- Written by `python bench/gallery.py`. Do not edit. -->", "", "# Gallery", ""]
    lines += [
        "Bugs and changes of real kernels, each on its whole way: found by fuzzing from an empty corpus, made smaller,",
        "looked for on the kernels of the archive, and written as programs that need nothing of vmadiff. Every",
        "directory is a finding as `vmadiff fuzz` and `vmadiff bisect` leave it; `report.png` is how a browser shows",
        "`report.html`. Programs and seconds are those of one session on one core, under QEMU's emulation but for the",
        "first; the seconds include what was found before and made smaller.",
    ]
    for row in rows.values():
        lines += [
            "",
            f"## {row['name']}",
            "",
            f"{row['subject'][0].upper()}{row['subject'][1:]}.",
            "",
        ]
        lines += [
            f"- found by `vmadiff {row['command']}` after {row['sequences']:,} programs, {row['seconds']:,} s",
            f"- {row['minimized']}",
            *(f"- {line}" for line in row["history"]),
        ]
        for kernel, ended in row["reproducers"].items():
            how = ", ".join(f"`{name}.c` ends with {status}" for name, status in ended.items())
            lines.append(f"- on {kernel}: {how}")
        files = ("report.md", "report.html", "program", "repro.c", "kselftest.c")
        links = ", ".join(f"[{name}]({row['name']}/{name})" for name in files)
        lines += [f"- {links}", "", f"![{row['name']}]({row['name']}/report.png)"]
    return "\n".join(lines) + "\n"


def _vmadiff(*arguments: str) -> int:
    command = [sys.executable, "-P", "-m", "fuzz.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode


def _find(entry: Entry, state: Path) -> Path:
    """The directory of the finding; fuzzes until it is there."""
    found = next(_those(entry, state), None)
    if found is not None:
        return found
    session = subprocess.Popen(
        [sys.executable, "-P", "-m", "fuzz.cli", *entry.command(state)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    while session.poll() is None:
        found = found or next(_those(entry, state), None)
        if found is not None:
            session.terminate()
            session.wait()
        else:
            time.sleep(1)
    found = found or next(_those(entry, state), None)
    if found is None:
        sys.exit(f"{entry.name}: not found in {SECONDS} seconds")
    return found


def _those(entry: Entry, state: Path) -> Iterator[Path]:
    for path in sorted(state.glob("findings/*/finding.json")):
        data = json.loads(path.read_text())
        told = f"{data['signature']} {data.get('blame', {}).get('because', '')}"
        if re.search(entry.wanted, told) and data.get("minimized"):
            yield path.parent


def _bisect(finding: Path) -> None:
    if not json.loads((finding / "finding.json").read_text())["blame"]["history"]:
        _vmadiff("bisect", str(finding))


def _draw(page: Path, picture: Path) -> None:
    """The page as a browser shows it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        tab.goto(page.as_uri())
        tab.screenshot(path=str(picture))
        browser.close()


def _run(directory: Path, kernel: str) -> dict[str, str]:
    """How both reproducers ended on a kernel of the cache: their exit statuses, and what they said."""
    harness = directory_of(".trees") / "linux-source-7.3/tree/tools/testing/selftests"
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "root")
        root.mkdir()
        for name, source in (("repro", "repro.c"), ("kselftest", "kselftest.c")):
            _compile(directory / source, root / name, "-w", "-D_GNU_SOURCE=", f"-I{harness}/mm")
        init = Path(scratch, "init.c")
        init.write_text(INIT)
        _compile(init, root / "init")
        names = "init\nrepro\nkselftest\n"
        archive = subprocess.run(
            ["cpio", "-o", "-H", "newc", "--quiet"],
            cwd=root,
            input=names.encode(),
            capture_output=True,
            check=True,
        ).stdout
        image = Path(scratch, "initramfs")
        image.write_bytes(archive)
        said = _boot(kernels.find(kernel).image, image)
    return dict(re.findall(r"^/(\w+) ended with (\d+)", said, re.MULTILINE)) | {"said": said}


def _compile(source: Path, binary: Path, *options: str) -> None:
    command = ["cc", "-static", "-O1", *options, "-o", binary, source]
    subprocess.run(command, check=True)


def _boot(image: Path, initramfs: Path) -> str:
    command = [
        "qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-cpu", "max,cx16=off,la57=off", "-m", "1024",
        "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", image,
        "-initrd", initramfs, "-append", "console=ttyS0 quiet loglevel=3 panic=-1 norandmaps mitigations=off",
    ]  # fmt: skip
    ran = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=BOOT_SECONDS,
        check=False,
    )
    return ran.stdout.decode(errors="replace").replace("\r", "")


def _row(entry: Entry, data: dict[str, Any], ended: dict[str, dict[str, str]]) -> dict[str, Any]:
    """What README says of it."""
    return {
        "name": entry.name,
        "subject": entry.subject,
        "command": " ".join(entry.command(Path("STATE"))),
        "sequences": data["sequences"],
        "seconds": data["seconds"],
        "minimized": data["minimized"],
        "history": data["blame"]["history"],
        "reproducers": {
            kernel: {name: said.get(name, "did not run") for name in ("repro", "kselftest")}
            for kernel, said in ended.items()
        },
    }


if __name__ == "__main__":
    main()
