#!/bin/sh
# Make the virtual environment named by the first argument ready: the packages of constraints.txt and this
# project, editable. Does nothing when it is as this script would leave it. PYTHON chooses the interpreter.
set -eu

venv=$1
cd "$(dirname "$0")/.."

stamp=$(cat pyproject.toml constraints.txt .ci/venv.sh | cksum)" $PWD ${PYTHON:-}"
if [ -x "$venv/bin/vmadiff" ] && [ "$(cat "$venv/ready" 2>/dev/null)" = "$stamp" ] &&
	"$venv/bin/python" -c '' 2>/dev/null; then
	exit 0
fi

# Shims may exist for interpreters that do not: only running one tells.
works='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
python=
for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
	if "$candidate" -c "$works" >/dev/null 2>&1; then
		python=$candidate
		break
	fi
done
if [ -z "$python" ]; then
	echo "error: no Python 3.11 or newer with venv: install python3-venv (apt install python3-venv)" >&2
	exit 3
fi

extras=dev
if ! command -v cc >/dev/null && ! command -v gcc >/dev/null && ! command -v clang >/dev/null; then
	echo "no C compiler: installing PyPI's ziglang instead (or: apt install gcc libc6-dev)" >&2
	extras=dev,zig
fi

echo "setting up $venv with $("$python" -V)"
rm -rf "$venv"
"$python" -m venv "$venv"
pip() {
	"$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"
}
pip install --constraint constraints.txt setuptools
pip install --constraint constraints.txt --no-build-isolation --editable ".[$extras]"
pip install --constraint constraints.txt --no-build-isolation --editable ".[guided]" ||
	echo "no Atheris for this machine: fuzzing will run without coverage guidance" >&2
echo "$stamp" >"$venv/ready"
